//! What the API server of Kubernetes says of this node's pods: whose workload each is, its service account, and what no
//! runtime has told. One list and one watch keep a table of them, so that a container costs no question; whose a pod's
//! ReplicaSet or Job is, is asked once for each of these. The list is taken from the API server's own cache, as kubelets
//! take theirs: on a large cluster thousands of daemons ask at the same time.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use reqwest::Response;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::sync::{OnceCell, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep};

use super::super::{Draft, LABEL_BYTES, Labels, cut};
use super::Fill;
use crate::remote::kubernetes::{JSON, METADATA, Resource, Server, Settings};
use crate::remote::{Error, Standing, Tell, away};

/// Pods that are kept; a node has a few hundred at most.
const PODS_MAX: usize = 1024;

/// Most bytes of a pod in a list, and of a line of a watch: an object has 1.5 MiB at most as the server keeps it.
const OBJECT_MAX: usize = 4 << 20;

/// Questions for owners that are asked at the same time at most.
const TURNS: usize = 8;

/// Most bytes of a name, and of a pod's labels.
const NAME_MAX: usize = 253;
const LABELS_MAX: usize = 2 << 10;

/// How long a watch goes on before a new one takes its place, in seconds as the server is told.
const WATCH_S: &str = "290";

/// How long one is waited for that does not end by then.
const WATCH: Duration = Duration::from_secs(320);

/// How long a list may take.
const LIST: Duration = Duration::from_secs(60);

/// How long until it is tried again at first, and at the most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What has a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Workload {
    kind: String,
    name: String,
}

/// What is known of a pod.
#[derive(Debug)]
pub(super) struct Pod {
    namespace: String,
    name: String,
    service_account: String,
    labels: Labels,
    owner: Option<Owner>,
    /// Of a pod that a file on the node is for: what its cgroup is named by.
    mirrored: Option<String>,
}

/// Whose an object is.
#[derive(Clone, Debug)]
struct Owner {
    workload: Workload,
    uid: String,
}

/// All pods of this node.
pub(super) struct Pods {
    server: Server,
    node: String,
    table: Mutex<Table>,
    /// Changes whenever there is something new in the table.
    news: watch::Sender<()>,
    standing: Arc<Standing>,
    owners_standing: Arc<Standing>,
    turns: Semaphore,
    /// How long until it is tried again at first.
    pause: Duration,
}

type ByUid = HashMap<String, Arc<Pod>>;

#[derive(Default)]
struct Table {
    is_away: bool,
    /// Whether owners cannot be asked for.
    are_owners_away: bool,
    by_uid: ByUid,
    /// Whose ReplicaSets and Jobs are, by their uid, once that was told; `None`: nobody's.
    owners: HashMap<String, Arc<OnceCell<Option<Workload>>>>,
}

/// An object of which only this is read: a pod, a status, or what a bookmark has.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Meta,
    spec: Spec,
    code: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<Annotations>,
    owner_references: Option<Vec<Reference>>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    kind: String,
    name: String,
    uid: String,
    #[serde(default)]
    controller: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    service_account_name: String,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    ty: String,
    object: Object,
}

impl Pods {
    /// Those of a node, none of which is known yet.
    pub(super) fn new(settings: Settings, node: String, tell: impl Fn() -> Tell) -> Self {
        let standing = |what| Arc::new(Standing::new(what, tell()));
        Self {
            server: Server::new(settings),
            node,
            table: Mutex::default(),
            news: watch::Sender::new(()),
            standing: standing("workloads"),
            owners_standing: standing("owners"),
            turns: Semaphore::new(TURNS),
            pause: PAUSE_MIN,
        }
    }

    pub(super) fn standings(&self) -> [Arc<Standing>; 2] {
        [&self.standing, &self.owners_standing].map(Arc::clone)
    }

    /// What is waited for while something is not known yet.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Keeps the table for as long as it is awaited.
    pub(super) async fn keep(&self) {
        let mut pause = self.pause;
        loop {
            let begin = Instant::now();
            if let Err(error) = self.list_and_watch().await {
                self.standing.note(&Err::<(), _>(error));
                self.table().is_away = true;
                self.news.send_replace(());
            }
            if begin.elapsed() > PAUSE_MAX {
                pause = self.pause;
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Ends well when the list has to be taken anew.
    async fn list_and_watch(&self) -> Result<(), Error> {
        let mut version = self.list().await?;
        self.standing.note(&Ok(()));
        let mut failures = 0u32;
        loop {
            let begin = Instant::now();
            match self.watch(&mut version).await {
                Ok(()) => self.standing.note(&Ok(())),
                Err(Error::Gone) => return Ok(()),
                // A server that restarts, or a connection that was cut: what was missed is told behind the last version.
                Err(Error::Away(_)) if failures < 3 => {}
                Err(error) => return Err(error),
            }
            failures = if begin.elapsed() > PAUSE_MAX { 0 } else { failures + 1 };
            if failures > 0 {
                sleep(jittered(self.pause * 2u32.pow(failures.min(8)))).await;
            }
        }
    }

    /// Which pods are told: those of the node that have not ended, since ended ones may be left there by the thousand.
    fn selector(&self) -> String {
        format!("spec.nodeName={},status.phase!=Succeeded,status.phase!=Failed", self.node)
    }

    /// Asks for all pods that there are; the answer is not read yet.
    pub(super) async fn ask_for_list(&self, patience: Duration) -> Result<Response, Error> {
        let selector = self.selector();
        let query = [("fieldSelector", selector.as_str()), ("resourceVersion", "0")];
        let resource = Resource { path: &["api", "v1", "pods"], query: &query, accept: JSON };
        self.server.open(resource, patience).await
    }

    /// Puts all pods that there are in the place of those that were known. Gives the list's version.
    async fn list(&self) -> Result<String, Error> {
        let mut response = self.ask_for_list(LIST).await?;
        let (feed, chunks) = mpsc::channel(8);
        let node = self.node.clone();
        let list = tokio::task::spawn_blocking(move || List::read(chunks, node));
        while let Some(chunk) = response.chunk().await.map_err(|error| away(&error))? {
            // Whoever reads it has ended where it is wrong.
            if feed.send(chunk.to_vec()).await.is_err() {
                break;
            }
        }
        drop(feed);
        let wrong = |why: &dyn fmt::Display| Error::Wrong(format!("no list of pods: {why}"));
        let list = list.await.map_err(|error| wrong(&error))?;
        let List { version, count, by_uid, .. } = list.map_err(|error| wrong(&error))?;
        if count > PODS_MAX {
            log::warn!("workloads: there are {count} pods on this node, of which {PODS_MAX} are told");
        }
        let table = &mut *self.table();
        table.by_uid = by_uid;
        table.is_away = false;
        // Whose pods are all gone is forgotten.
        let Table { by_uid, owners, .. } = table;
        let is_needed = |uid: &String| {
            by_uid.values().any(|pod| pod.owner.as_ref().is_some_and(|owner| owner.uid == *uid))
        };
        owners.retain(|uid, _| is_needed(uid));
        self.news.send_replace(());
        Ok(version)
    }

    /// Takes in what changes behind a version, which it moves on, until the server has had enough.
    async fn watch(&self, version: &mut String) -> Result<(), Error> {
        let selector = self.selector();
        let from = version.clone();
        let query = [
            ("fieldSelector", selector.as_str()),
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", &from),
            ("timeoutSeconds", WATCH_S),
        ];
        let resource = Resource { path: &["api", "v1", "pods"], query: &query, accept: JSON };
        let mut response = self.server.open(resource, WATCH).await?;
        let mut rest = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| away(&error))? {
            rest.extend_from_slice(&chunk);
            let mut start = 0;
            while let Some(length) = memchr::memchr(b'\n', &rest[start..]) {
                self.take(&rest[start..start + length], version)?;
                start += length + 1;
            }
            rest.drain(..start);
            if rest.len() > OBJECT_MAX {
                return Err(Error::Wrong(format!("a line of more than {OBJECT_MAX} bytes")));
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(Error::Away("it hung up within a line".to_owned())) }
    }

    /// Takes in a line of the watch.
    fn take(&self, line: &[u8], version: &mut String) -> Result<(), Error> {
        let wrong = |error: serde_json::Error| Error::Wrong(format!("no event of a watch: {error}"));
        let Event { ty, object } = serde_json::from_slice(line).map_err(wrong)?;
        let new = cut(&object.metadata.resource_version, NAME_MAX).to_owned();
        match ty.as_str() {
            "ADDED" | "MODIFIED" => put(&mut self.table().by_uid, object, &self.node),
            "DELETED" => drop(self.table().by_uid.remove(&object.metadata.uid)),
            "BOOKMARK" => {}
            "ERROR" if object.code == Some(410) => return Err(Error::Gone),
            "ERROR" => return Err(Error::Away(format!("the watch has failed: {:?}", object.code))),
            _ => return Ok(()),
        }
        if !new.is_empty() {
            *version = new;
        }
        self.news.send_replace(());
        Ok(())
    }

    /// Whether nothing can be told now that is not known.
    pub(super) fn is_away(&self) -> bool {
        let table = self.table();
        table.is_away || table.are_owners_away
    }

    /// The pod that a cgroup names, if it is known.
    pub(super) fn look(&self, uid: &str) -> Option<Arc<Pod>> {
        let table = self.table();
        if let Some(pod) = table.by_uid.get(uid) {
            return Some(Arc::clone(pod));
        }
        // Whoever makes a pod may write that into it which makes it a mirror: it counts if it is the only one.
        let mut mirrored = table.by_uid.values().filter(|pod| pod.mirrored.as_deref() == Some(uid));
        match (mirrored.next(), mirrored.next()) {
            (Some(pod), None) => Some(Arc::clone(pod)),
            _ => None,
        }
    }

    /// What the pod that a cgroup names adds to its containers, as soon as it is known and whose it is.
    pub(super) async fn about(&self, uid: &str) -> Fill {
        let mut news = self.news();
        loop {
            if let Some(pod) = self.look(uid) {
                return self.fill(&pod).await;
            }
            // Who tells it is here.
            let _ = news.changed().await;
        }
    }

    async fn fill(&self, pod: &Pod) -> Fill {
        let Pod { namespace, name, service_account, labels, owner, mirrored: _ } = pod;
        let workload = match owner {
            Some(owner) => Some(self.top(namespace, owner).await),
            None => None,
        };
        let texts = (namespace.clone(), name.clone(), service_account.clone());
        let labels: Vec<(String, String)> = labels.clone().into();
        Box::new(move |draft: &mut Draft| {
            let (namespace, name, service_account) = &texts;
            draft.pod(namespace, |pod| &mut pod.namespace);
            draft.pod(name, |pod| &mut pod.name);
            draft.pod(service_account, |pod| &mut pod.service_account);
            if let Some(Workload { kind, name }) = &workload {
                draft.pod(kind, |pod| &mut pod.workload_kind);
                draft.pod(name, |pod| &mut pod.workload_name);
            }
            let labels = labels.iter().map(|(key, value)| (key, value));
            draft.labels(labels, |metadata| &mut metadata.pod.get_or_insert_default().labels);
        })
    }

    /// Whose a pod is in the end: a ReplicaSet is its Deployment's, a Job may be a CronJob's.
    async fn top(&self, namespace: &str, owner: &Owner) -> Workload {
        let Owner { workload: Workload { kind, name }, uid } = owner;
        let path = match kind.as_str() {
            "ReplicaSet" => ["apis", "apps", "v1", "namespaces", namespace, "replicasets", name],
            "Job" => ["apis", "batch", "v1", "namespaces", namespace, "jobs", name],
            _ => return owner.workload.clone(),
        };
        let known = {
            let owners = &mut self.table().owners;
            if owners.len() >= PODS_MAX && !owners.contains_key(uid) {
                owners.clear();
            }
            Arc::clone(owners.entry(uid.clone()).or_default())
        };
        // All its pods wait for one question.
        match known.get_or_try_init(|| self.above(&path, uid)).await {
            Ok(above) => above.clone().unwrap_or_else(|| owner.workload.clone()),
            // It stays what is known; another pod of it asks again.
            Err(_) => owner.workload.clone(),
        }
    }

    /// Whose an owner is in its turn, asked until the server is there.
    async fn above(&self, path: &[&str], uid: &str) -> Result<Option<Workload>, Error> {
        let mut pause = self.pause;
        loop {
            let asked: Result<Object, Error> = {
                // It is never closed.
                let _turn = self.turns.acquire().await;
                self.server.get(Resource { path, query: &[], accept: METADATA }).await
            };
            self.owners_standing.note_found(&asked);
            let is_away = matches!(asked, Err(Error::Away(_)));
            if std::mem::replace(&mut self.table().are_owners_away, is_away) != is_away {
                self.news.send_replace(());
            }
            match asked {
                // One of that name, but another: it was made anew, or a pod lies. That says nothing to others that name the uid.
                Ok(object) if object.metadata.uid != uid => return Err(Error::Unknown),
                Ok(object) => {
                    return Ok(owner_of(object.metadata.owner_references).map(|owner| owner.workload));
                }
                Err(Error::Away(_)) => {}
                Err(error) => return Err(error),
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A list that is read as it comes, of which no more is kept than what is told of its pods: whole, it can be larger than all
/// else that the daemon has. (The server does not cut into pages what it takes from its cache.)
#[derive(Default)]
struct List {
    version: String,
    /// Pods that are in it.
    count: usize,
    by_uid: ByUid,
    node: String,
    /// Bytes that may still come before the next pod.
    room: Arc<AtomicUsize>,
}

impl List {
    /// Reads it to its end, on a thread that may wait for it.
    fn read(chunks: mpsc::Receiver<Vec<u8>>, node: String) -> Result<Self, serde_json::Error> {
        let room = Arc::new(AtomicUsize::new(OBJECT_MAX));
        let chunks = Chunks { chunks, chunk: Cursor::default(), room: Arc::clone(&room) };
        let mut list = Self { node, room, ..Self::default() };
        let mut json = serde_json::Deserializer::from_reader(BufReader::new(chunks));
        list.deserialize(&mut json)?;
        json.end()?;
        if list.version.is_empty() {
            return Err(serde::de::Error::custom("it has no version"));
        }
        Ok(list)
    }
}

impl<'de> DeserializeSeed<'de> for &mut List {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

/// Of the list itself, and of its pods.
impl<'de> Visitor<'de> for &mut List {
    type Value = ();

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metadata" => self.version = map.next_value::<Meta>()?.resource_version,
                "items" => map.next_value_seed(&mut *self)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pods: A) -> Result<(), A::Error> {
        while let Some(pod) = pods.next_element()? {
            self.count += 1;
            put(&mut self.by_uid, pod, &self.node);
            self.room.store(OBJECT_MAX, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Go has `null` for a list of nothing.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The bytes of an answer, as they come.
struct Chunks {
    chunks: mpsc::Receiver<Vec<u8>>,
    chunk: Cursor<Vec<u8>>,
    room: Arc<AtomicUsize>,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.position() >= self.chunk.get_ref().len() as u64 {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.chunk = Cursor::new(chunk),
                None => return Ok(0),
            }
        }
        let read = self.chunk.read(buffer)?;
        match self.room.load(Ordering::Relaxed).checked_sub(read) {
            Some(left) => self.room.store(left, Ordering::Relaxed),
            None => return Err(io::Error::other(format!("more than {OBJECT_MAX} bytes of one pod"))),
        }
        Ok(read)
    }
}

/// Takes in a pod of a node as it is now.
fn put(by_uid: &mut ByUid, Object { metadata, spec, code: _ }: Object, node: &str) {
    let Meta { name, namespace, uid, labels, annotations, owner_references, resource_version: _ } = metadata;
    if uid.is_empty() || uid.len() > NAME_MAX {
        return;
    }
    if by_uid.len() >= PODS_MAX && !by_uid.contains_key(&uid) {
        return;
    }
    let text = |text: &str| cut(text, NAME_MAX).to_owned();
    let mut room = LABELS_MAX;
    let labels = labels.unwrap_or_default().into_iter().filter(|(key, value)| {
        let bytes = key.len() + value.len() + LABEL_BYTES;
        let fits = bytes <= room;
        room -= if fits { bytes } else { 0 };
        fits
    });
    let owner = owner_of(owner_references);
    // The kubelet makes those, as pods of its node.
    let is_nodes = owner.as_ref().is_some_and(|of| of.workload.kind == "Node" && of.workload.name == node);
    let mirror = annotations.and_then(|annotations| annotations.mirror).filter(|_| is_nodes);
    let pod = Pod {
        namespace: text(&namespace),
        name: text(&name),
        service_account: text(&spec.service_account_name),
        labels: labels.collect::<Vec<_>>().into(),
        owner,
        mirrored: mirror.map(|mirror| text(&mirror)),
    };
    by_uid.insert(uid, Arc::new(pod));
}

/// Whose something is, if anybody controls it.
fn owner_of(references: Option<Vec<Reference>>) -> Option<Owner> {
    let Reference { kind, name, uid, controller: _ } =
        references?.into_iter().find(|reference| reference.controller)?;
    let text = |text: &str| cut(text, NAME_MAX).to_owned();
    Some(Owner { workload: Workload { kind: text(&kind), name: text(&name) }, uid: text(&uid) })
}

/// A time that is not the same for all who wait for the same server.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without chance they all come at once, which is no more than they did before.
    let _ = getrandom::fill(&mut byte);
    pause / 2 + pause * u32::from(byte[0]) / 256
}

#[cfg(test)]
mod tests;
