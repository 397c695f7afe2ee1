//! Whole systems in VMs: one Debian image with systemd and all container runtimes, booted with each layout of cgroups. The
//! machine that runs the tests has one of them only. `tests/vm/vmimage` makes the image.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::guest::{self, Ran, System};
use super::{AT_A_TIME, end_fetch, is_there, start_fetch, tell, why_not};
use crate::build::{self, Arch};
use crate::root;
use crate::test::Count;

/// The kernel that has all layouts: its distribution's systemd is the last that can do without v2.
const KERNEL: &str = "6.1";

/// The tests that run there.
const TARGET: &str = "identity";

/// How long all VMs may take. What has not ended then is skipped.
const TIME: Duration = Duration::from_secs(10 * 60);

/// The layouts, as `vmrun` calls them, and what the names of the tests begin with that run there by default: about as long
/// for the first as for both others. Docker, which alone takes as long as all others, runs there by `--filter`.
const LAYOUTS: &[(&str, &[&str])] = &[
    ("v2", &["containerd::containers", "lxc::", "podman::containers", "runc::container", "systemd::"]),
    ("v1", &["containerd::containers", "runc::container", "systemd::containers"]),
    ("hybrid", &["podman::containers", "systemd::containers_of_a_user"]),
];

/// Makes what is missing, boots all, and runs the tests there. What cannot be had is counted as skipped.
pub fn test(layouts: &[String], filter: Option<&str>) -> Result<Count> {
    let mut count = Count::default();
    if let Some(unknown) = layouts.iter().find(|name| !LAYOUTS.iter().any(|(known, _)| known == name)) {
        let known: Vec<_> = LAYOUTS.iter().map(|(name, _)| *name).collect();
        bail!("there is no layout `{unknown}`; there are {}", known.join(", "));
    }
    let wanted =
        LAYOUTS.iter().filter(|(name, _)| layouts.is_empty() || layouts.iter().any(|layout| layout == name));
    let wanted: VecDeque<_> = wanted.collect();
    let image = match image() {
        Ok(image) => image,
        Err(why) => {
            let skipped =
                wanted.iter().map(|(name, _)| format!("SKIPPED: {TARGET} with cgroup {name}: {why:#}"));
            count.skipped.extend(skipped);
            return Ok(count);
        }
    };
    let guest = build::guest(Arch::host(), &[TARGET])?;
    let begin = Instant::now();
    let (queue, told) = (Mutex::new(wanted), Mutex::new(&mut count));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some((cgroups, tests)) = next else { return };
                    let (booted, name) = (Instant::now(), format!("cgroup {cgroups}"));
                    let filter = filter.map_or_else(|| tests.join(" "), str::to_owned);
                    let ran = match TIME.saturating_sub(begin.elapsed()) {
                        Duration::ZERO => Ran::late(&name),
                        time => {
                            let system = System { image: &image, cgroups };
                            let ran =
                                guest::run(KERNEL, Some(system), &guest, &[TARGET], Some(&filter), time);
                            let mut ran = Ran { kernel: name.clone(), ..ran };
                            let is_run = |word: &&str| ran.tests.iter().any(|test| test.name.contains(word));
                            let unused = filter.split(' ').find(|word| ran.is_whole() && !is_run(word));
                            ran.broken =
                                unused.map(|word| format!("no test is called `{word}`")).or(ran.broken);
                            ran
                        }
                    };
                    eprintln!("{name}: {} in {:.0} s", ran.summary(), booted.elapsed().as_secs_f64());
                    if let Ok(mut count) = told.lock() {
                        tell(&ran, &mut count);
                    }
                }
            });
        }
    });
    Ok(count)
}

/// The image, made if it is not there.
fn image() -> Result<PathBuf> {
    ensure!(Arch::host() == Arch::X86_64, "the system is made for x86-64 only");
    let said = start_fetch(&[KERNEL.to_owned()])?.map(end_fetch).transpose()?.unwrap_or_default();
    ensure!(is_there(KERNEL), "no kernel {KERNEL}: {}", why_not(KERNEL, &said));
    eprintln!(
        "setup: a system with systemd and all runtimes: for tests of identity; made once, which takes two minutes"
    );
    let made = Command::new("python3")
        .arg(root().join("tests/vm/vmimage"))
        .arg(KERNEL)
        .stderr(Stdio::piped())
        .output()
        .context("cannot run python3")?;
    let said = String::from_utf8_lossy(&made.stderr);
    eprint!("{said}");
    ensure!(made.status.success(), "no image: {}", why_not("system", &said));
    Ok(PathBuf::from(String::from_utf8_lossy(&made.stdout).trim()))
}
