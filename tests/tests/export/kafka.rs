//! Kafka: librdkafka's mock of a cluster, and its consumer, in a program of Python (`kafka.py`).

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;
use taffrail_tests::daemon::taffrail;
use taffrail_tests::net::free_port;
use taffrail_tests::skip;
use tempfile::TempDir;

use crate::stage::{Receiver, play};

/// Where the setup has unpacked librdkafka for Python; `None` if it has not.
fn library() -> Option<PathBuf> {
    crate::receiver::unpacked().filter(|folder| folder.join("confluent_kafka").exists())
}

/// What the consumer has read.
#[derive(Deserialize)]
struct Read {
    partition: i32,
    key: String,
    id: String,
    time: i64,
    value: String,
}

struct Kafka {
    library: PathBuf,
    folder: TempDir,
    port: u16,
    advertised: u16,
    child: Option<(Child, BufReader<ChildStdout>)>,
}

impl Kafka {
    fn new(library: PathBuf) -> Self {
        let port = free_port();
        Self { library, folder: tempfile::tempdir().unwrap(), port, advertised: port, child: None }
    }

    /// Gives a command, and returns the answer.
    fn tell(&mut self, command: &str) -> String {
        let (library, port, advertised) = (&self.library, self.port, self.advertised);
        let out = self.folder.path().join("out");
        let (child, stdout) = self.child.get_or_insert_with(|| {
            let mut child = Command::new("python3")
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/export/kafka.py"))
                .args([port.to_string(), advertised.to_string()])
                .arg(out)
                .env("PYTHONPATH", library)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let stdout = BufReader::new(child.stdout.take().unwrap());
            (child, stdout)
        });
        writeln!(child.stdin.as_ref().unwrap(), "{command}").unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty(), "the mock of Kafka has ended");
        answer
    }

    fn read(&self) -> Vec<Read> {
        let text = std::fs::read_to_string(self.folder.path().join("out")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Receiver for Kafka {
    fn is_reached_at(&mut self, port: u16) {
        self.advertised = port;
    }

    fn start(&mut self) {
        self.tell("up");
    }

    fn kill(&mut self) {
        self.tell("down");
    }

    fn streams(&self) -> Vec<Vec<String>> {
        let mut partitions: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for Read { partition, value, .. } in self.read() {
            partitions.entry(partition).or_default().push(value);
        }
        partitions.into_values().collect()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn kafka_has_every_record_in_the_partition_of_its_container() {
    let Some(library) = library() else {
        skip!(
            "kafka_has_every_record_in_the_partition_of_its_container",
            "librdkafka is not there: run `cargo xtask setup`"
        );
    };
    let mut kafka = Kafka::new(library);
    let port = kafka.port;
    play(&mut kafka, port, str::to_owned, |port| {
        format!(
            "export: {{x: {{to: 'kafka+tcp://127.0.0.1:{port}/events', timeout_ms: 3000, compression: zstd, batch_wait_ms: 20}}}}"
        )
    });
    let mut places: HashMap<String, i32> = HashMap::new();
    for Read { partition, key, id, time, value } in kafka.read() {
        let record: Value = serde_json::from_str(&value).unwrap();
        let container = record["container"]["id"].as_str();
        assert_eq!(key, container.unwrap_or("node-1"), "{value}");
        assert_eq!(*places.entry(key).or_insert(partition), partition, "{value}");
        assert!(id.ends_with(&format!("-{}", record["seq"])), "{id} {value}");
        let when: jiff::Timestamp = record["time"].as_str().unwrap().parse().unwrap();
        assert_eq!(time, when.as_millisecond());
    }
    assert_eq!(places.len(), 5);
    // Where others put them.
    let keys: Vec<&str> = places.keys().map(String::as_str).collect();
    let theirs = kafka.tell(&format!("where {}", keys.join(" ")));
    assert_eq!(serde_json::from_str::<HashMap<String, i32>>(&theirs).unwrap(), places);
}

#[test]
fn test_event_is_taken_by_kafka_and_what_is_missing_is_said() {
    let Some(library) = library() else {
        skip!(
            "test_event_is_taken_by_kafka_and_what_is_missing_is_said",
            "librdkafka is not there: run `cargo xtask setup`"
        );
    };
    let mut kafka = Kafka::new(library);
    kafka.start();
    let test = |topic: &str| {
        let to = format!("export.siem.to=kafka+tcp://127.0.0.1:{}/{topic}", kafka.port);
        let output = taffrail(&["export", "test", "siem", "-o", &to]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = test("events");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("TCP: connected") && said.ends_with("was taken\n"), "{said}");
    let (code, said) = test("nothing");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("accepted: no: topic nothing: there is no such topic"), "{said}");
    kafka.kill();
    let [Read { value, .. }] = &kafka.read()[..] else { panic!() };
    assert_eq!(serde_json::from_str::<Value>(value).unwrap()["state"], "test");
}
