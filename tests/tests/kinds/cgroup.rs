//! `cgroup`: cgroups that are made and removed, here by a container inside its own.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use serde_json::json;
use taffrail_tests::sandbox::Options;
use taffrail_tests::syscall;

use crate::{ALL, finish, set};

#[test]
fn cgroup_that_is_made_and_removed_is_told_with_its_path() {
    let test = "cgroup_that_is_made_and_removed_is_told_with_its_path";
    let Some((daemon, sandbox)) = set(test, ALL, Options::default()) else { return };
    let folder = File::open(sandbox.cgroup()).unwrap();
    let path = format!("/docker/{}/below", sandbox.id());
    let Some(seen) = finish(test, daemon, &sandbox, move || {
        let (folder, name) = (folder.as_raw_fd(), c"below".as_ptr());
        syscall!(libc::SYS_mkdirat, folder, name, 0o755)?;
        syscall!(libc::SYS_unlinkat, folder, name, libc::AT_REMOVEDIR)
    }) else {
        return;
    };
    let ids = ["cgroup_mkdir", "cgroup_rmdir"].map(|event| {
        let record = seen.one("cgroup", json!({"type": event, "path": path, "level": 3}));
        assert_eq!(record["process"]["pid"], seen.pid);
        record["event"]["cgroup_id"].clone()
    });
    assert!(ids[0].is_u64() && ids[0] == ids[1], "{ids:?}");
}
