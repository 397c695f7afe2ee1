//! The producer against brokers of the tests' own, which keep to the protocol where a mock of others does not look: they
//! number the records of each producer, know what they have already, move partitions, forget, refuse, and lie.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use ring::{digest, hmac, pbkdf2};

use super::wire::{Reader, Write as _};
use super::*;
use crate::export::settings::{Compression, Sasl};

/// What a broker does with a request for records.
#[derive(Clone, Copy)]
enum Act {
    Take,
    /// It has them, but its answer does not arrive.
    TakeAndHangUp,
    Error(i16),
    /// It has them, but answers of no partition, or of each twice.
    Miscount(usize),
    /// It has them, but answers with a length that nobody has.
    Boast,
}

/// A record as it was taken: key, id, value.
type Taken = (String, String, String);

#[derive(Default)]
struct State {
    ports: Vec<u16>,
    /// Of each partition which broker leads it.
    leaders: Vec<usize>,
    taken: Vec<Vec<Taken>>,
    /// Of each producer and partition the number that comes next.
    next: HashMap<(i64, i32), i32>,
    producers: i64,
    /// Of each request for records what is done, by its number and the records.
    act: Option<fn(usize, &[Taken]) -> Act>,
    produced: usize,
    /// Who may come in.
    login: Option<(&'static str, &'static str, &'static str)>,
    /// A broker that hangs up when it is asked who leads, or for an identity.
    mute: Option<usize>,
    /// Error of the topic.
    topic_error: i16,
}

struct Cluster {
    state: Arc<Mutex<State>>,
}

impl Cluster {
    fn new(brokers: usize, partitions: usize, act: fn(usize, &[Taken]) -> Act) -> Self {
        let listeners: Vec<TcpListener> =
            (0..brokers).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let state = Arc::new(Mutex::new(State {
            ports: listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect(),
            leaders: (0..partitions).map(|partition| partition % brokers).collect(),
            taken: vec![Vec::new(); partitions],
            act: Some(act),
            ..State::default()
        }));
        for (broker, listener) in listeners.into_iter().enumerate() {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let state = Arc::clone(&state);
                    // Whoever breaks off is no concern of the broker.
                    std::thread::spawn(move || serve(stream.unwrap(), broker, &state));
                }
            });
        }
        Self { state }
    }

    fn settings(&self, more: &str) -> Settings {
        let port = self.state.lock().unwrap().ports[0];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        let text =
            format!("export: {{x: {{to: 'kafka+tcp://127.0.0.1:{port}/events', timeout_ms: 2000{more}}}}}");
        std::fs::write(&path, text).unwrap();
        crate::config::load(Some(&path), &[]).unwrap().exporters.remove(0)
    }

    /// The topic, with one partition.
    fn make_anew(&self) {
        let mut state = self.state.lock().unwrap();
        (state.leaders, state.taken) = (vec![0], vec![Vec::new()]);
    }

    /// All records, partition by partition.
    fn taken(&self) -> Vec<Vec<Taken>> {
        self.state.lock().unwrap().taken.clone()
    }
}

fn serve(mut stream: TcpStream, broker: usize, state: &Mutex<State>) -> std::io::Result<()> {
    let mut scram = None;
    let mut is_in = state.lock().unwrap().login.is_none();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        let mut request = Reader::new(&frame);
        let (key, version, number) = (request.i16().unwrap(), request.i16().unwrap(), request.i32().unwrap());
        assert_eq!(request.text().unwrap(), "taffrail");
        let state = &mut *state.lock().unwrap();
        // Before a login only what belongs to it is answered.
        if !is_in && ![18, 17, 36].contains(&key) {
            return Ok(());
        }
        if state.mute == Some(broker) && [3, 22].contains(&key) {
            return Ok(());
        }
        let mut answer = Vec::new();
        answer.i32(number);
        match (key, version) {
            (18, 0) => versions(&mut answer),
            (3, 7) => metadata(state, &mut answer),
            (22, 1) => {
                state.producers += 1;
                answer.i32(0);
                answer.i16(0);
                answer.i64(state.producers);
                answer.i16(0);
            }
            (17, 1) => {
                let (mechanism, ..) = state.login.unwrap();
                answer.i16(if request.text().unwrap() == mechanism { 0 } else { 33 });
                answer.count(1);
                answer.text(mechanism);
            }
            (36, 1) => {
                let token = String::from_utf8(request.bytes().unwrap().to_vec()).unwrap();
                let said = authenticate(state, &token, &mut scram);
                is_in |= said.as_ref().is_some_and(|(_, is_in)| *is_in);
                answer.i16(if said.is_some() { 0 } else { 58 });
                answer.text(if said.is_some() { "" } else { "Authentication failed\u{1b}" });
                answer.bytes(said.unwrap_or_default().0.as_bytes());
                answer.i64(0);
            }
            (0, 7) => {
                let Some(act) = produce(state, broker, &mut request, &mut answer) else { return Ok(()) };
                if let Act::Boast = act {
                    stream.write_all(&[0x7f; 8])?;
                    continue;
                }
            }
            other => panic!("unknown request {other:?}"),
        }
        stream.write_all(&u32::to_be_bytes(answer.len() as u32))?;
        stream.write_all(&answer)?;
    }
}

fn versions(answer: &mut Vec<u8>) {
    answer.i16(0);
    answer.count(4);
    for (key, from, to) in [(0, 3, 11), (3, 0, 12), (22, 0, 5), (17, 0, 1)] {
        answer.i16(key);
        answer.i16(from);
        answer.i16(to);
    }
}

fn metadata(state: &State, answer: &mut Vec<u8>) {
    answer.i32(0);
    answer.count(state.ports.len());
    for (id, port) in state.ports.iter().enumerate() {
        answer.i32(id as i32);
        answer.text("127.0.0.1");
        answer.i32(i32::from(*port));
        answer.no_text();
    }
    answer.text("cluster");
    answer.i32(0);
    answer.count(1);
    answer.i16(state.topic_error);
    answer.text("events");
    answer.i8(0);
    answer.count(state.leaders.len());
    for (index, leader) in state.leaders.iter().enumerate() {
        answer.i16(0);
        answer.i32(index as i32);
        answer.i32(*leader as i32);
        answer.i32(0);
        for _ in 0..3 {
            answer.count(0);
        }
    }
}

/// Takes records, or not; `None` hangs up.
fn produce(state: &mut State, broker: usize, request: &mut Reader<'_>, answer: &mut Vec<u8>) -> Option<Act> {
    request.text().unwrap();
    assert_eq!(request.i16().unwrap(), -1);
    assert_eq!(request.i32().unwrap(), 1000);
    assert_eq!(request.i32().unwrap(), 1);
    assert_eq!(request.text().unwrap(), "events");
    let parts = request.list(|part| Ok((part.i32()?, part.bytes()?.to_vec()))).unwrap();
    let mut codes = Vec::new();
    let mut act = Act::Take;
    for (partition, batch) in parts {
        let (producer, sequence, records) = unpack(&batch);
        act = state.act.unwrap()(state.produced, &records);
        state.produced += 1;
        let next = state.next.entry((producer, partition)).or_default();
        codes.push((
            partition,
            match act {
                Act::Error(code) => code,
                _ if state.leaders[partition as usize] != broker => 6,
                _ if sequence + records.len() as i32 == *next => 46,
                _ if sequence != *next => 45,
                _ => {
                    *next += records.len() as i32;
                    state.taken[partition as usize].extend(records);
                    0
                }
            },
        ));
    }
    let times = if let Act::Miscount(times) = act { times } else { 1 };
    answer.count(1);
    answer.text("events");
    answer.count(codes.len() * times);
    for (partition, code) in codes.repeat(times) {
        answer.i32(partition);
        answer.i16(code);
        for _ in 0..3 {
            answer.i64(-1);
        }
    }
    answer.i32(0);
    (!matches!(act, Act::TakeAndHangUp)).then_some(act)
}

/// Reads a batch of records as the definition of the format says.
fn unpack(batch: &[u8]) -> (i64, i32, Vec<Taken>) {
    let mut head = Reader::new(batch);
    assert_eq!((head.i64().unwrap(), head.i32().unwrap()), (0, batch.len() as i32 - 12));
    assert_eq!((head.i32().unwrap(), head.i8().unwrap()), (-1, 2));
    assert_eq!(head.i32().unwrap() as u32, crc32c::crc32c(&batch[21..]));
    let attributes = head.i16().unwrap();
    let last = head.i32().unwrap();
    let (start, end) = (head.i64().unwrap(), head.i64().unwrap());
    assert!(start <= end);
    let (producer, epoch, sequence) = (head.i64().unwrap(), head.i16().unwrap(), head.i32().unwrap());
    assert_eq!((epoch, head.i32().unwrap()), (0, last + 1));
    let body = match attributes {
        0 => batch[61..].to_vec(),
        1 => {
            let mut body = Vec::new();
            flate2::read::GzDecoder::new(&batch[61..]).read_to_end(&mut body).unwrap();
            body
        }
        4 => zstd::decode_all(&batch[61..]).unwrap(),
        other => panic!("attributes {other}"),
    };
    let mut rest = &body[..];
    let mut records = Vec::new();
    for n in 0..=i64::from(last) {
        let length = varint(&mut rest) as usize;
        let (mut record, behind) = rest.split_at(length);
        rest = behind;
        assert_eq!(record[0], 0);
        record = &record[1..];
        varint(&mut record);
        assert_eq!(varint(&mut record), n);
        let (key, value) = (counted(&mut record), counted(&mut record));
        assert_eq!(varint(&mut record), 1);
        assert_eq!(counted(&mut record), "id");
        records.push((key, counted(&mut record), value));
        assert!(record.is_empty());
    }
    assert!(rest.is_empty());
    (producer, sequence, records)
}

fn varint(from: &mut &[u8]) -> i64 {
    let mut value = 0u64;
    for n in 0.. {
        let (byte, rest) = from.split_first().unwrap();
        *from = rest;
        value |= u64::from(byte & 0x7f) << (7 * n);
        if *byte < 0x80 {
            break;
        }
    }
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn counted(from: &mut &[u8]) -> String {
    let length = varint(from) as usize;
    let (text, rest) = from.split_at(length);
    *from = rest;
    String::from_utf8(text.to_vec()).unwrap()
}

/// What the broker says to a token, and whether whoever sent it is in; `None` if not. SCRAM needs two.
fn authenticate(state: &State, token: &str, scram: &mut Option<String>) -> Option<(String, bool)> {
    let (mechanism, user, password) = state.login?;
    if mechanism == "PLAIN" {
        return (token == format!("\0{user}\0{password}")).then(|| (String::new(), true));
    }
    let Some(said) = scram else {
        let bare = token.strip_prefix("n,,")?;
        let nonce = bare.strip_prefix(&format!("n={user},r="))?;
        let first = format!("r={nonce}+broker,s=c2FsdA==,i=4096");
        *scram = Some(format!("{bare},{first}"));
        return Some((first, false));
    };
    let (unproved, proof) = token.split_once(",p=")?;
    let base64 = &base64::engine::general_purpose::STANDARD;
    let proof = base64::Engine::decode(base64, proof).ok()?;
    let mut salted = [0; 64];
    let iterations = NonZeroU32::new(4096)?;
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, b"salt", password.as_bytes(), &mut salted);
    let sign = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), text.as_bytes());
    let stored = digest::digest(&digest::SHA512, sign(&salted, "Client Key").as_ref());
    let whole = format!("{said},{unproved}");
    let key: Vec<u8> =
        sign(stored.as_ref(), &whole).as_ref().iter().zip(&proof).map(|(sign, proof)| sign ^ proof).collect();
    if digest::digest(&digest::SHA512, &key).as_ref() != stored.as_ref() {
        return None;
    }
    let signature = sign(sign(&salted, "Server Key").as_ref(), &whole);
    Some((format!("v={}", base64::Engine::encode(base64, signature)), true))
}

/// Events of four containers and of the node, by their numbers.
fn batch(numbers: std::ops::RangeInclusive<u64>) -> Batch {
    let mut batch = Batch::default();
    for seq in numbers {
        let start = batch.bytes.len();
        batch.bytes.extend_from_slice(seq.to_string().as_bytes());
        let container = if seq % 5 == 4 { String::new() } else { format!("c{}", seq % 5) };
        batch.events.push(Event {
            seq,
            id: format!("x-{seq}"),
            time_ns: 1_795_521_600_000_000_000 - seq as i64,
            time: String::new(),
            severity: 6,
            kind: "event".into(),
            node: "node-1".into(),
            container,
            range: start..batch.bytes.len(),
        });
    }
    batch
}

/// Sends as an exporter does: the same batch again and again, until it is taken. Returns what is refused, and why it
/// failed before.
fn send(settings: &Settings, batches: &[Batch]) -> (Vec<Refused>, Vec<Failure>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut transport = (settings.receiver.open)(settings).await.unwrap();
        assert!(transport.outlives_failures());
        let (mut refused, mut failures) = (Vec::new(), Vec::new());
        for batch in batches {
            loop {
                match transport.send(batch).await {
                    Ok(more) => break refused.extend(more),
                    Err(failure) if failures.len() < 20 => failures.push(failure),
                    Err(failure) => panic!("{failure}"),
                }
            }
        }
        (refused, failures)
    })
}

fn fails(settings: &Settings) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut transport = (settings.receiver.open)(settings).await.unwrap();
        transport.send(&batch(1..=3)).await.unwrap_err().to_string()
    })
}

/// Each event is there once, in the partition of its key, and in order.
fn assert_whole(taken: &[Vec<Taken>], numbers: std::ops::RangeInclusive<u64>) {
    let mut all = Vec::new();
    for (index, records) in taken.iter().enumerate() {
        let mut last: HashMap<&str, u64> = HashMap::new();
        for (key, id, value) in records {
            assert_eq!(records::partition(key, taken.len()), index as i32);
            let number: u64 = value.parse().unwrap();
            let expected = if number % 5 == 4 { "node-1".into() } else { format!("c{}", number % 5) };
            assert_eq!((key, id), (&expected, &format!("x-{number}")));
            assert!(last.insert(key, number).is_none_or(|last| last < number), "{number} came late");
            all.push(number);
        }
    }
    all.sort_unstable();
    assert_eq!(all, numbers.collect::<Vec<_>>());
}

#[test]
fn each_event_is_there_once_and_in_order_although_answers_are_lost() {
    for compression in Compression::ALL {
        let cluster = Cluster::new(2, 3, |n, _| if n % 4 == 1 { Act::TakeAndHangUp } else { Act::Take });
        let settings = cluster.settings(&format!(", compression: {}", compression.name()));
        let (refused, failures) = send(&settings, &[batch(1..=100), batch(101..=101), batch(102..=300)]);
        assert_eq!(refused, []);
        assert!(!failures.is_empty());
        assert_whole(&cluster.taken(), 1..=300);
        assert_eq!(cluster.state.lock().unwrap().producers, 1);
    }
}

#[test]
fn partition_that_has_moved_is_found_without_a_failure() {
    let cluster = Cluster::new(2, 3, |_, _| Act::Take);
    let settings = cluster.settings("");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut transport = (settings.receiver.open)(&settings).await.unwrap();
        transport.send(&batch(1..=50)).await.unwrap();
        cluster.state.lock().unwrap().leaders = vec![1, 0, 1];
        transport.send(&batch(51..=100)).await.unwrap();
    });
    assert_whole(&cluster.taken(), 1..=100);
}

#[test]
fn topic_that_was_made_anew_with_fewer_partitions_gets_what_is_left() {
    let cluster = Cluster::new(1, 3, |n, _| if n < 3 { Act::Error(7) } else { Act::Take });
    let settings = cluster.settings("");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut transport = (settings.receiver.open)(&settings).await.unwrap();
        transport.send(&batch(1..=50)).await.unwrap_err();
        cluster.make_anew();
        transport.send(&batch(1..=50)).await.unwrap();
    });
    assert_whole(&cluster.taken(), 1..=50);
}

#[test]
fn broker_that_has_forgotten_the_producer_is_told_and_gets_the_rest_from_a_new_one() {
    let cluster = Cluster::new(1, 1, |n, _| if n == 1 { Act::Error(59) } else { Act::Take });
    let (refused, failures) = send(&cluster.settings(""), &[batch(1..=10), batch(11..=20), batch(21..=30)]);
    assert_eq!((refused, failures.len()), (vec![], 1));
    assert!(failures[0].why.contains("UNKNOWN_PRODUCER_ID"), "{}", failures[0]);
    assert_whole(&cluster.taken(), 1..=30);
    assert_eq!(cluster.state.lock().unwrap().producers, 2);
}

#[test]
fn event_that_is_too_large_is_found_and_all_others_arrive() {
    let cluster = Cluster::new(1, 2, |_, records| {
        if records.iter().any(|(_, _, value)| value == "13") { Act::Error(10) } else { Act::Take }
    });
    let (refused, failures) = send(&cluster.settings(""), &[batch(11..=40)]);
    assert_eq!(failures, []);
    let [Refused { index: 2, reason }] = &refused[..] else { panic!("{refused:?}") };
    assert!(reason.contains("MESSAGE_TOO_LARGE"), "{reason}");
    let taken: usize = cluster.taken().iter().map(Vec::len).sum();
    assert_eq!(taken, 29);
}

#[test]
fn broker_that_does_not_say_what_became_of_records_gets_them_again() {
    for act in [Act::Miscount(0), Act::Boast, Act::Error(2), Act::Error(20), Act::Error(7)] {
        let cluster = Cluster::new(1, 1, |_, _| Act::Take);
        let settings = cluster.settings("");
        cluster.state.lock().unwrap().act = Some(match act {
            Act::Miscount(_) => |n, _| if n == 0 { Act::Miscount(0) } else { Act::Take },
            Act::Boast => |n, _| if n == 0 { Act::Boast } else { Act::Take },
            Act::Error(2) => |n, _| if n == 0 { Act::Error(2) } else { Act::Take },
            Act::Error(20) => |n, _| if n == 0 { Act::Error(20) } else { Act::Take },
            _ => |n, _| if n == 0 { Act::Error(7) } else { Act::Take },
        });
        let (_, failures) = send(&settings, &[batch(1..=10)]);
        assert_eq!(failures.len(), 1);
        assert_whole(&cluster.taken(), 1..=10);
    }
}

#[test]
fn answer_that_tells_of_a_partition_twice_takes_one_part_only() {
    let cluster = Cluster::new(1, 1, |n, _| if n == 0 { Act::Miscount(2) } else { Act::Take });
    let mut large = batch(1..=4);
    large.bytes.resize(PART_MAX * 2, b'x');
    large.events[2].range = 0..PART_MAX;
    let (_, failures) = send(&cluster.settings(""), &[large]);
    assert_eq!(failures, []);
    let taken: Vec<String> = cluster.taken()[0].iter().map(|(_, id, _)| id.clone()).collect();
    assert_eq!(taken, ["x-1", "x-2", "x-3", "x-4"]);
}

#[test]
fn what_brokers_forbid_is_said_in_plain_words() {
    let cluster = Cluster::new(1, 1, |_, _| Act::Error(29));
    let why = fails(&cluster.settings(""));
    assert_eq!(
        why,
        "authentication: topic events: we may not write to the topic: give this user the operations Write and Describe (TOPIC_AUTHORIZATION_FAILED)"
    );
    cluster.state.lock().unwrap().topic_error = 3;
    let why = fails(&cluster.settings(""));
    assert!(why.starts_with("accepted: topic events: there is no such topic"), "{why}");
}

#[test]
fn login_is_shown_as_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "geheim\n").unwrap();
    // The settings refuse to send a password without TLS, which this cluster does not speak.
    let login = |cluster: &Cluster, user: &str, sasl: Sasl| Settings {
        sasl,
        ..cluster.settings(&format!(", user: '{user}', password_file: '{}'", password.display()))
    };
    for (mechanism, sasl) in [("PLAIN", Sasl::Plain), ("SCRAM-SHA-512", Sasl::ScramSha512)] {
        let cluster = Cluster::new(1, 1, |_, _| Act::Take);
        cluster.state.lock().unwrap().login = Some((mechanism, "taff", "geheim"));
        send(&login(&cluster, "taff", sasl), &[batch(1..=3)]);
        assert_whole(&cluster.taken(), 1..=3);

        let why = fails(&login(&cluster, "tuff", sasl));
        assert!(
            why.starts_with("authentication: 127.0.0.1:") && why.contains("SASL_AUTHENTICATION_FAILED"),
            "{why}"
        );
        assert!(why.contains("\\x1b") && !why.contains('\u{1b}') && !why.contains("geheim"), "{why}");
        let why = fails(&login(&cluster, "taff", Sasl::ScramSha256));
        assert!(why.contains(&format!("it does not take SCRAM-SHA-256, but {mechanism}")), "{why}");
        let why = fails(&cluster.settings(""));
        assert!(why.contains("perhaps it wants TLS") && why.contains("login"), "{why}");
    }
}

#[test]
fn another_broker_is_asked_if_the_first_is_gone() {
    let cluster = Cluster::new(1, 2, |_, _| Act::Take);
    let port = cluster.state.lock().unwrap().ports[0];
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut settings = cluster.settings(&format!(", brokers: ['127.0.0.1:{port}']"));
    settings.to.set_port(Some(gone)).unwrap();
    send(&settings, &[batch(1..=9)]);
    assert_whole(&cluster.taken(), 1..=9);
}

#[test]
fn another_broker_is_asked_if_the_first_does_not_tell_what_has_to_be_known() {
    let cluster = Cluster::new(2, 4, |_, _| Act::Take);
    cluster.state.lock().unwrap().mute = Some(0);
    let second = cluster.state.lock().unwrap().ports[1];
    let (_, failures) =
        send(&cluster.settings(&format!(", brokers: ['127.0.0.1:{second}']")), &[batch(1..=200)]);
    assert!(failures.is_empty(), "{}", failures[0]);
    assert_whole(&cluster.taken(), 1..=200);
}

#[test]
fn whatever_texts_hold_a_record_has_them_in_their_place() {
    let texts = crate::export::format::tests::hostile();
    let lines: Vec<String> = texts.iter().map(|text| crate::export::format::tests::chosen(text)).collect();
    let records: Vec<Record<'_>> = texts
        .iter()
        .zip(&lines)
        .map(|(key, line)| Record { key, id: "x-1", value: line.as_bytes(), time_ms: 0 })
        .collect();
    for compression in Compression::ALL {
        let identity = Identity { id: 1, epoch: 0 };
        let packed = records::batch(&records, identity, 7, compression).unwrap();
        let (producer, sequence, found) = unpack(&packed);
        assert_eq!((producer, sequence), (1, 7));
        let expected: Vec<Taken> =
            texts.iter().zip(&lines).map(|(text, line)| (text.clone(), "x-1".into(), line.clone())).collect();
        assert_eq!(found, expected);
    }
}
