//! What runtimes tell when they are asked: of a container whose files do not say all of what it is called, or not its
//! labels. It is done on a thread of its own, once for each container, and again only while nobody answers: a runtime
//! that restarts is asked when it is back. Answers are bounded as files are, are taken as data only, and add what the
//! files do not have. A user's runtime is asked about his own containers only, and has to be his. [`pods`] is the last of
//! the sources: it knows whose workload a pod is, where the settings let it ask.

mod containerd;
mod cri;
mod docker;
mod grpc;
mod pods;
mod socket;

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Draft, Found, Metadata, Problem, state};
use crate::enrich::container::{Container, Runtime};
use crate::enrich::state::Folders;
use crate::remote::{self, Standing, Tell, kubernetes};
use pods::Pods;
use socket::Socket;

/// Where runtimes listen. One that has none is not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// Docker's.
    pub docker: Vec<String>,
    /// Podman's, of its service.
    pub podman: Vec<String>,
    /// Those of runtimes that Kubernetes uses.
    pub cri: Vec<String>,
    /// containerd's own.
    pub containerd: Vec<String>,
}

impl Sockets {
    /// Whether nobody is to be asked.
    pub fn is_empty(&self) -> bool {
        let Self { docker, podman, cri, containerd } = self;
        [docker, podman, cri, containerd].iter().all(|paths| paths.is_empty())
    }
}

impl Default for Sockets {
    fn default() -> Self {
        const CONTAINERD: [&str; 3] = [
            "/run/containerd/containerd.sock",
            "/run/k3s/containerd/containerd.sock",
            "/run/k0s/containerd.sock",
        ];
        let list = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
        Self {
            docker: list(&["/run/docker.sock"]),
            podman: list(&["/run/podman/podman.sock"]),
            cri: list(&[&CONTAINERD[..], &["/run/crio/crio.sock"]].concat()),
            containerd: list(&CONTAINERD),
        }
    }
}

/// A way to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    Docker,
    Podman,
    Cri,
    Containerd,
}

impl Api {
    const ALL: [Api; 4] = [Api::Docker, Api::Podman, Api::Cri, Api::Containerd];

    fn name(self) -> &'static str {
        match self {
            Api::Docker => "docker",
            Api::Podman => "podman",
            Api::Cri => "CRI",
            Api::Containerd => "containerd",
        }
    }

    /// Those that may know a container, the likeliest first.
    fn of(container: &Container) -> &'static [Api] {
        match container.runtime {
            Runtime::Docker => &[Api::Docker],
            Runtime::Podman => &[Api::Podman],
            Runtime::Crio | Runtime::Kubernetes => &[Api::Cri],
            Runtime::Containerd if is_in_pod(container) => &[Api::Cri, Api::Containerd],
            Runtime::Containerd => &[Api::Containerd],
            Runtime::Oci | Runtime::Lxc | Runtime::Nspawn => &[],
        }
    }

    /// Where it is; for a user's container where he has it.
    fn sockets(self, sockets: &Sockets, user: Option<u32>) -> Vec<Socket> {
        let (paths, of_user) = match self {
            Api::Docker => (&sockets.docker, "docker.sock"),
            Api::Podman => (&sockets.podman, "podman/podman.sock"),
            Api::Cri => (&sockets.cri, ""),
            Api::Containerd => (&sockets.containerd, ""),
        };
        match user {
            None => paths.iter().map(|path| Socket { path: path.into(), user }).collect(),
            Some(uid) if !of_user.is_empty() && !paths.is_empty() => {
                vec![Socket { path: format!("/run/user/{uid}/{of_user}").into(), user }]
            }
            Some(_) => Vec::new(),
        }
    }

    async fn ask(self, socket: &Socket, container: &Container) -> Result<Fill, Error> {
        match self {
            Api::Docker => docker::ask(socket, container).await,
            Api::Podman => docker::ask_podman(socket, container).await,
            Api::Cri => cri::ask(socket, container).await,
            Api::Containerd => containerd::ask(socket, container).await,
        }
    }

    async fn version(self, socket: &Socket) -> Result<String, Error> {
        match self {
            Api::Docker | Api::Podman => docker::version(socket).await,
            Api::Cri => cri::version(socket).await,
            Api::Containerd => containerd::version(socket).await,
        }
    }
}

/// Adds an answer to what is known.
type Fill = Box<dyn FnOnce(&mut Draft) + Send>;

/// Why there is no answer.
#[derive(Debug, Error)]
enum Error {
    /// Nobody is there, or he is busy: it can be another time.
    #[error("{0}")]
    Unreachable(String),
    /// No such container.
    #[error("not known there")]
    Unknown,
    /// He does not say what he should.
    #[error("{0}")]
    Wrong(String),
}

/// What a runtime tells.
pub enum Told {
    /// What came of asking about a container.
    Answer {
        /// Whom it is about.
        container: Arc<Container>,
        /// What was found, if anything was.
        found: Option<Box<Found>>,
        /// Whether there will be another answer.
        next: Next,
    },
    /// A container of docker has another name now.
    Name {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
}

/// Whether more will be told of a container; what comes first is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Next {
    /// That was all.
    Never,
    /// Nobody can be asked now.
    Later,
    /// It can come at any moment.
    Soon,
}

/// What is known of a container that has another name now; `None` if nothing was.
pub fn renamed(container: &Container, name: &str) -> Option<Metadata> {
    let mut draft = Draft::of(Metadata { name: None, ..container.metadata.get()?.clone() });
    draft.name(name);
    Some(draft.metadata)
}

/// Containers that wait for an answer of their runtimes, at most; and so many for one of Kubernetes.
const QUESTIONS_MAX: usize = 4096;

/// The other end of the thread that asks. It ends when this is dropped.
pub struct Apis {
    questions: Sender<Question>,
    /// Paths of containers that are asked about and not answered yet, and whether an answer can come soon.
    open: HashMap<String, bool>,
    /// By the same paths, what ends with the container: whoever waits for an answer then waits no more.
    lives: HashMap<String, oneshot::Sender<()>>,
    /// Whether workloads of pods are asked for.
    asks_pods: bool,
    /// How those are who are asked over the network.
    pub standings: Vec<Arc<Standing>>,
}

impl Apis {
    /// Starts the thread. `tell` takes the answers; once it gives `false` no more are wanted.
    pub fn start(
        sockets: Sockets,
        folders: Folders,
        pods: Option<Workloads>,
        tell: impl Fn(Told) -> bool + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (to_thread, questions) = channel(QUESTIONS_MAX);
        let pods = pods.map(|Workloads { server, node, tell }| Arc::new(Pods::new(server, node, tell)));
        let standings = pods.iter().flat_map(|pods| pods.standings()).collect();
        let asks_pods = pods.is_some();
        let turns = [TURNS, TURNS_OF_USERS].map(Semaphore::new);
        let asker = Arc::new(Asker { sockets, folders, pods, tell, turns });
        std::thread::Builder::new()
            .name("ask".to_owned())
            .spawn(move || runtime.block_on(answer(questions, asker)))?;
        Ok(Self { questions: to_thread, open: HashMap::new(), lives: HashMap::new(), asks_pods, standings })
    }

    /// Asks about a container, if anything is not known that its runtime can tell.
    pub fn ask(&mut self, container: &Arc<Container>) {
        if !asks_runtimes(container) && !self.lacks_workload(container) {
            return;
        }
        let (life, end) = oneshot::channel();
        if self.questions.try_send(Question { container: Arc::clone(container), end }).is_ok() {
            self.open.insert(container.cgroup_path.clone(), true);
            // Not each end is seen.
            if self.lives.len() >= 2 * QUESTIONS_MAX {
                self.lives.retain(|_, life| !life.is_closed());
            }
            self.lives.insert(container.cgroup_path.clone(), life);
        }
    }

    /// A container's cgroup was removed.
    pub fn gone(&mut self, cgroup_path: &str) {
        self.lives.remove(cgroup_path);
    }

    /// Whether what a container is called, or whose it is, can come soon.
    pub fn expects(&self, container: &Container) -> bool {
        self.open.get(&container.cgroup_path) == Some(&true)
            && (lacks_name(container) || self.lacks_workload(container))
    }

    /// Whether Kubernetes can say more. Each pod has a service account.
    fn lacks_workload(&self, container: &Container) -> bool {
        let known = || container.metadata.get()?.pod.as_ref()?.service_account.as_ref();
        self.asks_pods && container.pod_uid.is_some() && known().is_none()
    }

    /// Whether anything more can come.
    pub fn is_open(&self, container: &Container) -> bool {
        self.open.contains_key(&container.cgroup_path)
    }

    /// Something was told.
    pub fn take(&mut self, container: &Container, next: Next) {
        if next == Next::Never {
            self.open.remove(&container.cgroup_path);
        } else if let Some(can_come_soon) = self.open.get_mut(&container.cgroup_path) {
            *can_come_soon = next == Next::Soon;
        }
    }
}

/// Asks for all that can be told of a container.
struct Question {
    container: Arc<Container>,
    /// Comes when the container has ended.
    end: oneshot::Receiver<()>,
}

/// Whose workloads are asked for.
pub struct Workloads {
    /// Of whom.
    pub server: kubernetes::Settings,
    /// Of which node.
    pub node: String,
    /// Makes what takes records of a server that is away, and back.
    pub tell: Box<dyn Fn() -> Tell>,
}

/// Whether a container's runtime can say more.
fn asks_runtimes(container: &Container) -> bool {
    !Api::of(container).is_empty() && (lacks_name(container) || lacks_labels(container))
}

/// Whether nobody has told what makes up a container's name: events wait for that.
fn lacks_name(container: &Container) -> bool {
    let Some(known) = container.metadata.get() else { return true };
    let pod_name = known.pod.as_ref().and_then(|pod| pod.name.as_ref());
    let has_image = known.image.name.is_some() || known.image.id.is_some() || known.is_sandbox == Some(true);
    known.name.is_none() && known.is_sandbox != Some(true)
        || !has_image
        || is_in_pod(container) && pod_name.is_none()
}

/// Whether there can be labels that no file has.
fn lacks_labels(container: &Container) -> bool {
    let Some(known) = container.metadata.get() else { return true };
    let lacks_pods =
        || known.is_sandbox != Some(true) && known.pod.as_ref().is_some_and(|pod| pod.labels.is_empty());
    match container.runtime {
        Runtime::Docker | Runtime::Oci | Runtime::Lxc | Runtime::Nspawn => false,
        Runtime::Podman => known.labels.is_empty() || is_in_pod(container) && lacks_pods(),
        Runtime::Containerd | Runtime::Crio | Runtime::Kubernetes => {
            is_in_pod(container) && (known.labels.is_empty() || lacks_pods())
        }
    }
}

fn is_in_pod(container: &Container) -> bool {
    container.pod_uid.is_some()
        || docker::pod_of(&container.cgroup_path).is_some()
        || container.metadata.get().is_some_and(|known| known.pod.is_some())
}

/// Questions that are asked at the same time at most, of the system's runtimes and of users'.
const TURNS: usize = 8;
const TURNS_OF_USERS: usize = 2;

/// How long one runtime has for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long until one is asked again at first, and at the most.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// After this time a container is unknown that no runtime knows. It is made before a runtime speaks of it.
const UNKNOWN_AFTER: Duration = Duration::from_secs(30);

/// After this time a runtime is not waited for any more.
const GONE_AFTER: Duration = Duration::from_secs(15 * 60);

/// How far it has come with a container.
struct Progress {
    /// What is known, once anything was added.
    known: Option<Metadata>,
    /// What can still come of its runtimes, and of Kubernetes.
    next: [Next; 2],
}

/// Their places there.
const RUNTIMES: usize = 0;
const PODS: usize = 1;

struct Asker<F> {
    sockets: Sockets,
    folders: Folders,
    pods: Option<Arc<Pods>>,
    tell: F,
    turns: [Semaphore; 2],
}

/// Answers all questions until no more can come.
async fn answer<F: Fn(Told) -> bool + Send + Sync + 'static>(
    mut questions: Receiver<Question>,
    asker: Arc<Asker<F>>,
) {
    // Each has its own bound: while the API server is away, runtimes tell names as ever.
    let (mut asked, mut waiting) = (JoinSet::new(), JoinSet::new());
    for socket in Api::Docker.sockets(&asker.sockets, None) {
        let asker = Arc::clone(&asker);
        asked.spawn(async move { asker.watch_names(socket).await });
    }
    if let Some(pods) = asker.pods.clone() {
        tokio::spawn(async move { pods.keep().await });
    }
    loop {
        let Question { container, end } = tokio::select! {
            Some(wanted) = asked.join_next() => match wanted {
                Ok(true) => continue,
                _ => return,
            },
            Some(wanted) = waiting.join_next() => match wanted {
                Ok(true) => continue,
                _ => return,
            },
            question = questions.recv() => match question {
                Some(question) => question,
                None => return,
            },
        };
        let asks_runtimes = asks_runtimes(&container) && asked.len() < QUESTIONS_MAX;
        let asks_pods = asker.pods.is_some() && container.pod_uid.is_some() && waiting.len() < QUESTIONS_MAX;
        if !asks_runtimes && !asks_pods {
            (asker.tell)(Told::Answer { container, found: Some(Box::default()), next: Next::Never });
            continue;
        }
        let next = [asks_runtimes, asks_pods].map(|asks| if asks { Next::Soon } else { Next::Never });
        let progress = Arc::new(Mutex::new(Progress { known: None, next }));
        if asks_runtimes {
            let (asker, container, progress) =
                (Arc::clone(&asker), Arc::clone(&container), Arc::clone(&progress));
            asked.spawn(async move { asker.ask_runtimes(&container, &progress).await });
        }
        if asks_pods {
            let asker = Arc::clone(&asker);
            waiting.spawn(async move { asker.ask_pods(&container, &progress, end).await });
        }
    }
}

impl<F: Fn(Told) -> bool> Asker<F> {
    /// Asks a container's runtimes until one says anything or it is too late; returns whether more answers are wanted.
    async fn ask_runtimes(&self, container: &Arc<Container>, progress: &Mutex<Progress>) -> bool {
        let report =
            |next, fill, problems| self.report(container, progress, (RUNTIMES, next), fill, problems);
        let begin = Instant::now();
        let mut pause = PAUSE_MIN;
        let mut is_out = false;
        loop {
            let give_up = match self.ask_all(container).await {
                Ok((fill, problems)) => return report(Next::Never, fill, problems),
                Err(Error::Unknown) => UNKNOWN_AFTER,
                Err(Error::Unreachable(_)) => {
                    // Nobody waits for a runtime that is not there.
                    if !std::mem::replace(&mut is_out, true) && !report(Next::Later, None, Vec::new()) {
                        return false;
                    }
                    GONE_AFTER
                }
                Err(Error::Wrong(_)) => Duration::ZERO,
            };
            if begin.elapsed() >= give_up {
                return report(Next::Never, None, Vec::new());
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Waits for what Kubernetes says of the container's pod, as long as the container is there: a server can be away, or
    /// not let us ask, for any time. Soon nothing else waits for that any more.
    async fn ask_pods(
        &self,
        container: &Arc<Container>,
        progress: &Mutex<Progress>,
        end: oneshot::Receiver<()>,
    ) -> bool {
        let Some((pods, uid)) = self.pods.as_ref().zip(container.pod_uid.as_deref()) else { return true };
        let report = |next, fill| self.report(container, progress, (PODS, next), fill, Vec::new());
        let begin = Instant::now();
        let mut news = pods.news();
        let mut answer = pin!(pods.about(uid));
        let mut is_over = pin!(async {
            let _ = end.await;
            // One that was short may be gone before the server speaks of its pod.
            sleep(TIMEOUT).await;
        });
        let mut last = Next::Soon;
        loop {
            let is_away = pods.is_away();
            let (next, patience) =
                if is_away { (Next::Later, GONE_AFTER) } else { (Next::Soon, UNKNOWN_AFTER) };
            let waited = begin.elapsed();
            // Whoever knows all pods does not know this one.
            if waited >= GONE_AFTER && !is_away && pods.look(uid).is_none() {
                break;
            }
            let next = if last == Next::Never || waited >= patience { Next::Never } else { next };
            if std::mem::replace(&mut last, next) != next && !report(next, None) {
                return false;
            }
            let left = patience.checked_sub(waited).filter(|left| !left.is_zero()).unwrap_or(PAUSE_MAX);
            tokio::select! {
                fill = &mut answer => return report(Next::Never, Some(fill)),
                () = &mut is_over => break,
                _ = news.changed() => {}
                () = sleep(left.min(PAUSE_MAX)) => {}
            }
        }
        last == Next::Never || report(Next::Never, None)
    }

    /// Tells what one of the two has found, behind what the other has, and what can still come of both.
    fn report(
        &self,
        container: &Arc<Container>,
        progress: &Mutex<Progress>,
        (part, next): (usize, Next),
        fill: Option<Fill>,
        problems: Vec<Problem>,
    ) -> bool {
        let progress = &mut *progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.next[part] = next;
        let next = progress.next.into_iter().max().unwrap_or(Next::Never);
        let metadata = fill.map(|fill| {
            let known = progress.known.take().or_else(|| container.metadata.get().cloned());
            progress.known.insert(self.complete(container, known, fill)).clone()
        });
        let is_news = metadata.is_some() || !problems.is_empty() || next == Next::Never;
        let found = is_news.then(|| Box::new(Found { metadata, runtime: None, problems }));
        (self.tell)(Told::Answer { container: Arc::clone(container), found, next })
    }

    /// Tells new names of docker's containers, as long as anybody wants to know them. (To listen to podman would keep its
    /// service running, which ends by itself else.)
    async fn watch_names(&self, socket: Socket) -> bool {
        let now_s = || jiff::Timestamp::now().as_second();
        let (mut pause, mut since_s) = (PAUSE_MIN, now_s());
        loop {
            let tell = |id: &str, name: &str| (self.tell)(Told::Name { id: id.into(), name: name.into() });
            let begin = Instant::now();
            if docker::watch_names(&socket, since_s, tell).await.is_ok() {
                return false;
            }
            // It was there for long: what it told then is not to be told again.
            if begin.elapsed() > PAUSE_MAX {
                (pause, since_s) = (PAUSE_MIN, now_s());
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Asks all runtimes that may know it.
    async fn ask_all(&self, container: &Container) -> Result<(Option<Fill>, Vec<Problem>), Error> {
        let user = state::user_of(&container.cgroup_path);
        let turns = &self.turns[usize::from(user.is_some())];
        // It is never closed.
        let _turn = turns.acquire().await;
        let mut problems = Vec::new();
        let mut unreachable = None;
        for api in Api::of(container) {
            for socket in api.sockets(&self.sockets, user) {
                match within_time(api.ask(&socket, container)).await {
                    Ok(fill) => return Ok((Some(fill), problems)),
                    Err(Error::Unknown) => {}
                    Err(error @ Error::Unreachable(_)) => unreachable = Some(error),
                    Err(Error::Wrong(what)) => problems.push(Problem::new(socket.path, &what)),
                }
            }
        }
        match unreachable {
            _ if !problems.is_empty() => Ok((None, problems)),
            Some(error) => Err(error),
            None => Err(Error::Unknown),
        }
    }

    /// What is known already, and an answer behind it.
    fn complete(&self, container: &Container, known: Option<Metadata>, fill: Fill) -> Metadata {
        let mut draft = match known {
            Some(known) => Draft::of(known),
            None => super::read_all(container, &self.folders).0,
        };
        draft.is_found = true;
        fill(&mut draft);
        draft.complete(container);
        draft.metadata
    }
}

async fn within_time<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Unreachable(format!("no answer within {} s", TIMEOUT.as_secs()))),
    }
}

/// How a runtime's socket is.
pub struct Look {
    /// Which kind of question it is for.
    pub api: &'static str,
    /// Where it is.
    pub path: String,
    /// Who answers, or why nobody does. `None`: it is not there.
    pub found: Option<Result<String, String>>,
}

/// Looks at all sockets.
pub fn look(sockets: &Sockets) -> io::Result<Vec<Look>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut looks = Vec::new();
    for api in Api::ALL {
        for socket in api.sockets(sockets, None) {
            let found = socket.path.exists().then(|| {
                let answer = runtime.block_on(async { within_time(api.version(&socket)).await });
                answer.map_err(|error| error.to_string())
            });
            looks.push(Look { api: api.name(), path: socket.path.to_string_lossy().into_owned(), found });
        }
    }
    Ok(looks)
}

/// Tries whether the API server lists the pods of a node.
pub async fn try_pods(server: kubernetes::Settings, node: String) -> Result<(), remote::Error> {
    Pods::new(server, node, || Box::new(drop)).ask_for_list(remote::PATIENCE).await.map(drop)
}

#[cfg(test)]
mod tests;
