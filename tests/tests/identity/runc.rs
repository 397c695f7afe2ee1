//! runc by hand, which writes its state only when the container's first process is there.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use taffrail_tests::container::{Container, by_systemd};
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

use crate::named;
use crate::stage::lacks;

#[test]
fn container_by_hand_is_named_from_the_first_event_on_also_below_a_path_that_its_user_chose() {
    const TEST: &str =
        "container_by_hand_is_named_from_the_first_event_on_also_below_a_path_that_its_user_chose";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let own = std::process::id();
    let (given, path) = match by_systemd() {
        true => (format!("taffrail{own}.slice:chosen:web"), format!("/taffrail{own}.slice/chosen-web.scope")),
        false => (format!("/taffrail-chosen-{own}/web"), format!("/taffrail-chosen-{own}/web")),
    };
    let plain =
        Container::start_as("plain", |config| config["annotations"] = json!({ "app": "web" })).unwrap();
    let chosen =
        Container::start_as("chosen", |config| config["linux"]["cgroupsPath"] = given.as_str().into());
    let chosen = chosen.unwrap();
    for container in [&plain, &chosen] {
        daemon.wait_for(|record| {
            is_event(record, "exec", container.id()) && record["event"]["args"][0] == "sleep"
        });
    }
    let (_, records) = daemon.stop();
    let ids = [plain.id().to_owned(), chosen.id().to_owned()];
    drop((plain, chosen));
    remove_parents(&path);
    let whole = named(&records, &ids[0], &json!({ "runtime": "oci", "name": ids[0] }));
    assert_eq!(whole["container"]["labels"], json!({ "app": "web" }));
    named(&records, &ids[1], &json!({ "runtime": "oci", "name": ids[1], "cgroup_path": path }));
}

#[test]
fn container_by_crun_is_named_from_the_first_event_on() {
    const TEST: &str = "container_by_crun_is_named_from_the_first_event_on";
    if let Some(reason) = cannot_trace().or_else(|| lacks(&["crun"])) {
        skip!(TEST, "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container =
        Container::start_by("crun", "crun", |config| config["annotations"] = json!({ "app": "web" }));
    let container = match container {
        Ok(container) => container,
        Err(error) => skip!(TEST, "crun cannot start one here: {error}"),
    };
    let is_its = |record: &Value, program: &str| {
        is_event(record, "exec", container.id()) && record["event"]["args"][0] == program
    };
    daemon.wait_for(|record| is_its(record, "sleep"));
    container.exec(&["cat", "/etc/passwd"]).unwrap();
    let session = daemon.wait_for(|record| is_its(record, "cat"));
    let (_, records) = daemon.stop();
    let whole = named(&records, container.id(), &json!({ "runtime": "oci", "name": container.id() }));
    assert_eq!(whole["container"]["labels"], json!({ "app": "web" }));
    assert_eq!(session["process"]["exec_session"], session["process"]["key"]);
}

/// Removes the folder that runc made above a container's cgroup.
fn remove_parents(path: &str) {
    let parent = path.trim_start_matches('/').split('/').next().unwrap();
    let trees = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for tree in trees.chain(["/sys/fs/cgroup".into()]) {
        let _ = std::fs::remove_dir(tree.join(parent));
    }
}

/// Containers of the storm.
const STORM: usize = 200;

#[test]
fn each_of_200_containers_that_start_at_once_and_end_at_once_is_named() {
    if let Some(reason) = cannot_trace() {
        skip!("each_of_200_containers_that_start_at_once_and_end_at_once_is_named", "{reason}");
    }
    let daemon = Daemon::start(&["log.record=evt.kind = exec or container.id != host"]);
    let template = Container::start("storm").unwrap();
    let ids: Vec<String> = (0..STORM).map(|n| format!("{}-{n}", template.id())).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                while let Some(id) = ids.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    // Each has a bundle of its own, over the same root.
                    let bundle = tempfile::tempdir().unwrap();
                    let config = std::fs::read_to_string(template.bundle().join("config.json")).unwrap();
                    let mut config: Value = serde_json::from_str(&config).unwrap();
                    config["process"]["args"] = json!(["cat", "/etc/hostname", id]);
                    config["root"]["path"] = template.root().to_string_lossy().into();
                    std::fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
                    let mut runc = Command::new("runc");
                    runc.args(by_systemd().then_some("--systemd-cgroup"))
                        .args(["run", "--bundle"])
                        .arg(bundle.path())
                        .arg(id);
                    // It ends with an error, for neither file is there; runc itself must have none.
                    let said = runc.stdin(Stdio::null()).output().unwrap();
                    let said = String::from_utf8_lossy(&said.stderr).into_owned();
                    assert!(said.contains("cat: can't open"), "{id}: {said}");
                }
            });
        }
    });
    let is_its = |record: &Value, id: &str| {
        record["event"]["kind"] == "exec"
            && record["event"]["args"][0] == "cat"
            && record["event"]["args"][2] == *id
    };
    // It handles all that happened before it is asked to stop.
    let (_, records) = daemon.stop();
    // What the kernel lost or skipped is told; all other programs are there.
    let gaps: Vec<&Value> = records.iter().filter(|record| record["kind"] == "gap").collect();
    let lost: u64 = gaps.iter().filter_map(|gap| gap["count"].as_u64()).sum();
    let unseen: Vec<_> = ids.iter().filter(|id| !records.iter().any(|record| is_its(record, id))).collect();
    assert!(unseen.len() as u64 <= lost, "no programs of {unseen:?}, {gaps:?}");
    let of_storm = |record: &&Value| {
        let container = record["container"]["id"].as_str().unwrap_or_default();
        record["event"] != Value::Null && ids.iter().any(|id| id == container || is_its(record, id))
    };
    let (mut seen, mut nameless, mut misattributed) = (0, Vec::new(), Vec::new());
    for record in records.iter().filter(of_storm) {
        seen += 1;
        let container = &record["container"];
        let wanted = ids
            .iter()
            .find(|id| is_its(record, id))
            .map_or(&container["id"], |id| &record["event"]["args"][usize::from(!id.is_empty()) * 2]);
        if container["name"] == Value::Null || container["pending"] == true {
            nameless.push(record.to_string());
        } else if container["name"] != *wanted || container["id"] != *wanted {
            misattributed.push(record.to_string());
        }
    }
    eprintln!("storm: {seen} events of {STORM} containers, {lost} lost");
    assert!(nameless.is_empty(), "{} nameless, such as {}", nameless.len(), nameless[0]);
    assert!(misattributed.is_empty(), "{} misattributed, such as {}", misattributed.len(), misattributed[0]);
}
