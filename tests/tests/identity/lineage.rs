//! Who came from whom, where the kernel shares memory between parent and child, and where the daemon was not there. Double
//! forks, subreapers, ids that are used again and execs by other threads are tricks: see `tests/evasion`.

use std::io;
use std::ptr::null;

use serde_json::Value;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::sandbox::{self, Sandbox};
use taffrail_tests::{cannot_load, cannot_trace, skip};

#[test]
fn child_that_shares_its_parents_memory_until_it_execs_changes_nothing_of_the_parent() {
    const TEST: &str = "child_that_shares_its_parents_memory_until_it_execs_changes_nothing_of_the_parent";
    if let Some(reason) = cannot_load().or_else(sandbox::unavailable) {
        skip!(TEST, "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let sandbox = Sandbox::new().unwrap();
    let ran = sandbox.run(|| {
        let (mut child, mut status) = (0, 0);
        let arguments = [c"/bin/program".as_ptr().cast_mut(), std::ptr::null_mut()];
        // SAFETY: the texts and arrays live until the call returns.
        let error = unsafe {
            libc::posix_spawn(
                &raw mut child,
                arguments[0],
                null(),
                null(),
                arguments.as_ptr(),
                arguments[1..].as_ptr(),
            )
        };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: the status is ours to write to.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        let _ = std::fs::read("/etc/passwd");
        Ok((child, status))
    });
    let ran = ran.unwrap();
    let (child, status) = ran.value;
    assert_eq!(status, 0);
    let (_, records) = daemon.stop();
    let one = |kind: &str, is_it: &dyn Fn(&Value) -> bool| {
        let found = records.iter().find(|record| is_event(record, kind, sandbox.id()) && is_it(record));
        found.unwrap_or_else(|| panic!("no {kind}"))
    };
    let fork = one("fork", &|record| record["event"]["child_vpid"] == child);
    assert!(fork["event"]["clone_flags"].as_u64().unwrap() & libc::CLONE_VM as u64 != 0, "{fork}");
    assert_eq!(fork["process"]["pid"], ran.pid);
    let exec = one("exec", &|record| record["process"]["key"] == fork["event"]["child_key"]);
    assert_eq!(exec["event"]["exe"], "/bin/program");
    assert_eq!(exec["process"]["parent_key"], fork["process"]["key"]);
    let open = one("open", &|record| record["event"]["file"] == "/etc/passwd");
    assert_eq!(open["process"]["key"], fork["process"]["key"]);
    assert_eq!(
        (&open["process"]["exe"], &open["process"]["cmdline"]),
        (&fork["process"]["exe"], &fork["process"]["cmdline"])
    );
}

#[test]
fn processes_keep_their_keys_and_ancestors_over_a_restart_and_are_told_of_once() {
    const TEST: &str = "processes_keep_their_keys_and_ancestors_over_a_restart_and_are_told_of_once";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let first = Daemon::start(&[crate::ALL]);
    let container = Container::start("restart").unwrap();
    let script = "(while [ ! -e /tmp/go ]; do sleep 0.1; done; cat /etc/passwd; true) & wait";
    let shell = std::thread::scope(|threads| {
        let running = threads.spawn(|| container.sh(script).unwrap());
        let is_shell =
            |record: &Value| is_event(record, "exec", container.id()) && record["event"]["args"][2] == script;
        let shell = first.wait_for(is_shell)["process"].clone();
        let forked = |record: &Value| {
            is_event(record, "fork", container.id()) && record["process"]["key"] == shell["key"]
        };
        let child = first.wait_for(forked)["event"]["child_key"].clone();
        first.stop();
        let second = Daemon::start(&[crate::ALL]);
        std::fs::write(container.root().join("tmp/go"), "").unwrap();
        let open = second.wait_for(|record| {
            is_event(record, "open", container.id()) && record["event"]["file"] == "/etc/passwd"
        });
        assert_eq!(open["process"]["parent_key"], child, "{open}");
        assert_eq!(open["process"]["parent_name"], "sh");
        assert!(running.join().unwrap().status.success());
        let (_, records) = second.stop();
        // What was there before is no event; its end is, once.
        let of = |kind: &str, key: &Value| {
            let is_its =
                |record: &&Value| is_event(record, kind, container.id()) && record["process"]["key"] == *key;
            records.iter().filter(is_its).count()
        };
        for key in [&child, &shell["key"]] {
            assert_eq!((of("exec", key), of("exit", key)), (0, 1), "{key}");
        }
        let exit = records
            .iter()
            .find(|record| is_event(record, "exit", container.id()) && record["process"]["key"] == child)
            .unwrap();
        assert_eq!(exit["process"]["parent_key"], shell["key"]);
        // It is still a session from the host, and so is what it started.
        assert_eq!(exit["process"]["exec_session"], shell["exec_session"]);
        shell
    });
    assert_eq!(shell["exec_session"], shell["key"]);
}
