//! Static files: the daemon for release, and what VMs of other kernels run. For each architecture they are made in the
//! same way on any machine: Rust's own linker and C library, and clang with musl's headers for what is C. Of the machine's
//! environment a build sees only what is known to leave its result as it is.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{cargo, output, root, succeed, vm};

/// Variables that a build sees, or with `_` at the end what they begin with: where tools are, and how cargo speaks to
/// registries. No others: compilers, `cc` and cargo heed dozens by which a machine's flags would enter.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "CARGO",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_JOBS",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_TERM_",
    "RUSTUP_",
    "SSL_CERT_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// The C compiler.
const CLANG: &str = "clang";

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
    forget_folders(&mut build)?;
    succeed(&mut build)?;
    let path = target().join(arch.target()).join("release/taffrail").canonicalize()?;
    check_static(&path)?;
    let size = path.metadata()?.len();
    eprintln!("built {}, {:.1} MB, static", path.display(), size as f64 / 1e6);
    Ok(path)
}

/// Cargo's folder for what it builds.
pub fn target() -> PathBuf {
    target_of(&root())
}

fn target_of(workspace: &Path) -> PathBuf {
    workspace.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Cargo's folder for what it fetches.
pub fn cargo_home() -> PathBuf {
    let usual = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(usual, PathBuf::from)
}

/// Folders of this machine, and what they are called in a binary, so that the same sources give the same bytes in others.
fn folders() -> Result<Vec<(PathBuf, &'static str)>> {
    let workspace = root().canonicalize()?;
    let target = target_of(&workspace);
    // The last one that fits is taken.
    Ok(vec![
        (sysroot()?, "/rust"),
        (cargo_home(), "/cargo"),
        (workspace, "/taffrail"),
        (target, "/taffrail/target"),
    ])
}

/// The folder of the Rust toolchain.
pub fn sysroot() -> Result<PathBuf> {
    let path = output("rustc", &["--print", "sysroot"]).context("there is no rustc: install rustup")?;
    Ok(PathBuf::from(path))
}

/// Keeps this machine's folders and flags for Rust out of the binary.
fn forget_folders(build: &mut Command) -> Result<()> {
    let renames = folders()?;
    let renames =
        renames.iter().map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display()));
    // The flags of `.cargo/config.toml`, which these replace.
    let flags: Vec<String> = ["-Clink-self-contained=yes".to_owned()].into_iter().chain(renames).collect();
    // Of all places where flags can stand, cargo heeds this one alone.
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    Ok(())
}

/// What a binary is made by besides its sources, each in its version: two machines that agree in these make the same.
pub fn tools(arch: Arch) -> Result<Vec<(&'static str, String)>> {
    let version = |program, option| {
        let said = output(program, &[option]).with_context(|| format!("there is no {program}"))?;
        anyhow::Ok(said.lines().next().unwrap_or_default().to_owned())
    };
    Ok(vec![
        ("rustc", version("rustc", "--version")?),
        ("bpf-linker", version("bpf-linker", "--version")?),
        ("clang", version(CLANG, "--version")?),
        ("musl-headers", format!("sha256:{}", hash(&headers(arch)?)?)),
    ])
}

/// The digest of all files of a folder.
fn hash(folder: &Path) -> Result<String> {
    let mut paths = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if path.is_dir() { pending.push(path) } else { paths.push(path) }
        }
    }
    paths.sort();
    let mut hash = Sha256::new();
    for path in paths {
        let (name, bytes) = (path.strip_prefix(folder)?.to_string_lossy(), std::fs::read(&path)?);
        hash.update(format!("{name}\0{}\0", bytes.len()));
        hash.update(bytes);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
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
    forget_folders(&mut build)?;
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

/// Gives a build an environment of its own, in which are the C compiler and flags that keep time and folders out of what
/// it makes.
fn for_target(build: &mut Command, arch: Arch) -> Result<()> {
    build.env_clear().envs(std::env::vars_os().filter(|(name, _)| may_be_seen(&name.to_string_lossy())));
    let target = arch.target().replace('-', "_");
    let mut flags = vec![
        "-Wno-builtin-macro-redefined".to_owned(),
        r#"-D__DATE__="unknown""#.to_owned(),
        r#"-D__TIME__="unknown""#.to_owned(),
        "-nostdlibinc".to_owned(),
        "-isystem".to_owned(),
        headers(arch)?.display().to_string(),
    ];
    for (folder, name) in folders()? {
        flags.push(format!("-ffile-prefix-map={}={name}", folder.display()));
    }
    let quoted: Vec<String> = flags.iter().map(|flag| format!("'{}'", flag.replace('\'', r"'\''"))).collect();
    build.env("CC_SHELL_ESCAPED_FLAGS", "1");
    build.env(format!("CC_{target}"), CLANG).env(format!("CFLAGS_{target}"), quoted.join(" "));
    Ok(())
}

/// Whether builds see a variable of the environment.
fn may_be_seen(name: &str) -> bool {
    let upper = name.to_uppercase();
    ENVIRONMENT.iter().any(|&known| upper == known || known.ends_with('_') && name.starts_with(known))
}

/// The folder of musl's headers: this machine's own, or fetched ones.
fn headers(arch: Arch) -> Result<PathBuf> {
    if arch == Arch::host() {
        let said = Command::new("musl-gcc")
            .args(["-E", "-v", "-x", "c", "/dev/null"])
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
            .output()
            .context("cannot run musl-gcc: `cargo xtask setup --build` installs it")?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        let mut lines = said.lines().skip_while(|line| !line.starts_with("#include <")).skip(1);
        let folder = lines.next().map(|line| PathBuf::from(line.trim()));
        return folder
            .filter(|folder| folder.join("features.h").exists())
            .context("musl-gcc does not say where musl's headers are");
    }
    let folder = vm::cache().join(arch.headers());
    if !folder.exists() {
        bail!("no {}: `cargo xtask vm fetch {}` fetches it", folder.display(), arch.headers());
    }
    Ok(folder)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_see_no_flags_and_no_compilers_of_the_machine() {
        for name in ["PATH", "CARGO_HOME", "RUSTUP_TOOLCHAIN", "CARGO_NET_OFFLINE", "https_proxy"] {
            assert!(may_be_seen(name), "{name}");
        }
        let flags =
            ["CFLAGS", "TARGET_CFLAGS", "HOST_CFLAGS", "CFLAGS_x86_64-unknown-linux-musl", "CC", "AR"];
        let others =
            ["RUSTFLAGS", "CPATH", "CARGO_PROFILE_RELEASE_LTO", "CARGO_INCREMENTAL", "RUSTC_WRAPPER"];
        for name in flags.iter().chain(&others) {
            assert!(!may_be_seen(name), "{name}");
        }
    }
}
