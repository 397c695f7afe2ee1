//! Containers within containers: the outer one is the one that a runtime of the host knows.

use serde_json::{Value, json};
use taffrail_tests::container::{Container, Machine};
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

#[test]
fn what_runs_in_a_container_within_a_container_is_the_outer_ones_and_marked() {
    const TEST: &str = "what_runs_in_a_container_within_a_container_is_the_outer_ones_and_marked";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let machine = Machine { layers: &[], host_processes: false, is_privileged: true };
    let before = Container::with_machine("outer", &machine, |_| Ok(())).unwrap();
    let daemon = Daemon::start(&[crate::ALL]);
    let after = Container::with_machine("outer", &machine, |_| Ok(())).unwrap();
    for container in [&before, &after] {
        // As a runtime in there would: namespaces of its own, a process 1, programs.
        let inner =
            container.sh("unshare --pid --mount --fork sh -c 'true inner; cat /etc/hostname'; true").unwrap();
        assert!(inner.status.success(), "{inner:?}");
        // Namespaces for mounts alone are what each service of systemd can have.
        container.sh("unshare --mount cat /etc/group; cat /etc/passwd; true").unwrap();
    }
    daemon.wait_for(|record| {
        is_event(record, "exec", after.id()) && record["event"]["args"] == json!(["cat", "/etc/passwd"])
    });
    let (_, records) = daemon.stop();
    for container in [&before, &after] {
        let nested = |args: Value| {
            let is_it =
                |record: &&Value| is_event(record, "exec", container.id()) && record["event"]["args"] == args;
            let exec = records.iter().find(is_it).unwrap_or_else(|| panic!("no {args}"));
            exec["container"]["nested"].clone()
        };
        assert_eq!(nested(json!(["cat", "/etc/hostname"])), true);
        assert_eq!(nested(json!(["cat", "/etc/group"])), Value::Null);
        assert_eq!(nested(json!(["cat", "/etc/passwd"])), Value::Null);
        assert_eq!(
            nested(json!([
                "unshare",
                "--pid",
                "--mount",
                "--fork",
                "sh",
                "-c",
                "true inner; cat /etc/hostname"
            ])),
            Value::Null
        );
    }
}
