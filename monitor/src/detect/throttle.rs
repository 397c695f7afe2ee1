//! At most so many alerts of a group within a time. What is too much is counted, and told twice: in a record of its
//! own when the time is over, and with the next alert.

use std::sync::Arc;

use super::table::Weigh;
use crate::enrich::container::Container;
use crate::event::json::{Members, write_container};

/// How many alerts in how long, if a rule says nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many; `u32::MAX` is no limit.
    pub alerts: u32,
    /// In how many ns.
    pub per_ns: u64,
}

/// What is remembered of a group.
#[derive(Default)]
pub struct Throttled {
    /// When the time began.
    since_ns: u64,
    /// Alerts since then.
    alerts: u32,
    /// Not told with an alert yet.
    carried: u64,
    /// Not told in a record yet.
    untold: Option<Untold>,
}

/// Matches without an alert, for a record.
pub struct Untold {
    count: u64,
    first_ns: u64,
    last_ns: u64,
    container: Option<Arc<Container>>,
    /// The values of the group as JSON, if the rule says what makes one.
    group: Box<[u8]>,
}

impl Weigh for Throttled {
    fn heap_bytes(&self) -> usize {
        self.untold.as_ref().map_or(0, |untold| untold.group.len())
    }
}

impl Throttled {
    /// Whether there may be another alert now, and then how many matches had none since the last one. What the
    /// time before left to tell is handed out. `whose` is asked for the container and the group.
    pub fn pass(
        &mut self,
        limit: Limit,
        now_ns: u64,
        whose: impl FnOnce() -> (Option<Arc<Container>>, Box<[u8]>),
    ) -> (Option<u64>, Option<Untold>) {
        let mut told = None;
        if self.is_over(limit.per_ns, now_ns) {
            told = self.untold.take();
            self.alerts = 0;
        }
        if self.alerts == 0 {
            self.since_ns = now_ns;
        }
        if self.alerts < limit.alerts {
            self.alerts += 1;
            return (Some(std::mem::take(&mut self.carried)), told);
        }
        self.carried += 1;
        let untold = self.untold.get_or_insert_with(|| {
            let (container, group) = whose();
            Untold { count: 0, first_ns: now_ns, last_ns: now_ns, container, group }
        });
        untold.count += 1;
        untold.last_ns = now_ns;
        (None, told)
    }

    fn is_over(&self, per_ns: u64, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) >= per_ns
    }

    /// Hands out what is left to tell; of a time that is not over yet only at the end. Decides nothing.
    pub fn tell(&mut self, per_ns: u64, now_ns: u64, at_end: bool) -> Option<Untold> {
        if at_end || self.is_over(per_ns, now_ns) { self.untold.take() } else { None }
    }

    /// Whether something is left to tell.
    pub fn has_untold(&self) -> bool {
        self.untold.is_some()
    }

    /// As [`Throttled::tell`], of one that is forgotten.
    pub fn into_untold(self) -> Option<Untold> {
        self.untold
    }
}

impl Untold {
    /// The members of its record.
    pub fn body(&self, rule: &str) -> Vec<u8> {
        let Self { count, first_ns, last_ns, container, group } = self;
        let mut body = Vec::new();
        let mut members = Members::within(&mut body);
        members.text("rule", rule.as_bytes());
        members.number("count", *count as i64);
        members.number("from_boot_ns", *first_ns as i64);
        members.number("to_boot_ns", *last_ns as i64);
        if !group.is_empty() {
            members.raw("group", format_args!("{}", String::from_utf8_lossy(group)));
        }
        body.push(b',');
        write_container(container.as_deref(), &mut body);
        body
    }
}
