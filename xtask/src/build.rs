//! Static files: the daemon for release, and what VMs of other kernels run. Rust's own linker links for a foreign
//! architecture; the allocator, which is C, takes clang and that architecture's musl headers.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::Value;

use crate::{cargo, output, root, succeed, vm};

/// A processor architecture that Taffrail runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// Also known as amd64.
    #[value(name = "x86_64")]
    X86_64,
    /// Also known as arm64.
    Aarch64,
}

impl Arch {
    /// This machine's.
    pub fn host() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// The target without a dynamic C library.
    pub fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }

    /// Debian's name for it.
    fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Its name in images, which is Debian's.
    pub fn oci(self) -> &'static str {
        self.debian()
    }

    /// The name under which [`vm::fetch`] knows musl's headers for it.
    pub fn headers(self) -> String {
        format!("musl-{}", self.debian())
    }
}

/// Builds the daemon for release and checks that it needs no other file. Returns where it is.
pub fn release(arch: Arch) -> Result<PathBuf> {
    let mut build = cargo(&["build", "--release", "--target", arch.target(), "--package", "taffrail"]);
    for_target(&mut build, arch)?;
    forget_folders(&mut build, arch)?;
    succeed(&mut build)?;
    let path = target().join(arch.target()).join("release/taffrail").canonicalize()?;
    check_static(&path)?;
    let size = path.metadata()?.len();
    eprintln!("built {}, {:.1} MB, static", path.display(), size as f64 / 1e6);
    Ok(path)
}

/// Cargo's folder for what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Keeps this machine's folders out of the binary: the same sources give the same bytes in another one.
fn forget_folders(build: &mut Command, arch: Arch) -> Result<()> {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cargo");
    let folders = [
        (sysroot()?, "/rust"),
        (cargo_home.unwrap_or_else(home), "/cargo"),
        (root().canonicalize()?, "/taffrail"),
    ];
    // The flags of `.cargo/config.toml`, which these replace.
    let linking = (arch == Arch::Aarch64).then(|| "-Clink-self-contained=yes".to_owned());
    let renames =
        folders.iter().map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display()));
    let flags: Vec<String> = linking.into_iter().chain(renames).collect();
    // Of all places where flags can stand, cargo heeds this one alone: none of the machine's may enter.
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    Ok(())
}

/// The folder of the Rust toolchain.
pub fn sysroot() -> Result<PathBuf> {
    let path = output("rustc", &["--print", "sysroot"]).context("there is no rustc: install rustup")?;
    Ok(PathBuf::from(path))
}

/// What a VM runs.
pub struct Guest {
    /// The daemon.
    pub daemon: PathBuf,
    /// The test executables by the name of their target.
    pub tests: Vec<(String, PathBuf)>,
}

/// Builds the daemon and these test targets of `taffrail-tests`. For the host's architecture the daemon is the one for
/// release; for a foreign one it shares the tests' profile, and with it all dependencies.
pub fn guest(arch: Arch, targets: &[&str]) -> Result<Guest> {
    let native = arch == Arch::host();
    let release = if native { Some(release(arch)?) } else { None };
    let mut build = cargo(&["build", "--profile", "vm", "--target", arch.target()]);
    build.args(["--message-format", "json-render-diagnostics", "--package", "taffrail-tests"]);
    for target in targets {
        build.args(["--test", target]);
    }
    if !native {
        build.args(["--package", "taffrail", "--bin", "taffrail"]);
    }
    for_target(&mut build, arch)?;
    let mut built = executables(&mut build)?;
    let mut take = |name: &str| -> Result<PathBuf> {
        let at = built.iter().position(|(built, _)| built == name);
        let at = at.with_context(|| format!("cargo built no `{name}`"))?;
        Ok(built.swap_remove(at).1)
    };
    let daemon = match release {
        Some(path) => path,
        None => take("taffrail")?,
    };
    let tests = targets.iter().map(|&name| Ok((name.to_owned(), take(name)?))).collect::<Result<Vec<_>>>()?;
    check_static(&daemon)?;
    for (_, path) in &tests {
        check_static(path)?;
    }
    Ok(Guest { daemon, tests })
}

/// Builds what measures costs, here and in a VM.
pub fn bench() -> Result<PathBuf> {
    let arch = Arch::host();
    let mut build = cargo(&["build", "--release", "--target", arch.target()]);
    build.args([
        "--message-format",
        "json-render-diagnostics",
        "--package",
        "taffrail-tests",
        "--bin",
        "bench",
    ]);
    // As the daemon, with which it shares what is built.
    for_target(&mut build, arch)?;
    forget_folders(&mut build, arch)?;
    let (_, path) = executables(&mut build)?.pop().context("cargo built no `bench`")?;
    check_static(&path)?;
    Ok(path)
}

/// Runs a build and gives the executables that it names, by their targets.
fn executables(build: &mut Command) -> Result<Vec<(String, PathBuf)>> {
    let mut child = build.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let stdout = child.stdout.take().context("its stdout")?;
    let mut found = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        if let (Some(path), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str())
        {
            found.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(found)
}

/// Names the C compiler for a foreign architecture, and keeps the time out of what it makes.
fn for_target(build: &mut Command, arch: Arch) -> Result<()> {
    let mut flags = r#"-Wno-builtin-macro-redefined -D__DATE__="unknown" -D__TIME__="unknown""#.to_owned();
    let target = arch.target().replace('-', "_");
    if arch != Arch::host() {
        let headers = vm::cache().join(arch.headers());
        if !headers.exists() {
            bail!("no {}: `cargo xtask vm fetch {}` fetches it", headers.display(), arch.headers());
        }
        build.env(format!("CC_{target}"), "clang");
        flags = format!("{flags} -nostdlibinc -isystem {}", headers.display());
    }
    build.env(format!("CFLAGS_{target}"), flags);
    Ok(())
}

fn check_static(path: &Path) -> Result<()> {
    let binary = std::fs::read(path)?;
    ensure!(!has_interpreter(&binary), "{} is not static: it names a dynamic linker", path.display());
    Ok(())
}

/// Whether a 64-bit little-endian ELF file has a program header of type `PT_INTERP`.
fn has_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, len: usize| {
        let bytes = elf.get(at..at + len).unwrap_or_default();
        bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte))
    };
    let (table, size, count) = (number(32, 8) as usize, number(54, 2) as usize, number(56, 2) as usize);
    (0..count).any(|n| number(table + n * size, 4) == PT_INTERP)
}
