//! What should not happen, and what the log says of it afterwards: no CPU time, no memory, no disk, no receiver. Elsewhere
//! are: a daemon that is stopped by a signal while a container floods (`e2e/fairness.rs`, `e2e/log.rs`), or killed
//! (`e2e/restart.rs`, `e2e/log.rs`, and the log alone a thousand times in `audit.rs`); receivers that are killed and networks
//! that are cut (`export`); clients that mean no good (`serve`); a wall clock that is set (`clock.rs`, in VMs); all of it
//! for an hour (`cargo xtask soak`).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod disk;
mod memory;
mod receiver;
mod standstill;

/// Records every event in containers.
const ALL: &str = "log.record=container.id != host";

/// Verifies a log: exit code, and what is said.
fn verify(log: &std::path::Path) -> (Option<i32>, String) {
    let output = taffrail_tests::daemon::taffrail(&["audit", "verify"]).arg(log).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}
