//! `cgroup_move`: who puts whom into which cgroup.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use serde_json::json;
use taffrail_tests::sandbox::Options;
use taffrail_tests::syscall;

use crate::{ALL, end, finish, idle_child, set};

#[test]
fn move_of_oneself_and_of_another_is_told_with_the_new_cgroup() {
    let test = "move_of_oneself_and_of_another_is_told_with_the_new_cgroup";
    let Some((daemon, sandbox)) = set(test, ALL, Options::default()) else { return };
    let below = sandbox.cgroup().join("below");
    std::fs::create_dir(&below).unwrap();
    let (id, path) = (below.metadata().unwrap().ino(), format!("/docker/{}/below", sandbox.id()));
    let mut procs = File::options().write(true).open(below.join("cgroup.procs")).unwrap();
    let Some(seen) = finish(test, daemon, &sandbox, move || {
        let child = idle_child()?;
        write!(procs, "{child}")?;
        write!(procs, "0")?;
        end(child);
        Ok((syscall!(libc::SYS_getpid)?, child))
    }) else {
        return;
    };
    let (own, child) = seen.value;
    let moves = seen.all("cgroup_move", &json!({"path": path, "cgroup_id": id, "whole_process": true}));
    let targets: Vec<_> = moves.iter().map(|record| record["target"]["vpid"].clone()).collect();
    assert_eq!(targets, [json!(child), json!(own)]);
    for record in moves {
        assert_eq!(record["process"]["pid"], seen.pid);
        assert_eq!(record["target"]["container_id"], seen.container);
    }
}
