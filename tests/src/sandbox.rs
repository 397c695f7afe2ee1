//! A container without a runtime: a cgroup whose path the daemon takes for docker's, namespaces, and a small root.
//! Closures run in there as processes of their own, so a test can do what no shell command does. It needs nothing
//! but root: it works the same on a developer's machine and in a VM that has only busybox.
//!
//! The children are forked and do not exec, so a closure must not print, and must not take a lock that another
//! thread of the test may hold.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use taffrail::enrich::cgroup::Layout;
use tempfile::TempDir;

use crate::daemon::wait_for;
use crate::{raw, syscall};

/// Where the machine's busybox is, if it has one.
const BUSYBOX: &str = "/bin/busybox";

/// Names that busybox gets in there.
const APPLETS: &[&str] = &["sh", "cat", "true", "sleep", "env", "nc"];

/// What the ids of these containers begin with.
const ID_PREFIX: &str = "7affa11e";

/// What the names of their folders begin with; the id of the test's process follows.
const FOLDER_PREFIX: &str = "taffrail-sandbox-";

/// Which namespaces it has besides its own mounts, processes, name and IPC.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// A network of its own, with a loopback interface that is up.
    pub network: bool,
}

/// A container, gone with all in it when it is dropped.
pub struct Sandbox {
    id: String,
    cgroup: PathBuf,
    /// Its process 1, by the host's count.
    init: u32,
    /// The process that waits for `init`.
    keeper: i32,
    namespaces: Vec<OwnedFd>,
    /// Outside; the root's file systems are mounted over it in there.
    _folder: TempDir,
}

/// What came of a closure.
#[derive(Debug)]
pub struct Ran<T> {
    /// The process that ran it, by the host's count.
    pub pid: u32,
    /// What it returned.
    pub value: T,
}

/// A closure that runs at the same time, killed when it is dropped.
pub struct Running<T> {
    pid: u32,
    /// The process that waits for `pid`.
    keeper: Option<i32>,
    results: File,
    value: std::marker::PhantomData<T>,
}

/// What a child says at its end, as JSON.
#[derive(Serialize, Deserialize)]
enum Word<T> {
    Value(T),
    /// It cannot be done here.
    Unsupported(String),
    Error(String),
    Panic(String),
}

/// The error of something that this kernel or machine does not have: a test that gets it is skipped.
pub fn unsupported(reason: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, reason.to_string())
}

/// Why there can be none here; `None` if there can.
pub fn unavailable() -> Option<String> {
    Layout::detect().root().is_none().then(|| "no cgroups".to_owned())
}

/// Runs a closure in a child that ends with what it returns; gives the child's id and its wait status.
pub fn in_child(body: impl FnOnce() -> i32) -> io::Result<(i32, i32)> {
    let child = fork(body)?;
    Ok((child, wait(child)?))
}

impl Sandbox {
    /// A new one without a network of its own.
    pub fn new() -> io::Result<Self> {
        Self::with(Options::default())
    }

    /// A new one.
    pub fn with(options: Options) -> io::Result<Self> {
        let layout = Layout::detect();
        let tree = layout.root().ok_or_else(|| io::Error::other("no cgroups"))?;
        sweep(tree);
        let id = new_id();
        let cgroup = make_cgroup(tree, &id)?;
        let folder =
            tempfile::Builder::new().prefix(&format!("{FOLDER_PREFIX}{}-", std::process::id())).tempdir()?;
        let path = folder.path().to_owned();
        let mut sandbox = Self { id, cgroup, init: 0, keeper: 0, namespaces: Vec::new(), _folder: folder };
        let (mut pids, theirs) = pipe()?;
        let (mut results, words) = pipe()?;
        let procs = File::options().write(true).open(sandbox.cgroup.join("cgroup.procs"))?;
        let spaces = options.spaces();
        sandbox.keeper = fork(move || {
            keep(theirs, |pids| {
                die_with_parent();
                syscall!(libc::SYS_unshare, spaces)?;
                let init = fork(move || {
                    let result = init(&path, options, procs);
                    say(&words, &word(result));
                    drop(words);
                    // Whoever is orphaned is this process's child then, and is reaped by the kernel.
                    // SAFETY: no handler is involved.
                    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
                    loop {
                        // SAFETY: no arguments.
                        unsafe { libc::pause() };
                    }
                })?;
                send_pid(pids, init)
            })
        })?;
        sandbox.init = read_pid(&mut pids)?;
        hear::<()>(&mut results)?;
        for name in ["mnt", "uts", "ipc", "net", "pid"] {
            let file = File::open(format!("/proc/{}/ns/{name}", sandbox.init))?;
            sandbox.namespaces.push(file.into());
        }
        Ok(sandbox)
    }

    /// The container's id, as the daemon must find it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder of its cgroup, seen from outside.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Its root, seen from outside.
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.init).into()
    }

    /// Runs a closure in there and waits for it.
    pub fn run<T: Serialize + DeserializeOwned>(
        &self,
        body: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<Ran<T>> {
        self.spawn(body)?.wait()
    }

    /// Starts a closure in there. What it returns is at most 60 KiB of JSON.
    pub fn spawn<T: Serialize + DeserializeOwned>(
        &self,
        body: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<Running<T>> {
        let (mut pids, theirs) = pipe()?;
        let (results, words) = pipe()?;
        let procs = File::options().write(true).open(self.cgroup.join("cgroup.procs"))?;
        let keeper = fork(|| {
            keep(theirs, |pids| {
                die_with_parent();
                (&procs).write_all(b"0")?;
                for namespace in &self.namespaces {
                    syscall!(libc::SYS_setns, namespace.as_raw_fd(), 0)?;
                }
                // The process id is of the new namespace from the next process on.
                let child = fork(move || {
                    die_with_parent();
                    let body = AssertUnwindSafe(|| std::env::set_current_dir("/").and_then(|()| body()));
                    say(&words, &catch_unwind(body).map_or_else(|panic| Word::Panic(message(&*panic)), word));
                    0
                })?;
                send_pid(pids, child)
            })
        })?;
        let pid = read_pid(&mut pids);
        let running = Running {
            pid: *pid.as_ref().unwrap_or(&0),
            keeper: Some(keeper),
            results: results.try_clone()?,
            value: std::marker::PhantomData,
        };
        pid.map(|_| running)
    }
}

impl Options {
    fn spaces(self) -> libc::c_int {
        let network = if self.network { libc::CLONE_NEWNET } else { 0 };
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | network
    }
}

impl<T: DeserializeOwned> Running<T> {
    /// The process that runs it, by the host's count.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended; [`Running::wait`] still tells how.
    pub fn is_over(&mut self) -> io::Result<bool> {
        let Some(keeper) = self.keeper else { return Ok(true) };
        // SAFETY: all zeros are a valid value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: the structure is ours to write to.
        if unsafe { libc::waitid(libc::P_PID, keeper as libc::id_t, &raw mut info, how) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(info.si_signo == libc::SIGCHLD)
    }

    /// Waits for its end.
    pub fn wait(mut self) -> io::Result<Ran<T>> {
        let status = self.keeper.take().map_or(Ok(0), wait)?;
        // The child's word is in the pipe, if it said any; processes that it left behind may hold the pipe open.
        // SAFETY: a descriptor of ours.
        unsafe { libc::fcntl(self.results.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        match hear(&mut self.results) {
            Ok(value) => Ok(Ran { pid: self.pid, value }),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(io::Error::other(format!("the process in the sandbox died: wait status {status:#x}")))
            }
            Err(error) => Err(error),
        }
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            // SAFETY: its keeper was not waited for, so the id is still the child's or nobody's.
            unsafe { libc::kill(self.pid as i32, libc::SIGKILL) };
            let _ = wait(keeper);
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.keeper != 0 {
            if self.init != 0 {
                // SAFETY: its keeper was not waited for, so the id is still its own. All in its pid namespace
                // die with it.
                unsafe { libc::kill(self.init as i32, libc::SIGKILL) };
            }
            let _ = wait(self.keeper);
        }
        if wait_for(|| remove_cgroup(&self.cgroup).then_some(())).is_none() {
            eprintln!("warning: {} could not be removed", self.cgroup.display());
        }
        // Another sandbox may be in there.
        let _ = self.cgroup.parent().map(std::fs::remove_dir);
    }
}

/// 64 hex digits that name the process that made it, so that leftovers can be told.
fn new_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let time = taffrail::clock::boot_ns();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{ID_PREFIX}{:016x}{time:032x}{number:08x}", std::process::id())
}

fn make_cgroup(tree: &Path, id: &str) -> io::Result<PathBuf> {
    let folder = tree.join("docker").join(id);
    // Another sandbox that ends may remove the folder between.
    let made = wait_for(|| match std::fs::create_dir_all(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        result => Some(result),
    });
    made.unwrap_or_else(|| Err(io::Error::other("the folder does not stay")))?;
    Ok(folder)
}

/// Removes what killed tests have left.
fn sweep(tree: &Path) {
    let is_gone = |pid: u32| !Path::new(&format!("/proc/{pid}")).exists();
    for entry in std::env::temp_dir().read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(FOLDER_PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        if pid.is_some_and(is_gone) {
            // Its mounts went with their namespace: it is empty.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
    for entry in tree.join("docker").read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(ID_PREFIX).and_then(|rest| u32::from_str_radix(rest.get(..16)?, 16).ok());
        if pid.is_some_and(is_gone) {
            remove_cgroup(&entry.path());
        }
    }
}

/// Kills what is in a cgroup and below, and removes it; false if something is still there.
fn remove_cgroup(folder: &Path) -> bool {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let processes = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0) {
        // SAFETY: a process that is in our cgroup.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    match std::fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Process 1 makes itself at home.
fn init(folder: &Path, options: Options, procs: File) -> io::Result<()> {
    die_with_parent();
    raw::mount("", "/", "", libc::MS_REC | libc::MS_PRIVATE, "")?;
    let root = make_root(folder)?;
    let root = root.to_str().ok_or_else(|| io::Error::other("a folder that is no text"))?;
    raw::mount("proc", &format!("{root}/proc"), "proc", 0, "")?;
    make_devices(&format!("{root}/dev"))?;
    enter(root)?;
    let name = "sandbox";
    syscall!(libc::SYS_sethostname, name.as_ptr(), name.len())?;
    if options.network {
        loopback_up()?;
    }
    (&procs).write_all(b"0")
}

/// An image layer and a layer above it where the kernel has overlayfs, else a plain folder.
fn make_root(folder: &Path) -> io::Result<PathBuf> {
    let base = folder.to_str().ok_or_else(|| io::Error::other("a folder that is no text"))?;
    raw::mount("sandbox", base, "tmpfs", 0, "mode=755,size=256m")?;
    let [lower, upper, work, root] = ["lower", "upper", "work", "root"].map(|name| folder.join(name));
    for path in [&lower, &upper, &work, &root] {
        std::fs::create_dir(path)?;
    }
    fill(&lower)?;
    let layers = format!("lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work");
    match raw::mount("overlay", &format!("{base}/root"), "overlay", 0, &layers) {
        Ok(()) => Ok(root),
        Err(_) => {
            // A mount of its own, which changing the root needs.
            raw::mount(&format!("{base}/lower"), &format!("{base}/root"), "", libc::MS_BIND, "")?;
            Ok(root)
        }
    }
}

/// The files of the image.
fn fill(root: &Path) -> io::Result<()> {
    for folder in ["bin", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sys", "tmp", "usr/bin", "var"]
    {
        std::fs::create_dir_all(root.join(folder))?;
    }
    let write = |name: &str, bytes: &[u8], mode: u32| {
        std::fs::write(root.join(name), bytes)?;
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode))
    };
    write("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644)?;
    write("etc/shadow", b"root:*:19000:0:99999:7:::\n", 0o600)?;
    write("etc/hosts", b"127.0.0.1 localhost\n", 0o644)?;
    write("bin/program", &raw::program(), 0o755)?;
    std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777))?;
    if Path::new(BUSYBOX).exists() {
        write("bin/busybox", &std::fs::read(BUSYBOX)?, 0o755)?;
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    Ok(())
}

fn make_devices(folder: &str) -> io::Result<()> {
    raw::mount("dev", folder, "tmpfs", libc::MS_NOSUID, "mode=755,size=64k")?;
    for (name, minor) in [("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)] {
        let path = raw::name(format!("{folder}/{name}"));
        let mode = libc::S_IFCHR | 0o666;
        syscall!(libc::SYS_mknodat, libc::AT_FDCWD, path.as_ptr(), mode, libc::makedev(1, minor))?;
    }
    symlink("/proc/self/fd", format!("{folder}/fd"))
}

/// Makes `root` the root of the mount namespace. The first root of a kernel cannot be swapped out: then the new one
/// is put over it.
fn enter(root: &str) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    let here = raw::name(".");
    match syscall!(libc::SYS_pivot_root, here.as_ptr(), here.as_ptr()) {
        // The old root is on top of the new one now.
        Ok(_) => drop(syscall!(libc::SYS_umount2, here.as_ptr(), libc::MNT_DETACH)?),
        Err(_) => {
            raw::mount(".", "/", "", libc::MS_MOVE, "")?;
            syscall!(libc::SYS_chroot, here.as_ptr())?;
        }
    }
    std::env::set_current_dir("/")
}

fn loopback_up() -> io::Result<()> {
    let socket = raw::descriptor(syscall!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, 0))?;
    // `struct ifreq`: the name, and the flags behind it.
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&(libc::IFF_UP as u16).to_ne_bytes());
    syscall!(libc::SYS_ioctl, socket.as_raw_fd(), libc::SIOCSIFFLAGS as usize, request.as_ptr()).map(drop)
}

/// Forks; the child ends with what `body` returns.
pub fn fork(body: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the child uses nothing that another thread may hold: see the top of this file.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(101);
            // SAFETY: no destructor of the parent's may run in here.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(pid),
    }
}

/// The process between the test and one in the sandbox: starts it, tells its id, waits for it.
fn keep(mut pids: File, start: impl FnOnce(&mut File) -> io::Result<i32>) -> i32 {
    match start(&mut pids) {
        Ok(child) => {
            drop(pids);
            wait(child).map_or(102, |status| i32::from(status != 0))
        }
        Err(error) => {
            let _ = writeln!(pids, "{error}");
            103
        }
    }
}

fn send_pid(pids: &mut File, pid: i32) -> io::Result<i32> {
    writeln!(pids, "{pid}")?;
    Ok(pid)
}

fn read_pid(pids: &mut File) -> io::Result<u32> {
    let line = read_line(pids)?;
    let text = String::from_utf8_lossy(&line);
    let pid = text.trim_end().parse();
    pid.map_err(|_| io::Error::other(format!("no process in the sandbox: {}", text.trim_end())))
}

/// Waits for a child; gives its wait status.
pub fn wait(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: the status is ours to write to.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn die_with_parent() {
    // Best effort: all of it is killed by name at the end.
    let _ = syscall!(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL);
}

fn pipe() -> io::Result<(File, File)> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    let reader = unsafe { File::from_raw_fd(fds[0]) };
    // SAFETY: as above.
    let writer = unsafe { File::from_raw_fd(fds[1]) };
    Ok((reader, writer))
}

fn word<T>(result: io::Result<T>) -> Word<T> {
    match result {
        Ok(value) => Word::Value(value),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Word::Unsupported(error.to_string()),
        Err(error) => Word::Error(error.to_string()),
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
}

fn say<T: Serialize>(mut words: &File, word: &Word<T>) {
    let mut line = serde_json::to_vec(word).unwrap_or_default();
    line.push(b'\n');
    // A test that hears nothing says so.
    let _ = words.write_all(&line);
}

/// Reads a child's last word, to the line's end.
fn hear<T: DeserializeOwned>(words: &mut File) -> io::Result<T> {
    let line = read_line(words)?;
    match serde_json::from_slice(&line).map_err(io::Error::other)? {
        Word::Value(value) => Ok(value),
        Word::Unsupported(reason) => Err(unsupported(reason)),
        Word::Error(error) => Err(io::Error::other(error)),
        Word::Panic(message) => Err(io::Error::other(format!("panic in the sandbox: {message}"))),
    }
}

/// Reads to the end of the line, and no further: others may still hold the other end open.
fn read_line(from: &mut File) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        match from.read(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            result => line.extend_from_slice(&byte[..result?]),
        }
    }
    Ok(line)
}
