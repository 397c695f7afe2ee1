//! Which records a sub-command is about: options that several of them have.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::audit::RecordKind;
use crate::audit::query::Query;
use crate::cli::{FAILED, color_on_stderr};
use crate::clock::{self, Clock};
use crate::diagnostic::{closest, render};
use crate::event::field::kind_names;
use crate::probe::hook::ALL_KINDS;
use crate::rules::Filter;
use crate::rules::state::read::nanoseconds;

/// Where, when and whose.
#[derive(clap::Args)]
pub struct Selection {
    /// Folder of the log.
    #[arg(long = "log", value_name = "FOLDER", default_value = super::DEFAULT_FOLDER)]
    pub folder: PathBuf,
    /// Not before: a time (RFC 3339, `2026-11-25 10:00` in UTC) or how long ago (`90s`, `30m`, `2h`, `7d`).
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<u64>,
    /// Before, in the same forms.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<u64>,
    /// Only of this container: its id, the beginning of it, or its name.
    #[arg(long, value_name = "ID", value_parser = non_empty)]
    pub container: Option<String>,
    /// Only of this pod: its name, or NAMESPACE/NAME.
    #[arg(long, value_name = "POD", value_parser = non_empty)]
    pub pod: Option<String>,
    /// Only alerts, and what else is told, of this rule. Can be given again.
    #[arg(long = "rule", value_name = "NAME")]
    pub rules: Vec<String>,
    /// Only this kind of record (`alert`, `gap`, `rules` …) or of event (`exec`, `open` …). Can be given again.
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    pub kinds: Vec<String>,
}

impl Selection {
    /// What it asks for, and a condition of the rule language. Errors and warnings are told.
    pub fn query(&self, condition: Option<&str>) -> Result<Query, ExitCode> {
        let mut query = Query::all()
            .between(self.since, self.until)
            .of_rules(self.rules.clone())
            .of_kinds(self.kinds.clone());
        if let Some(container) = &self.container {
            query = query.of_container(container);
        }
        if let Some(pod) = &self.pod {
            query = query.of_pod(pod);
        }
        let Some(condition) = condition else { return Ok(query) };
        let query = Filter::from_text(condition, "condition").and_then(|filter| query.with_condition(filter));
        let query = query.map_err(|diagnostics| {
            eprint!("{}", render(&diagnostics, color_on_stderr()));
            ExitCode::from(FAILED)
        })?;
        eprint!("{}", render(&query.warnings(), color_on_stderr()));
        Ok(query)
    }
}

/// A time in ns since 1970.
pub fn time(text: &str) -> Result<u64, String> {
    if let Some(ago) = nanoseconds(text) {
        return Ok(Clock::now().realtime_ns(clock::boot_ns()).saturating_sub(ago));
    }
    let zoned = text.parse::<jiff::Timestamp>();
    let in_utc = || jiff::tz::TimeZone::UTC.to_timestamp(text.parse().ok()?).ok();
    let time = zoned.ok().or_else(in_utc);
    let ns = time.and_then(|time| u64::try_from(time.as_nanosecond()).ok());
    ns.ok_or_else(|| "write a time such as `2026-11-25T10:00:00Z`, or how long ago, such as `2h`".to_owned())
}

fn non_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn kind(text: &str) -> Result<String, String> {
    let names = || kind_names(ALL_KINDS).into_iter().chain(RecordKind::ALL.iter().map(|kind| kind.name()));
    if names().any(|name| name == text) {
        return Ok(text.to_owned());
    }
    Err(match closest(text, names()) {
        Some(name) => format!("there is no such kind; is `{name}` meant?"),
        None => format!("there is no such kind; there are {}", names().collect::<Vec<_>>().join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_absolute_or_ago() {
        let at = 1_795_600_800_000_000_000;
        for text in
            ["2026-11-25T10:00:00Z", "2026-11-25T12:00:00+02:00", "2026-11-25 10:00", "2026-11-25T10:00:00"]
        {
            assert_eq!(time(text), Ok(at), "{text}");
        }
        assert_eq!(time("2026-11-25"), Ok(at - 36_000_000_000_000));
        let now = Clock::now().realtime_ns(clock::boot_ns());
        let hour_ago = time("1h").unwrap();
        assert!((now - 3_600_000_000_000..=now).contains(&hour_ago));
        for text in ["", "yesterday", "1", "h", "-1h", "99999999999999999999d", "1900-01-01T00:00:00Z"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn kind_is_that_of_a_record_or_of_an_event() {
        assert!(kind("alert").is_ok() && kind("exec").is_ok());
        assert_eq!(kind("alerts"), Err("there is no such kind; is `alert` meant?".to_owned()));
    }
}
