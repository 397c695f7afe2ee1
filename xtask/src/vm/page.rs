//! `docs/kernels.md`: what was found on each kernel, as tables with a column per kernel. The tables are the record that later
//! runs are compared with, so they are read back. Instruction counts and releases change with every package update
//! and are not compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::KERNELS;
use super::guest::{Ran, Verdict};

/// The page.
pub const FILE: &str = "docs/kernels.md";

/// What stands above the generated part.
const MARK: &str = "<!-- The rest is written by `cargo xtask vm test --bless`. -->";

/// What stands in a table for a kernel that knows nothing of a row.
const NOTHING: &str = "–";

/// Kernels' cells by the name of the row.
type Rows = BTreeMap<String, BTreeMap<String, String>>;

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Table {
    /// Rows in the order in which they are shown.
    order: Vec<String>,
    rows: Rows,
}

/// All tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    releases: Table,
    probes: Table,
    tests: Table,
    instructions: Table,
}

impl Page {
    /// The committed page.
    pub fn read(root: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
        Ok(Self::parse(text.split_once(MARK).map_or("", |(_, generated)| generated)))
    }

    /// Writes the generated part; what stands above it stays.
    pub fn write(&self, root: &Path) -> Result<()> {
        let text = std::fs::read_to_string(root.join(FILE))?;
        let above = text.split_once(MARK).map_or(text.as_str(), |(above, _)| above).trim_end();
        std::fs::write(root.join(FILE), format!("{above}\n\n{MARK}\n{}", self.tables()))?;
        eprintln!("wrote {FILE}");
        Ok(())
    }

    /// Takes over what a run found; nothing of that kernel's earlier column remains.
    pub fn enter(&mut self, ran: &Ran) {
        for table in self.tables_mut() {
            table.forget(&ran.kernel);
        }
        self.releases.set("release", &ran.kernel, ran.release.clone());
        for report in &ran.reports {
            let probe = report["probe"].as_str().unwrap_or("?");
            if report["tried"] == "auto" {
                self.probes.set(probe, &ran.kernel, state(report));
            }
            if let Some(count) = report["instructions"].as_u64() {
                let program = report["program"].as_str().unwrap_or(probe);
                self.instructions.set(program, &ran.kernel, thousands(count));
            }
        }
        // Which programs there are depends on the kernel that ran first.
        self.instructions.order.sort();
        for test in &ran.tests {
            let verdict = match &test.verdict {
                Verdict::Passed | Verdict::Flaky if test.scores.is_empty() => "passed".to_owned(),
                Verdict::Passed | Verdict::Flaky => {
                    let distinct: BTreeSet<&str> = test.scores.iter().map(String::as_str).collect();
                    format!("passed: {}", distinct.into_iter().collect::<Vec<_>>().join(", "))
                }
                Verdict::Failed => "failed".to_owned(),
                Verdict::Skipped(reason) => format!("skipped: {}", brief(reason)),
            };
            self.tests.set(&format!("{}::{}", test.target, test.name), &ran.kernel, verdict);
        }
    }

    /// The columns of these runs.
    pub fn only(&self, runs: &[Ran]) -> Self {
        let mut page = self.clone();
        for table in page.tables_mut() {
            for kernel in KERNELS.iter().filter(|kernel| runs.iter().all(|ran| ran.kernel != kernel.name)) {
                table.forget(kernel.name);
            }
        }
        page
    }

    /// What differs from this page in a later one, as far as it must not, for the kernels of these runs: a line for each
    /// change, with the kernels that it is on.
    pub fn differences(&self, later: &Self, runs: &[Ran]) -> Vec<String> {
        let mut differences = Vec::new();
        for (before, after) in [(&self.probes, &later.probes), (&self.tests, &later.tests)] {
            let rows: BTreeSet<&String> = before.rows.keys().chain(after.rows.keys()).collect();
            for row in rows {
                let mut changes: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
                for ran in runs {
                    let (old, new) = (before.get(row, &ran.kernel), after.get(row, &ran.kernel));
                    // A failed test is counted as such.
                    if stable(old) != stable(new) && new != "failed" {
                        changes.entry((old, new)).or_default().push(&ran.kernel);
                    }
                }
                for ((old, new), kernels) in changes {
                    differences
                        .push(format!("{row}: it says `{old}`, found `{new}` on {}", kernels.join(", ")));
                }
            }
        }
        differences
    }

    /// As Markdown.
    pub fn tables(&self) -> String {
        let Self { releases, probes, tests, instructions } = self;
        let mut text = String::new();
        for (title, table, note) in [
            ("Kernels", releases, "Debian's packages at the time."),
            (
                "Probes",
                probes,
                "The tier that is attached, and the program if it is the fallback for older kernels; `replaced`: refused or not \
                 worth it, and the portable tier sees the same; `by time`: unless the kernel takes long to let go of it, and then the portable ones that are needed.",
            ),
            ("Tests", tests, "The tests that run as on any machine, in a VM of each kernel."),
            (
                "Verified instructions",
                instructions,
                "By program; the kernel's limit is 1,000,000, ours 100,000.",
            ),
        ] {
            let _ = write!(text, "\n## {title}\n{note}\n\n{}", table.markdown());
        }
        text
    }

    fn parse(text: &str) -> Self {
        let mut page = Self::default();
        for section in text.split("\n## ").skip(1) {
            let (title, body) = section.split_once('\n').unwrap_or_default();
            let table = Table::parse(body);
            match title {
                "Kernels" => page.releases = table,
                "Probes" => page.probes = table,
                "Tests" => page.tests = table,
                "Verified instructions" => page.instructions = table,
                _ => {}
            }
        }
        page
    }

    fn tables_mut(&mut self) -> [&mut Table; 4] {
        let Self { releases, probes, tests, instructions } = self;
        [releases, probes, tests, instructions]
    }
}

impl Table {
    fn set(&mut self, row: &str, kernel: &str, cell: String) {
        if !self.rows.contains_key(row) {
            self.order.push(row.to_owned());
        }
        let cell = cell.replace('|', "/");
        self.rows.entry(row.to_owned()).or_default().insert(kernel.to_owned(), cell);
    }

    fn get(&self, row: &str, kernel: &str) -> &str {
        self.rows.get(row).and_then(|cells| cells.get(kernel)).map_or(NOTHING, String::as_str)
    }

    fn forget(&mut self, kernel: &str) {
        for cells in self.rows.values_mut() {
            cells.remove(kernel);
        }
        self.rows.retain(|_, cells| !cells.is_empty());
        self.order.retain(|row| self.rows.contains_key(row));
    }

    /// Columns are the kernels that have any cell, in the usual order.
    fn markdown(&self) -> String {
        let known = |name: &&str| self.rows.values().any(|cells| cells.contains_key(*name));
        let kernels: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).filter(known).collect();
        let mut text = format!("| | {} |\n|---|{}\n", kernels.join(" | "), "---|".repeat(kernels.len()));
        for row in &self.order {
            let cells: Vec<&str> = kernels.iter().map(|kernel| self.get(row, kernel)).collect();
            let _ = writeln!(text, "| `{row}` | {} |", cells.join(" | "));
        }
        text
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'));
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let kernels = lines.next().map(cells).unwrap_or_default();
        let mut table = Self::default();
        for line in lines.skip(1).map(cells) {
            let Some((row, found)) = line.split_first() else { continue };
            for (kernel, cell) in kernels.iter().skip(1).zip(found) {
                if cell != NOTHING {
                    table.set(row.trim_matches('`'), kernel, cell.clone());
                }
            }
        }
        table
    }
}

/// A probe's state in a few words.
fn state(report: &Value) -> String {
    let text = |name: &str| report[name].as_str().unwrap_or_default();
    let reason = text("reason");
    match text("status") {
        // Which of these is attached depends on how long the kernel takes to let go of a program, which is measured at
        // each start.
        "attached" | "not_needed" | "replaced" if is_one_of(text("probe"), &["end_", "refused_"]) => {
            "strong, by time".to_owned()
        }
        "attached" | "not_needed" if is_one_of(text("probe"), BY_CALLS) => "portable, if needed".to_owned(),
        "attached" if text("program") == text("probe") => text("tier").to_owned(),
        "attached" => format!("{}, {}", text("tier"), text("program")),
        "not_needed" => "not needed".to_owned(),
        "replaced" => format!("replaced: {}", brief(reason)),
        // The kernel's types or symbols know nothing of the hook.
        _ if ["Unknown BTF type", "os error 2)", "no such hook"].iter().any(|sign| reason.contains(sign)) => {
            "not there".to_owned()
        }
        _ => format!("refused: {}", brief(reason)),
    }
}

/// The probes that see calls on the portable tier, where the strong one does not.
const BY_CALLS: &[&str] = &["syscall_exit", "open", "connect", "cred", "call"];

fn is_one_of(probe: &str, names: &[&str]) -> bool {
    names.iter().any(|name| probe == *name || name.ends_with('_') && probe.starts_with(name))
}

/// The start of a reason; that it is the verifier's is known.
fn brief(reason: &str) -> String {
    const MOST: usize = 60;
    let reason = reason.split_once("verifier: ").map_or(reason, |(_, reason)| reason);
    let mut text: String = reason.chars().take(MOST).collect();
    if text.len() < reason.len() {
        text.push('…');
    }
    text
}

/// The part of a cell that must not change: a reason may be put in other words.
fn stable(cell: &str) -> &str {
    cell.split_once(':').map_or(cell, |(verdict, _)| verdict)
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The verifier's counts that tests on this machine have reported, in a table for people.
pub fn budget_here(reports: &str) -> Option<String> {
    let mut counts = BTreeMap::new();
    let mut kernel = String::new();
    for report in reports.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        kernel = report["kernel"].as_str().unwrap_or_default().to_owned();
        let what = match report["instructions"].as_u64() {
            Some(count) => format!("{:>7}", thousands(count)),
            None => format!("{:>7} {}", NOTHING, state(&report)),
        };
        counts.insert(report["program"].as_str().unwrap_or("?").to_owned(), what);
    }
    let mut text = format!("verified instructions on this machine ({kernel}), at most 100,000:\n");
    for (program, what) in &counts {
        let _ = writeln!(text, "  {program:<24} {what}");
    }
    (!counts.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vm::guest::Test;

    fn ran(kernel: &str, verdict: Verdict, status: &str, reason: &str) -> Ran {
        let test = Test {
            target: "kernel".to_owned(),
            name: "a::b".to_owned(),
            verdict,
            scores: Vec::new(),
            output: String::new(),
            duration_ms: 1,
        };
        let report = json!({
            "probe": "exec", "program": "exec_bounded", "tier": "portable", "status": status, "reason": reason,
            "instructions": 31_197, "tried": "auto",
        });
        Ran {
            kernel: kernel.to_owned(),
            release: "6.1.0".to_owned(),
            tests: vec![test],
            reports: vec![report],
            ..Ran::default()
        }
    }

    #[test]
    fn a_page_is_read_back_as_it_was_written() {
        let mut page = Page::default();
        page.enter(&ran("5.10", Verdict::Passed, "attached", ""));
        page.enter(&ran("sid", Verdict::Skipped("no | here".to_owned()), "refused", "too: bad"));
        let text = page.tables();
        assert!(text.contains("| `exec` | portable, exec_bounded | refused: too: bad |"), "{text}");
        assert!(text.contains("| `kernel::a::b` | passed | skipped: no / here |"), "{text}");
        assert!(text.contains("| `exec_bounded` | 31,197 | 31,197 |"), "{text}");
        assert_eq!(Page::parse(&text), page);
    }

    #[test]
    fn probe_of_the_strong_tier_that_is_refused_is_replaced() {
        let run = ran("6.1", Verdict::Passed, "replaced", "do_filp_open: Operation not permitted");
        assert_eq!(state(&run.reports[0]), "replaced: do_filp_open: Operation not permitted");
    }

    #[test]
    fn only_what_is_stable_is_compared_and_only_on_kernels_that_ran() {
        let mut old = Page::default();
        old.enter(&ran("5.10", Verdict::Passed, "attached", ""));
        old.enter(&ran("6.1", Verdict::Skipped("one".to_owned()), "refused", "one"));
        let run = ran("6.1", Verdict::Skipped("other".to_owned()), "refused", "other");
        let mut new = Page::default();
        new.enter(&run);
        assert_eq!(old.differences(&new, std::slice::from_ref(&run)), Vec::<String>::new());
        let run = ran("6.1", Verdict::Passed, "refused", "Unknown BTF type `x`");
        new.enter(&run);
        let expected = [
            "exec: it says `refused: one`, found `not there` on 6.1",
            "kernel::a::b: it says `skipped: one`, found `passed` on 6.1",
        ];
        assert_eq!(old.differences(&new, &[run]), expected);
    }
}
