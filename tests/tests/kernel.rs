//! What any kernel must do with the probes: this machine's, and those that `cargo xtask vm test` boots. It needs root and
//! the daemon's binary (`TAFFRAIL_BIN`), no container and no runtime.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use taffrail_tests::daemon::{Daemon, taffrail, wait_for};
use taffrail_tests::pins::Pins;
use taffrail_tests::verifier::{self, BOUNDED_BUDGET, BUDGET};
use taffrail_tests::{cannot_load, skip};

/// Tells the task runner what became of a probe: `cargo xtask` makes tables of it.
fn report(line: &Value) {
    println!("{line}");
    if let Some(path) = std::env::var_os("TAFFRAIL_REPORT") {
        let mut file = File::options().append(true).create(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

#[test]
fn every_program_is_within_the_verifiers_budget() {
    if let Some(reason) = cannot_load() {
        skip!("every_program_is_within_the_verifiers_budget", "{reason}");
    }
    // By itself the daemon leaves out what the other tier sees.
    let over = ["auto", "portable"].map(over_budget).concat();
    assert!(over.is_empty(), "over the budget of verified instructions, or nobody told: {}", over.join(", "));
}

/// Loads all probes of these tiers, reports them, and gives those that cost too much.
fn over_budget(tier: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("doctor.json");
    let mut doctor = taffrail(&["doctor", "--json", "--tier", tier]);
    let loads = verifier::loads_of(doctor.stdout(File::create(&said).unwrap())).unwrap();
    let said = std::fs::read_to_string(said).unwrap();
    let doctor: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();

    let mut over = Vec::new();
    let mut attached = 0;
    for probe in doctor["probes"].as_array().unwrap() {
        let program = probe["program"].as_str().unwrap();
        let name = program.get(..15).unwrap_or(program);
        let logged = loads.iter().filter(|load| load.name == name).map(|load| load.instructions);
        let told = probe["verified_instructions"].as_u64();
        assert!(
            told.is_none_or(|told| logged.clone().any(|count| count == told)),
            "{program}: {told:?}, {loads:?}"
        );
        let instructions = told.or(logged.max());
        let mut line = probe.clone();
        line["kernel"] = json!(release.trim());
        line["tried"] = json!(tier);
        line["instructions"] = json!(instructions);
        report(&line);
        if probe["status"] == "attached" {
            attached += 1;
            let budget = if program.ends_with("_bounded") { BOUNDED_BUDGET } else { BUDGET };
            match instructions {
                Some(count) if count <= budget => {}
                count => over.push(format!("{program}: {count:?}")),
            }
        }
    }
    assert!(attached > 0, "no probe is attached: {said}");
    over
}

/// `taffrail trace` of the whole machine.
struct Trace {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Trace {
    fn start() -> Self {
        let mut command = taffrail(&["trace", "--host", "--json", "--seconds", "60"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                theirs.lock().unwrap().extend(serde_json::from_str::<Value>(&line));
            }
        });
        let trace = Self { child, lines };
        // It says nothing when it begins to see; so do something until it is seen.
        let marker = format!("/ready-{}", std::process::id());
        trace.event("open", || drop(File::open(&marker)), |event| event["file"] == marker.as_str());
        trace
    }

    /// The event of that kind that `wanted` knows; `cause` is called until it is there.
    fn event(&self, kind: &str, cause: impl Fn(), wanted: impl Fn(&Value) -> bool) -> Value {
        let found = wait_for(|| {
            cause();
            let lines = self.lines.lock().unwrap();
            lines
                .iter()
                .map(|line| &line["event"])
                .find(|event| event["kind"] == kind && wanted(event))
                .cloned()
        });
        found.unwrap_or_else(|| panic!("no such {kind}"))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_exec_an_open_and_a_connect_are_seen_as_they_were() {
    if let Some(reason) = cannot_load() {
        skip!("an_exec_an_open_and_a_connect_are_seen_as_they_were", "{reason}");
    }
    let trace = Trace::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("target")).unwrap();
    std::os::unix::fs::symlink("target", folder.path().join("link")).unwrap();
    let asked = folder.path().join("link/file");
    std::fs::write(&asked, "x").unwrap();
    let absent = format!("absent-{}", std::process::id());
    let mut cat = Command::new("cat");
    cat.arg(&asked).arg(&absent).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    // A port that nobody listens at.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());

    let nothing = || {};
    let exec = trace.event("exec", nothing, |event| event["args"][2] == absent.as_str());
    assert_eq!(exec["args"][1], asked.to_str().unwrap());
    let target = folder.path().join("target/file").canonicalize().unwrap();
    let write = trace.event("open", nothing, |event| event["file"] == target.to_str().unwrap());
    for doubt in ["unverified", "incomplete"] {
        let flags = write["file_flags"].as_array();
        assert!(flags.is_none_or(|flags| flags.iter().all(|flag| flag != doubt)), "{write}");
    }
    let failed = trace.event("open", nothing, |event| event["file"] == absent.as_str());
    assert_eq!(failed["result"], -libc::ENOENT);
    let connect = trace.event("connect", nothing, |event| event["remote_port"] == port);
    assert_eq!(connect["remote_ip"], "127.0.0.1");
    assert_eq!(connect["result"], -libc::ECONNREFUSED);
    assert_eq!(connect["address_source"], "kernel_copy");
}

#[test]
fn what_happens_between_two_daemons_is_taken_over() {
    if let Some(reason) = cannot_load() {
        skip!("what_happens_between_two_daemons_is_taken_over", "{reason}");
    }
    let pins = Pins::mount();
    let settings = [
        "scope.host=true",
        "rules.embedded=false",
        "log.record=evt.kind = open and fd.name startswith /between-",
        &pins.setting(),
    ];
    let open = |name: &str| drop(File::open(format!("/between-{name}")));
    let first = Daemon::start(&settings);
    open("before");
    first.wait_for(|record| record["event"]["file"] == "/between-before");
    let folder = first.kill();
    (0..100).for_each(|number| open(&number.to_string()));
    let second = Daemon::start_in(folder, &settings);
    open("after");
    second.wait_for(|record| record["event"]["file"] == "/between-after");
    let (status, records) = second.stop();
    assert!(status.success());
    let files: Vec<_> = records.iter().filter_map(|record| record["event"]["file"].as_str()).collect();
    let times = |name: &str| files.iter().filter(|file| **file == format!("/between-{name}")).count();
    assert_eq!((times("before"), times("after")), (1, 1));
    let wrong: Vec<_> = (0..100).filter(|number| times(&number.to_string()) != 1).collect();
    assert_eq!(wrong, [0i32; 0]);
    let restart = records.iter().find(|record| record["kind"] == "restart").unwrap();
    assert_eq!((&restart["watched"], restart.get("problems")), (&json!(true), None), "{restart}");
}

/// Threads that do nothing but calls, on the same CPU as whoever made them.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..3 {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: no arguments.
                    unsafe { libc::syscall(libc::SYS_getppid) };
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A kernel that lets a thread be preempted within a probe skips that probe for all other threads of the CPU meanwhile.
#[test]
fn threads_that_do_nothing_but_calls_hide_no_open_of_others() {
    if let Some(reason) = cannot_load() {
        skip!("threads_that_do_nothing_but_calls_hide_no_open_of_others", "{reason}");
    }
    const OPENS: usize = 300;
    let trace = Trace::start();
    std::thread::spawn(move || {
        // SAFETY: bits only.
        let mut cpus: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: within the set.
        unsafe { libc::CPU_SET(0, &mut cpus) };
        // SAFETY: a set of that size. What this thread starts stays on that CPU too.
        assert_eq!(unsafe { libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus) }, 0);
        let _busy = Busy::start();
        for number in 0..OPENS {
            let _ = File::open(format!("/hidden-{number}"));
        }
    })
    .join()
    .unwrap();
    let seen = || {
        let lines = trace.lines.lock().unwrap();
        let names = lines.iter().filter_map(|line| line["event"]["file"].as_str()?.strip_prefix("/hidden-"));
        names.filter_map(|number| number.parse::<usize>().ok()).collect::<BTreeSet<_>>()
    };
    let missing = || (0..OPENS).filter(|number| !seen().contains(number)).collect::<Vec<_>>();
    wait_for(|| missing().is_empty().then_some(()));
    assert_eq!(missing(), [0usize; 0]);
}
