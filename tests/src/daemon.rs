//! A real daemon with a log of its own, stopped when it is dropped.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up; `TAFFRAIL_SLOW` says that the machine is an emulated one.
fn deadline() -> Duration {
    Duration::from_secs(if std::env::var_os("TAFFRAIL_SLOW").is_some() { 60 } else { 20 })
}

/// The program under test: `TAFFRAIL_BIN`, or the one built beside the tests.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TAFFRAIL_BIN") {
        return path.into();
    }
    beside("taffrail")
}

/// Another program that was built with this one.
pub fn beside(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the path of the running program");
    // Tests lie in `target/PROFILE/deps`, programs in `target/PROFILE`.
    let mut folders = this.ancestors().skip(1);
    let program = folders.find(|folder| !folder.ends_with("deps")).map(|profile| profile.join(name));
    program.expect("programs lie in a folder")
}

/// A command of the program under test.
pub fn taffrail(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// Calls `check` until it gives a value; `None` after the deadline.
pub fn wait_for<T>(mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline();
    loop {
        let found = check();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A running daemon.
pub struct Daemon {
    child: Child,
    folder: TempDir,
    /// Everything that it says.
    said: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts it with these settings and waits until it watches.
    pub fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("config.yaml"), "").expect("an empty configuration");
        Self::start_in(folder, settings)
    }

    /// As [`Daemon::start`], with `config.yaml` and the log in a folder that is there.
    pub fn start_in(folder: TempDir, settings: &[&str]) -> Self {
        Self::start_as(folder, settings, |_| {}, |_| {})
    }

    /// As [`Daemon::start_in`]. While it starts, `meanwhile` is called with its process id.
    pub fn start_while(folder: TempDir, settings: &[&str], meanwhile: impl FnOnce(u32)) -> Self {
        Self::start_as(folder, settings, |_| {}, meanwhile)
    }

    /// As [`Daemon::start_in`], by a command that `prepare` does something to before.
    pub fn start_prepared(folder: TempDir, settings: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        Self::start_as(folder, settings, prepare, |_| {})
    }

    fn start_as(
        folder: TempDir,
        settings: &[&str],
        prepare: impl FnOnce(&mut Command),
        meanwhile: impl FnOnce(u32),
    ) -> Self {
        let mut command = taffrail(&["run", "--config"]);
        command.arg(folder.path().join("config.yaml"));
        command.args(["-o", &format!("log.dir={}", folder.path().join("log").display())]);
        for setting in settings {
            command.args(["-o", setting]);
        }
        prepare(&mut command);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the daemon");
        meanwhile(child.id());
        let mut stderr = BufReader::new(child.stderr.take().expect("its stderr"));
        let mut start = String::new();
        while !start.contains("watching with") {
            let read = stderr.read_line(&mut start).expect("its stderr is text");
            assert!(read > 0, "the daemon ended: {start}");
        }
        let said = Arc::new(Mutex::new(start));
        // Keep reading, so that it never blocks on a full pipe.
        let theirs = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|read| read > 0) {
                theirs.lock().expect("no panic in here").push_str(&std::mem::take(&mut line));
            }
        });
        Self { child, folder, said }
    }

    /// Folder of the log.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has said so far.
    pub fn said(&self) -> String {
        self.said.lock().expect("no panic in there").clone()
    }

    /// Waits until the log has a record of which `wanted` is true.
    #[track_caller]
    pub fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = wait_for(|| records(&self.log()).into_iter().find(&wanted));
        found.unwrap_or_else(|| {
            let records: Vec<String> = records(&self.log()).iter().map(Value::to_string).collect();
            let said = self.said.lock().expect("no panic in there");
            panic!("no such record in\n{}\nthe daemon said\n{said}", records.join("\n"))
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for, so the id is its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Asks it to stop and waits. Returns its exit status and all records of its log.
    pub fn stop(mut self) -> (ExitStatus, Vec<Value>) {
        self.signal(libc::SIGTERM);
        let status = self.child.wait().expect("its exit status");
        (status, records(&self.log()))
    }

    /// Ends it without a chance to tidy up, and gives back its folder.
    pub fn kill(self) -> TempDir {
        self.end(libc::SIGKILL)
    }

    /// Ends it by a signal, and gives back its folder.
    pub fn end(mut self, signal: i32) -> TempDir {
        self.signal(signal);
        self.child.wait().expect("its exit status");
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a temporary folder"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All whole records of a log.
pub fn records(log: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(log)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ndjson"))
        // The keys' own records are in segments too.
        .filter(|path| !path.ends_with("keys.ndjson"))
        .collect();
    files.sort();
    let texts = files.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts
        .flat_map(|text| {
            let whole = text.rfind('\n').map_or(0, |at| at + 1);
            text[..whole]
                .lines()
                .map(|line| serde_json::from_str(line).expect("a record"))
                .collect::<Vec<Value>>()
        })
        .collect()
}

/// Whether a record is an event (or the alert on one) of that kind in that container.
pub fn is_event(record: &Value, kind: &str, container: &str) -> bool {
    record["event"]["kind"] == kind && record["container"]["id"] == container
}

/// How many events of a kind the gaps in these records say that a container has lost.
pub fn told_as_lost(records: &[Value], kind: &str, container: &str) -> u64 {
    let gaps = records.iter().filter(|record| record["kind"] == "gap" && record["what"] == kind);
    gaps.filter(|gap| gap["container"]["id"] == container).filter_map(|gap| gap["count"].as_u64()).sum()
}
