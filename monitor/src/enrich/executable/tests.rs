//! Executables as hostile containers can have them: of other files, too large, gone, changed, in crowds.

use std::os::fd::AsRawFd as _;
use std::process::{Child, Command};

use super::*;

/// A process of that executable, ended with the test.
struct Started(Child);

impl Started {
    fn of(path: &Path) -> Self {
        Self(Command::new(path).arg("600").spawn().unwrap())
    }

    /// The version once the new program is in place.
    fn version(&self, path: &Path) -> Version {
        let file = reach::stat(&File::open(path).unwrap()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let version = Version::of_process(self.0.id()).unwrap();
            if version.ino == file.stx_ino {
                return version;
            }
            assert!(Instant::now() < deadline, "it does not start");
            std::thread::yield_now();
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sha256_of(path: &Path) -> String {
    hex(&Sha256::digest(std::fs::read(path).unwrap()))
}

/// A copy of sleep with something at its end, so that it is no other file.
fn program(folder: &Path, name: &str, end: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    let bytes = [std::fs::read("/bin/sleep").unwrap(), end.into()].concat();
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn question(version: Version, path: &str, pid: u32, root: Option<&Path>) -> Question {
    let root = root.map(|root| root.to_string_lossy().into_owned());
    let (path, flags) = (path.as_bytes().into(), 0);
    Question { version, path, flags, runner: Runner { pid, turn: 0, root }, slot: Arc::default() }
}

fn read(question: &Question) -> Digest {
    digest(question, &mut [0; 4096])
}

#[test]
fn hash_is_that_of_what_runs_also_when_it_has_no_name_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "program", "x");
    let (expected, started) = (sha256_of(&path), Started::of(&path));
    let version = started.version(&path);
    let question = question(version, "/nowhere", started.0.id(), None);
    assert_eq!(read(&question), Ok(expected.clone()));
    // Its inode is another one to the clock, but nobody can write to what runs.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read(&question), Ok(expected));
}

#[test]
fn what_has_ended_is_found_in_the_root_of_its_container_if_it_is_still_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "program", "x");
    let started = Started::of(&path);
    let (version, pid) = (started.version(&path), started.0.id());
    drop(started);
    let of = |root: Option<&Path>, name: &str| read(&question(version, name, pid, root));
    assert_eq!(of(None, "/program"), Err(Missing::Gone));
    assert_eq!(of(Some(folder.path()), "/program"), Ok(sha256_of(&path)));
    assert_eq!(of(Some(folder.path()), "/../../program"), Ok(sha256_of(&path)), "no way out of the root");
    assert_eq!(of(Some(folder.path()), "/other"), Err(Missing::Gone));
    // Written to, with the old times: `ctime` tells.
    let times = path.metadata().unwrap().modified().unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    io::Write::write_all(&mut &file, b"y").unwrap();
    file.set_modified(times).unwrap();
    assert_eq!(of(Some(folder.path()), "/program"), Err(Missing::Changed));
    // Another file in its place.
    std::fs::rename(program(folder.path(), "new", "z"), &path).unwrap();
    assert_eq!(of(Some(folder.path()), "/program"), Err(Missing::Gone));
}

#[test]
fn file_that_is_too_large_or_need_not_answer_is_not_read() {
    let own = Version::of_process(std::process::id()).unwrap();
    let large = Version { bytes: BYTES_MAX + 1, ..own };
    assert_eq!(read(&question(large, "/x", std::process::id(), None)), Err(Missing::TooLarge));
    let proc = File::open("/proc/version").unwrap();
    let stat = reach::stat(&proc).unwrap();
    let version = Version { dev: device(&stat), ino: stat.stx_ino, ..own };
    let found = Found::of(&proc, std::process::id(), 0).unwrap();
    assert!(found.is(&version));
    assert_eq!(found.read(&proc, &version, &mut [0; 64]), Err(Missing::Unreadable));
    // An overlay that the host does not have.
    let exe = open_path("/proc/self/exe").unwrap();
    let upper = Found::of(&exe, std::process::id(), path_flag::UPPER_LAYER).unwrap();
    assert!(upper.is_trusted, "the host has mounted what this test is on");
    let (pipe, _writer) = std::io::pipe().unwrap();
    let pipe = File::open(format!("/proc/self/fd/{}", pipe.as_raw_fd())).unwrap();
    assert!(!Found::of(&pipe, std::process::id(), path_flag::UPPER_LAYER).unwrap().is_trusted);
}

#[test]
fn containers_take_turns_and_one_that_asks_too_much_is_told_so() {
    let mut turns = Turns::default();
    let of = |turn, ino| {
        let version = Version { ino, ..Version::default() };
        let runner = Runner { turn, ..Runner::default() };
        Question { version, path: Box::default(), flags: 0, runner, slot: Arc::default() }
    };
    let crowd: Vec<Question> = (0..=TURN_MAX as u64).map(|ino| of(1, ino)).collect();
    let slots: Vec<Arc<Slot>> = crowd.iter().map(|question| Arc::clone(&question.slot)).collect();
    crowd.into_iter().for_each(|question| turns.push(question));
    turns.push(of(2, 1_000));
    let order: Vec<u64> = std::iter::from_fn(|| Some(turns.pop()?.version.ino)).collect();
    assert_eq!((order.len(), &order[..3]), (TURN_MAX + 1, &[0, 1_000, 1][..]));
    assert_eq!(slots[TURN_MAX].get(), Some(&Err(Missing::Crowded)));
    assert!(slots[..TURN_MAX].iter().all(|slot| slot.get().is_none()));
}

#[test]
fn each_version_is_asked_for_once_and_again_only_where_another_way_to_it_is_known() {
    let (hasher, questions) = sync_channel(8);
    let mut executables = Executables::new(Duration::from_secs(600));
    let version = Version { ino: 7, ..Version::default() };
    let runner = |root: Option<&str>| Runner { root: root.map(str::to_owned), ..Runner::default() };
    assert!(executables.is_ready(version, b"/x", 0, || runner(None)), "nobody wants to know");
    executables.hasher = Some(hasher);
    for _ in 0..2 {
        assert!(!executables.is_ready(version, b"/x", 0, || runner(None)));
    }
    let first = questions.try_recv().unwrap();
    assert!(questions.try_recv().is_err(), "once");
    first.slot.set(Err(Missing::Gone)).unwrap();
    assert!(executables.is_ready(version, b"/x", 0, || runner(None)));
    assert!(!executables.is_ready(version, b"/x", 0, || runner(Some("/root"))));
    let second = questions.try_recv().unwrap();
    second.slot.set(Err(Missing::Gone)).unwrap();
    assert!(executables.is_ready(version, b"/x", 0, || runner(Some("/root"))));
    // The event goes out; another process that runs it may be found.
    let (slot, is_new) = executables.of(version).unwrap();
    assert_eq!((slot.get(), is_new), (Some(&Err(Missing::Gone)), true));
    assert!(!executables.is_ready(version, b"/x", 0, || runner(None)));
    questions.try_recv().unwrap().slot.set(Ok("abc".to_owned())).unwrap();
    assert!(executables.is_ready(version, b"/x", 0, || runner(None)));
    for is_new in [true, false] {
        assert_eq!(
            executables.of(version).map(|(slot, new)| (slot.get().is_some(), new)),
            Some((true, is_new))
        );
    }
    assert_eq!(executables.stats(), Stats { known: 2, missing: 1, late: 0 });
    // It has waited enough.
    executables.set_wait(Duration::ZERO);
    let slow = Version { ino: 8, ..version };
    executables.is_ready(slow, b"/x", 0, || runner(None));
    assert!(executables.is_ready(slow, b"/x", 0, || runner(None)));
    assert!(executables.of(slow).unwrap().0.get().is_none());
    assert_eq!(executables.stats().late, 1);
    // A queue that is full makes nobody wait.
    executables.set_wait(Duration::from_secs(600));
    let answers: Vec<bool> = (100..120)
        .map(|ino| executables.is_ready(Version { ino, ..version }, b"/x", 0, || runner(None)))
        .collect();
    assert!(!answers[0] && answers[19]);
}
