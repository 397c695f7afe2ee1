//! Puts a name to each event: the process and its ancestors, the container.

pub mod answers;
pub mod cgroup;
pub mod container;
pub mod metadata;
pub mod process;
pub mod seed;
pub mod state;
pub mod users;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use taffrail_common::event::{CgroupMove, Fork, Header, direction};

use crate::event::Event;
use crate::probe::count::COUNTS_MAX;
use answers::Answers;
use cgroup::Cgroups;
use container::{Container, Identity, identify};
use metadata::api::{Apis, Told};
use metadata::{Found, Metadata};
use process::{Process, ProcessKey, ProcessTable};
use seed::Seed;
use state::{Folders, States};
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

/// What a cgroup is known to be.
#[derive(Clone)]
struct Known {
    container: Option<Arc<Container>>,
    /// The path that an event told: of a cgroup that is gone it is all there is.
    told: Option<Box<str>>,
    /// When it was seen first.
    since: Instant,
    /// When to look again: the path was of no known form, the cgroup was not found, or its container has no name yet.
    /// `None`: all is clear.
    retry: Option<Instant>,
}

impl Known {
    /// Whether it is the host's: by its path, or since no runtime has claimed it for some seconds.
    fn is_host(&self) -> bool {
        self.container.is_none() && (self.retry.is_none() || self.since.elapsed() > GIVE_UP)
    }
}

/// Whose a cgroup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// That container's.
    Container(Arc<Container>),
    /// The host's for sure.
    Host,
    /// Nobody knows, or not yet.
    Unknown,
}

/// The process table, the containers, and how events change them.
pub struct Enricher {
    /// All processes.
    pub processes: ProcessTable,
    /// Names of users and groups.
    pub users: Users,
    source: Source,
    cgroups: HashMap<u64, Known>,
    /// Containers by the path of their cgroup, with its id.
    containers: HashMap<String, (u64, Arc<Container>)>,
    /// Cgroups that somebody waits for.
    awaited: Vec<u64>,
    folders: Folders,
    states: States,
    apis: Option<Apis>,
    /// How long an event waits for the name of its container.
    wait: Duration,
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

/// Cgroups that are remembered: then those without counters are forgotten and looked up again, half at least.
const CGROUPS_MAX: usize = 2 * COUNTS_MAX as usize;

/// How long until the runtimes are asked again about a cgroup at the least; it grows with the time that it was asked
/// in vain. A runtime by hand writes its state only after the first processes are in the cgroup.
const RETRY_MIN: Duration = Duration::from_millis(5);

/// How long until then at the most.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// After this time a container that no runtime knows stays nameless, and a cgroup that none claims is the host's.
const GIVE_UP: Duration = Duration::from_secs(5);

/// How long an event waits for the name of its container, if nothing else is said.
pub const WAIT: Duration = Duration::from_millis(500);

/// Cgroups that are looked at again while events wait for them, at most; those of others only when they have an event.
const AWAITED_MAX: usize = 256;

impl Enricher {
    /// An enricher that knows nobody yet.
    pub fn new(source: Source, max_processes: usize) -> Self {
        Self {
            processes: ProcessTable::new(max_processes),
            users: Users::default(),
            source,
            events: 0,
            host_answers: Answers::default(),
            cgroups: HashMap::new(),
            containers: HashMap::new(),
            awaited: Vec::new(),
            folders: Folders::default(),
            states: States::default(),
            apis: None,
            wait: WAIT,
            findings: Vec::new(),
        }
    }

    /// What a container, or the host, was told when it asked for names.
    pub fn answers<'a>(&'a self, container: Option<&'a Container>) -> &'a Answers {
        container.map_or(&self.host_answers, |container| &container.answers)
    }

    /// Where runtimes keep their files, and how long events wait for what these say.
    pub fn set_runtimes(&mut self, folders: Folders, wait: Duration) {
        (self.folders, self.wait) = (folders, wait);
    }

    /// Whom to ask for what the files do not say.
    pub fn set_apis(&mut self, apis: Apis) {
        self.apis = Some(apis);
    }

    /// Takes in what a runtime says of a container, or that it cannot be asked now.
    pub fn told(&mut self, told: Told) {
        let (container, found) = told.into_parts();
        if let Some(apis) = &mut self.apis {
            apis.close(&container, found.is_some());
        }
        if let Some(found) = found {
            self.describe(&container, found);
            self.settle(&container);
        }
        let now = Instant::now();
        for id in &self.awaited {
            if let Some(known) = self.cgroups.get_mut(id)
                && known.container.as_ref() == Some(&container)
            {
                known.retry = known.retry.map(|_| now);
            }
        }
    }

    /// What was found out since the last call.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// Looks at all cgroups and processes that there are. To be called once the probes are attached, so
    /// that nobody falls between.
    pub fn seed(&mut self) {
        let cgroups = self.live_cgroups().map(Cgroups::all).unwrap_or_default();
        for (id, path) in cgroups {
            self.learn_cgroup(id, Some(path));
        }
        for seed in seed::all(self.live_cgroups()) {
            self.learn_process(seed);
        }
    }

    /// Takes in a process that was found in `/proc` or in a recording.
    pub fn learn_process(&mut self, seed: Seed) {
        let container = self.container_of(seed.cgroup_id);
        let mut process = Process::of_seed(&seed, seed.cgroup_id, container);
        process.from_host = self.is_host(seed.cgroup_id);
        if let Some(container) = &process.container {
            let _ = container.first.set(process.key);
            process.exec_session = self.session_of_seed(&process);
        }
        let key = process.key;
        self.processes.seed(process);
        self.findings.push(Finding::Process(Box::new(seed)));
        self.name_users(key);
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
        if let Source::Recorded = self.source {
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
        let container = container.map(|container| self.learn_container(id, container));
        let known = Known { container: container.clone(), told: None, since: Instant::now(), retry: None };
        self.cgroups.insert(id, known);
        self.findings.push(Finding::Cgroup { id, path: None, container, host: false });
    }

    /// Takes in what a recording says of the container of a cgroup.
    pub fn recall_container(&mut self, cgroup_path: &str, metadata: Metadata) {
        let Some((_, container)) = self.containers.get(cgroup_path) else { return };
        let container = Arc::clone(container);
        self.describe(&container, Found { metadata: Some(metadata), ..Found::default() });
    }

    /// Takes in a cgroup's path, `None` if it was gone.
    fn learn_cgroup(&mut self, id: u64, path: Option<String>) -> Option<Arc<Container>> {
        let now = Instant::now();
        let known = self.cgroups.remove(&id).unwrap_or(Known {
            container: None,
            told: None,
            since: now,
            retry: None,
        });
        let Known { container, told, since, retry: _ } = known;
        let age = now.duration_since(since);
        let at = self.findings.len();
        let (container, host) = match (container, path.as_deref()) {
            (None, Some(path)) => self.identify(id, path),
            // It stays its container's when it is gone.
            (container, _) => (container, false),
        };
        let is_clear = match &container {
            Some(container) => self.look_for(container, age),
            None => host,
        };
        let retry = (!is_clear).then(|| now + (age / 2).clamp(RETRY_MIN, RETRY_MAX));
        if retry.is_some()
            && age < self.wait
            && self.awaited.len() < AWAITED_MAX
            && !self.awaited.contains(&id)
        {
            self.awaited.push(id);
        }
        self.cgroups.insert(id, Known { container: container.clone(), told, since, retry });
        // A recording has the cgroup before what its container is called.
        self.findings.insert(at, Finding::Cgroup { id, path, container: container.clone(), host });
        container
    }

    /// Whose a cgroup with that path is, and whether it is the host's for sure.
    fn identify(&mut self, id: u64, path: &str) -> (Option<Arc<Container>>, bool) {
        // What is below a container is the container's, whatever names it gave to cgroups of its own.
        if let Some(outer) = self.container_around(path) {
            return (Some(outer), false);
        }
        let container = match identify(path) {
            Identity::Host => return (None, true),
            Identity::Container(container) if container.is_in_known_folder() => Some(container),
            // It may be a cgroup that a container made, whose own path its user chose.
            Identity::Container(container) => {
                let outer = self
                    .states
                    .owner(path, &self.folders)
                    .filter(|outer| outer.cgroup_path.len() < container.cgroup_path.len());
                Some(outer.unwrap_or(container))
            }
            Identity::Unknown => self.states.owner(path, &self.folders),
        };
        (container.map(|container| self.learn_container(id, container)), false)
    }

    /// The outermost container that has a cgroup above that path.
    fn container_around(&mut self, path: &str) -> Option<Arc<Container>> {
        for (end, _) in path.match_indices('/').filter(|(end, _)| *end > 0) {
            let Some((id, container)) = self.containers.get(&path[..end]) else { continue };
            // The same path again after it was removed is another container's.
            if self.live_cgroups().is_none_or(|cgroups| cgroups.id(Path::new(&path[..end])) == Some(*id)) {
                return Some(Arc::clone(container));
            }
            self.containers.remove(&path[..end]);
        }
        None
    }

    /// The one copy of a container that all its processes share; `id` is that of one of its cgroups.
    fn learn_container(&mut self, id: u64, mut container: Container) -> Arc<Container> {
        let path = &container.cgroup_path;
        if let Some((_, known)) = self.containers.get(path)
            && **known == container
        {
            return Arc::clone(known);
        }
        let found = match self.source {
            Source::Live(_) => metadata::find(&container, &self.folders),
            Source::Recorded => Found::default(),
        };
        container.runtime = found.runtime.unwrap_or(container.runtime);
        let path = &container.cgroup_path;
        // The id that tells whether the path is still this container's, if another of its cgroups was seen first.
        let id = self.live_cgroups().and_then(|cgroups| cgroups.id(Path::new(path))).unwrap_or(id);
        let (path, shared) = (path.clone(), Arc::new(container));
        if self.containers.len() >= CGROUPS_MAX {
            self.containers.retain(|_, (_, container)| Arc::strong_count(container) > 1);
        }
        if self.containers.len() >= CGROUPS_MAX {
            self.containers.clear();
        }
        self.containers.insert(path, (id, Arc::clone(&shared)));
        self.describe(&shared, found);
        if let Some(apis) = &mut self.apis {
            apis.ask(&shared);
        }
        self.settle(&shared);
        shared
    }

    /// Makes sure that it is known what a container is called, or that nobody can tell; returns whether it is.
    fn look_for(&mut self, container: &Arc<Container>, age: Duration) -> bool {
        let is_live = matches!(self.source, Source::Live(_));
        if is_live && age > Duration::ZERO && container.metadata.get().is_none() {
            let mut found = metadata::find(container, &self.folders);
            if age >= GIVE_UP {
                found.metadata.get_or_insert_default();
            }
            self.describe(container, found);
            self.settle(container);
        }
        let is_to_come = || self.apis.as_ref().is_some_and(|apis| apis.expects(container));
        !is_live || container.metadata.get().is_some() && !is_to_come()
    }

    /// Takes in what was found out about a container.
    fn describe(&mut self, container: &Arc<Container>, found: Found) {
        let Found { metadata, runtime: _, problems } = found;
        let is_new = metadata.is_some_and(|metadata| container.metadata.set(metadata));
        // While nothing else is known the same problems are found again and again.
        if is_new || container.metadata.get().is_some() && !problems.is_empty() {
            let problems = problems.iter().map(ToString::to_string).collect();
            self.findings.push(Finding::Container { container: Arc::clone(container), problems });
        }
    }

    /// Notes that nothing more can come of a container, if that is so.
    fn settle(&mut self, container: &Arc<Container>) {
        let is_open = self.apis.as_ref().is_some_and(|apis| apis.is_open(container));
        // A recording has what was known as soon as it has the container.
        let is_described = container.metadata.get().is_some() || matches!(self.source, Source::Recorded);
        if is_described && !is_open && !container.metadata.is_final() {
            container.metadata.settle();
            self.findings.push(Finding::Final(Arc::clone(container)));
        }
    }

    /// The cgroups of a container.
    pub fn cgroups_of(&self, container: &Container) -> Vec<u64> {
        let its = |known: &Known| known.container.as_deref() == Some(container);
        self.cgroups.iter().filter(|(_, known)| its(known)).map(|(id, _)| *id).collect()
    }

    /// Whether an event can go out: whose it is and what that one is called is known, or has been waited for. Looks
    /// also at what the event is the first to tell of.
    pub fn is_ready(&mut self, event: &Event<'_>) -> bool {
        if let Source::Recorded = self.source {
            return true;
        }
        match event {
            Event::Fork(fork) => self.sight(fork.child_cgroup_id, None),
            Event::CgroupMove(moved) => {
                let path = moved.record.path;
                let is_whole = path.len == path.full_len;
                self.sight(moved.record.cgroup_id, std::str::from_utf8(moved.path).ok().filter(|_| is_whole));
            }
            _ => {}
        }
        let id = event.header().cgroup_id;
        self.sight(id, None);
        self.cgroups.get(&id).is_none_or(|known| known.retry.is_none() || known.since.elapsed() >= self.wait)
    }

    /// Looks at a cgroup, unless all is clear. Of one that is gone already its path may be told otherwise.
    fn sight(&mut self, id: u64, path: Option<&str>) {
        let is_new = match self.cgroups.get(&id) {
            Some(Known { retry: None, .. }) => return,
            known => known.is_none(),
        };
        if let Some(path) = path.filter(|_| is_new) {
            let now = Instant::now();
            self.cgroups
                .insert(id, Known { container: None, told: Some(path.into()), since: now, retry: Some(now) });
        }
        self.container_of(id);
    }

    /// Looks again at all that events wait for, if it is time.
    pub fn look_again(&mut self) {
        for id in std::mem::take(&mut self.awaited) {
            self.container_of(id);
            let is_awaited = |known: &Known| known.retry.is_some() && known.since.elapsed() < self.wait;
            if self.cgroups.get(&id).is_some_and(is_awaited) && !self.awaited.contains(&id) {
                self.awaited.push(id);
            }
        }
    }

    /// Those of these cgroups that are not there any more.
    pub fn gone(&mut self, cgroups: &[u64]) -> Vec<u64> {
        match &mut self.source {
            Source::Live(Some(tree)) => tree.gone(cgroups),
            Source::Live(None) | Source::Recorded => Vec::new(),
        }
    }

    fn live_cgroups(&self) -> Option<&Cgroups> {
        match &self.source {
            Source::Live(cgroups) => cgroups.as_ref(),
            Source::Recorded => None,
        }
    }

    /// Whether so many cgroups are remembered that it is time for [`Enricher::forget_cgroups`].
    pub fn is_full(&self) -> bool {
        self.cgroups.len() >= CGROUPS_MAX
    }

    /// Forgets all cgroups but these.
    pub fn forget_cgroups(&mut self, but: &[u64]) {
        let but: HashSet<u64> = but.iter().copied().collect();
        self.cgroups.retain(|id, _| but.contains(id));
    }

    /// Whose a cgroup is, for whoever must not take what is not known for the host's.
    pub fn owner_of(&mut self, id: u64) -> Owner {
        match self.container_of(id) {
            Some(container) => Owner::Container(container),
            None if self.is_host(id) => Owner::Host,
            None => Owner::Unknown,
        }
    }

    /// Whether a cgroup is known to be the host's.
    fn is_host(&self, cgroup_id: u64) -> bool {
        self.cgroups.get(&cgroup_id).is_some_and(Known::is_host)
    }

    /// Whose a cgroup is; asks again if that was not clear and it is time.
    pub fn container_of(&mut self, id: u64) -> Option<Arc<Container>> {
        // Of a process that `/proc` tells no cgroup of.
        if id == 0 {
            return None;
        }
        if let Some(known) = self.cgroups.get(&id) {
            let stale = known.retry.is_some_and(|retry| Instant::now() >= retry);
            if !stale || matches!(self.source, Source::Recorded) {
                return known.container.clone();
            }
        }
        let told = || self.cgroups.get(&id)?.told.as_deref().map(str::to_owned);
        let path = match &mut self.source {
            Source::Live(Some(cgroups)) => cgroups.path(id).or_else(told),
            Source::Live(None) if self.cgroups.contains_key(&id) => told(),
            Source::Live(None) | Source::Recorded => return None,
        };
        self.learn_cgroup(id, path)
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
        self.know(key, header);
        match event {
            Event::Exec(exec) => {
                // A runtime starts itself anew, as it was called before, until it enters the container's
                // namespaces. Anything else that is started in the container is the container's.
                let outside = self.processes.get(key).is_some_and(|process| {
                    process.from_host && process.mnt_ns == header.mnt_ns && *process.image.args == *exec.args
                });
                self.processes.exec(key, exec);
                self.place(key, header.cgroup_id);
                let on_host = self.is_host(header.cgroup_id);
                if let Some(process) = self.processes.get_mut(key) {
                    let was_from_host = std::mem::replace(&mut process.from_host, on_host || outside);
                    process.mnt_ns = header.mnt_ns;
                    if !process.from_host
                        && let Some(container) = &process.container
                    {
                        let is_first = container.first.set(key).is_ok() || process.ns_tgid == 1;
                        // Whatever else comes in from the host was asked for while the container ran.
                        if was_from_host && !is_first {
                            process.exec_session = Some(key);
                        }
                    }
                }
                self.name_users(key);
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
            // Not of the acting task's doing, or of an earlier moment: the cgroup may be another one by now.
            Event::Dns(_) => self.learn_answers(key, event),
            Event::Flow(_) | Event::Udp(_) => {}
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

    /// Makes sure that the acting process is in the table.
    fn know(&mut self, key: ProcessKey, header: &Header) {
        if let Some(process) = self.processes.get_mut(key) {
            // The name of the main thread is the process's.
            if header.tid == header.tgid {
                process.comm = header.comm;
            }
            if process.pid_ns == 0 {
                self.processes.pid_ns(key, header.pid_ns);
            }
            return;
        }
        // Its fork was lost, or it is older than the probes and was missed.
        if let Source::Live(_) = self.source
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
        let on_host = self.is_host(header.cgroup_id);
        if let Some(process) = self.processes.get_mut(key) {
            process.from_host = on_host && process.container.is_none();
        }
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
        let undecided = process.container.is_none();
        if (undecided || moved)
            && let Some(container) = self.container_of(cgroup_id)
            && undecided
            && let Some(process) = self.processes.get_mut(key)
        {
            process.container = Some(container);
        }
    }
}

#[cfg(test)]
mod tests {
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
        let start = in_cgroup(
            in_mount_namespace(exec(10, SECOND, (1, 0), "/usr/sbin/runc", &["runc", "init"]), host),
            1,
        );
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
        assert!(
            !handle(&mut enricher, &exec(11, 2 * SECOND, (10, SECOND), "/tmp/runc", &["runc"])).from_host
        );
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
    fn cgroup_below_a_container_is_the_containers_whatever_its_name() {
        let mut enricher = Enricher::new(Source::Live(None), 64);
        let (id, other) = ("c".repeat(64), "d".repeat(64));
        let own = enricher.learn_cgroup(10, Some(format!("/{id}")));
        for (below, name) in [(21, "web"), (22, "x/y")] {
            let container = Container::new(name.into(), Runtime::Oci, None, format!("/{name}"));
            let container = enricher.learn_container(20, container);
            let fake = enricher.learn_cgroup(below, Some(format!("/{name}/docker-{other}.scope")));
            assert_eq!(fake, Some(container));
            assert_ne!(fake, own);
        }
    }

    #[test]
    fn cgroup_that_was_gone_before_it_was_known_is_nobodys_and_not_the_hosts() {
        let mut enricher = Enricher::new(Source::Live(None), 64);
        let container = enricher.learn_cgroup(10, Some(format!("/docker/{}", "c".repeat(64))));
        enricher.learn_cgroup(11, Some("/system.slice/ssh.service".to_owned()));
        enricher.learn_cgroup(12, None);
        assert_eq!(enricher.owner_of(10), Owner::Container(container.unwrap()));
        assert_eq!(
            [11, 12, 13].map(|id| enricher.owner_of(id)),
            [Owner::Host, Owner::Unknown, Owner::Unknown]
        );
    }

    #[test]
    fn cgroups_that_have_counters_are_not_forgotten_for_room() {
        let mut enricher = Enricher::new(Source::Live(None), 64);
        for id in 0..CGROUPS_MAX as u64 {
            assert!(!enricher.is_full());
            enricher.learn_cgroup(id, Some("/system.slice/x.service".to_owned()));
        }
        assert!(enricher.is_full());
        enricher.forget_cgroups(&[7, 9]);
        assert_eq!([7, 8, 9].map(|id| enricher.owner_of(id)), [Owner::Host, Owner::Unknown, Owner::Host]);
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
        assert_eq!(
            (second.key.to_string(), &*second.image.exe),
            ("11-100-3".to_owned(), &b"/bin/second"[..])
        );
    }
}
