//! The daemon's second wall, for the case that somebody takes it over: once it is at work it holds only the rights that
//! it uses, starts no program, and writes below its own folders only. It does not decide what the daemon may be told to
//! do; that is the configuration's.
//!
//! Rights, Landlock's domain and filters are a thread's own and are inherited by threads that it starts, so there are two
//! [roles](Role). Whoever runs code in one thread can make the others do things, since they share memory: what no
//! thread can do is what is prevented for sure.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use landlock::{
    ABI, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, make_bitflags,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use seccompiler::BpfProgram;
use serde_json::{Value, json};
use thiserror::Error;

use crate::audit::{OpenError, make_folder};
use crate::config::Settings;

mod filter;

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It looks into other processes, below `/proc`. Landlock forbids just that, so that such a thread is in no domain; a
    /// filter keeps it from changing files and from making and connecting sockets.
    Look,
    /// All else: it is in a domain that can write below the daemon's folders, and listen where it was told to only.
    Work,
}

impl Role {
    /// The rights that it uses, of those that the daemon was given.
    fn rights(self) -> CapabilitySet {
        // To read what runtimes of others say and to name cgroups; to hurry.
        let both = CapabilitySet::DAC_READ_SEARCH | CapabilitySet::SYS_NICE;
        both | match self {
            Self::Look => CapabilitySet::SYS_PTRACE,
            // Sockets of users' runtimes, and a log in a folder that is not root's.
            Self::Work => CapabilitySet::DAC_OVERRIDE,
        }
    }
}

/// Why the daemon cannot confine itself.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// A folder of its own is not there, and cannot be made.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// The kernel does not want to.
    #[error("cannot confine the daemon: {what}")]
    Refused {
        /// What was refused.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ConfineError {
    fn refused(what: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Refused { what, source: source.into() }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Folder(error) => error.hint(),
            Self::Refused { .. } => "`-o daemon.confine=false` goes without",
        }
    }
}

/// What holds the daemon back; each is `Ok` with how, or an error with the reason why it does not.
#[derive(Clone, Debug)]
pub struct State {
    /// The filters of system calls.
    pub seccomp: Result<String, String>,
    /// Where it can write.
    pub landlock: Result<String, String>,
}

impl State {
    /// What works, and what does not.
    pub fn split(&self) -> (Vec<&str>, Vec<&str>) {
        let all = [&self.seccomp, &self.landlock];
        let by = all.iter().filter_map(|wall| wall.as_deref().ok()).collect();
        (by, all.iter().filter_map(|wall| wall.as_ref().err().map(String::as_str)).collect())
    }

    /// As the log has it.
    pub fn to_json(&self) -> Value {
        let (by, not) = self.split();
        json!({ "by": by, "not": not })
    }
}

/// How the daemon confines itself.
pub struct Confinement {
    /// `None`: it was told not to.
    walls: Option<Walls>,
    /// A right that reading maps takes on this kernel.
    maps: CapabilitySet,
    /// Folders that were not there in time: nothing can be written there.
    pub closed: Vec<PathBuf>,
    /// What holds it back.
    pub state: State,
}

struct Walls {
    domain: RulesetCreated,
    /// What each role is refused besides; nothing without seccomp.
    look: Vec<BpfProgram>,
    work: Vec<BpfProgram>,
}

impl Confinement {
    /// Forbids what no thread ever does. To be called while there is only one thread.
    pub fn begin(settings: &Settings) -> Result<Self, ConfineError> {
        let maps = CapabilitySet::empty();
        if !settings.confine {
            let off = || Err("`daemon.confine` is off".to_owned());
            let state = State { seccomp: off(), landlock: off() };
            return Ok(Self { walls: None, maps, closed: Vec::new(), state });
        }
        rustix::thread::set_no_new_privs(true)
            .map_err(|error| ConfineError::refused("no_new_privs", error))?;
        let compiled = |error: seccompiler::BackendError| ConfineError::refused("seccomp", error);
        let seccomp = filter(&filter::never().map_err(compiled)?);
        let state = State { landlock: landlock(), seccomp };
        let (domain, closed) = domain(settings)?;
        let mut walls = Walls { domain, look: Vec::new(), work: Vec::new() };
        if state.seccomp.is_ok() {
            let no_attributes = filter::no_attributes().map_err(compiled)?;
            walls.look = vec![no_attributes.clone(), filter::no_changes().map_err(compiled)?];
            walls.work = vec![no_attributes];
            if settings.sockets.is_empty() {
                walls.work.push(filter::no_callers().map_err(compiled)?);
            }
        }
        Ok(Self { walls: Some(walls), maps, closed, state })
    }

    /// Keeps the right to the kernel's maps for threads from now on, if `answers`, which reads one, does not work without.
    pub fn keep_maps(&mut self, answers: impl Fn() -> bool) -> io::Result<()> {
        let held = capabilities(None)?;
        let either = CapabilitySet::BPF | CapabilitySet::SYS_ADMIN;
        set_capabilities(None, CapabilitySets { effective: held.effective - either, ..held })?;
        let can_do_without = answers();
        set_capabilities(None, held)?;
        if !can_do_without {
            let narrow = held.effective.contains(CapabilitySet::BPF);
            self.maps = if narrow { CapabilitySet::BPF } else { CapabilitySet::SYS_ADMIN };
        }
        Ok(())
    }

    /// Confines the calling thread, for good.
    pub fn enter(&self, role: Role) -> Result<(), ConfineError> {
        let Some(Walls { domain, look, work }) = &self.walls else { return Ok(()) };
        let filters = match role {
            Role::Look => look,
            Role::Work => work,
        };
        for filter in filters {
            seccompiler::apply_filter(filter).map_err(|error| ConfineError::refused("seccomp", error))?;
        }
        if role == Role::Work {
            let refused =
                |error: Box<dyn std::error::Error + Send + Sync>| ConfineError::refused("Landlock", error);
            let domain = domain.try_clone().map_err(|error| refused(error.into()))?;
            domain.restrict_self().map_err(|error| refused(error.into()))?;
        }
        hold(role.rights() | self.maps).map_err(|error| ConfineError::refused("capabilities", error))
    }

    /// Does something on a thread with that role, so that the threads which it starts have it.
    pub fn within<T: Send>(&self, role: Role, work: impl FnOnce() -> T + Send) -> Result<T, ConfineError> {
        std::thread::scope(|threads| {
            let thread = std::thread::Builder::new()
                .name("confine".to_owned())
                .spawn_scoped(threads, || self.enter(role).map(|()| work()));
            let thread = thread.map_err(|error| ConfineError::refused("a thread", error))?;
            thread.join().map_err(|_| ConfineError::refused("a thread", "it panicked"))?
        })
    }
}

/// What would hold a daemon back here, tried on a thread that then ends.
pub fn trial() -> State {
    let seccomp = aside(|| filter(&filter::never().map_err(|error| error.to_string())?));
    State { seccomp, landlock: landlock() }
}

/// Tries something on a thread that then ends.
fn aside(work: impl FnOnce() -> Result<String, String> + Send) -> Result<String, String> {
    std::thread::scope(|threads| {
        threads.spawn(work).join().unwrap_or_else(|_| Err("the thread that tried it panicked".to_owned()))
    })
}

/// Applies filters to this thread.
fn filter(filters: &[BpfProgram]) -> Result<String, String> {
    for filter in filters {
        seccompiler::apply_filter(filter).map_err(|error| format!("no seccomp: {error}"))?;
    }
    Ok("seccomp".to_owned())
}

/// What this kernel has of Landlock.
fn landlock() -> Result<String, String> {
    let tried = || {
        let rules = Ruleset::default().handle_access(AccessFs::Execute)?.create()?;
        Ok(rules.restrict_self()?.landlock)
    };
    aside(move || match tried().map_err(|error: RulesetError| format!("no Landlock: {error}"))? {
        LandlockStatus::NotEnabled => Err("no Landlock: it is not in the kernel's list `lsm=`".to_owned()),
        LandlockStatus::NotImplemented => {
            Err("no Landlock: it needs Linux 5.13, and to be allowed by the seccomp profile".to_owned())
        }
        LandlockStatus::Available { effective_abi, .. } => {
            Ok(format!("Landlock (version {})", effective_abi as i32))
        }
    })
}

/// Drops all rights but these, of those that this thread has.
fn hold(rights: CapabilitySet) -> io::Result<()> {
    let held = capabilities(None)?.permitted & rights;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: held, permitted: held, inheritable })?;
    Ok(())
}

/// The newest version of Landlock of which something is used; of older ones what they have.
const VERSION: ABI = ABI::V5;

/// In a folder of the daemon's own: all but devices, pipes and links.
const OWN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    WriteFile | Truncate | MakeReg | MakeSock | MakeDir | RemoveFile | RemoveDir | Refer
});

/// In a folder that has a file to append to.
const APPEND: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ WriteFile | Truncate | MakeReg });

/// The domain of threads that work, and folders that are not in it since they do not answer or are not there.
fn domain(settings: &Settings) -> Result<(RulesetCreated, Vec<PathBuf>), ConfineError> {
    let refused = |error: RulesetError| ConfineError::refused("Landlock", error);
    let mut domain = Ruleset::default()
        .handle_access(AccessFs::from_write(VERSION) | AccessFs::Execute)
        .and_then(|rules| rules.handle_access(AccessNet::BindTcp))
        .and_then(Ruleset::create)
        .map_err(refused)?;
    if let Some(address) = settings.api.listen {
        // Another process can have the port at first.
        domain = domain.add_rule(NetPort::new(address.port(), AccessNet::BindTcp)).map_err(refused)?;
    }
    for path in [Some(&settings.log_dir), settings.log.key_folder.as_ref()].into_iter().flatten() {
        let unusable = |source: io::Error| OpenError::Folder { path: path.clone(), source };
        make_folder(path).map_err(unusable)?;
        let folder = PathFd::new(path).map_err(|error| unusable(io::Error::other(error)))?;
        domain = domain.add_rule(PathBeneath::new(folder, OWN)).map_err(refused)?;
    }
    let mut closed = Vec::new();
    for folder in appended(settings) {
        match open_in_time(&folder) {
            Some(opened) => {
                domain = domain.add_rule(PathBeneath::new(opened, APPEND)).map_err(refused)?;
            }
            None => closed.push(folder),
        }
    }
    Ok((domain, closed))
}

/// Folders of files that the daemon was told to append to.
fn appended(settings: &Settings) -> Vec<PathBuf> {
    let exported = settings.exporters.iter().filter(|exporter| exporter.receiver.scheme == "file");
    let exported = exported.filter_map(|exporter| exporter.to.to_file_path().ok());
    let files = settings.log.anchor.iter().cloned().chain(exported);
    files.filter_map(|file| file.parent().map(Path::to_owned)).collect()
}

/// Opens a folder that may be another machine's, which may not answer.
fn open_in_time(path: &Path) -> Option<PathFd> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let (opened, opening) = mpsc::sync_channel::<Result<PathFd, PathFdError>>(1);
    let path = path.to_owned();
    // If it hangs, it hangs alone, and with no rights that it could be used for.
    let open = move || {
        if hold(Role::Work.rights()).is_ok() {
            let _ = opened.send(PathFd::new(path));
        }
    };
    std::thread::Builder::new().name("open".to_owned()).spawn(open).ok()?;
    opening.recv_timeout(PATIENCE).ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_appended_to_open_a_folder_besides() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let text = "log: {anchor: /anchors/a}\nexport:\n  a: {to: 'file:///exports/b.json'}\n  \
                    b: {to: 'syslog+unix:///sockets/c'}\n  c: {to: 'syslog+tls://localhost:6514'}\n";
        std::fs::write(&path, text).unwrap();
        let settings = crate::config::load(Some(&path), &[]).unwrap();
        assert_eq!(appended(&settings), ["/anchors", "/exports"].map(PathBuf::from));
    }

    #[test]
    fn folder_that_is_not_there_is_not_waited_for() {
        assert!(open_in_time(Path::new("/nowhere/at/all")).is_none());
    }
}
