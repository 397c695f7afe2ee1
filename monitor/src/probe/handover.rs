//! Probes that outlive their daemon. Their links and rings are pinned in a BPF file system, so that they go on
//! collecting when the daemon ends or is killed. The next daemon attaches probes of its own first, then takes the
//! old ones off, and reads what is left in their rings: it does not matter whether both are of one version, as long as
//! records look alike. Nothing that is found there stops a start.
//!
//! One daemon at a time has the folder ([`Claim`]): to another one, its probes would be a leftover.
//!
//! One folder in there is one generation: `000001-LAYOUT`, with the tree of cgroups if that is one of v1: the same id is another cgroup in
//! another tree. Which events the last daemon has dealt with, it leaves in a map
//! ([`Ledger`]); what it had taken out of the rings and not dealt with is gone with it, and known by number.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use aya::Pod;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::pin::PinError as AyaPinError;
use aya::programs::links::{FdLink, PinnedLink};
use sha2::{Digest as _, Sha256};
use taffrail_common::kind::KINDS;
use taffrail_common::map::{Handled, TALLIES, Tally};
use thiserror::Error;

use super::loss::{TalliesPod, total};
use super::receive::Receiver;
use crate::enrich::cgroup::{Hierarchy, Layout};
use crate::rules::hex;

/// How records and maps are laid out, as the test of the layout knows it.
const LAYOUT: &str = include_str!("../../../monitor-common/tests/layout.golden");

/// Why something cannot be pinned.
#[derive(Debug, Error)]
pub enum PinError {
    /// The folder cannot be made or read.
    #[error(transparent)]
    Folder(#[from] io::Error),
    /// The kernel refused.
    #[error(transparent)]
    Refused(#[from] AyaPinError),
    /// The folder is another daemon's, or `unload` is at work there.
    #[error("another daemon has that folder")]
    InUse,
}

/// The folder, for this process alone until this is dropped.
pub struct Claim {
    _folder: File,
}

impl Claim {
    /// Takes a folder, and makes it if it is not there.
    pub fn take(root: &Path) -> Result<Self, PinError> {
        std::fs::create_dir_all(root)?;
        Self::of(root)
    }

    /// The lock is the folder's own: there are no files in a BPF file system, and pods that share it may share nothing else.
    fn of(root: &Path) -> Result<Self, PinError> {
        let folder = File::open(root)?;
        match folder.try_lock() {
            Ok(()) => Ok(Self { _folder: folder }),
            Err(TryLockError::WouldBlock) => Err(PinError::InUse),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

/// The first hex digits of the layout's hash, and the tree of cgroups.
fn layout(cgroups: &Layout) -> String {
    let hash = hex(&Sha256::digest(LAYOUT));
    match cgroups.hierarchy() {
        Some(Hierarchy { controller, id, .. }) => format!("{}-{controller}-{id}", &hash[..16]),
        None => hash[..16].to_owned(),
    }
}

/// Where this is, all probes were attached. A start that was ended before has left maps, and nobody who watches.
const LAST_LINK: &str = "link-0";

/// The pins of this daemon's probes.
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Makes the folder of a new generation.
    pub fn create(root: &Path, cgroups: &Layout) -> Result<Self, PinError> {
        let last = generations(root)?.last().map_or(0, |(number, _)| *number);
        let folder = root.join(format!("{:06}-{}", last + 1, layout(cgroups)));
        std::fs::create_dir(&folder)?;
        Ok(Self { folder })
    }

    /// Keeps a map.
    pub fn map(&self, name: &str, map: &Map) -> Result<(), PinError> {
        Ok(map.pin(self.folder.join(name))?)
    }

    /// Keeps what is attached; [`LAST_LINK`] as the last one.
    pub fn links(&self, links: &mut Vec<FdLink>) -> Result<(), PinError> {
        for (number, link) in std::mem::take(links).into_iter().enumerate().rev() {
            links.push(link.pin(self.folder.join(format!("link-{number}")))?.into());
        }
        Ok(())
    }
}

/// The folders of generations, oldest first.
fn generations(root: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.split_once('-')?.0.parse().ok());
        if let (Some(number), true) = (number, entry.file_type()?.is_dir()) {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Takes all probes off that were left in a folder. Returns how many generations there were.
pub fn unload(root: &Path) -> Result<usize, PinError> {
    let _claim = Claim::of(root)?;
    let found = generations(root)?;
    for (_, folder) in &found {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(found.len())
}

/// Probes that an earlier daemon has left at work.
pub struct Left {
    folder: PathBuf,
    /// `None`: their records are of another layout, or something is missing.
    maps: Option<Maps>,
    has_links: bool,
}

struct Maps {
    rings: Receiver,
    tally: PerCpuArray<MapData, TalliesPod>,
    handled: Handled,
}

/// Whether somebody watched all the time since a daemon has written down how far it was.
pub fn is_watched(left: &[Left]) -> bool {
    left.iter().any(Left::is_attached)
        && left.iter().filter_map(Left::handled).any(|handled| handled.boot_ns > 0)
}

/// What became of the events that such probes have seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// By kind: were taken by the daemon that ended, and are not known to have been dealt with.
    pub unfinished: [u64; KINDS],
    /// By kind: found no room in the rings, and the log does not say so.
    pub lost: [u64; KINDS],
}

/// All that earlier daemons have left, oldest first, and what of it is of no use.
pub fn left(root: &Path, cgroups: &Layout) -> (Vec<Left>, Vec<String>) {
    let found = match generations(root) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), Vec::new()),
        Err(error) => return (Vec::new(), vec![format!("{}: {error}", root.display())]),
    };
    let mut problems = Vec::new();
    let all = found.into_iter().map(|(_, folder)| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let maps = if name.split_once('-').is_some_and(|(_, of)| of == layout(cgroups)) {
            Maps::open(&folder).map_err(|error| error.to_string())
        } else {
            Err("its records are of another version, or of another tree of cgroups".to_owned())
        };
        let maps = maps.map_err(|error| problems.push(format!("{}: {error}", folder.display()))).ok();
        let has_links = folder.join(LAST_LINK).exists();
        Left { folder, maps, has_links }
    });
    (all.collect(), problems)
}

impl Maps {
    fn open(folder: &Path) -> Result<Self, MapError> {
        let map = |name: &str| MapData::from_pin(folder.join(name));
        let ring = |name| RingBuf::try_from(Map::RingBuf(map(name)?));
        let handled = Array::<_, HandledPod>::try_from(Map::Array(map("HANDLED")?))?;
        let HandledPod(handled) = handled.get(&0, 0)?;
        Ok(Self {
            rings: Receiver::new(ring("URGENT")?, ring("BULK")?)?,
            tally: PerCpuArray::try_from(Map::PerCpuArray(map("TALLY")?))?,
            handled,
        })
    }
}

impl Left {
    /// Whether they were attached when they were found, and can be read.
    pub fn is_attached(&self) -> bool {
        self.has_links && self.maps.is_some()
    }

    /// What the daemon had dealt with; `None` if that cannot be read.
    pub fn handled(&self) -> Option<Handled> {
        Some(self.maps.as_ref()?.handled)
    }

    /// Takes the probes off. Their rings stay to be read.
    pub fn detach(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with("link-") {
                continue;
            }
            // Whoever closes the last descriptor waits until nothing runs any more; who only unlinks does not.
            let link = PinnedLink::from_pin(entry.path());
            std::fs::remove_file(entry.path())?;
            drop(link);
        }
        Ok(())
    }

    /// Hands out what is in the rings, oldest first.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8])) {
        let Some(Maps { rings, .. }) = &mut self.maps else { return };
        let more = rings.round(u64::MAX, |record| {
            take(record);
            true
        });
        debug_assert!(!more, "all was asked for");
    }

    /// What became of all that they saw, when so many of each kind were in the rings and the log has so many behind what
    /// was left word of.
    pub fn account(&self, drained: &[u64; KINDS], logged: &[u64; KINDS]) -> Option<Account> {
        let Maps { tally, handled, .. } = self.maps.as_ref()?;
        let tallies = total(tally);
        Some(account(&tallies, handled, drained, logged))
    }

    /// Removes all that is left of them.
    pub fn remove(self) -> io::Result<()> {
        drop(self.maps);
        std::fs::remove_dir_all(self.folder)
    }
}

fn account(
    tallies: &[Tally; KINDS],
    handled: &Handled,
    drained: &[u64; KINDS],
    logged: &[u64; KINDS],
) -> Account {
    let mut account = Account { unfinished: [0; KINDS], lost: [0; KINDS] };
    for (kind, Tally { offered, lost }) in tallies.iter().enumerate() {
        let dealt = handled.kinds[kind];
        let known = (lost + drained[kind] + logged[kind]).wrapping_add(dealt.events);
        account.unfinished[kind] = u64::try_from(offered.wrapping_sub(known) as i64).unwrap_or(0);
        account.lost[kind] = lost.saturating_sub(dealt.lost);
    }
    account
}

/// [`Handled`] as a map value.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct HandledPod(Handled);

// SAFETY: integers only, without padding.
unsafe impl Pod for HandledPod {}

/// Keeps count of what this daemon deals with, where the next one finds it.
pub struct Ledger {
    map: Array<MapData, HandledPod>,
    now: Handled,
    /// What to write down once so many entries of the log are settled.
    waiting: Option<(Handled, u64)>,
    is_new: bool,
}

/// How far the log is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Entries that it was handed.
    pub sent: u64,
    /// Those of them that are durable or told as lost.
    pub settled: u64,
    /// The last durable record.
    pub seq: u64,
    /// The log's folder: device and inode.
    pub log: [u64; 2],
}

impl Ledger {
    /// In the map of that name.
    pub(super) fn new(map: Map) -> Option<Self> {
        let kinds = [taffrail_common::map::Dealt::default(); TALLIES];
        let now = Handled { log: [0; 2], seq: 0, boot_ns: 0, kinds };
        Some(Self { map: Array::try_from(map).ok()?, now, waiting: None, is_new: true })
    }

    /// One event of that kind is dealt with; its records, if it has any, are handed to the log.
    pub fn event(&mut self, kind: u16) {
        if let Some(dealt) = self.now.kinds.get_mut(usize::from(kind)) {
            dealt.events = dealt.events.wrapping_add(1);
            self.is_new = true;
        }
    }

    /// One event of the daemon before is to be dealt with.
    pub fn taken_over(&mut self, kind: u16) {
        if let Some(dealt) = self.now.kinds.get_mut(usize::from(kind)) {
            dealt.events = dealt.events.wrapping_sub(1);
            self.is_new = true;
        }
    }

    /// The log was handed a gap of so many that found no room.
    pub fn lost(&mut self, kind: u16, count: u64) {
        if let Some(dealt) = self.now.kinds.get_mut(usize::from(kind)) {
            dealt.lost += count;
            self.is_new = true;
        }
    }

    /// Whether something is not written down yet.
    pub fn is_behind(&self) -> bool {
        self.is_new || self.waiting.is_some()
    }

    /// Writes down what is settled by now. What came after that stays to be told by the log itself.
    pub fn settle(&mut self, log: Progress, boot_ns: u64) {
        if self.waiting.is_none() && self.is_new {
            self.waiting = Some((Handled { boot_ns, ..self.now }, log.sent));
            self.is_new = false;
        }
        let Some((handled, sent)) = self.waiting.take_if(|(_, sent)| log.settled >= *sent) else { return };
        // What was handed in later has its own records.
        let seq = log.seq.saturating_sub(log.settled - sent);
        let handled = Handled { log: log.log, seq, ..handled };
        // The next time it is written again.
        self.is_new |= self.map.set(0, &HandledPod(handled), 0).is_err();
    }
}

#[cfg(test)]
mod tests {
    use taffrail_common::kind::{EXEC, OPEN, SIGNAL};
    use taffrail_common::map::Dealt;

    use super::*;

    #[test]
    fn what_was_neither_lost_nor_read_nor_dealt_with_is_unfinished() {
        let mut tallies = [Tally::default(); KINDS];
        let mut handled = Handled { log: [1, 2], seq: 7, boot_ns: 1, kinds: [Dealt::default(); TALLIES] };
        let [mut drained, mut logged] = [[0; KINDS]; 2];
        let (open, exec) = (usize::from(OPEN), usize::from(EXEC));
        tallies[open] = Tally { offered: 100, lost: 30 };
        handled.kinds[open] = Dealt { events: 40, lost: 25 };
        (drained[open], logged[open]) = (20, 4);
        // Of the daemon before that one, two more were taken over and one was dealt with.
        let signal = usize::from(SIGNAL);
        tallies[signal] = Tally { offered: 5, lost: 0 };
        handled.kinds[signal] = Dealt { events: 5u64.wrapping_sub(1), lost: 0 };
        tallies[exec] = Tally { offered: 3, lost: 0 };
        // More than there were: an event that was read twice must not make a loss somewhere else.
        drained[exec] = 4;
        let Account { unfinished, lost } = account(&tallies, &handled, &drained, &logged);
        assert_eq!((unfinished[open], lost[open], unfinished[signal]), (6, 5, 1));
        assert_eq!((unfinished.iter().sum::<u64>(), lost.iter().sum::<u64>()), (7, 5));
    }

    #[test]
    fn folders_of_others_are_no_generations_and_what_cannot_be_read_is_told() {
        let root = tempfile::tempdir().unwrap();
        for name in ["000010-0123456789abcdef", "000009-x", "other", "x-1"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        std::fs::write(root.path().join("000011-file"), "").unwrap();
        let numbers: Vec<u64> = generations(root.path()).unwrap().iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [9, 10]);
        let cgroups = Layout::None;
        let (left, problems) = left(root.path(), &cgroups);
        assert_eq!((left.len(), problems.len()), (2, 2));
        assert!(left.iter().all(|left| left.handled().is_none()) && !is_watched(&left), "{problems:?}");
        let next = Pins::create(root.path(), &cgroups).unwrap();
        assert_eq!(
            next.folder.file_name().unwrap().to_str().unwrap(),
            format!("000011-{}", layout(&cgroups))
        );
        let hierarchy = Hierarchy { controller: "pids", id: 4, root: "/x".into() };
        assert_eq!(layout(&Layout::V1(hierarchy)), format!("{}-pids-4", layout(&cgroups)));
        assert_eq!(unload(root.path()).unwrap(), 3);
        assert_eq!(generations(root.path()).unwrap(), []);
    }

    #[test]
    fn folder_is_one_process_alone_until_it_lets_go() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("taffrail");
        assert!(
            matches!(unload(&root), Err(PinError::Folder(error)) if error.kind() == io::ErrorKind::NotFound)
        );
        let claim = Claim::take(&root).unwrap();
        std::fs::create_dir(root.join("000001-0123456789abcdef")).unwrap();
        assert!(matches!(Claim::take(&root), Err(PinError::InUse)));
        assert!(matches!(unload(&root), Err(PinError::InUse)));
        drop(claim);
        assert_eq!(unload(&root).unwrap(), 1);
    }
}
