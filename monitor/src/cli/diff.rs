//! `taffrail diff`: what a service does in one time and not in another: programs, files, peers.

use std::collections::BTreeMap;
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
    let seen = look(args, args.before).and_then(|before| Ok((before, look(args, args.after)?)));
    let ((before, first), (after, second)) = match seen {
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
    let damaged = first.damaged.into_iter().chain(second.damaged).collect();
    exit_code(&Outcome { found: count, damaged, ..Outcome::default() })
}

fn look(args: &Args, (from, to): Window) -> Result<(Seen, Outcome), SearchError> {
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
            && args.image.as_deref().is_none_or(|image| is_of_image(&record, image))
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
            "connect" | "udp" | "flow" => self.peer(event, seq),
            "dns" if event.str("message") == Some("query") => {
                self.add("name", event.text("question_name").unwrap_or_default().to_vec(), seq);
            }
            _ => {}
        }
    }

    /// Whom the service reached, and by whom it was reached: of these the port counts that was reached.
    fn peer(&mut self, event: &Object<'_>, seq: u64) {
        let Some(ip) = event.str("remote_ip") else { return };
        let protocol = event.str("protocol").unwrap_or_default();
        if event.str("direction") == Some("in") {
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
}
