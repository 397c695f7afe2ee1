//! The daemon's own commands, by its local socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use taffrail_tests::daemon::{Daemon, wait_for};
use taffrail_tests::{cannot_load, skip};

use crate::{command, wait_for_code};

#[test]
fn daemon_is_live_and_ready_once_its_own_event_came_back_and_says_how_it_is() {
    if let Some(reason) = cannot_load() {
        skip!("daemon_is_live_and_ready_once_its_own_event_came_back_and_says_how_it_is", "{reason}");
    }
    let daemon = Daemon::start(&["scope.host=true", "log.record=evt.kind = exit"]);
    assert_eq!(daemon.log().join("control.sock").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    wait_for_code(&daemon, &["status", "--ready"], 0);
    assert_eq!(command(&daemon, &["status", "--live"]), (Some(0), "ok\n".to_owned()));
    let (code, status) = command(&daemon, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(status["pid"], daemon.pid());
    assert!(status["rules"]["count"].as_u64().unwrap() > 70, "{status}");
    assert!(status["canary_age_s"].as_u64().unwrap() < 20, "{status}");
    assert_eq!(status["rings"].as_object().unwrap().len(), 2, "{status}");
    let (_, text) = command(&daemon, &["status"]);
    assert!(text.contains("live yes, ready yes"), "{text}");
    daemon.wait_for(|record| is_exit_of(record, "status --live"));
    // Other daemons may run, and their children are no business of this one's.
    let own = format!("run --config {}", daemon.config().display());
    let (status, records) = daemon.stop();
    assert!(status.success());
    // Whoever asked is in the log, and the event that came back is not.
    let asked = records.iter().find(|record| record["kind"] == "api" && record["path"] == "/livez").unwrap();
    assert_eq!(
        (&asked["by"], &asked["name"], &asked["status"]),
        (&"local".into(), &"uid 0".into(), &200.into())
    );
    assert_eq!(records.iter().find(|record| is_exit_of(record, &own)), None);
}

/// Whether a record tells that such a command has ended.
fn is_exit_of(record: &Value, command: &str) -> bool {
    record["event"]["kind"] == "exit"
        && record["process"]["cmdline"]
            .as_str()
            .is_some_and(|line| line.contains(&format!("taffrail {command}")))
}

#[test]
fn log_level_changes_while_the_daemon_runs() {
    if let Some(reason) = cannot_load() {
        skip!("log_level_changes_while_the_daemon_runs", "{reason}");
    }
    let daemon = Daemon::start(&[]);
    let level = || {
        let (_, status) = command(&daemon, &["status", "--json"]);
        serde_json::from_str::<Value>(&status).unwrap()["log_level"].clone()
    };
    assert_eq!(level(), "info");
    wait_for_code(&daemon, &["log-level", "error"], 0);
    assert_eq!(level(), "error");
    // A mistake in the command line is one for the command line.
    assert_eq!(command(&daemon, &["log-level", "loud"]).0, Some(2));
}

#[test]
fn rules_are_loaded_anew_when_their_file_changes_and_what_is_wrong_is_refused() {
    if let Some(reason) = cannot_load() {
        skip!("rules_are_loaded_anew_when_their_file_changes_and_what_is_wrong_is_refused", "{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    std::fs::write(&rules, "[]\n").unwrap();
    let daemon = Daemon::start(&[&format!("rules.files=[{}]", rules.display()), "rules.embedded=false"]);
    let rule = "- rule: Ours\n  desc: x\n  condition: evt.type = execve and proc.name = never\n  output: x\n  priority: NOTICE\n";
    std::fs::write(&rules, rule).unwrap();
    let reloaded = daemon.wait_for(|record| record["kind"] == "rules" && record["result"] == "reloaded");
    assert_eq!(reloaded["rules"], 1);
    std::fs::write(&rules, "- rule: Theirs\n  condition: evt.tpye = execve\n").unwrap();
    let refused = daemon.wait_for(|record| record["kind"] == "rules" && record["result"] == "refused");
    let reason = refused["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with(rules.to_str().unwrap()), "{refused}");
    // Who has no access to the log sees it in what the daemon said last.
    assert!(daemon.said().contains(&format!("error: not loaded: {reason}")));
    let (_, status) = command(&daemon, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["rules"]["count"], &status["rules"]["last_reload_ok"]), (&1.into(), &false.into()));
}

/// Answers a request as a server does that knows no such path: by repeating it.
fn refuse(stream: TcpStream) -> std::io::Result<()> {
    let mut request = String::new();
    let mut reader = BufReader::new(&stream);
    reader.read_line(&mut request)?;
    let said = format!("Cannot {}", request.trim());
    write!(&stream, "HTTP/1.1 404 x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{said}", said.len())?;
    // Until the client hangs up: what it still sends must not break the answer off.
    std::io::copy(&mut reader, &mut std::io::sink()).map(drop)
}

#[test]
fn bundle_has_what_helps_and_no_planted_secret() {
    if let Some(reason) = cannot_load() {
        skip!("bundle_has_what_helps_and_no_planted_secret", "{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "planted-in-a-file\n").unwrap();
    let config = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let exporter = format!(
        "export: {{x: {{to: 'webhook+http://{}/services/T0/planted-in-a-path?key=planted-in-an-address', token_file: {}, \
         headers: ['X-Key: planted-in-a-header']}}}}\n",
        listener.local_addr().unwrap(),
        token.display()
    );
    std::thread::spawn(move || {
        // Whoever asks may break off.
        listener.incoming().flatten().for_each(|stream| drop(refuse(stream)));
    });
    std::fs::write(config.path().join("config.yaml"), exporter).unwrap();
    let daemon = Daemon::start_in(config, &[]);
    // What it says of the exporter that gets nowhere is among its messages.
    wait_for(|| daemon.said().contains("exporter x: accepted: 404").then_some(())).unwrap();
    let (_, position) = command(&daemon, &["export", "status", "--json"]);
    for text in [daemon.said(), position, command(&daemon, &["export", "list"]).1] {
        assert!(text.contains("[redacted]") && !text.contains("planted"), "{text}");
    }
    let into = folder.path().join("bundle.tar");
    let (code, said) = command(&daemon, &["support-bundle", into.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    // For who has no file to write to, as in a pod, it is all that is said.
    let (code, piped) = command(&daemon, &["support-bundle", "-"]);
    assert_eq!(code, Some(0));
    for text in [std::fs::read_to_string(&into).unwrap(), piped] {
        assert!(text.starts_with("taffrail-support/config.yaml\0"), "{text}");
        for part in ["status.json", "metrics.txt", "messages.txt", "doctor.json", "versions.json"] {
            assert!(text.contains(&format!("taffrail-support/{part}\0")), "{part}");
        }
        for found in ["taffrail_events_total", "exporter x", "[redacted]", "\"confinement\""] {
            assert!(text.contains(found), "{found}: {text}");
        }
        assert!(!text.contains("planted"), "{text}");
    }
}
