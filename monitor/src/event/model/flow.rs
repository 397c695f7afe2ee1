//! `flow`: a TCP connection ended, or was never made.

use std::fmt::Write as _;
use std::net::SocketAddr;

use taffrail_common::event::Flow;

use super::{Model, socket_address, write_ends};
use crate::enrich::Subject;
use crate::event::errno;
use crate::event::json::Members;

/// The peer's address.
pub fn remote(flow: &Flow) -> Option<SocketAddr> {
    socket_address(flow.family, flow.remote_addr, flow.remote_port)
}

/// The own address.
pub fn local(flow: &Flow) -> Option<SocketAddr> {
    socket_address(flow.family, flow.local_addr, flow.local_port)
}

/// Who began it.
pub fn direction(flow: &Flow) -> &'static str {
    match flow.direction {
        1 => "out",
        2 => "in",
        _ => "unknown",
    }
}

/// Whether it was ever made.
pub fn is_established(flow: &Flow) -> bool {
    /// `TCP_SYN_SENT`, `TCP_SYN_RECV`.
    const BEFORE: [u32; 2] = [2, 3];
    flow.established_ns != 0 || !BEFORE.contains(&flow.old_state)
}

impl Model for Flow {
    fn type_name(&self) -> &'static str {
        "flow"
    }

    fn write_json(&self, subject: &Subject<'_>, out: &mut Members<'_>) {
        out.text("protocol", b"tcp");
        out.text("direction", direction(self).as_bytes());
        write_ends(subject, remote(self), local(self), out);
        out.bool("established", is_established(self));
        if self.error != 0 {
            match errno::name(self.error) {
                Some(name) => out.text("error", name.as_bytes()),
                None => out.number("error", self.error.into()),
            }
        }
        out.number("sent_bytes", self.bytes_sent as i64);
        out.number("received_bytes", self.bytes_received as i64);
        let since = |begin: u64, end: u64| (begin != 0).then(|| end.saturating_sub(begin) as i64);
        let until = if self.established_ns == 0 { self.header.boot_ns } else { self.established_ns };
        if let Some(latency) = since(self.begin_ns, until) {
            out.number("connect_latency_ns", latency);
        }
        if let Some(duration) = since(self.established_ns, self.header.boot_ns) {
            out.number("duration_ns", duration);
        }
    }

    fn write_line(&self, _subject: &Subject<'_>, out: &mut String) {
        let _ = write!(out, "{} ", direction(self));
        if let Some(remote) = remote(self) {
            let _ = write!(out, "{remote} ");
        }
        let _ = write!(out, "sent {} received {}", self.bytes_sent, self.bytes_received);
        if let Some(name) = errno::name(self.error) {
            let _ = write!(out, " = {name}");
        }
    }
}
