//! Exporters at work on a log that is written meanwhile: to files, and to receivers that are gone, refuse or break off.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Exporters;
use super::cursor::{Files, Position};
use super::settings::Settings;
use crate::audit::{Durable, Entry, Log, Options, RecordKind};

fn log(folder: &Path, retention_bytes: u64) -> Log {
    let boot_id = "5c3b2a10-0000-4000-8000-000000000001".to_owned();
    let mut options = Options::new(folder.to_owned(), "node-1".to_owned(), boot_id);
    let policy = &mut options.policy;
    (policy.segment_bytes, policy.retention_bytes) = (64 << 10, retention_bytes);
    (policy.commit_interval, policy.checkpoint_interval) =
        (Duration::from_millis(1), Duration::from_secs(3600));
    (policy.heartbeat, policy.pack) = (Duration::ZERO, false);
    Log::open(options).unwrap()
}

fn append(log: &Log, from: u64, to: u64) {
    for n in from..=to {
        let body = format!(
            "\"event\":{{\"kind\":\"exec\",\"type\":\"execve\"}},\"process\":{{\"pid\":{n},\"name\":\"a\\u001b\\\"\"}}"
        );
        log.append(Entry { kind: RecordKind::Event, time_ns: n, boot_ns: n, body: body.as_bytes() });
    }
}

fn settings(to: &str, more: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.yaml");
    std::fs::write(&path, format!("export: {{x: {{to: '{to}'{more}}}}}")).unwrap();
    crate::config::load(Some(&path), &[]).unwrap().exporters.remove(0)
}

type Told = Arc<Mutex<Vec<(RecordKind, Value)>>>;

/// Starts one exporter; what it tells is kept.
fn start_one(settings: &Settings, log: &Path, durable: &Durable) -> (Exporters, Told) {
    let told = Told::default();
    let kept = Arc::clone(&told);
    let tell = move |kind, body: Vec<u8>| {
        let whole = [b"{".as_slice(), &body, b"}"].concat();
        kept.lock().unwrap().push((kind, serde_json::from_slice(&whole).unwrap()));
    };
    (Exporters::start(std::slice::from_ref(settings), log, durable, tell).unwrap(), told)
}

fn wait_for(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !check() {
        assert!(Instant::now() < end, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// All lines of the log.
fn log_lines(folder: &Path) -> Vec<String> {
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    // Keys have a file of their own.
    paths.retain(|path| {
        path.extension().is_some_and(|extension| extension == "ndjson") && !path.ends_with("keys.ndjson")
    });
    paths.sort();
    paths.iter().flat_map(|path| lines(path)).collect()
}

fn position(log: &Path) -> Position {
    Files::new(log, "x").load().unwrap().unwrap_or_default()
}

#[test]
fn file_has_each_line_of_the_log_once_and_in_order_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, out) = (folder.path().join("log"), folder.path().join("out"));
    let settings = settings(&format!("file://{}", out.display()), ", batch_events: 7");
    for run in 0..3 {
        let log = log(&logs, 0);
        let (exporters, _) = start_one(&settings, &logs, &log.durable());
        append(&log, run * 500 + 1, run * 500 + 500);
        log.close().unwrap();
        exporters.drain(Duration::from_secs(30));
    }
    assert_eq!(lines(&out), log_lines(&logs));
    let all = lines(&out).len() as u64;
    assert!(all > 1500);
    assert_eq!((position(&logs).seq, position(&logs).sent), (all, all));
}

#[test]
fn only_wanted_kinds_and_priorities_are_sent_and_the_position_passes_over_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, out) = (folder.path().join("log"), folder.path().join("out"));
    let settings = settings(&format!("file://{}", out.display()), ", kinds: [alert], min_priority: warning");
    let log = log(&logs, 0);
    append(&log, 1, 10);
    for priority in ["Notice", "Warning", "Critical"] {
        let body = format!("\"rule\":\"r\",\"priority\":\"{priority}\"");
        log.append(Entry { kind: RecordKind::Alert, time_ns: 1, boot_ns: 1, body: body.as_bytes() });
    }
    let (exporters, _) = start_one(&settings, &logs, &log.durable());
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    let priorities: Vec<Value> = lines(&out)
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["priority"].clone())
        .collect();
    assert_eq!(priorities, ["Warning", "Critical"]);
    assert_eq!(position(&logs).seq, log_lines(&logs).len() as u64);
}

#[test]
fn rate_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, out) = (folder.path().join("log"), folder.path().join("out"));
    let settings = settings(&format!("file://{}", out.display()), ", rate: 10, kinds: [event]");
    let log = log(&logs, 0);
    append(&log, 1, 25);
    wait_for("it is durable", || log.durable().seq() > 25);
    let start = Instant::now();
    let (exporters, _) = start_one(&settings, &logs, &log.durable());
    wait_for("all is sent", || lines(&out).len() == 25);
    // Ten at once, and then ten each second.
    assert!(start.elapsed() >= Duration::from_secs(2));
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
}

#[test]
fn condition_chooses_events_and_never_what_the_log_says_about_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, out) = (folder.path().join("log"), folder.path().join("out"));
    let settings = settings(&format!("file://{}", out.display()), ", filter: 'proc.pid > 7'");
    let log = log(&logs, 0);
    append(&log, 1, 10);
    log.append(Entry { kind: RecordKind::Gap, time_ns: 1, boot_ns: 1, body: b"\"where\":\"ring\"" });
    let (exporters, _) = start_one(&settings, &logs, &log.durable());
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    let is_wanted = |line: &String| {
        let pid = serde_json::from_str::<Value>(line).unwrap()["process"]["pid"].as_u64();
        pid.is_none_or(|pid| pid > 7)
    };
    let wanted: Vec<String> = log_lines(&logs).into_iter().filter(is_wanted).collect();
    assert_eq!(lines(&out), wanted);
    assert!(wanted.iter().any(|line| line.contains("\"where\":\"ring\"")));
}

#[test]
fn what_was_deleted_before_it_was_sent_is_counted_and_told_as_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, out) = (folder.path().join("log"), folder.path().join("out"));
    let settings = settings(&format!("file://{}", out.display()), "");
    let first = log(&logs, 0);
    append(&first, 1, 10);
    let (exporters, _) = start_one(&settings, &logs, &first.durable());
    first.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    let next = position(&logs).seq + 1;
    let second = log(&logs, 128 << 10);
    let oldest = || serde_json::from_str::<Value>(&log_lines(&logs)[0]).unwrap()["seq"].as_u64().unwrap();
    // Batch by batch: one batch goes into one segment.
    let mut from = 11;
    wait_for("old segments are deleted", || {
        let before = second.durable().seq();
        append(&second, from, from + 99);
        from += 100;
        wait_for("it is durable", || second.durable().seq() >= before + 100);
        oldest() > next
    });
    second.close().unwrap();
    let oldest = oldest();
    let third = log(&logs, 0);
    let (exporters, told) = start_one(&settings, &logs, &third.durable());
    third.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    let gaps: Vec<Value> = told
        .lock()
        .unwrap()
        .iter()
        .filter(|(kind, _)| *kind == RecordKind::Gap)
        .map(|(_, gap)| gap.clone())
        .collect();
    let expected = serde_json::json!({
        "where": "export", "what": "x", "count": oldest - next, "from_seq": next, "to_seq": oldest - 1,
    });
    assert_eq!(gaps, [expected]);
    assert_eq!(position(&logs).dropped, oldest - next);
}

#[test]
fn another_log_in_the_same_place_is_sent_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, out) = (folder.path().join("log"), folder.path().join("out"));
    let settings = settings(&format!("file://{}", out.display()), "");
    for (first, events) in [(1, 20), (101, 30)] {
        let log = log(&logs, 0);
        append(&log, first, first + events - 1);
        let (exporters, _) = start_one(&settings, &logs, &log.durable());
        log.close().unwrap();
        exporters.drain(Duration::from_secs(30));
        std::fs::rename(logs.join("00000000000000000001.ndjson"), folder.path().join(format!("{first}")))
            .unwrap();
    }
    let all = [lines(&folder.path().join("1")), lines(&folder.path().join("101"))].concat();
    assert_eq!(lines(&out), all);
}

#[test]
fn damaged_line_is_a_dead_letter_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, out) = (folder.path().join("log"), folder.path().join("out"));
    let log = log(&logs, 0);
    append(&log, 1, 5);
    let durable = log.durable();
    log.close().unwrap();
    let segment = logs.join("00000000000000000001.ndjson");
    let text = std::fs::read_to_string(&segment).unwrap().replace("\"pid\":3,", "\"pid\":3,,");
    std::fs::write(&segment, text).unwrap();
    let settings = settings(&format!("file://{}", out.display()), "");
    let (exporters, told) = start_one(&settings, &logs, &durable);
    exporters.drain(Duration::from_secs(30));
    let dead: Value = serde_json::from_str(&lines(&logs.join("export/x.dead.ndjson"))[0]).unwrap();
    // The first records are of the segment and its key.
    assert_eq!(dead["seq"], 5);
    assert!(dead["record"].as_str().unwrap().contains("\"pid\":3,,"));
    assert_eq!(position(&logs).refused, 1);
    assert_eq!(lines(&out).len(), log_lines(&logs).len() - 1);
    assert!(told.lock().unwrap().iter().any(|(_, note)| note["state"] == "refused"));
}

#[test]
fn replay_sends_again_from_where_it_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, out) = (folder.path().join("log"), folder.path().join("out"));
    let settings = settings(&format!("file://{}", out.display()), "");
    let log = log(&logs, 0);
    let (exporters, _) = start_one(&settings, &logs, &log.durable());
    append(&log, 1, 10);
    wait_for("it is durable", || log.durable().seq() > 10);
    let all = log_lines(&logs).len();
    wait_for("all is sent", || lines(&out).len() == all);
    Files::new(&logs, "x").ask_for_replay(all as u64 - 2).unwrap();
    wait_for("three are sent again", || lines(&out).len() == all + 3);
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    let out = lines(&out);
    assert_eq!(out[all..all + 3], out[all - 3..all]);
}

/// A server that gives each request to `answer`, whose status it answers; 0 breaks off.
fn serve(answer: impl Fn(&str, &[u8]) -> u16 + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // The exporter may break off.
            let _ = serve_one(stream.unwrap(), &answer);
        }
    });
    port
}

fn serve_one(mut stream: TcpStream, answer: &impl Fn(&str, &[u8]) -> u16) -> std::io::Result<()> {
    let mut received = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let head = loop {
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break String::from_utf8_lossy(&received.drain(..end + 4).collect::<Vec<_>>())
                    .to_ascii_lowercase();
            }
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                read => received.extend_from_slice(&buffer[..read]),
            }
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0usize);
        while received.len() < length {
            let read = stream.read(&mut buffer)?;
            received.extend_from_slice(&buffer[..read]);
        }
        let body: Vec<u8> = received.drain(..length).collect();
        match answer(&head, &body) {
            0 => return Ok(()),
            status => write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n")?,
        }
    }
}

/// The processes' numbers in a webhook's body.
fn numbers(body: &[u8]) -> Vec<u64> {
    let events: Vec<Value> = serde_json::from_slice(body).unwrap();
    events.iter().map(|event| event["process"]["pid"].as_u64().unwrap()).collect()
}

#[test]
fn receiver_that_fails_gets_everything_later_and_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let taken = Arc::new(Mutex::new((Vec::new(), 0)));
    let server = Arc::clone(&taken);
    let port = serve(move |_, body| {
        let mut taken = server.lock().unwrap();
        taken.1 += 1;
        match taken.1 {
            1 => 503,
            2 => 0,
            3 => 429,
            4 => 401,
            _ => {
                taken.0.extend(numbers(body));
                200
            }
        }
    });
    let log = log(folder.path(), 0);
    let settings = settings(
        &format!("webhook+http://127.0.0.1:{port}/x"),
        ", batch_events: 10, batch_wait_ms: 0, kinds: [event]",
    );
    append(&log, 1, 35);
    let (exporters, told) = start_one(&settings, folder.path(), &log.durable());
    wait_for("all is sent", || taken.lock().unwrap().0.len() >= 35);
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    assert_eq!(taken.lock().unwrap().0, (1..=35).collect::<Vec<_>>());
    let position = position(folder.path());
    assert_eq!((position.sent, position.failed, position.refused, position.error), (35, 4, 0, None));
    let states: Vec<Value> = told.lock().unwrap().iter().map(|(_, note)| note["state"].clone()).collect();
    assert_eq!(states, ["started", "failing", "recovered"]);
}

#[test]
fn event_that_the_receiver_refuses_is_found_and_buried_and_all_others_arrive_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let server = Arc::clone(&taken);
    let port = serve(move |_, body| {
        let numbers = numbers(body);
        if numbers.contains(&13) {
            return 400;
        }
        server.lock().unwrap().extend(numbers);
        204
    });
    let log = log(folder.path(), 0);
    let settings = settings(&format!("webhook+http://127.0.0.1:{port}/x"), ", kinds: [event]");
    append(&log, 1, 40);
    let (exporters, _) = start_one(&settings, folder.path(), &log.durable());
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    let expected: Vec<u64> = (1..=40).filter(|number| *number != 13).collect();
    assert_eq!(*taken.lock().unwrap(), expected);
    let dead = lines(&folder.path().join("export/x.dead.ndjson"));
    assert_eq!(dead.len(), 1);
    let dead: Value = serde_json::from_str(&dead[0]).unwrap();
    assert!(dead["record"].as_str().unwrap().contains("\"pid\":13,"));
}

#[test]
fn token_from_a_file_is_sent_and_packed_bodies_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "geheim\n").unwrap();
    let heads = Arc::new(Mutex::new(String::new()));
    let server = Arc::clone(&heads);
    let port = serve(move |head, _| {
        *server.lock().unwrap() = head.to_owned();
        200
    });
    let log = log(&folder.path().join("log"), 0);
    append(&log, 1, 1);
    let more = format!(", token_file: '{}', compression: zstd, headers: ['X-A: b']", token.display());
    let settings = settings(&format!("webhook+http://127.0.0.1:{port}/hook?a=b"), &more);
    let (exporters, told) = start_one(&settings, &folder.path().join("log"), &log.durable());
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    let head = heads.lock().unwrap().clone();
    for line in
        ["post /hook?a=b http/1.1", "authorization: bearer geheim", "content-encoding: zstd", "x-a: b"]
    {
        assert!(head.lines().any(|found| found == line), "{line}: {head}");
    }
    assert!(!format!("{told:?}{settings:?}").contains("geheim"));
}

#[test]
fn two_exporters_do_not_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    // Takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stuck =
        settings(&format!("webhook+http://127.0.0.1:{}/", silent.local_addr().unwrap().port()), "");
    stuck.name = "stuck".to_owned();
    let quick = settings(&format!("file://{}", out.display()), ", kinds: [event]");
    let logs = folder.path().join("log");
    let log = log(&logs, 0);
    append(&log, 1, 100);
    let exporters = Exporters::start(&[stuck, quick], &logs, &log.durable(), |_, _| ()).unwrap();
    wait_for("the quick one has all", || lines(&out).len() == 100);
    log.close().unwrap();
    exporters.drain(Duration::from_millis(200));
}

#[test]
fn unix_socket_that_nobody_reads_is_a_failure_and_gets_everything_once_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, path) = (folder.path().join("log"), folder.path().join("socket"));
    let receiver = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let settings = settings(
        &format!("syslog+unix://{}", path.display()),
        ", timeout_ms: 100, kinds: [event], batch_events: 1000",
    );
    let log = log(&logs, 0);
    // More than fit into its queue.
    let queue: u64 =
        std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap().trim().parse().unwrap();
    let count = queue + 100;
    append(&log, 1, count);
    let (exporters, told) = start_one(&settings, &logs, &log.durable());
    let is_told = |state: &str| told.lock().unwrap().iter().any(|(_, note)| note["state"] == state);
    wait_for("it fails", || is_told("failing"));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut buffer = [0; 8192];
            let mut last = 0;
            while last != count {
                let length = receiver.recv(&mut buffer).unwrap();
                let text = std::str::from_utf8(&buffer[..length]).unwrap();
                let (_, json) = text.split_once(" - ").unwrap();
                last = serde_json::from_str::<Value>(json).unwrap()["process"]["pid"].as_u64().unwrap();
            }
        });
        wait_for("it works again", || is_told("recovered"));
    });
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    assert_eq!(position(&logs).sent, count);
}

/// A log of at least so many segments that is still written, and the first record of each of them.
fn log_of_segments(logs: &Path, count: usize) -> (Log, Vec<u64>) {
    let log = log(logs, 0);
    let firsts = grow(&log, logs, count);
    (log, firsts)
}

/// Writes until there are so many segments.
fn grow(log: &Log, logs: &Path, count: usize) -> Vec<u64> {
    let firsts = || -> Vec<u64> {
        let names = logs.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut firsts: Vec<u64> =
            names.filter_map(|name| name.strip_suffix(".ndjson")?.parse().ok()).collect();
        firsts.sort_unstable();
        firsts
    };
    let mut from = 1;
    while firsts().len() < count {
        let before = log.durable().seq();
        append(log, from, from + 99);
        from += 100;
        wait_for("it is durable", || log.durable().seq() >= before + 100);
    }
    firsts()
}

/// As retention does.
fn delete(logs: &Path, first: u64) {
    std::fs::remove_file(logs.join(format!("{first:020}.ndjson"))).unwrap();
}

fn gaps(told: &Told) -> Vec<(u64, u64)> {
    let told = told.lock().unwrap();
    let gaps = told.iter().filter(|(kind, _)| *kind == RecordKind::Gap);
    gaps.map(|(_, gap)| (gap["from_seq"].as_u64().unwrap(), gap["to_seq"].as_u64().unwrap())).collect()
}

#[test]
fn what_was_deleted_before_an_exporter_was_there_is_nothing_that_it_has_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, out) = (folder.path().join("log"), folder.path().join("out"));
    let settings = settings(&format!("file://{}", out.display()), "");
    let (log, firsts) = log_of_segments(&logs, 2);
    delete(&logs, firsts[0]);
    let (exporters, told) = start_one(&settings, &logs, &log.durable());
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    assert_eq!(lines(&out), log_lines(&logs));
    assert_eq!((gaps(&told), position(&logs).dropped), (vec![], 0));
}

#[test]
fn what_is_deleted_before_a_new_exporter_has_reached_its_receiver_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("log");
    let (log, firsts) = log_of_segments(&logs, 2);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("syslog+tcp://{}", listener.local_addr().unwrap());
    let first = firsts[0];
    let segments = logs.clone();
    std::thread::spawn(move || {
        // It breaks off with what it was sent, which is to be sent again then, and is there no more.
        let (mut stream, _) = listener.accept().unwrap();
        delete(&segments, first);
        let _ = stream.read(&mut [0; 1]).unwrap();
        drop(stream);
        for stream in listener.incoming() {
            std::io::copy(&mut stream.unwrap(), &mut std::io::sink()).unwrap();
        }
    });
    let (exporters, told) = start_one(&settings(&to, ", batch_events: 10"), &logs, &log.durable());
    wait_for("the loss is told", || !gaps(&told).is_empty());
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    assert_eq!(gaps(&told), [(1, firsts[1] - 1)]);
    assert_eq!(position(&logs).dropped, firsts[1] - 1);
}

#[test]
fn loss_that_is_met_when_nobody_listens_any_more_is_told_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("log");
    let (log, firsts) = log_of_segments(&logs, 3);
    let taken = Arc::new(Mutex::new(Vec::new()));
    let server = Arc::clone(&taken);
    let [(asked, is_asked), (go, may_go)] = [(); 2].map(|()| std::sync::mpsc::channel());
    let port = serve(move |_, body| {
        asked.send(()).unwrap();
        may_go.recv().unwrap();
        server.lock().unwrap().extend(numbers(body));
        200
    });
    let settings =
        settings(&format!("webhook+http://127.0.0.1:{port}/x"), ", batch_events: 10, kinds: [event]");
    let (exporters, told) = start_one(&settings, &logs, &log.durable());
    // It is at the beginning of the first segment.
    is_asked.recv().unwrap();
    delete(&logs, firsts[1]);
    exporters.hush();
    (0..10_000).for_each(|_| go.send(()).unwrap());
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    assert_eq!(gaps(&told), []);
    let (before, lost) = (position(&logs), firsts[2] - firsts[1]);
    assert_eq!((before.seq, before.dropped), (firsts[1] - 1, 0));
    // The next daemon, of which only the log's end is missing.
    let log = self::log(&logs, 0);
    let (exporters, told) = start_one(&settings, &logs, &log.durable());
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    assert_eq!(gaps(&told), [(firsts[1], firsts[2] - 1)]);
    let after = position(&logs);
    assert_eq!((after.seq, after.dropped), (log_lines(&logs).len() as u64 + lost, lost));
    let taken = taken.lock().unwrap();
    assert!(taken.is_sorted() && taken.len() as u64 == after.sent);
}

#[test]
fn log_that_can_be_read_again_is_no_failure_any_more_though_nothing_is_to_be_sent() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |name: &str| folder.path().join(name);
    let (logs, link, out) = (in_folder("log"), in_folder("link"), in_folder("out"));
    let log = log(&logs, 0);
    append(&log, 1, 10);
    wait_for("it is durable", || log.durable().seq() > 10);
    // What it has for the log's folder is at one moment the one, and at the next one the other.
    std::fs::write(in_folder("file"), "").unwrap();
    let lead_to = |name: &str| {
        std::os::unix::fs::symlink(in_folder(name), in_folder("new")).unwrap();
        std::fs::rename(in_folder("new"), &link).unwrap();
    };
    lead_to("log");
    let settings = settings(&format!("file://{}", out.display()), ", kinds: [alert]");
    let (exporters, told) = start_one(&settings, &link, &log.durable());
    let standing = Arc::clone(&exporters.standings()[0]);
    wait_for("all is read", || standing.seq.get() == log.durable().seq());
    lead_to("file");
    // It goes on in the segment that is open, and does not find the next one.
    grow(&log, &logs, 2);
    wait_for("it fails, and again", || standing.failing.get() == 1 && standing.failed.get() > 1);
    lead_to("log");
    wait_for("it works again", || standing.failing.get() == 0);
    log.close().unwrap();
    exporters.drain(Duration::from_secs(30));
    let states: Vec<Value> = told.lock().unwrap().iter().map(|(_, note)| note["state"].clone()).collect();
    assert_eq!(states, ["started", "failing", "recovered"]);
    assert_eq!((position(&logs).error, out.exists()), (None, false));
}
