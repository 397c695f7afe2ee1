//! One VM's run of the tests: what `tests/vm/guest.sh` tells, read into verdicts.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::build::Guest;
use crate::root;

/// The VM's clock counts 2^2 ns for each instruction, about as fast as an idle machine emulates them: no deadline of a
/// test passes because this machine is busy.
const CLOCK: &str = "2";

/// What `vmrun` ends with when there was no time left.
const NO_TIME: i32 = 124;

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Well.
    Passed,
    /// It failed once and passed then.
    Flaky,
    /// It failed twice.
    Failed,
    /// It could not run: why.
    Skipped(String),
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// The test target.
    pub target: String,
    /// Its name there.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// The verdicts on the tricks that it played: see `tests/src/score.rs`.
    pub scores: Vec<String>,
    /// What it said when it failed.
    pub output: String,
    /// How long it took by the VM's clock.
    pub duration_ms: u64,
}

/// What became of a kernel.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// Its name.
    pub kernel: String,
    /// What it calls itself.
    pub release: String,
    /// The tests.
    pub tests: Vec<Test>,
    /// What tests reported of probes: see `tests/tests/kernel.rs`.
    pub reports: Vec<Value>,
    /// Tests that have not ended, since there was no time left.
    pub late: Vec<String>,
    /// Why not all tests were run, though there was time.
    pub broken: Option<String>,
}

impl Ran {
    /// A kernel that was not booted, since there was no time left.
    pub fn late(kernel: &str) -> Self {
        Self { kernel: kernel.to_owned(), late: vec!["all tests".to_owned()], ..Self::default() }
    }

    /// Whether all tests were run.
    pub fn is_whole(&self) -> bool {
        self.broken.is_none() && self.late.is_empty()
    }

    /// Whether a test failed.
    pub fn has_failed(&self) -> bool {
        self.tests.iter().any(|test| test.verdict == Verdict::Failed)
    }

    /// In a few words.
    pub fn summary(&self) -> String {
        let number =
            |wanted: fn(&Verdict) -> bool| self.tests.iter().filter(|test| wanted(&test.verdict)).count();
        let slowest = self.tests.iter().max_by_key(|test| test.duration_ms);
        let slowest = slowest.map_or(String::new(), |test| {
            format!(", slowest {} {:.1} s", test.name, test.duration_ms as f64 / 1e3)
        });
        format!(
            "{} passed, {} failed, {} skipped{}{slowest}",
            number(|verdict| matches!(verdict, Verdict::Passed | Verdict::Flaky)),
            number(|verdict| matches!(verdict, Verdict::Failed)),
            number(|verdict| matches!(verdict, Verdict::Skipped(_))) + self.late.len(),
            if self.broken.is_some() { ", broken" } else { "" },
        )
    }
}

/// A system that is booted in place of a small one of the tests' own.
pub struct System<'a> {
    /// Its disk.
    pub image: &'a Path,
    /// Its cgroups: `v2`, `v1` or `hybrid`.
    pub cgroups: &'a str,
}

/// Boots a kernel and runs the tests of these targets there, as many as end in that time. A filter is words of which a
/// test's name contains one.
pub fn run(
    kernel: &str,
    system: Option<System>,
    guest: &Guest,
    targets: &[&str],
    filter: Option<&str>,
    time: Duration,
) -> Ran {
    let mut vmrun = Command::new("python3");
    let seconds = time.as_secs().to_string();
    vmrun.arg(root().join("tests/vm/vmrun")).args(["--timeout", &seconds, "--icount", CLOCK, "--stats"]);
    let is_whole_system = system.is_some();
    if let Some(System { image, cgroups }) = system {
        vmrun.arg("--root").arg(image).args(["--init", "--mem", "2048", "--cgroups", cgroups]);
    }
    let mut put = |source: &Path, place: &str| {
        vmrun.arg("--put").arg(format!("{}:{place}", source.display()));
    };
    put(&guest.daemon, "/vm/taffrail");
    put(&root().join("tests/vm/guest.sh"), "/vm/guest.sh");
    for (target, path) in &guest.tests {
        put(path, &format!("/vm/tests/{target}"));
    }
    let filter = filter.unwrap_or_default().replace('\'', "");
    let command = format!("sh /vm/guest.sh '{filter}' {}", targets.join(" "));
    let output = match vmrun.args([kernel, "--", &command]).output() {
        Ok(output) => output,
        Err(error) => {
            let broken = Some(format!("cannot run python3: {error}"));
            return Ran { kernel: kernel.to_owned(), broken, ..Ran::default() };
        }
    };
    let mut ran =
        read(kernel, &String::from_utf8_lossy(&output.stdout), output.status.code() == Some(NO_TIME));
    let said = String::from_utf8_lossy(&output.stderr);
    match &mut ran.broken {
        Some(why) => *why = format!("{why}\n{said}"),
        None => eprint!("{said}"),
    }
    if ran.broken.is_none()
        && (filter.is_empty() || is_whole_system)
        && ran.tests.is_empty()
        && ran.late.is_empty()
    {
        ran.broken = Some("there are no tests".to_owned());
    }
    ran
}

/// Reads what the script tells; it was cut off if there was no time left.
fn read(kernel: &str, text: &str, cut_off: bool) -> Ran {
    let mut ran = Ran { kernel: kernel.to_owned(), ..Ran::default() };
    let mut planned = Vec::new();
    let mut done = false;
    let mut running = String::new();
    for line in text.lines() {
        let Some(told) = line.strip_prefix("@@ ") else {
            if let Some(test) = ran.tests.last_mut() {
                test.output.push_str(&format!("    {line}\n"));
            } else if let Some(why) = &mut ran.broken {
                why.push_str(&format!("\n    {line}"));
            }
            continue;
        };
        let (what, rest) = told.split_once(' ').unwrap_or((told, ""));
        match what {
            "kernel" => ran.release = rest.to_owned(),
            "broken" => ran.broken = Some(format!("the tests of `{rest}` cannot be listed")),
            "begin" => running = rest.replace(' ', "::"),
            "test" => enter(&mut ran.tests, rest),
            "planned" => planned.push(rest.replace(' ', "::")),
            "SKIPPED:" => {
                if let Some(test) = ran.tests.last_mut() {
                    let reason = rest.split_once(": ").map_or(rest, |(_, reason)| reason);
                    test.verdict = Verdict::Skipped(reason.to_owned());
                }
            }
            "score" => {
                let score = serde_json::from_str::<Value>(rest).unwrap_or_default();
                let verdict = score["verdict"].as_str().map(|verdict| verdict.replace('_', " "));
                if let Some(test) = ran.tests.last_mut() {
                    test.scores.extend(verdict);
                }
            }
            "report" => ran.reports.extend(serde_json::from_str::<Value>(rest)),
            "done" => done = true,
            _ => {}
        }
    }
    if !done && cut_off {
        let name = |test: &Test| format!("{}::{}", test.target, test.name);
        // One that failed was perhaps being tried again.
        ran.tests.retain(|test| name(test) != running);
        planned.retain(|planned| ran.tests.iter().all(|test| name(test) != *planned));
        ran.late = if planned.is_empty() { Ran::late(kernel).late } else { planned };
    } else if !done && ran.broken.is_none() {
        ran.broken = Some(format!("the VM stopped before all tests were run, last in `{running}`"));
    }
    ran
}

/// `TARGET NAME ATTEMPT EXIT_CODE MILLISECONDS`
fn enter(tests: &mut Vec<Test>, told: &str) {
    let mut words = told.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (target, name, attempt, code, time) = (word(), word(), word(), word(), word());
    let passed = code == "0";
    let duration_ms = time.parse().unwrap_or(0);
    match tests.last_mut() {
        Some(test) if attempt == "2" => {
            test.verdict = if passed { Verdict::Flaky } else { Verdict::Failed };
            test.duration_ms += duration_ms;
        }
        _ => {
            let verdict = if passed { Verdict::Passed } else { Verdict::Failed };
            tests.push(Test {
                target,
                name,
                verdict,
                scores: Vec::new(),
                output: String::new(),
                duration_ms,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_from_what_the_guest_tells() {
        let told = "@@ kernel 6.1.0\n\
                    @@ test kinds a::b 1 0 120\n\
                    @@ score {\"verdict\":\"loss_reported\"}\n\
                    @@ test kinds c 1 101 50\nit said no\n@@ test kinds c 2 0 60\n\
                    @@ test kinds d 1 0 1\n@@ SKIPPED: d: no such file: here\n\
                    @@ test kinds e 1 101 1\nfirst\n@@ test kinds e 2 143 1\nsecond\n\
                    @@ report {\"probe\":\"exec\"}\n@@ done\n";
        let ran = read("6.1", told, false);
        let verdicts: Vec<_> = ran.tests.iter().map(|test| (test.name.as_str(), &test.verdict)).collect();
        let skipped = Verdict::Skipped("no such file: here".to_owned());
        let expected =
            [("a::b", &Verdict::Passed), ("c", &Verdict::Flaky), ("d", &skipped), ("e", &Verdict::Failed)];
        assert_eq!(verdicts, expected);
        assert_eq!(ran.tests[3].output, "    first\n    second\n");
        assert_eq!(ran.tests[0].scores, ["loss reported"]);
        assert_eq!(ran.tests[1].duration_ms, 110);
        assert_eq!((ran.release.as_str(), ran.reports.len(), ran.broken), ("6.1.0", 1, None));
    }

    #[test]
    fn a_vm_without_time_left_is_not_broken_but_late() {
        let told = "@@ kernel 6.1.0\n@@ planned kinds a\n@@ planned kinds b::c\n@@ test kinds a 1 0 1\n";
        let ran = read("6.1", told, true);
        assert_eq!((ran.tests.len(), ran.late, ran.broken), (1, vec!["kinds::b::c".to_owned()], None));
        assert_eq!(read("6.1", "", true).late, ["all tests"]);
    }

    #[test]
    fn a_vm_that_stops_early_is_broken() {
        let ran = read("6.1", "@@ kernel 6.1.0\n@@ test kinds a 1 0 1\n@@ begin kinds b\n", false);
        let expected = "the VM stopped before all tests were run, last in `kinds::b`";
        assert_eq!(ran.broken.as_deref(), Some(expected));
    }
}
