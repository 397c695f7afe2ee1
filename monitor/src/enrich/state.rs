//! The files that runtimes keep on the host: where they are, how they are read, and whose a cgroup is by what runc and
//! crun say, whose users can choose its path. A user's files are believed only about his own part of the cgroup tree,
//! and he cannot make us wait, follow a link, or fill our memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hashbrown::HashMap;
use serde::Deserialize;
use thiserror::Error;

use super::cgroup::Layout;
use super::container::{Container, Runtime};
use super::resolve::GIVE_UP;

/// Folders of runtimes. One that ends in `/*` stands for all folders in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Docker's root folders, which have `containers/ID/config.v2.json`.
    pub docker: Vec<String>,
    /// Roots and run roots of the storage that podman and CRI-O share, which have `overlay-containers` or the like.
    pub podman: Vec<String>,
    /// containerd's state folders, which have `io.containerd.runtime.v2.task`.
    pub containerd: Vec<String>,
    /// State folders of runc and crun, which have a folder for each container.
    pub oci: Vec<String>,
}

impl Default for Folders {
    fn default() -> Self {
        let list = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
        Self {
            docker: list(&["/var/lib/docker"]),
            podman: list(&["/var/lib/containers/storage", "/run/containers/storage"]),
            containerd: list(&["/run/containerd", "/run/k3s/containerd", "/run/k0s/containerd"]),
            oci: list(&["/run/runc", "/run/crun", "/run/containerd/runc/*", "/run/docker/runtime-runc/*"]),
        }
    }
}

impl Folders {
    /// Those of a user who runs containers without root.
    pub fn of_user(uid: u32) -> Self {
        let run = |name: &str| format!("{USERS}/{uid}/{name}");
        let home = home_of(uid);
        let at_home = |name: &str| home.as_ref().map(|home| format!("{home}/.local/share/{name}"));
        Self {
            docker: at_home("docker").into_iter().collect(),
            podman: at_home("containers/storage").into_iter().chain([run("containers")]).collect(),
            containerd: vec![run("containerd")],
            oci: oci_of_user(uid),
        }
    }
}

/// Where systemd makes a folder for each user who is logged in.
const USERS: &str = "/run/user";

/// Users whose folders are looked into, at most.
const USERS_MAX: usize = 64;

/// State folders of a user's runc and crun.
fn oci_of_user(uid: u32) -> Vec<String> {
    ["runc", "crun", "docker/runtime-runc/*"].map(|name| format!("{USERS}/{uid}/{name}")).into()
}

/// Folders that one pattern stands for, at most.
const EXPANDED_MAX: usize = 64;

/// The folders that these patterns stand for.
pub fn expand(patterns: &[String]) -> impl Iterator<Item = PathBuf> {
    patterns.iter().flat_map(|pattern| {
        let folders = match pattern.strip_suffix("/*") {
            Some(above) => {
                let entries = Path::new(above).read_dir().into_iter().flatten().flatten();
                entries.take(EXPANDED_MAX).map(|entry| entry.path()).collect()
            }
            None => vec![PathBuf::from(pattern)],
        };
        folders.into_iter()
    })
}

/// What takes the place of a cgroup's path for a container that has none of its own: its pid namespace, and the user in
/// whose files it is. No path of a cgroup begins like that.
fn path_of_namespace(pid_ns: u32, user: Option<u32>) -> String {
    match user {
        Some(user) => format!("user:[{user}]/pid:[{pid_ns}]"),
        None => format!("pid:[{pid_ns}]"),
    }
}

/// The user whom systemd gave that part of the tree, or who has made a container without a part of it. Only about these
/// is his word taken.
pub fn user_of(path: &str) -> Option<u32> {
    let his = path.strip_prefix("/user.slice/user-").and_then(|path| path.split_once(".slice"));
    let user = his.or_else(|| path.strip_prefix("user:[")?.split_once(']'))?.0;
    if !user.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // What root runs there is in the system's folders.
    user.parse().ok().filter(|uid| *uid != 0)
}

/// A user's home folder by the host's list.
fn home_of(uid: u32) -> Option<String> {
    let text = String::from_utf8(read(Path::new("/etc/passwd"), None).ok()?).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let is_his = fields.next()?.parse() == Ok(uid);
        fields.nth(2).filter(|home| is_his && home.starts_with('/')).map(str::to_owned)
    })
}

/// Why a file was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is none.
    #[error("not there")]
    Absent,
    /// A folder, a pipe, a device.
    #[error("not a regular file")]
    NotAFile,
    /// It is another user's than the one whose word is asked.
    #[error("a file of user {0}")]
    Foreign(u32),
    /// More than is read.
    #[error("{0} bytes are too many")]
    TooLarge(u64),
    /// Anything else; a link is `ELOOP`.
    #[error("{0}")]
    Io(io::Error),
}

/// Most bytes of a file.
const BYTES_MAX: u64 = 4 << 20;

/// Reads a file. If a user is named, it has to be his.
pub fn read(path: &Path, user: Option<u32>) -> Result<Vec<u8>, ReadError> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            return Err(ReadError::Absent);
        }
        Err(error) => return Err(ReadError::Io(error)),
    };
    let metadata = file.metadata().map_err(ReadError::Io)?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    if user.is_some_and(|user| user != metadata.uid()) {
        return Err(ReadError::Foreign(metadata.uid()));
    }
    if metadata.len() > BYTES_MAX {
        return Err(ReadError::TooLarge(metadata.len()));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    Ok(bytes)
}

/// Containers of a state folder that are looked at, at most.
const STATES_MAX: usize = 4096;

/// What runc and crun say of whose a cgroup is. A file is read again only when it is another one.
pub struct States {
    layout: Layout,
    /// By the container's folder.
    seen: HashMap<PathBuf, (Stamp, Stated)>,
    /// By state folder.
    listings: HashMap<PathBuf, Listing>,
    /// When folders of a user are listed anew at the earliest.
    next_of_users: HashMap<u32, Instant>,
}

/// Tells one version of a file from another.
type Stamp = (u64, Option<SystemTime>);

/// What a container's state says.
#[derive(Clone, Default)]
struct Stated {
    /// The path of its cgroup.
    path: Option<String>,
    /// Its first process.
    first: Option<u32>,
}

/// The containers without a cgroup of their own in a state folder.
struct Listing {
    /// When the folder was changed last.
    changed: SystemTime,
    /// Id and first process of each, by its pid namespace.
    by_namespace: HashMap<u32, (String, u32)>,
    /// Whether it says all as long as the folder is not changed.
    is_whole: bool,
}

/// Within this time two changes of a folder may have the same time: file systems take it from the kernel's ticks.
const TICKS: Duration = Duration::from_millis(100);

/// Part of the time that is spent on listing folders of one user, at most: one in so many. Whoever fills his folder all the
/// time waits himself, and has nobody else wait.
const SHARE_OF_USERS: u32 = 5;

/// How long one folder of a user is read at a time.
const LISTING_MAX: Duration = Duration::from_millis(50);

impl Default for States {
    fn default() -> Self {
        Self::new(Layout::detect())
    }
}

impl States {
    fn new(layout: Layout) -> Self {
        Self { layout, seen: HashMap::new(), listings: HashMap::new(), next_of_users: HashMap::new() }
    }

    /// The container that owns that cgroup path.
    pub fn owner(&mut self, path: &str, folders: &Folders) -> Option<Container> {
        self.make_room();
        let user = user_of(path);
        let own = user.map(Folders::of_user).map_or_else(Vec::new, |folders| folders.oci);
        let of_system = expand(&folders.oci).map(|folder| (folder, None));
        of_system.chain(expand(&own).map(|folder| (folder, user))).find_map(|(folder, user)| {
            let (id, cgroup_path) = self.in_folder(&folder, path, user)?;
            Some(Container::new(id, runtime_of(&folder), None, cgroup_path))
        })
    }

    fn make_room(&mut self) {
        if self.seen.len() > 2 * STATES_MAX {
            self.seen.clear();
        }
    }

    /// The container without a cgroup of its own whose first process is in that pid namespace, and whether one may be just
    /// about to be told of.
    pub fn in_namespace(&mut self, pid_ns: u32, folders: &Folders) -> (Option<Container>, bool) {
        self.make_room();
        let users = Path::new(USERS).read_dir().into_iter().flatten().flatten().take(USERS_MAX);
        let users = users.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let of_users =
            users.flat_map(|uid| oci_of_user(uid).into_iter().map(move |folder| (folder, Some(uid))));
        let of_system = folders.oci.iter().map(|folder| (folder.clone(), None));
        let of_oci =
            of_system.chain(of_users).filter(|(folder, _)| runtime_of(Path::new(folder)) == Runtime::Oci);
        let mut all = Vec::new();
        for (folder, user) in of_oci {
            all.extend(expand(&[folder]).map(|folder| (folder, user)));
        }
        self.listings.retain(|folder, _| all.iter().any(|(there, _)| there == folder));
        let now = Instant::now();
        self.next_of_users.retain(|_, next| *next > now);
        let waiting: Vec<u32> = self.next_of_users.keys().copied().collect();
        let mut is_open = false;
        for (folder, user) in &all {
            let begin = Instant::now();
            let is_turn = user.is_none_or(|user| !waiting.contains(&user));
            is_open |= self.list(folder, *user, is_turn);
            if let (Some(user), true) = (user, is_turn) {
                let next = self.next_of_users.entry(*user).or_insert(begin);
                *next = (*next).max(begin) + SHARE_OF_USERS * begin.elapsed();
            }
        }
        let found = all.iter().find_map(|(folder, user)| {
            let (id, first) = self.listings.get(folder)?.by_namespace.get(&pid_ns)?;
            let path = path_of_namespace(pid_ns, *user);
            is_in_namespace(*first, pid_ns, *user)
                .then(|| Container::new(id.clone(), Runtime::Oci, None, path))
        });
        let is_open = found.is_none() && is_open;
        (found, is_open)
    }

    /// Lists a state folder anew if it was changed; returns whether a container may be just about to be told of.
    fn list(&mut self, folder: &Path, user: Option<u32>, is_turn: bool) -> bool {
        let Ok(changed) = folder.metadata().and_then(|metadata| metadata.modified()) else {
            self.listings.remove(folder);
            return false;
        };
        if let Some(known) = self.listings.get(folder)
            && (known.is_whole && known.changed == changed)
        {
            return false;
        }
        if !is_turn {
            return true;
        }
        let begin = Instant::now();
        let mut listing = Listing { changed, by_namespace: HashMap::new(), is_whole: true };
        let mut is_open = false;
        for entry in folder.read_dir().into_iter().flatten().flatten().take(STATES_MAX) {
            if user.is_some() && begin.elapsed() > LISTING_MAX {
                // What was read is not read again the next time.
                is_open = true;
                break;
            }
            let Some(Stated { path, first: Some(first) }) = self.stated(&entry.path(), user) else {
                listing.is_whole = false;
                is_open |= is_young(&entry.path());
                continue;
            };
            if let Some(pid_ns) = pid_namespace(first)
                && !path.is_some_and(|path| self.is_there(&path))
                && let Ok(id) = entry.file_name().into_string()
            {
                listing.by_namespace.entry(pid_ns).or_insert((id, first));
            }
        }
        listing.is_whole &= !is_open && changed.elapsed().is_ok_and(|age| age > TICKS);
        self.listings.insert(folder.to_owned(), listing);
        is_open
    }

    /// Whether the cgroup that a container's state names is there. Without the right to make it runc only names it.
    fn is_there(&self, path: &str) -> bool {
        self.layout.root().is_some_and(|root| root.join(path.trim_start_matches('/')).exists())
    }

    /// Id and path of the container in a state folder that owns that path. A user's word is taken about his own part
    /// of the tree only.
    fn in_folder(&mut self, folder: &Path, path: &str, user: Option<u32>) -> Option<(String, String)> {
        if let Some((id, own)) = by_default(path)
            && let Ok(metadata) = folder.join(id).symlink_metadata()
            && metadata.is_dir()
        {
            // The folder is there before the state is written, and before the cgroup is made.
            match self.in_state(&folder.join(id), user) {
                Some(stated) if stated != own => {}
                _ => return Some((id.to_owned(), own.to_owned())),
            }
        }
        let states = folder.read_dir().ok()?.flatten().take(STATES_MAX);
        states.into_iter().find_map(|entry| {
            let own = self.in_state(&entry.path(), user)?;
            let is_users = user.is_none() || user_of(&own) == user;
            (is_users && is_within(path, &own))
                .then(|| Some((entry.file_name().to_str()?.to_owned(), own)))?
        })
    }

    /// The cgroup's path by one container's state.
    fn in_state(&mut self, folder: &Path, user: Option<u32>) -> Option<String> {
        self.stated(folder, user)?.path
    }

    /// One container's state; `None`: there is none yet.
    fn stated(&mut self, folder: &Path, user: Option<u32>) -> Option<Stated> {
        // runc's, and crun's.
        let (path, metadata) = ["state.json", "status"].iter().find_map(|name| {
            let path = folder.join(name);
            let metadata = path.symlink_metadata().ok()?;
            Some((path, metadata))
        })?;
        let stamp = (metadata.ino(), metadata.modified().ok());
        if let Some((seen, stated)) = self.seen.get(folder)
            && *seen == stamp
        {
            return Some(stated.clone());
        }
        // What could not be read may be so the next time.
        let Ok(bytes) = read(&path, user) else { return Some(Stated::default()) };
        let stated = self.parse(&bytes);
        self.seen.insert(folder.to_owned(), (stamp, stated.clone()));
        Some(stated)
    }

    fn parse(&self, state: &[u8]) -> Stated {
        #[derive(Deserialize)]
        struct State {
            /// runc: by controller, absolute on the host; the empty controller is v2.
            cgroup_paths: Option<BTreeMap<String, String>>,
            /// crun: below the mount.
            #[serde(rename = "cgroup-path")]
            cgroup_path: Option<String>,
            /// runc's first process.
            init_process_pid: Option<u32>,
            /// crun's.
            pid: Option<u32>,
        }
        let Ok(State { cgroup_paths, cgroup_path, init_process_pid, pid }) = serde_json::from_slice(state)
        else {
            return Stated::default();
        };
        let own = match &cgroup_paths {
            Some(paths) => {
                let of = |name: &str| paths.get(name);
                let controller = self.layout.hierarchy().map_or("", |hierarchy| hierarchy.controller);
                let own = of(controller).or_else(|| of("unified")).or_else(|| paths.values().next());
                own.and_then(|path| below_cgroup_mount(path, &self.layout))
            }
            None => cgroup_path.as_deref(),
        };
        let path = own.map(|own| own.trim_end_matches('/')).filter(|own| !own.is_empty());
        Stated { path: path.map(str::to_owned), first: init_process_pid.or(pid) }
    }
}

/// Whether a container's folder was made or changed so short ago that its state may be still to come.
fn is_young(folder: &Path) -> bool {
    let changed = folder.metadata().and_then(|metadata| metadata.modified()).ok();
    changed.and_then(|changed| changed.elapsed().ok()).is_some_and(|age| age < GIVE_UP)
}

/// The inode number of a process's pid namespace.
fn pid_namespace(pid: u32) -> Option<u32> {
    Some(Path::new(&format!("/proc/{pid}/ns/pid")).metadata().ok()?.ino() as u32)
}

/// Whether a process is in that pid namespace, and in a user namespace of that user's: he could name any process.
fn is_in_namespace(pid: u32, pid_ns: u32, user: Option<u32>) -> bool {
    let is_his = |user: u32| {
        let namespace = File::open(format!("/proc/{pid}/ns/user")).ok();
        namespace.and_then(|namespace| owner_of(&namespace)) == Some(user)
    };
    pid_namespace(pid) == Some(pid_ns) && user.is_none_or(is_his)
}

/// Who made a user namespace (ioctl_ns(2)).
fn owner_of(namespace: &File) -> Option<u32> {
    /// `_IO(0xb7, 4)`
    const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;
    let mut owner: libc::uid_t = 0;
    // SAFETY: the descriptor is open, and the number is ours to write to.
    let done = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID, &raw mut owner) };
    (done == 0).then_some(owner)
}

/// The container at a path as runc and crun make it where nobody chose one.
pub fn of_default(path: &str) -> Option<Container> {
    let (id, own) = by_default(path)?;
    Some(Container::new(id.to_owned(), Runtime::Oci, None, own.to_owned()))
}

/// The id in a path as runc and crun make it where nobody chose one, and the part of the path that is the container's.
fn by_default(path: &str) -> Option<(&str, &str)> {
    for (at, name) in path.match_indices('/').map(|(at, _)| (at, path[at + 1..].split('/').next())) {
        let Some(name) = name.filter(|name| !matches!(*name, "" | "." | "..")) else { continue };
        let own = &path[..at + 1 + name.len()];
        let unit = name
            .strip_suffix(".scope")
            .and_then(|unit| unit.strip_prefix("runc-").or(unit.strip_prefix("crun-")));
        match unit {
            Some(id) => return Some((id, own)),
            None if at == 0 && !name.contains('.') => return Some((name, own)),
            None => {}
        }
    }
    None
}

/// Whether a path is that cgroup, or below it.
fn is_within(path: &str, own: &str) -> bool {
    path.strip_prefix(own).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// Whose state folder it is.
fn runtime_of(folder: &Path) -> Runtime {
    let has = |name: &str| folder.components().any(|part| part.as_os_str() == name);
    match (has("docker"), has("containerd")) {
        (true, _) => Runtime::Docker,
        (_, true) => Runtime::Containerd,
        _ => Runtime::Oci,
    }
}

/// `/sys/fs/cgroup/unified/a/b` and `/sys/fs/cgroup/memory/a/b` are `/a/b`; so is `/sys/fs/cgroup/a/b` where
/// that is the v2 mount.
fn below_cgroup_mount<'a>(path: &'a str, layout: &Layout) -> Option<&'a str> {
    if let Some(below) = layout.root().and_then(|root| path.strip_prefix(root.to_str()?)) {
        return Some(below);
    }
    let below = path.strip_prefix("/sys/fs/cgroup/")?;
    Some(&below[below.find('/')?..])
}

#[cfg(test)]
mod tests;
