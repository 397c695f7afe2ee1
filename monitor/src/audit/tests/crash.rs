//! A disk that fails, and power cuts at every step: what was not made durable may be lost, in part or whole.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard};

use super::oracle::Judge;
use super::*;
use crate::audit::disk::{Append, Disk, RealDisk};
use crate::audit::record::Head;

/// What a disk writes at once, or does not. Smaller than real ones, as the test's files are.
const PAGE: usize = 128;

/// A disk that does what the real one does until its step `at`.
#[derive(Clone, Debug)]
struct Faulty(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    steps: usize,
    at: usize,
    fault: Fault,
    /// Bytes of each file that are durable.
    durable: BTreeMap<PathBuf, u64>,
    /// Changes of names that are not durable yet, oldest first.
    names: Vec<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// That step fails, and those after it work again.
    Once,
    /// The power is cut: nothing works any more.
    PowerCut,
}

#[derive(Debug)]
enum Name {
    Made(PathBuf),
    Removed(PathBuf, Vec<u8>),
}

impl Faulty {
    fn new(at: usize, fault: Fault) -> Self {
        let (durable, names) = (BTreeMap::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { steps: 0, at, fault, durable, names })))
    }

    /// The next step; an error if it is one that fails.
    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.0.lock().unwrap();
        state.steps += 1;
        let fails = match state.fault {
            Fault::Once => state.steps - 1 == state.at,
            Fault::PowerCut => state.steps > state.at,
        };
        if fails { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(state) }
    }

    fn has_failed(&self) -> bool {
        let state = self.0.lock().unwrap();
        state.steps > state.at
    }

    /// Takes away what was not durable; `luck` says how much of it.
    fn lose(&self, luck: &mut Luck) {
        let mut state = self.0.lock().unwrap();
        for name in std::mem::take(&mut state.names).into_iter().rev() {
            match name {
                Name::Made(path) if luck.below(2) == 0 => {
                    let _ = std::fs::remove_file(&path);
                }
                Name::Removed(path, bytes) if luck.below(2) == 0 => std::fs::write(path, bytes).unwrap(),
                _ => {}
            }
        }
        for (path, durable) in &state.durable {
            if let Ok(file) = std::fs::OpenOptions::new().write(true).open(path) {
                let len = file.metadata().unwrap().len();
                let len = len.min(durable + luck.below(len.saturating_sub(*durable) + 1));
                file.set_len(len).unwrap();
                // The length can be there, and some of the pages not.
                for at in (*durable..len).step_by(PAGE).filter(|_| luck.below(2) == 0).collect::<Vec<_>>() {
                    let bytes = (len - at).min(PAGE as u64) as usize;
                    file.write_all_at(&[0; PAGE][..bytes], at).unwrap();
                }
            }
        }
    }
}

impl Disk for Faulty {
    fn append(&self, path: &Path) -> io::Result<Box<dyn Append>> {
        let mut state = self.step()?;
        if !path.exists() {
            state.names.push(Name::Made(path.to_owned()));
        }
        let file = RealDisk.append(path)?;
        let len = file.len()?;
        // What was there before the test is durable.
        state.durable.entry(path.to_owned()).or_insert(len);
        drop(state);
        Ok(Box::new(FaultyFile { disk: self.clone(), path: path.to_owned(), file }))
    }

    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let is_new = !path.exists();
        let half = &bytes[..bytes.len() / 2];
        let mut state = self.step().inspect_err(|_| {
            // The bytes that were there may be half written over; a new file may be there.
            let state = self.0.lock().unwrap();
            if state.steps == state.at + 1 {
                let _ = RealDisk.overwrite(path, half);
            }
        })?;
        if is_new {
            state.names.push(Name::Made(path.to_owned()));
        }
        state.durable.insert(path.to_owned(), bytes.len() as u64);
        RealDisk.overwrite(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let bytes = std::fs::read(from)?;
        state.names.extend([Name::Made(to.to_owned()), Name::Removed(from.to_owned(), bytes)]);
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let bytes = std::fs::read(path)?;
        state.names.push(Name::Removed(path.to_owned(), bytes));
        RealDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        state.names.retain(|name| {
            let (Name::Made(path) | Name::Removed(path, _)) = name;
            path.parent() != Some(folder)
        });
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct FaultyFile {
    disk: Faulty,
    path: PathBuf,
    file: Box<dyn Append>,
}

impl Append for FaultyFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let step = self.disk.step().map(drop);
        if step.is_err() {
            // Part of it gets there.
            let _ = self.file.write_all(&bytes[..bytes.len() / 3]);
            return step;
        }
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.step()?;
        let len = self.file.len()?;
        state.durable.insert(self.path.clone(), len);
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.step()?;
        if let Some(durable) = state.durable.get_mut(&self.path) {
            *durable = len.min(*durable);
        }
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

/// Numbers that are the same each time (xorshift).
struct Luck(u64);

impl Luck {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Policy under which each batch changes the key, and every other closes a segment.
fn lively(folder: &Path, retention_bytes: u64) -> Options {
    let mut options = options(folder);
    let policy = &mut options.policy;
    (policy.key_interval, policy.segment_bytes) = (Duration::from_nanos(1), 5_000);
    policy.retention_bytes = retention_bytes;
    options
}

/// Opens a log and writes some alerts, as far as the disk lets it; tells which of them were durable.
fn run(options: Options, disk: &Faulty, markers: &[String]) -> Result<usize, OpenError> {
    let folder = options.folder.clone();
    let log = Log::open(Options { disk: Arc::new(disk.clone()), ..options })?;
    let mut durable = 0;
    for marker in markers {
        let stats = log.stats();
        log.append(Entry { kind: RecordKind::Alert, time_ns: 7, boot_ns: 7, body: marker.as_bytes() });
        let is_dead = || disk.0.lock().unwrap().fault == Fault::PowerCut && disk.has_failed();
        let is_durable = || {
            let seq = stats.durable_seq.load(Ordering::Acquire);
            let text = text(&folder);
            let line = text.lines().find(|line| line.contains(marker.as_str()));
            line.and_then(|line| Head::parse(line.as_bytes())).is_some_and(|head| head.seq <= seq)
        };
        while !is_durable() && !is_dead() {
            std::thread::yield_now();
        }
        if !is_durable() {
            break;
        }
        durable += 1;
    }
    let closed = log.close();
    assert!(closed.is_ok() || disk.has_failed(), "{closed:?}");
    Ok(durable)
}

fn markers(round: &str) -> Vec<String> {
    (0..4).map(|n| format!("\"marker\":\"{round}-{n}\"")).collect()
}

fn text(folder: &Path) -> String {
    let segments = crate::audit::segment::list(folder).unwrap();
    // One that is just being deleted holds nothing that anybody looks for.
    segments.iter().map(|segment| std::fs::read_to_string(&segment.path).unwrap_or_default()).collect()
}

fn secrets(folder: &Path) -> usize {
    folder.join("keys").read_dir().unwrap().count()
}

/// Cuts the power at each step of a run in turn, and goes on with what is left.
fn power_cuts(test: &str, retention_bytes: u64) {
    let mut judge = Judge::new(test);
    for at in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let policy = || lively(folder.path(), retention_bytes);
        write(policy(), bodies(2));
        let disk = Faulty::new(at, Fault::PowerCut);
        let durable = run(policy(), &disk, &markers("first")).unwrap_or(0);
        let is_over = !disk.has_failed();
        disk.lose(&mut Luck(at as u64 + 1));
        write(policy(), bodies(2));
        let what = format!("power cut at step {at}");
        assert_eq!(judge.plain(folder.path(), &what), 0, "{what}: {:#?}", check(folder.path()));
        if retention_bytes == 0 {
            let text = text(folder.path());
            for marker in &markers("first")[..durable] {
                assert!(text.contains(marker.as_str()), "{what}: {marker} was durable");
            }
        }
        assert_eq!(secrets(folder.path()), 1, "{what}");
        if is_over {
            assert!(at > 40, "{at} steps");
            return;
        }
    }
}

#[test]
fn power_cut_at_any_step_loses_nothing_that_was_durable() {
    power_cuts("power_cut_at_any_step_loses_nothing_that_was_durable", 0);
}

#[test]
fn power_cut_at_any_step_of_retention_leaves_a_whole_log() {
    power_cuts("power_cut_at_any_step_of_retention_leaves_a_whole_log", 12_000);
}

#[test]
fn power_cut_at_any_step_of_the_first_start_leaves_a_whole_log() {
    let mut judge = Judge::new("power_cut_at_any_step_of_the_first_start_leaves_a_whole_log");
    for at in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let disk = Faulty::new(at, Fault::PowerCut);
        let _ = run(options(folder.path()), &disk, &markers("first")[..1]);
        disk.lose(&mut Luck(at as u64 + 1));
        write(options(folder.path()), bodies(4));
        let what = format!("power cut at step {at}");
        assert_eq!(judge.plain(folder.path(), &what), 0, "{what}: {:#?}", check(folder.path()));
        if !disk.has_failed() {
            return;
        }
    }
}

#[test]
fn any_one_step_may_fail_and_nothing_is_lost() {
    let mut judge = Judge::new("any_one_step_may_fail_and_nothing_is_lost");
    let mut told = 0;
    for at in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let disk = Faulty::new(at, Fault::Once);
        // A start that fails is tried again.
        let run = |disk| run(lively(folder.path(), 0), disk, &markers("first"));
        let _ = run(&disk).or_else(|_| run(&disk)).unwrap();
        let what = format!("failure at step {at}");
        let is_closed = judge.plain(folder.path(), &what);
        write(lively(folder.path(), 0), bodies(2));
        assert!(
            is_closed != 1 && judge.plain(folder.path(), &what) == 0,
            "{what}: {:#?}",
            check(folder.path())
        );
        let text = text(folder.path());
        assert!(markers("first").iter().all(|marker| text.contains(marker.as_str())), "{what}");
        assert_eq!(secrets(folder.path()), 1, "{what}");
        told += usize::from(text.contains("\"kind\":\"degraded\"") || text.contains("\"kind\":\"gap\""));
        if !disk.has_failed() {
            // What failed before there was a log to tell it in, and was done again, is not told.
            assert!(told > at / 2, "{told} of {at}");
            return;
        }
    }
}
