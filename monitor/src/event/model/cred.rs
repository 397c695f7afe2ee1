//! `cred`: a task changed its identity or its rights.

use std::fmt::Write as _;

use taffrail_common::event::{Cred, Credentials};

use super::{Model, call_name, write_failure};
use crate::enrich::Subject;
use crate::event::capability;
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
        write_credentials("", &self.new, out);
        out.number("securebits", self.secure_bits.into());
        out.number("user_ns", self.user_ns.into());
        let Some(old) = old(self, subject) else { return };
        write_credentials("old_", old, out);
        out.text("old_source", if self.old_known != 0 { b"kernel" } else { b"last_event" });
        let (gained, lost) = changed_capabilities(self, old);
        out.capabilities("gained_caps", gained);
        out.capabilities("lost_caps", lost);
    }

    fn write_line(&self, subject: &Subject<'_>, out: &mut String) {
        let old = old(self, subject);
        out.push_str(self.type_name());
        let Credentials { uid, gid, suid, sgid, euid, egid, .. } = self.new;
        let before = |get: fn(&Credentials) -> [u32; 3]| old.map(get).filter(|ids| !ids.contains(&u32::MAX));
        for (name, new, old) in [
            ("uid", [uid, euid, suid], before(|old| [old.uid, old.euid, old.suid])),
            ("gid", [gid, egid, sgid], before(|old| [old.gid, old.egid, old.sgid])),
        ] {
            let _ = write!(out, " {name}=");
            if let Some([real, effective, saved]) = old.filter(|old| *old != new) {
                let _ = write!(out, "{real},{effective},{saved}->");
            }
            let [real, effective, saved] = new;
            let _ = write!(out, "{real},{effective},{saved}");
        }
        if let Some((gained, lost)) = old.map(|old| changed_capabilities(self, old)) {
            capability::names(gained).for_each(|name| {
                let _ = write!(out, " +{name}");
            });
            match lost.count_ones() {
                0 => {}
                1..=MANY => capability::names(lost).for_each(|name| {
                    let _ = write!(out, " -{name}");
                }),
                many => {
                    let _ = write!(out, " -{many} capabilities");
                }
            }
        }
        write_failure(self.result.into(), out);
    }
}

/// More lost capabilities than this are only counted in a line.
const MANY: u32 = 6;

fn write_credentials(prefix: &str, rights: &Credentials, out: &mut Members<'_>) {
    let Credentials { uid, gid, suid, sgid, euid, egid, fsuid, fsgid, .. } = *rights;
    let ids = [
        ("ruid", uid),
        ("euid", euid),
        ("suid", suid),
        ("fsuid", fsuid),
        ("rgid", gid),
        ("egid", egid),
        ("sgid", sgid),
        ("fsgid", fsgid),
    ];
    // Of a process that was met in the middle only some are known.
    for (name, value) in ids.into_iter().filter(|(_, value)| *value != u32::MAX) {
        out.number(&format!("{prefix}{name}"), value.into());
    }
    write_capabilities(prefix, rights, out);
}

/// Capabilities that the task may use now and could not before; and the other way round.
pub fn changed_capabilities(cred: &Cred, old: &Credentials) -> (u64, u64) {
    let (new, old) = (cred.new.cap_permitted, old.cap_permitted);
    (new & !old, old & !new)
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
