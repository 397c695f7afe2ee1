//! `taffrail rules test`: the examples in the rules, or the rules against a recording.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::json;

use super::check::complaint;
use super::{Files, failed};
use crate::audit::RecordKind;
use crate::capture;
use crate::cli::NO;
use crate::clock::Clock;
use crate::detect::alert::Verdict;
use crate::detect::memory::Limits;
use crate::enrich::{Enricher, Source, Subject};
use crate::pipeline::{Gap, Sink, Worker};
use crate::rules::{Outcome, Rule, RuleSet, run_examples};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    /// Only these rules. Can be given again.
    #[arg(long = "rule", value_name = "NAME")]
    rules: Vec<String>,
    /// Match the rules against a recording (`taffrail trace --record`), and tell how often each does.
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// With a recording: this rule has to match. Can be given again.
    #[arg(long, value_name = "NAME", requires = "recording")]
    expect: Vec<String>,
    /// With a recording: no rule may match but those that `--expect` names.
    #[arg(long, requires = "recording")]
    nothing_else: bool,
    /// What to print.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Text.
    Text,
    /// JSON, one object a line.
    Json,
    /// JUnit's XML, for CI systems.
    Junit,
}

/// One line of the outcome.
struct Line<'a> {
    rule: &'a str,
    /// The example's name; of a recording none.
    example: Option<&'a str>,
    /// How often it matched.
    matches: u64,
    /// What is wrong, if something is.
    wrong: Option<String>,
}

pub fn run(args: &Args) -> Result<(), ExitCode> {
    let set = args.files.valid()?;
    for name in args.rules.iter().chain(&args.expect) {
        if set.find(name).is_none() {
            eprintln!("error: there is no rule `{name}`");
            return Err(ExitCode::from(NO));
        }
    }
    let counts = args.recording.as_deref().map(|path| replay(path, &set)).transpose()?;
    let outcomes = run_examples(&set);
    let lines: Vec<Line<'_>> = match &counts {
        Some(counts) => set.enabled().map(|rule| args.judge(rule, counts)).collect(),
        None => outcomes.iter().map(of_example).collect(),
    };
    let lines: Vec<_> = lines.into_iter().filter(|line| args.is_chosen(line.rule)).collect();
    match args.format {
        Format::Text => print_text(&lines),
        Format::Json => lines.iter().for_each(|line| {
            let Line { rule, example, matches, wrong } = line;
            println!("{}", json!({ "rule": rule, "example": example, "matches": matches, "wrong": wrong }));
        }),
        Format::Junit => print!("{}", junit(&lines).map_err(|error| failed(&error))?),
    }
    if lines.iter().all(|line| line.wrong.is_none()) { Ok(()) } else { Err(ExitCode::from(NO)) }
}

fn of_example<'a>(outcome: &'a Outcome<'a>) -> Line<'a> {
    Line {
        rule: outcome.rule,
        example: Some(outcome.example),
        matches: outcome.found as u64,
        wrong: (!outcome.passed()).then(|| complaint(outcome)),
    }
}

impl Args {
    fn is_chosen(&self, rule: &str) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|name| name == rule)
    }

    fn judge<'a>(&self, rule: &'a Rule, counts: &BTreeMap<String, u64>) -> Line<'a> {
        let matches = counts.get(&rule.name).copied().unwrap_or(0);
        let expected = self.expect.contains(&rule.name);
        let wrong = match matches {
            0 if expected => Some(format!("rule `{}` should match, but does not", rule.name)),
            1.. if self.nothing_else && !expected => {
                Some(format!("rule `{}` should not match, but does {matches} times", rule.name))
            }
            _ => None,
        };
        Line { rule: &rule.name, example: None, matches, wrong }
    }
}

fn print_text(lines: &[Line<'_>]) {
    for line in lines {
        match (&line.wrong, line.example) {
            (Some(wrong), _) => println!("FAILED  {wrong}"),
            (None, None) if line.matches > 0 => println!("{:>7}  {}", line.matches, line.rule),
            (None, _) => {}
        }
    }
    let failed = lines.iter().filter(|line| line.wrong.is_some()).count();
    let what = if lines.iter().any(|line| line.example.is_some()) { "examples" } else { "rules" };
    println!("{failed} of {} {what} failed", lines.len());
}

fn junit(lines: &[Line<'_>]) -> Result<String, quick_junit::SerializeError> {
    let mut suites: Vec<TestSuite> = Vec::new();
    for line in lines {
        let status = match &line.wrong {
            None => TestCaseStatus::success(),
            Some(wrong) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(wrong.as_str());
                status
            }
        };
        let case = TestCase::new(line.example.unwrap_or("recording"), status);
        if suites.last().is_none_or(|suite| suite.name.as_str() != line.rule) {
            suites.push(TestSuite::new(line.rule));
        }
        if let Some(suite) = suites.last_mut() {
            suite.add_test_case(case);
        }
    }
    let mut report = Report::new("taffrail rules");
    report.add_test_suites(suites);
    report.to_string()
}

/// How many alerts each rule raises on what a recording has.
fn replay(path: &Path, set: &RuleSet) -> Result<BTreeMap<String, u64>, ExitCode> {
    let explain = |error: std::io::Error| {
        failed(&std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    };
    let mut recording = File::open(path).and_then(capture::Reader::new).map_err(explain)?;
    let enricher = Enricher::new(Source::Recorded, 65_536);
    let mut worker =
        Worker::new(enricher, (Arc::new(set.clone()), Limits::default()), Clock::now(), Matches::default());
    worker.replay(&mut recording).map_err(explain)?;
    Ok(worker.sink.0)
}

/// Counts alerts.
#[derive(Default)]
struct Matches(BTreeMap<String, u64>);

impl Sink for Matches {
    fn event(&mut self, _subject: &Subject<'_>, verdict: Verdict<'_>) {
        for alert in verdict.alerts() {
            *self.0.entry(alert.rule.name.clone()).or_default() += 1;
        }
    }

    fn gap(&mut self, gap: &Gap<'_>) {
        eprintln!("the recording lacks {} events ({}, {})", gap.count, gap.what, gap.place);
    }

    fn note(&mut self, _kind: RecordKind, _boot_ns: u64, _time_ns: u64, _body: &[u8]) {}
}
