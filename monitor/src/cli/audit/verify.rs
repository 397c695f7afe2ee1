//! `taffrail audit verify`: checks a log.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::audit::verify::{self, Problem, Report, Wanted};
use crate::event::text::escaped;

/// What to check, and how to tell.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the log.
    #[arg(default_value = super::DEFAULT_FOLDER)]
    folder: PathBuf,
    /// Public key that all that signs must go back to: one that an earlier run, or the daemon, has shown.
    #[arg(long, value_name = "HEX", value_parser = super::digits)]
    key: Option<[u8; 32]>,
    /// File with checkpoints of the log that were kept elsewhere: an anchor, or what an exporter has sent.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Hash of a record that must be there: the `head` of an earlier run.
    #[arg(long, value_name = "SHA256", value_parser = super::digits)]
    expect_head: Option<[u8; 32]>,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Runs the sub-command.
pub fn run(args: Args) -> ExitCode {
    let Args { folder, key, against, expect_head, json } = args;
    let wanted = Wanted { head: expect_head, key, against };
    let is_terminal = std::io::stderr().is_terminal();
    let mut progress = |bytes: u64, segment: u64| {
        if is_terminal {
            eprint!("\r{} MiB, behind record {segment} ", bytes >> 20);
        }
    };
    let report = verify::verify(&folder, &wanted, &mut progress);
    if is_terminal {
        eprint!("\r\x1b[K");
        let _ = std::io::stderr().flush();
    }
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            crate::cli::complain(&error, Some("name the log's folder: `taffrail audit verify FOLDER`"));
            return ExitCode::from(super::UNREADABLE);
        }
    };
    if json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        print_report(&report, wanted.key.is_some());
    }
    match (report.tampered.is_empty(), report.incomplete.is_empty()) {
        (true, true) => ExitCode::SUCCESS,
        (false, _) => ExitCode::from(super::CHANGED),
        (true, false) => ExitCode::from(super::MISSING),
    }
}

fn print_report(report: &Report, is_pinned: bool) {
    let Report { segments, records, bytes, first_seq, last_seq, first_time, last_time, head, .. } = report;
    println!("records   {records} ({first_seq} to {last_seq}) in {segments} segments, {bytes} bytes");
    println!("time      {} to {}", escaped(first_time.as_bytes()), escaped(last_time.as_bytes()));
    let kinds: Vec<_> =
        report.kinds.iter().map(|(kind, count)| format!("{count} {}", escaped(kind.as_bytes()))).collect();
    println!("kinds     {}", kinds.join(", "));
    println!("lost      {} events, as gap records tell", report.lost_events);
    for (name, gap) in &report.gaps {
        println!("  {} of {} in {} gaps", gap.count, escaped(name.as_bytes()), gap.gaps);
    }
    let writing = if report.is_being_written { "; it is being written" } else { "" };
    println!(
        "signed    by {} checkpoints, but for the last {} records{writing}",
        report.checkpoints, report.unsigned
    );
    if let [first, .., last] | [first @ last] = report.epochs.as_slice() {
        let trusted = if is_pinned { "" } else { " (compare it, or give it with --key)" };
        println!("key       {} of epoch {}{trusted}, now epoch {}", first.key, first.epoch, last.epoch);
    }
    if let Some(kept) = report.kept_found {
        println!("kept      {kept} of the checkpoints that were kept are there");
    }
    println!("head      {head}");
    let lists = [("CHANGED", &report.tampered), ("MISSING", &report.incomplete), ("note   ", &report.notes)];
    for (word, problems) in lists {
        for Problem { file, line, message } in problems {
            println!("{word}   {}:{line}: {}", escaped(file.as_bytes()), escaped(message.as_bytes()));
        }
    }
    let verdict = match (report.tampered.is_empty(), report.incomplete.is_empty()) {
        (true, true) if report.is_being_written => {
            "the log is whole, but its end cannot be judged while it is being written"
        }
        (true, true) => "the log is whole",
        (false, _) => "THE LOG WAS CHANGED",
        (true, false) => "something is missing",
    };
    println!("verdict   {verdict}");
}
