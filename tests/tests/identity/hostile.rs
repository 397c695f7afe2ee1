//! Metadata by somebody who wants to break the log, or to look like somebody else.

use serde_json::{Value, json};
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

use crate::docker::{docker, start};
use crate::{image, named};

#[test]
fn hostile_labels_change_nothing_but_themselves() {
    let fake = json!({
        "io.kubernetes.pod.name": "kube-proxy", "io.kubernetes.pod.namespace": "kube-system",
        "io.kubernetes.container.name": "kube-proxy", "io.kubernetes.docker.type": "podsandbox",
        "\u{1b}]0;x\u{7}\n\"\\": "\u{202e}\u{0}\r\n{\"kind\":\"stop\"}",
        "huge": "x".repeat(64 << 10),
    });
    let Some((mut stage, settings)) = start("hostile_labels_change_nothing_but_themselves", &fake) else {
        return;
    };
    let daemon = Daemon::start(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let id = docker(
        &stage,
        &["run", "--detach", "--network", "none", "--name", "web", image::NAME, "sleep", "3600"],
    );
    stage.remember(&id);
    // What it writes into its own file system is nobody's word.
    let claim = json!({ "ID": id, "Name": "/other", "Config": { "Image": "other" } }).to_string();
    let bundle =
        json!({ "annotations": { "io.kubernetes.cri.container-name": "other", "fake": "1" } }).to_string();
    let script = format!(
        "for folder in / /run/containers/{id} /run/containerd/io.containerd.runtime.v2.task/default/{id}; do
         mkdir -p $folder; echo '{claim}' > $folder/config.v2.json; echo '{bundle}' > $folder/config.json; done
         cat /etc/group"
    );
    docker(&stage, &["exec", "web", "busybox", "sh", "-c", &script]);
    daemon.wait_for(|record| is_event(record, "exec", &id) && record["event"]["args"][0] == "cat");
    let (status, records) = daemon.stop();
    docker(&stage, &["rm", "--force", "web"]);
    assert!(status.success());
    let whole =
        named(&records, &id, &json!({ "name": "web", "image": image::NAME, "pod_name": Value::Null }));
    let whole = &whole["container"];
    assert_eq!((&whole["is_sandbox"], &whole["is_cut"]), (&Value::Null, &json!(true)));
    assert_eq!(whole["labels"]["\u{1b}]0;x\u{7}\n\"\\"], "\u{202e}\u{0}\r\n{\"kind\":\"stop\"}");
    assert_eq!(whole["labels"]["huge"].as_str().map(str::len), Some(1024));
}

#[test]
fn bundle_that_is_a_pipe_or_no_json_is_reported_and_the_container_is_named_all_the_same() {
    const TEST: &str = "bundle_that_is_a_pipe_or_no_json_is_reported_and_the_container_is_named_all_the_same";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    // Its own events: `runc exec` would read the pipe, and wait.
    let busy = json!(["sh", "-c", "while true; do cat /etc/passwd; sleep 0.2; done"]);
    let [pipe, junk] = ["pipe", "junk"]
        .map(|name| Container::start_as(name, |config| config["process"]["args"] = busy.clone()).unwrap());
    let config = |container: &Container| container.bundle().join("config.json");
    std::fs::remove_file(config(&pipe)).unwrap();
    let made = std::process::Command::new("mkfifo").arg(config(&pipe)).status().unwrap();
    assert!(made.success());
    std::fs::write(config(&junk), "{\"annotations\":{\"a\":\u{1b}").unwrap();
    let daemon = Daemon::start(&[crate::ALL]);
    for container in [&pipe, &junk] {
        daemon.wait_for(|record| {
            is_event(record, "exec", container.id()) && record["event"]["args"][0] == "cat"
        });
    }
    let (_, records) = daemon.stop();
    for (container, problem) in [(&pipe, "not a regular file"), (&junk, "expected value")] {
        let whole = named(&records, container.id(), &json!({ "name": container.id() }));
        let said = whole["problems"][0].as_str().unwrap();
        assert!(said.contains(&*config(container).to_string_lossy()) && said.contains(problem), "{said}");
    }
}

#[test]
fn annotations_of_any_size_are_cut_and_the_container_is_named_all_the_same() {
    const TEST: &str = "annotations_of_any_size_are_cut_and_the_container_is_named_all_the_same";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let busy = json!(["sh", "-c", "while true; do cat /etc/passwd; sleep 0.2; done"]);
    let mut annotations: serde_json::Map<String, Value> =
        (0..2000).map(|n| (format!("key{n}\u{1b}"), json!("x".repeat(32)))).collect();
    annotations.insert("huge".to_owned(), json!("x".repeat(64 << 10)));
    let container = Container::start_as("annotated", |config| {
        config["process"]["args"] = busy.clone();
        config["annotations"] = Value::Object(annotations.clone());
    });
    let container = container.unwrap();
    let daemon = Daemon::start(&[crate::ALL]);
    daemon.wait_for(|record| is_event(record, "exec", container.id()) && record["event"]["args"][0] == "cat");
    let (_, records) = daemon.stop();
    let whole = named(&records, container.id(), &json!({ "name": container.id() }));
    let labels = &whole["container"]["labels"];
    assert_eq!(whole["container"]["is_cut"], true);
    assert_eq!(labels["huge"].as_str().map(str::len), Some(1024));
    assert_eq!(labels["key0\u{1b}"], "x".repeat(32));
    assert!(labels.to_string().len() < 16 << 10);
}
