//! Processes that ran before the probes were attached, from `/proc`. Reading is a race with processes that
//! end meanwhile, and those are simply left out: whatever happens after attach is told by events.

use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;

use procfs::process::{Stat, Status};
use procfs::{FromBufRead as _, FromRead as _};
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroups;
use super::executable::Version;
use super::process::ProcessKey;

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
    /// Inode number of its pid namespace, 0 if not known.
    #[serde(default)]
    pub pid_ns: u32,
    /// Inode number of its mount namespace, 0 if not known.
    #[serde(default)]
    pub mnt_ns: u32,
    /// Command name.
    pub comm: Vec<u8>,
    /// Path of the executable as we see it; empty for kernel threads.
    pub exe: Vec<u8>,
    /// Inode of the executable.
    pub exe_ino: u64,
    /// Device of the executable, in the kernel's own form (major << 20 | minor).
    pub exe_dev: u32,
    /// When the executable's inode was changed last, in ns since the epoch.
    #[serde(default)]
    pub exe_ctime_ns: u64,
    /// Bytes of the executable.
    #[serde(default)]
    pub exe_bytes: u64,
    /// The arguments, each ended by NUL.
    pub args: Vec<u8>,
    /// Bytes of all arguments: more than there are in `args` says that they were cut.
    #[serde(default)]
    pub args_full_len: u32,
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
    /// Cgroup path, for people: what is no UTF-8 in it is replaced.
    pub cgroup_path: String,
    /// Cgroup id, 0 if not known.
    pub cgroup_id: u64,
}

/// Most bytes of a command line that are kept, as of an exec event.
const ARGS_MAX: usize = taffrail_common::event::TEXT_MAX;

/// All processes that run now, with the ids of their cgroups.
pub fn all(cgroups: Option<&Cgroups>) -> Vec<Seed> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut seeds: Vec<Seed> = ids.filter_map(|tgid| of(tgid, cgroups)).collect();
    let starts: hashbrown::HashMap<u32, u64> =
        seeds.iter().map(|seed| (seed.tgid, seed.start_ticks)).collect();
    for seed in &mut seeds {
        seed.parent_start_ticks = starts.get(&seed.parent_tgid).copied().unwrap_or(0);
    }
    // Parents first.
    seeds.sort_by_key(|seed| seed.start_ticks);
    seeds
}

/// One process, if it still runs. The id of its cgroup is left to whoever knows it.
pub fn one(tgid: u32) -> Option<Seed> {
    let mut seed = of(tgid, None)?;
    seed.parent_start_ticks = stat(seed.parent_tgid).map_or(0, |(parent, _)| parent.starttime);
    Some(seed)
}

/// Whether a process still runs.
pub fn is_running(key: ProcessKey) -> bool {
    stat(key.tgid).is_some_and(|(stat, _)| stat.starttime == key.start_ticks)
}

fn of(tgid: u32, cgroups: Option<&Cgroups>) -> Option<Seed> {
    let (before, _) = stat(tgid)?;
    // First what an exec sets last: if it is of the new program, all the rest is too.
    let args = first_bytes(&format!("/proc/{tgid}/cmdline"), ARGS_MAX);
    let status = status(tgid)?;
    let exe = Version::of_process(tgid).unwrap_or_default();
    let link = |name: &str| {
        std::fs::read_link(format!("/proc/{tgid}/{name}"))
            .map(|path| path.into_os_string().into_vec())
            .unwrap_or_default()
    };
    // `pid:[4026531836]`
    let namespace = |kind: &str| {
        let link = link(&format!("ns/{kind}"));
        let inode =
            std::str::from_utf8(&link).ok().and_then(|link| link.split_once('[')?.1.strip_suffix(']'));
        inode.and_then(|inode| inode.parse().ok()).unwrap_or(0)
    };
    let login_uid = std::fs::read_to_string(format!("/proc/{tgid}/loginuid"));
    let cgroup = cgroups.and_then(|cgroups| cgroups.of_process(tgid));
    let (stat, comm) = stat(tgid)?;
    // The id may have gone to another process while its files were read.
    if stat.starttime != before.starttime {
        return None;
    }
    let args_len = stat.arg_end.zip(stat.arg_start).map_or(0, |(end, start)| end.saturating_sub(start));
    Some(Seed {
        tgid,
        start_ticks: stat.starttime,
        parent_tgid: stat.ppid as u32,
        parent_start_ticks: 0,
        ns_tgid: status.nspid.as_ref().and_then(|ids| ids.last()).map_or(tgid, |id| *id as u32),
        pid_ns: namespace("pid"),
        mnt_ns: namespace("mnt"),
        comm,
        exe: link("exe"),
        exe_ino: exe.ino,
        exe_dev: exe.dev,
        exe_ctime_ns: exe.ctime_ns,
        exe_bytes: exe.bytes,
        args_full_len: u32::try_from(args_len).unwrap_or(0).max(args.len() as u32),
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
        login_uid: login_uid.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX),
        session: stat.session as u32,
        process_group: stat.pgrp as u32,
        tty: stat.tty_nr as u32,
        cgroup_path: cgroup.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        cgroup_id: cgroup.and_then(|path| cgroups?.id(&path)).unwrap_or(0),
    })
}

/// A text in which a process's name is any bytes, for readers that want UTF-8.
fn lossy(bytes: &[u8]) -> impl std::io::BufRead {
    std::io::Cursor::new(String::from_utf8_lossy(bytes).into_owned())
}

/// `/proc/PID/stat` with the name as it is.
fn stat(tgid: u32) -> Option<(Stat, Vec<u8>)> {
    let text = std::fs::read(format!("/proc/{tgid}/stat")).ok()?;
    let name = text.get(memchr::memchr(b'(', &text)? + 1..memchr::memrchr(b')', &text)?)?;
    Some((Stat::from_read(lossy(&text)).ok()?, name.to_vec()))
}

fn status(tgid: u32) -> Option<Status> {
    Status::from_buf_read(lossy(&std::fs::read(format!("/proc/{tgid}/status")).ok()?)).ok()
}

/// The start of a file of any length.
fn first_bytes(path: &str, max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // What was read before an error is what there is.
        let _ = file.take(max as u64).read_to_end(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn own_process_is_seeded_as_it_is() {
        let seed = one(std::process::id()).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(seed.exe, exe.clone().into_os_string().into_vec());
        assert_eq!(seed.exe_ino, exe.metadata().unwrap().ino());
        assert_eq!(seed.parent_tgid, std::os::unix::process::parent_id());
        let inode = |name: &str| std::fs::metadata(format!("/proc/self/ns/{name}")).unwrap().ino() as u32;
        assert_eq!((seed.pid_ns, seed.mnt_ns), (inode("pid"), inode("mnt")));
        assert!(seed.parent_start_ticks > 0 && seed.parent_start_ticks <= seed.start_ticks);
        let args: Vec<u8> = std::env::args_os().flat_map(|arg| [arg.into_vec(), vec![0]].concat()).collect();
        assert_eq!(seed.args, args);
        assert_eq!(seed.cwd, std::env::current_dir().unwrap().into_os_string().into_vec());
        assert!(
            all(None).iter().any(|other| (other.tgid, other.start_ticks) == (seed.tgid, seed.start_ticks))
        );
    }

    #[test]
    fn process_that_is_gone_is_none() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = child.id();
        child.wait().unwrap();
        assert_eq!(one(id), None);
    }

    /// A process of that executable, ended with the test.
    struct Started(std::process::Child);

    impl Started {
        /// Its seed once the new program has its arguments: the kernel sets them last.
        fn seed(&self) -> Seed {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            loop {
                let seed = one(self.0.id()).unwrap();
                if !seed.args.is_empty() {
                    return seed;
                }
                assert!(std::time::Instant::now() < deadline, "no arguments: {seed:?}");
                std::thread::yield_now();
            }
        }
    }

    impl Drop for Started {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn process_whose_name_is_no_text_is_seeded_all_the_same() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = tempfile::tempdir().unwrap();
        let exe = folder.path().join(std::ffi::OsStr::from_bytes(b"a\xff) R 1\n"));
        std::fs::copy("/bin/sleep", &exe).unwrap();
        let started = Started(std::process::Command::new(&exe).arg("600").spawn().unwrap());
        let seed = started.seed();
        assert_eq!((seed.comm, seed.exe), (b"a\xff) R 1\n".to_vec(), exe.into_os_string().into_vec()));
        assert_eq!(seed.parent_tgid, std::process::id());
    }

    #[test]
    fn long_command_line_is_cut_and_tells_its_true_length() {
        let started = Started(std::process::Command::new("sleep").args(vec!["600"; 5_000]).spawn().unwrap());
        let seed = started.seed();
        assert_eq!((seed.args.len(), seed.args_full_len), (ARGS_MAX, 6 + 5_000 * 4));
    }
}
