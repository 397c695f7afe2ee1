//! Whose cgroups are: what is known, what is forgotten, what is gone.

use super::*;

fn hint(path: &str) -> Hint {
    Hint::new(path.as_bytes(), true)
}

/// Owners that were told these paths.
fn owners(paths: &[(u64, &str)]) -> Owners {
    let mut owners = Owners::live(None);
    for (id, path) in paths {
        owners.sight(*id, || Some(hint(path)));
    }
    owners
}

fn id_of(owners: &mut Owners, cgroup: u64) -> Option<String> {
    owners.container_of(cgroup).map(|container| container.id.clone())
}

#[test]
fn cgroup_that_was_gone_before_it_was_known_is_nobodys_and_not_the_hosts() {
    let id = "c".repeat(64);
    let mut owners = owners(&[(10, &format!("/docker/{id}")), (11, "/system.slice/ssh.service")]);
    assert_eq!(id_of(&mut owners, 10), Some(id));
    let [known, host, unknown] = [10, 11, 12].map(|cgroup| owners.owner_of(cgroup));
    assert!(matches!(known, Owner::Container(_)));
    assert_eq!([host, unknown], [Owner::Host, Owner::Unknown]);
}

#[test]
fn cgroups_that_have_counters_or_are_gone_are_not_forgotten_for_room() {
    let mut owners = Owners::live(None);
    for id in 1..=CGROUPS_MAX as u64 {
        assert!(!owners.is_full());
        owners.sight(id, || Some(hint("/system.slice/x.service")));
    }
    assert!(owners.is_full());
    owners.removed(8, hint("/system.slice/x.service"));
    owners.forget(&[7, 10]);
    let known = [7, 8, 9, 10].map(|id| owners.owner_of(id));
    assert_eq!(known, [Owner::Host, Owner::Host, Owner::Unknown, Owner::Host]);
}

#[test]
fn container_that_is_gone_is_known_for_events_that_come_late() {
    let id = "c".repeat(64);
    let path = format!("/docker/{id}");
    let mut owners = owners(&[(10, &path)]);
    owners.removed(10, hint(&path));
    assert_eq!(id_of(&mut owners, 10), Some(id));
    assert!(owners.is_settled(10));
}

#[test]
fn what_is_gone_is_bounded_and_counted_and_a_container_crowds_out_only_what_is_within_containers() {
    let id = "c".repeat(64);
    let path = format!("/docker/{id}");
    let mut owners = owners(&[(10, &path)]);
    owners.removed(10, hint(&path));
    for below in 1_000..1_000 + 2 * GONE_MAX as u64 {
        let path = format!("/docker/{}/x", "d".repeat(64));
        owners.sight(below, || Some(hint(&path)));
        owners.removed(below, hint(&path));
    }
    assert_eq!(id_of(&mut owners, 10), Some(id));
    assert_eq!(owners.known.len(), GONE_MAX + 1);
    assert_eq!(owners.stats().forgotten, GONE_MAX as u64);
}

#[test]
fn thread_answers_what_whoever_reads_the_records_asks_before_the_events_are_handled() {
    let path = format!("/docker/{}", "c".repeat(64));
    let mut owners = Owners::live(None);
    let asker = owners.start().unwrap().unwrap();
    asker.look_ahead(&crate::testing::cgroup(1, 1, (10, &path), false));
    asker.look_ahead(&crate::testing::open(1, 1, "/x", 0, 3));
    owners.made(10, || None);
    owners.wait_for(&[10]);
    let found = owners.container_of(10).unwrap();
    assert_eq!(found.cgroup_path, path);
    let Some(Finding::Cgroup { id: 10, container: Some(container), .. }) = owners.findings.first() else {
        panic!("{:?}", owners.findings);
    };
    assert!(Arc::ptr_eq(container, &found));
}
