//! `taffrail diff`: what a service does in one time and not in another: programs, files, peers.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::audit::DEFAULT_FOLDER;
use super::audit::search::exit_code;
use super::audit::select::time;
use super::changes::whole;
use super::{FAILED, complain};
use crate::audit::query::Query;
use crate::audit::search::{Options, Order, Outcome, SearchError, search};
use crate::event::logged::{Object, Record};
use crate::event::text::{escaped, shown_json};

/// What a service did in one time and not in another. Exit codes: 0 there is a difference, 1 there is none, 2 the log could
/// not be read, or not all of it.
#[derive(clap::Args)]
pub struct Args {
    /// The first time: FROM..TO, each RFC 3339 or how long ago (`2d..1d`).
    #[arg(long, value_name = "FROM..TO", value_parser = window)]
    before: Window,
    /// The second time.
    #[arg(long, value_name = "FROM..TO", value_parser = window)]
    after: Window,
    /// Of this container: its id, the beginning of it, or its name.
    #[arg(long, value_name = "ID")]
    container: Option<String>,
    /// Of this pod: its name, or NAMESPACE/NAME.
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// Of containers that were made from this image, with or without its tag.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Folder of the log.
    #[arg(long = "log", value_name = "FOLDER", default_value = DEFAULT_FOLDER)]
    folder: PathBuf,
    /// Print JSON instead of text: one difference a line.
    #[arg(long)]
    json: bool,
}

/// From and to, in ns since 1970.
type Window = (u64, u64);

fn window(text: &str) -> Result<Window, String> {
    let (from, to) = text.split_once("..").ok_or("write FROM..TO")?;
    let window = (time(from)?, time(to)?);
    if window.0 < window.1 { Ok(window) } else { Err("it ends before it begins".to_owned()) }
}

/// More different things than this are not remembered, which is told.
const SEEN_MAX: usize = 500_000;

/// Nor are more bytes of their names, in each of the two times.
const SEEN_BYTES_MAX: usize = 128 << 20;

/// What was seen: sort and name; how often, and the first record.
#[derive(Default)]
struct Seen {
    things: BTreeMap<(&'static str, Vec<u8>), (u64, u64)>,
    bytes: usize,
    /// Times that something was seen that is not remembered.
    left_out: u64,
}

pub fn run(args: &Args) -> ExitCode {
    let seen = of_image(args).and_then(|(ids, outcome)| {
        Ok((outcome, look(args, &ids, args.before)?, look(args, &ids, args.after)?))
    });
    let (named, (before, first), (after, second)) = match seen {
        Ok(seen) => seen,
        Err(error) => {
            complain(&error, Some("name the log's folder: `--log FOLDER`"));
            return ExitCode::from(FAILED);
        }
    };
    let mut count = 0;
    for (word, these, others) in [("new", &after, &before), ("gone", &before, &after)] {
        for ((sort, name), (times, seq)) in
            these.things.iter().filter(|(key, _)| !others.things.contains_key(*key))
        {
            count += 1;
            if args.json {
                let name = String::from_utf8_lossy(name);
                let line =
                    json!({ "change": word, "sort": sort, "what": name, "count": times, "first_seq": seq });
                println!("{}", shown_json(&line));
            } else {
                println!("{word:<4} {sort:<7} {}  ({times} times, first in record {seq})", escaped(name));
            }
        }
    }
    for (which, seen) in [("first", &before), ("second", &after)] {
        if seen.left_out > 0 {
            eprintln!(
                "taffrail: {} sights of the {which} time are left out; choose a shorter one",
                seen.left_out
            );
        }
        if seen.things.is_empty() {
            eprintln!("taffrail: nothing is known of the {which} time");
        }
    }
    // What was left out of one time looks as if it were new in the other.
    if before.left_out + after.left_out > 0 {
        return ExitCode::from(FAILED);
    }
    let mut damaged = [named.damaged, first.damaged, second.damaged].concat();
    damaged.sort();
    damaged.dedup();
    exit_code(&Outcome { found: count, damaged, ..Outcome::default() })
}

/// The ids of the containers of an image: what was seen before more was known has these alone.
fn of_image(args: &Args) -> Result<(HashSet<Vec<u8>>, Outcome), SearchError> {
    let mut ids = HashSet::new();
    let Some(image) = &args.image else { return Ok((ids, Outcome::default())) };
    let query = Query::all().of_kinds(vec!["container".to_owned()]);
    let options = Options { order: Order::OldestFirst, with_index: true };
    let mut outcome = search(&args.folder, &query, options, &mut |line| {
        let record = Record::parse(line).filter(|record| is_of_image(record, image));
        ids.extend(record.as_ref().and_then(id).map(<[u8]>::to_vec));
        Ok(ids.len() < SEEN_MAX)
    })?;
    if ids.len() >= SEEN_MAX {
        let more = "more containers are of that image than are looked for in records that have an id alone";
        outcome.damaged.push((args.folder.clone(), more.to_owned()));
    }
    Ok((ids, outcome))
}

fn id<'a>(record: &'a Record<'_>) -> Option<&'a [u8]> {
    record.container()?.text("id")
}

fn look(args: &Args, ids: &HashSet<Vec<u8>>, (from, to): Window) -> Result<(Seen, Outcome), SearchError> {
    let mut query = Query::all().between(Some(from), Some(to));
    if let Some(container) = &args.container {
        query = query.of_container(container);
    }
    if let Some(pod) = &args.pod {
        query = query.of_pod(pod);
    }
    let mut seen = Seen::default();
    let options = Options { order: Order::OldestFirst, with_index: true };
    let outcome = search(&args.folder, &query, options, &mut |line| {
        if let Some(record) = Record::parse(line)
            && args.image.as_deref().is_none_or(|image| {
                let has_no_image = || record.container().is_some_and(|of| of.text("image").is_none());
                is_of_image(&record, image)
                    || has_no_image() && id(&record).is_some_and(|id| ids.contains(id))
            })
        {
            seen.read(&record);
        }
        Ok(true)
    })?;
    Ok((seen, outcome))
}

fn is_of_image(record: &Record<'_>, wanted: &str) -> bool {
    let image = record.container().and_then(|container| container.str("image"));
    image.is_some_and(|image| image == wanted || crate::enrich::metadata::split_image(image).0 == wanted)
}

impl Seen {
    fn read(&mut self, record: &Record<'_>) {
        let Some(event) = record.event() else { return };
        let seq = record.top.number("seq").unwrap_or_default() as u64;
        if let Some(exe) =
            record.process().and_then(|process| process.text("exe")).filter(|exe| !exe.is_empty())
        {
            self.add("program", exe.to_vec(), seq);
        }
        if event.number("result").is_some_and(|result| result < 0 && result != -i64::from(libc::EINPROGRESS))
        {
            return;
        }
        match record.event_kind() {
            "open" | "write" | "change" => {
                for (file, base) in [("file", "base"), ("target", "target_base")] {
                    let Some(file) = event.text(file).filter(|file| !file.is_empty()) else { continue };
                    let file = whole(event, base, file);
                    // A process's own folder is called otherwise each time.
                    if file.first() == Some(&b'/') && !file.starts_with(b"/proc/") {
                        self.add("file", file, seq);
                    }
                }
            }
            "connect" | "udp" | "flow" => self.peer(event, event.str("direction") == Some("in"), seq),
            "accept" => self.peer(event, true, seq),
            "listen" => {
                let protocol = event.str("protocol").unwrap_or_default();
                let port = event.number("local_port").unwrap_or_default();
                self.add("service", format!("{protocol} port {port}").into_bytes(), seq);
            }
            "dns" if event.str("message") == Some("query") => {
                self.add("name", event.text("question_name").unwrap_or_default().to_vec(), seq);
            }
            _ => {}
        }
    }

    /// Whom the service reached, and by whom it was reached: of these the port counts that was reached.
    fn peer(&mut self, event: &Object<'_>, is_in: bool, seq: u64) {
        if let Some(path) = event.text("path").filter(|path| !path.is_empty()) {
            self.add("peer", [b"unix ", path].concat(), seq);
        }
        let Some(ip) = event.str("remote_ip") else { return };
        let protocol = event.str("protocol").unwrap_or_default();
        if is_in {
            let port = event.number("local_port").unwrap_or_default();
            self.add("client", format!("{protocol} {ip} to port {port}").into_bytes(), seq);
        } else {
            let port = event.number("remote_port").unwrap_or_default();
            self.add("peer", format!("{protocol} {ip} port {port}").into_bytes(), seq);
        }
    }

    fn add(&mut self, sort: &'static str, name: Vec<u8>, seq: u64) {
        if let Some((count, _)) = self.things.get_mut(&(sort, name.clone())) {
            *count += 1;
        } else if self.things.len() < SEEN_MAX && self.bytes + name.len() <= SEEN_BYTES_MAX {
            self.bytes += name.len();
            self.things.insert((sort, name), (1, seq));
        } else {
            self.left_out += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_has_two_times_in_their_order() {
        assert_eq!(window("1970-01-01T00:00:01Z..1970-01-01T00:00:02Z"), Ok((1_000_000_000, 2_000_000_000)));
        assert!(window("2h..1h").is_ok());
        for text in ["", "1h", "1h..2h", "..", "1h.."] {
            assert!(window(text).is_err(), "{text}");
        }
    }

    /// What is seen in events, each with its sort.
    fn seen(events: &[&str]) -> Vec<String> {
        let mut seen = Seen::default();
        for (seq, event) in (1..).zip(events) {
            let line =
                format!(r#"{{"seq":{seq},"kind":"event","event":{{{event}}},"process":{{"exe":"/bin/a"}}}}"#);
            seen.read(&Record::parse(line.as_bytes()).unwrap());
        }
        let told = |((sort, name), (times, seq)): (&(&str, Vec<u8>), &(u64, u64))| {
            format!("{sort} {} {times} {seq}", escaped(name))
        };
        seen.things.iter().map(told).collect()
    }

    #[test]
    fn peers_are_told_from_clients_and_files_by_their_whole_paths() {
        let local = r#""local_ip":"10.0.0.2","local_port":40000"#;
        let remote = r#""remote_ip":"10.0.0.1","remote_port":443"#;
        let of =
            |kind: &str, more: &str| format!(r#""kind":"{kind}","protocol":"tcp",{local},{remote}{more}"#);
        let events = [
            of("connect", r#","result":-115"#),
            of("connect", r#","result":-111"#),
            of("accept", r#","result":4"#),
            of("flow", r#","direction":"in""#),
            of("flow", r#","direction":"out""#),
            of("listen", ""),
            r#""kind":"connect","type":"connect","result":0,"path":"/run/docker.sock""#.to_owned(),
            r#""kind":"open","type":"openat","result":3,"file":"a","base":"/etc""#.to_owned(),
            r#""kind":"open","type":"openat","result":3,"file":"/proc/7/maps""#.to_owned(),
            r#""kind":"open","type":"openat","result":-2,"file":"/none""#.to_owned(),
            r#""kind":"change","type":"rename","result":0,"file":"/x","target":"y","target_base":"/opt""#
                .to_owned(),
            r#""kind":"dns","message":"query","question_name":"example.com""#.to_owned(),
            r#""kind":"dns","message":"answer","question_name":"example.org""#.to_owned(),
        ];
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        assert_eq!(
            seen(&events),
            [
                "client tcp 10.0.0.1 to port 40000 2 3",
                "file /etc/a 1 8",
                "file /opt/y 1 11",
                "file /x 1 11",
                "name example.com 1 12",
                "peer tcp 10.0.0.1 port 443 2 1",
                "peer unix /run/docker.sock 1 7",
                "program /bin/a 13 1",
                "service tcp port 40000 1 6",
            ]
        );
    }

    #[test]
    fn what_is_not_remembered_is_counted() {
        let mut seen = Seen { bytes: SEEN_BYTES_MAX - 3, ..Seen::default() };
        for name in ["abc", "d", "abc"] {
            seen.add("file", name.into(), 1);
        }
        assert_eq!((seen.things.len(), seen.left_out), (1, 1));
    }
}
