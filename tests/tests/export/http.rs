//! Receivers that speak HTTP, as their protocols are documented: a webhook, Splunk's collector with acknowledgements,
//! `_bulk` with errors for single documents, Loki, and OpenTelemetry's protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use taffrail_tests::net::free_port;

use crate::stage::{Receiver, play, wait_for};

/// A request.
pub struct Request {
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// What a receiver has taken, and what it has to remember; it survives a kill as a database does.
#[derive(Default)]
pub struct Store {
    pub lines: Vec<String>,
    requests: usize,
    /// Splunk: what was received and is not safe yet.
    pending: BTreeMap<u64, Vec<String>>,
    ids: BTreeSet<String>,
}

pub type Answer = fn(&mut Store, &Request) -> (u16, String);

pub struct Stub {
    pub port: u16,
    answer: Answer,
    store: Arc<Mutex<Store>>,
    /// Of this life: set when it is killed.
    is_dead: Arc<AtomicBool>,
}

impl Stub {
    pub fn new(answer: Answer) -> Self {
        Self { port: free_port(), answer, store: Arc::default(), is_dead: Arc::default() }
    }
}

impl Receiver for Stub {
    fn start(&mut self) {
        // Of the last life a connection may be open still.
        let mut listener = None;
        wait_for("the port is free", || {
            listener = TcpListener::bind(("127.0.0.1", self.port)).ok();
            listener.is_some()
        });
        let listener = listener.unwrap();
        listener.set_nonblocking(true).unwrap();
        self.is_dead = Arc::default();
        let (answer, store, is_dead) = (self.answer, Arc::clone(&self.store), Arc::clone(&self.is_dead));
        std::thread::spawn(move || {
            while !is_dead.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (store, is_dead) = (Arc::clone(&store), Arc::clone(&is_dead));
                        std::thread::spawn(move || serve(stream, answer, &store, &is_dead));
                    }
                    Err(_) => std::thread::park_timeout(Duration::from_millis(5)),
                }
            }
        });
    }

    fn kill(&mut self) {
        // Whoever answers now still has the lock, or will see that it is dead.
        let mut store = self.store.lock().unwrap();
        self.is_dead.store(true, Ordering::Relaxed);
        // What was not safe is lost with it.
        store.pending.clear();
    }

    fn streams(&self) -> Vec<Vec<String>> {
        vec![self.store.lock().unwrap().lines.clone()]
    }

    fn count(&self) -> usize {
        self.store.lock().unwrap().lines.len()
    }
}

fn serve(mut stream: TcpStream, answer: Answer, store: &Mutex<Store>, is_dead: &AtomicBool) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
    let mut received = Vec::new();
    while let Some(request) = read(&mut stream, &mut received, is_dead) {
        let mut store = store.lock().unwrap();
        if is_dead.load(Ordering::Relaxed) {
            break;
        }
        store.requests += 1;
        let (status, body) = answer(&mut store, &request);
        // Every 17th answer is lost on its way.
        let is_lost = store.requests.is_multiple_of(17);
        drop(store);
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        if is_lost || stream.write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read(stream: &mut TcpStream, received: &mut Vec<u8>, is_dead: &AtomicBool) -> Option<Request> {
    let mut buffer = vec![0; 65_536];
    let mut more = |received: &mut Vec<u8>| loop {
        if is_dead.load(Ordering::Relaxed) {
            return None;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(read) => {
                received.extend_from_slice(&buffer[..read]);
                return Some(());
            }
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return None,
        }
    };
    let end = loop {
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        more(received)?;
    };
    let head = String::from_utf8(received.drain(..end).collect()).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    let headers: BTreeMap<String, String> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length")?.parse().ok()?;
    while received.len() < length {
        more(received)?;
    }
    Some(Request { path, headers, body: received.drain(..length).collect() })
}

/// The body as it was before it was packed.
pub fn unpacked(request: &Request) -> Vec<u8> {
    match request.headers.get("content-encoding").map(String::as_str) {
        Some("gzip") => {
            let mut body = Vec::new();
            flate2::read::GzDecoder::new(&*request.body).read_to_end(&mut body).unwrap();
            body
        }
        Some("zstd") => zstd::decode_all(&*request.body).unwrap(),
        _ => request.body.clone(),
    }
}

/// JSON values one behind the other, each as its own text.
fn raw(text: &str) -> Vec<&RawValue> {
    serde_json::Deserializer::from_str(text).into_iter().map(Result::unwrap).collect()
}

pub fn webhook(store: &mut Store, request: &Request) -> (u16, String) {
    assert_eq!(request.headers["content-type"], "application/json");
    let body = String::from_utf8(unpacked(request)).unwrap();
    let events: Vec<&RawValue> = serde_json::from_str(&body).unwrap();
    store.lines.extend(events.iter().map(|event| event.get().to_owned()));
    (200, String::new())
}

#[test]
fn webhook_has_every_record() {
    let mut stub = Stub::new(webhook);
    let port = stub.port;
    play(&mut stub, port, str::to_owned, |port| {
        format!(
            "export: {{x: {{to: 'webhook+http://127.0.0.1:{port}/', timeout_ms: 3000, compression: zstd, batch_wait_ms: 20}}}}"
        )
    });
}

fn splunk(store: &mut Store, request: &Request) -> (u16, String) {
    if request.headers.get("authorization").map(String::as_str) != Some("Splunk geheim") {
        return (401, json!({ "text": "Token is required", "code": 2 }).to_string());
    }
    let body = String::from_utf8(unpacked(request)).unwrap();
    if request.path.starts_with("/services/collector/ack?channel=") {
        let asked: Value = serde_json::from_str(&body).unwrap();
        let mut acks = serde_json::Map::new();
        for id in asked["acks"].as_array().unwrap() {
            // The second time that it is asked, it is safe.
            let id = id.as_u64().unwrap();
            let is_safe = store.requests.is_multiple_of(2);
            if is_safe && let Some(lines) = store.pending.remove(&id) {
                store.lines.extend(lines);
                acks.insert(id.to_string(), true.into());
            } else {
                acks.insert(id.to_string(), false.into());
            }
        }
        return (200, json!({ "acks": acks }).to_string());
    }
    assert_eq!(request.path, "/services/collector/event");
    assert!(request.headers.contains_key("x-splunk-request-channel"));
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        event: &'a RawValue,
        host: &'a str,
        time: f64,
    }
    let envelopes: Vec<Envelope<'_>> =
        raw(&body).iter().map(|text| serde_json::from_str(text.get()).unwrap()).collect();
    assert!(envelopes.iter().all(|envelope| envelope.host == "node-1" && envelope.time > 1e9));
    let id = store.requests as u64;
    store.pending.insert(id, envelopes.iter().map(|envelope| envelope.event.get().to_owned()).collect());
    (200, json!({ "text": "Success", "code": 0, "ackId": id }).to_string())
}

#[test]
fn splunks_collector_has_every_record() {
    let mut stub = Stub::new(splunk);
    let port = stub.port;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "geheim\n").unwrap();
    play(&mut stub, port, str::to_owned, |port| {
        format!(
            "export: {{x: {{to: 'splunk+http://127.0.0.1:{port}', token_file: '{}', acknowledge: true, timeout_ms: 3000, compression: gzip, batch_wait_ms: 20}}}}",
            token.display()
        )
    });
}

fn bulk(store: &mut Store, request: &Request) -> (u16, String) {
    assert_eq!(
        (request.path.as_str(), request.headers["content-type"].as_str()),
        ("/_bulk", "application/x-ndjson")
    );
    let body = String::from_utf8(unpacked(request)).unwrap();
    let lines: Vec<&str> = body.lines().collect();
    let mut items = Vec::new();
    for pair in lines.chunks(2) {
        let action: Value = serde_json::from_str(pair[0]).unwrap();
        assert_eq!(action["create"]["_index"], "logs-taffrail-default");
        let id = action["create"]["_id"].as_str().unwrap().to_owned();
        // In each eleventh request some documents find the node busy; those behind them too, as a queue that is full.
        let status = match () {
            () if store.requests.is_multiple_of(11) && items.len() >= 5 => 429,
            () if store.ids.contains(&id) => 409,
            () => 201,
        };
        if status == 201 {
            store.ids.insert(id.clone());
            store.lines.push(pair[1].to_owned());
        }
        let error = json!({ "type": "es_rejected_execution_exception", "reason": "busy" });
        items.push(json!({ "create": { "_id": id, "status": status, "error": error } }));
    }
    (200, json!({ "took": 1, "errors": true, "items": items }).to_string())
}

#[test]
fn bulk_index_has_every_record_exactly_once() {
    let mut stub = Stub::new(bulk);
    let port = stub.port;
    play(&mut stub, port, str::to_owned, |port| {
        format!(
            "export: {{x: {{to: 'elastic+http://127.0.0.1:{port}', format: json, timeout_ms: 3000, batch_wait_ms: 20}}}}"
        )
    });
    let lines = stub.streams().concat();
    assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), lines.len());
}

fn loki(store: &mut Store, request: &Request) -> (u16, String) {
    assert_eq!(request.path, "/loki/api/v1/push");
    let body: Value = serde_json::from_slice(&unpacked(request)).unwrap();
    let mut values = Vec::new();
    for stream in body["streams"].as_array().unwrap() {
        assert_eq!(
            (&stream["stream"]["job"], &stream["stream"]["node"]),
            (&json!("taffrail"), &json!("node-1"))
        );
        for value in stream["values"].as_array().unwrap() {
            let line = value[1].as_str().unwrap().to_owned();
            let seq = serde_json::from_str::<Value>(&line).unwrap()["seq"].as_u64().unwrap();
            assert!(value[0].as_str().unwrap().parse::<u64>().is_ok());
            values.push((seq, line));
        }
    }
    // Streams are apart; what is compared is the whole.
    values.sort();
    store.lines.extend(values.into_iter().map(|(_, line)| line));
    (204, String::new())
}

#[test]
fn loki_has_every_record() {
    let mut stub = Stub::new(loki);
    let port = stub.port;
    play(&mut stub, port, str::to_owned, |port| {
        format!("export: {{x: {{to: 'loki+http://127.0.0.1:{port}', timeout_ms: 3000, batch_wait_ms: 20}}}}")
    });
}
