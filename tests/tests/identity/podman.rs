//! Podman, alone and in a pod. Its labels and its pods' names are in its database only.

use serde_json::json;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_load, skip};

use crate::stage::{Stage, lacks};
use crate::{image, named};

#[test]
fn containers_of_podman_are_named_from_the_first_event_on() {
    const TEST: &str = "containers_of_podman_are_named_from_the_first_event_on";
    if let Some(reason) =
        cannot_load().or_else(|| lacks(&["podman", "runc", "conmon", "unshare", "nsenter", "ip"]))
    {
        skip!(TEST, "{reason}");
    }
    let mut stage = Stage::set();
    let config = format!(
        "[containers]\ndefault_ulimits=[]\n[engine]\ninfra_image=\"{}\"\ncgroup_manager=\"cgroupfs\"\n\
         runtime=\"runc\"\nevents_logger=\"file\"\n",
        image::PAUSE
    );
    std::fs::write(stage.path("containers.conf"), config).unwrap();
    let podman = |stage: &Stage, arguments: &[&str]| {
        let mut command = stage.command("podman");
        let folders = [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")];
        command.env("CONTAINERS_CONF", stage.path("containers.conf"));
        command.args(folders.iter().flat_map(|(option, name)| [(*option).to_owned(), stage.text(name)]));
        crate::stage::said("podman", &command.args(arguments).output().unwrap())
    };
    for archive in image::make(&stage, &json!({})) {
        podman(&stage, &["load", "--quiet", "--input", &archive]);
    }
    let folders = format!("enrich.folders.podman=[{}, {}]", stage.text("root"), stage.text("run"));
    let daemon = Daemon::start(&[crate::ALL, &folders]);
    let run = ["run", "--detach", "--network", "none", "--user", "1000:1000", "--name", "web", "--volume"];
    let volume = format!("{}:/data:ro", stage.text("rootfs"));
    let alone = podman(&stage, &[&run[..], &[&volume, image::NAME, "sleep", "3600"]].concat());
    let pod = podman(&stage, &["pod", "create", "--network", "none", "--name", "front"]);
    let inside =
        podman(&stage, &["run", "--detach", "--pod", "front", "--name", "db", image::NAME, "sleep", "3600"]);
    for id in [&alone, &pod, &inside] {
        stage.remember(id);
    }
    for id in [&alone, &inside] {
        daemon.wait_for(|record| is_event(record, "exec", id) && record["event"]["args"][0] == "sleep");
    }
    podman(&stage, &["exec", "web", "cat", "/etc/passwd"]);
    daemon.wait_for(|record| is_event(record, "exec", &alone) && record["event"]["args"][0] == "cat");
    let (_, records) = daemon.stop();
    podman(&stage, &["pod", "rm", "--force", "--time", "0", "front"]);
    podman(&stage, &["rm", "--force", "--time", "0", "web"]);

    let whole = named(&records, &alone, &json!({ "runtime": "podman", "name": "web", "image": image::NAME }));
    assert_eq!(whole["container"]["is_privileged"], false);
    assert_eq!(whole["container"]["user"], "1000:1000");
    assert_eq!(whole["container"]["image_digest"].as_str().map(|digest| digest.len()), Some(7 + 64));
    let mounts = whole["container"]["mounts"].as_array().unwrap();
    let data = mounts.iter().find(|mount| mount["destination"] == "/data").unwrap();
    assert_eq!(*data, json!({ "source": stage.text("rootfs"), "destination": "/data", "writable": false }));
    named(&records, &inside, &json!({ "runtime": "podman", "name": "db", "image": image::NAME }));
    let of = |program: &str| {
        let is_it = |record: &&serde_json::Value| {
            is_event(record, "exec", &alone) && record["event"]["args"][0] == program
        };
        &records.iter().find(is_it).unwrap()["process"]
    };
    assert_eq!((&of("sleep")["user"], &of("sleep")["group"]), (&json!("shopper"), &json!("shoppers")));
    assert_eq!(of("sleep")["exec_session"], serde_json::Value::Null);
    assert_eq!(of("cat")["exec_session"], of("cat")["key"]);
}
