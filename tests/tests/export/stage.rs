//! The play: a writer of events with an exporter, a network that can be cut, a receiver, and what becomes of them.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub const EVENTS: usize = 10_000;
const RATE: u64 = 2_500;

/// A receiver that can be killed and started again.
pub trait Receiver {
    /// Starts it; done when it takes connections.
    fn start(&mut self);

    /// Ends it, as abruptly as its kind of protocol promises to survive.
    fn kill(&mut self);

    /// What it has taken: lines of the log, in streams, of each in the order in which it took them.
    fn streams(&self) -> Vec<Vec<String>>;

    /// How much it has taken.
    fn count(&self) -> usize {
        self.streams().iter().map(Vec::len).sum()
    }

    /// At which port the network is that leads to it. Some have to tell it themselves.
    fn is_reached_at(&mut self, _port: u16) {}
}

pub fn wait_for(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(90);
    while !check() {
        assert!(Instant::now() < end, "it takes too long until {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A network that can be cut: forwards connections to a port.
pub struct Network {
    pub port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Network {
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(near), false) = (stream, cut.load(Ordering::Relaxed)) else { continue };
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to, cut) =
                        (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&cut));
                    std::thread::spawn(move || forward(from, to, &cut));
                }
            }
        });
        Self { port, is_cut }
    }

    /// What is on its way is lost, and nothing gets through until it is mended.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }

    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::Relaxed);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    let mut buffer = [0; 16_384];
    while !cut.load(Ordering::Relaxed) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A writer of events, and its exporter.
struct Writer {
    folder: TempDir,
    child: Option<Child>,
}

impl Writer {
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yaml"), settings).unwrap();
        let mut writer = Self { folder, child: None };
        writer.go_on();
        writer
    }

    fn go_on(&mut self) {
        let tests = std::env::current_exe().unwrap();
        let ship = tests.parent().and_then(Path::parent).unwrap().join("ship");
        let child = Command::new(&ship)
            .arg(self.folder.path().join("config.yaml"))
            .arg(self.log())
            .args([EVENTS.to_string(), RATE.to_string()])
            .stdin(Stdio::piped())
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{}: {error}", ship.display())));
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it in good order.
    fn end(&mut self) {
        let mut child = self.child.take().unwrap();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}

/// All lines of a log.
pub fn log_lines(log: &Path) -> Vec<String> {
    let mut segments: Vec<PathBuf> = log.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| {
        path.extension().is_some_and(|extension| extension == "ndjson") && !path.ends_with("keys.ndjson")
    });
    segments.sort();
    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    segments.iter().flat_map(|path| read(path).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Whether nothing gets through to the receiver `x`.
pub fn is_failing(log: &Path) -> bool {
    let text = std::fs::read_to_string(log.join("export/x.json")).unwrap_or_default();
    serde_json::from_str::<Value>(&text).is_ok_and(|position| !position["error"].is_null())
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Plays it all. `settings` gives the configuration for the port of the network, `form` what a line of the log is in the
/// receiver.
pub fn play(
    receiver: &mut dyn Receiver,
    port: u16,
    form: impl Fn(&str) -> String,
    settings: impl Fn(u16) -> String,
) {
    let network = Network::to(port);
    receiver.is_reached_at(network.port);
    receiver.start();
    let mut writer = Writer::start(&settings(network.port));
    for share in [EVENTS / 8, EVENTS / 3] {
        wait_for("a part of the events has arrived", || receiver.count() >= share);
        receiver.kill();
        wait_for("the exporter notices that the receiver is gone", || is_failing(&writer.log()));
        receiver.start();
    }
    wait_for("half of the events have arrived", || receiver.count() >= EVENTS / 2);
    network.cut();
    wait_for("the exporter notices that the network is cut", || is_failing(&writer.log()));
    network.mend();
    wait_for("more of the events have arrived", || receiver.count() >= EVENTS * 2 / 3);
    writer.kill();
    writer.go_on();
    wait_for("all events have arrived", || receiver.count() >= EVENTS);
    writer.end();
    receiver.kill();
    let sent: Vec<String> = log_lines(&writer.log()).iter().map(|line| form(line)).collect();
    judge(&receiver.streams(), &sent);
}

/// Each line is there, unaltered, in one stream, where none came before an older one.
pub fn judge(streams: &[Vec<String>], sent: &[String]) {
    let places: HashMap<&String, usize> = sent.iter().zip(0..).collect();
    let mut found = BTreeSet::new();
    for stream in streams {
        let place = |line| *places.get(line).unwrap_or_else(|| panic!("altered, or not of this log: {line}"));
        let arrived: Vec<usize> = stream.iter().map(place).collect();
        let all: BTreeSet<usize> = arrived.iter().copied().collect();
        let mut missing = all.iter().copied().peekable();
        for place in arrived {
            // Sent again it may be, but new ones come one after the other.
            if missing.next_if_eq(&place).is_none() {
                let is_again = missing.peek().is_none_or(|next| place < *next);
                assert!(is_again, "record {place} came before {:?}", missing.peek());
            }
        }
        for place in all {
            assert!(found.insert(place), "record {place} is in two streams");
        }
    }
    assert!(sent.len() >= EVENTS);
    assert_eq!(found.len(), sent.len(), "records are missing");
    let arrived: usize = streams.iter().map(Vec::len).sum();
    eprintln!("{} records arrived {arrived} times in all", sent.len());
}
