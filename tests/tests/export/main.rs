//! Exporters and real receivers, which are killed, cut off and started again while 10,000 events are on their way: each
//! record of the log arrives at least once, in order, unaltered. `receiver.rs` has the receivers, `stage.rs` the play, in
//! which a program writes events; in `daemon.rs` it is the daemon.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod command;
mod daemon;
mod http;
mod kafka;
mod otlp;
mod receiver;
mod stage;
mod syslog;
