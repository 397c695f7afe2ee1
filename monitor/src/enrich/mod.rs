//! Puts a name to each event: the process and its ancestors, the container.

pub mod answers;
pub mod cgroup;
pub mod container;
pub mod executable;
pub mod image;
pub mod metadata;
pub mod owner;
pub mod process;
pub mod reach;
pub mod resolve;
pub mod seed;
pub mod state;
pub mod users;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use taffrail_common::event::{CgroupMove, Fork, Header, direction};

use crate::event::{Event, Exec};
use answers::Answers;
use cgroup::Cgroups;
use container::{Container, First};
use executable::{Digest, Executables, Runner, Version};
use metadata::Metadata;
use metadata::api::{Apis, Told};
use owner::{Owner, Owners};
use process::{Process, ProcessKey, ProcessTable};
use resolve::{Asker, Hint};
use seed::Seed;
use state::Folders;
use users::{Names, Users};

/// An event and all that is known about who did it: what rules, formats and views look at.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// What happened.
    pub event: &'a Event<'a>,
    /// When, as `CLOCK_REALTIME`, in ns since the epoch.
    pub time_ns: u64,
    /// How many events there were up to this one.
    pub number: u64,
    /// The process that did it (of a fork: the parent), as it is after the event.
    pub process: &'a Process,
    /// For looking up ancestors.
    pub processes: &'a ProcessTable,
    /// Its container; `None` is the host.
    pub container: Option<&'a Container>,
    /// What it was told when it asked for names.
    pub answers: &'a Answers,
    /// The process that it was done to, if there is one and it is known.
    pub target: Option<&'a Process>,
}

/// Where the enricher looks for what no event says.
pub enum Source {
    /// The running system.
    Live(Option<Cgroups>),
    /// A recording: only what it has told so far.
    Recorded,
}

/// Something that was found out, for whoever keeps a recording or the kernel's scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A process of which `/proc` was asked.
    Process(Box<Seed>),
    /// The path of a cgroup (`None`: it was gone), and whose it is.
    Cgroup {
        /// Its id.
        id: u64,
        /// Its path below the v2 root.
        path: Option<String>,
        /// Its container.
        container: Option<Arc<Container>>,
        /// Whether it is the host's for sure.
        host: bool,
    },
    /// What a container is called and was given is known now, or nobody can tell.
    Container {
        /// Which one.
        container: Arc<Container>,
        /// Files of its runtime that were of no use, and why.
        problems: Vec<String>,
    },
    /// Nothing more can come of a container.
    Final(Arc<Container>),
    /// The hash of an executable, or that it cannot be had.
    Digest {
        /// Of which version of which file.
        version: Version,
        /// The hash.
        digest: Digest,
    },
    /// Names of users and groups that are new.
    Names {
        /// Path of their container's cgroup; empty for the host.
        cgroup_path: String,
        /// All of them.
        names: Arc<Names>,
    },
    /// A process was put into another cgroup.
    Moved {
        /// Process id in the host's pid namespace.
        tgid: u32,
        /// Its container, if it is in none of that one's cgroups any more.
        origin: Option<Arc<Container>>,
    },
}

/// The process table, the containers, and how events change them.
pub struct Enricher {
    /// All processes.
    pub processes: ProcessTable,
    /// Names of users and groups.
    pub users: Users,
    /// Hashes of executables.
    pub executables: Executables,
    owners: Owners,
    /// What was found out since the last [`Enricher::take_findings`].
    findings: Vec<Finding>,
    /// Events so far.
    pub events: u64,
    host_answers: Answers,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It is to be looked at; its process is this one.
    Process(ProcessKey),
    /// The end of a process whose end was told already: two last threads raced.
    Duplicate,
}

impl Enricher {
    /// An enricher that knows nobody yet.
    pub fn new(source: Source, max_processes: usize) -> Self {
        Self {
            processes: ProcessTable::new(max_processes),
            users: Users::default(),
            executables: Executables::new(owner::WAIT),
            events: 0,
            host_answers: Answers::default(),
            owners: match source {
                Source::Live(tree) => Owners::live(tree),
                Source::Recorded => Owners::recorded(),
            },
            findings: Vec::new(),
        }
    }

    /// What a container, or the host, was told when it asked for names.
    pub fn answers<'a>(&'a self, container: Option<&'a Container>) -> &'a Answers {
        container.map_or(&self.host_answers, |container| &container.answers)
    }

    /// Where runtimes keep their files, and how long events wait for what these say.
    pub fn set_runtimes(&mut self, folders: Folders, wait: Duration) {
        self.owners.set_runtimes(folders, wait);
        self.executables.set_wait(wait);
    }

    /// From here on executables are read for their hash, those of the running processes too. A recording has what is
    /// known.
    pub fn hash_executables(&mut self) -> std::io::Result<()> {
        if self.executables.is_on() || !self.owners.is_live() {
            return Ok(());
        }
        self.executables.start()?;
        let keys: Vec<ProcessKey> = self.processes.running().map(|process| process.key).collect();
        keys.into_iter().for_each(|key| self.hash_of(key));
        Ok(())
    }

    /// Sees to it that a process has the hash of what it runs, now or once that is known.
    fn hash_of(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get(key) else { return };
        let image = &process.image;
        if image.version.ino == 0 {
            return;
        }
        let home = self.owners.home(process.cgroup_id, process.pid_ns);
        let runner = || runner(&self.owners, key.tgid, home);
        self.executables.is_ready(image.version, &image.exe, image.exe_flags, runner);
        if let Some((slot, is_new)) = self.executables.of(image.version) {
            if let Some(digest) = slot.get().filter(|_| is_new) {
                self.findings.push(Finding::Digest { version: image.version, digest: digest.clone() });
            }
            // Who forked from it shares it.
            let _ = image.digest.set(slot);
        }
    }

    /// Whom to ask for what the files do not say.
    pub fn set_apis(&mut self, apis: Apis) {
        self.owners.set_apis(apis);
    }

    /// Takes in what a runtime says of a container, or that it cannot be asked now.
    pub fn told(&mut self, told: Told) {
        self.owners.told(told);
    }

    /// From here on files of runtimes are read by a thread of their own; to be called once all is seeded. Gives whom to
    /// ask about new cgroups.
    pub fn start(&mut self) -> std::io::Result<Option<Asker>> {
        self.owners.start()
    }

    /// What was found out since the last call.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        // A recording has whose a cgroup is before who runs in it.
        let mut findings = std::mem::take(&mut self.owners.findings);
        findings.append(&mut self.findings);
        findings
    }

    /// Looks at all cgroups and processes that there are. To be called once the probes are attached, so
    /// that nobody falls between.
    pub fn seed(&mut self) {
        let cgroups = self.owners.tree().map(Cgroups::all).unwrap_or_default();
        for (id, path) in cgroups {
            self.owners.sight(id, || Some(Hint::new(path.as_bytes(), true)));
        }
        for seed in seed::all(self.owners.tree()) {
            self.learn_process(seed);
        }
    }

    /// Takes in a process that was found in `/proc` or in a recording.
    pub fn learn_process(&mut self, seed: Seed) {
        let home = self.home(seed.cgroup_id, seed.pid_ns);
        let container = self.owners.container_of(home);
        let mut process = self.processes.seeded(&seed, container);
        process.from_host = self.owners.is_hosts(seed.cgroup_id, home);
        if let Some(container) = &process.container {
            let namespaces = (process.pid_ns, process.mnt_ns);
            let _ = container.first.set(First { key: process.key, namespaces });
            process.exec_session = self.session_of_seed(&process);
        }
        let key = process.key;
        self.processes.seed(process);
        self.findings.push(Finding::Process(Box::new(seed)));
        self.name_users(key);
        self.hash_of(key);
    }

    /// By what it is known whose a process is.
    fn home(&mut self, cgroup_id: u64, pid_ns: u32) -> u64 {
        self.owners.sight(cgroup_id, || None);
        self.owners.home(cgroup_id, pid_ns)
    }

    /// By what it is known whose an event is, as far as it is known now.
    pub fn home_of(&self, header: &Header) -> u64 {
        self.owners.home(header.cgroup_id, header.pid_ns)
    }

    /// Whether whoever acts is the host's for sure.
    fn is_on_host(&self, header: &Header) -> bool {
        self.owners.is_hosts(header.cgroup_id, self.home_of(header))
    }

    /// The session of a process that was there already: its parent's; or its own, if that one is on the host and it is
    /// not the first process of its pid namespace.
    fn session_of_seed(&self, process: &Process) -> Option<ProcessKey> {
        let parent = self.processes.parent(process)?;
        match &parent.container {
            Some(_) => parent.exec_session,
            None => (process.ns_tgid != 1 && process.ns_tgid != process.key.tgid).then_some(process.key),
        }
    }

    /// Looks up what users and groups are called where a process runs.
    fn name_users(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get(key) else { return };
        // A runtime on its way in still has the host's root, and names would be looked for there.
        if process.from_host && process.container.is_some() {
            return;
        }
        let (container, login_uid) = (process.container.clone(), process.login_uid);
        let names = self.names_of(container.as_deref(), key.tgid);
        // Whoever logs in does so on the host.
        let host = (login_uid != u32::MAX).then(|| self.names_of(None, key.tgid)).flatten();
        let login_name = host.and_then(|names| names.user(login_uid).map(Arc::from));
        if let Some(process) = self.processes.get_mut(key) {
            process.names = names;
            process.login_name = login_name;
        }
    }

    fn names_of(&mut self, container: Option<&Container>, pid: u32) -> Option<Arc<Names>> {
        if !self.owners.is_live() {
            return self.users.recalled(container);
        }
        let Some((names, is_new)) = self.users.names(container, pid) else {
            return self.users.recalled(container);
        };
        if is_new {
            let cgroup_path = container.map_or_else(String::new, |container| container.cgroup_path.clone());
            self.findings.push(Finding::Names { cgroup_path, names: Arc::clone(&names) });
        }
        Some(names)
    }

    /// Takes in what a recording says of a cgroup.
    pub fn recall_cgroup(&mut self, id: u64, container: Option<Container>) {
        self.owners.recall_cgroup(id, container);
    }

    /// Takes in what a recording says of the container of a cgroup.
    pub fn recall_container(&mut self, cgroup_path: &str, metadata: Metadata) {
        self.owners.recall_container(cgroup_path, metadata);
    }

    /// Takes in what a recording says of an executable.
    pub fn recall_digest(&mut self, version: Version, digest: Digest) {
        self.executables.recall(version, digest);
    }

    /// Whether an event can go out: whose it is and what that one is called is known, or has been waited for. Asks also
    /// about what the event is the first to tell of.
    pub fn is_ready(&mut self, event: &Event<'_>) -> bool {
        if !self.owners.is_live() {
            return true;
        }
        let other = match event {
            Event::Fork(fork) => {
                self.owners.sight(fork.child_cgroup_id, || None);
                if fork.child_ns_tgid == 1 {
                    self.owners.is_born(fork.child_pid_ns, fork.child_start_ns);
                }
                fork.child_cgroup_id
            }
            Event::CgroupMove(moved) => {
                let (id, path) = (moved.record.cgroup_id, moved.record.path);
                self.owners.sight(id, || Some(Hint::new(moved.path, path.len == path.full_len)));
                id
            }
            // To whom it was sent is told, too.
            Event::Signal(signal) => {
                self.owners.sight(signal.target_cgroup_id, || None);
                signal.target_cgroup_id
            }
            Event::Cgroup(made) if made.record.removed == 0 => {
                let (id, path) = (made.record.cgroup_id, made.record.path);
                self.owners.made(id, || Some(Hint::new(made.path, path.len == path.full_len)));
                0
            }
            Event::Exec(_) | Event::Cgroup(_) => 0,
            // Nearly all events: of their own container only, of which all is known long since.
            _ if self.owners.is_final(event.header().cgroup_id) => return true,
            _ => 0,
        };
        let id = self.home(event.header().cgroup_id, event.header().pid_ns);
        self.owners.sight(id, || None);
        let has_hash = match event {
            Event::Exec(exec) => self.has_hash(exec),
            _ => true,
        };
        self.owners.is_answered(other) && self.owners.is_settled(id) && has_hash
    }

    /// Whether the hash of what an exec has started is known, or nobody wants to know it, or it was waited for.
    fn has_hash(&mut self, exec: &Exec<'_>) -> bool {
        let (header, path) = (&exec.record.header, &exec.record.exe);
        let home = self.home_of(header);
        let runner = || runner(&self.owners, header.tgid, home);
        self.executables.is_ready(Version::of(&exec.record), exec.exe, path.flags, runner)
    }

    /// Whether it is known whose a cgroup is and what that one is called, or that was waited for.
    pub fn is_settled(&self, cgroup_id: u64) -> bool {
        self.owners.is_settled(cgroup_id)
    }

    /// Whether it is known whose a cgroup is, or that was waited for.
    pub fn is_answered(&self, cgroup_id: u64) -> bool {
        self.owners.is_answered(cgroup_id)
    }

    /// What tells the container of a cgroup from all others as long as it is known; `None`: the host's, or not known.
    pub fn address_of(&self, cgroup_id: u64) -> Option<usize> {
        self.owners.address_of(cgroup_id)
    }

    /// Takes in what was found out meanwhile.
    pub fn take_answers(&mut self) {
        self.owners.take_answers();
    }

    /// Those of these cgroups that are not there any more.
    pub fn gone(&mut self, cgroups: &[u64]) -> Vec<u64> {
        self.owners.gone(cgroups)
    }

    /// Whether so many cgroups are remembered that it is time for [`Enricher::forget_cgroups`].
    pub fn is_full(&self) -> bool {
        self.owners.is_full()
    }

    /// Forgets all cgroups but these.
    pub fn forget_cgroups(&mut self, but: &[u64]) {
        self.owners.forget(but);
    }

    /// Waits a moment for what is not known of these cgroups.
    pub fn wait_for(&mut self, cgroups: &[u64]) {
        self.owners.wait_for(cgroups);
    }

    /// Whose a cgroup is, for whoever must not take what is not known for the host's.
    pub fn owner_of(&mut self, id: u64) -> Owner {
        self.owners.owner_of(id)
    }

    /// Whose a cgroup is; `None`: the host's, or not known.
    pub fn container_of(&mut self, id: u64) -> Option<Arc<Container>> {
        self.owners.container_of(id)
    }

    /// The cgroups of a container.
    pub fn cgroups_of(&self, container: &Container) -> Vec<u64> {
        self.owners.cgroups_of(container)
    }

    /// All containers that are known: also those that came back under the name and path of one that is gone.
    pub fn containers(&self) -> Vec<Arc<Container>> {
        let of_processes = self.processes.running().filter_map(|process| process.container.as_ref());
        let all = self.owners.containers().chain(of_processes);
        let each: HashMap<_, _> = all.map(|container| (Arc::as_ptr(container), container)).collect();
        each.into_values().cloned().collect()
    }

    /// Processes that are in none of their container's cgroups any more.
    pub fn left(&self) -> impl Iterator<Item = (ProcessKey, &Arc<Container>)> {
        self.processes.running().filter_map(|process| {
            let origin = process.container.as_ref()?;
            let home = self.owners.home(process.cgroup_id, process.pid_ns);
            let is_there = self.owners.known_container(home) == Some(&**origin);
            (!is_there).then_some((process.key, origin))
        })
    }

    /// The cgroups that are no container's: id, path, and whether they are the host's by their path.
    pub fn cgroups_of_none(&self) -> Vec<(u64, String, bool)> {
        let all = self.owners.tree().map(Cgroups::all).unwrap_or_default();
        let none = all.into_iter().filter(|(id, _)| self.owners.known_container(*id).is_none());
        none.map(|(id, path)| (id, path, self.owners.is_host_by_path(id))).collect()
    }

    /// What has become of containers.
    pub fn container_stats(&self) -> owner::Stats {
        self.owners.stats()
    }

    /// Changes the tables by an event, and tells whose it is.
    pub fn handle(&mut self, event: &Event<'_>) -> Handled {
        self.events += 1;
        let header = event.header();
        let key = self.processes.key(header.tgid, header.start_ns);
        // Only the cgroup is known: of a socket that nobody was seen to use.
        if header.tgid == 0 && header.start_ns == 0 {
            let container = self.container_of(header.cgroup_id);
            self.processes.insert_nobody(header, container);
            self.learn_answers(key, event);
            return Handled::Process(key);
        }
        let is_placed = self.know(key, header);
        match event {
            Event::Exec(exec) => {
                // A runtime starts itself anew, as it was called before, until it enters the container's
                // namespaces. Anything else that is started in the container is the container's.
                let outside = self.processes.get(key).is_some_and(|process| {
                    process.from_host && process.mnt_ns == header.mnt_ns && *process.image.args == *exec.args
                });
                self.processes.exec(key, exec);
                self.place(key, header.cgroup_id);
                let on_host = self.is_on_host(header);
                if let Some(process) = self.processes.get_mut(key) {
                    let was_from_host = std::mem::replace(&mut process.from_host, on_host || outside);
                    process.mnt_ns = header.mnt_ns;
                    if !process.from_host
                        && let Some(container) = &process.container
                    {
                        let first = First { key, namespaces: (header.pid_ns, header.mnt_ns) };
                        let is_first = container.first.set(first).is_ok() || process.ns_tgid == 1;
                        // Whatever else comes in from the host was asked for while the container ran.
                        if was_from_host && !is_first {
                            process.exec_session = Some(key);
                        }
                    }
                }
                self.name_users(key);
                self.hash_of(key);
            }
            Event::Fork(fork) => self.fork(key, fork),
            Event::Exit(_) => {
                if !self.processes.exit(key) {
                    return Handled::Duplicate;
                }
            }
            Event::Cred(cred) => {
                self.place(key, header.cgroup_id);
                // Credentials are a thread's own; those of the main thread stand for the process.
                let applies = cred.result >= 0 && header.tid == header.tgid;
                self.processes.credentials(key, applies.then_some(&cred.new));
                self.name_users(key);
            }
            Event::CgroupMove(moved) => {
                self.place(key, header.cgroup_id);
                self.moved(&moved.record);
            }
            Event::Cgroup(cgroup) => {
                self.place(key, header.cgroup_id);
                let (record, path) = (&cgroup.record, cgroup.record.path);
                if record.removed != 0 {
                    self.owners.removed(record.cgroup_id, Hint::new(cgroup.path, path.len == path.full_len));
                }
            }
            // Not of the acting task's doing, or of an earlier moment: the cgroup may be another one by now.
            Event::Dns(_) => self.learn_answers(key, event),
            Event::Flow(_) | Event::Udp(_) => {}
            _ if is_placed => {}
            _ => self.place(key, header.cgroup_id),
        }
        Handled::Process(key)
    }

    /// Takes in what a name server answered.
    fn learn_answers(&self, key: ProcessKey, event: &Event<'_>) {
        if let (Event::Dns(dns), Some(process)) = (event, self.processes.get(key))
            && dns.record.direction == direction::IN
        {
            self.answers(process.container.as_deref()).learn(dns);
        }
    }

    /// Makes sure that the acting process is in the table. Tells whether it is in its container, where it was last.
    fn know(&mut self, key: ProcessKey, header: &Header) -> bool {
        if let Some(process) = self.processes.get_mut(key) {
            // The name of the main thread is the process's.
            if header.tid == header.tgid && process.comm != header.comm {
                process.comm = header.comm;
            }
            let is_placed = process.cgroup_id == header.cgroup_id && process.container.is_some();
            if process.pid_ns == 0 {
                self.processes.pid_ns(key, header.pid_ns);
            }
            return is_placed;
        }
        // Its fork was lost, or it is older than the probes and was missed.
        if self.owners.is_live()
            && let Some(mut seed) = seed::one(key.tgid)
            && seed.start_ticks == key.start_ticks
        {
            seed.cgroup_id = header.cgroup_id;
            self.learn_process(seed);
        }
        if self.processes.get(key).is_none() {
            self.processes.insert_unknown(key, header);
        }
        self.place(key, header.cgroup_id);
        // Of a process that was just found inside nothing is known of where it was started, nor of one whose
        // cgroup could not be told: the mark is for those that are the host's for sure.
        let on_host = self.is_on_host(header);
        if let Some(process) = self.processes.get_mut(key) {
            process.from_host = on_host && process.container.is_none();
        }
        true
    }

    /// A child is what its parent was, in the cgroup that it was put into.
    fn fork(&mut self, caller: ProcessKey, fork: &Fork) {
        let key = self.processes.key(fork.child_tgid, fork.child_start_ns);
        let parent = self.processes.key(fork.child_parent_tgid, fork.child_parent_start_ns);
        let Some(process) = self.processes.get(caller) else { return };
        let child = self.processes.child(
            (key, fork.child_start_ns),
            (fork.child_ns_tgid, fork.child_pid_ns),
            parent,
            process,
        );
        self.processes.insert(child);
        self.place(key, fork.child_cgroup_id);
    }

    /// A process that leaves its container's cgroups stays the container's, and watched as such.
    fn moved(&mut self, moved: &CgroupMove) {
        let key = self.processes.key(moved.target_tgid, moved.target_start_ns);
        self.place(key, moved.cgroup_id);
        let Some(process) = self.processes.get(key) else { return };
        let origin = process.container.clone();
        let has_left = origin != self.container_of(moved.cgroup_id);
        self.findings.push(Finding::Moved { tgid: key.tgid, origin: origin.filter(|_| has_left) });
    }

    /// Decides a process's container: the first one that it is seen in stays, wherever it moves.
    fn place(&mut self, key: ProcessKey, cgroup_id: u64) {
        let Some(process) = self.processes.get_mut(key) else { return };
        let moved = std::mem::replace(&mut process.cgroup_id, cgroup_id) != cgroup_id;
        // Also of a cgroup that it moved to it has to be known whose it is: losses are told by cgroup.
        let (undecided, pid_ns) = (process.container.is_none(), process.pid_ns);
        if !undecided && !moved {
            return;
        }
        let home = self.home(cgroup_id, pid_ns);
        if let Some(container) = self.container_of(home)
            && undecided
            && let Some(process) = self.processes.get_mut(key)
        {
            process.container = Some(container);
        }
    }
}

/// Who runs a file, as far as it helps to find that.
fn runner(owners: &Owners, pid: u32, home: u64) -> Runner {
    let container = owners.known_container(home);
    let stated = container.and_then(|of| of.metadata.get()).and_then(|known| known.root.clone());
    let root = stated.or_else(|| owners.is_host(home).then(|| "/proc/1/root".to_owned()));
    // The host's is 0. Whose cgroup is not known yet takes turns by itself.
    let unknown = if owners.is_host(home) { 0 } else { home };
    let turn = container.map_or(unknown, |container| std::ptr::from_ref(container).addr() as u64);
    Runner { pid, turn, root }
}

#[cfg(test)]
mod tests;
