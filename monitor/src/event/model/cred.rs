//! `cred`: a task changed its identity or its rights.

use std::fmt::Write as _;

use taffrail_common::event::{Cred, Credentials};

use super::{Model, call_name, write_failure};
use crate::enrich::Subject;
use crate::event::json::Members;

impl Model for Cred {
    fn type_name(&self) -> &'static str {
        call_name(self.call, self.header.flags)
    }

    fn result(&self) -> Option<i64> {
        Some(self.result.into())
    }

    fn write_json(&self, subject: &Subject<'_>, out: &mut Members<'_>) {
        out.number("result", self.result.into());
        let euid = self.header.euid.into();
        let egid = self.header.egid.into();
        let Credentials { uid, gid, suid, sgid, fsuid, fsgid, .. } = self.new;
        for (name, value) in [("ruid", uid), ("suid", suid), ("fsuid", fsuid)] {
            out.number(name, value.into());
        }
        out.number("euid", euid);
        for (name, value) in [("rgid", gid), ("sgid", sgid), ("fsgid", fsgid)] {
            out.number(name, value.into());
        }
        out.number("egid", egid);
        write_capabilities("", &self.new, out);
        out.number("securebits", self.secure_bits.into());
        out.number("user_ns", self.user_ns.into());
        let Some(old) = old(self, subject) else { return };
        out.number("old_ruid", old.uid.into());
        out.number("old_suid", old.suid.into());
        out.number("old_rgid", old.gid.into());
        out.number("old_sgid", old.sgid.into());
        write_capabilities("old_", old, out);
        let source: &[u8] = if self.old_known != 0 { b"kernel" } else { b"last_event" };
        out.text("old_source", source);
    }

    fn write_line(&self, subject: &Subject<'_>, out: &mut String) {
        let _ = write!(out, "uid {} gid {}", self.new.uid, self.new.gid);
        if let Some(old) = old(self, subject) {
            let _ = write!(out, " (before: {} {})", old.uid, old.gid);
        }
        write_failure(self.result.into(), out);
    }
}

fn write_capabilities(prefix: &str, rights: &Credentials, out: &mut Members<'_>) {
    let sets = [
        ("cap_effective", rights.cap_effective),
        ("cap_permitted", rights.cap_permitted),
        ("cap_inheritable", rights.cap_inheritable),
        ("cap_bounding", rights.cap_bounding),
        ("cap_ambient", rights.cap_ambient),
    ];
    for (name, set) in sets {
        out.hex_number(&format!("{prefix}{name}"), set);
    }
}

/// What the task was before: as the kernel had it in that moment, else as the last event of the process left it.
pub fn old<'a>(cred: &'a Cred, subject: &Subject<'a>) -> Option<&'a Credentials> {
    if cred.old_known != 0 { Some(&cred.old) } else { subject.process.old_credentials.as_deref() }
}
