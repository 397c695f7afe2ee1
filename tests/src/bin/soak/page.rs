//! The figures, for the terminal and for `docs/soak.md`.

use std::fmt::Write as _;

use crate::judge::Verdict;
use crate::ledger::Ledger;
use crate::sample::Sample;

/// What the page says besides its figures.
const TEXT: &str = include_str!("soak.md");

/// So many rows has the table of samples.
const ROWS: usize = 20;
/// So many characters has the longest bar.
const BAR: f64 = 40.0;

/// The figures of a run.
pub struct Page {
    pub figures: String,
}

impl Page {
    /// The page of the docs.
    pub fn whole(&self) -> String {
        format!("{TEXT}\n{}", self.figures)
    }
}

/// Writes it.
pub fn page(minutes: u64, samples: &[Sample], verdicts: &[Verdict], ledger: &Ledger) -> Page {
    let mut text =
        format!("## Figures of {minutes} minutes\n\n| judged | found | at most | |\n|---|---|---|---|\n");
    for Verdict { what, found, limit, is_fine } in verdicts {
        let word = if *is_fine { "fine" } else { "**WRONG**" };
        let _ = writeln!(text, "| {what} | {found} | {limit} | {word} |");
    }
    let _ = writeln!(text, "\n### What was done\n\n| | times |\n|---|---|");
    let mut done = std::collections::BTreeMap::new();
    for ((_, what), count) in &ledger.done {
        let what = if what.starts_with("alert: Soak") { "alert: rules that come and go" } else { what };
        *done.entry(what).or_insert(0) += count;
    }
    for (what, count) in done {
        let _ = writeln!(text, "| {what} | {count} |");
    }
    let _ = writeln!(
        text,
        "\nRecords of the log by kind: {}. Rules: {}.",
        list(&ledger.kinds),
        list(&ledger.rules)
    );
    curve(samples, &mut text);
    Page { figures: text }
}

fn list(counts: &std::collections::BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// Some of the samples, with a bar for the daemon's memory.
fn curve(samples: &[Sample], text: &mut String) {
    let most = samples.iter().map(|of| of.own_kib).max().unwrap_or(1) as f64;
    text.push_str(
        "\n### The daemon by time\n\n| minute | memory of its own | resident | threads | descriptors | entries of tables | processes | their texts | log, MB | behind | events | CPU | |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let step = samples.len().div_ceil(ROWS).max(1);
    let mut before: Option<&Sample> = None;
    for of in samples.iter().step_by(step).chain(samples.last()) {
        let share = before.map_or("–".to_owned(), |last| {
            format!("{:.1} %", 100.0 * (of.cpu_s - last.cpu_s) / (of.at - last.at).as_secs_f64())
        });
        let _ = writeln!(
            text,
            "| {:.1} | {:.1} MiB | {:.1} MiB | {} | {} | {} | {} | {:.1} MiB | {:.0} | {} | {} | {share} | `{}` |",
            of.at.as_secs_f64() / 60.0,
            of.own_kib as f64 / 1024.0,
            of.resident_kib as f64 / 1024.0,
            of.threads,
            of.descriptors,
            of.all_entries(),
            of.processes,
            of.texts_kib as f64 / 1024.0,
            of.log_bytes as f64 / 1e6,
            of.lag,
            of.received,
            "#".repeat((BAR * of.own_kib as f64 / most) as usize)
        );
        before = Some(of);
    }
}
