//! Typed events: what the probes saw, borrowed from the bytes that they wrote.
//! [`decode`] makes them; `fields` gives their values the names that rules, formats and docs use.

mod capability;
mod decode;
pub mod errno;
pub mod field;
pub mod human;
pub mod json;
mod table;
pub mod text;

use std::net::{IpAddr, SocketAddr};

use taffrail_common::event as abi;

pub use decode::{Malformed, decode};

/// One event, by kind. The text parts borrow from the ring's bytes; all of them were chosen by whoever
/// runs in the container.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A process replaced its image.
    Exec(Exec<'a>),
    /// A process was created.
    Fork(abi::Fork),
    /// The last thread of a process ended.
    Exit(abi::Exit),
    /// A file was opened, or an open failed.
    Open(Open<'a>),
    /// A socket was connected, or a connect failed.
    Connect(Connect<'a>),
}

/// `exec`, with its texts.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    /// The numbers.
    pub record: abi::Exec,
    /// Path of the file that runs.
    pub exe: &'a [u8],
    /// Working directory.
    pub cwd: &'a [u8],
    /// The name that was asked for.
    pub filename: &'a [u8],
    /// The arguments, each ended by NUL (the last may be cut).
    pub args: &'a [u8],
}

/// `open`, with its texts.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// The numbers.
    pub record: abi::Open,
    /// Path of the file.
    pub file: &'a [u8],
    /// Of a failed call with a relative name: the directory it was relative to.
    pub base: &'a [u8],
}

/// `connect`, with its texts.
#[derive(Clone, Copy, Debug)]
pub struct Connect<'a> {
    /// The numbers.
    pub record: abi::Connect,
    /// Unix sockets: the peer's name.
    pub path: &'a [u8],
}

impl Event<'_> {
    /// The part that all events have.
    pub fn header(&self) -> &abi::Header {
        match self {
            Event::Exec(exec) => &exec.record.header,
            Event::Fork(fork) => &fork.header,
            Event::Exit(exit) => &exit.header,
            Event::Open(open) => &open.record.header,
            Event::Connect(connect) => &connect.record.header,
        }
    }

    /// The kind's name: `exec`, `fork` …
    pub fn kind(&self) -> &'static str {
        kind_name(self.header().kind)
    }

    /// What the call returned, for events that are one call: 0 or more, or a negative errno.
    pub fn result(&self) -> Option<i32> {
        match self {
            Event::Open(open) => Some(open.record.result),
            Event::Connect(connect) => Some(connect.record.result),
            Event::Exec(_) | Event::Fork(_) | Event::Exit(_) => None,
        }
    }
}

macro_rules! kind_names {
    ($( ($id:literal, $name:ident, $record:ident, $lane:ident) )*) => {
        /// The name of a kind by its id; `unknown` if there is no such kind.
        pub fn kind_name(kind: u16) -> &'static str {
            match kind {
                $( $id => stringify!($name), )*
                _ => "unknown",
            }
        }
    };
}
taffrail_common::for_each_kind!(kind_names);

impl Connect<'_> {
    /// The peer's address; an IPv4 address in IPv6 form is given as what it is.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.address(self.record.remote_addr, self.record.remote_port)
    }

    /// The own address.
    pub fn local(&self) -> Option<SocketAddr> {
        self.address(self.record.local_addr, self.record.local_port)
    }

    fn address(&self, bytes: [u8; 16], port: u16) -> Option<SocketAddr> {
        let [a, b, c, d, ..] = bytes;
        let ip = match i32::from(self.record.family) {
            libc::AF_INET => IpAddr::from([a, b, c, d]),
            libc::AF_INET6 => IpAddr::from(bytes).to_canonical(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }
}
