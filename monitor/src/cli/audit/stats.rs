//! `taffrail audit stats`: what a log has, in numbers.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::json;

use super::search::exit_code;
use super::select::Selection;
use crate::audit::search::{self, Options, Order};
use crate::cli::{FAILED, complain};
use crate::event::logged::Record;
use crate::event::text::escaped;

/// Count records by kind, container and rule. Exit codes: 0 there are some, 1 there are none, 2 the log could not be
/// read, or not all of it.
#[derive(clap::Args)]
pub struct Args {
    /// Only events and alerts that this condition, in the rule language, lets pass.
    condition: Option<String>,
    #[command(flatten)]
    selection: Selection,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    /// So many containers and rules at most, those with the most records.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
}

/// More different names than this are counted together: there can be as many as records.
const NAMES_MAX: usize = 100_000;

/// What stands for the others.
const OTHERS: &str = "(others)";

#[derive(Default)]
struct Stats {
    records: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
    /// Numbers between the first and the last that are not there; only if nothing was left out on purpose.
    missing: u64,
    first_time: String,
    last_time: String,
    kinds: Counts,
    events: Counts,
    containers: Counts,
    rules: Counts,
    /// Events that gap records tell of, by where they were lost.
    lost: Counts,
}

/// Records and bytes by name.
type Counts = BTreeMap<String, (u64, u64)>;

pub fn run(args: &Args) -> ExitCode {
    let query = match args.selection.query(args.condition.as_deref()) {
        Ok(query) => query,
        Err(code) => return code,
    };
    let mut stats = Stats::default();
    let options = Options { order: Order::OldestFirst, with_index: true };
    let outcome = search::search(&args.selection.folder, &query, options, &mut |line| {
        if let Some(record) = Record::parse(line) {
            stats.add(&record, line.len() as u64 + 1);
        }
        Ok(true)
    });
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            complain(&error, Some("name the log's folder: `--log FOLDER`"));
            return ExitCode::from(FAILED);
        }
    };
    if args.json {
        stats.print_json(args.top)
    } else {
        stats.print(args.top)
    }
    exit_code(&outcome)
}

impl Stats {
    fn add(&mut self, record: &Record<'_>, bytes: u64) {
        let seq = record.top.number("seq").unwrap_or_default() as u64;
        let time = record.top.str("time").unwrap_or_default();
        if self.records == 0 {
            (self.first_seq, self.first_time) = (seq, time.to_owned());
        } else {
            self.missing += seq.saturating_sub(self.last_seq).saturating_sub(1);
        }
        (self.last_seq, self.last_time) = (seq, time.to_owned());
        self.records += 1;
        self.bytes += bytes;
        count(&mut self.kinds, record.kind(), 1, bytes);
        if record.event().is_some() {
            count(&mut self.events, record.event_kind(), 1, bytes);
        }
        if record.top.get("container").is_some() {
            count(&mut self.containers, &container_name(record), 1, bytes);
        }
        if let (Some(rule), "alert") = (record.top.str("rule"), record.kind()) {
            count(&mut self.rules, rule, 1, bytes);
        }
        if record.kind() == "gap" {
            let whole = record.top.number("count").unwrap_or_default();
            let by_kind = record.top.object("records").map_or(0, |counts| {
                counts.members().filter_map(|(_, count)| count.number()).fold(0, i64::saturating_add)
            });
            let lost = whole.saturating_add(by_kind).try_into().unwrap_or(0);
            count(&mut self.lost, record.top.str("where").unwrap_or_default(), lost, 0);
        }
    }

    fn print(&self, top: usize) {
        let Self { records, bytes, first_seq, last_seq, first_time, last_time, missing, .. } = self;
        println!("records     {records} ({first_seq} to {last_seq}), {bytes} bytes");
        println!("time        {} to {}", escaped(first_time.as_bytes()), escaped(last_time.as_bytes()));
        println!("left out    {missing} numbers in between");
        for (name, counts) in self.lists() {
            for (key, (records, bytes)) in largest(counts, top) {
                let key = escaped(key.as_bytes());
                match name {
                    "lost" => println!("{name:<11} {records:>10} events lost at {key}"),
                    _ => println!("{name:<11} {records:>10} {bytes:>14} bytes  {key}"),
                }
            }
        }
    }

    fn print_json(&self, top: usize) {
        let Self { records, bytes, first_seq, last_seq, first_time, last_time, missing, .. } = self;
        let mut whole = json!({
            "records": records, "bytes": bytes, "first_seq": first_seq, "last_seq": last_seq, "missing": missing,
            "first_time": first_time, "last_time": last_time,
        });
        for (name, counts) in self.lists() {
            let list: Vec<_> = largest(counts, top)
                .into_iter()
                .map(|(key, (records, bytes))| json!({ "name": key, "records": records, "bytes": bytes }))
                .collect();
            whole[name] = list.into();
        }
        println!("{whole}");
    }

    fn lists(&self) -> [(&'static str, &Counts); 5] {
        let Self { kinds, events, containers, rules, lost, .. } = self;
        [("kinds", kinds), ("events", events), ("containers", containers), ("rules", rules), ("lost", lost)]
    }
}

fn count(counts: &mut Counts, name: &str, records: u64, bytes: u64) {
    let name = if counts.len() < NAMES_MAX || counts.contains_key(name) { name } else { OTHERS };
    let entry = match counts.get_mut(name) {
        Some(entry) => entry,
        None => counts.entry(name.to_owned()).or_default(),
    };
    entry.0 = entry.0.saturating_add(records);
    entry.1 = entry.1.saturating_add(bytes);
}

/// The container's short id and name.
fn container_name(record: &Record<'_>) -> String {
    let Some(container) = record.container() else { return "host".to_owned() };
    let id = container.str("id").unwrap_or_default();
    let short = id.get(..12).filter(|_| id.len() == 64).unwrap_or(id);
    match container.str("name") {
        Some(name) if name != id => format!("{short} {name}"),
        _ => short.to_owned(),
    }
}

fn largest(counts: &Counts, top: usize) -> Vec<(&String, &(u64, u64))> {
    let mut list: Vec<_> = counts.iter().collect();
    list.sort_by_key(|(_, (records, _))| std::cmp::Reverse(*records));
    list.truncate(top);
    list
}
