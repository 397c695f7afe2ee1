//! Runs the tests, suite by suite, and counts: what passed, what failed, and what could not run and why.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{build, cargo, root, setup, succeed};

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
    /// Tricks by which containers try not to be seen.
    Evasion,
    /// Recorded sessions and the command line, without root.
    Replay,
    /// Other kernels.
    Vm,
}

/// Kernels that the `vm` suite needs.
const KERNELS: &[&str] = &["5.10", "6.1", "6.12", "sid"];

#[derive(Default)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: Vec<String>,
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
            "{name:<7} {} passed, {} failed, {} skipped",
            count.passed,
            count.failed,
            count.skipped.len()
        ));
        total.passed += count.passed;
        total.failed += count.failed;
        total.skipped.extend(count.skipped);
    }
    println!();
    total.skipped.iter().for_each(|line| println!("{line}"));
    lines.iter().for_each(|line| println!("{line}"));
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped.len());
    if total.failed > 0 {
        bail!("{} tests failed", total.failed);
    }
    Ok(())
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
        Suite::E2e => {
            succeed(&mut cargo(&["build", "--package", "taffrail"]))?;
            nextest(&mut cargo(&["nextest", "run", "--package", "taffrail-tests", "-E", "binary(e2e)"]))
        }
        Suite::Kinds => {
            succeed(&mut cargo(&["build", "--package", "taffrail"]))?;
            nextest(&mut cargo(&["nextest", "run", "--package", "taffrail-tests", "-E", "binary(kinds)"]))
        }
        Suite::Evasion => evasion(),
        Suite::Replay => {
            succeed(&mut cargo(&["build", "--package", "taffrail"]))?;
            nextest(&mut cargo(&[
                "nextest",
                "run",
                "--package",
                "taffrail-tests",
                "-E",
                "binary(replay) or binary(cli)",
            ]))
        }
        Suite::Vm => {
            if let Err(error) = fetch_kernels(&[]) {
                // The tests of kernels that are not there say so themselves.
                eprintln!("warning: {error:#}");
            }
            let binary = build::release()?;
            let mut tests = cargo(&["nextest", "run", "--package", "taffrail-tests", "-E", "binary(vm)"]);
            nextest(tests.env("TAFFRAIL_STATIC_BIN", binary))
        }
    }
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
    for (what, result) in [("cargo fmt", format), ("cargo clippy", clippy)] {
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
    let mut child = command
        .env("TAFFRAIL_SKIPPED", &list)
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
    // A test that could not run has returned early: nextest takes it for passed.
    count.passed = count.passed.saturating_sub(count.skipped.len() as u64);
    Ok(count)
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

/// Fetches kernels that are not there yet.
pub fn fetch_kernels(kernels: &[String]) -> Result<()> {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cache = std::env::var_os("TAFFRAIL_VM_CACHE")
        .map_or_else(|| std::path::PathBuf::from(home).join(".cache/taffrail/vm"), Into::into);
    let wanted: Vec<&str> =
        if kernels.is_empty() { KERNELS.to_vec() } else { kernels.iter().map(String::as_str).collect() };
    let mut failed = Vec::new();
    for kernel in wanted {
        if cache.join(kernel).join("kernel").exists() {
            eprintln!("setup: kernel {kernel}: already there");
            continue;
        }
        eprintln!("setup: kernel {kernel}: for tests in a VM");
        // One at a time: a mirror that has lost one kernel still has the others.
        if succeed(Command::new("python3").arg(root().join("tests/vm/vmkernel")).arg(kernel)).is_err() {
            failed.push(kernel);
        }
    }
    if !failed.is_empty() {
        bail!("could not fetch {}", failed.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_summary_are_read() {
        let summary = " [   75.369s] 32 tests run: 29 passed (1 slow), 3 failed, 4 skipped";
        assert_eq!(number_before(summary, " passed"), 29);
        assert_eq!(number_before(summary, " failed"), 3);
        assert_eq!(number_before(summary, " timed out"), 0);
    }
}
