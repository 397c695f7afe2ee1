//! Typed events: what the probes saw, borrowed from the bytes that they wrote.
//! [`decode`] makes them; `fields` gives their values the names that rules, formats and docs use.

mod decode;
pub mod field;

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
        match self {
            Event::Exec(_) => "exec",
            Event::Fork(_) => "fork",
            Event::Exit(_) => "exit",
            Event::Open(_) => "open",
            Event::Connect(_) => "connect",
        }
    }
}
