//! Typed events: what the probes saw, borrowed from the bytes that they wrote. [`decode`] makes them; `model` has
//! what each kind tells; `fields` gives their values the names that rules, formats and docs use.

pub mod capability;
mod constant;
pub mod decode;
pub mod dns;
pub mod errno;
pub mod field;
pub mod human;
pub mod json;
pub mod logged;
pub mod model;
pub mod path;
mod table;
pub mod text;

use std::net::SocketAddr;

use taffrail_common::event as abi;

pub use decode::{Malformed, decode};
pub use model::{Call, Cgroup, CgroupMove, Connect, Dns, Exec, Model, Open};

/// One event, by its record. The text parts borrow from the ring's bytes; all of them were chosen by whoever
/// runs in the container.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum Event<'a> {
    /// A process replaced its image.
    Exec(Exec<'a>),
    /// A process was created.
    Fork(abi::Fork),
    /// The last thread of a process ended.
    Exit(abi::Exit),
    /// A file was opened, or an open failed.
    Open(Open<'a>),
    /// A socket was connected, bound, set to listen, or accepted; or that failed.
    Connect(Connect<'a>),
    /// A task changed its identity or rights.
    Cred(abi::Cred),
    /// A signal was sent.
    Signal(abi::Signal),
    /// A cgroup was made or removed.
    Cgroup(Cgroup<'a>),
    /// A task was put into another cgroup.
    CgroupMove(CgroupMove<'a>),
    /// A TCP connection ended, or was never made.
    Flow(abi::Flow),
    /// A system call that is an event by itself.
    Call(Call<'a>),
    /// The first datagram of a UDP flow.
    Udp(abi::Udp),
    /// A DNS message.
    Dns(Dns<'a>),
}

impl<'a> Event<'a> {
    /// What all kinds can tell.
    pub fn model(&self) -> &(dyn Model + 'a) {
        match self {
            Event::Exec(exec) => exec,
            Event::Fork(fork) => fork,
            Event::Exit(exit) => exit,
            Event::Open(open) => open,
            Event::Connect(connect) => connect,
            Event::Cred(cred) => cred,
            Event::Signal(signal) => signal,
            Event::Cgroup(cgroup) => cgroup,
            Event::CgroupMove(cgroup_move) => cgroup_move,
            Event::Flow(flow) => flow,
            Event::Call(call) => call,
            Event::Udp(udp) => udp,
            Event::Dns(dns) => dns,
        }
    }

    /// The part that all events have.
    pub fn header(&self) -> &abi::Header {
        match self {
            Event::Exec(exec) => &exec.record.header,
            Event::Fork(fork) => &fork.header,
            Event::Exit(exit) => &exit.header,
            Event::Open(open) => &open.record.header,
            Event::Connect(connect) => &connect.record.header,
            Event::Cred(cred) => &cred.header,
            Event::Signal(signal) => &signal.header,
            Event::Cgroup(cgroup) => &cgroup.record.header,
            Event::CgroupMove(cgroup_move) => &cgroup_move.record.header,
            Event::Flow(flow) => &flow.header,
            Event::Call(call) => &call.record.header,
            Event::Udp(udp) => &udp.header,
            Event::Dns(dns) => &dns.record.header,
        }
    }

    /// The kind's name: `exec`, `fork` …
    pub fn kind(&self) -> &'static str {
        kind_name(self.header().kind)
    }

    /// The peer's address, of events about a connection.
    pub fn remote(&self) -> Option<SocketAddr> {
        match self {
            Event::Connect(connect) => connect.remote(),
            Event::Flow(flow) => model::flow::remote(flow),
            Event::Udp(udp) => model::udp::remote(udp),
            Event::Dns(dns) => dns.remote(),
            _ => None,
        }
    }

    /// The own address, of events about a connection.
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Event::Connect(connect) => connect.local(),
            Event::Flow(flow) => model::flow::local(flow),
            Event::Udp(udp) => model::udp::local(udp),
            Event::Dns(dns) => dns.local(),
            _ => None,
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

/// The id of a kind by its name.
pub fn kind_id(name: &str) -> Option<u16> {
    (1..taffrail_common::kind::KINDS as u16).find(|id| kind_name(*id) == name)
}
