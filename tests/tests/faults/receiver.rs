//! A receiver that is gone for longer than the log keeps its records.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, wait_for};
use taffrail_tests::{cannot_trace, skip};

/// The records of the log that have arrived: syslog with octet counting, whose messages end with the record.
fn receive(stream: TcpStream, records: &Mutex<Vec<Value>>) {
    let (mut stream, mut length) = (BufReader::new(stream), Vec::new());
    while stream.read_until(b' ', &mut length).is_ok_and(|read| read > 0) {
        let mut message = vec![0; std::str::from_utf8(&length).unwrap().trim().parse().unwrap()];
        stream.read_exact(&mut message).unwrap();
        let begin = message.windows(7).position(|window| window == b"{\"seq\":").unwrap();
        records.lock().unwrap().push(serde_json::from_slice(&message[begin..]).unwrap());
        length.clear();
    }
}

#[test]
fn receiver_that_is_gone_for_too_long_has_the_rest_and_is_told_what_is_missing() {
    if let Some(reason) = cannot_trace() {
        skip!("receiver_that_is_gone_for_too_long_has_the_rest_and_is_told_what_is_missing", "{reason}");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let daemon = Daemon::start(&[
        &format!("export.x.to=syslog+tcp://127.0.0.1:{port}"),
        "log.segment_bytes=64KiB",
        "log.retention_bytes=256KiB",
        "log.compress=false",
        "log.record=container.id != host and evt.kind = exec",
        "rules.embedded=false",
    ]);
    let container = Container::start("gone").unwrap();
    let run = |word: &str| {
        let output =
            container.sh(&format!("for n in $(seq 500); do /bin/true $n; done; /bin/true {word}")).unwrap();
        assert!(output.status.success());
    };
    run("away");
    // Old segments are gone; what the exporter had read of them it still has.
    daemon.wait_for(|record| record["kind"] == "retention");
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let arrived: Arc<Mutex<Vec<Value>>> = Arc::default();
    let theirs = Arc::clone(&arrived);
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| receive(stream, &theirs)));
    run("back");
    let last = wait_for(|| {
        let arrived = arrived.lock().unwrap();
        let back = arrived.iter().find(|record| record["event"]["args"][1] == "back")?;
        // The gap is told after it is found, which is before anything is sent.
        arrived.iter().find(|record| record["kind"] == "gap" && record["where"] == "export")?;
        back["seq"].as_u64()
    });
    let last = last.expect("what happens while the receiver is back arrives, and what is missing is told");
    let (status, _) = daemon.stop();
    assert!(status.success());
    let arrived = arrived.lock().unwrap();
    let numbers: BTreeSet<u64> = arrived.iter().filter_map(|record| record["seq"].as_u64()).collect();
    let gaps = arrived.iter().filter(|record| record["kind"] == "gap" && record["where"] == "export");
    let mut told = BTreeSet::new();
    for gap in gaps {
        let (from, to) = (gap["from_seq"].as_u64().unwrap(), gap["to_seq"].as_u64().unwrap());
        assert_eq!(gap["count"], to - from + 1, "{gap}");
        told.extend(from..=to);
    }
    assert!(!told.is_empty(), "nothing was deleted: that tests nothing");
    let missing: Vec<u64> = (1..=last).filter(|seq| !numbers.contains(seq) && !told.contains(seq)).collect();
    assert!(missing.is_empty(), "neither arrived nor told: {missing:?}");
    assert!(numbers.is_disjoint(&told), "told as missing, and arrived");
}
