//! From a cgroup's id to its path. The id that the kernel gives each event is the inode number of the cgroup's folder in
//! the tree by which containers are told apart: that of v2, or where there is none that of one controller of v1.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// How this machine's cgroup trees are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Only v2, at that folder.
    Unified(PathBuf),
    /// v1 controllers, and a v2 tree beside them at that folder.
    Hybrid(PathBuf),
    /// v1 controllers only, each with a tree of its own.
    V1(Hierarchy),
    /// No tree that is of use: all processes have the same id.
    None,
}

/// The tree of a controller of cgroup v1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// The controller.
    pub controller: &'static str,
    /// The kernel's number of the tree; v2 has 0.
    pub id: u32,
    /// Where it is mounted.
    pub root: PathBuf,
}

impl Hierarchy {
    /// The place of its controller among the kernel's, by their list. BTF has it, too, and is right where the list leaves
    /// out some (from 6.12 on).
    pub fn place(&self) -> Option<u32> {
        let text = std::fs::read_to_string("/proc/cgroups").ok()?;
        let mut names = text.lines().skip(1).map(|line| line.split('\t').next());
        names.position(|name| name == Some(self.controller))?.try_into().ok()
    }
}

/// Controllers in whose trees runtimes and systemd make a cgroup for each container, the best first.
pub const CONTROLLERS: [&str; 5] = ["pids", "memory", "devices", "freezer", "cpu"];

impl Layout {
    /// The layout that this process sees.
    pub fn detect() -> Self {
        // In a cgroup namespace the runtime's mount of a container's own part calls itself the root.
        let is_root = |folder: &Path| folder.metadata().is_ok_and(|metadata| metadata.ino() == ROOT_ID);
        let [mounts, cgroups] = ["mountinfo", "cgroup"]
            .map(|name| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default());
        let has_cgroups = |root: &Path| {
            let mut entries = root.read_dir().into_iter().flatten().flatten();
            entries.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        };
        Self::of_mounts(&mounts, &cgroups, is_root, has_cgroups)
    }

    /// The root of the tree by which containers are told apart.
    pub fn root(&self) -> Option<&Path> {
        match self {
            Layout::Unified(root) | Layout::Hybrid(root) => Some(root),
            Layout::V1(hierarchy) => Some(&hierarchy.root),
            Layout::None => None,
        }
    }

    /// The root of the v2 tree, to which programs can be attached.
    pub fn v2(&self) -> Option<&Path> {
        self.root().filter(|_| self.hierarchy().is_none())
    }

    /// The tree of v1 by which containers are told apart, if it is one.
    pub fn hierarchy(&self) -> Option<&Hierarchy> {
        match self {
            Layout::V1(hierarchy) => Some(hierarchy),
            _ => None,
        }
    }

    /// Its controller in `/proc/PID/cgroup`, which is empty for v2.
    fn controller(&self) -> &'static str {
        self.hierarchy().map_or("", |hierarchy| hierarchy.controller)
    }

    /// That tree.
    pub fn tree(&self) -> Option<Cgroups> {
        Cgroups::new(self.root()?, self.controller()).ok()
    }

    /// Reads it from the text of `/proc/PID/mountinfo` (proc(5)) and of `/proc/PID/cgroup`; `is_root` tells a tree's root
    /// from a folder in it, `has_cgroups` whether there are any but the root.
    fn of_mounts(
        mountinfo: &str,
        cgroups: &str,
        is_root: impl Fn(&Path) -> bool,
        has_cgroups: impl Fn(&Path) -> bool,
    ) -> Self {
        let mut root = None;
        let mut v1 = Vec::new();
        for line in mountinfo.lines() {
            let Some((mount, file_system)) = line.split_once(" - ") else { continue };
            let folder = mount.split(' ').nth(4).map(PathBuf::from);
            let mut words = file_system.split(' ');
            match words.next() {
                Some("cgroup") => v1.extend(folder.zip(words.nth(1))),
                // The first one is the system's.
                Some("cgroup2") if root.is_none() => root = folder.filter(|folder| is_root(folder)),
                _ => {}
            }
        }
        // Beside v1 systemd mounts its tree here. One elsewhere may be somebody's who only attaches programs to it, with all
        // processes in its root.
        let is_used = |root: &Path| {
            root.starts_with("/sys/fs/cgroup")
                || cgroups.lines().any(|line| line.starts_with("0::/") && line != "0::/")
                || has_cgroups(root)
        };
        match root {
            Some(root) if v1.is_empty() => return Layout::Unified(root),
            Some(root) if is_used(&root) => return Layout::Hybrid(root),
            _ => {}
        }
        let hierarchy = CONTROLLERS.iter().find_map(|&controller| {
            let is_its = |options: &str| options.split(',').any(|option| option == controller);
            let its = v1.iter().find(|(folder, options)| is_its(options) && is_root(folder));
            let line = cgroups.lines().find(|line| of_controller(line.as_bytes(), controller).is_some())?;
            let id = line.split(':').next()?.parse().ok()?;
            Some(Hierarchy { controller, id, root: its?.0.clone() })
        });
        hierarchy.map_or(Layout::None, Layout::V1)
    }
}

/// The path in a line of `/proc/PID/cgroup`, if it is of that controller: `4:cpu,cpuacct:/path`; the line of v2 has none.
fn of_controller<'a>(line: &'a [u8], controller: &str) -> Option<&'a [u8]> {
    let mut fields = line.splitn(3, |&byte| byte == b':').skip(1);
    let mut names = fields.next()?.split(|&byte| byte == b',');
    names.any(|name| name == controller.as_bytes()).then(|| fields.next())?
}

/// Inode number of the root of the tree, and so its id: the kernel's first.
const ROOT_ID: u64 = 1;

/// Finds paths of cgroups that exist.
pub struct Cgroups {
    root: PathBuf,
    /// The folder that `/proc` takes for the root: in a cgroup namespace, where it was made.
    base: PathBuf,
    folder: File,
    controller: &'static str,
    /// Whether the kernel opens a cgroup by its id for us.
    by_handle: bool,
}

/// Folders that a search of the tree looks at, at most: a hostile container can make many.
const SEARCH_MAX: usize = 65_536;

impl Cgroups {
    /// Over the tree at that folder; of which controller it is, if it is not that of v2.
    fn new(root: &Path, controller: &'static str) -> io::Result<Self> {
        let (folder, root) = (File::open(root)?, root.to_owned());
        let mut cgroups = Self { base: root.clone(), root, folder, controller, by_handle: true };
        if let Some(base) = cgroups.base() {
            cgroups.base = base;
        }
        Ok(cgroups)
    }

    /// Where this process's cgroup namespace was made: its own cgroup is found by looking which one has it, and what
    /// `/proc` says of it is below that place or beside it.
    fn base(&self) -> Option<PathBuf> {
        let own = self.of_process(std::process::id())?;
        let id = std::process::id().to_string();
        let has_us = |folder: &Path| {
            let processes = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            // Those of other pid namespaces are 0.
            processes.lines().any(|line| line == id)
        };
        if has_us(&self.below(&self.root, &own)) {
            return None;
        }
        let folders = self.all().into_iter().map(|(_, path)| self.below(&self.root, Path::new(&path)));
        let mut base = folders.into_iter().find(|folder| has_us(folder))?;
        // A process that was moved deeper after its namespace was made: that many steps up.
        for _ in own.components().filter(|part| matches!(part, Component::Normal(_))) {
            base.pop();
        }
        base.starts_with(&self.root).then_some(base)
    }

    /// The folder of a path as `/proc` has it, which in a cgroup namespace leads out with `/..`; never out of the tree.
    fn below(&self, base: &Path, path: &Path) -> PathBuf {
        let mut folder = base.to_owned();
        for part in path.components() {
            match part {
                Component::Normal(name) => folder.push(name),
                Component::ParentDir if folder != self.root => drop(folder.pop()),
                _ => {}
            }
        }
        folder
    }

    /// Another one over the same tree.
    pub fn try_clone(&self) -> io::Result<Self> {
        let Self { root, base, folder, controller, by_handle } = self;
        let (root, base, folder) = (root.clone(), base.clone(), folder.try_clone()?);
        Ok(Self { root, base, folder, controller, by_handle: *by_handle })
    }

    /// The path of a process's cgroup, from `/proc/PID/cgroup`.
    pub fn of_process(&self, pid: u32) -> Option<PathBuf> {
        let text = std::fs::read(format!("/proc/{pid}/cgroup")).ok()?;
        // No cgroup's name has a line end: the kernel refuses that, and nothing else.
        let path = text.split(|&byte| byte == b'\n').find_map(|line| of_controller(line, self.controller))?;
        Some(PathBuf::from(OsStr::from_bytes(path)))
    }

    /// The path below the root, starting with `/`; `None` if there is no such cgroup any more.
    pub fn path(&mut self, id: u64) -> Option<String> {
        if self.by_handle {
            match open_by_id(&self.folder, id) {
                Ok(folder) => return self.path_of(&folder),
                Err(error) if error.raw_os_error() == Some(libc::ESTALE) => return None,
                Err(error) if cannot_open_by_id(&error) => self.by_handle = false,
                // Out of memory or descriptors: this once.
                Err(_) => {}
            }
        }
        let found = self.all().into_iter().find(|(found, _)| *found == id)?;
        Some(found.1)
    }

    /// Those of these cgroups that are not there any more.
    pub fn gone(&mut self, ids: &[u64]) -> Vec<u64> {
        let mut gone = Vec::new();
        for id in ids {
            if !self.by_handle {
                break;
            }
            match open_by_id(&self.folder, *id) {
                Err(error) if error.raw_os_error() == Some(libc::ESTALE) => gone.push(*id),
                Err(error) if cannot_open_by_id(&error) => self.by_handle = false,
                _ => {}
            }
        }
        if self.by_handle {
            return gone;
        }
        let all = self.all();
        if all.len() >= SEARCH_MAX {
            // Not all were looked at.
            return Vec::new();
        }
        let there: hashbrown::HashSet<u64> = all.into_iter().map(|(id, _)| id).collect();
        ids.iter().copied().filter(|id| !there.contains(id)).collect()
    }

    /// The id of the cgroup at a path below the root, `None` if there is none.
    pub fn id_below_root(&self, path: &str) -> Option<u64> {
        Some(self.below(&self.root, Path::new(path)).metadata().ok()?.ino())
    }

    /// The id of the cgroup at a path as `/proc` has it, `None` if there is none.
    pub fn id(&self, path: &Path) -> Option<u64> {
        Some(self.below(&self.base, path).metadata().ok()?.ino())
    }

    /// All cgroups that there are now, with their ids; each after the one that it is in.
    pub fn all(&self) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        let mut pending = vec![self.root.clone()];
        while let Some(folder) = pending.pop()
            && found.len() < SEARCH_MAX
        {
            let Ok(metadata) = folder.metadata() else { continue };
            found.push((metadata.ino(), self.below_root(&folder)));
            for entry in folder.read_dir().into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    pending.push(entry.path());
                }
            }
        }
        found
    }

    fn path_of(&self, folder: &OwnedFd) -> Option<String> {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).ok()?;
        Some(self.below_root(&path))
    }

    fn below_root(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let text = below.to_string_lossy();
        if text.starts_with('/') { text.into_owned() } else { format!("/{text}") }
    }
}

/// Opens a cgroup's folder by its id (open_by_handle_at(2); needs CAP_DAC_READ_SEARCH).
fn open_by_id(mount: &File, id: u64) -> io::Result<OwnedFd> {
    /// `FILEID_KERNFS` of the kernel's `exportfs.h`: the handle is the node's 64-bit id.
    const FILEID_KERNFS: i32 = 0xfe;
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        id: u64,
    }
    let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id };
    // SAFETY: the handle is laid out as `struct file_handle` with eight bytes of data.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &raw mut handle,
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Whether the tree has to be searched from now on: not allowed, or a kernel or file system that cannot.
fn cannot_open_by_id(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS))
}

/// The name of this node (`uname -n`).
pub fn host_name() -> String {
    let mut name = [0u8; 256];
    // SAFETY: the buffer has that size and ends with NUL in any case.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    CStr::from_bytes_until_nul(&name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_told_from_the_mounts() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let v1 = "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let beside = "32 23 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let part = "33 23 0:28 /docker/x /mnt rw - cgroup2 cgroup2 rw\n";
        let cgroups = "12:cpu,cpuacct:/a:b\n3:memory:/\n1:name=systemd:/x\n";
        let is_root = |folder: &Path| !folder.starts_with("/mnt");
        let of_mounts = |text: &str| Layout::of_mounts(text, cgroups, is_root, |_| false);
        assert_eq!(of_mounts(v2), Layout::Unified("/sys/fs/cgroup".into()));
        assert_eq!(of_mounts(&[v1, beside].concat()), Layout::Hybrid("/sys/fs/cgroup/unified".into()));
        assert_eq!(of_mounts(&[part, v2].concat()), Layout::Unified("/sys/fs/cgroup".into()));
        assert_eq!(of_mounts(""), Layout::None);
        let tree = |controller, id, root: &str| Layout::V1(Hierarchy { controller, id, root: root.into() });
        assert_eq!(of_mounts(v1), tree("cpu", 12, "/sys/fs/cgroup/cpu"));
        let memory = "34 23 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(of_mounts(&[v1, memory].concat()), tree("memory", 3, "/sys/fs/cgroup/memory"));
        // A tree of v2 that nothing is in.
        let aside = "37 23 0:31 / /run/aside rw - cgroup2 cgroup2 rw\n";
        let both = [v1, aside].concat();
        assert_eq!(of_mounts(&both), tree("cpu", 12, "/sys/fs/cgroup/cpu"));
        let hybrid = Layout::Hybrid("/run/aside".into());
        assert_eq!(Layout::of_mounts(&both, cgroups, is_root, |_| true), hybrid);
        assert_eq!(Layout::of_mounts(&both, "0::/x\n", is_root, |_| false), hybrid);
        // No tree of ours, and a container's part of one.
        let named = "35 23 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let part = "36 23 0:29 /x /mnt rw - cgroup cgroup rw,memory\n";
        assert_eq!(of_mounts(&[named, part].concat()), Layout::None);
        assert_eq!(of_controller(b"12:cpu,cpuacct:/a:b", "cpu"), Some(&b"/a:b"[..]));
        assert_eq!(of_controller(b"0::/a", ""), Some(&b"/a"[..]));
        for (line, controller) in [("12:cpuset:/a", "cpu"), ("12:cpu:/a", ""), ("0::/a", "cpu"), ("", "")] {
            assert_eq!(of_controller(line.as_bytes(), controller), None);
        }
    }

    #[test]
    fn in_a_cgroup_namespace_the_machines_root_is_found_beside_the_containers() {
        let own = "30 23 0:26 / /own ro - cgroup2 cgroup rw\n";
        let machine = "31 23 0:26 /../../.. /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        let found =
            Layout::of_mounts(&[own, machine].concat(), "", |folder| folder != Path::new("/own"), |_| false);
        assert_eq!(found, Layout::Unified("/sys/fs/cgroup".into()));
    }

    #[test]
    fn paths_out_of_a_cgroup_namespace_are_followed_and_end_at_the_root() {
        let root = tempfile::tempdir().unwrap();
        let [own, other] = ["kubepods/pod1/own", "kubepods/pod2/other"].map(|path| root.path().join(path));
        for folder in [&own, &other] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let cgroups = Cgroups { base: own.clone(), ..Cgroups::new(root.path(), "").unwrap() };
        let id = |folder: &Path| Some(folder.metadata().unwrap().ino());
        assert_eq!(cgroups.id(Path::new("/")), id(&own));
        assert_eq!(cgroups.id(Path::new("/../../pod2/other")), id(&other));
        assert_eq!(cgroups.id(Path::new("/../../../../../..")), id(root.path()));
        assert_eq!(cgroups.id(Path::new("/../gone")), None);
    }

    /// A cgroup of this test, removed when it ends.
    struct Made(PathBuf);

    impl Drop for Made {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn id_of_a_cgroup_gives_its_path_until_it_is_gone() {
        let layout = Layout::detect();
        let Some(root) = layout.root() else {
            crate::testing::skipped("id_of_a_cgroup_gives_its_path_until_it_is_gone", "no tree of cgroups");
            return;
        };
        let made = Made(root.join(format!("taffrail-test-{}", std::process::id())));
        if let Err(error) = std::fs::create_dir(&made.0) {
            crate::testing::skipped("id_of_a_cgroup_gives_its_path_until_it_is_gone", error);
            return;
        }
        let id = made.0.metadata().unwrap().ino();
        let path = format!("/taffrail-test-{}", std::process::id());
        let mut cgroups = layout.tree().unwrap();
        assert_eq!(cgroups.path(id), Some(path.clone()));
        assert_eq!(cgroups.id(Path::new(&path)), Some(id));
        let mut searching = Cgroups { by_handle: false, ..layout.tree().unwrap() };
        assert_eq!(searching.path(id), Some(path));
        for cgroups in [&mut cgroups, &mut searching] {
            assert_eq!(cgroups.gone(&[id, 1]), [0u64; 0]);
        }
        drop(made);
        for cgroups in [&mut cgroups, &mut searching] {
            assert_eq!(cgroups.gone(&[id, 1]), [id]);
        }
        assert_eq!(cgroups.path(id), None);
        assert_eq!(searching.path(id), None);
    }
}
