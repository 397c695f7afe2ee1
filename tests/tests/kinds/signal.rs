//! `signal`: what ends another process, or goes to another container.

use std::io;

use serde_json::json;
use taffrail_tests::sandbox::Options;
use taffrail_tests::syscall;

use crate::{end, idle_child, set, watch};

#[test]
fn signal_that_ends_another_process_is_told_and_others_are_not() {
    let Some(seen) = watch("signal_that_ends_another_process_is_told_and_others_are_not", || {
        let child = idle_child()?;
        syscall!(libc::SYS_kill, child, 0)?;
        syscall!(libc::SYS_kill, child, libc::SIGCONT)?;
        // SAFETY: no handler is involved.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        let own = syscall!(libc::SYS_getpid)?;
        syscall!(libc::SYS_tgkill, own, syscall!(libc::SYS_gettid)?, libc::SIGTERM)?;
        syscall!(libc::SYS_kill, child, libc::SIGTERM)?;
        syscall!(libc::SYS_wait4, child, 0, 0, 0)?;
        let second = idle_child()?;
        end(second);
        Ok((child, second))
    }) else {
        return;
    };
    let (child, second) = seen.value;
    for (name, target) in [("SIGTERM", child), ("SIGKILL", second)] {
        let event = seen.one("signal", json!({"signal_name": name, "outcome": "delivered"}));
        assert_eq!(event["process"]["pid"], seen.pid);
        assert_eq!(
            (&event["target"]["vpid"], &event["target"]["container_id"]),
            (&json!(target), &json!(seen.container))
        );
    }
    assert_eq!(seen.all("signal", &json!({})).len(), 2);
}

#[test]
fn any_signal_to_another_container_is_told_with_both_sides() {
    let test = "any_signal_to_another_container_is_told_with_both_sides";
    let settings = ["scope.host=true", "log.record=evt.kind = signal", "rules.embedded=false"];
    let Some((daemon, sandbox)) = set(test, &settings, Options::default()) else { return };
    let running = sandbox
        .spawn(|| -> io::Result<()> {
            loop {
                // SAFETY: no arguments.
                unsafe { libc::pause() };
            }
        })
        .unwrap();
    let target = running.pid();
    syscall!(libc::SYS_kill, target, libc::SIGCONT).unwrap();
    let event =
        daemon.wait_for(|record| record["event"]["kind"] == "signal" && record["target"]["pid"] == target);
    assert_eq!(event["event"]["signal_name"], "SIGCONT");
    assert_eq!((&event["process"]["pid"], &event["container"]), (&json!(std::process::id()), &json!(null)));
    assert_eq!(event["target"]["container_id"], sandbox.id());
    drop(running);
}
