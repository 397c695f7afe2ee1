//! `cgroup` and `cgroup_move`: a cgroup was made or removed; a task was put into another one.

use taffrail_common::event as abi;

use super::{Model, Target, write_target};
use crate::enrich::Subject;
use crate::event::json::Members;
use crate::event::text::escape;

/// `cgroup`, with its text.
#[derive(Clone, Copy, Debug)]
pub struct Cgroup<'a> {
    /// The numbers.
    pub record: abi::Cgroup,
    /// Its path below the v2 root.
    pub path: &'a [u8],
}

impl Model for Cgroup<'_> {
    fn type_name(&self) -> &'static str {
        if self.record.removed == 0 { "cgroup_mkdir" } else { "cgroup_rmdir" }
    }

    fn write_json(&self, _subject: &Subject<'_>, out: &mut Members<'_>) {
        write_path(self.path, self.record.path, out);
        out.number("cgroup_id", self.record.cgroup_id as i64);
        out.number("level", self.record.level.into());
    }

    fn write_line(&self, _subject: &Subject<'_>, out: &mut String) {
        out.push_str(if self.record.removed == 0 { "made " } else { "removed " });
        escape(self.path, out);
    }
}

/// Writes a path, and whether it has lost its end.
fn write_path(path: &[u8], abi::Text { len, full_len }: abi::Text, out: &mut Members<'_>) {
    out.text("path", path);
    if full_len > len {
        out.bool("path_is_cut", true);
    }
}

/// `cgroup_move`, with its text.
#[derive(Clone, Copy, Debug)]
pub struct CgroupMove<'a> {
    /// The numbers.
    pub record: abi::CgroupMove,
    /// Path of the new cgroup below the v2 root.
    pub path: &'a [u8],
}

impl Model for CgroupMove<'_> {
    fn type_name(&self) -> &'static str {
        "cgroup_attach_task"
    }

    fn target(&self) -> Option<Target> {
        let abi::CgroupMove { target_tgid, target_ns_tgid, target_start_ns, .. } = self.record;
        Some(Target::Known {
            tgid: target_tgid,
            ns_tgid: target_ns_tgid,
            start_ns: target_start_ns,
            cgroup_id: 0,
        })
    }

    fn write_json(&self, _subject: &Subject<'_>, out: &mut Members<'_>) {
        write_path(self.path, self.record.path, out);
        out.number("cgroup_id", self.record.cgroup_id as i64);
        out.bool("whole_process", self.record.whole != 0);
    }

    fn write_line(&self, subject: &Subject<'_>, out: &mut String) {
        out.push_str(if self.record.whole != 0 { "process" } else { "thread" });
        write_target(self.record.target_tgid, subject, out);
        out.push_str(" to ");
        escape(self.path, out);
    }
}
