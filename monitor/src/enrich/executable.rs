//! SHA-256 of executables, for rules that ask for it. Each version of a file is read once, on a thread of its own that
//! takes turns between containers: one that starts many large programs delays its own events, and those of nobody else
//! by more than one file. What is read is in hostile hands: only what the kernel has told of is taken, only regular
//! files of file systems that answer are opened, and only so much is read.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use rustix::fs::Statx;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use taffrail_common::event::{Exec, path_flag};

use super::reach::{self, device, find_in, open_root, read_regular};
use crate::clock;
use crate::rules::hex;

/// One version of a file: a change of it changes its `ctime`, which nobody can set. Not so what is written through a
/// mapping of a file in memory: of such each start is a version of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Device (major << 20 | minor).
    pub dev: u32,
    /// Inode number.
    pub ino: u64,
    /// When the inode was changed last, in ns since the epoch; 0 if not known.
    pub ctime_ns: u64,
    /// Its length.
    pub bytes: u64,
    /// If it is in memory: when it was started, by the boot clock in ns.
    #[serde(default)]
    pub started_ns: u64,
}

impl Version {
    /// Of what an exec has started.
    pub fn of(exec: &Exec) -> Self {
        let Exec { exe, exe_ctime_ns: ctime_ns, exe_bytes: bytes, .. } = *exec;
        let started_ns = if exe.flags & path_flag::TMPFS != 0 { exec.header.boot_ns } else { 0 };
        Self { dev: exe.dev, ino: exe.ino, ctime_ns, bytes, started_ns }
    }

    /// Of what a process runs now; its file system is not asked.
    pub fn of_process(pid: u32) -> Option<Self> {
        let stat = reach::stat(&open_path(&format!("/proc/{pid}/exe")).ok()?).ok()?;
        let (dev, ctime_ns) = (device(&stat), ctime_ns(&stat));
        Some(Self { dev, ino: stat.stx_ino, ctime_ns, bytes: stat.stx_size, started_ns: 0 })
    }
}

/// The hash of a file in hexadecimal digits, or why there is none.
pub type Digest = Result<String, Missing>;

/// A hash that may still be under way: shared by all that run the file.
pub type Slot = OnceLock<Digest>;

/// Why there is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// It has more bytes than are read.
    TooLarge,
    /// The process had ended, and its container's root does not have the file.
    Gone,
    /// The process had ended, and the file is not what it was any more.
    Changed,
    /// It is on a file system that need not answer, or is none that could be read.
    Unreadable,
    /// Too many files of its container were waiting.
    Crowded,
}

impl Missing {
    /// The name in fields and formats.
    pub fn name(self) -> &'static str {
        match self {
            Missing::TooLarge => "too_large",
            Missing::Gone => "gone",
            Missing::Changed => "changed",
            Missing::Unreadable => "unreadable",
            Missing::Crowded => "crowded",
        }
    }

    /// Whether another process that runs the file may have better luck.
    fn is_of_the_process(self) -> bool {
        self != Missing::TooLarge
    }
}

/// Most bytes of a file that are read.
const BYTES_MAX: u64 = 256 << 20;

/// Versions that are remembered, at most; then all are forgotten but by who runs them.
const KNOWN_MAX: usize = 8192;

/// Questions on their way to the thread, at most.
const QUESTIONS: usize = 1024;

/// Turns that are taken, at most.
const TURNS_MAX: usize = 1024;

/// A reason is not asked about again for so long.
const ANEW: Duration = Duration::from_secs(1);

/// To read the largest file takes less.
const STUCK_NS: u64 = 10_000_000_000;

/// Files of one container that wait, at most.
const TURN_MAX: usize = 128;

/// What is known of all versions.
pub struct Executables {
    /// `None`: nobody wants to know, or a recording tells it.
    hasher: Option<SyncSender<Question>>,
    /// Since when the thread has been at one file, by the boot clock; 0: it is at none.
    busy_since_ns: Arc<AtomicU64>,
    known: HashMap<Version, Known>,
    wait: Duration,
    stats: Stats,
}

struct Known {
    slot: Arc<Slot>,
    asked: Instant,
    /// Whether the file could be looked for in its container's root.
    has_root: bool,
    is_told: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Programs whose hash was there in time.
    pub known: u64,
    /// Programs without one, for whatever reason.
    pub missing: u64,
    /// Programs whose hash was to come when their event could wait no longer.
    pub late: u64,
}

/// Whoever runs a file, as far as it helps to find that.
#[derive(Clone, Debug, Default)]
pub struct Runner {
    /// Process id on the host.
    pub pid: u32,
    /// Whose turn it takes: the container's cgroup, or the host.
    pub turn: u64,
    /// Where the host has the root of its container; the host's own is `/`. `None`: not known yet.
    pub root: Option<String>,
}

/// A file to be read.
struct Question {
    version: Version,
    path: Box<[u8]>,
    flags: u32,
    runner: Runner,
    slot: Arc<Slot>,
}

impl Executables {
    /// One that knows nothing, and asks nobody.
    pub fn new(wait: Duration) -> Self {
        let busy_since_ns = Arc::default();
        Self { hasher: None, busy_since_ns, known: HashMap::new(), wait, stats: Stats::default() }
    }

    /// How long an event waits for the hash.
    pub fn set_wait(&mut self, wait: Duration) {
        self.wait = wait;
    }

    /// Whether files are read.
    pub fn is_on(&self) -> bool {
        self.hasher.is_some()
    }

    /// From here on files are read.
    pub fn start(&mut self) -> io::Result<()> {
        let (hasher, questions) = sync_channel(QUESTIONS);
        // Later it may not be made any more.
        if reach::memory().is_none() {
            eprintln!(
                "warning: programs in memory will have no hash (`unreadable`): memfd_create is refused"
            );
        }
        let busy = Arc::clone(&self.busy_since_ns);
        std::thread::Builder::new().name("hash".to_owned()).spawn(move || run(&questions, &busy))?;
        self.hasher = Some(hasher);
        Ok(())
    }

    /// What came of it.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Whether the hash of an executable is there, or will not come in time; asks for it if nobody has. `runner` is
    /// called if somebody has to be asked.
    pub fn is_ready(
        &mut self,
        version: Version,
        path: &[u8],
        flags: u32,
        runner: impl Fn() -> Runner,
    ) -> bool {
        let Some(hasher) = &self.hasher else { return true };
        let mut has_root = false;
        if let Some(known) = self.known.get(&version) {
            match known.slot.get() {
                // Its container's root was not known yet.
                Some(Err(Missing::Gone)) if !known.has_root && runner().root.is_some() => has_root = true,
                // Why there was none for another process, at another time.
                Some(Err(missing))
                    if missing.is_of_the_process() && known.asked.elapsed() >= self.wait.max(ANEW) => {}
                Some(_) => return true,
                None => return known.asked.elapsed() >= self.wait || self.is_stuck(),
            }
        }
        let runner = runner();
        has_root |= runner.root.is_some();
        let slot = Arc::<Slot>::default();
        let question = Question { version, path: path.into(), flags, runner, slot: Arc::clone(&slot) };
        let is_asked = hasher.try_send(question).is_ok();
        if !is_asked {
            let _ = slot.set(Err(Missing::Crowded));
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(version, Known { slot, asked: Instant::now(), has_root, is_told: false });
        !is_asked
    }

    /// Whether the thread waits for a file system that does not answer, though it looked as if it would: nobody waits for it.
    fn is_stuck(&self) -> bool {
        let since_ns = self.busy_since_ns.load(Ordering::Relaxed);
        since_ns != 0 && clock::boot_ns().saturating_sub(since_ns) > STUCK_NS
    }

    /// Takes in what a recording says.
    pub fn recall(&mut self, version: Version, digest: Digest) {
        let slot = Arc::new(Slot::from(digest));
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(version, Known { slot, asked: Instant::now(), has_root: true, is_told: true });
    }

    /// The hash of what a process runs now, which may still be under way; and whether that is told for the first time.
    pub fn of(&mut self, version: Version) -> Option<(Arc<Slot>, bool)> {
        let known = self.known.get_mut(&version)?;
        let slot = Arc::clone(&known.slot);
        let is_new = slot.get().is_some() && !std::mem::replace(&mut known.is_told, true);
        match slot.get() {
            Some(Ok(_)) => self.stats.known += 1,
            Some(Err(missing)) => {
                self.stats.missing += 1;
                // The next one that runs it is asked again.
                if self.hasher.is_some() && missing.is_of_the_process() {
                    self.known.remove(&version);
                }
            }
            None => self.stats.late += 1,
        }
        Some((slot, is_new))
    }
}

/// Files that wait, by whose they are.
#[derive(Default)]
struct Turns(VecDeque<(u64, VecDeque<Question>)>);

impl Turns {
    fn push(&mut self, question: Question) {
        let turn = question.runner.turn;
        let is_full = self.0.len() >= TURNS_MAX;
        match self.0.iter_mut().find(|(of, _)| *of == turn) {
            Some((_, waiting)) if waiting.len() >= TURN_MAX => {
                let _ = question.slot.set(Err(Missing::Crowded));
            }
            Some((_, waiting)) => waiting.push_back(question),
            None if is_full => {
                let _ = question.slot.set(Err(Missing::Crowded));
            }
            None => self.0.push_back((turn, VecDeque::from([question]))),
        }
    }

    /// One of whoever has waited longest for a turn.
    fn pop(&mut self) -> Option<Question> {
        let (turn, mut waiting) = self.0.pop_front()?;
        let question = waiting.pop_front();
        if !waiting.is_empty() {
            self.0.push_back((turn, waiting));
        }
        question
    }
}

fn run(questions: &Receiver<Question>, busy_since_ns: &AtomicU64) {
    let mut turns = Turns::default();
    let mut buffer = vec![0; 1 << 17];
    loop {
        if turns.0.is_empty() {
            match questions.recv() {
                Ok(question) => turns.push(question),
                Err(_) => return,
            }
        }
        loop {
            match questions.try_recv() {
                Ok(question) => turns.push(question),
                Err(TryRecvError::Empty) => break,
                // Nobody waits for the others.
                Err(TryRecvError::Disconnected) => return,
            }
        }
        if let Some(question) = turns.pop() {
            busy_since_ns.store(clock::boot_ns(), Ordering::Relaxed);
            let _ = question.slot.set(digest(&question, &mut buffer));
            busy_since_ns.store(0, Ordering::Relaxed);
        }
    }
}

/// Reads a file.
fn digest(question: &Question, buffer: &mut [u8]) -> Digest {
    let Question { version, path, flags, runner, slot: _ } = question;
    if version.bytes > BYTES_MAX {
        return Err(Missing::TooLarge);
    }
    let link = format!("/proc/{}/exe", runner.pid);
    let is_it = |found: &File| Found::of(found, runner.pid, *flags).filter(|found| found.is(version));
    let by_process = open_path(&link).ok().and_then(|file| Some((is_it(&file)?, file)));
    if let Some((found, file)) = by_process {
        let (digest, is_same) = found.read(&file, version, buffer)?;
        // Nobody can write to what somebody runs: only its name, owner or mode may have changed.
        let is_running = || open_path(&link).ok().is_some_and(|file| is_it(&file).is_some());
        return if is_same || is_running() { Ok(digest) } else { Err(Missing::Changed) };
    }
    // What is in memory can have been written to meanwhile, and show nothing of it.
    if version.started_ns != 0 {
        return Err(Missing::Gone);
    }
    let in_root = || {
        let root = open_root(Path::new(runner.root.as_ref()?), runner.pid)?;
        find_in(&root, &CString::new(&**path).ok()?).ok()
    };
    let file = in_root().ok_or(Missing::Gone)?;
    let found = is_it(&file).ok_or(Missing::Gone)?;
    match found.read(&file, version, buffer)? {
        (digest, true) => Ok(digest),
        (_, false) => Err(Missing::Changed),
    }
}

/// Opens what a link of `/proc` leads to, without a question to its file system.
fn open_path(link: &str) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH).open(link)
}

/// A file that was found.
struct Found {
    stat: Statx,
    /// Device of its mount, if that is known.
    mount_dev: Option<u32>,
    is_trusted: bool,
}

impl Found {
    /// What a file is; `flags` are those that the kernel told of the file it is to be.
    fn of(file: &File, pid: u32, flags: u32) -> Option<Self> {
        let stat = reach::stat(file).ok()?;
        let mount = reach::mount(&stat, pid);
        let mount_dev = mount.as_ref().map(|mount| mount.dev);
        let is_trusted = match &mount {
            // A memfd is on no mount.
            None => flags & path_flag::TMPFS != 0 && Some(device(&stat)) == reach::memory(),
            Some(mount) if mount.is_overlay => reach::is_hosts(mount.dev),
            Some(mount) => mount.is_trusted,
        };
        Some(Self { stat, mount_dev, is_trusted })
    }

    /// Whether it is the file that the kernel told of: an inode may have two numbers, one for people.
    fn is(&self, version: &Version) -> bool {
        let is_on = device(&self.stat) == version.dev || self.mount_dev == Some(version.dev);
        is_on && self.stat.stx_ino == version.ino
    }

    /// The hash of it, and whether it is still the same version.
    fn read(&self, file: &File, version: &Version, buffer: &mut [u8]) -> Result<(String, bool), Missing> {
        if !self.is_trusted {
            return Err(Missing::Unreadable);
        }
        let unreadable = |_| Missing::Unreadable;
        let mut file = read_regular(file).map_err(unreadable)?;
        let mut hash = Sha256::new();
        let mut total = 0;
        loop {
            let read = file.read(buffer).map_err(unreadable)?;
            if read == 0 {
                break;
            }
            total += read as u64;
            if total > BYTES_MAX {
                return Err(Missing::TooLarge);
            }
            hash.update(&buffer[..read]);
        }
        let after = reach::stat(&file).map_err(unreadable)?;
        let is_same = ctime_ns(&after) == version.ctime_ns && total == version.bytes;
        Ok((hex(&hash.finalize()), is_same))
    }
}

/// When a file was changed last, in ns since the epoch.
fn ctime_ns(stat: &Statx) -> u64 {
    let time = stat.stx_ctime;
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000) + u64::from(time.tv_nsec)
}

#[cfg(test)]
mod tests;
