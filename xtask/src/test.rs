//! Runs the tests, suite by suite, and counts: what passed, what failed, and what could not run and why.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::tools::Tools;
use crate::{build, cargo, image, setup, succeed, vm};

/// A suite.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Format and lints.
    Lint,
    /// What needs no root and no container.
    Unit,
    /// Real daemon, real containers.
    E2e,
    /// Each kind of event, to the exact value.
    Kinds,
    /// Each rule that comes with the program, and usual work that sets none off.
    Pack,
    /// Tricks by which containers try not to be seen.
    Evasion,
    /// Whose an event is, with all container runtimes.
    Identity,
    /// What is shipped for a cluster: the image, the chart, the rights that it asks for.
    Deploy,
    /// Exporters and real receivers that are killed and cut off.
    Export,
    /// No CPU time, no memory, no disk, no receiver.
    Faults,
    /// What the running daemon can be asked, by a real Prometheus and by clients that mean no good.
    Serve,
    /// A real API server of Kubernetes, if `cargo xtask setup --kubernetes` has built it.
    Kubernetes,
    /// Recorded sessions, the command line, and what the tests are made of, without root.
    Replay,
    /// Other kernels.
    Vm,
}

/// What became of tests.
#[derive(Default)]
pub struct Count {
    /// Those that ran well.
    pub passed: u64,
    /// Those that did not.
    pub failed: u64,
    /// A line for each that could not run.
    pub skipped: Vec<String>,
}

/// Prints the sum; that a test failed is an error.
pub fn conclude(count: &Count) -> Result<()> {
    println!();
    count.skipped.iter().for_each(|line| println!("{line}"));
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped.len());
    if count.failed > 0 {
        bail!("{} tests failed", count.failed);
    }
    Ok(())
}

/// Sets up and runs one suite, or all.
pub fn run(suite: Option<Suite>) -> Result<()> {
    setup::run(setup::For::Tests, false)?;
    let suites = match suite {
        Some(suite) => vec![suite],
        None => Suite::value_variants().to_vec(),
    };
    let mut total = Count::default();
    let mut lines = Vec::new();
    for suite in suites {
        let count = run_suite(suite)?;
        let name = suite.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        lines.push(format!(
            "{name:<10} {} passed, {} failed, {} skipped",
            count.passed,
            count.failed,
            count.skipped.len()
        ));
        total.passed += count.passed;
        total.failed += count.failed;
        total.skipped.extend(count.skipped);
    }
    println!();
    lines.iter().for_each(|line| println!("{line}"));
    conclude(&total)
}

fn run_suite(suite: Suite) -> Result<Count> {
    match suite {
        Suite::Lint => lint(),
        Suite::Unit => nextest(&mut cargo(&[
            "nextest",
            "run",
            "--workspace",
            "--exclude",
            "taffrail-ebpf",
            "--exclude",
            "taffrail-tests",
        ])),
        Suite::E2e => with_daemon("binary(e2e) or binary(kernel)"),
        Suite::Kinds => with_daemon("binary(kinds)"),
        Suite::Pack => with_daemon("binary(pack)"),
        Suite::Evasion => evasion(),
        Suite::Identity => {
            let mut count = with_daemon("binary(identity)")?;
            let of_systems = vm::system::test(&[], None)?;
            count.passed += of_systems.passed;
            count.failed += of_systems.failed;
            count.skipped.extend(of_systems.skipped);
            Ok(count)
        }
        Suite::Deploy => deploy(),
        Suite::Export => {
            succeed(&mut cargo(&[
                "build",
                "--package",
                "taffrail",
                "--package",
                "taffrail-tests",
                "--bins",
            ]))?;
            nextest(&mut cargo(&["nextest", "run", "--package", "taffrail-tests", "-E", "binary(export)"]))
        }
        Suite::Faults => with_daemon("binary(faults)"),
        Suite::Serve => with_daemon("binary(serve)"),
        Suite::Kubernetes => with_daemon("binary(kubernetes)"),
        Suite::Replay => with_daemon(
            "binary(replay) or binary(cli) or binary(audit) or binary(search) or binary(soak) or kind(lib)",
        ),
        Suite::Vm => vm::test(&vm::Plan::default(), vm::Record::Compare),
    }
}

/// Runs those tests of `taffrail-tests`, with the daemon as it is now.
fn with_daemon(tests: &str) -> Result<Count> {
    succeed(&mut cargo(&["build", "--package", "taffrail"]))?;
    nextest(&mut cargo(&["nextest", "run", "--package", "taffrail-tests", "-E", tests]))
}

/// Plays the tricks, prints the board, and checks the page that is made from it.
fn evasion() -> Result<Count> {
    succeed(&mut cargo(&["build", "--package", "taffrail"]))?;
    let scores = std::env::temp_dir().join(format!("taffrail-scores-{}", std::process::id()));
    let _ = std::fs::remove_file(&scores);
    let mut tests = cargo(&["nextest", "run", "--package", "taffrail-tests", "-E", "binary(evasion)"]);
    let mut count = nextest(tests.env("TAFFRAIL_SCORES", &scores))?;
    let mut board = cargo(&["run", "--quiet", "--package", "taffrail-tests", "--bin", "scores", "--"]);
    if let Err(error) = succeed(board.arg(&scores)) {
        eprintln!("board: {error:#}");
        count.failed += 1;
    }
    let _ = std::fs::remove_file(&scores);
    Ok(count)
}

/// Makes the image twice, for this machine's architecture, and tries it.
fn deploy() -> Result<Count> {
    let [first, image] = [(), ()].map(|()| image::build(&[build::Arch::host()]));
    let (first, image) = (first?, image?);
    let Tools { helm, python, .. } = Tools::places();
    let tests = ["nextest", "run", "--package", "taffrail-tests", "-E", "binary(deploy)"];
    let mut count = nextest(
        cargo(&tests)
            .env("TAFFRAIL_IMAGE", build::target().join("image").canonicalize()?)
            .env("TAFFRAIL_HELM", helm)
            .env("TAFFRAIL_SCHEMAS", python),
    )?;
    if first.digest == image.digest {
        count.passed += 1;
    } else {
        eprintln!("image: {} the first time, {} the second", first.digest, image.digest);
        count.failed += 1;
    }
    Ok(count)
}

fn lint() -> Result<Count> {
    let mut count = Count::default();
    let format = succeed(&mut cargo(&["fmt", "--all", "--check"]));
    let clippy = succeed(&mut cargo(&[
        "clippy",
        "--all-targets",
        "--workspace",
        "--exclude",
        "taffrail-ebpf",
        "--",
        "--deny",
        "warnings",
    ]));
    let mut checks = vec![("cargo fmt", format), ("cargo clippy", clippy)];
    let deny = Tools::places().deny;
    if deny.exists() {
        let check = ["--workspace", "--offline", "check", "bans", "licenses", "sources"];
        // It looks at the crates of all platforms, which no build of ours needs.
        let checked = succeed(&mut cargo(&["fetch", "--locked"]))
            .and_then(|()| succeed(Command::new(deny).current_dir(crate::root()).args(check)));
        checks.push(("cargo deny", checked));
    } else {
        count
            .skipped
            .push("SKIPPED: crates_may_be_linked: no cargo-deny: it could not be fetched".to_owned());
    }
    for (what, result) in checks {
        match result {
            Ok(()) => count.passed += 1,
            Err(error) => {
                eprintln!("{what}: {error:#}");
                count.failed += 1;
            }
        }
    }
    Ok(count)
}

/// Runs nextest, shows what it says, and reads its closing line and our tests' words about what they skip.
fn nextest(command: &mut Command) -> Result<Count> {
    let list = std::env::temp_dir().join(format!("taffrail-skipped-{}", std::process::id()));
    let _ = std::fs::remove_file(&list);
    let reports = std::env::temp_dir().join(format!("taffrail-reports-{}", std::process::id()));
    let _ = std::fs::remove_file(&reports);
    let mut child = command
        .env("TAFFRAIL_SKIPPED", &list)
        .env("TAFFRAIL_REPORT", &reports)
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run cargo nextest")?;
    let stderr = child.stderr.take().context("its stderr")?;
    let mut count = Count::default();
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        eprintln!("{line}");
        if let Some(summary) = line.trim().strip_prefix("Summary") {
            count.passed = number_before(summary, " passed");
            count.failed = number_before(summary, " failed") + number_before(summary, " timed out");
        }
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        bail!("cargo nextest: {status}");
    }
    count.skipped = std::fs::read_to_string(&list).unwrap_or_default().lines().map(str::to_owned).collect();
    let _ = std::fs::remove_file(&list);
    if let Some(table) = vm::page::budget_here(&std::fs::read_to_string(&reports).unwrap_or_default()) {
        println!("{table}");
    }
    let _ = std::fs::remove_file(&reports);
    // A test that could not run has returned early: nextest takes it for passed.
    let whole = count.skipped.iter().filter(|line| is_of_test(line)).count();
    count.passed = count.passed.saturating_sub(whole as u64);
    Ok(count)
}

/// Whether a line tells of a whole test: parts of one, such as a rule, have names for people.
fn is_of_test(skipped: &str) -> bool {
    let name = skipped.strip_prefix("SKIPPED: ").and_then(|rest| rest.split_once(": "));
    name.is_some_and(|(name, _)| !name.contains(' '))
}

/// The number before a word: `3 passed`.
fn number_before(text: &str, word: &str) -> u64 {
    let Some((before, _)) = text.split_once(word) else { return 0 };
    before
        .rsplit(|char: char| !char.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_a_test_that_is_skipped_does_not_count_as_one() {
        assert!(is_of_test("SKIPPED: a_test_as_a_fact: no dummy: device"));
        assert!(!is_of_test("SKIPPED: Kernel's log read: this machine cannot"));
    }

    #[test]
    fn numbers_of_a_summary_are_read() {
        let summary = " [   75.369s] 32 tests run: 29 passed (1 slow), 3 failed, 4 skipped";
        assert_eq!(number_before(summary, " passed"), 29);
        assert_eq!(number_before(summary, " failed"), 3);
        assert_eq!(number_before(summary, " timed out"), 0);
    }
}
