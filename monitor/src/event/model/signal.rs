//! `signal`: a signal that can end a process was sent to another.

use std::fmt::Write as _;

use taffrail_common::event::Signal;

use super::{Model, Target};
use crate::enrich::Subject;
use crate::event::json::Members;

impl Model for Signal {
    fn type_name(&self) -> &'static str {
        "signal"
    }

    fn target(&self) -> Option<Target> {
        let Signal { target_tgid, target_ns_tgid, target_start_ns, target_cgroup_id, .. } = *self;
        Some(Target::Known {
            tgid: target_tgid,
            ns_tgid: target_ns_tgid,
            start_ns: target_start_ns,
            cgroup_id: target_cgroup_id,
        })
    }

    fn write_json(&self, _subject: &Subject<'_>, out: &mut Members<'_>) {
        out.number("signal", self.signal.into());
        let outcome: &[u8] = match self.result {
            0 => b"delivered",
            1 => b"ignored",
            2 => b"already_pending",
            _ => b"lost",
        };
        out.text("outcome", outcome);
    }

    fn write_line(&self, _subject: &Subject<'_>, out: &mut String) {
        let _ = write!(out, "{} to {}", self.signal, self.target_tgid);
    }
}
