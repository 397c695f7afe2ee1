//! End to end: a real daemon, real containers by runc, and what the audit log has to say about them. One file
//! per kind of event, and one for the daemon itself. All settings but those that a test is about are defaults.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod confine;
mod connect;
mod daemon;
mod dns;
mod exec;
mod exit;
mod fairness;
mod flow;
mod fork;
mod identity;
mod log;
mod open;
mod profile;
mod recording;
mod restart;
mod state;
mod syscalls;
mod udp;

/// Does one operation of io_uring and gives its result; `None` if this machine has no io_uring.
fn by_ring(entry: &io_uring::squeue::Entry) -> Option<i32> {
    let mut ring = io_uring::IoUring::new(4).ok()?;
    // SAFETY: callers keep what the entry points to until the result is there.
    unsafe { ring.submission().push(entry) }.unwrap();
    ring.submit_and_wait(1).unwrap();
    Some(ring.completion().next().unwrap().result())
}

/// Records every event in containers.
const ALL: &str = "log.record=container.id != host";
