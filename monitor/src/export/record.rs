//! One record of the audit log, as it goes out: its line, parsed without copying, and what each format asks of it
//! (identity, time, severity, outcome, direction). A line that is no record is an error, never a panic.

use std::borrow::Cow;

use serde_json_borrow::{ObjectAsVec, Value};
use thiserror::Error;

use crate::event::errno;

/// Members of a record that are objects, whose members the formats map one by one.
pub const SECTIONS: [&str; 4] = ["event", "process", "target", "container"];

/// A record.
pub struct Record<'a> {
    /// Its line, without the newline.
    pub line: &'a [u8],
    /// Its number.
    pub seq: u64,
    /// When, in ns since 1970.
    pub time_ns: i64,
    /// How bad it is.
    pub severity: Severity,
    members: Value<'a>,
}

/// Why a line is no record.
#[derive(Debug, Error)]
pub enum Damaged {
    /// It is not JSON.
    #[error("the line is not JSON")]
    Json(#[source] serde_json::Error),
    /// A member that each record has is missing or no such thing.
    #[error("the line has no valid member `{0}`")]
    Member(&'static str),
}

/// How bad something is: syslog's severities (RFC 5424, section 6.2.1), which rules call priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Severity(u8);

impl Severity {
    const NAMES: [&str; 8] =
        ["Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug"];
    /// The least of all.
    pub const LEAST: Self = Self(7);
    const WARNING: Self = Self(4);
    const NOTICE: Self = Self(5);
    const INFORMATIONAL: Self = Self(6);

    fn of(kind: &str, priority: Option<&str>) -> Self {
        let named = priority.and_then(|name| Self::NAMES.iter().position(|known| *known == name));
        match (named, kind) {
            (Some(severity), _) => Self(severity as u8),
            (None, "gap" | "recovery" | "evicted") => Self::WARNING,
            (None, "suppressed" | "clock" | "retention" | "export") => Self::NOTICE,
            (None, _) => Self::INFORMATIONAL,
        }
    }

    /// By name, in upper or lower case.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
        found.and_then(|severity| u8::try_from(severity).ok()).map(Self)
    }

    /// Syslog's number: 0 is the worst, 7 the least.
    pub fn syslog(self) -> u8 {
        self.0
    }

    /// Its name, as rules have it.
    pub fn name(self) -> &'static str {
        Self::NAMES[usize::from(self.0 & 7)]
    }

    /// From 0 to 10, the worst: CEF's and LEEF's scale.
    pub fn of_ten(self) -> u8 {
        [10, 9, 8, 7, 5, 3, 1, 0][usize::from(self.0 & 7)]
    }
}

/// How something that was tried ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused or failed, with this error number.
    Failure(u32),
    /// It is not known, or nothing was tried.
    Unknown,
}

impl Outcome {
    /// The word that ECS, CEF and LEEF have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure(_) => "failure",
            Self::Unknown => "unknown",
        }
    }
}

impl<'a> Record<'a> {
    /// Reads a line.
    pub fn parse(line: &'a [u8]) -> Result<Self, Damaged> {
        // What is text as a whole need not be looked at again piece by piece.
        let members =
            str::from_utf8(line).map_or_else(|_| serde_json::from_slice(line), serde_json::from_str);
        let members: Value<'a> = members.map_err(Damaged::Json)?;
        let object = members.as_object().ok_or(Damaged::Member("kind"))?;
        let text = |name: &'static str| object.get(name).and_then(Value::as_str);
        let seq = object.get("seq").and_then(Value::as_u64).ok_or(Damaged::Member("seq"))?;
        let kind = text("kind").ok_or(Damaged::Member("kind"))?;
        let time = text("time").and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let time_ns = time.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
        let time_ns = time_ns.ok_or(Damaged::Member("time"))?;
        for name in ["node", "boot_id", "prev"] {
            text(name).ok_or(Damaged::Member(name))?;
        }
        let severity = Severity::of(kind, text("priority"));
        Ok(Self { line, seq, time_ns, severity, members })
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.members.as_object().into_iter().flat_map(ObjectAsVec::iter)
    }

    /// Calls `each` with the section (empty for the record itself), the name and the value of each member.
    pub fn each<'s>(&'s self, mut each: impl FnMut(&'static str, &'s str, &'s Value<'a>)) {
        for (name, value) in self.members() {
            let section = SECTIONS.iter().find(|section| **section == name);
            match (section, value.as_object()) {
                (Some(section), Some(object)) => {
                    object.iter().for_each(|(name, value)| each(section, name, value))
                }
                _ => each("", name, value),
            }
        }
    }

    /// A member of a section; of the record itself if that is empty.
    pub fn get(&self, section: &str, name: &str) -> Option<&Value<'a>> {
        let object = self.members.as_object()?;
        match section {
            "" => object.get(name),
            section => object.get(section)?.as_object()?.get(name),
        }
    }

    /// A text among the members.
    pub fn text(&self, section: &str, name: &str) -> Option<&str> {
        self.get(section, name)?.as_str()
    }

    /// What the record is about.
    pub fn kind(&self) -> &str {
        self.text("", "kind").unwrap_or_default()
    }

    /// The kind of its event; empty if it has none.
    pub fn event_kind(&self) -> &str {
        self.text("event", "kind").unwrap_or_default()
    }

    /// What was called, or what else happened: `execve`, `openat`, and of a record without an event its kind.
    pub fn action(&self) -> &str {
        self.text("event", "type").unwrap_or_else(|| self.kind())
    }

    /// The kind of its event, or else its own.
    pub fn any_kind(&self) -> &str {
        if self.event_kind().is_empty() { self.kind() } else { self.event_kind() }
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        self.text("", "node").unwrap_or_default()
    }

    /// What the record is known by wherever it goes, however often it is sent: the place in the chain that only this
    /// record can have. At most 37 characters of `0-9a-f-`.
    pub fn id(&self) -> String {
        let chain = self.text("", "prev").unwrap_or_default();
        let boot = self.text("", "boot_id").unwrap_or_default();
        // The first record of each log has the same predecessor: none.
        let from = if self.seq == 1 { boot } else { chain };
        let digits: String = from.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        format!("{digits}-{}", self.seq)
    }

    /// How it ended, if it is something that can fail.
    pub fn outcome(&self) -> Outcome {
        if self.text("event", "error").is_some() {
            return Outcome::Failure(0);
        }
        match self.get("event", "result").and_then(Value::as_i64) {
            // EINPROGRESS: its end is not known yet.
            Some(-115) | None => Outcome::Unknown,
            Some(result) if result < 0 => Outcome::Failure(u32::try_from(-result).unwrap_or_default()),
            Some(_) => Outcome::Success,
        }
    }

    /// The name of the error, if it failed.
    pub fn error(&self) -> Option<&str> {
        match self.outcome() {
            Outcome::Failure(0) => self.text("event", "error"),
            Outcome::Failure(number) => errno::name(number),
            Outcome::Success | Outcome::Unknown => None,
        }
    }

    /// Whether what it is about came from the other end of a connection.
    pub fn is_inward(&self) -> bool {
        matches!(self.event_kind(), "accept" | "listen" | "bind")
            || self.text("event", "direction") == Some("in")
    }

    /// A line that tells people what it is about. Attackers choose parts of it: each format escapes it by its rules.
    pub fn message(&self) -> Cow<'_, str> {
        if let Some(output) = self.text("", "output") {
            return Cow::Borrowed(output);
        }
        if self.event_kind().is_empty() {
            let what = ["where", "what", "result"].into_iter().filter_map(|name| self.text("", name));
            return Cow::Owned(std::iter::once(self.kind()).chain(what).collect::<Vec<_>>().join(" "));
        }
        let object = ["file", "exe", "question_name", "remote_ip", "path", "text"];
        let object = object.into_iter().find_map(|name| self.text("event", name)).unwrap_or_default();
        let who = self.text("process", "name").unwrap_or_default();
        let names = ["name", "id"].into_iter().find_map(|name| self.text("container", name));
        let space = if object.is_empty() { "" } else { " " };
        Cow::Owned(format!("{}{space}{object} by {who} in {}", self.action(), names.unwrap_or("host")))
    }
}
