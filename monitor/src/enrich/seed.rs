//! Processes that ran before the probes were attached, from `/proc`. Reading is a race with processes that
//! end meanwhile, and those are simply left out: whatever happens after attach is told by events.

use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;

use procfs::process::{Process as Proc, Stat, Status};
use serde::{Deserialize, Serialize};

/// What `/proc` says of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Process id in our pid namespace.
    pub tgid: u32,
    /// Start since boot in clock ticks.
    pub start_ticks: u64,
    /// The parent's id.
    pub parent_tgid: u32,
    /// The parent's start; 0 if it was gone.
    pub parent_start_ticks: u64,
    /// Process id in its own pid namespace.
    pub ns_tgid: u32,
    /// Command name.
    pub comm: Vec<u8>,
    /// Path of the executable as we see it; empty for kernel threads.
    pub exe: Vec<u8>,
    /// Inode of the executable.
    pub exe_ino: u64,
    /// Device of the executable, in the kernel's own form (major << 20 | minor).
    pub exe_dev: u32,
    /// The arguments, each ended by NUL.
    pub args: Vec<u8>,
    /// Working directory as we see it.
    pub cwd: Vec<u8>,
    /// Real, effective, saved and file system user id.
    pub uids: [u32; 4],
    /// Real, effective, saved and file system group id.
    pub gids: [u32; 4],
    /// Inheritable, permitted, effective, bounding and ambient capabilities.
    pub capabilities: [u64; 5],
    /// Login user id, `u32::MAX` if unset.
    pub login_uid: u32,
    /// Session id.
    pub session: u32,
    /// Process group id.
    pub process_group: u32,
    /// Controlling terminal as in `/proc/PID/stat`.
    pub tty: u32,
    /// v2 cgroup path.
    pub cgroup_path: String,
    /// v2 cgroup id, 0 if not known.
    pub cgroup_id: u64,
}

/// Most bytes of a command line that are kept, as of an exec event.
const ARGS_MAX: usize = taffrail_common::event::TEXT_MAX;

/// All processes that run now.
pub fn all() -> Vec<Seed> {
    let Ok(processes) = procfs::process::all_processes() else { return Vec::new() };
    let mut seeds: Vec<Seed> = processes.flatten().filter_map(|process| of(&process)).collect();
    let starts: hashbrown::HashMap<u32, u64> =
        seeds.iter().map(|seed| (seed.tgid, seed.start_ticks)).collect();
    for seed in &mut seeds {
        seed.parent_start_ticks = starts.get(&seed.parent_tgid).copied().unwrap_or(0);
    }
    seeds
}

/// One process, if it still runs.
pub fn one(tgid: u32) -> Option<Seed> {
    let mut seed = of(&Proc::new(tgid as i32).ok()?)?;
    let parent = Proc::new(seed.parent_tgid as i32).and_then(|parent| parent.stat());
    seed.parent_start_ticks = parent.map_or(0, |stat| stat.starttime);
    Some(seed)
}

fn of(process: &Proc) -> Option<Seed> {
    let stat: Stat = process.stat().ok()?;
    let status: Status = process.status().ok()?;
    let exe = std::fs::metadata(format!("/proc/{}/exe", stat.pid)).ok();
    let link = |name: &str| {
        std::fs::read_link(format!("/proc/{}/{name}", stat.pid))
            .map(|path| path.into_os_string().into_vec())
            .unwrap_or_default()
    };
    let mut args = std::fs::read(format!("/proc/{}/cmdline", stat.pid)).unwrap_or_default();
    args.truncate(ARGS_MAX);
    Some(Seed {
        tgid: stat.pid as u32,
        start_ticks: stat.starttime,
        parent_tgid: stat.ppid as u32,
        parent_start_ticks: 0,
        ns_tgid: status.nspid.as_ref().and_then(|ids| ids.last()).map_or(stat.pid as u32, |id| *id as u32),
        comm: stat.comm.into_bytes(),
        exe: link("exe"),
        exe_ino: exe.as_ref().map_or(0, |exe| exe.ino()),
        exe_dev: exe.as_ref().map_or(0, |exe| kernel_dev(exe.dev())),
        args,
        cwd: link("cwd"),
        uids: [status.ruid, status.euid, status.suid, status.fuid],
        gids: [status.rgid, status.egid, status.sgid, status.fgid],
        capabilities: [
            status.capinh,
            status.capprm,
            status.capeff,
            status.capbnd.unwrap_or(0),
            status.capamb.unwrap_or(0),
        ],
        login_uid: process.loginuid().unwrap_or(u32::MAX),
        session: stat.session as u32,
        process_group: stat.pgrp as u32,
        tty: stat.tty_nr as u32,
        cgroup_path: super::cgroup::of_process(stat.pid as u32).unwrap_or_default(),
        cgroup_id: 0,
    })
}

/// From the form that stat(2) gives to the kernel's own.
fn kernel_dev(dev: u64) -> u32 {
    libc::major(dev) << 20 | libc::minor(dev)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_seeded_as_it_is() {
        let seed = one(std::process::id()).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(seed.exe, exe.clone().into_os_string().into_vec());
        assert_eq!(seed.exe_ino, exe.metadata().unwrap().ino());
        assert_eq!(seed.parent_tgid, std::os::unix::process::parent_id());
        assert!(seed.parent_start_ticks > 0 && seed.parent_start_ticks <= seed.start_ticks);
        let args: Vec<u8> = std::env::args_os().flat_map(|arg| [arg.into_vec(), vec![0]].concat()).collect();
        assert_eq!(seed.args, args);
        assert_eq!(seed.cwd, std::env::current_dir().unwrap().into_os_string().into_vec());
        assert!(all().iter().any(|other| (other.tgid, other.start_ticks) == (seed.tgid, seed.start_ticks)));
    }

    #[test]
    fn process_that_is_gone_is_none() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = child.id();
        child.wait().unwrap();
        assert_eq!(one(id), None);
    }
}
