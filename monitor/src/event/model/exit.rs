//! `exit`: the last thread of a process ended.

use std::fmt::Write as _;

use taffrail_common::event::Exit;

use super::Model;
use crate::enrich::Subject;
use crate::event::constant::SIGNAL;
use crate::event::json::Members;

impl Model for Exit {
    fn type_name(&self) -> &'static str {
        "procexit"
    }

    fn write_json(&self, _subject: &Subject<'_>, out: &mut Members<'_>) {
        out.number("code", (self.wait_status >> 8 & 0xff).into());
        out.named("signal", (self.wait_status & 0x7f).into(), &SIGNAL);
        out.bool("core_dumped", self.wait_status & 0x80 != 0);
        out.number("duration_ns", self.header.boot_ns.saturating_sub(self.header.start_ns) as i64);
    }

    fn write_line(&self, _subject: &Subject<'_>, out: &mut String) {
        let ms = self.header.boot_ns.saturating_sub(self.header.start_ns) / 1_000_000;
        match self.wait_status & 0x7f {
            0 => {
                let _ = write!(out, "status {}", self.wait_status >> 8 & 0xff);
            }
            signal => SIGNAL.write(signal.into(), out),
        }
        let _ = write!(out, " after {ms} ms");
    }
}
