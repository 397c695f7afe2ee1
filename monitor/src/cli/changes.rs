//! `taffrail changes`: the ledger of what changed inside a container, from the log: files, packages, users, programs that are
//! new to it, sessions that were started into it, rights that were gained.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::audit::DEFAULT_FOLDER;
use super::audit::search::exit_code;
use super::audit::select::time;
use super::{FAILED, complain};
use crate::audit::query::Query;
use crate::audit::search::{Options, Order, search};
use crate::event::logged::{Json, Object, Record};
use crate::event::text::{escaped, shown_json};
use crate::rules::Filter;

/// What changed inside a container. Exit codes: 0 something did, 1 nothing, 2 the log could not be read, or not all of it.
#[derive(clap::Args)]
pub struct Args {
    /// The container: its id, the beginning of it, or its name.
    #[arg(long, value_name = "ID")]
    container: String,
    /// Folder of the log.
    #[arg(long = "log", value_name = "FOLDER", default_value = DEFAULT_FOLDER)]
    folder: PathBuf,
    /// Not before: a time (RFC 3339, `2026-11-25 10:00` in UTC) or how long ago (`90s`, `30m`, `2h`, `7d`).
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<u64>,
    /// Before, in the same forms.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<u64>,
    /// Print JSON instead of text: one change a line.
    #[arg(long)]
    json: bool,
}

/// What kinds of event tell a change.
const CONDITION: &str = "evt.kind in (exec, fork, write, change, cred) or evt.is_open_write = true";

/// More different changes than this are only counted.
const CHANGES_MAX: usize = 100_000;

/// Nor are more bytes remembered of names and paths.
const BYTES_MAX: usize = 256 << 20;

/// Nor of processes, apart from that: whoever makes many of them crowds out no change.
const PROCESS_BYTES_MAX: usize = 256 << 20;

/// What an entry takes besides the bytes of its texts, about.
const ENTRY_BYTES: usize = 128;

/// Ancestors that are told.
const LINEAGE_MAX: usize = 8;

/// Sorts of change, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Sort {
    Session,
    Program,
    Rights,
    Users,
    Packages,
    File,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Sort::Session => "session",
            Sort::Program => "program",
            Sort::Rights => "rights",
            Sort::Users => "users",
            Sort::Packages => "packages",
            Sort::File => "file",
        }
    }

    fn of_file(path: &[u8]) -> Self {
        const PACKAGES: &[&[u8]] = &[
            b"/var/lib/dpkg/",
            b"/lib/apk/db/",
            b"/usr/lib/apk/db/",
            b"/var/lib/rpm/",
            b"/usr/lib/sysimage/rpm/",
            b"/var/lib/pacman/local/",
        ];
        const USERS: &[&[u8]] =
            &[b"/etc/passwd", b"/etc/shadow", b"/etc/group", b"/etc/gshadow", b"/etc/sudoers"];
        if PACKAGES.iter().any(|folder| path.starts_with(folder)) {
            return Sort::Packages;
        }
        // Also what is put in their place, and what is left of them: `/etc/passwd-`, `/etc/shadow.lock`.
        if USERS.iter().any(|file| path.starts_with(file)) { Sort::Users } else { Sort::File }
    }
}

/// One thing that changed, however often.
struct Change {
    /// In which ways.
    how: BTreeSet<&'static str>,
    count: u64,
    first_seq: u64,
    first_time: String,
    last_time: String,
    /// Who did it first, and who started that: names, the nearest first.
    lineage: Vec<Vec<u8>>,
    user: Vec<u8>,
}

#[derive(Default)]
struct Ledger {
    changes: BTreeMap<(Sort, Vec<u8>), Change>,
    left_out: u64,
    /// What that takes, with the files and sessions.
    bytes: usize,
    /// What the processes take.
    process_bytes: usize,
    /// Name and parent of each process.
    processes: HashMap<Vec<u8>, (Vec<u8>, Vec<u8>)>,
    /// What was started, by the session's key.
    sessions: HashMap<Vec<u8>, Vec<u8>>,
    /// Files that were written.
    written: BTreeSet<Vec<u8>>,
}

pub fn run(args: &Args) -> ExitCode {
    let query =
        Filter::from_text(CONDITION, "changes").and_then(|filter| Query::all().with_condition(filter));
    let Ok(query) = query else {
        eprintln!("error: the condition of this version is wrong");
        return ExitCode::from(FAILED);
    };
    let query = query.of_container(&args.container).between(args.since, args.until);
    let mut ledger = Ledger::default();
    let options = Options { order: Order::OldestFirst, with_index: true };
    let outcome = search(&args.folder, &query, options, &mut |line| {
        if let Some(record) = Record::parse(line) {
            ledger.read(&record);
        }
        Ok(true)
    });
    let mut outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            complain(&error, Some("name the log's folder: `--log FOLDER`"));
            return ExitCode::from(FAILED);
        }
    };
    if args.json {
        ledger.print_json()
    } else {
        ledger.print()
    }
    if ledger.left_out > 0 {
        eprintln!("taffrail: {} more changes are left out; choose a shorter time", ledger.left_out);
    }
    outcome.found = ledger.changes.len() as u64;
    exit_code(&outcome)
}

impl Ledger {
    fn read(&mut self, record: &Record<'_>) {
        let (Some(event), Some(process)) = (record.event(), record.process()) else { return };
        self.remember(process);
        if event.number("result").is_some_and(|result| result < 0) {
            return;
        }
        if let Some(session) = process.text("exec_session") {
            let what = match self.sessions.get(session) {
                Some(what) => what.clone(),
                None => [session, b": ", &command_line(event, process)].concat(),
            };
            self.add(record, Sort::Session, &what, "started");
            if !self.sessions.contains_key(session) && self.has_room(session.len() + what.len()) {
                self.sessions.insert(session.to_vec(), what);
            }
        }
        match record.event_kind() {
            "exec" => self.exec(record, event),
            "cred" => self.rights(record, event, process),
            "fork" => {}
            _ => self.file(record, event),
        }
    }

    fn remember(&mut self, process: &Object<'_>) {
        let text = |name| process.text(name).unwrap_or_default();
        let (own, parent) = (text("key"), text("parent_key"));
        self.place(own, (text("name"), parent), true);
        // An ancestor is told of by its descendants, and tells more itself.
        self.place(parent, (text("parent_name"), &[]), false);
    }

    fn place(&mut self, key: &[u8], (name, parent): (&[u8], &[u8]), is_own: bool) {
        if key.is_empty() {
            return;
        }
        let entry = || (name.to_vec(), parent.to_vec());
        if let Some(known) = self.processes.get_mut(key) {
            if is_own {
                *known = entry();
            }
        } else if self.process_bytes < PROCESS_BYTES_MAX {
            self.process_bytes += key.len() + name.len() + parent.len() + ENTRY_BYTES;
            self.processes.insert(key.to_vec(), entry());
        }
    }

    /// Whether so many bytes more can be remembered; they are, then.
    fn has_room(&mut self, bytes: usize) -> bool {
        let bytes = self.bytes + bytes + ENTRY_BYTES;
        let has_room = bytes <= BYTES_MAX;
        if has_room {
            self.bytes = bytes;
        }
        has_room
    }

    fn exec(&mut self, record: &Record<'_>, event: &Object<'_>) {
        let exe = event.text("exe").unwrap_or_default();
        let is = |flag: &str| event.list("exe_flags").iter().any(|item| item.text() == Some(flag.as_bytes()));
        let ways = [
            (is("upper_layer"), "not of the image"),
            (is("tmpfs"), "in memory"),
            (is("detached"), "without a file"),
            (is("deleted"), "deleted"),
            (self.written.contains(exe), "written before"),
        ];
        for (_, how) in ways.iter().filter(|(is_so, _)| *is_so) {
            self.add(record, Sort::Program, exe, how);
        }
        // Of a script the interpreter is the image's own.
        let script = event.text("filename").unwrap_or_default();
        if script != exe && self.written.contains(script) {
            self.add(record, Sort::Program, script, "written before");
        }
    }

    fn rights(&mut self, record: &Record<'_>, event: &Object<'_>, process: &Object<'_>) {
        let (old, new) = (event.number("old_euid"), event.number("euid"));
        let name = process.text("name").unwrap_or_default();
        if let (Some(old), Some(new)) = (old, new)
            && old != new
        {
            let what = [name, format!(": user {old} to {new}").as_bytes()].concat();
            self.add(record, Sort::Rights, &what, "user changed");
        }
        let gained: Vec<_> = event.list("gained_caps").iter().filter_map(Json::text).collect();
        if !gained.is_empty() {
            let what = [name, b": ", &gained.join(&b' ')[..]].concat();
            self.add(record, Sort::Rights, &what, "capabilities gained");
        }
    }

    fn file(&mut self, record: &Record<'_>, event: &Object<'_>) {
        let Some(path) = event.text("file").filter(|path| !path.is_empty()) else { return };
        // Pipes, devices and terminals are no files of the container; of a change the mode is that of what was changed.
        let is_opened = matches!(record.event_kind(), "open" | "write");
        let is_no_file = is_opened && event.str("mode").is_some_and(|mode| !mode.starts_with("10"));
        if is_no_file || is_of_kernel(path) {
            return;
        }
        let mut path = whole(event, "base", path);
        let mut is_new = true;
        let how = match (record.event_kind(), event.str("type").unwrap_or_default()) {
            ("open", _) => match event.number("flags").unwrap_or(0) as i32 {
                flags if flags & libc::O_TRUNC != 0 => "emptied",
                flags if flags & libc::O_CREAT != 0 => "opened to write, made if need be",
                // Whether it is written then, only a `write` tells, which need not be recorded.
                flags if flags & libc::O_ACCMODE != libc::O_RDONLY => "opened to write",
                _ => return,
            },
            ("write", _) => "written",
            (_, name) => way(name),
        };
        if let Some(target) = event.text("target").filter(|target| !target.is_empty()) {
            // What has another name now is no newer than it was.
            is_new = how == "made" || self.written.contains(&path);
            if how == "renamed" {
                self.add(record, Sort::of_file(&path), &path, "renamed");
                self.written.remove(&path);
            }
            // What a link is called, or a file from now on.
            path = whole(event, "target_base", target);
        }
        if is_new
            && matches!(how, "written" | "emptied" | "renamed" | "linked" | "made")
                | how.starts_with("opened to write")
            && !self.written.contains(&path)
            && self.has_room(path.len())
        {
            self.written.insert(path.clone());
        }
        self.add(record, Sort::of_file(&path), &path, how);
    }

    fn add(&mut self, record: &Record<'_>, sort: Sort, what: &[u8], how: &'static str) {
        let time = record.top.str("time").unwrap_or_default();
        let key = (sort, what.to_vec());
        if let Some(change) = self.changes.get_mut(&key) {
            change.how.insert(how);
            change.count += 1;
            change.last_time = time.to_owned();
            return;
        }
        if self.changes.len() >= CHANGES_MAX || !self.has_room(what.len()) {
            self.left_out += 1;
            return;
        }
        let process = record.process();
        let lineage = self.lineage(process.and_then(|process| process.text("key")).unwrap_or_default());
        let change = Change {
            how: BTreeSet::from([how]),
            count: 1,
            first_seq: record.top.number("seq").unwrap_or_default() as u64,
            first_time: time.to_owned(),
            last_time: time.to_owned(),
            lineage,
            user: process.and_then(|process| process.text("user")).unwrap_or_default().to_vec(),
        };
        self.changes.insert(key, change);
    }

    /// The names of a process and its ancestors, as far as they are known.
    fn lineage(&self, key: &[u8]) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let mut key = key;
        while let Some((name, parent)) = self.processes.get(key).filter(|_| names.len() < LINEAGE_MAX) {
            names.push(name.clone());
            key = parent;
        }
        names
    }

    fn print(&self) {
        let mut last = None;
        for ((sort, what), change) in &self.changes {
            if last != Some(sort) {
                let count = self.changes.keys().filter(|(other, _)| other == sort).count();
                println!("{} ({count})", sort.name());
                last = Some(sort);
            }
            let Change { how, count, first_seq, first_time, last_time: _, lineage, user } = change;
            let how: Vec<_> = how.iter().copied().collect();
            let lineage: Vec<_> = lineage.iter().map(|name| escaped(name)).collect();
            let often = if *count > 1 { format!(", {count} times") } else { String::new() };
            let user = if user.is_empty() { String::new() } else { format!(" as {}", escaped(user)) };
            let time = escaped(first_time.get(..19).unwrap_or(first_time).as_bytes());
            println!("  {time}  {}", escaped(what));
            println!("      {}{often}; by {}{user}; record {first_seq}", how.join(", "), lineage.join(" < "));
        }
    }

    fn print_json(&self) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for ((sort, what), change) in &self.changes {
            let Change { how, count, first_seq, first_time, last_time, lineage, user } = change;
            let lineage: Vec<_> = lineage.iter().map(|name| text(name)).collect();
            let line = json!({
                "sort": sort.name(), "what": text(what), "how": how, "count": count, "first_seq": first_seq,
                "first_time": first_time, "last_time": last_time, "lineage": lineage, "user": text(user),
            });
            println!("{}", shown_json(&line));
        }
    }
}

fn command_line(event: &Object<'_>, process: &Object<'_>) -> Vec<u8> {
    match process.text("cmdline") {
        Some(line) => line.to_vec(),
        // An exec has its arguments one by one.
        None => event.list("args").iter().filter_map(Json::text).collect::<Vec<_>>().join(&b' '),
    }
}

/// A path with the folder that it is relative to.
pub(super) fn whole(event: &Object<'_>, base: &str, path: &[u8]) -> Vec<u8> {
    let base = event.text(base).unwrap_or_default();
    let mut whole = path.to_vec();
    crate::event::path::whole(path, base, &mut |path| {
        whole = path.to_vec();
        true
    });
    whole
}

/// Files that show the kernel, or are devices.
fn is_of_kernel(path: &[u8]) -> bool {
    // Files in memory are the container's own.
    [&b"/proc/"[..], b"/sys/", b"/dev/"].iter().any(|folder| path.starts_with(folder))
        && !path.starts_with(b"/dev/shm/")
}

/// What a call of the kind `change` does to its file.
fn way(name: &str) -> &'static str {
    let has = |part: &str| name.contains(part);
    match name {
        _ if has("rename") => "renamed",
        _ if has("unlink") || has("rmdir") => "removed",
        _ if has("symlink") || has("link") => "linked",
        _ if has("mkdir") || has("mknod") => "made",
        _ if has("truncate") || has("allocate") => "written",
        _ if has("chmod") => "permissions changed",
        _ if has("chown") => "owner changed",
        _ if has("xattr") => "attributes changed",
        _ if has("utime") => "times changed",
        _ => "changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, event: &str, process: &str) -> String {
        format!(
            r#"{{"seq":{seq},"prev":"","kind":"event","time":"2026-11-25T15:54:05.617944851Z","event":{{{event}}},"process":{{"key":"{process}","name":"n{process}","parent_key":"1","parent_name":"init","user":"root"}},"container":{{"id":"c"}}}}"#
        )
    }

    #[test]
    fn ledger_has_what_changed_and_not_what_failed_or_is_no_file() {
        let events = [
            r#""kind":"write","type":"write","result":4,"file":"/tmp/x","mode":"100755""#,
            r#""kind":"change","type":"rename","result":0,"file":"x","base":"/tmp","target":"y","target_base":"/opt""#,
            r#""kind":"exec","type":"execve","exe":"/opt/y","exe_flags":["upper_layer"],"filename":"/opt/y""#,
            r#""kind":"write","type":"write","result":4,"file":"/dev/null","mode":"20666""#,
            r#""kind":"write","type":"write","result":-5,"file":"/a","mode":"100644""#,
            r#""kind":"open","type":"openat","result":3,"file":"/etc/passwd","flags":513,"mode":"100644""#,
            r#""kind":"open","type":"openat","result":3,"file":"/b","flags":1,"mode":"100644""#,
            r#""kind":"write","type":"write","result":1,"file":"/var/lib/dpkg/status","mode":"100644""#,
            r#""kind":"cred","type":"setuid","result":0,"old_euid":1000,"euid":0,"gained_caps":["CAP_SYS_ADMIN"]"#,
            r#""kind":"change","type":"unlinkat","result":0,"file":"/c""#,
            r#""kind":"change","type":"rmdir","result":0,"file":"/d","mode":"40755""#,
            r#""kind":"write","type":"write","result":1,"file":"/dev/shm/p","mode":"100644""#,
            r#""kind":"change","type":"rename","result":0,"file":"/bin/a","target":"/bin/b""#,
            r#""kind":"exec","type":"execve","exe":"/bin/b","filename":"/bin/b""#,
        ];
        let mut ledger = Ledger::default();
        for (seq, event) in (1..).zip(events) {
            ledger.read(&Record::parse(record(seq, event, "7").as_bytes()).unwrap());
        }
        let told: Vec<String> = ledger
            .changes
            .iter()
            .map(|((sort, what), change)| {
                let how: Vec<_> = change.how.iter().copied().collect();
                format!("{} {} {}", sort.name(), escaped(what), how.join(","))
            })
            .collect();
        assert_eq!(
            told,
            [
                "program /opt/y not of the image,written before",
                "rights n7: CAP_SYS_ADMIN capabilities gained",
                "rights n7: user 1000 to 0 user changed",
                "users /etc/passwd emptied",
                "packages /var/lib/dpkg/status written",
                "file /b opened to write",
                "file /bin/a renamed",
                "file /bin/b renamed",
                "file /c removed",
                "file /d removed",
                "file /dev/shm/p written",
                "file /opt/y renamed",
                "file /tmp/x renamed,written",
            ]
        );
        let lineage = &ledger.changes.values().next().unwrap().lineage;
        assert_eq!(lineage, &[b"n7".to_vec(), b"init".to_vec()]);
    }

    #[test]
    fn what_is_not_remembered_is_counted_and_lineage_ends_there() {
        let process_bytes = PROCESS_BYTES_MAX;
        let mut ledger = Ledger { bytes: BYTES_MAX - ENTRY_BYTES, process_bytes, ..Ledger::default() };
        let event = |name: &str| format!(r#""kind":"write","type":"write","result":4,"file":"/{name}""#);
        for (seq, name) in [(1, "a"), (2, "b"), (3, "b")] {
            ledger.read(&Record::parse(record(seq, &event(name), "7").as_bytes()).unwrap());
        }
        assert_eq!((ledger.changes.len(), ledger.left_out, ledger.processes.len()), (0, 3, 0));
        assert!(ledger.bytes <= BYTES_MAX);
    }
}
