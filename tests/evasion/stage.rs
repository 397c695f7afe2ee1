//! Where a trick is played: a daemon that records all that containers do, a sandbox, and at the end a verdict. The
//! daemon is stopped before anything is judged, so what is not in its log then was not seen.

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt as _;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use taffrail_tests::daemon::Daemon;
use taffrail_tests::sandbox::{self, Options, Ran, Sandbox};
use taffrail_tests::score::{Score, Verdict};

use crate::{BLIND, Blind, When};

/// A trick that is being played.
pub struct Stage {
    trick: &'static str,
    tier: &'static str,
    /// The monitor.
    pub daemon: Daemon,
    /// The attacker's container.
    pub sandbox: Sandbox,
}

impl Stage {
    /// Sets the stage; where no probe can be loaded or no sandbox made, says so and gives `None`.
    pub fn set(trick: &'static str) -> Option<Self> {
        Self::with(trick, &[crate::ALL], Options::default())
    }

    /// As [`Stage::set`], with a network that belongs to the sandbox.
    pub fn with_network(trick: &'static str) -> Option<Self> {
        Self::with(trick, &[crate::ALL], Options { network: true })
    }

    /// As [`Stage::set`], with other settings of the daemon.
    pub fn with(trick: &'static str, settings: &[&str], options: Options) -> Option<Self> {
        if let Some(reason) = taffrail_tests::cannot_load().or_else(sandbox::unavailable) {
            skip(trick, "none", &reason);
            return None;
        }
        // Rules are not what is tested: only what there is for them to look at.
        let settings = [settings, &["rules.embedded=false"]].concat();
        let daemon = Daemon::start(&settings);
        let sandbox = Sandbox::with(options).expect("a sandbox");
        // Once this process's end is in the log the daemon has looked at all that was there before, and knows whose
        // the sandbox is: from here on nothing is seen only because it does not know better yet.
        let first = sandbox.run(|| Ok(())).expect("a process in the sandbox");
        daemon.wait_for(|record| {
            record["event"]["kind"] == "exit"
                && record["process"]["pid"] == first.pid
                && record["container"]["id"] == sandbox.id()
        });
        let tier = tier(&taffrail_tests::daemon::records(&daemon.log()));
        Some(Self { trick, tier, daemon, sandbox })
    }

    /// Plays a part in the sandbox. If this kernel or machine cannot do that, says so and gives `None`.
    pub fn play<T: Serialize + DeserializeOwned>(
        &self,
        part: impl FnOnce() -> io::Result<T>,
    ) -> Option<Ran<T>> {
        match self.sandbox.run(part) {
            Ok(ran) => Some(ran),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                skip(self.trick, self.tier, &error.to_string());
                None
            }
            Err(error) => panic!("{}: the trick itself failed: {error}", self.trick),
        }
    }

    /// Says that the trick cannot be played here.
    pub fn skip(self, reason: &str) {
        skip(self.trick, self.tier, reason);
    }

    /// The end of the play: nothing is recorded any more.
    pub fn end(self) -> Ending {
        let Self { trick, tier, daemon, sandbox } = self;
        let (status, records) = daemon.stop();
        assert!(status.success(), "{trick}: the daemon ended with {status}");
        Ending { trick, tier, container: sandbox.id().to_owned(), records }
    }
}

fn skip(trick: &str, tier: &str, reason: &str) {
    taffrail::testing::skipped(trick, reason);
    let (trick, tier, note) = (trick.to_owned(), tier.to_owned(), reason.to_owned());
    Score { trick, verdict: Verdict::Skipped, tier, note }.publish();
}

/// What the log says of the probes.
fn probes(records: &[Value]) -> impl Iterator<Item = &Value> {
    let probes = records.iter().find(|record| record["kind"] == "probes");
    probes.and_then(|record| record["probes"].as_array()).into_iter().flatten()
}

/// The tier of hooks that is at work: strong as soon as one such probe is attached.
fn tier(records: &[Value]) -> &'static str {
    let strong = probes(records).any(|probe| probe["tier"] == "strong" && probe["state"] == "attached");
    if strong { "strong" } else { "portable" }
}

/// What the log says at the end.
pub struct Ending {
    trick: &'static str,
    tier: &'static str,
    /// The container's id.
    pub container: String,
    /// All records.
    pub records: Vec<Value>,
}

impl Ending {
    /// Events of a kind in the container.
    pub fn events<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let in_container = |record: &&Value| record["container"]["id"] == *self.container;
        self.records
            .iter()
            .filter(in_container)
            .filter(move |record| record["event"]["kind"] == kind && record["kind"] != "gap")
    }

    /// Events of a kind by one process, told by the host's process id.
    pub fn by<'a>(&'a self, pid: u32, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events(kind).filter(move |record| record["process"]["pid"] == pid)
    }

    /// Events of a kind by one process, told by the sandbox's process id.
    pub fn by_vpid<'a>(&'a self, vpid: i32, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events(kind).filter(move |record| record["process"]["vpid"] == vpid)
    }

    /// Events of a kind that the container lost, as gap records say.
    pub fn lost(&self, kind: &str) -> u64 {
        let gaps = self.records.iter().filter(|record| {
            record["kind"] == "gap" && record["what"] == kind && record["container"]["id"] == *self.container
        });
        gaps.filter_map(|record| record["count"].as_u64()).sum()
    }

    /// The plain way to the same effect must be seen: else the check could not succeed.
    #[track_caller]
    pub fn twin(&self, what: &str, seen: bool) {
        assert!(seen, "{}: {what} is not seen even when it is done plainly, in{}", self.trick, self.dump());
    }

    /// How an opened file was seen: by the kernel's object, under the path that `path` says.
    pub fn opened(&self, pid: u32, object: &Object, path: &str) -> (Verdict, String) {
        self.opened_among(self.by(pid, "open").collect(), object, path)
    }

    /// As [`Ending::opened`], looking at given events.
    pub fn opened_among(&self, events: Vec<&Value>, object: &Object, path: &str) -> (Verdict, String) {
        let same = events.iter().filter(|record| {
            let event = &record["event"];
            event["file_ino"] == object.ino && event["file_dev"] == *object.dev
        });
        let mut best = (Verdict::Missed, "not seen".to_owned());
        for record in same {
            let event = &record["event"];
            let doubts = doubts(event, "file");
            let file = shown(event["file"].as_str().unwrap_or_default());
            let found = if event["file"] == path && doubts.is_empty() {
                (Verdict::Seen, format!("the object, as `{file}`"))
            } else if !doubts.is_empty() {
                (Verdict::Flagged, format!("the object, as `{file}`, {}", doubts.join(", ")))
            } else {
                (Verdict::Missed, format!("the inode only: the path says `{file}`"))
            };
            if found.0 < best.0 || best.1 == "not seen" {
                best = found;
            }
        }
        let lost = self.lost("open");
        if best.0 == Verdict::Missed && lost > 0 {
            return (Verdict::LossReported, "lost, and the gap record says so".to_owned());
        }
        best
    }

    /// Why the trick is known not to be seen here, if it is.
    fn blind(&self) -> Option<&'static Blind> {
        let is_here = |blind: &&Blind| match blind.when {
            When::Tier(tiers) => tiers.contains(&self.tier),
            When::Without(programs) => programs.iter().any(|program| {
                let attached = |probe: &Value| {
                    let name = probe["probe"].as_str().unwrap_or_default();
                    probe["state"] == "attached" && name.starts_with(program)
                };
                !probes(&self.records).any(attached)
            }),
        };
        BLIND.iter().filter(|blind| blind.trick == self.trick).find(is_here)
    }

    /// Publishes the verdict, and fails if the trick was missed and nobody has said that it would be.
    #[track_caller]
    pub fn judge(&self, (verdict, note): (Verdict, String)) {
        let known = self.blind();
        let (verdict, note) = match (verdict, known) {
            (Verdict::Missed, Some(blind)) => (Verdict::Blind, blind.reason.to_owned()),
            other => (other.0, note),
        };
        let (trick, tier) = (self.trick.to_owned(), self.tier.to_owned());
        Score { trick, verdict, tier, note: note.clone() }.publish();
        match (verdict, known) {
            (Verdict::Missed, _) => panic!("{}: missed: {note}, in{}", self.trick, self.dump()),
            (Verdict::Seen | Verdict::Flagged, Some(_)) => {
                panic!("{}: it is seen now: take it off the list of blind spots", self.trick)
            }
            _ => {}
        }
    }

    /// The container's records, and whatever else is no event.
    fn dump(&self) -> String {
        const RECORDS_MAX: usize = 200;
        let mut text = String::new();
        let shown = self
            .records
            .iter()
            .filter(|record| record["container"]["id"] == *self.container || record["event"].is_null());
        for record in shown.take(RECORDS_MAX) {
            let (kind, event, process) = (&record["kind"], &record["event"], &record["process"]);
            let (pid, vpid, name) = (&process["pid"], &process["vpid"], &process["name"]);
            // Writing to memory cannot fail.
            let _ = match event.is_null() {
                true => write!(text, "\n{record}"),
                false => write!(text, "\n{kind} {event} by {pid} ({vpid}) {name}"),
            };
        }
        text
    }
}

/// What a record says to be uncertain about a path. Where the file lies, and from where it was seen, is no doubt.
pub fn doubts<'a>(event: &'a Value, path: &str) -> Vec<&'a str> {
    let flags = event[format!("{path}_flags")].as_array();
    let flags = flags.into_iter().flatten().filter_map(Value::as_str);
    flags.filter(|flag| !["image_layer", "upper_layer", "tmpfs", "chroot"].contains(flag)).collect()
}

/// A path as a short text of the docs.
fn shown(path: &str) -> String {
    const CHARS_MAX: usize = 40;
    let text: String = path.escape_debug().collect();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// An open file as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Where it is, as /proc/self/fd says.
    pub path: Vec<u8>,
    /// Inode number.
    pub ino: u64,
    /// Device, as records have it.
    pub dev: String,
}

impl Object {
    /// The one behind a descriptor.
    pub fn of(file: &impl AsRawFd) -> io::Result<Self> {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        // SAFETY: all zeros are a valid value.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the buffer is ours to write to.
        if unsafe { libc::fstat(file.as_raw_fd(), &raw mut stat) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let dev = format!("{}:{}", libc::major(stat.st_dev), libc::minor(stat.st_dev));
        Ok(Self { path: path.into_os_string().into_vec(), ino: stat.st_ino, dev })
    }

    /// Its path as text.
    pub fn path(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// A verdict by what was found: `seen` or missed.
pub fn seen(found: bool, note: impl Into<String>) -> (Verdict, String) {
    if found { (Verdict::Seen, note.into()) } else { (Verdict::Missed, "not seen".to_owned()) }
}
