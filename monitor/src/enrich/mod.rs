//! Puts a name to each event: the process and its ancestors, the container.

pub mod cgroup;
pub mod container;
pub mod process;
pub mod seed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use taffrail_common::event::{Fork, Header};

use crate::event::Event;
use cgroup::Cgroups;
use container::{Container, Identity, identify, identify_by_state};
use process::{Process, ProcessKey, ProcessTable};
use seed::Seed;

/// An event and all that is known about who did it: what rules, formats and views look at.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// What happened.
    pub event: &'a Event<'a>,
    /// When, as `CLOCK_REALTIME`, in ns since the epoch.
    pub time_ns: u64,
    /// The process that did it (of a fork: the parent), as it is after the event.
    pub process: &'a Process,
    /// For looking up ancestors.
    pub processes: &'a ProcessTable,
    /// Its container; `None` is the host.
    pub container: Option<&'a Container>,
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
}

/// What a cgroup is known to be.
#[derive(Clone)]
struct Known {
    container: Option<Arc<Container>>,
    /// When to look again: the path was of no known form, or the cgroup was not found.
    retry: Option<Instant>,
}

/// The process table, the containers, and how events change them.
pub struct Enricher {
    /// All processes.
    pub processes: ProcessTable,
    source: Source,
    cgroups: HashMap<u64, Known>,
    containers: HashMap<String, Arc<Container>>,
    /// What was found out since the last [`Enricher::take_findings`].
    findings: Vec<Finding>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It is to be looked at; its process is this one.
    Process(ProcessKey),
    /// The end of a process whose end was told already: two last threads raced.
    Duplicate,
}

/// Cgroups that are remembered, at most: then all are forgotten and looked up again.
const CGROUPS_MAX: usize = 16_384;

/// How long a cgroup of no known form is taken for the host's before the runtimes are asked again.
const RETRY: Duration = Duration::from_millis(20);

impl Enricher {
    /// An enricher that knows nobody yet.
    pub fn new(source: Source, max_processes: usize) -> Self {
        Self {
            processes: ProcessTable::new(max_processes),
            source,
            cgroups: HashMap::new(),
            containers: HashMap::new(),
            findings: Vec::new(),
        }
    }

    /// What was found out since the last call.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// Looks at all cgroups and processes that there are. To be called once the probes are attached, so
    /// that nobody falls between.
    pub fn seed(&mut self) {
        let cgroups = match &self.source {
            Source::Live(Some(cgroups)) => cgroups.all(),
            _ => Vec::new(),
        };
        let mut ids = HashMap::new();
        for (id, path) in cgroups {
            self.learn_cgroup(id, Some(path.clone()));
            ids.insert(path, id);
        }
        for mut seed in seed::all() {
            seed.cgroup_id = ids.get(&seed.cgroup_path).copied().unwrap_or(0);
            self.learn_process(seed);
        }
    }

    /// Takes in a process that was found in `/proc` or in a recording.
    pub fn learn_process(&mut self, seed: Seed) {
        let container = self.container_of(seed.cgroup_id, false);
        self.processes.seed(Process::of_seed(&seed, seed.cgroup_id, container));
        self.findings.push(Finding::Process(Box::new(seed)));
    }

    /// Takes in what a recording says of a cgroup.
    pub fn recall_cgroup(&mut self, id: u64, container: Option<Container>) {
        let container = container.map(|container| self.shared(container));
        self.cgroups.insert(id, Known { container, retry: None });
    }

    /// Takes in a cgroup's path, `None` if it was gone.
    fn learn_cgroup(&mut self, id: u64, path: Option<String>) -> Option<Arc<Container>> {
        let identity = path.as_deref().map_or(Identity::Unknown, identify);
        let host = identity == Identity::Host;
        let container = match (identity, &path) {
            (Identity::Container(container), _) => Some(container),
            (Identity::Unknown, Some(path)) => identify_by_state(path),
            _ => None,
        };
        let container = container.map(|container| self.shared(container));
        let retry = (container.is_none() && !host).then(|| Instant::now() + RETRY);
        if self.cgroups.len() >= CGROUPS_MAX {
            self.cgroups.clear();
        }
        self.cgroups.insert(id, Known { container: container.clone(), retry });
        self.findings.push(Finding::Cgroup { id, path, container: container.clone(), host });
        container
    }

    /// The one copy of a container that all its processes share.
    fn shared(&mut self, container: Container) -> Arc<Container> {
        if self.containers.len() >= CGROUPS_MAX {
            self.containers.retain(|_, container| Arc::strong_count(container) > 1);
        }
        let shared = self.containers.entry(container.id.clone());
        Arc::clone(shared.or_insert_with(|| Arc::new(container)))
    }

    /// Whose a cgroup is, as far as it is known already.
    pub fn container(&self, cgroup_id: u64) -> Option<Arc<Container>> {
        self.cgroups.get(&cgroup_id)?.container.clone()
    }

    /// Whose a cgroup is. `again`: a good moment to ask once more if that was not clear.
    fn container_of(&mut self, id: u64, again: bool) -> Option<Arc<Container>> {
        if let Some(known) = self.cgroups.get(&id) {
            let stale = again && known.retry.is_some_and(|retry| Instant::now() >= retry);
            if !stale || matches!(self.source, Source::Recorded) {
                return known.container.clone();
            }
        }
        let Source::Live(Some(cgroups)) = &mut self.source else { return None };
        let path = cgroups.path(id);
        self.learn_cgroup(id, path)
    }

    /// Changes the tables by an event, and tells whose it is.
    pub fn handle(&mut self, event: &Event<'_>) -> Handled {
        let header = event.header();
        let key = ProcessKey::new(header.tgid, header.start_ns);
        self.know(key, header);
        match event {
            Event::Exec(exec) => {
                // A runtime starts itself anew before it enters the container's namespaces.
                let outside = self.processes.get(key).is_some_and(|process| {
                    (process.container.is_none() || process.from_host) && process.mnt_ns == header.mnt_ns
                });
                self.processes.exec(key, exec);
                self.place(key, header.cgroup_id, true);
                if let Some(process) = self.processes.get_mut(key) {
                    process.from_host = outside && process.container.is_some();
                    process.mnt_ns = header.mnt_ns;
                }
            }
            Event::Fork(fork) => self.fork(key, fork),
            Event::Exit(_) => {
                if !self.processes.exit(key) {
                    return Handled::Duplicate;
                }
            }
            Event::Open(_) | Event::Connect(_) => self.place(key, header.cgroup_id, false),
        }
        Handled::Process(key)
    }

    /// Makes sure that the acting process is in the table.
    fn know(&mut self, key: ProcessKey, header: &Header) {
        if let Some(process) = self.processes.get_mut(key) {
            // The name of the main thread is the process's.
            if header.tid == header.tgid {
                process.comm = header.comm;
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
            self.processes.insert_unknown(header);
        }
        self.place(key, header.cgroup_id, true);
        // Of a process that was just found inside nothing is known of where it was started.
        if let Some(process) = self.processes.get_mut(key) {
            process.from_host = false;
        }
    }

    /// A child is what its parent was, in the cgroup that it was put into.
    fn fork(&mut self, caller: ProcessKey, fork: &Fork) {
        let key = ProcessKey::new(fork.child_tgid, fork.child_start_ns);
        let parent = ProcessKey::new(fork.child_parent_tgid, fork.child_parent_start_ns);
        let Some(process) = self.processes.get(caller) else { return };
        let child = self.processes.child(key, fork.child_ns_tgid, parent, process);
        self.processes.insert(child);
        self.place(key, fork.child_cgroup_id, false);
    }

    /// Decides a process's container: the first one that it is seen in stays, wherever it moves.
    fn place(&mut self, key: ProcessKey, cgroup_id: u64, again: bool) {
        let Some(process) = self.processes.get_mut(key) else { return };
        if process.container.is_some() || (process.cgroup_id == cgroup_id && !again) {
            process.cgroup_id = cgroup_id;
            return;
        }
        process.cgroup_id = cgroup_id;
        let container = self.container_of(cgroup_id, again);
        if let Some(process) = self.processes.get_mut(key) {
            // It was moved here with what it runs. (Exec decides for itself.)
            process.from_host = container.is_some();
            process.container = container;
        }
    }
}
