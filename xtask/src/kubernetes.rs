//! Builds Kubernetes for tests that need a real API server: from Debian's source package, with Debian's Go, both unpacked
//! into a folder of their own and not installed. It takes some ten minutes, so that it is done only if it is
//! asked for; the tests that need it are skipped else, and say so.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{setup, succeed};

/// What is built.
const PROGRAMS: &[&str] = &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];

/// Packages that it takes: Go, the program by which the build copies, the store, and a newer version of a library in the
/// place of the one that comes with Kubernetes, which fails with this Go.
const PACKAGES: &[&str] = &["golang-go", "rsync", "etcd-server", "golang-github-modern-go-reflect2-dev"];

/// That library's place, in the package and in the sources.
const LIBRARY: &str = "github.com/modern-go/reflect2";

/// Where the programs are.
pub fn place() -> PathBuf {
    setup::cache().join("kubernetes")
}

/// Builds what is not there, or only prints how.
pub fn build(print: bool) -> Result<()> {
    let place = place();
    if PROGRAMS.iter().chain(&["etcd"]).all(|program| place.join(program).exists()) {
        setup::there("Kubernetes");
        return Ok(());
    }
    setup::doing(
        "Kubernetes",
        "is asked whose tokens and pods are in tests; it is built, which takes a while",
    );
    if print {
        println!("apt-get source kubernetes; make WHAT=\"{}\" in it; to {}", targets(), place.display());
        return Ok(());
    }
    let folder = place.with_extension("half");
    let _ = std::fs::remove_dir_all(&folder);
    let (root, archives) = (folder.join("root"), folder.join("archives"));
    for made in [&root, &archives.join("partial"), &folder.join("lists/partial"), &folder.join("home")] {
        std::fs::create_dir_all(made)?;
    }
    let options = ["-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"];
    let install = ["install", "-qq", "-y", "--no-install-recommends", "--download-only"];
    let to = format!("Dir::Cache::archives={}", archives.display());
    succeed(Command::new("apt-get").args(install).args(PACKAGES).args(options).args(["-o", &to]))?;
    for entry in archives.read_dir()? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            succeed(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(&root))?;
        }
    }
    let sources = fetch_sources(&folder, &options)?;
    let library = unpacked(&root, "usr/share/gocode/src").join(LIBRARY);
    let vendored = sources.join("vendor").join(LIBRARY);
    for (of, remove) in [(&vendored, true), (&library, false)] {
        for entry in of.read_dir()? {
            let path = entry?.path();
            if !path.extension().is_some_and(|extension| extension == "go" || extension == "s") {
                continue;
            }
            if remove {
                std::fs::remove_file(&path)?;
            } else {
                std::fs::copy(&path, vendored.join(path.file_name().context("a file with a name")?))?;
            }
        }
    }
    make(&folder, &root, &sources)?;
    std::fs::create_dir_all(&place)?;
    for program in PROGRAMS {
        std::fs::rename(sources.join("_output/bin").join(program), place.join(program))?;
    }
    std::fs::copy(unpacked(&root, "usr/bin/etcd"), place.join("etcd"))?;
    Ok(std::fs::remove_dir_all(&folder)?)
}

/// Where something of a package is: below our folder, or where it is installed, since no package comes that is.
fn unpacked(root: &Path, path: &str) -> PathBuf {
    let own = root.join(path);
    if own.exists() { own } else { Path::new("/").join(path) }
}

/// What `make` calls it.
fn targets() -> String {
    PROGRAMS.iter().map(|program| format!("cmd/{program}")).collect::<Vec<_>>().join(" ")
}

/// Fetches and unpacks the source package, from where this system has its packages.
fn fetch_sources(folder: &Path, options: &[&str]) -> Result<PathBuf> {
    let parts = folder.join("parts");
    std::fs::create_dir_all(&parts)?;
    let lists = [
        ("/etc/apt/sources.list.d/debian.sources", "debian.sources"),
        ("/etc/apt/sources.list", "debian.list"),
    ];
    let found = lists.iter().find_map(|(list, name)| Some((std::fs::read_to_string(list).ok()?, *name)));
    let Some((text, name)) = found else { bail!("it is not known where this system has its packages from") };
    let lines = text.lines().map(|line| match line.strip_prefix("Types:").or(line.strip_prefix("deb ")) {
        Some(_) if name.ends_with(".sources") => "Types: deb-src".to_owned(),
        Some(rest) => format!("deb-src {rest}"),
        None => line.to_owned(),
    });
    std::fs::write(parts.join(name), lines.collect::<Vec<_>>().join("\n") + "\n")?;
    let at = |name: &str| folder.join(name).display().to_string();
    let own = [
        "Dir::Etc::SourceList=/dev/null".to_owned(),
        format!("Dir::Etc::SourceParts={}", at("parts")),
        format!("Dir::State::lists={}", at("lists")),
    ];
    let own: Vec<&str> = own.iter().flat_map(|option| ["-o", option]).collect();
    for what in [&["update", "-qq"][..], &["source", "-qq", "--download-only", "kubernetes"]] {
        succeed(Command::new("apt-get").args(what).args(options).args(&own).current_dir(folder))?;
    }
    let description = folder.read_dir()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut description =
        description.filter(|path| path.extension().is_some_and(|extension| extension == "dsc"));
    let description = description.next().context("no source package has come")?;
    let sources = folder.join("src");
    let unpack = ["--no-check", "--extract"];
    succeed(Command::new("dpkg-source").args(unpack).arg(description).arg(&sources).stdout(Stdio::null()))?;
    Ok(sources)
}

fn make(folder: &Path, root: &Path, sources: &Path) -> Result<()> {
    let path = sources.join(".go/src/k8s.io");
    std::fs::create_dir_all(&path)?;
    symlink("../../..", path.join("kubernetes"))?;
    // It would ask git else.
    let version = folder.join("version");
    let lines = ["COMMIT=archive", "TREE_STATE=archive", "VERSION=v1.20.2", "MAJOR=1", "MINOR=20"];
    std::fs::write(&version, lines.map(|line| format!("KUBE_GIT_{line}\n")).concat())?;
    let go = unpacked(root, "usr/lib/go");
    let search = [go.join("bin"), root.join("usr/bin")].map(|folder| folder.display().to_string()).join(":");
    succeed(
        Command::new("nice")
            .args(["-n", "19", "make", &format!("WHAT={}", targets())])
            .current_dir(sources)
            .env("PATH", format!("{search}:{}", std::env::var("PATH").unwrap_or_default()))
            .env("LD_LIBRARY_PATH", root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)))
            .env("GOROOT", go.canonicalize()?)
            .env("GOPATH", sources.join(".go"))
            .env("GOCACHE", folder.join("cache"))
            .env("HOME", folder.join("home"))
            .envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off")])
            .env("KUBE_GIT_VERSION_FILE", &version)
            .stdout(Stdio::null()),
    )
}
