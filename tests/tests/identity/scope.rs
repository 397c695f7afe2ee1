//! What is watched, chosen by each thing that is known of a container.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use taffrail_tests::daemon::{Daemon, is_event, taffrail, wait_for};

use crate::containerd::{self, Containerd};

#[test]
fn only_what_is_chosen_is_watched_by_each_thing_that_is_known_of_a_container() {
    let name = "only_what_is_chosen_is_watched_by_each_thing_that_is_known_of_a_container";
    let Some(mut containerd) = containerd::start(name) else { return };
    let plain = containerd.run();
    let pods = containerd.run_pods(&["sh", "-c", "while true; do cat /etc/hostname; sleep 0.05; done"]);
    let [front, back] = pods.each_ref().map(|pod| pod.container.as_str());
    let all = [(front, "k8s.io"), (back, "k8s.io"), (plain.as_str(), "default")];
    // The last one of those that are watched tells that all others before it had their chance.
    for (settings, watched) in [
        (&["scope.include=[namespace=shop]"][..], &[front][..]),
        (&["scope.include=[pod=b?ck, runtime=containerd]"], &[back]),
        (&["scope.include=[label=app=front]"], &[front]),
        (&["scope.include=[label=app=plain, label=app=back]"], &[back, &plain]),
        (&["scope.include=[\"container=taffrail-plain-*\"]"], &[&plain]),
        (&["scope.include=[\"image=*/shop/web\"]", "scope.exclude=[namespace=*]"], &[&plain]),
        (&["scope.exclude=[runtime=containerd]"], &[]),
    ] {
        let chosen: Vec<&str> =
            containerd.settings.iter().map(String::as_str).chain(settings.iter().copied()).collect();
        let daemon = Daemon::start(&chosen);
        // By what its files do not say it is chosen later.
        for (id, _) in all.iter().filter(|(id, _)| !watched.contains(id)) {
            daemon.wait_for(|record| is_unwatched(record, id));
        }
        for (id, namespace) in all.iter().filter(|(id, _)| !watched.contains(id)) {
            containerd.exec(namespace, id, &["cat", "/etc/passwd"]);
        }
        for (id, namespace) in all.iter().filter(|(id, _)| watched.contains(id)) {
            containerd.exec(namespace, id, &["cat", "/etc/group", "/etc/group"]);
            daemon.wait_for(|record| is_event(record, "open", id) && record["event"]["file"] == "/etc/group");
        }
        let (_, records) = daemon.stop();
        for (id, _) in all.iter().filter(|(id, _)| !watched.contains(id)) {
            let first = records.iter().position(|record| is_unwatched(record, id));
            let after = &records[first.unwrap()..];
            let event = after
                .iter()
                .find(|record| record["container"]["id"] == **id && record["event"] != Value::Null);
            assert_eq!(event, None, "{settings:?}");
        }
    }
    what_is_excluded_is_in_the_log_and_said(&containerd);
    kernel_is_told(&containerd, (front, back));
    containerd.remove(&pods, &plain);
}

fn is_unwatched(record: &Value, id: &str) -> bool {
    record["kind"] == "container"
        && record["container"]["id"] == *id
        && record["container"]["watched"] == false
}

fn what_is_excluded_is_in_the_log_and_said(containerd: &Containerd) {
    let settings = ["scope.include=[image=x]", "scope.exclude=[\"label=a=\\e]0;x\"]"];
    let chosen: Vec<&str> = containerd.settings.iter().map(String::as_str).chain(settings).collect();
    let daemon = Daemon::start(&chosen);
    let said = daemon.said();
    let (_, records) = daemon.stop();
    let start = records.iter().find(|record| record["kind"] == "start").unwrap();
    let scope =
        serde_json::json!({ "host": false, "include": ["image=x"], "exclude": ["label=a=\u{1b}]0;x"] });
    assert_eq!(start["scope"], scope);
    for line in [
        "not watched: files and connections of the host's own processes",
        "not watched: containers that are none of `image=x`",
        "not watched: containers that are one of `label=a=\\x1b]0;x`",
    ] {
        assert!(said.contains(line), "{said}");
    }
}

/// A recording has all that the kernel gave: of what is not chosen only processes.
fn kernel_is_told(containerd: &Containerd, (front, back): (&str, &str)) {
    let [recording, log, err] =
        ["recording", "trace.json", "trace.err"].map(|name| containerd.stage.path(name));
    let settings = containerd.settings[1..].iter().flat_map(|setting| ["-o", setting.as_str()]);
    let mut trace = taffrail(&["trace", "--json", "--pod", "front", "--record"])
        .arg(&recording)
        .args(settings)
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    wait_for(|| text(&err).contains("watching").then_some(())).expect("a trace that watches");
    let since_ns = taffrail::clock::boot_ns();
    let is_of = |event: &Value, id: &str, kind: &str| {
        let is_new = event["boot_ns"].as_u64().is_some_and(|boot_ns| boot_ns > since_ns);
        is_new && is_event(event, kind, id)
    };
    let events = |text: &str| -> Vec<Value> {
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text[..whole].lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // By then the other one has done the same.
    wait_for(|| {
        let opened = events(&text(&log)).iter().filter(|event| is_of(event, front, "open")).count();
        (opened > 50).then_some(())
    })
    .expect("files that are opened");
    // SAFETY: the child was not waited for, so the id is its own.
    unsafe { libc::kill(trace.id() as i32, libc::SIGINT) };
    assert!(trace.wait().unwrap().success());
    let shown = events(&text(&log));
    assert_eq!(
        shown.iter().find(|event| event["container"]["id"] == *back && is_of(event, back, "exec")),
        None
    );
    let replay = taffrail(&["trace", "--json", "--replay"]).arg(&recording).output().unwrap().stdout;
    let all = events(&String::from_utf8(replay).unwrap());
    assert!(all.iter().any(|event| is_of(event, back, "exec")), "processes are followed");
    assert_eq!(all.iter().find(|event| is_of(event, back, "open")), None);
}
