//! Clients that mean no good: slow ones, crowds, large heads, wrong certificates. The daemon goes on, and so does whoever may ask.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use taffrail_tests::daemon::{records, wait_for};
use taffrail_tests::{cannot_load, skip};

use crate::{Served, command};

/// Memory of the daemon that is in use, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn crowd_of_silent_clients_holds_up_nobody_and_takes_no_memory() {
    const TEST: &str = "crowd_of_silent_clients_holds_up_nobody_and_takes_no_memory";
    if let Some(reason) = cannot_load() {
        skip!(TEST, "{reason}");
    }
    let served = Served::start(&[]);
    assert_eq!(served.with_token("/livez").0, 200);
    let before = resident(served.daemon.pid());
    let mut crowd: Vec<TcpStream> =
        (0..400).map(|_| TcpStream::connect(("127.0.0.1", served.port)).unwrap()).collect();
    // Half of them begin to say something that is no TLS, and never end.
    for stream in crowd.iter_mut().step_by(2) {
        // It may be closed by now.
        let _ = stream.write_all(&[0x16, 3, 1, 0x40]);
    }
    // The local socket does not know of it.
    assert_eq!(command(&served.daemon, &["status", "--live"]).0, Some(0));
    // Those that were let in are shown out by themselves: each connection reads its end.
    for stream in &mut crowd {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut rest = Vec::new();
        // Reset is an end too.
        let ended = stream
            .read_to_end(&mut rest)
            .map_or_else(|error| error.kind() != std::io::ErrorKind::WouldBlock, |_| true);
        assert!(ended, "a silent client is kept");
    }
    wait_for(|| (served.with_token("/livez").0 == 200).then_some(())).unwrap();
    let after = resident(served.daemon.pid());
    assert!(after < before + 8 * 1024, "{before} KiB before, {after} KiB after");
    let (_, metrics) = served.with_token("/metrics");
    let refused = |reason: &str| {
        let name = format!("taffrail_api_refused_connections_total{{reason=\"{reason}\"}} ");
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(&name))
            .map_or(0, |count| count.parse::<u64>().unwrap())
    };
    assert!(refused("full") >= 300 && refused("slow") + refused("handshake") >= 1, "{metrics}");
}

#[test]
fn large_heads_other_methods_and_unknown_paths_are_answered_in_a_word() {
    const TEST: &str = "large_heads_other_methods_and_unknown_paths_are_answered_in_a_word";
    if let Some(reason) = cannot_load() {
        skip!(TEST, "{reason}");
    }
    let served = Served::start(&[]);
    let token = format!("Authorization: Bearer {}", crate::TOKEN);
    let large = format!("X-Large: {}", "x".repeat(100_000));
    assert_eq!(served.curl("/metrics", &["--header", &token, "--header", &large]).0, 431);
    assert_eq!(served.curl("/metrics", &["--header", &token, "--data", "x"]).0, 405);
    assert_eq!(served.with_token("/metrics/../etc/passwd").0, 404);
    assert_eq!(served.curl("/log-level/debug", &["--header", &token, "--request", "PUT"]).0, 403);
    assert_eq!(served.with_token("/messages").0, 403);
    let (_, records) = served.daemon.stop();
    for status in [403, 404, 405, 431] {
        assert!(
            records.iter().any(|record| record["kind"] == "api" && record["status"] == status),
            "{status}"
        );
    }
    assert!(records.iter().all(|record| record["kind"] != "alert"), "who is known is no alert");
}

#[test]
fn who_is_not_known_learns_nothing_and_is_an_alert_once() {
    const TEST: &str = "who_is_not_known_learns_nothing_and_is_an_alert_once";
    if let Some(reason) = cannot_load() {
        skip!(TEST, "{reason}");
    }
    let served = Served::start(&[]);
    for path in ["/metrics", "/nothing", "/log-level/debug"] {
        assert_eq!(served.curl(path, &[]), (401, "neither a token nor a certificate\n".to_owned()));
    }
    for _ in 0..20 {
        let wrong = ["--header", "Authorization: Bearer not-the-token-0123456789"];
        assert_eq!(served.curl("/metrics", &wrong), (401, "unknown token\n".to_owned()));
    }
    // A certificate that somebody else has signed does not get that far.
    let others = taffrail_tests::net::Certificates::new();
    others.issue("client", "/CN=scraper/O=ops");
    let (cert, key) = (others.path("client.pem"), others.path("client.key"));
    let mut command = std::process::Command::new("curl");
    command.args([
        "--silent",
        "--cacert",
        &served.certificates.path("ca.pem"),
        "--cert",
        &cert,
        "--key",
        &key,
    ]);
    command.arg(format!("https://localhost:{}/metrics", served.port));
    // Who comes too often in a second is not heard, and comes again.
    let refused = wait_for(|| {
        let output = command.output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
        let is_it = |record: &Value| record["refused"] == "a certificate that is not accepted";
        records(&served.daemon.log()).iter().any(is_it).then_some(())
    });
    refused.expect("a record of it");
    let (_, records) = served.daemon.stop();
    let alerts: Vec<_> = records.iter().filter(|record| record["kind"] == "alert").collect();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(
        (&alerts[0]["rule"], &alerts[0]["access"]["from"]),
        (&"API access refused".into(), &"127.0.0.1".into())
    );
    let count = |refused: &str| {
        let of = records.iter().filter(|record| record["kind"] == "api" && record["refused"] == refused);
        of.map(|record| record["count"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((count("unknown token"), count("neither a token nor a certificate")), (20, 3));
}
