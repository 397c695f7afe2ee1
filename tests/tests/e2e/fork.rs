//! `fork`: who came from whom.

use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

#[test]
fn fork_names_parent_and_child_and_the_child_keeps_the_container() {
    if let Some(reason) = cannot_trace() {
        skip!("fork_names_parent_and_child_and_the_child_keeps_the_container", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("fork").unwrap();
    container.sh("(exit 7); true").unwrap();
    // The subshell never execs: its parent's fork is all that tells where it came from.
    let exit =
        daemon.wait_for(|record| is_event(record, "exit", container.id()) && record["event"]["code"] == 7);
    let key = &exit["process"]["key"];
    let fork = daemon
        .wait_for(|record| is_event(record, "fork", container.id()) && record["event"]["child_key"] == *key);
    assert_eq!(fork["event"]["type"], "clone");
    assert_eq!(fork["event"]["child_pid"], exit["process"]["pid"]);
    assert_eq!(fork["event"]["child_vpid"], exit["process"]["vpid"]);
    assert_eq!(fork["process"]["key"], exit["process"]["parent_key"]);
    assert_eq!(exit["process"]["name"], "sh");
    assert_eq!(exit["process"]["cmdline"], fork["process"]["cmdline"]);
}

#[test]
fn double_fork_keeps_its_origin_when_the_process_between_has_gone() {
    if let Some(reason) = cannot_trace() {
        skip!("double_fork_keeps_its_origin_when_the_process_between_has_gone", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("orphan").unwrap();
    container.sh("(cat /etc/hosts_never_there & ) ; sleep 0.1").unwrap();
    let open = daemon.wait_for(|record| {
        is_event(record, "open", container.id()) && record["event"]["file"] == "/etc/hosts_never_there"
    });
    let between = daemon.wait_for(|record| {
        is_event(record, "fork", container.id())
            && record["event"]["child_key"] == open["process"]["parent_key"]
    });
    assert_eq!(between["process"]["name"], "sh");
    assert_eq!(open["container"]["id"], container.id());
}
