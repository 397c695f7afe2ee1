//! Finds out whose a cgroup is, and what that container is called: from the cgroup's path and the files of runtimes.
//!
//! This is done on a thread of its own, so that no file is waited for where events are handled; and it hears of a new
//! cgroup as soon as the kernel's record of it is read, so that events may be handled when their container is long gone
//! together with its runtime's files. It knows nothing of processes. What is asked and answered is bounded; what finds
//! no room to be asked is asked again by whoever handles the events.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use taffrail_common::kind;

use super::cgroup::Cgroups;
use super::container::{Container, Identity, Runtime, identify};
use super::metadata::{self, Found, Metadata};
use super::process::trim_nul;
use super::state::{self, Folders, States};
use crate::event::{self, Event};

/// Something about a cgroup, by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// It is there, or was: whose is it?
    Whose(u64, Option<Hint>),
    /// It was removed: no more can be found out about it than what there is now.
    Gone(u64, Hint),
}

/// The id that a pid namespace has in place of a cgroup, for containers that have no cgroup of their own.
pub fn of_namespace(pid_ns: u32) -> u64 {
    NAMESPACE | u64::from(pid_ns)
}

/// No cgroup has so high an id.
const NAMESPACE: u64 = 1 << 63;

/// What an event said of the path of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    path: String,
    is_whole: bool,
    /// Who made it just now.
    maker: Option<Maker>,
}

/// Who made a cgroup: the container's runtime perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Maker {
    /// Process id on the host.
    pid: u32,
    /// Whether it is called as runc and crun are.
    is_runtime: bool,
}

impl Hint {
    /// From a record's bytes.
    pub fn new(path: &[u8], is_whole: bool) -> Self {
        Self { path: String::from_utf8_lossy(path).into_owned(), is_whole, maker: None }
    }

    /// The path, as far as it was hint.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// What is known of a cgroup.
#[derive(Debug)]
pub struct Answer {
    /// Its id.
    pub id: u64,
    /// Its path below the root; `None`: it was gone.
    pub path: Option<String>,
    /// Its container.
    pub container: Option<Arc<Container>>,
    /// Whether that one was not known before.
    pub is_new: bool,
    /// What it is called and was given, if its runtime's files have said so just now.
    pub metadata: Option<Metadata>,
    /// Files of its runtime that were of no use, and why.
    pub problems: Vec<String>,
    /// Whether it is the host's by its path.
    pub is_host: bool,
    /// Whether no better answer comes by itself.
    pub is_last: bool,
    /// Whether its container was gone before anybody hint what it is: its name may be known all the same.
    pub is_late: bool,
}

/// How long until the runtimes are asked again at the least; it grows with the time that they were asked in vain. A
/// runtime by hand writes its state only after the first processes are in the cgroup.
const RETRY_MIN: Duration = Duration::from_millis(5);

/// After this time a container that no runtime knows stays nameless, and a cgroup that none claims is the host's.
pub const GIVE_UP: Duration = Duration::from_secs(5);

/// Cgroups that are looked at again and again, at most: others have only the first answer.
const OPEN_MAX: usize = 4096;

/// Containers that are remembered, at most.
const CONTAINERS_MAX: usize = 32_768;

/// Who finds it out.
pub struct Resolver {
    tree: Option<Cgroups>,
    folders: Folders,
    states: States,
    /// Containers by the path of their cgroup.
    containers: HashMap<String, Entry>,
    /// Cgroups that are not clear yet.
    open: HashMap<u64, Open>,
}

/// A container.
struct Entry {
    /// The id of its own cgroup: the same path again after that is gone is another container's.
    id: u64,
    container: Arc<Container>,
    is_named: bool,
}

/// A cgroup that is not clear yet.
struct Open {
    path: String,
    maker: Option<Maker>,
    container: Option<Arc<Container>>,
    since: Instant,
    next: Instant,
}

impl Resolver {
    /// One that knows nothing yet; without a tree only what events tell of paths is known.
    pub fn new(tree: Option<Cgroups>, folders: Folders) -> Self {
        Self { tree, folders, states: States::default(), containers: HashMap::new(), open: HashMap::new() }
    }

    /// Where runtimes keep their files.
    pub fn set_folders(&mut self, folders: Folders) {
        self.folders = folders;
    }

    /// Answers a question, unless it was answered already and is looked at again and again.
    pub fn ask(&mut self, question: Question, now: Instant) -> Option<Answer> {
        match question {
            Question::Whose(id, _) if self.open.contains_key(&id) => None,
            Question::Whose(id, hint) => {
                let maker = hint.as_ref().and_then(|hint| hint.maker);
                Some(match self.path(id, hint) {
                    Some(path) => {
                        self.look(id, Open { path, maker, container: None, since: now, next: now }, now)
                    }
                    None => Answer { is_last: true, ..Answer::nothing(id) },
                })
            }
            Question::Gone(id, Hint { path, .. }) => {
                // Its runtime may still have the files.
                let answer = self.open.remove(&id).map(|open| self.last_look(id, open, now));
                if self.containers.get(&path).is_some_and(|entry| entry.id == id) {
                    self.containers.remove(&path);
                }
                answer
            }
        }
    }

    /// Looks again at what is not clear, if it is time: gives what has changed.
    pub fn look_again(&mut self, now: Instant) -> Vec<Answer> {
        let due: Vec<u64> =
            self.open.iter().filter(|(_, open)| open.next <= now).map(|(id, _)| *id).collect();
        due.into_iter()
            .filter_map(|id| {
                let open = self.open.remove(&id)?;
                let was_known = open.container.is_some();
                let answer = self.look(id, open, now);
                let is_news = answer.is_last || answer.metadata.is_some();
                (is_news || answer.container.is_some() != was_known).then_some(answer)
            })
            .collect()
    }

    /// When that is to be done next.
    pub fn next_look(&self) -> Option<Instant> {
        self.open.values().map(|open| open.next).min()
    }

    fn path(&mut self, id: u64, hint: Option<Hint>) -> Option<String> {
        match hint {
            _ if id & NAMESPACE != 0 => Some(String::new()),
            Some(Hint { path, is_whole: true, .. }) => Some(path),
            // What has lost its end still says in which container it is.
            hint => self.tree.as_mut().and_then(|tree| tree.path(id)).or(hint.map(|hint| hint.path)),
        }
    }

    fn look(&mut self, id: u64, open: Open, now: Instant) -> Answer {
        let Open { path, maker, container, since, next: _ } = open;
        let age = now.duration_since(since);
        let has_time = age < GIVE_UP && self.open.len() < OPEN_MAX;
        let told = (id & NAMESPACE == 0).then(|| path.clone());
        let mut answer = Answer { path: told, ..Answer::nothing(id) };
        let (container, found) = match container {
            Some(container) => (Some(container), None),
            None => self.identify(id, &path, &mut answer),
        };
        answer.is_last = match &container {
            Some(container) => self.name(container, found, maker, !has_time, &mut answer),
            None => answer.is_host || !has_time,
        };
        answer.container = container;
        if !answer.is_last {
            let next = now + (age / 2).max(RETRY_MIN);
            self.open.insert(id, Open { path, maker, container: answer.container.clone(), since, next });
        }
        answer
    }

    /// The last look at what is gone. If its runtime's files are gone too, there is still who made it, where.
    fn last_look(&mut self, id: u64, open: Open, now: Instant) -> Answer {
        let maker = open.maker;
        let mut answer = self.look(id, open, now);
        self.open.remove(&id);
        let path = answer.path.as_deref().unwrap_or_default();
        if answer.container.is_none() && !answer.is_host && maker.is_some_and(|maker| maker.is_runtime) {
            answer.container = state::of_default(path).map(Arc::new);
        }
        if let (false, Some(container)) = (answer.is_last, &answer.container)
            && container.cgroup_path == path
        {
            answer.is_late = true;
        }
        Answer { is_last: true, ..answer }
    }

    /// Makes sure that it is known what a container is called, or that nobody can tell; returns whether it is. What was
    /// found just now need not be looked for.
    fn name(
        &mut self,
        container: &Container,
        found: Option<Found>,
        maker: Option<Maker>,
        is_last_time: bool,
        answer: &mut Answer,
    ) -> bool {
        if self.containers.get(&container.cgroup_path).is_some_and(|entry| entry.is_named) {
            return true;
        }
        answer.is_new = found.is_some();
        let mut found = found.unwrap_or_else(|| metadata::find(container, &self.folders));
        if found.metadata.is_none()
            && container.runtime == Runtime::Oci
            && let Some(bundle) = maker.and_then(|maker| self.bundle(maker.pid))
        {
            // Nothing else of it is there before it runs, and a moment after it has ended.
            found = metadata::find_in_bundle(container, &bundle);
        }
        let Found { metadata, runtime: _, problems } = found;
        let is_named = is_last_time || metadata.is_some();
        if is_named {
            // While nothing is known the same problems are found again and again.
            answer.problems = problems.iter().map(ToString::to_string).collect();
        }
        if let Some(entry) = self.containers.get_mut(&container.cgroup_path) {
            entry.is_named = is_named;
        }
        answer.metadata = metadata;
        is_named
    }

    /// The bundle that a runtime is making a container of: the folder that it works in, as runc and crun do. Of a process
    /// that is in a container itself nothing is believed.
    fn bundle(&mut self, maker: u32) -> Option<PathBuf> {
        let own = self.tree.as_ref()?.of_process(maker)?;
        let own = own.to_string_lossy();
        let is_contained =
            self.container_around(&own).is_some() || matches!(identify(&own), Identity::Container(_));
        (!is_contained).then(|| std::fs::read_link(format!("/proc/{maker}/cwd")).ok())?
    }

    /// Whose a cgroup with that path is, and what was found out about that one along the way. Puts into the answer whether
    /// it is the host's for sure.
    fn identify(
        &mut self,
        id: u64,
        path: &str,
        answer: &mut Answer,
    ) -> (Option<Arc<Container>>, Option<Found>) {
        if id & NAMESPACE != 0 {
            let (found, is_open) = self.states.in_namespace((id & !NAMESPACE) as u32, &self.folders);
            answer.is_host = found.is_none() && !is_open;
            let Some(found) = found else { return (None, None) };
            let (container, found) = self.learn(id, found);
            return (Some(container), found);
        }
        // What is below a container is the container's, whatever names it gave to cgroups of its own.
        if let Some(outer) = self.container_around(path) {
            return (Some(outer), None);
        }
        let container = match identify(path) {
            Identity::Host => {
                answer.is_host = true;
                None
            }
            Identity::Container(container) if container.is_in_known_folder() => Some(container),
            // It may be a cgroup that a container made, whose own path its user chose.
            Identity::Container(container) => {
                let outer = self.states.owner(path, &self.folders);
                // Folders of LXC are not hard to make: who has a file of it is believed.
                let outer = outer.filter(|outer| {
                    container.runtime == Runtime::Lxc || outer.cgroup_path.len() < container.cgroup_path.len()
                });
                Some(outer.unwrap_or(container))
            }
            Identity::Unknown => self.states.owner(path, &self.folders),
        };
        let Some(container) = container else { return (None, None) };
        let (container, found) = self.learn(id, container);
        (Some(container), found)
    }

    /// The outermost container that has a cgroup above that path.
    fn container_around(&mut self, path: &str) -> Option<Arc<Container>> {
        for (end, _) in path.match_indices('/').filter(|(end, _)| *end > 0) {
            let above = &path[..end];
            let Some(Entry { id, container, .. }) = self.containers.get(above) else { continue };
            if self.tree.as_ref().is_none_or(|tree| tree.id_below_root(above) == Some(*id)) {
                return Some(Arc::clone(container));
            }
            self.containers.remove(above);
        }
        None
    }

    /// The one copy of a container that all its processes share, and what was found out about it if it is new; `id` is
    /// that of one of its cgroups.
    fn learn(&mut self, id: u64, mut container: Container) -> (Arc<Container>, Option<Found>) {
        // The id that tells whether the path is still this container's, if another of its cgroups was seen first.
        let path = container.cgroup_path.clone();
        let id = self.tree.as_ref().and_then(|tree| tree.id_below_root(&path)).unwrap_or(id);
        if let Some(known) = self.containers.get(&path)
            && known.id == id
            && *known.container == container
        {
            return (Arc::clone(&known.container), None);
        }
        let found = metadata::find(&container, &self.folders);
        container.runtime = found.runtime.unwrap_or(container.runtime);
        let shared = Arc::new(container);
        if self.containers.len() >= CONTAINERS_MAX {
            self.containers.retain(|_, entry| Arc::strong_count(&entry.container) > 1);
        }
        if self.containers.len() >= CONTAINERS_MAX {
            self.containers.clear();
        }
        self.containers.insert(path, Entry { id, container: Arc::clone(&shared), is_named: false });
        (shared, Some(found))
    }
}

impl Answer {
    /// Nobody knows anything yet.
    fn nothing(id: u64) -> Self {
        Self {
            id,
            path: None,
            container: None,
            is_new: false,
            metadata: None,
            problems: Vec::new(),
            is_host: false,
            is_last: false,
            is_late: false,
        }
    }
}

/// Who asks: any number may.
#[derive(Clone)]
pub struct Asker(SyncSender<Question>);

/// Questions that wait, at most.
const QUESTIONS: usize = 4096;

/// Answers that wait, at most: then nothing is found out until some are taken.
const ANSWERS: usize = 4096;

impl Asker {
    /// Asks, if there is room; returns whether there was.
    pub fn ask(&self, question: Question) -> bool {
        match self.0.try_send(question) {
            Ok(()) => true,
            // Who is gone answers nobody, and the daemon ends.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Asks what a record from the kernel gives reason to, before anybody handles it.
    pub fn look_ahead(&self, record: &[u8]) {
        const KIND: std::ops::Range<usize> = 4..6;
        if record.get(KIND) != Some(&kind::CGROUP.to_ne_bytes()) {
            return;
        }
        if let Ok(Event::Cgroup(cgroup)) = event::decode(record) {
            self.ask(question_of(&cgroup));
        }
    }
}

const _: () = assert!(std::mem::offset_of!(taffrail_common::event::Header, kind) == 4);

/// What is to be asked when a cgroup is made or removed.
fn question_of(event: &event::Cgroup<'_>) -> Question {
    let record = &event.record;
    let hint = Hint::new(event.path, record.path.len == record.path.full_len);
    if record.removed == 0 {
        let is_runtime = matches!(trim_nul(&record.header.comm), b"runc" | b"crun");
        let maker = Some(Maker { pid: record.header.tgid, is_runtime });
        Question::Whose(record.cgroup_id, Some(Hint { maker, ..hint }))
    } else {
        Question::Gone(record.cgroup_id, hint)
    }
}

/// Starts the thread. It ends once all askers are gone, or the answers' receiver.
pub fn start(resolver: Resolver) -> std::io::Result<(Asker, Receiver<Answer>)> {
    let (asker, questions) = sync_channel(QUESTIONS);
    let (to_enricher, answers) = sync_channel(ANSWERS);
    std::thread::Builder::new()
        .name("resolve".to_owned())
        .spawn(move || run(resolver, &questions, &to_enricher))?;
    Ok((Asker(asker), answers))
}

/// Lets the calling thread go before others, where that is allowed: it has little to do, and what it looks at is gone in
/// milliseconds.
pub fn hurry() {
    const NICE: i32 = -10;
    // SAFETY: no pointers; 0 is the calling thread. Without the right to it all is as it was.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

fn run(mut resolver: Resolver, questions: &Receiver<Question>, answers: &SyncSender<Answer>) {
    hurry();
    loop {
        let wait = resolver.next_look().map(|next| next.saturating_duration_since(Instant::now()));
        let question = questions.recv_timeout(wait.unwrap_or(GIVE_UP));
        let answer = match question {
            Ok(question) => resolver.ask(question, Instant::now()),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for answer in answer.into_iter().chain(resolver.look_again(Instant::now())) {
            if answers.send(answer).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn hint(path: &str) -> Option<Hint> {
        Some(Hint::new(path.as_bytes(), true))
    }

    /// One that knows only the states of crun in that folder.
    fn resolver(oci: &Path) -> Resolver {
        let oci = vec![oci.to_string_lossy().into_owned()];
        Resolver::new(None, Folders { docker: vec![], podman: vec![], containerd: vec![], oci })
    }

    fn write_state(oci: &Path, id: &str, path: &str) {
        std::fs::create_dir_all(oci.join(id)).unwrap();
        std::fs::write(oci.join(id).join("status"), format!(r#"{{"cgroup-path":"{path}"}}"#)).unwrap();
    }

    #[test]
    fn cgroup_below_a_container_is_the_containers_whatever_its_name() {
        let oci = tempfile::tempdir().unwrap();
        let (now, other) = (Instant::now(), "d".repeat(64));
        for (id, path) in [("web", "/my/web"), ("xy", "/x/y")] {
            write_state(oci.path(), id, path);
        }
        let mut resolver = resolver(oci.path());
        let mut ask = |id, path: &str| resolver.ask(Question::Whose(id, hint(path)), now).unwrap();
        for (id, path) in [(20, "/my/web"), (30, "/x/y"), (40, &format!("/{}", "c".repeat(64)))] {
            let own = ask(id, path).container.unwrap();
            let below = ask(id + 1, &format!("{path}/docker-{other}.scope")).container.unwrap();
            assert!(Arc::ptr_eq(&own, &below));
        }
    }

    #[test]
    fn name_that_comes_later_is_found_when_it_is_looked_again() {
        let oci = tempfile::tempdir().unwrap();
        let mut resolver = resolver(oci.path());
        let start = Instant::now();
        let first = resolver.ask(Question::Whose(10, hint("/my/web")), start).unwrap();
        assert!(first.container.is_none() && !first.is_last && !first.is_host);
        assert!(resolver.ask(Question::Whose(10, hint("/my/web")), start).is_none(), "it is under way");
        write_state(oci.path(), "web", "/my/web");
        assert!(resolver.look_again(start).is_empty(), "it is not time");
        let [answer] = &resolver.look_again(start + RETRY_MIN)[..] else { panic!("one answer") };
        let name = answer.metadata.as_ref().and_then(|of| of.name.as_deref());
        assert_eq!((answer.container.as_ref().unwrap().id.as_str(), name), ("web", Some("web")));
        assert!(answer.is_last && resolver.next_look().is_none());
    }

    #[test]
    fn cgroup_that_nobody_claims_and_container_that_nobody_knows_are_given_up_after_a_while() {
        let oci = tempfile::tempdir().unwrap();
        let mut resolver = resolver(oci.path());
        let (start, id) = (Instant::now(), "c".repeat(64));
        for (cgroup, path) in [(10, "/my/web".to_owned()), (11, format!("/docker/{id}"))] {
            assert!(!resolver.ask(Question::Whose(cgroup, hint(&path)), start).unwrap().is_last);
        }
        let mut answers = resolver.look_again(start + GIVE_UP);
        answers.sort_by_key(|answer| answer.id);
        let [nobodys, nameless] = &answers[..] else { panic!("{answers:?}") };
        assert!(nobodys.is_last && nobodys.container.is_none() && nobodys.path.is_some());
        assert!(nameless.is_last && !nameless.is_late && nameless.metadata.is_none());
        assert_eq!(nameless.container.as_ref().unwrap().id, id);
    }

    #[test]
    fn container_that_is_gone_before_its_files_were_read_is_late_and_its_path_is_free_for_another() {
        let oci = tempfile::tempdir().unwrap();
        let mut resolver = resolver(oci.path());
        let (now, path) = (Instant::now(), format!("/docker/{}", "c".repeat(64)));
        let first = resolver.ask(Question::Whose(10, hint(&path)), now).unwrap();
        let gone = Question::Gone(10, hint(&path).unwrap());
        let last = resolver.ask(gone.clone(), now).unwrap();
        assert!(last.is_last && last.is_late && last.metadata.is_none());
        // One by hand is called as its cgroup is, if it was a runtime that made that.
        let mut comm = *b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        for (id, name) in [(12, None), (13, Some("web"))] {
            let mut made = crate::testing::cgroup(0, 1, (id, "/web"), false);
            let at = std::mem::offset_of!(taffrail_common::event::Header, comm);
            made[at..at + 16].copy_from_slice(&comm);
            comm[..5].copy_from_slice(b"runc\0");
            let Ok(Event::Cgroup(made)) = event::decode(&made) else { panic!("no cgroup") };
            assert!(!resolver.ask(question_of(&made), now).unwrap().is_last);
            let last = resolver.ask(Question::Gone(id, hint("/web").unwrap()), now).unwrap();
            assert_eq!(last.container.map(|of| of.id.clone()).as_deref(), name);
        }
        assert!(resolver.ask(gone, now).is_none());
        let again = resolver.ask(Question::Whose(11, hint(&path)), now).unwrap();
        assert!(!Arc::ptr_eq(&first.container.unwrap(), &again.container.unwrap()));
    }

    #[test]
    fn last_look_at_what_is_gone_still_finds_its_name() {
        let oci = tempfile::tempdir().unwrap();
        let mut resolver = resolver(oci.path());
        let now = Instant::now();
        std::fs::create_dir(oci.path().join("web")).unwrap();
        let first = resolver.ask(Question::Whose(10, hint("/web")), now).unwrap();
        assert!(first.container.is_some() && first.metadata.is_none());
        write_state(oci.path(), "web", "/web");
        let last = resolver.ask(Question::Gone(10, hint("/web").unwrap()), now).unwrap();
        assert!(last.is_last && !last.is_late && last.metadata.is_some());
    }

    #[test]
    fn path_that_lost_its_end_tells_the_container_that_it_is_in() {
        let oci = tempfile::tempdir().unwrap();
        let mut resolver = resolver(oci.path());
        let path = format!("/docker/{}/{}", "c".repeat(64), "x/".repeat(400));
        let cut = Hint::new(path.as_bytes(), false);
        let answer = resolver.ask(Question::Whose(10, Some(cut)), Instant::now()).unwrap();
        assert_eq!(answer.container.unwrap().id, "c".repeat(64));
        // Without any path nothing is known, and nothing will be.
        let answer = resolver.ask(Question::Whose(11, None), Instant::now()).unwrap();
        assert!(answer.is_last && !answer.is_host && answer.container.is_none());
    }
}
