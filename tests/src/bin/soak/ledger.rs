//! The books: what was done, what the log has of it, and what has arrived. The log is read as it grows, since its oldest
//! segments are deleted; of each record a hash is kept, to compare what the receiver got.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// A container's id, and what it did: a kind of event, or `alert: RULE`.
pub type Deed = (String, String);

/// All that is known by now.
pub struct Ledger {
    log: Tail,
    /// How often each deed was done.
    pub done: BTreeMap<Deed, u64>,
    /// The events of each deed that the log has, by their time and process: an event may have several records.
    seen: HashMap<Deed, HashSet<(u64, u64)>>,
    /// What the log admits to have lost, by container (empty: it is not known whose) and kind.
    lost: BTreeMap<Deed, u64>,
    /// Hashes of each record's line and of its `prev`, from record 1 on.
    written: Vec<(u64, u64)>,
    /// How often each of them has arrived.
    arrived: Vec<u8>,
    /// Records that the exporter admits to have dropped: from and to.
    dropped: Vec<(u64, u64)>,
    /// How many records of each kind there are.
    pub kinds: BTreeMap<String, u64>,
    /// How often rules were loaded anew and refused.
    pub rules: BTreeMap<String, u64>,
    /// What does not fit, in words.
    pub wrong: Vec<String>,
}

impl Ledger {
    /// Of a log that begins.
    pub fn new(log: &Path) -> Self {
        Self {
            log: Tail::of(log),
            done: BTreeMap::new(),
            seen: HashMap::new(),
            lost: BTreeMap::new(),
            written: Vec::new(),
            arrived: Vec::new(),
            dropped: Vec::new(),
            kinds: BTreeMap::new(),
            rules: BTreeMap::new(),
            wrong: Vec::new(),
        }
    }

    /// A container did something so often.
    pub fn did(&mut self, container: &str, what: &str, count: u64) {
        *self.done.entry((container.to_owned(), what.to_owned())).or_default() += count;
    }

    /// The number of the last record that was read.
    pub fn last_seq(&self) -> u64 {
        self.written.len() as u64
    }

    /// Events that the log says were lost, of all kinds.
    pub fn lost(&self) -> u64 {
        self.lost.values().sum()
    }

    /// How many events of deeds the log has.
    pub fn seen(&self) -> u64 {
        self.seen.values().map(|of| of.len() as u64).sum()
    }

    /// Reads what is new in the log.
    pub fn read_log(&mut self) -> Result<()> {
        while let Some(line) = self.log.next(self.last_seq() + 1)? {
            let record: Value = serde_json::from_str(&line).with_context(|| format!("a record: {line}"))?;
            let expected = self.last_seq() + 1;
            if record["seq"] != expected {
                bail!("record {expected} is not in its place: {line}");
            }
            self.written.push((hash(&line), hash(record["prev"].as_str().unwrap_or_default())));
            self.take(&record);
        }
        Ok(())
    }

    fn take(&mut self, record: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = text(&record["kind"]);
        *self.kinds.entry(kind.clone()).or_default() += 1;
        let container = text(&record["container"]["id"]);
        match kind.as_str() {
            "alert" | "event" => {
                let suppressed = record["suppressed"].as_array().into_iter().flatten();
                let rules = suppressed.chain([&record["rule"]]).filter_map(Value::as_str);
                let alerts = rules.map(|rule| format!("alert: {rule}"));
                let id = (record["boot_ns"].as_u64(), record["process"]["pid"].as_u64());
                for what in alerts.chain(deed(record).map(str::to_owned)) {
                    let events = self.seen.entry((container.clone(), what)).or_default();
                    events.insert((id.0.unwrap_or_default(), id.1.unwrap_or_default()));
                }
            }
            "gap" if record["where"] == "export" => {
                let number = |name: &str| record[name].as_u64().unwrap_or_default();
                self.dropped.push((number("from_seq"), number("to_seq")));
            }
            "gap" => {
                let count = record["count"].as_u64().unwrap_or_default();
                *self.lost.entry((container, text(&record["what"]))).or_default() += count;
            }
            "rules" => *self.rules.entry(text(&record["result"])).or_default() += 1,
            "degraded" | "recovery" => self.wrong.push(format!("the log has {record}")),
            _ => {}
        }
    }

    /// Takes a line that the receiver has: a record as it was written, or one that the exporter has cut, which says so.
    pub fn arrive(&mut self, line: &str) {
        let record: Value = serde_json::from_str(line).unwrap_or_default();
        let place = record["seq"].as_u64().and_then(|seq| (seq as usize).checked_sub(1));
        let written = place.and_then(|place| Some((place, self.written.get(place)?)));
        let is_cut = record["cut_bytes"].as_u64().is_some();
        match written {
            Some((place, (whole, prev)))
                if *whole == hash(line)
                    || (is_cut && *prev == hash(record["prev"].as_str().unwrap_or_default())) =>
            {
                self.arrived.resize(self.written.len(), 0);
                self.arrived[place] = self.arrived[place].saturating_add(1);
            }
            _ => self.wrong.push(format!("what arrived is not in the log: {line}")),
        }
    }

    /// Compares what was done with what is told. Gives how much of it the log has not.
    pub fn check_deeds(&mut self) -> u64 {
        let mut missing = 0;
        // What was lost and is nobody's: it can make good what is missing of one container only.
        let mut nobodys: HashMap<&str, u64> = HashMap::new();
        for ((container, what), done) in &self.done {
            let seen = self.seen.get(&(container.clone(), what.clone())).map_or(0, |of| of.len() as u64);
            let kind = match what.strip_prefix("alert: ") {
                Some(rule) if rule.starts_with("Soak") => "exec",
                Some(_) => "open",
                None => what,
            };
            let lost =
                |whose: &str| self.lost.get(&(whose.to_owned(), kind.to_owned())).copied().unwrap_or(0);
            let nobodys = nobodys.entry(what).or_insert_with(|| lost(""));
            let admitted = lost(container);
            let more = done.saturating_sub(seen + admitted);
            if seen > *done || more > *nobodys {
                let words = format!(
                    "{container}: {what}: {done} done, {seen} in the log, {admitted} lost, {nobodys} of nobody's"
                );
                self.wrong.push(words);
            }
            *nobodys = nobodys.saturating_sub(more);
            missing += done.saturating_sub(seen);
        }
        missing
    }

    /// Compares what was written, up to that record, with what has arrived and what is told to be dropped. Gives how
    /// many records arrived, and how often.
    pub fn check_arrivals(&mut self, up_to: u64) -> (u64, u64) {
        self.arrived.resize(self.written.len(), 0);
        let is_dropped = |seq: u64| self.dropped.iter().any(|(from, to)| (*from..=*to).contains(&seq));
        let missing: Vec<u64> = (1..=up_to)
            .zip(&self.arrived)
            .filter_map(|(seq, times)| (*times == 0 && !is_dropped(seq)).then_some(seq))
            .collect();
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            let words = format!("{} records have not arrived, from {first} to {last}", missing.len());
            self.wrong.push(words);
        }
        let records = self.arrived.iter().filter(|times| **times > 0).count() as u64;
        (records, self.arrived.iter().map(|times| u64::from(*times)).sum())
    }
}

/// What an event is, if it is one that was counted where it was done.
fn deed(record: &Value) -> Option<&'static str> {
    let event = &record["event"];
    let begins = |value: &Value, with: &str| value.as_str().is_some_and(|text| text.starts_with(with));
    let is = match event["kind"].as_str()? {
        "exec" if event["args"].as_array()?.iter().any(|arg| begins(arg, crate::load::MARK)) => "exec",
        "open" if begins(&event["file"], crate::load::FILES) => "open",
        "connect" if crate::load::PORTS.contains(&event["remote_port"].as_u64()?) => "connect",
        "dns" if event["message"] == "query" && event["direction"] == "out" => "dns",
        "exit" if record["process"]["name"] == "act" => "exit",
        _ => return None,
    };
    Some(is)
}

fn hash(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

/// The lines of a log that is written meanwhile. Segments are opened as soon as they are there: later they are packed and
/// deleted.
struct Tail {
    folder: PathBuf,
    /// Those that are not read to their end, by their first record.
    segments: BTreeMap<u64, BufReader<File>>,
    /// The part of the next line that is there.
    line: String,
}

impl Tail {
    /// After so many records, new segments are looked for.
    const LOOK: u64 = 200;

    fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), segments: BTreeMap::new(), line: String::new() }
    }

    /// The next line, which has that number.
    fn next(&mut self, number: u64) -> Result<Option<String>> {
        if number.is_multiple_of(Self::LOOK) {
            self.open(number)?;
        }
        if let Some(line) = self.read(number)? {
            return Ok(Some(line));
        }
        // Nothing is added to a segment once there is another one.
        self.open(number)?;
        self.read(number)
    }

    fn read(&mut self, number: u64) -> Result<Option<String>> {
        while let Some(mut segment) = self.segments.first_entry() {
            segment.get_mut().read_line(&mut self.line)?;
            if self.line.ends_with('\n') {
                self.line.pop();
                return Ok(Some(std::mem::take(&mut self.line)));
            }
            if !self.line.is_empty() || !self.segments.contains_key(&number) || self.segments.len() == 1 {
                return Ok(None);
            }
            self.segments.pop_first();
        }
        Ok(None)
    }

    /// Opens the segments that begin with this record or a later one.
    fn open(&mut self, number: u64) -> Result<()> {
        if !self.segments.contains_key(&number)
            && self.folder.join(format!("{number:020}.ndjson.zst")).exists()
        {
            bail!("the log was not read fast enough: the segment that begins with record {number} is packed");
        }
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ndjson")?.parse().ok());
            let Some(first) = name.filter(|first| *first >= number) else { continue };
            if let Entry::Vacant(place) = self.segments.entry(first) {
                place.insert(BufReader::new(File::open(&path).with_context(|| path.display().to_string())?));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = r#""kind":"event","boot_ns":7,"event":{"kind":"exec","args":["/bin/true","soak-1"]},"process":{"pid":9},"container":{"id":"c"}}"#;
    const NOBODYS: &str = r#""kind":"gap","where":"ring","what":"exec","count":1}"#;
    const GAP: &str = r#""kind":"gap","where":"ring","what":"exec","count":1,"container":{"id":"c"}}"#;

    /// A ledger that has read a log of these records.
    fn ledger(records: &[&str]) -> (tempfile::TempDir, Ledger) {
        let folder = tempfile::tempdir().unwrap();
        let lines = (1..).zip(records).map(|(seq, rest)| format!("{{\"seq\":{seq},{rest}\n"));
        std::fs::write(folder.path().join(format!("{:020}.ndjson", 1)), lines.collect::<String>()).unwrap();
        let mut ledger = Ledger::new(folder.path());
        ledger.read_log().unwrap();
        (folder, ledger)
    }

    #[test]
    fn what_is_neither_told_nor_admitted_is_wrong_and_so_is_more_than_was_done() {
        for (records, done, is_fine) in [
            (vec![PROGRAM], 1, true),
            (vec![PROGRAM, GAP], 2, true),
            (vec![PROGRAM], 2, false),
            (vec![PROGRAM, GAP], 3, false),
            (vec![PROGRAM, &PROGRAM.replace("\"pid\":9", "\"pid\":8")], 1, false),
            (vec![PROGRAM, NOBODYS], 2, true),
            (vec![PROGRAM, NOBODYS], 3, false),
        ] {
            let (_folder, mut ledger) = ledger(&records);
            ledger.did("c", "exec", done);
            let missing = ledger.check_deeds();
            assert_eq!(ledger.wrong.is_empty(), is_fine, "{records:?} {done} {:?}", ledger.wrong);
            assert_eq!(
                missing,
                done.saturating_sub(records.iter().filter(|of| of.contains("event")).count() as u64)
            );
        }
    }

    #[test]
    fn what_is_lost_of_nobody_makes_good_for_one_container_only() {
        let (_folder, mut ledger) = ledger(&[NOBODYS]);
        ledger.did("c", "exec", 1);
        ledger.did("d", "exec", 1);
        assert_eq!(ledger.check_deeds(), 2);
        assert_eq!(ledger.wrong.len(), 1, "{:?}", ledger.wrong);
    }

    #[test]
    fn what_does_not_arrive_is_wrong_unless_it_is_told_and_so_is_what_was_not_written() {
        let dropped = r#""kind":"gap","where":"export","from_seq":1,"to_seq":1}"#;
        let (_folder, mut books) = ledger(&[PROGRAM, dropped]);
        books.arrive(&format!("{{\"seq\":2,{dropped}"));
        assert_eq!(books.check_arrivals(2), (1, 1));
        assert_eq!(books.wrong, [""; 0]);
        let (_folder, mut books) = ledger(&[PROGRAM, GAP]);
        books.arrive(&format!("{{\"seq\":2,{GAP}"));
        books.arrive(&format!("{{\"seq\":2,{GAP} "));
        // One that is cut says so.
        books.arrive(&format!("{{\"cut_bytes\":1,\"seq\":2,{GAP} "));
        books.check_arrivals(2);
        assert_eq!(books.wrong.len(), 2, "{:?}", books.wrong);
    }

    #[test]
    fn log_is_read_across_segments_and_a_number_that_is_missing_is_an_error() {
        let (folder, mut books) = ledger(&[PROGRAM, GAP]);
        let next = |seq: u64| format!("{{\"seq\":{seq},{GAP}\n");
        std::fs::write(folder.path().join(format!("{:020}.ndjson", 3)), [next(3), next(5)].concat()).unwrap();
        assert!(books.read_log().is_err());
        assert_eq!(books.last_seq(), 3);
    }
}
