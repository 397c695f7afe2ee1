//! `connect`, `bind`, `listen`, `accept`, `dup`: a socket and its addresses.

use std::fmt::Write as _;
use std::net::SocketAddr;

use taffrail_common::event::{self as abi, Path, source};
use taffrail_common::kind;

use super::{Model, call_name, socket_address, write_ends, write_failure};
use crate::enrich::Subject;
use crate::event::constant::FAMILY;
use crate::event::json::Members;
use crate::event::kind_name;
use crate::event::text::escape;

/// `connect`, `bind`, `listen` or `accept`, with its texts.
#[derive(Clone, Copy, Debug)]
pub struct Connect<'a> {
    /// The numbers.
    pub record: abi::Connect,
    /// Unix sockets: the peer's name; of all but a connect the own.
    pub path: &'a [u8],
}

impl Connect<'_> {
    /// The peer's address.
    pub fn remote(&self) -> Option<SocketAddr> {
        let abi::Connect { family, remote_addr, remote_port, .. } = self.record;
        socket_address(family, remote_addr, remote_port)
    }

    /// The own address.
    pub fn local(&self) -> Option<SocketAddr> {
        let abi::Connect { family, local_addr, local_port, .. } = self.record;
        socket_address(family, local_addr, local_port)
    }

    /// The transport protocol's name.
    pub fn protocol(&self) -> Option<&'static str> {
        if i32::from(self.record.family) == libc::AF_UNIX {
            return None;
        }
        Some(match (i32::from(self.record.protocol), i32::from(self.record.socket_type)) {
            (libc::IPPROTO_TCP, _) => "tcp",
            (libc::IPPROTO_UDP, _) => "udp",
            (libc::IPPROTO_MPTCP, _) => "mptcp",
            (libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6, _) => "icmp",
            (_, libc::SOCK_RAW) => "raw",
            _ => "other",
        })
    }

    /// Where the address was read.
    pub fn source_name(&self) -> &'static str {
        match self.record.source {
            source::SOCKET => "socket",
            source::KERNEL_COPY => "kernel_copy",
            source::CALLER => "caller",
            _ => "none",
        }
    }
}

impl Model for Connect<'_> {
    fn type_name(&self) -> &'static str {
        // Whatever did it, if not the call for it.
        if self.record.fd < 0 && self.record.source != source::NONE {
            return kind_name(self.record.header.kind);
        }
        call_name(self.record.call, self.record.header.flags)
    }

    fn result(&self) -> Option<i64> {
        Some(self.record.result.into())
    }

    fn path(&self) -> Option<(&[u8], Path)> {
        (i32::from(self.record.family) == libc::AF_UNIX).then_some((self.path, self.record.path))
    }

    fn write_json(&self, subject: &Subject<'_>, out: &mut Members<'_>) {
        let record = &self.record;
        out.number("result", record.result.into());
        out.number("fd", record.fd.into());
        out.named("family", record.family.into(), &FAMILY);
        if let Some(protocol) = self.protocol() {
            out.text("protocol", protocol.as_bytes());
        }
        write_ends(subject, self.remote(), self.local(), out);
        if let Some((text, path)) = self.path() {
            out.path("path", text, &path);
        }
        out.text("address_source", self.source_name().as_bytes());
    }

    fn write_line(&self, _subject: &Subject<'_>, out: &mut String) {
        let address = match self.record.header.kind {
            kind::BIND | kind::LISTEN => self.local(),
            _ => self.remote(),
        };
        match (address, self.path) {
            (Some(address), _) => {
                let _ = write!(out, "{} {address}", self.protocol().unwrap_or("other"));
            }
            (None, []) => FAMILY.write(self.record.family.into(), out),
            (None, path) => {
                out.push_str("unix ");
                escape(path, out);
            }
        }
        write_failure(self.record.result.into(), out);
    }
}
