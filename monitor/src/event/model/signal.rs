//! `signal`: a signal that can end a process was sent to another.

use std::fmt::Write as _;

use taffrail_common::event::Signal;

use super::{Model, Target, write_target};
use crate::enrich::Subject;
use crate::event::constant::SIGNAL;
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
        out.named("signal", self.signal.into(), &SIGNAL);
        out.text("outcome", outcome(self).as_bytes());
    }

    fn write_line(&self, subject: &Subject<'_>, out: &mut String) {
        SIGNAL.write(self.signal.into(), out);
        write_target(self.target_tgid, subject, out);
        if self.result != 0 {
            let _ = write!(out, " ({})", outcome(self));
        }
    }
}

/// What became of it.
pub fn outcome(signal: &Signal) -> &'static str {
    match signal.result {
        0 => "delivered",
        1 => "ignored",
        2 => "already_pending",
        _ => "lost",
    }
}
