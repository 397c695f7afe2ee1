//! What each kind of event has to say, one file per record: its texts, its JSON members, its line for people.

mod arguments;
mod call;
mod cgroup;
mod connect;
pub mod cred;
mod dns;
mod exec;
mod exit;
pub mod flow;
mod fork;
pub mod open;
pub mod signal;
pub mod udp;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use taffrail_common::call::{CALLS, CHOSEN, CallRow};
use taffrail_common::event::{Path, header_flag};

use super::errno;
use super::json::Members;
use super::text::escape;
use crate::enrich::Subject;

pub use call::{Argument, Call, Role, arguments, named_arguments};
pub use cgroup::{Cgroup, CgroupMove};
pub use connect::Connect;
pub use dns::Dns;
pub use exec::Exec;
pub use open::Open;

/// What all kinds can tell.
pub trait Model {
    /// The event's name as Falco has it: mostly that of the system call.
    fn type_name(&self) -> &'static str;

    /// What the call returned, for events that are one call: 0 or more, or a negative errno.
    fn result(&self) -> Option<i64> {
        None
    }

    /// The path that the event is about, its text and its object.
    fn path(&self) -> Option<(&[u8], Path)> {
        None
    }

    /// The other process: whom it was done to.
    fn target(&self) -> Option<Target> {
        None
    }

    /// Writes what only this kind has.
    fn write_json(&self, subject: &Subject<'_>, out: &mut Members<'_>);

    /// Appends what a person wants to see at a glance.
    fn write_line(&self, subject: &Subject<'_>, out: &mut String);
}

/// Which process something was done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This one, as the kernel's own object says.
    Known {
        /// Process id in the host's pid namespace.
        tgid: u32,
        /// Process id in its own pid namespace.
        ns_tgid: u32,
        /// `CLOCK_BOOTTIME` when it started, in ns.
        start_ns: u64,
        /// Cgroup id, 0 if not told.
        cgroup_id: u64,
    },
    /// The one that has this number in the caller's pid namespace.
    Numbered(i32),
}

/// The name of a system call by its id.
pub fn call_name(call: u32, flags: u16) -> &'static str {
    let id = call as u16;
    match CALLS.get(usize::from(id)) {
        Some(CallRow { name, .. }) => name,
        None if id & CHOSEN != 0 => {
            crate::probe::call::name(u32::from(id & !CHOSEN), flags & header_flag::COMPAT != 0)
        }
        None => "none",
    }
}

/// An address of a record; an IPv4 address in IPv6 form is given as what it is.
fn socket_address(family: u16, bytes: [u8; 16], port: u16) -> Option<SocketAddr> {
    let [a, b, c, d, ..] = bytes;
    let ip = match i32::from(family) {
        libc::AF_INET => IpAddr::from([a, b, c, d]),
        libc::AF_INET6 => IpAddr::from(bytes).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Writes the two ends of a connection, as far as they are known.
fn write_ends(
    subject: &Subject<'_>,
    remote: Option<SocketAddr>,
    local: Option<SocketAddr>,
    out: &mut Members<'_>,
) {
    if let Some(remote) = remote {
        subject.answers.any_name(remote.ip(), &mut |name| {
            out.text("remote_name", name);
            true
        });
    }
    for (address, ip, port) in [(remote, "remote_ip", "remote_port"), (local, "local_ip", "local_port")] {
        if let Some(address) = address.filter(|address| address.port() != 0 || !address.ip().is_unspecified())
        {
            out.raw(ip, format_args!("\"{}\"", address.ip()));
            out.number(port, address.port().into());
        }
    }
}

/// Appends whom something was done to: ` name[pid]`.
fn write_target(tgid: u32, subject: &Subject<'_>, out: &mut String) {
    out.push(' ');
    if let Some(process) = subject.target {
        escape(process.name(), out);
    }
    let _ = write!(out, "[{tgid}]");
}

/// Appends how a call failed; nothing if it did not.
fn write_failure(result: i64, out: &mut String) {
    if result >= 0 {
        return;
    }
    match u32::try_from(result.unsigned_abs()).ok().and_then(errno::name) {
        Some(name) => {
            let _ = write!(out, " = {name}");
        }
        None => {
            let _ = write!(out, " = {result}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_of_any_number_is_written() {
        for (result, written) in [
            (3, ""),
            (-2, " = ENOENT"),
            (-4000, " = -4000"),
            (i64::from(i32::MIN), " = -2147483648"),
            (i64::MIN, " = -9223372036854775808"),
        ] {
            let mut out = String::new();
            write_failure(result, &mut out);
            assert_eq!(out, written);
        }
    }
}
