//! `taffrail rules check`: everything that is wrong with rules, and with their examples.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Files, Loaded, errors, tell};
use crate::cli::NO;
use crate::diagnostic::{Diagnostic, Label, Severity};
use crate::rules::{Expected, Outcome, run_examples};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    /// What to print on stdout.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One line; the diagnostics go to stderr.
    Text,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

pub fn run(args: &Args) -> Result<(), ExitCode> {
    let Loaded { set, diagnostics } = args.files.load()?;
    let outcomes = set.as_ref().map(run_examples).unwrap_or_default();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed()).collect();
    match args.format {
        Format::Sarif => println!("{:#}", sarif(&diagnostics, &failed)),
        Format::Text => {
            tell(&diagnostics);
            failed.iter().for_each(|outcome| eprintln!("{}", complaint(outcome)));
            match &set {
                Some(set) => println!(
                    "{} rules are valid,{} {} of {} examples failed",
                    set.rules.len(),
                    if set.left_out > 0 {
                        format!(" {} were left out,", set.left_out)
                    } else {
                        String::new()
                    },
                    failed.len(),
                    outcomes.len()
                ),
                None => {
                    let errors = errors(&diagnostics);
                    println!("{errors} errors, {} warnings", diagnostics.len() - errors);
                }
            }
        }
    }
    if set.is_some() && failed.is_empty() { Ok(()) } else { Err(ExitCode::from(NO)) }
}

/// What an example that failed should have been.
pub fn complaint(outcome: &Outcome<'_>) -> String {
    let Outcome { rule, example, expected, found } = outcome;
    let wrong = match expected {
        Expected::Some => "should match, but does not".to_owned(),
        Expected::None => "should not match, but does".to_owned(),
        Expected::Times(times) => format!("should raise {times} alerts, but raises {found}"),
    };
    format!("rule `{rule}`, example {example}: {wrong}")
}

/// Diagnostics by the Static Analysis Results Interchange Format, OASIS, version 2.1.0.
fn sarif(diagnostics: &[Diagnostic], failed: &[&Outcome<'_>]) -> Value {
    let mut codes: Vec<_> = diagnostics.iter().map(|found| found.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let rules: Vec<_> = codes.iter().map(|code| json!({ "id": code })).collect();
    let found = diagnostics.iter().map(|found| {
        let Diagnostic { code, severity, message, labels, hint } = found;
        let text = hint.iter().fold(message.clone(), |text, hint| format!("{text}; hint: {hint}"));
        json!({
            "ruleId": code,
            "level": match severity { Severity::Error => "error", Severity::Warning => "warning" },
            "message": { "text": text },
            "locations": labels.first().map(location).into_iter().collect::<Vec<_>>(),
            "relatedLocations": labels.iter().skip(1).map(location).collect::<Vec<_>>(),
        })
    });
    let examples = failed.iter().map(
        |outcome| json!({ "ruleId": "example", "level": "error", "message": { "text": complaint(outcome) } }),
    );
    json!({
        "version": "2.1.0",
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [{
            "tool": { "driver": { "name": "taffrail", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": found.chain(examples).collect::<Vec<_>>(),
        }],
    })
}

fn location(label: &Label) -> Value {
    let text = &label.span.source.text;
    let (start, end) = (place(text, label.span.range.start), place(text, label.span.range.end));
    json!({
        "physicalLocation": {
            "artifactLocation": { "uri": label.span.source.name },
            "region": { "startLine": start.0, "startColumn": start.1, "endLine": end.0, "endColumn": end.1 },
        },
        "message": { "text": label.text },
    })
}

/// Line and column of a byte, both from 1, columns in characters.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(byte)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
