//! Whose each cgroup is, as far as it is known where events are handled; `resolve.rs` finds it out. It keeps what it
//! knows of cgroups that are gone, for events that were still on their way then. It is bounded, and counts what it had
//! to forget.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};

use super::Finding;
use super::cgroup::Cgroups;
use super::container::{Container, Runtime};
use super::metadata::api::{self, Apis, Told};
use super::metadata::{self, Metadata};
use super::process::PID_NS_INIT;
use super::resolve::{self, Answer, Asker, GIVE_UP, Hint, Question, Resolver, of_namespace};
use super::state::Folders;
use crate::probe::count::COUNTS_MAX;

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

/// What is known of all cgroups.
pub struct Owners {
    resolving: Resolving,
    apis: Option<Apis>,
    tree: Option<Cgroups>,
    known: HashMap<u64, Known>,
    /// Cgroups that were removed, oldest first: those of containers, and all others, so that a container which makes and
    /// removes many inside itself has only these forgotten.
    gone: [VecDeque<u64>; 2],
    /// Containers of a recording, by the path of their cgroup.
    recorded: HashMap<String, Arc<Container>>,
    /// How long an event waits for the name of its container.
    wait: Duration,
    pub(super) findings: Vec<Finding>,
    stats: Stats,
}

/// Who finds it out.
enum Resolving {
    /// Nobody: a recording tells it.
    Recorded,
    /// We do, when it is asked.
    Here(Box<Resolver>),
    /// A thread does.
    There(Asker, Receiver<Answer>),
}

/// What has become of containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Containers that were gone before anybody told what they are called.
    pub late: u64,
    /// Cgroups that were gone and had to be forgotten to make room.
    pub forgotten: u64,
}

/// What is known of a cgroup.
struct Known {
    container: Option<Arc<Container>>,
    /// When it was seen first.
    since: Instant,
    /// Whether anything has been found out.
    is_answered: bool,
    /// Whether no better answer comes by itself.
    is_last: bool,
    /// Whether it is the host's by its path …
    is_host: bool,
    /// … or since nobody has claimed it.
    is_unclaimed: bool,
    /// Whether it was removed.
    is_gone: bool,
    /// When an event in it is reason to ask again.
    again: Option<Instant>,
    /// Of a pid namespace: when its first process started, if that was seen.
    born_ns: u64,
    /// What the event of its making said of its path, until there is an answer: who asked elsewhere may have had no room.
    hint: Option<Hint>,
}

/// How long an event waits for the name of its container, if nothing else is said.
pub const WAIT: Duration = Duration::from_millis(500);

/// Cgroups that are remembered: then those without counters are forgotten and looked up again, half at least.
const CGROUPS_MAX: usize = 2 * COUNTS_MAX as usize;

/// Cgroups that are gone and remembered, at most, of each of the two sorts.
const GONE_MAX: usize = 4096;
const _: () = assert!(2 * GONE_MAX <= CGROUPS_MAX / 2);

/// How long the answer about a cgroup is waited for that was just made, before it is asked for once more: whoever read
/// the record asked, but may have found no room.
const ASKED_ELSEWHERE: Duration = Duration::from_millis(50);

/// How long whoever needs an answer waits for it, where no event does.
const PATIENCE: Duration = Duration::from_millis(200);

impl Owners {
    /// Of the running system.
    pub fn live(tree: Option<Cgroups>) -> Self {
        let other = tree.as_ref().and_then(|tree| tree.try_clone().ok());
        let resolver = Resolver::new(other, Folders::default());
        Self::new(Resolving::Here(Box::new(resolver)), tree)
    }

    /// Of a recording: only what it tells.
    pub fn recorded() -> Self {
        Self::new(Resolving::Recorded, None)
    }

    fn new(resolving: Resolving, tree: Option<Cgroups>) -> Self {
        Self {
            resolving,
            apis: None,
            tree,
            known: HashMap::new(),
            gone: [VecDeque::new(), VecDeque::new()],
            recorded: HashMap::new(),
            wait: WAIT,
            findings: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// Whether it is the running system.
    pub fn is_live(&self) -> bool {
        !matches!(self.resolving, Resolving::Recorded)
    }

    /// The tree of the running system.
    pub fn tree(&self) -> Option<&Cgroups> {
        self.tree.as_ref()
    }

    /// What has become of containers.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Where runtimes keep their files, and how long events wait for what these say. To be called before the start.
    pub fn set_runtimes(&mut self, folders: Folders, wait: Duration) {
        self.wait = wait;
        if let Resolving::Here(resolver) = &mut self.resolving {
            resolver.set_folders(folders);
        }
    }

    /// Whom to ask for what the files do not say.
    pub fn set_apis(&mut self, apis: Apis) {
        self.apis = Some(apis);
    }

    /// Takes in what a runtime says of a container, or that it cannot be asked now.
    pub fn told(&mut self, told: Told) {
        let (container, found, next) = match told {
            Told::Answer { container, found, next } => (container, found, next),
            Told::Name { id, name } => return self.rename(&id, &name),
        };
        if let Some(apis) = &mut self.apis {
            apis.take(&container, next);
        }
        if let Some(found) = found {
            let problems = found.problems.iter().map(ToString::to_string).collect();
            self.describe(&container, found.metadata, problems);
            self.settle(&container);
        }
    }

    /// Takes in the new name of a container of docker.
    fn rename(&mut self, id: &str, name: &str) {
        let containers = self.known.values().filter_map(|known| known.container.as_ref());
        let its = |container: &&Arc<Container>| container.id == id && container.runtime == Runtime::Docker;
        let mut found: Vec<Arc<Container>> = containers.filter(its).cloned().collect();
        found.dedup_by(|a, b| Arc::ptr_eq(a, b));
        for container in found {
            let metadata = api::renamed(&container, name);
            self.describe(&container, metadata, Vec::new());
        }
    }

    /// From here on a thread of its own looks things up. Gives whom to ask.
    pub fn start(&mut self) -> std::io::Result<Option<Asker>> {
        match std::mem::replace(&mut self.resolving, Resolving::Recorded) {
            Resolving::Here(resolver) => {
                let (asker, answers) = resolve::start(*resolver)?;
                self.resolving = Resolving::There(asker.clone(), answers);
                Ok(Some(asker))
            }
            other => {
                self.resolving = other;
                Ok(None)
            }
        }
    }

    /// Takes in what was found out meanwhile.
    pub fn take_answers(&mut self) {
        match &mut self.resolving {
            Resolving::Recorded => {}
            Resolving::Here(resolver) => {
                let answers = resolver.look_again(Instant::now());
                answers.into_iter().for_each(|answer| self.take(answer));
            }
            Resolving::There(_, answers) => {
                let answers: Vec<Answer> = answers.try_iter().collect();
                answers.into_iter().for_each(|answer| self.take(answer));
            }
        }
    }

    /// Waits a moment for what is not known of these cgroups.
    pub fn wait_for(&mut self, ids: &[u64]) {
        ids.iter().for_each(|id| self.sight(*id, || None));
        let end = Instant::now() + PATIENCE;
        while ids.iter().any(|id| self.known.get(id).is_some_and(|known| !known.is_answered))
            && let Resolving::There(_, answers) = &self.resolving
            && let Ok(answer) = answers.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.take(answer);
        }
    }

    /// Makes sure that it is asked whose a cgroup is, once something happens in it.
    pub fn sight(&mut self, id: u64, hint: impl FnOnce() -> Option<Hint>) {
        let known = self.known.get(&id);
        if id != 0 && known.is_none_or(|known| known.again.is_some_and(|again| again <= Instant::now())) {
            self.ask(id, hint());
        }
    }

    /// A cgroup was made: it was asked already whose it is.
    pub fn made(&mut self, id: u64, hint: impl FnOnce() -> Option<Hint>) {
        if let Resolving::There(..) = self.resolving {
            let again = Some(Instant::now() + ASKED_ELSEWHERE);
            let known = self.known.entry(id).or_insert_with(|| Known { again, ..Known::new() });
            if !known.is_answered {
                known.hint = hint();
            }
        } else {
            self.sight(id, hint);
        }
    }

    /// A namespace has its first process, which started then: what was known by its number was of an earlier one.
    pub fn is_born(&mut self, pid_ns: u32, start_ns: u64) {
        if let Some(known) = self.known.get_mut(&of_namespace(pid_ns))
            && known.born_ns != start_ns
        {
            *known = Known { born_ns: start_ns, again: Some(Instant::now()), ..Known::new() };
        }
    }

    /// By what it is known whose a process is: its cgroup; or its pid namespace, if that cgroup is the host's.
    pub fn home(&self, cgroup_id: u64, pid_ns: u32) -> u64 {
        match pid_ns {
            0 | PID_NS_INIT => cgroup_id,
            _ if self.is_host(cgroup_id) => of_namespace(pid_ns),
            _ => cgroup_id,
        }
    }

    /// Whether a cgroup is known to be the host's, and so is whoever is at home there.
    pub fn is_hosts(&self, cgroup_id: u64, home: u64) -> bool {
        self.is_host(cgroup_id) && self.known_container(home).is_none()
    }

    /// A cgroup was removed. What is known of it stays a while.
    pub fn removed(&mut self, id: u64, hint: Hint) {
        if let Some(apis) = &mut self.apis {
            apis.gone(hint.path());
        }
        let Some(known) = self.known.get_mut(&id) else { return };
        known.is_gone = true;
        let is_containers =
            known.container.as_ref().is_some_and(|container| container.cgroup_path == hint.path());
        match &mut self.resolving {
            Resolving::Recorded => {}
            Resolving::Here(resolver) => {
                if let Some(answer) = resolver.ask(Question::Gone(id, hint), Instant::now()) {
                    self.take(answer);
                }
            }
            // It was told elsewhere, if there was room; a second time does no harm. Without room now it is asked for by age.
            Resolving::There(asker, _) => {
                asker.ask(Question::Gone(id, hint));
            }
        }
        let gone = &mut self.gone[usize::from(is_containers)];
        gone.push_back(id);
        if gone.len() > GONE_MAX
            && let Some(oldest) = gone.pop_front()
        {
            self.known.remove(&oldest);
            self.stats.forgotten += 1;
        }
    }

    fn ask(&mut self, id: u64, hint: Option<Hint>) {
        let hint = hint.or_else(|| self.known.get(&id)?.hint.clone());
        let again = match &mut self.resolving {
            Resolving::Recorded => return,
            Resolving::Here(resolver) => match resolver.ask(Question::Whose(id, hint), Instant::now()) {
                Some(answer) => return self.take(answer),
                None => None,
            },
            Resolving::There(asker, _) => {
                let is_asked = asker.ask(Question::Whose(id, hint));
                (!is_asked).then(Instant::now)
            }
        };
        self.known.entry(id).or_insert_with(Known::new).again = again;
    }

    fn take(&mut self, answer: Answer) {
        let Answer { id, path, container, is_new, mut metadata, mut problems, is_host, is_last, is_late } =
            answer;
        let known = self.known.entry(id).or_insert_with(Known::new);
        let is_news = !known.is_answered || known.container != container;
        let is_there = path.is_some() || id == of_namespace(id as u32);
        let is_unclaimed = is_last && !is_host && container.is_none() && is_there;
        known.is_answered = true;
        known.hint = None;
        known.is_last = is_last;
        (known.is_host, known.is_unclaimed) = (is_host, is_unclaimed);
        known.again = is_unclaimed.then(|| Instant::now() + GIVE_UP);
        // It stays its container's when it is gone.
        if container.is_some() {
            known.container.clone_from(&container);
        }
        if is_news {
            self.findings.push(Finding::Cgroup { id, path, container: container.clone(), host: is_host });
        }
        let Some(container) = container else { return };
        let is_nameless = metadata.is_none() && container.metadata.get().is_none();
        if is_late {
            self.stats.late += 1;
            problems.push("it was gone before its runtime's files were read".to_owned());
            metadata = metadata.or_else(|| is_nameless.then(|| metadata::of_id(&container))?);
        } else if is_last && is_nameless {
            metadata = Some(Metadata::default());
        }
        self.describe(&container, metadata, problems);
        if let Some(apis) = self.apis.as_mut().filter(|_| is_new) {
            apis.ask(&container);
        }
        self.settle(&container);
    }

    /// Takes in what was found out about a container.
    fn describe(&mut self, container: &Arc<Container>, metadata: Option<Metadata>, problems: Vec<String>) {
        let is_new = metadata.is_some_and(|metadata| container.metadata.set(metadata));
        if is_new || !problems.is_empty() {
            self.findings.push(Finding::Container { container: Arc::clone(container), problems });
        }
    }

    /// Notes that nothing more can come of a container, if that is so.
    fn settle(&mut self, container: &Arc<Container>) {
        let is_open = self.apis.as_ref().is_some_and(|apis| apis.is_open(container));
        // A recording has what was known as soon as it has the container.
        let is_described = container.metadata.get().is_some() || !self.is_live();
        if is_described && !is_open && !container.metadata.is_final() {
            container.metadata.settle();
            self.findings.push(Finding::Final(Arc::clone(container)));
        }
    }

    /// Containers of all cgroups that are known, some more than once.
    pub fn containers(&self) -> impl Iterator<Item = &Arc<Container>> {
        self.known.values().filter_map(|known| known.container.as_ref())
    }

    /// The cgroups of a container.
    pub fn cgroups_of(&self, container: &Container) -> Vec<u64> {
        // Not those of an earlier one of the same name and path.
        let its = |known: &Known| known.container.as_deref().is_some_and(|of| std::ptr::eq(of, container));
        self.known.iter().filter(|(_, known)| its(known)).map(|(id, _)| *id).collect()
    }

    /// Takes in what a recording says of a cgroup.
    pub fn recall_cgroup(&mut self, id: u64, container: Option<Container>) {
        let container = container.map(|container| {
            let known = self.recorded.get(&container.cgroup_path).filter(|known| ***known == container);
            known.cloned().unwrap_or_else(|| {
                let shared = Arc::new(container);
                if self.recorded.len() < CGROUPS_MAX {
                    self.recorded.insert(shared.cgroup_path.clone(), Arc::clone(&shared));
                }
                shared
            })
        });
        let known = Known {
            is_host: container.is_none(),
            container: container.clone(),
            is_answered: true,
            is_last: true,
            ..Known::new()
        };
        self.known.insert(id, known);
        if let Some(container) = &container {
            self.settle(container);
        }
        self.findings.push(Finding::Cgroup { id, path: None, container, host: false });
    }

    /// Takes in what a recording says of the container of a cgroup.
    pub fn recall_container(&mut self, cgroup_path: &str, metadata: Metadata) {
        if let Some(container) = self.recorded.get(cgroup_path)
            && container.metadata.set(metadata)
        {
            let container = Arc::clone(container);
            self.findings.push(Finding::Container { container, problems: Vec::new() });
        }
    }

    /// Whose a cgroup is; asks if nobody did. `None`: the host's, or not known.
    pub fn container_of(&mut self, id: u64) -> Option<Arc<Container>> {
        self.sight(id, || None);
        self.known.get(&id)?.container.clone()
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
    pub fn is_host(&self, id: u64) -> bool {
        self.known.get(&id).is_some_and(|known| known.is_host || known.is_unclaimed)
    }

    /// Whether it is by its path.
    pub fn is_host_by_path(&self, id: u64) -> bool {
        self.known.get(&id).is_some_and(|known| known.is_host)
    }

    /// The container of a cgroup, if that is known.
    pub fn known_container(&self, id: u64) -> Option<&Container> {
        self.known.get(&id)?.container.as_deref()
    }

    /// The address of what is known of the container of a cgroup.
    pub fn address_of(&self, id: u64) -> Option<usize> {
        self.known_container(id).map(|container| std::ptr::from_ref(container).addr())
    }

    /// Whether it is known whose a cgroup is, or that was waited for.
    pub fn is_answered(&self, id: u64) -> bool {
        self.known.get(&id).is_none_or(|known| known.is_answered || known.since.elapsed() >= self.wait)
    }

    /// Whether a cgroup is a container's of which all is known that can come: there is nothing to ask or to wait for.
    pub fn is_final(&self, id: u64) -> bool {
        let is_final = |container: &Arc<Container>| container.metadata.is_final();
        self.known
            .get(&id)
            .is_some_and(|known| known.again.is_none() && known.container.as_ref().is_some_and(is_final))
    }

    /// Whether it is known whose a cgroup is and what that one is called, or that was waited for.
    pub fn is_settled(&self, id: u64) -> bool {
        self.known.get(&id).is_none_or(|known| {
            let container = known.container.as_deref();
            let has_name = || container.is_some_and(|of| of.metadata.get().is_some());
            let is_to_come =
                || self.apis.as_ref().zip(container).is_some_and(|(apis, container)| apis.expects(container));
            (known.is_last || has_name()) && !is_to_come() || known.since.elapsed() >= self.wait
        })
    }

    /// Those of these cgroups that are not there any more.
    pub fn gone(&mut self, cgroups: &[u64]) -> Vec<u64> {
        self.tree.as_mut().map(|tree| tree.gone(cgroups)).unwrap_or_default()
    }

    /// Whether so many cgroups are remembered that it is time for [`Owners::forget`].
    pub fn is_full(&self) -> bool {
        self.known.len() >= CGROUPS_MAX
    }

    /// Forgets all cgroups but these: they are looked up again. What is gone could not be.
    pub fn forget(&mut self, but: &[u64]) {
        let but: HashSet<u64> = but.iter().copied().collect();
        self.known.retain(|id, known| known.is_gone || but.contains(id));
    }
}

impl Known {
    /// Nothing.
    fn new() -> Self {
        Self {
            container: None,
            since: Instant::now(),
            is_answered: false,
            is_last: false,
            is_host: false,
            is_unclaimed: false,
            is_gone: false,
            again: None,
            born_ns: 0,
            hint: None,
        }
    }
}

#[cfg(test)]
mod tests;
