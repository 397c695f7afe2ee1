//! Docker, with its own containerd.

use serde_json::{Value, json};
use taffrail_tests::cannot_load;
use taffrail_tests::container::by_systemd;
use taffrail_tests::daemon::{Daemon, is_event, taffrail};

use crate::stage::{Stage, lacks};
use crate::{image, named};

/// What the client has to be called: another one may come first in the path.
const CLIENT: &str = "/usr/bin/docker";

/// Starts docker's daemon; `None` after saying why a test cannot run.
pub fn start(test: &str, labels: &Value) -> Option<(Stage, Vec<String>)> {
    let needed = ["dockerd", "containerd", "runc", "unshare", "nsenter", "ip"];
    if let Some(reason) = cannot_load().or_else(|| lacks(&needed)).or_else(|| lacks(&[CLIENT])) {
        taffrail::testing::skipped(test, reason);
        return None;
    }
    let stage = Stage::set();
    let (root, run, pid) = (stage.text("data"), stage.text("exec"), stage.text("pid"));
    let socket = format!("unix://{}", stage.text("docker.sock"));
    stage.start(
        "dockerd",
        &[
            "--data-root",
            &root,
            "--exec-root",
            &run,
            "--pidfile",
            &pid,
            "--host",
            &socket,
            "--bridge=none",
            "--iptables=false",
            "--storage-driver=overlay2",
            if by_systemd() {
                "--exec-opt=native.cgroupdriver=systemd"
            } else {
                "--exec-opt=native.cgroupdriver=cgroupfs"
            },
        ],
    );
    stage.wait_until_works(CLIENT, &["--host", &socket, "version"]);
    let [web, _] = image::make(&stage, labels);
    docker(&stage, &["load", "--quiet", "--input", &web]);
    let folders = vec![
        crate::ALL.to_owned(),
        format!("enrich.folders.docker=[{root}]"),
        format!("enrich.folders.containerd=[{run}/containerd/daemon]"),
    ];
    Some((stage, folders))
}

/// Runs docker's client.
#[track_caller]
pub fn docker(stage: &Stage, arguments: &[&str]) -> String {
    let host = format!("unix://{}", stage.text("docker.sock"));
    stage.run(CLIENT, ["--host", &host].iter().chain(arguments))
}

#[test]
fn containers_of_docker_are_named_from_the_first_event_on_and_an_exec_is_a_session() {
    const TEST: &str = "containers_of_docker_are_named_from_the_first_event_on_and_an_exec_is_a_session";
    let Some((mut stage, settings)) = start(TEST, &json!({ "org.opencontainers.image.title": "Web" })) else {
        return;
    };
    let daemon = Daemon::start(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let run =
        ["run", "--detach", "--network", "none", "--user", "shopper", "--label", "app=web", "--name", "web"];
    let id = docker(&stage, &[&run[..], &[image::NAME, "sleep", "3600"]].concat());
    stage.remember(&id);
    docker(&stage, &["exec", "web", "sh", "-c", "cat /etc/passwd; true"]);
    let is_of = |record: &Value, program: &str| {
        is_event(record, "exec", &id) && record["event"]["args"][0] == program
    };
    daemon.wait_for(|record| is_of(record, "cat"));
    let (_, records) = daemon.stop();

    // Where docker keeps its files somewhere else, it tells the same itself.
    let socket = stage.text("docker.sock");
    let sockets = format!("enrich.sockets.docker=[{socket}]");
    let nowhere = ["docker", "containerd", "oci"].map(|of| format!("enrich.folders.{of}=[/nowhere]"));
    let asking: Vec<&str> = nowhere.iter().chain([&sockets]).map(String::as_str).collect();
    let daemon = Daemon::start(&[&[crate::ALL, "enrich.name_wait_ms=10000"], &asking[..]].concat());
    docker(&stage, &["exec", "web", "cat", "/etc/group"]);
    daemon.wait_for(|record| is_of(record, "cat"));
    let (_, asked) = daemon.stop();
    let found = taffrail(&["doctor", "--json", "-o", &sockets]).output().unwrap().stdout;
    let found: Value = serde_json::from_slice(&found).unwrap();
    docker(&stage, &["rm", "--force", "web"]);
    let is_docker = |finding: &&Value| finding["what"] == "docker";
    let finding = found["findings"].as_array().unwrap().iter().find(is_docker).unwrap();
    assert_eq!(finding["verdict"], "ok");
    assert!(finding["found"].as_str().unwrap().ends_with(&format!(" at {socket}")), "{finding}");
    let whole = named(&asked, &id, &json!({ "runtime": "docker", "name": "web", "image": image::NAME }));
    assert_eq!(
        whole["container"]["labels"],
        json!({ "app": "web", "org.opencontainers.image.title": "Web" })
    );

    let whole = named(&records, &id, &json!({ "runtime": "docker", "name": "web", "image": image::NAME }));
    let whole = &whole["container"];
    assert_eq!(whole["labels"], json!({ "app": "web", "org.opencontainers.image.title": "Web" }));
    assert_eq!((&whole["user"], &whole["is_privileged"]), (&json!("shopper"), &json!(false)));
    assert!(whole["capabilities"].as_array().unwrap().contains(&json!("CAP_CHOWN")), "{whole}");

    let process = |program: &str| &records.iter().find(|record| is_of(record, program)).unwrap()["process"];
    let main = process("sleep");
    assert_eq!((&main["user"], &main["group"]), (&json!("shopper"), &json!("shoppers")));
    assert_eq!(main["exec_session"], Value::Null);
    let session = process("sh");
    assert_eq!(session["exec_session"], session["key"]);
    assert_eq!(process("cat")["exec_session"], session["key"]);
}

#[test]
fn new_name_of_a_container_of_docker_is_that_of_later_events() {
    let Some((mut stage, mut settings)) =
        start("new_name_of_a_container_of_docker_is_that_of_later_events", &json!({}))
    else {
        return;
    };
    settings.push(format!("enrich.sockets.docker=[{}]", stage.text("docker.sock")));
    let daemon = Daemon::start(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let id = docker(
        &stage,
        &["run", "--detach", "--network", "none", "--name", "old", image::NAME, "sleep", "3600"],
    );
    stage.remember(&id);
    let is_named = |record: &Value, name: &str| {
        record["kind"] == "container"
            && record["container"]["id"] == *id
            && record["container"]["name"] == name
    };
    daemon.wait_for(|record| is_named(record, "old"));
    docker(&stage, &["rename", "old", "new"]);
    daemon.wait_for(|record| is_named(record, "new"));
    docker(&stage, &["exec", "new", "cat", "/etc/group"]);
    let event =
        daemon.wait_for(|record| is_event(record, "exec", &id) && record["event"]["args"][0] == "cat");
    assert_eq!(event["container"]["name"], "new");
    drop(daemon);
    docker(&stage, &["rm", "--force", "new"]);
}
