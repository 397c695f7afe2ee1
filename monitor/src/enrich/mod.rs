//! Puts a name to each event: the process and its ancestors, the container.

pub mod container;
pub mod process;

use crate::event::Event;
use container::Container;
use process::{Process, ProcessTable};

/// An event and all that is known about who did it: what rules, formats and views look at.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// What happened.
    pub event: &'a Event<'a>,
    /// When, as `CLOCK_REALTIME`, in ns since the epoch.
    pub time_ns: u64,
    /// The process that did it (of a fork: the parent), as it is after the event.
    pub process: &'a Process,
    /// For looking up ancestors.
    pub processes: &'a ProcessTable,
    /// Its container; `None` is the host.
    pub container: Option<&'a Container>,
}
