//! `udp`: the first datagram of a flow.

use std::fmt::Write as _;
use std::net::SocketAddr;

use taffrail_common::event::{Udp, direction};

use super::{Model, socket_address, write_ends};
use crate::enrich::Subject;
use crate::event::json::Members;

/// The peer's address.
pub fn remote(udp: &Udp) -> Option<SocketAddr> {
    socket_address(udp.family, udp.remote_addr, udp.remote_port)
}

/// The own address.
pub fn local(udp: &Udp) -> Option<SocketAddr> {
    socket_address(udp.family, udp.local_addr, udp.local_port)
}

/// `out` or `in`.
pub fn direction_name(direction: u16) -> &'static str {
    match direction {
        direction::OUT => "out",
        direction::IN => "in",
        _ => "unknown",
    }
}

impl Model for Udp {
    fn type_name(&self) -> &'static str {
        "udp"
    }

    fn write_json(&self, subject: &Subject<'_>, out: &mut Members<'_>) {
        out.text("protocol", b"udp");
        out.text("direction", direction_name(self.direction).as_bytes());
        write_ends(subject, remote(self), local(self), out);
        out.number("bytes", self.bytes.into());
    }

    fn write_line(&self, _subject: &Subject<'_>, out: &mut String) {
        let _ = write!(out, "{} ", direction_name(self.direction));
        if let Some(remote) = remote(self) {
            let _ = write!(out, "{remote} ");
        }
        let _ = write!(out, "{} bytes", self.bytes);
    }
}
