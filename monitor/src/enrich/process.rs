//! The process table: who is running, what it runs, and who started it. Events build it; `/proc` only fills
//! in what ran before. It is bounded, and counts what it had to forget.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use taffrail_common::event::{Credentials, Header};

use super::container::Container;
use super::image::{Image, Weight};
use super::seed::Seed;
use super::users::Names;
use crate::event::Exec;
use crate::event::model::Target;

/// Identifies a process for the life of the machine's boot, also across reuse of its id: the pair that
/// `/proc/PID/stat` gives too (fields 1 and 22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Process id in the host's pid namespace.
    pub tgid: u32,
    /// Start since boot in clock ticks (1/100 s).
    pub start_ticks: u64,
    /// 0; of a process that got its id in the same tick as another one before it: its place in the tick, in ns, from 1.
    pub start_rest: u32,
}

/// The kernel shows times to user space in ticks of that length on all architectures.
const TICK_NS: u64 = 10_000_000;

impl ProcessKey {
    /// Its start by the boot clock, to the tick, in ns.
    pub fn start_ns(self) -> u64 {
        self.start_ticks * TICK_NS
    }

    /// From the kernel's start time, for the first process of that id and tick: nearly always the only one.
    pub fn new(tgid: u32, start_ns: u64) -> Self {
        Self { tgid, start_ticks: start_ns / TICK_NS, start_rest: 0 }
    }
}

impl std::fmt::Display for ProcessKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}-{}", self.tgid, self.start_ticks)?;
        if self.start_rest == 0 { Ok(()) } else { write!(out, "-{}", self.start_rest) }
    }
}

/// Inode number of the first pid namespace (`PROC_PID_INIT_INO`).
pub(super) const PID_NS_INIT: u32 = 0xEFFF_FFFC;

/// One process. What each event looks at comes first and stays together: with thousands of processes in turn, the lines
/// of the processor's cache that are touched are what an event costs.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Process {
    /// Which one.
    pub key: ProcessKey,
    /// `CLOCK_BOOTTIME` when it started, in ns; 0 if only the tick is known.
    pub start_ns: u64,
    /// Cgroup id when it was last seen.
    pub cgroup_id: u64,
    /// Its container, decided once: it keeps it wherever it moves. `None` is the host.
    pub container: Option<Arc<Container>>,
    /// Command name, padded with NUL.
    pub comm: [u8; 16],
    /// Inode number of its pid namespace, 0 if not known.
    pub pid_ns: u32,
    /// Inode number of its mount namespace when it was last seen, 0 if not known.
    pub mnt_ns: u32,
    /// What it runs.
    pub image: Arc<Image>,
    /// Names of users and groups, as they were when it started its program.
    pub names: Option<Arc<Names>>,
    /// Who started it: the parent when it was first seen.
    pub parent: ProcessKey,
    /// Its id in its own pid namespace.
    pub ns_tgid: u32,
    /// How many processes in the table have it as their parent.
    children: u32,
    /// Whether its end was seen.
    pub ended: bool,
    /// Whether it runs a program that was started on the host. In a container that is the runtime that sets the
    /// container up, or is on its way in. Nothing inside the container can give itself this mark.
    pub from_host: bool,
    /// The process that was the first of its session, if it was started into its container from the host while that
    /// one ran (`docker exec`, `kubectl exec`), or comes from such a one.
    pub exec_session: Option<ProcessKey>,
    /// Working directory at exec.
    pub cwd: Arc<[u8]>,
    /// Identity and rights, as its last exec or change of them left it.
    pub credentials: Credentials,
    /// What they were before the last change of them; `None` if that was not seen.
    pub old_credentials: Option<Box<Credentials>>,
    /// Name of its login user, on the host.
    pub login_name: Option<Arc<str>>,
    /// Login user id, `u32::MAX` if unset.
    pub login_uid: u32,
    /// Session id in the host's pid namespace.
    pub session: u32,
    /// Process group id in the host's pid namespace.
    pub process_group: u32,
    /// Controlling terminal as in `/proc/PID/stat`, 0 if none.
    pub tty: u32,
}

/// No rights, and nobody.
const NO_CREDENTIALS: Credentials = Credentials {
    uid: u32::MAX,
    gid: u32::MAX,
    suid: u32::MAX,
    sgid: u32::MAX,
    euid: u32::MAX,
    egid: u32::MAX,
    fsuid: u32::MAX,
    fsgid: u32::MAX,
    cap_inheritable: 0,
    cap_permitted: 0,
    cap_effective: 0,
    cap_bounding: 0,
    cap_ambient: 0,
};

impl Process {
    /// All that one event says of a process that nobody knew.
    fn of_header(header: &Header) -> Self {
        Self {
            key: ProcessKey::new(header.tgid, header.start_ns),
            start_ns: header.start_ns,
            parent: ProcessKey { tgid: 0, start_ticks: 0, start_rest: 0 },
            ns_tgid: header.ns_tgid,
            comm: header.comm,
            image: Arc::default(),
            cwd: Arc::default(),
            credentials: Credentials { euid: header.euid, egid: header.egid, ..NO_CREDENTIALS },
            old_credentials: None,
            login_uid: u32::MAX,
            session: 0,
            process_group: 0,
            tty: 0,
            cgroup_id: header.cgroup_id,
            container: None,
            from_host: false,
            exec_session: None,
            names: None,
            login_name: None,
            mnt_ns: header.mnt_ns,
            pid_ns: header.pid_ns,
            ended: false,
            children: 0,
        }
    }

    fn of_seed(seed: &Seed, container: Option<Arc<Container>>, weight: &Weight) -> Self {
        let mut comm = [0; 16];
        let len = seed.comm.len().min(15);
        comm[..len].copy_from_slice(&seed.comm[..len]);
        Self {
            key: ProcessKey { tgid: seed.tgid, start_ticks: seed.start_ticks, start_rest: 0 },
            parent: ProcessKey {
                tgid: seed.parent_tgid,
                start_ticks: seed.parent_start_ticks,
                start_rest: 0,
            },
            start_ns: 0,
            ns_tgid: seed.ns_tgid,
            comm,
            image: Arc::new(Image::of_seed(seed, weight)),
            cwd: seed.cwd.clone().into(),
            credentials: Credentials {
                uid: seed.uids[0],
                gid: seed.gids[0],
                suid: seed.uids[2],
                sgid: seed.gids[2],
                euid: seed.uids[1],
                egid: seed.gids[1],
                fsuid: seed.uids[3],
                fsgid: seed.gids[3],
                cap_inheritable: seed.capabilities[0],
                cap_permitted: seed.capabilities[1],
                cap_effective: seed.capabilities[2],
                cap_bounding: seed.capabilities[3],
                cap_ambient: seed.capabilities[4],
            },
            old_credentials: None,
            login_uid: seed.login_uid,
            session: seed.session,
            process_group: seed.process_group,
            tty: seed.tty,
            cgroup_id: seed.cgroup_id,
            from_host: false,
            exec_session: None,
            names: None,
            login_name: None,
            container,
            mnt_ns: seed.mnt_ns,
            // A process of the first namespace has the same id in both.
            pid_ns: if seed.pid_ns == 0 && seed.ns_tgid == seed.tgid { PID_NS_INIT } else { seed.pid_ns },
            ended: false,
            children: 0,
        }
    }

    /// When it started by the boot clock, in ns; to the tick, if it is older than the probes.
    pub fn start(&self) -> u64 {
        if self.start_ns != 0 { self.start_ns } else { self.key.start_ns() }
    }

    /// The name of a user, as its container or the host has it.
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.names.as_ref()?.user(uid)
    }

    /// The home folder of a user, and its shell.
    pub fn home_and_shell(&self, uid: u32) -> Option<(&str, &str)> {
        let names = self.names.as_ref()?;
        names.home(uid).zip(names.shell(uid))
    }

    /// The name of a group.
    pub fn group(&self, gid: u32) -> Option<&str> {
        self.names.as_ref()?.group(gid)
    }

    /// The command name without its padding.
    pub fn name(&self) -> &[u8] {
        trim_nul(&self.comm)
    }
}

/// The bytes before the first NUL.
pub fn trim_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
}

/// What the table has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processes that were found by looking at `/proc`.
    pub seeded: u64,
    /// Processes that were first known by an event of theirs, not by their fork.
    pub unknown: u64,
    /// Ended processes that were forgotten to make room.
    pub evicted: u64,
    /// Running processes that were forgotten to make room.
    pub evicted_running: u64,
}

/// All processes that are alive, and those that ended while somebody still needs their name.
pub struct ProcessTable {
    processes: HashMap<ProcessKey, Process>,
    /// Processes by pid namespace and id in it.
    numbers: HashMap<(u32, u32), ProcessKey>,
    /// Ended processes, oldest first.
    ended: VecDeque<ProcessKey>,
    max: usize,
    /// What the images of all of them take.
    weight: Weight,
    stats: Stats,
}

/// The images of all processes take no more bytes than this: a container can start thousands of programs with names and
/// arguments of 20 KiB each.
const WEIGHT_MAX: usize = 128 << 20;

/// Ancestors that are looked at, at most.
const ANCESTORS_MAX: usize = 64;

impl Default for ProcessTable {
    fn default() -> Self {
        Self::new(65_536)
    }
}

impl ProcessTable {
    /// A table of at most `max` processes.
    pub fn new(max: usize) -> Self {
        Self {
            processes: HashMap::new(),
            numbers: HashMap::new(),
            ended: VecDeque::new(),
            max: max.max(16),
            weight: Weight::default(),
            stats: Stats::default(),
        }
    }

    /// The process with that key.
    pub fn get(&self, key: ProcessKey) -> Option<&Process> {
        self.processes.get(&key)
    }

    /// The key of the process with that id and start.
    pub fn key(&self, tgid: u32, start_ns: u64) -> ProcessKey {
        let first = ProcessKey::new(tgid, start_ns);
        let rest = ProcessKey { start_rest: (start_ns % TICK_NS) as u32 + 1, ..first };
        match self.get(first) {
            Some(other) if other.start_ns != 0 && other.start_ns != start_ns => rest,
            // The first one may be forgotten before it: it keeps its key.
            None if self.processes.contains_key(&rest) => rest,
            _ => first,
        }
    }

    /// The parent of a process, if it is still known. Process 0 is nobody's.
    pub fn parent(&self, of: &Process) -> Option<&Process> {
        if of.parent.tgid == 0 { None } else { self.get(of.parent) }
    }

    /// The ancestors of a process, nearest first, as far as they are known.
    pub fn ancestors<'a>(&'a self, of: &'a Process) -> impl Iterator<Item = &'a Process> {
        std::iter::successors(self.parent(of), |process| self.parent(process)).take(ANCESTORS_MAX)
    }

    /// All processes whose end was not seen.
    pub fn running(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(|process| !process.ended)
    }

    /// How many processes are known.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Bytes of the paths and arguments of all that are known.
    pub fn text_bytes(&self) -> usize {
        self.weight.bytes()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// What the table has done.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// A change to the process with that key.
    pub(super) fn get_mut(&mut self, key: ProcessKey) -> Option<&mut Process> {
        self.processes.get_mut(&key)
    }

    /// Adds a process that is not known yet.
    pub(super) fn insert(&mut self, process: Process) {
        if self.processes.len() >= self.max {
            self.forget(None);
        }
        if let Some(parent) = self.processes.get_mut(&process.parent) {
            parent.children += 1;
        }
        let key = process.key;
        self.numbers.insert((process.pid_ns, process.ns_tgid), key);
        if let Some(old) = self.processes.insert(key, process) {
            if let Some(new) = self.processes.get_mut(&key) {
                new.children = old.children;
            }
            self.release(old.parent);
        }
        self.lighten(key);
    }

    /// Takes a process out.
    fn remove(&mut self, key: ProcessKey) {
        if let Some(process) = self.processes.remove(&key) {
            let number = (process.pid_ns, process.ns_tgid);
            if self.numbers.get(&number) == Some(&key) {
                self.numbers.remove(&number);
            }
            self.release(process.parent);
        }
    }

    /// One child less.
    fn release(&mut self, parent: ProcessKey) {
        if let Some(parent) = self.processes.get_mut(&parent) {
            parent.children = parent.children.saturating_sub(1);
        }
    }

    /// A process that ran before the probes were attached. Where its program was started is not told here.
    pub fn seeded(&self, seed: &Seed, container: Option<Arc<Container>>) -> Process {
        Process::of_seed(seed, container, &self.weight)
    }

    /// Adds a process that ran before, unless an event has said more already.
    pub fn seed(&mut self, process: Process) {
        if !self.processes.contains_key(&process.key) {
            self.stats.seeded += 1;
            self.insert(process);
        }
    }

    /// Adds a process of which only this event is known.
    pub(super) fn insert_unknown(&mut self, key: ProcessKey, header: &Header) {
        self.stats.unknown += 1;
        self.insert(Process { key, ..Process::of_header(header) });
    }

    /// Sets process 0, which stands for whoever it was.
    pub(super) fn insert_nobody(&mut self, header: &Header, container: Option<Arc<Container>>) {
        self.insert(Process { container, ..Process::of_header(header) });
    }

    /// A child as it is right after fork: in all but its ids its parent.
    pub(super) fn child(
        &self,
        (key, start_ns): (ProcessKey, u64),
        (ns_tgid, pid_ns): (u32, u32),
        parent: ProcessKey,
        caller: &Process,
    ) -> Process {
        Process { key, start_ns, parent, ns_tgid, pid_ns, ended: false, children: 0, ..caller.clone() }
    }

    /// A new image.
    pub(super) fn exec(&mut self, key: ProcessKey, exec: &Exec<'_>) {
        let record = &exec.record;
        let parent = self.key(record.parent_tgid, record.parent_start_ns);
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.image = Arc::new(Image::of_exec(exec, &self.weight));
        if *process.cwd != *exec.cwd {
            process.cwd = exec.cwd.into();
        }
        process.comm = record.header.comm;
        process.credentials = record.credentials;
        process.login_uid = record.login_uid;
        process.session = record.session;
        process.process_group = record.process_group;
        process.tty = record.tty;
        if process.parent.tgid == 0 {
            process.parent = parent;
            if let Some(parent) = self.processes.get_mut(&parent) {
                parent.children += 1;
            }
        }
        self.lighten(key);
    }

    /// The process that an event names; a number is one of that pid namespace.
    pub fn target(&self, target: &Target, pid_ns: u32) -> Option<&Process> {
        let key = match *target {
            Target::Known { tgid, start_ns, .. } => self.key(tgid, start_ns),
            Target::Numbered(pid) => *self.numbers.get(&(pid_ns, u32::try_from(pid).ok()?))?,
        };
        self.get(key)
    }

    /// Takes in the pid namespace of a process that was found in `/proc`.
    pub(super) fn pid_ns(&mut self, key: ProcessKey, pid_ns: u32) {
        let Some(process) = self.processes.get_mut(&key).filter(|process| process.pid_ns == 0) else {
            return;
        };
        process.pid_ns = pid_ns;
        self.numbers.insert((pid_ns, process.ns_tgid), key);
    }

    /// Takes in what a process may do now; `None`: it is as it was, since the change failed or was one thread's.
    pub(super) fn credentials(&mut self, key: ProcessKey, new: Option<&Credentials>) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let old = process.credentials;
        process.old_credentials = (old.uid != u32::MAX).then(|| Box::new(old));
        if let Some(new) = new {
            process.credentials = *new;
        }
    }

    /// Marks an end; returns false if it was marked already.
    pub(super) fn exit(&mut self, key: ProcessKey) -> bool {
        let Some(process) = self.processes.get_mut(&key) else { return true };
        if process.ended {
            return false;
        }
        process.ended = true;
        self.ended.push_back(key);
        // Keep the ended within half of the room, so that the running never have to go for them.
        if self.ended.len() > self.max / 2 {
            self.forget_oldest_ended();
        }
        true
    }

    /// Forgets processes until images take no more than they may; not the one that has just come.
    fn lighten(&mut self, new: ProcessKey) {
        while self.weight.bytes() > WEIGHT_MAX && self.forget(Some(new)) {}
    }

    /// Forgets a process, but for that one; false if there is none.
    fn forget(&mut self, but: Option<ProcessKey>) -> bool {
        if self.forget_oldest_ended() {
            return true;
        }
        // All are running: any one has to go, and its next event makes it known again as unknown.
        let any = self.processes.keys().find(|key| Some(**key) != but).copied();
        if let Some(key) = any {
            self.remove(key);
            self.stats.evicted_running += 1;
        }
        any.is_some()
    }

    /// Forgets an ended process: the oldest that is nobody's parent. The others are names in somebody's lineage,
    /// and go first only if all of the oldest are: else who wants to hide where he comes from would only have
    /// to start many that end at once.
    fn forget_oldest_ended(&mut self) -> bool {
        let is_parent = |key: &ProcessKey| self.processes.get(key).is_some_and(|of| of.children > 0);
        let oldest = self.ended.len().min(OLDEST);
        let parents = (0..oldest).take_while(|&at| is_parent(&self.ended[at])).count();
        if parents < oldest {
            // They get another turn: while they stay, those behind them would be looked at again and again.
            self.ended.rotate_left(parents);
        }
        let Some(key) = self.ended.pop_front() else { return false };
        self.remove(key);
        self.stats.evicted += 1;
        true
    }
}

/// Ended processes that are looked at for one to forget, at most.
const OLDEST: usize = 32;
