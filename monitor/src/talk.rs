//! What the daemon says on stderr besides its log of events: one line each, at a level that can be changed while it
//! runs. The last lines are kept for a bundle for support; they are about the daemon, never about what containers did.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::event::text::escaped;

/// Lines that are kept, and bytes of each.
const KEPT: (usize, usize) = (200, 400);

/// The names of the levels, from the quietest on.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

struct Stderr {
    kept: Mutex<VecDeque<String>>,
}

static STDERR: Stderr = Stderr { kept: Mutex::new(VecDeque::new()) };

/// From here on what is said goes to stderr. A second call changes nothing.
pub fn start() {
    if log::set_logger(&STDERR).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Changes the level; `None` if there is none of that name.
pub fn set_level(name: &str) -> Option<LevelFilter> {
    let level = LEVELS.contains(&name).then(|| name.parse().ok()).flatten()?;
    log::set_max_level(level);
    Some(level)
}

/// The level's name.
pub fn level() -> String {
    log::max_level().to_string().to_ascii_lowercase()
}

/// The last lines that were said.
pub fn last_lines() -> Vec<String> {
    STDERR.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries are of interest to nobody but who looks for a fault.
        let is_ours = metadata.target().starts_with("taffrail");
        metadata.level() <= log::max_level() && (is_ours || log::max_level() >= LevelFilter::Debug)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(record);
        // Nobody can be told that stderr is gone.
        let _ = writeln!(std::io::stderr(), "{line}");
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT.0 {
            kept.pop_front();
        }
        let end = line.floor_char_boundary(KEPT.1);
        kept.push_back(format!("{} {}", time(), &line[..end]));
    }

    fn flush(&self) {}
}

fn line(record: &Record<'_>) -> String {
    let text = record.args();
    match record.level() {
        Level::Error => format!("error: {text}"),
        Level::Warn => format!("warning: {text}"),
        Level::Info => format!("taffrail: {text}"),
        // Libraries say what they were sent.
        Level::Debug | Level::Trace => {
            format!("debug: {}: {}", record.target(), escaped(text.to_string().as_bytes()))
        }
    }
}

fn time() -> String {
    let now = crate::clock::Clock::now().realtime_ns(crate::clock::boot_ns());
    String::from_utf8_lossy(crate::clock::rfc3339(now).as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_has_its_own_beginning_and_libraries_cannot_break_a_line() {
        let say = |level, text: &str| {
            let text = format_args!("{text}");
            line(&Record::builder().level(level).target("rustls").args(text).build())
        };
        assert_eq!(say(Level::Error, "no"), "error: no");
        assert_eq!(say(Level::Warn, "no"), "warning: no");
        assert_eq!(say(Level::Info, "yes"), "taffrail: yes");
        assert_eq!(say(Level::Debug, "a\nb"), "debug: rustls: a\\nb");
    }

    #[test]
    fn level_is_one_of_the_named_ones() {
        assert_eq!(set_level("loud"), None);
        assert_eq!(set_level("off"), None);
        assert!(LEVELS.iter().all(|name| name.parse::<LevelFilter>().is_ok()));
    }
}
