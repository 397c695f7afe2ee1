//! Names of users and groups: a container's from its own `/etc/passwd` and `/etc/group`, the host's from the host's.
//! They are read when a process starts a program or changes its identity, at a bounded rate, and only again when they
//! changed. A container can write what it likes there, and only its own names come of it: its links are resolved
//! within its root, and what it has mounted over its root is never touched, since that could be a file system of its own
//! that never answers.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::container::Container;
use super::reach::{find_in, open_plainly, open_root, read_regular};

/// Names by number, as a container or the host has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// `name:home:shell`, or the name alone.
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
    /// First number inside, first number outside, how many; empty if both are the same. The kernel has 340 lines at
    /// most.
    user_map: Vec<[u32; 3]>,
    group_map: Vec<[u32; 3]>,
}

impl Names {
    /// The name of a user by the number that the host sees.
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.of_user(uid).next()
    }

    /// The home folder of a user.
    pub fn home(&self, uid: u32) -> Option<&str> {
        self.of_user(uid).nth(1)
    }

    /// The shell of a user.
    pub fn shell(&self, uid: u32) -> Option<&str> {
        self.of_user(uid).nth(2)
    }

    fn of_user(&self, uid: u32) -> impl Iterator<Item = &str> {
        let inside = inside(&self.user_map, uid);
        inside.and_then(|uid| self.users.get(&uid)).into_iter().flat_map(|user| user.split(':'))
    }

    /// The name of a group by the number that the host sees.
    pub fn group(&self, gid: u32) -> Option<&str> {
        self.groups.get(&inside(&self.group_map, gid)?).map(String::as_str)
    }
}

/// The number inside of a user namespace.
fn inside(map: &[[u32; 3]], outside: u32) -> Option<u32> {
    if map.is_empty() {
        return Some(outside);
    }
    map.iter().find_map(|&[inside, first, count]| {
        let at = outside.checked_sub(first).filter(|at| *at < count)?;
        inside.checked_add(at)
    })
}

/// How often it is looked whether the files of a container changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Most bytes of a file that are read.
const BYTES_MAX: u64 = 256 << 10;

/// Most names of a file of the host.
const NAMES_MAX: usize = 4096;

/// Most names of a file of a container, which can make as many as it likes; images bring some forty.
const CONTAINER_NAMES_MAX: usize = 96;

/// Most bytes of a name, as useradd(8) allows.
const NAME_MAX: usize = 32;

/// Most bytes of all homes and shells of a container and of the host: of users beyond there is the name.
const CONTAINER_HOMES_MAX: usize = 4 << 10;
const HOMES_MAX: usize = 128 << 10;

/// Containers that are remembered.
const CONTAINERS_MAX: usize = 4096;

/// Names of the host and of all containers, by the path of their cgroup; the host's is the empty path.
#[derive(Default)]
pub struct Users {
    known: HashMap<String, Known>,
}

struct Known {
    names: Arc<Names>,
    /// Of which files they are.
    stamps: [Stamp; 2],
    looked: Instant,
}

/// Tells one version of a file from another; `None` if there is none.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Users {
    /// The names of a container, or of the host, as they were told last.
    pub fn recalled(&self, container: Option<&Container>) -> Option<Arc<Names>> {
        self.known.get(path_of(container)).map(|known| Arc::clone(&known.names))
    }

    /// Takes in what a recording says.
    pub fn recall(&mut self, cgroup_path: String, names: Names) {
        let known = Known { names: Arc::new(names), stamps: [None; 2], looked: Instant::now() };
        self.known.insert(cgroup_path, known);
    }

    /// The names of a container, or of the host, with the help of a process in there; and whether they are new.
    pub fn names(&mut self, container: Option<&Container>, pid: u32) -> Option<(Arc<Names>, bool)> {
        let path = path_of(container);
        let now = Instant::now();
        if let Some(known) = self.known.get(path)
            && now.duration_since(known.looked) < LOOK_INTERVAL
        {
            return Some((Arc::clone(&known.names), false));
        }
        let files = Files::open(container, pid)?;
        let stamps = files.stamps();
        if let Some(known) = self.known.get_mut(path) {
            known.looked = now;
            if known.stamps == stamps {
                return Some((Arc::clone(&known.names), false));
            }
        }
        let names = Arc::new(files.read());
        if self.known.len() >= CONTAINERS_MAX {
            self.known.clear();
        }
        self.known.insert(path.to_owned(), Known { names: Arc::clone(&names), stamps, looked: now });
        Some((names, true))
    }
}

fn path_of(container: Option<&Container>) -> &str {
    container.map_or("", |container| &container.cgroup_path)
}

/// The two files, and how numbers are to be understood.
struct Files {
    passwd: Option<File>,
    group: Option<File>,
    maps: [Vec<[u32; 3]>; 2],
    /// Names of each that are taken, and bytes of homes and shells.
    max: (usize, usize),
}

impl Files {
    /// Those of a container or of the host; `None` if there is no way to them.
    fn open(container: Option<&Container>, pid: u32) -> Option<Self> {
        // Process 1 is the host's also where the daemon itself is in a container.
        let pid = container.map_or(1, |_| pid);
        let metadata = container.and_then(|container| container.metadata.get());
        let maps = match ["uid_map", "gid_map"].map(|name| read_map(pid, name)) {
            [Some(users), Some(groups)] => [users, groups],
            // It has ended. Without a user namespace there is nothing to translate.
            _ if metadata.is_some_and(|known| !known.has_user_namespace) => [Vec::new(), Vec::new()],
            _ => return None,
        };
        let stated = metadata.and_then(|known| known.root.as_ref()).map(PathBuf::from);
        // Where the host's first process may not be looked into, the daemon's own root has to do.
        let own = container.is_none().then(|| PathBuf::from("/"));
        let roots = stated.into_iter().chain([PathBuf::from(format!("/proc/{pid}/root"))]).chain(own);
        let root =
            roots.filter_map(|root| open_root(&root, pid)).find(|root| find_in(root, c"etc").is_ok())?;
        let file = |name: &CStr| {
            let in_root = find_in(&root, name).and_then(|found| read_regular(&found)).ok();
            // What the runtime mounted there is the host's.
            let mounts = metadata.map_or(&[][..], |known| &known.mounts);
            let is_it =
                |path: &str| path.strip_prefix('/').is_some_and(|path| path.as_bytes() == name.to_bytes());
            let mount = mounts.iter().find(|mount| is_it(mount.destination()));
            mount.and_then(|mount| open_plainly(Path::new(mount.source()))).or(in_root)
        };
        let max = container.map_or((NAMES_MAX, HOMES_MAX), |_| (CONTAINER_NAMES_MAX, CONTAINER_HOMES_MAX));
        Some(Self { passwd: file(c"etc/passwd"), group: file(c"etc/group"), maps, max })
    }

    fn stamps(&self) -> [Stamp; 2] {
        [&self.passwd, &self.group].map(|file| {
            let metadata = file.as_ref()?.metadata().ok()?;
            Some((metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
        })
    }

    fn read(self) -> Names {
        let Self { passwd, group, maps: [user_map, group_map], max: (max, mut room) } = self;
        let users = parse(passwd, max, |name, rest| {
            // What the user is called stands before home and shell.
            let (home, shell) = rest.splitn(3, ':').nth(2).and_then(|rest| rest.split_once(':'))?;
            let bytes = home.len() + shell.len();
            room = room.checked_sub(bytes)?;
            (!shell.contains(':')).then(|| format!("{name}:{home}:{shell}"))
        });
        Names { users, groups: parse(group, max, |_, _| None), user_map, group_map }
    }
}

/// Names by the number in the third column, the first of a number being the one that counts. `whole` makes more of a
/// name and what stands behind the number.
fn parse(
    file: Option<File>,
    max: usize,
    mut whole: impl FnMut(&str, &str) -> Option<String>,
) -> BTreeMap<u32, String> {
    let mut bytes = Vec::new();
    let is_file = |file: &File| file.metadata().is_ok_and(|metadata| metadata.is_file());
    if let Some(file) = file.filter(is_file) {
        // What was read before an error is what there is.
        let _ = file.take(BYTES_MAX).read_to_end(&mut bytes);
    }
    let mut names = BTreeMap::new();
    for line in String::from_utf8_lossy(&bytes).lines() {
        let mut columns = line.splitn(4, ':');
        let (Some(name), Some(_), Some(Ok(number))) =
            (columns.next(), columns.next(), columns.next().map(str::parse))
        else {
            continue;
        };
        if names.len() < max && !name.is_empty() && !names.contains_key(&number) {
            let name = &name[..name.floor_char_boundary(NAME_MAX)];
            let rest = columns.next().unwrap_or_default();
            names.insert(number, whole(name, rest).unwrap_or_else(|| name.to_owned()));
        }
    }
    names
}

/// A process's map of users or groups; empty if each number is itself.
fn read_map(pid: u32, name: &str) -> Option<Vec<[u32; 3]>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok()?;
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        Some([numbers.next()??, numbers.next()??, numbers.next()??])
    };
    let map: Vec<[u32; 3]> = text.lines().filter_map(line).collect();
    Some(if map == [[0, 0, u32::MAX]] { Vec::new() } else { map })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::container::Runtime;
    use crate::enrich::metadata::Metadata;

    /// A container with that root.
    fn container(root: &Path) -> Container {
        let container = Container::new("web".into(), Runtime::Oci, None, "/web".into());
        let root = Some(root.to_string_lossy().into_owned());
        let _ = container.metadata.set(Metadata { root, ..Metadata::default() });
        container
    }

    fn root(passwd: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        root
    }

    #[test]
    fn names_are_the_containers_own_and_read_again_only_when_they_changed() {
        let root =
            root("root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/:/bin/sh:more\nother:x:1000:1::/:\nbad\n:x:7:7\n");
        std::fs::write(root.path().join("etc/group"), "webs:x:1000:web\n").unwrap();
        let container = container(root.path());
        let mut users = Users::default();
        let pid = std::process::id();
        let (names, is_new) = users.names(Some(&container), pid).unwrap();
        assert!(is_new);
        assert_eq!([0, 1000, 7, 1].map(|uid| names.user(uid)), [Some("root"), Some("web"), None, None]);
        assert_eq!([1000, 0].map(|gid| names.group(gid)), [Some("webs"), None]);
        assert_eq!([0, 1000].map(|uid| names.home(uid)), [Some("/"), None]);
        assert_eq!([0, 1000].map(|uid| names.shell(uid)), [Some("/bin/sh"), None]);
        std::fs::write(root.path().join("etc/passwd"), "new:x:1000:\n").unwrap();
        assert_eq!(
            users.names(Some(&container), pid),
            Some((Arc::clone(&names), false)),
            "not looked again yet"
        );
        for known in users.known.values_mut() {
            known.looked = Instant::now().checked_sub(LOOK_INTERVAL).unwrap();
        }
        let (names, is_new) = users.names(Some(&container), pid).unwrap();
        assert_eq!((names.user(1000), is_new), (Some("new"), true));
    }

    #[test]
    fn links_stay_within_the_root_and_pipes_and_huge_files_are_nothing() {
        let links = root("");
        std::fs::remove_file(links.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("../../../../../../etc/passwd", links.path().join("etc/passwd")).unwrap();
        let pipe = root("");
        std::fs::remove_file(pipe.path().join("etc/passwd")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(pipe.path().join("etc/passwd")).status().unwrap();
        assert!(made.success());
        for root in [links, pipe] {
            let (names, _) =
                Users::default().names(Some(&container(root.path())), std::process::id()).unwrap();
            assert_eq!(names.users.len(), 0);
        }
        let line = |n| format!("{}:x:{n}:0:::{}\n", "\u{1b}".repeat(n % 200), "/".repeat(n));
        let many: String = (0..1_000).map(line).collect();
        let (names, _) =
            Users::default().names(Some(&container(root(&many).path())), std::process::id()).unwrap();
        assert!(
            names.users.len() <= CONTAINER_NAMES_MAX
                && names.users.keys().all(|uid| names.user(*uid).unwrap().len() <= NAME_MAX)
        );
        let homes = names.users.keys().filter_map(|uid| names.shell(*uid)).map(str::len).sum::<usize>();
        assert!((1..=CONTAINER_HOMES_MAX).contains(&homes), "{homes}");
    }

    #[test]
    fn numbers_are_translated_into_the_user_namespace() {
        let names = Names {
            users: BTreeMap::from([(0, "root".to_owned()), (5, "web".to_owned())]),
            user_map: vec![[0, 100_000, 4], [5, 200_000, 1], [u32::MAX, 300_000, 9]],
            ..Names::default()
        };
        let expected =
            [(100_000, Some("root")), (200_000, Some("web")), (0, None), (100_004, None), (300_005, None)];
        for (uid, name) in expected {
            assert_eq!(names.user(uid), name, "{uid}");
        }
    }

    #[test]
    fn hosts_names_are_had_without_a_container() {
        let (names, _) = Users::default().names(None, 0).unwrap();
        assert_eq!(names.user(0), Some("root"));
    }
}
