//! `cargo xtask`: the only task runner. Each task is a file; this one is the list of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum as _};

mod build;
#[allow(dead_code, reason = "the tests use more of it than the demo does")]
#[path = "../../tests/src/container.rs"]
mod container;
mod demo;
mod fuzz;
mod image;
mod kubernetes;
mod setup;
mod test;
mod tools;
mod vm;

/// Taffrail's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what this machine lacks; says what it does, and does nothing the second time.
    Setup {
        /// Only what a build needs, not what the tests need.
        #[arg(long)]
        build: bool,
        /// Kubernetes too, from Debian's sources, for `cargo xtask test kubernetes` and a test of `deploy`: some ten minutes.
        #[arg(long, conflicts_with = "build")]
        kubernetes: bool,
        /// Only print what would be done.
        #[arg(long)]
        print: bool,
    },
    /// Build the daemon as one static file with the probes inside.
    Build {
        /// For which architecture; this machine's if none is named.
        #[arg(long)]
        arch: Option<build::Arch>,
    },
    /// Build the container image, without a container engine: an OCI layout, and archives for `docker load`.
    Image {
        /// For which architectures; all if none is named.
        #[arg(long = "arch")]
        archs: Vec<build::Arch>,
        /// Build it once more in another folder, and compare; start what is for other architectures in a VM.
        #[arg(long)]
        check: bool,
    },
    /// Build and run the daemon.
    Run {
        /// Arguments of `taffrail run`.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Set up, build, and watch a real container do five suspicious things.
    Demo,
    /// Set up and run all tests, or one suite.
    Test {
        /// One suite; all of them if none is named.
        suite: Option<test::Suite>,
    },
    /// Fetch other kernels, run a command on one, or the tests on all.
    Vm {
        #[command(subcommand)]
        command: Vm,
    },
    /// Measure costs and write `docs/performance*.md`.
    Bench {
        /// What to measure, if not all: `probes`, `rules`, `audit`, `search` or `export`.
        what: Vec<String>,
    },
    /// Keep the daemon under mixed load for some time, and judge how it has borne that.
    Soak {
        /// For how long; an hour writes `docs/soak.md`.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
        minutes: u64,
    },
    /// Write the generated reference pages anew.
    Docs,
    /// Fuzz a target for some time.
    Fuzz {
        /// `decode`, `condition`, `evaluate`, `dns`, `rules`, `sigma`, `export` or `logged`.
        target: String,
        /// For how long.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
}

#[derive(Subcommand)]
enum Vm {
    /// Fetch Debian kernels into the cache.
    Fetch {
        /// Names such as `5.10`, `6.12`, `sid`, `arm64-6.1`; the tested ones if none is named.
        kernels: Vec<String>,
    },
    /// Run the tests on other kernels, and compare what is found with `docs/kernels.md`.
    Test {
        /// Some of the tested kernels; all if none is named.
        kernels: Vec<String>,
        /// Other test targets than `kernel`, `clock` and `kinds`: `evasion`.
        #[arg(long = "target")]
        targets: Vec<String>,
        /// Only tests whose names contain this.
        #[arg(long)]
        filter: Option<String>,
        /// What has not ended after that time is skipped.
        #[arg(long, default_value_t = vm::MINUTES)]
        minutes: u64,
        /// Write `docs/kernels.md` anew, for the kernels on which no test fails.
        #[arg(long, conflicts_with_all = ["filter", "targets"])]
        bless: bool,
    },
    /// Run the tests of identity in whole systems with other layouts of cgroups.
    Identity {
        /// `v2`, `v1` or `hybrid`; all if none is named.
        layouts: Vec<String>,
        /// Only tests whose names contain one of these words.
        #[arg(long)]
        filter: Option<String>,
    },
    /// Boot a kernel and run a command on it as root.
    Run {
        /// A fetched kernel.
        kernel: String,
        /// Files to put into `/vm` there.
        #[arg(long)]
        put: Vec<PathBuf>,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup { build, kubernetes, print } => {
            setup::run(if build { setup::For::Build } else { setup::For::Tests }, print)?;
            if kubernetes { kubernetes::build(print) } else { Ok(()) }
        }
        Task::Build { arch } => {
            let arch = arch.unwrap_or(build::Arch::host());
            prepare(arch)?;
            build::release(arch).map(|path| println!("{}", path.display()))
        }
        Task::Image { archs, check } => {
            let archs = if archs.is_empty() { build::Arch::value_variants() } else { &archs };
            archs.iter().try_for_each(|arch| prepare(*arch))?;
            let image = image::build(archs)?;
            println!("{}\t{}", image.layout.display(), image.digest);
            image.archives.iter().for_each(|archive| println!("{}", archive.display()));
            if check { image::check(archs, &image) } else { Ok(()) }
        }
        Task::Run { arguments } => {
            succeed(Command::new(build::release(build::Arch::host())?).arg("run").args(arguments))
        }
        Task::Demo => demo::run(),
        Task::Test { suite } => test::run(suite),
        Task::Vm { command: Vm::Fetch { kernels } } => vm::fetch(&kernels),
        Task::Vm { command: Vm::Run { kernel, put, command } } => vm::run(&kernel, &put, &command),
        Task::Vm { command: Vm::Identity { layouts, filter } } => {
            test::conclude(&vm::system::test(&layouts, filter.as_deref())?)
        }
        Task::Vm { command: Vm::Test { kernels, targets, filter, minutes, bless } } => {
            let record = if bless { vm::Record::Bless } else { vm::Record::Compare };
            test::conclude(&vm::test(&vm::Plan { kernels, targets, filter, minutes }, record)?)
        }
        Task::Bench { what } => bench(&what),
        Task::Soak { minutes } => soak(minutes),
        Task::Fuzz { target, seconds } => fuzz::run(&target, seconds),
        Task::Docs => {
            let tests = [
                "nextest",
                "run",
                "--package",
                "taffrail",
                "--package",
                "taffrail-common",
                "-E",
                "test(fresh)",
            ];
            succeed(cargo(&tests).env("TAFFRAIL_BLESS", "1"))
        }
    }
}

/// Installs what building for a foreign architecture takes.
fn prepare(arch: build::Arch) -> Result<()> {
    if arch == build::Arch::host() {
        return Ok(());
    }
    setup::run(setup::For::Tests, false)?;
    vm::fetch(&[arch.headers()])
}

/// Measures here, and what probes cost also in VMs for both tiers.
fn bench(what: &[String]) -> Result<()> {
    const ALL: [&str; 6] = ["probes", "identity", "rules", "audit", "search", "export"];
    if let Some(unknown) = what.iter().find(|name| !ALL.contains(&name.as_str())) {
        bail!("there is no bench {unknown}: {}", ALL.join(", "));
    }
    let is_wanted = |name: &str| what.is_empty() || what.iter().any(|wanted| wanted == name);
    setup::run(setup::For::Tests, false)?;
    for name in ALL[1..].iter().filter(|name| is_wanted(name)) {
        let bench = format!("{name}_bench");
        succeed(&mut cargo(&["run", "--release", "--package", "taffrail-tests", "--bin", &bench]))?;
    }
    if !is_wanted("probes") {
        return Ok(());
    }
    vm::fetch(&["6.12".to_owned()])?;
    let (daemon, bench) = (build::release(build::Arch::host())?, build::bench()?);
    succeed(Command::new(bench).current_dir(root()).env("TAFFRAIL_BIN", daemon))
}

/// Runs the daemon as it is released under mixed load.
fn soak(minutes: u64) -> Result<()> {
    setup::run(setup::For::Tests, false)?;
    let daemon = build::release(build::Arch::host())?;
    let package = ["--package", "taffrail-tests", "--bin", "soak"];
    succeed(cargo(&["build", "--bin", "act"]).args(package))?;
    succeed(cargo(&["run"]).args(package).args(["--", &minutes.to_string()]).env("TAFFRAIL_BIN", daemon))
}

/// The top of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Cargo, in the workspace.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

/// Runs a command; anything but success is an error.
fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}

/// Runs a command and gives what it prints; `None` if it cannot run or fails.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
