//! Whose events are, as processes and containers come and go.

use super::container::Runtime;
use super::*;
use crate::event::decode;
use crate::testing::{exec, exit, fork, open};

const SECOND: u64 = 1_000_000_000;

fn enricher() -> Enricher {
    let mut enricher = Enricher::new(Source::Recorded, 1024);
    let id = "c".repeat(64);
    let container = Container::new(id, Runtime::Docker, None, "/docker/c".into());
    // What the samples' cgroup id is.
    enricher.recall_cgroup(7, Some(container));
    enricher.recall_cgroup(1, None);
    enricher
}

fn in_cgroup(mut record: Vec<u8>, id: u64) -> Vec<u8> {
    let at = std::mem::offset_of!(Header, cgroup_id);
    record[at..at + 8].copy_from_slice(&id.to_ne_bytes());
    record
}

fn with_ns_tgid(mut record: Vec<u8>, ns_tgid: u32) -> Vec<u8> {
    let at = std::mem::offset_of!(Header, ns_tgid);
    record[at..at + 4].copy_from_slice(&ns_tgid.to_ne_bytes());
    record
}

fn in_mount_namespace(mut record: Vec<u8>, inode: u32) -> Vec<u8> {
    let at = std::mem::offset_of!(Header, mnt_ns);
    record[at..at + 4].copy_from_slice(&inode.to_ne_bytes());
    record
}

/// Handles a record and gives its process as it is then.
fn handle(enricher: &mut Enricher, record: &[u8]) -> Process {
    let Handled::Process(key) = enricher.handle(&decode(record).unwrap()) else { panic!("a duplicate") };
    enricher.processes.get(key).unwrap().clone()
}

#[test]
fn event_of_nobody_has_the_container_of_its_cgroup_each_time_and_is_nobodys_parent() {
    let mut enricher = enricher();
    let udp = crate::testing::udp(0, 0, ([10, 0, 0, 1], 53));
    let first = handle(&mut enricher, &udp);
    assert_eq!((first.key.tgid, first.container.as_ref().map(|it| it.id.len())), (0, Some(64)));
    let second = handle(&mut enricher, &in_cgroup(udp, 1));
    assert_eq!((second.key.tgid, second.container), (0, None));
    // Its fork was not seen, so its parent is not known.
    let unknown = handle(&mut enricher, &open(10, SECOND, "/x", 0, 3));
    assert_eq!(enricher.processes.ancestors(&unknown).count(), 0);
}

#[test]
fn child_is_its_parent_until_it_execs() {
    let mut enricher = enricher();
    handle(&mut enricher, &exec(10, SECOND, (1, 0), "/bin/sh", &["sh"]));
    handle(&mut enricher, &fork(10, SECOND, (11, 2 * SECOND)));
    let child = handle(&mut enricher, &open(11, 2 * SECOND, "/x", 0, 3));
    assert_eq!(*child.image.exe, *b"/bin/sh");
    assert_eq!(child.parent, ProcessKey::new(10, SECOND));
    let child = handle(&mut enricher, &exec(11, 2 * SECOND, (10, SECOND), "/bin/cat", &["cat", "x"]));
    assert_eq!(
        (&*child.image.exe, &*child.image.exeline, child.name()),
        (&b"/bin/cat"[..], &b"cat x"[..], &b"cat"[..])
    );
    let names: Vec<_> =
        enricher.processes.ancestors(&child).map(|process| process.image.exe.to_vec()).collect();
    assert_eq!(names, [b"/bin/sh".to_vec()]);
}

#[test]
fn id_that_is_used_again_is_another_process_and_late_events_find_the_old_one() {
    let mut enricher = enricher();
    handle(&mut enricher, &exec(10, SECOND, (1, 0), "/bin/old", &["old"]));
    handle(&mut enricher, &exit(10, SECOND, 0));
    handle(&mut enricher, &exec(10, 5 * SECOND, (1, 0), "/bin/new", &["new"]));
    let late = handle(&mut enricher, &open(10, SECOND, "/x", 0, 3));
    assert_eq!((&*late.image.exe, late.ended), (&b"/bin/old"[..], true));
    let new = handle(&mut enricher, &open(10, 5 * SECOND, "/x", 0, 3));
    assert_eq!((&*new.image.exe, new.ended), (&b"/bin/new"[..], false));
}

#[test]
fn second_end_of_a_process_is_a_duplicate() {
    let mut enricher = enricher();
    handle(&mut enricher, &exec(10, SECOND, (1, 0), "/bin/sh", &["sh"]));
    handle(&mut enricher, &exit(10, SECOND, 0));
    let again = exit(10, SECOND, 0);
    assert_eq!(enricher.handle(&decode(&again).unwrap()), Handled::Duplicate);
}

#[test]
fn process_keeps_its_container_when_it_moves_out_and_takes_one_when_it_moves_in() {
    let mut enricher = enricher();
    let inside = handle(&mut enricher, &exec(10, SECOND, (1, 0), "/bin/sh", &["sh"]));
    assert!(inside.container.is_some() && !inside.from_host);
    let moved = handle(&mut enricher, &in_cgroup(open(10, SECOND, "/x", 0, 3), 1));
    assert_eq!((moved.container, moved.cgroup_id), (inside.container, 1));

    let host = handle(&mut enricher, &in_cgroup(exec(20, SECOND, (1, 0), "/usr/bin/x", &["x"]), 1));
    assert_eq!(host.container, None);
    assert!(handle(&mut enricher, &open(20, SECOND, "/x", 0, 3)).container.is_some());
}

#[test]
fn runtime_on_its_way_in_is_marked_until_it_starts_the_containers_program() {
    let mut enricher = enricher();
    let host = 1;
    let start =
        in_cgroup(in_mount_namespace(exec(10, SECOND, (1, 0), "/usr/sbin/runc", &["runc", "init"]), host), 1);
    assert!(handle(&mut enricher, &start).container.is_none());
    // Moved into the cgroup, it starts itself anew, forks, and enters the namespaces.
    let again = in_mount_namespace(exec(10, SECOND, (1, 0), "/runc", &["runc", "init"]), host);
    assert!(handle(&mut enricher, &again).from_host);
    handle(&mut enricher, &in_mount_namespace(fork(10, SECOND, (11, 2 * SECOND)), host));
    assert!(handle(&mut enricher, &open(11, 2 * SECOND, "/etc/passwd", 0, 3)).from_host);
    // The container's own program, even if it has no namespaces of its own, and one that has the name.
    handle(&mut enricher, &in_mount_namespace(fork(10, SECOND, (12, 2 * SECOND)), host));
    let program = in_mount_namespace(exec(12, 2 * SECOND, (10, SECOND), "/bin/sh", &["sh"]), host);
    assert!(!handle(&mut enricher, &program).from_host);
    assert!(!handle(&mut enricher, &exec(11, 2 * SECOND, (10, SECOND), "/bin/sh", &["sh"])).from_host);
    assert!(!handle(&mut enricher, &exec(11, 2 * SECOND, (10, SECOND), "/tmp/runc", &["runc"])).from_host);
}

#[test]
fn program_that_is_started_into_a_running_container_from_the_host_is_a_session_with_all_its_children() {
    let mut enricher = enricher();
    let host = 1;
    // A runtime's way in: on the host, into the cgroup, into the namespaces, as that process in there.
    let mut enter = |tgid, ns_tgid| {
        let start = exec(tgid, SECOND, (1, 0), "/usr/sbin/runc", &["runc", "init"]);
        let start = with_ns_tgid(in_cgroup(in_mount_namespace(start, host), 1), ns_tgid);
        handle(&mut enricher, &start);
        handle(&mut enricher, &in_mount_namespace(open(tgid, SECOND, "/x", 0, 3), host));
        let program = handle(&mut enricher, &exec(tgid, SECOND, (1, 0), "/bin/x", &["x"]));
        handle(&mut enricher, &fork(tgid, SECOND, (tgid + 1, 2 * SECOND)));
        let child = handle(&mut enricher, &exec(tgid + 1, 2 * SECOND, (tgid, SECOND), "/bin/y", &["y"]));
        assert_eq!(child.exec_session, program.exec_session);
        (program.from_host, program.exec_session)
    };
    assert_eq!(enter(10, 1), (false, None));
    assert_eq!(enter(20, 20), (false, Some(ProcessKey::new(20, SECOND))));
    // It was restarted.
    assert_eq!(enter(30, 1), (false, None));
}

#[test]
fn table_is_bounded_and_counts_what_it_forgets() {
    let mut enricher = Enricher::new(Source::Recorded, 64);
    for tgid in 0..1_000 {
        handle(&mut enricher, &exec(tgid, SECOND, (1, 0), "/bin/x", &["x"]));
        enricher.handle(&decode(&exit(tgid, SECOND, 0)).unwrap());
    }
    assert!(enricher.processes.len() <= 64);
    let stats = enricher.processes.stats();
    assert_eq!((stats.unknown, stats.evicted_running), (1_000, 0));
    assert_eq!(stats.evicted + enricher.processes.len() as u64, 1_000);
    for tgid in 0..1_000 {
        handle(&mut enricher, &exec(tgid, 2 * SECOND, (1, 0), "/bin/x", &["x"]));
    }
    assert!(enricher.processes.len() <= 64 && enricher.processes.stats().evicted_running > 0);
}

#[test]
fn containers_of_one_name_are_told_apart() {
    let mut enricher = Enricher::new(Source::Recorded, 64);
    let web = |cgroup_path: &str| Container::new("web".into(), Runtime::Oci, None, cgroup_path.into());
    enricher.recall_cgroup(10, Some(web("/web")));
    enricher.recall_cgroup(20, Some(web("/elsewhere/web")));
    assert_eq!(enricher.container_of(10).as_deref(), Some(&web("/web")));
    assert_eq!(enricher.container_of(20).as_deref(), Some(&web("/elsewhere/web")));
}

#[test]
fn ended_parent_is_known_as_long_as_a_child_runs() {
    let mut enricher = Enricher::new(Source::Recorded, 64);
    handle(&mut enricher, &exec(10, SECOND, (1, 0), "/usr/sbin/nginx", &["nginx"]));
    handle(&mut enricher, &fork(10, SECOND, (11, 2 * SECOND)));
    handle(&mut enricher, &exec(11, 2 * SECOND, (10, SECOND), "/bin/sh", &["sh"]));
    handle(&mut enricher, &fork(11, 2 * SECOND, (12, 3 * SECOND)));
    handle(&mut enricher, &exit(11, 2 * SECOND, 0));
    // Whoever wants to lose his past starts many that end at once.
    for tgid in 100..1_000 {
        handle(&mut enricher, &fork(12, 3 * SECOND, (tgid, 4 * SECOND)));
        handle(&mut enricher, &exit(tgid, 4 * SECOND, 0));
    }
    let child = handle(&mut enricher, &open(12, 3 * SECOND, "/x", 0, 3));
    let names: Vec<_> = enricher.processes.ancestors(&child).map(|of| of.image.exe.to_vec()).collect();
    assert_eq!(names, [b"/bin/sh".to_vec(), b"/usr/sbin/nginx".to_vec()]);
    assert!(enricher.processes.len() <= 64);
}

#[test]
fn second_process_of_an_id_in_the_same_tick_has_a_key_and_a_life_of_its_own() {
    let mut enricher = enricher();
    let mut keys = Vec::new();
    for (child, name) in [((11, SECOND + 1), "/bin/first"), ((11, SECOND + 2), "/bin/second")] {
        for record in [
            fork(10, SECOND, child),
            exec(child.0, child.1, (10, SECOND), name, &["x"]),
            exit(child.0, child.1, 0),
        ] {
            let event = decode(&record).unwrap();
            assert_ne!(enricher.handle(&event), Handled::Duplicate);
        }
        let key = enricher.processes.key(child.0, child.1);
        assert_eq!(*enricher.processes.get(key).unwrap().image.exe, *name.as_bytes());
        keys.push(key.to_string());
    }
    assert_eq!(keys, ["11-100", "11-100-3"]);
}

#[test]
fn second_process_of_an_id_in_the_same_tick_keeps_its_key_when_the_first_is_forgotten() {
    let mut enricher = Enricher::new(Source::Recorded, 16);
    handle(&mut enricher, &exec(11, SECOND + 1, (1, 0), "/bin/first", &["x"]));
    handle(&mut enricher, &exit(11, SECOND + 1, 0));
    handle(&mut enricher, &exec(11, SECOND + 2, (1, 0), "/bin/second", &["x"]));
    for tgid in 100..120 {
        handle(&mut enricher, &exec(tgid, SECOND, (1, 0), "/bin/x", &["x"]));
        handle(&mut enricher, &exit(tgid, SECOND, 0));
    }
    assert!(enricher.processes.get(ProcessKey::new(11, SECOND + 1)).is_none(), "it is to be forgotten");
    let second = handle(&mut enricher, &open(11, SECOND + 2, "/x", 0, 3));
    assert_eq!((second.key.to_string(), &*second.image.exe), ("11-100-3".to_owned(), &b"/bin/second"[..]));
}

#[test]
fn programs_with_long_arguments_make_older_ones_be_forgotten_and_not_memory_run_out() {
    let long = "a".repeat(4000);
    for is_over in [true, false] {
        let mut enricher = Enricher::new(Source::Recorded, 65_536);
        for tgid in 100..15_100 {
            handle(&mut enricher, &exec(tgid, SECOND, (1, 0), "/bin/x", &[&long]));
            if is_over {
                handle(&mut enricher, &exit(tgid, SECOND, 0));
            }
        }
        // Each takes some 12,000 bytes of 128 MiB.
        let known = enricher.processes.len();
        assert!((10_000..11_200).contains(&known), "{known} are known");
        let stats = enricher.processes.stats();
        assert_eq!((stats.evicted + stats.evicted_running) as usize, 15_000 - known);
        assert_eq!(stats.evicted > 0, is_over);
        // One that takes little has place at once.
        let small = handle(&mut enricher, &exec(20_000, SECOND, (1, 0), "/bin/y", &["y"]));
        assert_eq!(*small.image.exe, *b"/bin/y");
    }
}
