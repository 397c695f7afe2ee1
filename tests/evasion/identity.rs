//! Attempts to be somebody else's process: another cgroup, another user namespace.

use std::io;
use std::path::Path;

use taffrail_tests::raw::{self, open};
use taffrail_tests::sandbox::unsupported;
use taffrail_tests::score::Verdict;
use taffrail_tests::syscall;

use crate::stage::{Ending, Object, Stage};

const SECRET: &str = "/etc/shadow";

fn plainly() -> io::Result<Object> {
    Object::of(&open(SECRET, libc::O_RDONLY)?)
}

/// Plays a trick that opens the secret as somebody else. A record that names no container, or another one, is not
/// enough.
#[track_caller]
fn disguised(trick: &'static str, part: impl FnOnce() -> io::Result<Object>) {
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(plainly).unwrap();
    let Some(tried) = stage.play(part) else { return };
    let ending = stage.end();
    ending.twin("the open", ending.opened(twin.pid, &twin.value, SECRET).0 == Verdict::Seen);
    let (verdict, note) = ending.opened(tried.pid, &tried.value, SECRET);
    if verdict == Verdict::Missed && elsewhere(&ending, tried.pid) {
        return ending.judge((verdict, "the open, but not as the container's".to_owned()));
    }
    ending.judge((verdict, format!("{note}, in its container")));
}

/// Whether that process's opens are told of another container.
fn elsewhere(ending: &Ending, pid: u32) -> bool {
    ending.records.iter().any(|record| {
        record["event"]["kind"] == "open"
            && record["process"]["pid"] == pid
            && record["container"]["id"] != *ending.container
    })
}

/// Mounts the cgroup tree, as a container with the right to mount can.
fn cgroups() -> io::Result<&'static Path> {
    std::fs::create_dir("/tmp/cgroup")?;
    raw::mount("cgroup2", "/tmp/cgroup", "cgroup2", 0, "").map_err(unsupported)?;
    Ok(Path::new("/tmp/cgroup"))
}

fn own_cgroup() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.map(str::to_owned).ok_or_else(|| io::Error::other("no v2 cgroup"))
}

#[test]
fn process_that_moves_to_the_hosts_cgroup_is_still_the_containers() {
    disguised("identity: move to the host's root cgroup, then open", || {
        let tree = cgroups()?;
        std::fs::write(tree.join("cgroup.procs"), "0").map_err(unsupported)?;
        assert_eq!(own_cgroup()?, "/");
        plainly()
    });
}

#[test]
fn process_that_moves_to_a_cgroup_named_as_another_container_is_still_its_own() {
    disguised("identity: move to a cgroup named as another container", || {
        let tree = cgroups()?;
        let own = own_cgroup()?;
        let fake = tree.join(own.trim_start_matches('/')).join(format!("docker-{}.scope", "d".repeat(64)));
        std::fs::create_dir(&fake).map_err(unsupported)?;
        std::fs::write(fake.join("cgroup.procs"), "0")?;
        assert_ne!(own_cgroup()?, own);
        plainly()
    });
}

#[test]
fn program_that_is_started_in_the_hosts_cgroup_is_still_the_containers() {
    let trick = "identity: move to the host's root cgroup, then exec";
    let Some(stage) = Stage::set(trick) else { return };
    let tried = stage.play(|| {
        let tree = cgroups()?;
        std::fs::write(tree.join("cgroup.procs"), "0").map_err(unsupported)?;
        crate::exec::execute("/bin/program", &["moved"])
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    let exec = ending.by_vpid(tried.value, "exec").any(|record| record["event"]["args"][0] == "moved");
    ending.judge(crate::stage::seen(exec, "the exec, in its container"));
}

/// Enters a new user namespace as its root.
fn enter_user_namespace() -> io::Result<()> {
    syscall!(libc::SYS_unshare, libc::CLONE_NEWUSER).map_err(unsupported)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", "0 0 1")?;
    std::fs::write("/proc/self/gid_map", "0 0 1")
}

#[test]
fn process_in_nested_user_namespaces_is_still_the_containers() {
    disguised("identity: nested user namespaces", || {
        for _ in 0..3 {
            enter_user_namespace()?;
        }
        plainly()
    });
}

#[test]
fn process_in_namespaces_of_its_own_is_still_the_containers() {
    disguised("identity: new mount, pid, uts and cgroup namespaces", || {
        let spaces = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWPID;
        syscall!(libc::SYS_unshare, spaces)?;
        plainly()
    });
}
