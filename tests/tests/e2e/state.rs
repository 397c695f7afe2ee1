//! Rules that remember: several things that a container does make one alert, and a flood of alerts is throttled with
//! an exact count.

use serde_json::{Value, json};
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, wait_for};
use taffrail_tests::{cannot_trace, skip};

/// A daemon with one rule, and with nothing in its log but what comes of that.
fn with_rule(rule: &str) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    std::fs::write(&rules, rule).unwrap();
    let config = format!("rules:\n  files: [{}]\n  embedded: false\n", rules.display());
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    Daemon::start_in(folder, &["log.record=proc.name = nobody"])
}

fn alerts<'a>(records: &'a [Value], rule: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == "alert" && record["rule"] == rule).collect()
}

#[test]
fn five_failed_connects_are_one_alert_with_their_count() {
    if let Some(reason) = cannot_trace() {
        skip!("five_failed_connects_are_one_alert_with_their_count", "{reason}");
    }
    let daemon = with_rule(
        "
- rule: Connections fail
  desc: d
  condition: evt.kind = connect and evt.failed = true and fd.rport = 7 and container.id != host
  output: '%alert.count connections of %container.id failed'
  priority: WARNING
  taffrail:
    threshold: {count: 5, within: 10s, by: [container.id]}
",
    );
    let (loud, quiet) = (Container::start("fails").unwrap(), Container::start("seldom").unwrap());
    let tries = |container: &Container, count: u32| {
        let script = format!("for i in $(seq {count}); do nc -w 1 127.0.0.1 7; done; true");
        assert!(container.sh(&script).unwrap().status.success());
    };
    tries(&quiet, 4);
    tries(&loud, 9);
    let alert = daemon.wait_for(|record| record["kind"] == "alert");
    assert_eq!(alert["container"]["id"], loud.id());
    assert_eq!(alert["evidence"]["count"], 5);
    assert!(alert["output"].as_str().unwrap().starts_with("5 connections of "), "{alert}");
    let (first, last) = (&alert["evidence"]["first_boot_ns"], &alert["evidence"]["last_boot_ns"]);
    assert!(first.as_u64() < last.as_u64() && *last == alert["boot_ns"], "{alert}");
    let (_, records) = daemon.stop();
    assert_eq!(alerts(&records, "Connections fail").len(), 1);
}

#[test]
fn what_is_downloaded_made_executable_and_run_is_one_alert_with_each_step() {
    const TEST: &str = "what_is_downloaded_made_executable_and_run_is_one_alert_with_each_step";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let daemon = with_rule(
        "
- macro: download
  condition: evt.kind = open and evt.is_open_write = true and proc.name in (wget, curl)
- rule: Downloaded program run
  desc: d
  condition: evt.kind = exec and container.id != host
  output: '%proc.filename was downloaded'
  priority: CRITICAL
  taffrail:
    sequence:
      within: 1m
      by: [container.id, proc.filename]
      steps:
        - {name: downloaded, condition: download, by: [container.id, fd.name]}
        - {name: made executable, condition: 'evt.type in (chmod, fchmodat, fchmodat2)', by: [container.id, fs.path.name]}
",
    );
    let container = Container::start("download").unwrap();
    let body = "HTTP/1.0 200 OK\r\n\r\n#!/bin/sh\ntrue\n";
    std::fs::write(container.root().join("tmp/response"), body).unwrap();
    let fetch = |path: &str| {
        format!(
            "nc -l -p 8000 < /tmp/response > /tmp/request & until wget -q -O {path} http://127.0.0.1:8000/; do :; done; wait"
        )
    };
    let script = format!(
        "{}; chmod +x /tmp/one; {}; cp /tmp/two /tmp/three; chmod +x /tmp/three; /tmp/three; /tmp/one",
        fetch("/tmp/one"),
        fetch("/tmp/two")
    );
    let output = container.sh(&script).unwrap();
    assert!(output.status.success(), "{output:?}");
    let alert = daemon.wait_for(|record| record["kind"] == "alert");
    assert_eq!(alert["output"], "/tmp/one was downloaded");
    let steps = alert["evidence"]["steps"].as_array().unwrap();
    let told: Vec<_> =
        steps.iter().map(|step| (step["step"].clone(), step["process_name"].clone())).collect();
    let expected = [("downloaded", "wget"), ("made executable", "chmod"), ("condition", "one")];
    assert_eq!(told, expected.map(|(step, name)| (json!(step), json!(name))));
    assert!(steps.is_sorted_by_key(|step| step["boot_ns"].as_u64()));
    // The copy was not downloaded: what a rule joins on is what it joins on.
    let (_, records) = daemon.stop();
    assert_eq!(alerts(&records, "Downloaded program run").len(), 1);
}

#[test]
fn flood_of_alerts_is_throttled_and_alerts_and_suppressed_matches_are_all_matches() {
    const TEST: &str = "flood_of_alerts_is_throttled_and_alerts_and_suppressed_matches_are_all_matches";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let daemon = with_rule(
        "
- rule: Flood
  desc: d
  condition: evt.kind = exec and proc.name = true and container.id != host
  output: o
  priority: INFO
  taffrail: {throttle: {alerts: 7, per: 1h}}
",
    );
    let containers = [Container::start("flood-a").unwrap(), Container::start("flood-b").unwrap()];
    for (container, count) in containers.iter().zip([300, 20]) {
        let script = format!("for i in $(seq {count}); do /bin/true; done");
        assert!(container.sh(&script).unwrap().status.success());
    }
    let is_last = |records: &[Value]| {
        let b = containers[1].id();
        records
            .iter()
            .filter(|record| record["container"]["id"] == b && record["event"]["kind"] == "exec")
            .count()
            >= 20
    };
    wait_for(|| is_last(&taffrail_tests::daemon::records(&daemon.log())).then_some(())).unwrap();
    let (_, records) = daemon.stop();
    for (container, count) in containers.iter().zip([300, 20]) {
        let own: Vec<_> =
            records.iter().filter(|record| record["container"]["id"] == container.id()).collect();
        let of = |kind: &str| own.iter().filter(|record| record["kind"] == kind).collect::<Vec<_>>();
        assert_eq!(of("gap").len(), 0);
        assert_eq!(of("alert").len(), 7);
        let suppressed = of("suppressed");
        assert!(suppressed.iter().all(|record| record["rule"] == "Flood"));
        let told: u64 = suppressed.iter().filter_map(|record| record["count"].as_u64()).sum();
        assert_eq!(told, count - 7);
        // And each of these events is in the log.
        let events = of("event").iter().filter(|record| record["suppressed"] == json!(["Flood"])).count();
        assert_eq!(events as u64, count - 7);
    }
}
