//! `taffrail audit verify`: checks a log.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::audit::verify::{self, Problem, Report};
use crate::event::text::escaped;

/// What to check, and how to tell.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the log.
    #[arg(default_value = super::DEFAULT_FOLDER)]
    folder: PathBuf,
    /// Hash of a record that must be there: the `head` of an earlier run.
    #[arg(long, value_name = "SHA256", value_parser = hash)]
    expect_head: Option<String>,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// 64 hex digits, in lower case.
fn hash(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    let valid = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if valid { Ok(text) } else { Err("a SHA-256 has 64 hex digits".to_owned()) }
}

/// Runs the sub-command.
pub fn run(args: Args) -> ExitCode {
    let Args { folder, expect_head, json } = args;
    let report = match verify::verify(&folder, expect_head.as_deref()) {
        Ok(report) => report,
        Err(error) => {
            crate::cli::complain(&error, Some("name the log's folder: `taffrail audit verify FOLDER`"));
            return ExitCode::from(3);
        }
    };
    if json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        print_report(&report);
    }
    match (report.tampered.is_empty(), report.incomplete.is_empty()) {
        (true, true) => ExitCode::SUCCESS,
        (false, _) => ExitCode::from(1),
        (true, false) => ExitCode::from(2),
    }
}

fn print_report(report: &Report) {
    let Report { segments, records, bytes, first_seq, last_seq, first_time, last_time, head, .. } = report;
    println!("records   {records} ({first_seq} to {last_seq}) in {segments} segments, {bytes} bytes");
    println!("time      {} to {}", escaped(first_time.as_bytes()), escaped(last_time.as_bytes()));
    let kinds: Vec<_> =
        report.kinds.iter().map(|(kind, count)| format!("{count} {}", escaped(kind.as_bytes()))).collect();
    println!("kinds     {}", kinds.join(", "));
    println!("lost      {} events, as gap records tell", report.lost_events);
    println!("head      {head}");
    let lists = [("CHANGED", &report.tampered), ("MISSING", &report.incomplete), ("note   ", &report.notes)];
    for (word, problems) in lists {
        for Problem { file, line, message } in problems {
            println!("{word}   {}:{line}: {}", escaped(file.as_bytes()), escaped(message.as_bytes()));
        }
    }
    let verdict = match (report.tampered.is_empty(), report.incomplete.is_empty()) {
        (true, true) => "the chain is whole",
        (false, _) => "THE LOG WAS CHANGED",
        (true, false) => "something is missing",
    };
    println!("verdict   {verdict}");
}
