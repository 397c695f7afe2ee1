//! End to end: a real daemon, real containers by runc, and what the audit log has to say about them. One file
//! per kind of event, and one for the daemon itself. All settings but those that a test is about are defaults.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod act;
mod connect;
mod daemon;
mod exec;
mod exit;
mod fairness;
mod fork;
mod identity;
mod log;
mod open;
mod recording;
mod syscalls;

/// Records every event in containers.
const ALL: &str = "log.record=container.id != host";
