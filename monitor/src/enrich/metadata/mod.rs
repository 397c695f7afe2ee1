//! What a container is called, and what it was given: from the files that its runtime keeps on the host, which are
//! there before its first process runs; [`api`] asks the runtime for what they do not have. Nothing in here looks into a container's own file system. A user's files are
//! asked about his own containers only, and must be his. Sizes are bounded; what is damaged is reported, and changes
//! nothing else.

pub mod api;
mod containerd;
mod docker;
mod oci;
mod podman;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::container::{Container, Runtime};
use super::state::{self, Folders, ReadError};

/// What is known of a container besides its id. What nobody told is left empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Its name, as people use it.
    pub name: Option<String>,
    /// What it was made from.
    pub image: Image,
    /// The pod that it is in.
    pub pod: Option<Pod>,
    /// Whether it is a pod's sandbox, which holds the namespaces and runs nothing of the user's.
    pub is_sandbox: Option<bool>,
    /// Whether it may do what the host's root may.
    pub is_privileged: Option<bool>,
    /// Whom its first process runs as: a name, or `uid:gid`.
    pub user: Option<String>,
    /// Its bounding set of capabilities, bit n being capability n.
    pub capabilities: Option<u64>,
    /// When it was made, in ns since 1970.
    pub created_ns: Option<i64>,
    /// Labels; of a plain OCI container its annotations, which are what it has in their place.
    pub labels: Labels,
    /// Annotations that no other field holds.
    pub annotations: Labels,
    /// What of the host is mounted in it.
    pub mounts: Vec<Mount>,
    /// Where the host has its root folder.
    pub root: Option<String>,
    /// Whether it has users of its own.
    pub has_user_namespace: bool,
    /// Whether some of it did not fit.
    pub is_cut: bool,
}

impl Metadata {
    /// How many of [`TEXTS_MAX`] and of [`LISTS_MAX`] it takes.
    fn bytes(&self) -> (usize, usize) {
        let Self {
            name,
            image,
            pod,
            is_sandbox: _,
            is_privileged: _,
            user,
            capabilities: _,
            created_ns: _,
            labels,
            annotations,
            mounts,
            root,
            has_user_namespace: _,
            is_cut: _,
        } = self;
        let pod = pod.as_ref();
        let of_pod = pod.map_or([&None; 7], |pod| {
            let Pod {
                name,
                namespace,
                uid,
                sandbox_id,
                labels: _,
                service_account,
                workload_kind,
                workload_name,
            } = pod;
            [name, namespace, uid, sandbox_id, service_account, workload_kind, workload_name]
        });
        let texts = [name, &image.name, &image.digest, &image.id, user, root].into_iter().chain(of_pod);
        let labels = [Some(labels), Some(annotations), pod.map(|pod| &pod.labels)].into_iter().flatten();
        let labels = labels.map(|labels| labels.text.len() + LABEL_BYTES * labels.lengths.len());
        let mounts = mounts.iter().map(|mount| mount.text.len() + size_of::<Mount>());
        (texts.flatten().map(String::len).sum(), labels.chain(mounts).sum())
    }
}

/// What a container was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    /// As it was asked for: `localhost:5000/shop/web:1.2`.
    pub name: Option<String>,
    /// `sha256:` and 64 digits of its manifest.
    pub digest: Option<String>,
    /// 64 digits of its configuration, without `sha256:`.
    pub id: Option<String>,
}

impl Image {
    /// The name without tag and digest.
    pub fn repository(&self) -> Option<&str> {
        Some(split_image(self.name.as_deref()?).0)
    }

    /// The tag, if the name has one.
    pub fn tag(&self) -> Option<&str> {
        split_image(self.name.as_deref()?).1
    }
}

/// A pod of Kubernetes, or of podman.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Its name.
    pub name: Option<String>,
    /// Its namespace in Kubernetes.
    pub namespace: Option<String>,
    /// Its uid in Kubernetes.
    pub uid: Option<String>,
    /// The id of its sandbox's container.
    pub sandbox_id: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// Its service account in Kubernetes.
    pub service_account: Option<String>,
    /// What keeps it running: `Deployment`, `DaemonSet`, `CronJob` …
    pub workload_kind: Option<String>,
    /// What that is called.
    pub workload_name: Option<String>,
}

/// Labels or annotations. They are kept as one text, `key:value,key:value`, which is Falco's form of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(String, String)>", into = "Vec<(String, String)>")]
pub struct Labels {
    text: String,
    /// Bytes of each key and value.
    lengths: Vec<(u16, u16)>,
}

impl Labels {
    /// All as `key:value,key:value`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Key and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lengths.iter().scan(0, |at, &(key, value)| {
            let (key_end, start) = (*at + usize::from(key), *at + usize::from(key) + 1);
            let end = start + usize::from(value);
            let label = (self.text.get(*at..key_end)?, self.text.get(start..end)?);
            *at = end + 1;
            Some(label)
        })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Adds one, cut to [`TEXT_MAX`].
    fn push(&mut self, key: &str, value: &str) {
        let (key, value) = (cut(key, TEXT_MAX), cut(value, TEXT_MAX));
        if !self.lengths.is_empty() {
            self.text.push(',');
        }
        self.text.extend([key, ":", value]);
        self.lengths.push((key.len() as u16, value.len() as u16));
    }
}

impl From<Vec<(String, String)>> for Labels {
    fn from(pairs: Vec<(String, String)>) -> Self {
        let mut labels = Self::default();
        pairs.iter().for_each(|(key, value)| labels.push(key, value));
        labels
    }
}

impl From<Labels> for Vec<(String, String)> {
    fn from(labels: Labels) -> Self {
        labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

/// A part of the host that a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// `source:destination:mode:writable:propagation`, Falco's form of it.
    text: String,
    /// Bytes of the source and of the destination.
    lengths: (u16, u16),
}

impl Mount {
    /// One of that source and destination, both of the host's choosing.
    pub fn new(source: &str, destination: &str, mode: &str, writable: bool, propagation: &str) -> Self {
        let (source, destination) = (cut(source, TEXT_MAX), cut(destination, TEXT_MAX));
        let (mode, propagation) = (cut(mode, MODE_MAX), cut(propagation, MODE_MAX));
        Self {
            text: format!("{source}:{destination}:{mode}:{writable}:{propagation}"),
            lengths: (source.len() as u16, destination.len() as u16),
        }
    }

    /// `source:destination:mode:writable:propagation`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The path on the host.
    pub fn source(&self) -> &str {
        self.text.get(..self.lengths.0.into()).unwrap_or_default()
    }

    /// The path in the container.
    pub fn destination(&self) -> &str {
        let start = usize::from(self.lengths.0) + 1;
        self.text.get(start..start + usize::from(self.lengths.1)).unwrap_or_default()
    }

    fn rest(&self) -> impl Iterator<Item = &str> {
        let start = usize::from(self.lengths.0) + usize::from(self.lengths.1) + 2;
        self.text.get(start..).unwrap_or_default().split(':')
    }

    /// What it was asked for with: `ro`, `z` …
    pub fn mode(&self) -> &str {
        self.rest().next().unwrap_or_default()
    }

    /// How mounts spread from and to it: `rprivate` …
    pub fn propagation(&self) -> &str {
        self.rest().nth(2).unwrap_or_default()
    }

    /// Whether the container can write there.
    pub fn is_writable(&self) -> bool {
        self.rest().nth(1) == Some("true")
    }
}

/// Most bytes of one text.
const TEXT_MAX: usize = 1024;

/// Most bytes of a mount's mode.
const MODE_MAX: usize = 64;

/// What a label takes besides its text.
const LABEL_BYTES: usize = 8;

/// Most bytes that names and other single texts of a container take.
const TEXTS_MAX: usize = 3 << 10;

/// Most bytes that its labels, annotations and mounts take, with what it takes to hold them: however many there are,
/// no name is cut for them.
const LISTS_MAX: usize = 4 << 10;

/// Why a file was of no use.
#[derive(Debug, Error)]
#[error("{}: {what}", path.display())]
pub struct Problem {
    path: PathBuf,
    what: String,
}

impl Problem {
    /// Reasons can name values of the file, which may be as long as the file.
    const WHAT_MAX: usize = 200;

    fn new(path: PathBuf, what: &str) -> Self {
        Self { path, what: cut(what, Self::WHAT_MAX).to_owned() }
    }
}

/// What came of looking for a container.
#[derive(Debug, Default)]
pub struct Found {
    /// What is known; `None` if no runtime has a file of it.
    pub metadata: Option<Metadata>,
    /// The runtime, where the path does not say.
    pub runtime: Option<Runtime>,
    /// Files that were of no use.
    pub problems: Vec<Problem>,
}

/// Whose files are asked: each fills in what those before it did not know.
type Read = fn(&Query<'_>, &mut Draft) -> Result<(), Problem>;

/// All sources, the richest first.
const SOURCES: &[Read] = &[docker::read, podman::read, containerd::read, oci::read];

/// Looks for a container in the files of all runtimes.
pub fn find(container: &Container, folders: &Folders) -> Found {
    let (mut draft, problems) = read_all(container, folders);
    draft.complete(container);
    Found { metadata: draft.is_found.then_some(draft.metadata), runtime: draft.runtime, problems }
}

/// What all files say, one behind the other.
fn read_all(container: &Container, folders: &Folders) -> (Draft, Vec<Problem>) {
    let user = state::user_of(&container.cgroup_path);
    let own = user.map(Folders::of_user);
    let query = Query { container, folders: own.as_ref().unwrap_or(folders), user };
    let mut draft = Draft::of(Metadata::default());
    let mut problems: Vec<Problem> = Vec::new();
    if container.runtime.is_by_name() {
        draft.is_found = true;
        return (draft, Vec::new());
    }
    for read in SOURCES {
        if let Err(problem) = read(&query, &mut draft) {
            problems.push(problem);
        }
    }
    (draft, problems)
}

/// Looks for a container in the bundle that it is made of, for one that no manager has files of.
pub fn find_in_bundle(container: &Container, bundle: &Path) -> Found {
    let user = state::user_of(&container.cgroup_path);
    let query = Query { container, folders: &Folders::default(), user };
    let mut draft = Draft::of(Metadata::default());
    let problems = oci::read_bundle(&query, &mut draft, bundle, &[]).err().into_iter().collect();
    draft.complete(container);
    Found { metadata: draft.is_found.then_some(draft.metadata), runtime: None, problems }
}

/// What the id of a container says of it: its name, if it was started by hand.
pub fn of_id(container: &Container) -> Option<Metadata> {
    let mut draft = Draft::of(Metadata::default());
    draft.is_found = true;
    draft.complete(container);
    draft.metadata.name.is_some().then_some(draft.metadata)
}

/// Which container is looked for, and where.
struct Query<'a> {
    container: &'a Container,
    /// Those of the system, or of the user.
    folders: &'a Folders,
    /// Whose part of the cgroup tree it is in: the files have to be his.
    user: Option<u32>,
}

impl Query<'_> {
    /// The folders of that kind to look into.
    fn folders(&self, of: fn(&Folders) -> &Vec<String>) -> Vec<PathBuf> {
        state::expand(of(self.folders)).collect()
    }

    /// What a JSON file holds; `None` if it is not there.
    fn json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, Problem> {
        let problem = |what: String| Problem::new(path.to_owned(), &what);
        match state::read(path, self.user) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| problem(error.to_string())),
            Err(ReadError::Absent) => Ok(None),
            Err(error) => Err(problem(error.to_string())),
        }
    }
}

/// Metadata while it is put together, within its bound.
struct Draft {
    metadata: Metadata,
    is_found: bool,
    runtime: Option<Runtime>,
    /// Bytes that are left for texts, and for lists.
    text_room: usize,
    room: usize,
}

impl Draft {
    /// One that begins with what is known.
    fn of(metadata: Metadata) -> Self {
        let (texts, lists) = metadata.bytes();
        let text_room = TEXTS_MAX.saturating_sub(texts);
        let room = LISTS_MAX.saturating_sub(lists);
        Self { metadata, is_found: false, runtime: None, text_room, room }
    }

    /// A copy of a text, as much as there is room for.
    fn copy(&mut self, text: &str) -> String {
        let fits = cut(text, self.text_room.min(TEXT_MAX));
        self.metadata.is_cut |= fits.len() < text.len();
        self.text_room -= fits.len();
        fits.to_owned()
    }

    /// Fills in a text that nobody told before.
    fn fill(&mut self, text: &str, place: fn(&mut Metadata) -> &mut Option<String>) {
        if !text.is_empty() && place(&mut self.metadata).is_none() {
            *place(&mut self.metadata) = Some(self.copy(text));
        }
    }

    /// As [`Draft::fill`], of the pod.
    fn pod(&mut self, text: &str, place: fn(&mut Pod) -> &mut Option<String>) {
        if !text.is_empty() && place(self.metadata.pod.get_or_insert_default()).is_none() {
            let text = self.copy(text);
            *place(self.metadata.pod.get_or_insert_default()) = Some(text);
        }
    }

    fn name(&mut self, name: &str) {
        self.fill(name, |metadata| &mut metadata.name);
    }

    /// Fills in the image by its name, which may also be its id, or have its digest.
    fn image(&mut self, name: &str) {
        if is_image_id(name) {
            return self.image_id(name);
        }
        if let Some((_, digest)) = name.split_once('@') {
            self.digest(digest);
        }
        self.fill(name, |metadata| &mut metadata.image.name);
    }

    fn image_id(&mut self, id: &str) {
        self.fill(id.strip_prefix("sha256:").unwrap_or(id), |metadata| &mut metadata.image.id);
    }

    fn digest(&mut self, digest: &str) {
        self.fill(digest, |metadata| &mut metadata.image.digest);
    }

    fn created(&mut self, time: &str) {
        if self.metadata.created_ns.is_none()
            && let Ok(time) = time.parse::<jiff::Timestamp>()
        {
            self.metadata.created_ns = i64::try_from(time.as_nanosecond()).ok();
        }
    }

    /// Adds labels or annotations, unless there are some already.
    fn labels<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a String, &'a String)>,
        place: fn(&mut Metadata) -> &mut Labels,
    ) {
        if !place(&mut self.metadata).is_empty() {
            return;
        }
        for (key, value) in labels {
            let bytes = key.len().min(TEXT_MAX) + value.len().min(TEXT_MAX) + LABEL_BYTES;
            if bytes > self.room || key.len() > TEXT_MAX || value.len() > TEXT_MAX {
                self.metadata.is_cut = true;
            }
            if bytes <= self.room {
                self.room -= bytes;
                place(&mut self.metadata).push(key, value);
            }
        }
    }

    /// Adds mounts, unless there are some already.
    fn mounts(&mut self, mounts: impl IntoIterator<Item = Mount>) {
        if !self.metadata.mounts.is_empty() {
            return;
        }
        for mount in mounts {
            let bytes = mount.text.len() + size_of::<Mount>();
            if bytes > self.room {
                self.metadata.is_cut = true;
            } else {
                self.room -= bytes;
                self.metadata.mounts.push(mount);
            }
        }
        self.metadata.mounts.shrink_to_fit();
    }

    /// Takes from the labels that the kubelet gives to all its containers what they say of the pod, and from the
    /// cgroup what it says.
    fn complete(&mut self, container: &Container) {
        if !self.is_found {
            return;
        }
        let labels = self.metadata.labels.clone();
        let label = |key: &str| labels.get(key).unwrap_or_default();
        // Without such a cgroup they may be an image's.
        if container.pod_uid.as_deref() == Some(label("io.kubernetes.pod.uid")) {
            self.name(label("io.kubernetes.container.name"));
            self.pod(label("io.kubernetes.pod.name"), |pod| &mut pod.name);
            self.pod(label("io.kubernetes.pod.namespace"), |pod| &mut pod.namespace);
            self.pod(label("io.kubernetes.sandbox.id"), |pod| &mut pod.sandbox_id);
            if label("io.kubernetes.docker.type") == "podsandbox" {
                self.metadata.is_sandbox = Some(true);
            }
        }
        self.pod(container.pod_uid.as_deref().unwrap_or_default(), |pod| &mut pod.uid);
        if self.metadata.is_sandbox == Some(true) {
            // What labels a sandbox has are the pod's.
            let pod = self.metadata.pod.get_or_insert_default();
            pod.labels = labels;
            pod.sandbox_id.get_or_insert_with(|| container.id.clone());
            let name = pod.name.clone().unwrap_or_default();
            self.name(&name);
        }
        // Whoever starts one by hand gives it an id that is its name.
        if container.id.len() != 64 || container.runtime.is_by_name() {
            self.name(&container.id);
        }
    }
}

/// As much of a text as fits, in whole characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Repository and tag.
pub fn split_image(name: &str) -> (&str, Option<&str>) {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        // A colon before a slash is that of a port.
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

/// Whether an image is named by its id.
fn is_image_id(name: &str) -> bool {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
