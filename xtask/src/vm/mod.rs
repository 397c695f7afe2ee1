//! Other kernels, in small VMs under software emulation: fetch them, run a command on one, and run the tests on all of
//! them. `tests/vm/vmkernel` and `tests/vm/vmrun` do the fetching and booting; `docs/kernels.md` tells what was found.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::build::{self, Arch};
use crate::test::Count;
use crate::{root, setup, succeed};

mod guest;
pub mod page;
pub mod system;

use guest::{Ran, Verdict};
use page::Page;

/// A kernel that the tests run on.
pub struct Kernel {
    /// Its name in `tests/vm/vmkernel`.
    pub name: &'static str,
    /// What it runs on.
    pub arch: Arch,
    /// The test targets that run on it unless others are named.
    targets: &'static [&'static str],
}

/// What any kernel must do with the probes.
const PROBES: &[&str] = &["kernel"];

/// That, a clock that is set, and each kind of event: four minutes, of 5.10 a quarter of an hour. On one kernel of each
/// tier, then; on the others by `--target kinds`.
const ALL: &[&str] = &["kernel", "clock", "kinds"];

/// The kernels, in the order in which they start and are shown: what takes longest goes first.
pub const KERNELS: &[Kernel] = &[
    Kernel { name: "5.10", arch: Arch::X86_64, targets: PROBES },
    Kernel { name: "6.1", arch: Arch::X86_64, targets: ALL },
    Kernel { name: "6.12", arch: Arch::X86_64, targets: ALL },
    Kernel { name: "6.18", arch: Arch::X86_64, targets: PROBES },
    Kernel { name: "sid", arch: Arch::X86_64, targets: PROBES },
    Kernel { name: "arm64-6.1", arch: Arch::Aarch64, targets: PROBES },
    Kernel { name: "arm64-6.12", arch: Arch::Aarch64, targets: PROBES },
];

/// VMs at a time.
const AT_A_TIME: usize = 2;

/// How long all of it may take unless it is told, builds and fetching too. What has not ended then is skipped.
pub const MINUTES: u64 = 30;

/// Where kernels are kept.
pub fn cache() -> PathBuf {
    match std::env::var_os("TAFFRAIL_VM_CACHE") {
        Some(path) => path.into(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/taffrail/vm"),
    }
}

/// Fetches kernels that are not there yet; those that the tests run on if none is named.
pub fn fetch(names: &[String]) -> Result<()> {
    let names: Vec<String> = match names {
        [] => KERNELS.iter().map(|kernel| kernel.name.to_owned()).chain([Arch::Aarch64.headers()]).collect(),
        names => names.to_vec(),
    };
    let Some(child) = start_fetch(&names)? else { return Ok(()) };
    end_fetch(child)?;
    if let Some(name) = names.iter().find(|name| !is_there(name)) {
        bail!("{name} could not be fetched");
    }
    Ok(())
}

/// Starts fetching what is not there; `None` if all is.
fn start_fetch(names: &[String]) -> Result<Option<Child>> {
    let missing: Vec<&String> = names.iter().filter(|name| !is_there(name)).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    for name in &missing {
        eprintln!("setup: {name}: for tests on other kernels");
    }
    let child = Command::new("python3")
        .arg(root().join("tests/vm/vmkernel"))
        .args(missing)
        .stderr(Stdio::piped())
        .spawn();
    Ok(Some(child.context("cannot run python3")?))
}

/// Waits for what was started, shows what it had to say, and gives that.
fn end_fetch(child: Child) -> Result<String> {
    let said = String::from_utf8_lossy(&child.wait_with_output()?.stderr).into_owned();
    eprint!("{said}");
    Ok(said)
}

/// Why something could not be fetched: what was said of it, or else what was said last.
fn why_not<'a>(name: &str, said: &'a str) -> &'a str {
    let lines = || said.lines().rev().filter_map(|line| line.strip_prefix("vmkernel: "));
    let of_it = lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    of_it.or_else(|| lines().next()).unwrap_or("it could not be fetched")
}

fn is_there(name: &str) -> bool {
    let path = cache().join(name);
    if name.starts_with("musl-") { path.exists() } else { path.join("info.json").exists() }
}

/// Boots a kernel with these files in `/vm` and runs a command there as root.
pub fn run(kernel: &str, put: &[PathBuf], command: &[OsString]) -> Result<()> {
    fetch(&[kernel.to_owned()])?;
    let mut vmrun = Command::new("python3");
    vmrun.arg(root().join("tests/vm/vmrun"));
    for file in put {
        vmrun.arg("--put").arg(file);
    }
    succeed(vmrun.arg(kernel).arg("--").args(command))
}

/// What to do with the committed page of results.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// Complain where it differs.
    Compare,
    /// Write the columns of the kernels on which no test fails anew.
    Bless,
}

/// Which tests to run: on all kernels those that are each one's, by default.
pub struct Plan {
    /// Some kernels.
    pub kernels: Vec<String>,
    /// Other targets.
    pub targets: Vec<String>,
    /// Only tests whose names contain this.
    pub filter: Option<String>,
    /// How long all of it may take.
    pub minutes: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { kernels: Vec::new(), targets: Vec::new(), filter: None, minutes: MINUTES }
    }
}

/// Runs the tests.
pub fn test(plan: &Plan, record: Record) -> Result<Count> {
    let Plan { kernels: names, targets, filter, minutes } = plan;
    setup::run(setup::For::Tests, false)?;
    if let Some(unknown) = names.iter().find(|name| !KERNELS.iter().any(|kernel| kernel.name == **name)) {
        let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        bail!("no tests run on kernel `{unknown}`; there are {}", known.join(", "));
    }
    let wanted: Vec<&Kernel> = KERNELS
        .iter()
        .filter(|kernel| names.is_empty() || names.iter().any(|name| name == kernel.name))
        .collect();
    let mut count = Count::default();
    let is_partial = filter.is_some() || !targets.is_empty();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let time = Duration::from_secs(minutes * 60);
    let runs = run_all(&wanted, &targets, filter.as_deref(), time, &mut count)?;

    let begin = Page::read(&root())?;
    let mut page = begin.clone();
    // Half a run says nothing of what it did not come to, and a page with failures is not to be written.
    let whole: Vec<Ran> = runs
        .into_iter()
        .filter(|ran| ran.is_whole() && (record == Record::Compare || !ran.has_failed()))
        .collect();
    whole.iter().for_each(|ran| page.enter(ran));
    println!("\n{}", page.only(&whole).tables());
    if is_partial {
        println!("only some tests were run: not compared with {}", page::FILE);
        return Ok(count);
    }
    match record {
        Record::Bless => page.write(&root())?,
        Record::Compare => {
            let differences = begin.differences(&page, &whole);
            for difference in &differences {
                println!("{}: {difference}", page::FILE);
            }
            if !differences.is_empty() {
                println!("if that is as it should be: `cargo xtask vm test --bless`");
                count.failed += 1;
            } else if !whole.is_empty() {
                count.passed += 1;
            }
        }
    }
    Ok(count)
}

/// Builds, fetches what is missing meanwhile, and boots. Kernels that cannot be had are counted as skipped.
fn run_all(
    wanted: &[&Kernel],
    targets: &[&str],
    filter: Option<&str>,
    time: Duration,
    count: &mut Count,
) -> Result<Vec<Ran>> {
    let begin = Instant::now();
    let of = |kernel: &Kernel| if targets.is_empty() { kernel.targets } else { targets };
    let built = if targets.is_empty() { ALL } else { targets };
    let foreign = |kernel: &&&Kernel| kernel.arch != Arch::host();
    let mut needs: Vec<String> = wanted.iter().map(|kernel| kernel.name.to_owned()).collect();
    needs.extend(wanted.iter().find(foreign).map(|kernel| kernel.arch.headers()));
    let fetching = start_fetch(&needs)?;
    let native = match wanted.iter().any(|kernel| kernel.arch == Arch::host()) {
        true => Some(build::guest(Arch::host(), built)?),
        false => None,
    };
    let said = fetching.map(end_fetch).transpose()?.unwrap_or_default();
    let mut queue = VecDeque::new();
    for kernel in wanted {
        let lacking = [kernel.name.to_owned(), kernel.arch.headers()]
            .into_iter()
            .find(|need| needs.contains(need) && !is_there(need));
        match lacking {
            None => queue.push_back(*kernel),
            Some(need) => {
                let why = why_not(&need, &said);
                let line = format!("SKIPPED: kernel {}: no {need}: {why}", kernel.name);
                eprintln!("{line}");
                count.skipped.push(line);
            }
        }
    }
    let foreign = match queue.iter().find(|kernel| kernel.arch != Arch::host()) {
        Some(kernel) => Some(build::guest(kernel.arch, of(kernel))?),
        None => None,
    };
    let queue = Mutex::new(queue);
    // With each run it is told at once what went wrong: a run of all that is broken off has said what it knew.
    let told = Mutex::new((Vec::new(), count));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some(kernel) = next else { return };
                    let guest = if kernel.arch == Arch::host() { &native } else { &foreign };
                    let Some(guest) = guest else { return };
                    let booted = Instant::now();
                    let ran = match time.saturating_sub(begin.elapsed()) {
                        Duration::ZERO => Ran::late(kernel.name),
                        time => guest::run(kernel.name, None, guest, of(kernel), filter, time),
                    };
                    let seconds = booted.elapsed().as_secs_f64();
                    eprintln!("{}: {} in {seconds:.0} s", kernel.name, ran.summary());
                    if let Ok(mut told) = told.lock() {
                        let (runs, count) = &mut *told;
                        tell(&ran, count);
                        runs.push(ran);
                    }
                }
            });
        }
    });
    let mut runs = told.into_inner().map(|(runs, _)| runs).unwrap_or_default();
    runs.sort_by_key(|ran| KERNELS.iter().position(|kernel| kernel.name == ran.kernel));
    Ok(runs)
}

/// Shows what went wrong on a kernel, and counts.
fn tell(ran: &Ran, count: &mut Count) {
    for test in &ran.tests {
        let name = format!("{}::{}::{}", ran.kernel, test.target, test.name);
        match &test.verdict {
            Verdict::Passed => count.passed += 1,
            Verdict::Skipped(reason) => count.skipped.push(format!("SKIPPED: {name}: {reason}")),
            Verdict::Flaky => {
                println!("FLAKY: {name}: passed the second time; the first time:\n{}", test.output);
                count.passed += 1;
            }
            Verdict::Failed => {
                println!("FAILED: {name}:\n{}", test.output);
                count.failed += 1;
            }
        }
    }
    let late = ran.late.iter();
    count.skipped.extend(late.map(|name| format!("SKIPPED: {}::{name}: no time left", ran.kernel)));
    if let Some(why) = &ran.broken {
        println!("FAILED: {}: {why}", ran.kernel);
        count.failed += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_that_cannot_be_fetched_has_its_own_reason_or_that_of_all() {
        let said = "vmkernel: 5.10: Gone: no package\nE: apt\nvmkernel: sid: OSError: disk full\n";
        assert_eq!(why_not("5.10", said), "Gone: no package");
        assert_eq!(why_not("6.1", "vmkernel: no Debian mirror\n"), "no Debian mirror");
        assert_eq!(why_not("6.1", ""), "it could not be fetched");
    }
}
