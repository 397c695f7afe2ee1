//! `fork`: a process was created.

use std::fmt::Write as _;

use taffrail_common::event::Fork;

use super::Model;
use crate::enrich::Subject;
use crate::event::constant::CLONE;
use crate::event::json::Members;

impl Model for Fork {
    fn type_name(&self) -> &'static str {
        "clone"
    }

    fn write_json(&self, subject: &Subject<'_>, out: &mut Members<'_>) {
        out.number("child_pid", self.child_tgid.into());
        out.number("child_vpid", self.child_ns_tgid.into());
        let key = subject.processes.key(self.child_tgid, self.child_start_ns);
        out.raw("child_key", format_args!("\"{key}\""));
        out.named("clone_flags", self.clone_flags as i64, &CLONE);
    }

    fn write_line(&self, _subject: &Subject<'_>, out: &mut String) {
        let _ = write!(out, "child {}", self.child_tgid);
        if self.clone_flags != 0 {
            out.push_str(" flags=");
            CLONE.write(self.clone_flags, out);
        }
    }
}
