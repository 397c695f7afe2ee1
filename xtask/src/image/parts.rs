//! What is linked and is no crate that cargo tells of: C code inside of crates, and what comes with the toolchain: Rust's
//! own library, the crates that this is made of, LLVM's parts and the C library.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::bill::{Package, spdx};
use super::licenses::texts_in;
use crate::build::{self, Arch};
use crate::output;

/// The C library of the toolchain, which comes without its notices: they are here, as it wants, word for word.
const MUSL: (&str, &str) = ("1.2.5", include_str!("musl-1.2.5.txt"));

/// Something that is linked.
pub struct Part {
    pub name: String,
    pub version: String,
    /// An SPDX expression.
    pub license: String,
    /// Its name in the world (purl), if it has one.
    pub purl: Option<String>,
    /// Its name in lists of vulnerabilities (CPE), if it has one.
    pub cpe: Option<String>,
    /// SHA-256 of the archive that it is from.
    pub checksum: Option<String>,
    /// The texts of its licences.
    pub texts: Vec<String>,
}

impl Part {
    /// A library that has no registry.
    fn library(name: &str, version: &str, license: &str, texts: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            license: license.to_owned(),
            purl: Some(format!("pkg:generic/{name}@{version}")),
            cpe: None,
            checksum: None,
            texts,
        }
    }

    /// By that name lists of vulnerabilities know it.
    fn known_as(mut self, vendor: &str, product: &str) -> Self {
        self.cpe = Some(format!("cpe:2.3:a:{vendor}:{product}:{}:*:*:*:*:*:*:*", self.version));
        self
    }

    /// What the bill refers to it by.
    pub fn id(&self) -> String {
        self.purl.clone().unwrap_or_else(|| format!("{}@{}", self.name, self.version))
    }

    /// What the bill says of it.
    pub fn component(&self) -> Value {
        let mut component = json!({
            "type": "library",
            "bom-ref": self.id(),
            "name": self.name,
            "version": self.version,
            "licenses": [{ "expression": self.license }],
        });
        for (key, value) in [("purl", &self.purl), ("cpe", &self.cpe)] {
            if let Some(value) = value {
                component[key] = value.as_str().into();
            }
        }
        if let Some(checksum) = &self.checksum {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        component
    }
}

/// The C library that is inside of a crate.
pub fn within(package: &Package<'_>) -> Result<Option<Part>> {
    let Some(links) = package.metadata["links"].as_str() else { return Ok(None) };
    let folder = package.folder()?;
    match links {
        "mimalloc" => {
            let line = if package.features.contains(&"v2") { "v2" } else { "v3" };
            let folder = folder.join("c_src/mimalloc").join(line);
            let header = read(&folder.join("include/mimalloc.h"))?;
            let number = header
                .split_once("#define MI_MALLOC_VERSION")
                .and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<u32>().ok());
            let number = number.context("mimalloc.h tells no version")?;
            let version = format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100);
            Ok(Some(Part::library("mimalloc", &version, "MIT", texts_in(&folder)?)))
        }
        "zstd" => {
            let version = package.version.split_once("+zstd.").map(|(_, version)| version);
            let version = version.context("zstd-sys tells no version of zstd")?;
            let texts = texts_in(&folder.join("zstd"))?;
            let part = Part::library("zstd", version, "BSD-3-Clause", texts);
            Ok(Some(part.known_as("facebook", "zstandard")))
        }
        // What it has of BoringSSL and fiat-crypto has no version of its own.
        links if links.starts_with("ring_core_") => Ok(None),
        links => bail!("{} links {links}, of which the bill would say nothing", package.name),
    }
}

/// What comes with the toolchain, Rust's own library first, which the others belong to.
pub fn of_toolchain(arch: Arch) -> Result<Vec<Part>> {
    let about = output("rustc", &["--version", "--verbose"]).context("there is no rustc")?;
    let told = |key: &str| {
        let value = about.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        value.with_context(|| format!("rustc tells no {key}"))
    };
    let sysroot = build::sysroot()?;
    let of_target = sysroot.join("lib/rustlib").join(arch.target()).join("lib");
    let sources = sysroot.join("lib/rustlib/src/rust");
    let mut parts = vec![
        rust_std(&sysroot, &sources, told("release")?)?,
        llvm(&sources, told("LLVM version")?)?,
        musl(&of_target)?,
    ];
    parts.extend(vendored(&of_target, &sources.join("library/vendor"))?);
    Ok(parts)
}

fn rust_std(sysroot: &Path, sources: &Path, version: &str) -> Result<Part> {
    let documents = sysroot.join("share/doc/rust");
    let mut texts = vec![notices(&read(&documents.join("COPYRIGHT-library.html"))?)?];
    for name in ["Apache-2.0.txt", "MIT.txt", "Unicode-3.0.txt"] {
        texts.push(read(&documents.join("licenses").join(name))?.trim().to_owned());
    }
    for folder in ["backtrace", "compiler-builtins", "compiler-builtins/libm"] {
        texts.extend(texts_in(&sources.join("library").join(folder))?);
    }
    let license = "(MIT OR Apache-2.0) AND MIT AND Unicode-3.0";
    let part = Part::library("rust-std", version, license, texts);
    Ok(Part { purl: None, ..part })
}

/// What unwinds stacks, begins and ends programs, and computes what processors do not.
fn llvm(sources: &Path, version: &str) -> Result<Part> {
    let texts = texts_in(&sources.join("src/llvm-project/libunwind"))?;
    Ok(Part::library("llvm-libunwind-and-compiler-rt", version, "Apache-2.0 WITH LLVM-exception", texts))
}

fn musl(of_target: &Path) -> Result<Part> {
    let (version, notices) = MUSL;
    let library =
        std::fs::read(of_target.join("self-contained/libc.a")).context("the target has no libc.a")?;
    let wanted = format!("\0{version}\0");
    ensure!(
        library.windows(wanted.len()).any(|bytes| bytes == wanted.as_bytes()),
        "the toolchain's C library is not musl {version}: put the notices of the one that it is beside {}",
        file!()
    );
    let part = Part::library("musl", version, "MIT", vec![notices.trim().to_owned()]);
    Ok(part.known_as("musl-libc", "musl"))
}

/// The crates that Rust's library is made of: those in its folder of sources of which the target has a library.
fn vendored(of_target: &Path, folder: &Path) -> Result<Vec<Part>> {
    let mut built = BTreeSet::new();
    for entry in of_target.read_dir()? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let name = name.strip_suffix(".rlib").and_then(|name| name.strip_prefix("lib")?.rsplit_once('-'));
        built.extend(name.map(|(name, _)| name.to_owned()));
    }
    let mut parts = Vec::new();
    for entry in folder.read_dir().context("the toolchain lacks rust-src")? {
        let folder = entry?.path();
        let manifest = read(&folder.join("Cargo.toml"))?;
        let told = |key: &str| {
            let value = manifest
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'));
            value.with_context(|| format!("{} tells no {key}", folder.display()))
        };
        let (name, version) = (told("name")?, told("version")?);
        if !built.contains(&name.replace('-', "_")) {
            continue;
        }
        let checksums: Value = serde_json::from_str(&read(&folder.join(".cargo-checksum.json"))?)?;
        let part = Part::library(name, version, &spdx(told("license")?), texts_in(&folder)?);
        parts.push(Part {
            purl: Some(format!("pkg:cargo/{name}@{version}")),
            checksum: checksums["package"].as_str().map(str::to_owned),
            ..part
        });
    }
    ensure!(!parts.is_empty(), "{} has no crate that {} has", folder.display(), of_target.display());
    Ok(parts)
}

/// The notices for the files of Rust's own tree, of a page that goes on with crates, also such as only build it.
fn notices(page: &str) -> Result<String> {
    let body = page.split_once("<body>").map(|(_, body)| body);
    let own = body.and_then(|body| body.split_once("<h2 id=\"out-of-tree-dependencies\""));
    let (own, _) = own.context("the notices of Rust's library have another form")?;
    let plain: String =
        own.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)).collect();
    let lines: Vec<&str> = plain.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Ok(lines.join("\n"))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
