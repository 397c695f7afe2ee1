//! Podman, alone and in a pod. Its labels and its pods' names are in its database only: its service tells them.

use serde_json::json;
use taffrail_tests::cannot_load;
use taffrail_tests::container::by_systemd;
use taffrail_tests::daemon::{Daemon, is_event};

use crate::stage::{Stage, lacks};
use crate::{image, named};

/// Podman's own folders, and what it is told.
struct Podman {
    stage: Stage,
    folders: Vec<String>,
    settings: String,
}

/// Sets podman up, with its images; `None` after saying why a test cannot run.
fn set_up(test: &str) -> Option<Podman> {
    if let Some(reason) =
        cannot_load().or_else(|| lacks(&["podman", "runc", "conmon", "unshare", "nsenter", "ip"]))
    {
        taffrail::testing::skipped(test, reason);
        return None;
    }
    let stage = Stage::set();
    // crun cannot do with a machine's cgroups of both versions, which is where systemd is not asked.
    let (manager, runtime) = if by_systemd() { ("systemd", "crun") } else { ("cgroupfs", "runc") };
    let config = format!(
        "[containers]\ndefault_ulimits=[]\n[engine]\ninfra_image=\"{}\"\ncgroup_manager=\"{manager}\"\n\
         runtime=\"{runtime}\"\nevents_logger=\"file\"\n",
        image::PAUSE
    );
    std::fs::write(stage.path("containers.conf"), config).unwrap();
    let folders = [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")];
    let folders =
        folders.iter().flat_map(|(option, name)| [(*option).to_owned(), stage.text(name)]).collect();
    let podman = Podman { settings: stage.text("containers.conf"), stage, folders };
    for archive in image::make(&podman.stage, &json!({})) {
        podman.run(&["load", "--quiet", "--input", &archive]);
    }
    Some(podman)
}

impl Podman {
    /// Runs podman.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = self.stage.command("podman");
        command.env("CONTAINERS_CONF", &self.settings).args(&self.folders).args(arguments);
        crate::stage::said("podman", &command.output().unwrap())
    }

    /// Starts its service, and waits until it answers.
    fn start_service(&self) {
        let socket = format!("unix://{}", self.stage.text("podman.sock"));
        let service = ["system", "service", "--time", "0", &socket];
        let arguments: Vec<&str> = self.folders.iter().map(String::as_str).chain(service).collect();
        self.stage.start_command("service", &[("CONTAINERS_CONF", &self.settings)], "podman", &arguments);
        self.stage.wait_until_works("podman", &["--remote", "--url", &socket, "version"]);
    }

    /// A daemon that knows where podman is, and waits long for a name: machines that run tests are busy.
    fn daemon(&self) -> Daemon {
        let [root, run, socket] = ["root", "run", "podman.sock"].map(|name| self.stage.text(name));
        Daemon::start(&[
            crate::ALL,
            "enrich.name_wait_ms=10000",
            &format!("enrich.folders.podman=[{root}, {run}]"),
            &format!("enrich.sockets.podman=[{socket}]"),
        ])
    }
}

#[test]
fn containers_of_podman_are_named_from_the_first_event_on_with_their_pods() {
    let name = "containers_of_podman_are_named_from_the_first_event_on_with_their_pods";
    let Some(mut podman) = set_up(name) else { return };
    podman.start_service();
    let daemon = podman.daemon();
    let run = [
        "run",
        "--detach",
        "--network",
        "none",
        "--user",
        "1000:1000",
        "--name",
        "web",
        "--label",
        "app=web",
        "--volume",
    ];
    let volume = format!("{}:/data:ro", podman.stage.text("rootfs"));
    let alone = podman.run(&[&run[..], &[&volume, image::NAME, "sleep", "3600"]].concat());
    let pod = podman.run(&["pod", "create", "--network", "none", "--label", "tier=front", "--name", "front"]);
    let inside =
        podman.run(&["run", "--detach", "--pod", "front", "--name", "db", image::NAME, "sleep", "3600"]);
    for id in [&alone, &pod, &inside] {
        podman.stage.remember(id);
    }
    for id in [&alone, &inside] {
        daemon.wait_for(|record| is_event(record, "exec", id) && record["event"]["args"][0] == "sleep");
    }
    podman.run(&["exec", "web", "cat", "/etc/passwd"]);
    daemon.wait_for(|record| is_event(record, "exec", &alone) && record["event"]["args"][0] == "cat");
    let (_, records) = daemon.stop();
    podman.run(&["pod", "rm", "--force", "--time", "0", "front"]);
    podman.run(&["rm", "--force", "--time", "0", "web"]);

    let whole = named(&records, &alone, &json!({ "runtime": "podman", "name": "web", "image": image::NAME }));
    assert_eq!(whole["container"]["labels"], json!({ "app": "web" }));
    assert_eq!(whole["container"]["is_privileged"], false);
    assert_eq!(whole["container"]["user"], "1000:1000");
    assert_eq!(whole["container"]["image_digest"].as_str().map(|digest| digest.len()), Some(7 + 64));
    let mounts = whole["container"]["mounts"].as_array().unwrap();
    let data = mounts.iter().find(|mount| mount["destination"] == "/data").unwrap();
    assert_eq!(
        *data,
        json!({ "source": podman.stage.text("rootfs"), "destination": "/data", "writable": false })
    );
    let its = json!({ "runtime": "podman", "name": "db", "image": image::NAME, "pod_name": "front" });
    let whole = named(&records, &inside, &its);
    assert_eq!(whole["container"]["pod_labels"]["tier"], "front");
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

#[test]
fn labels_come_once_the_service_is_back_and_names_do_not_wait_for_it() {
    let Some(mut podman) = set_up("labels_come_once_the_service_is_back_and_names_do_not_wait_for_it") else {
        return;
    };
    podman.start_service();
    let daemon = podman.daemon();
    podman.stage.stop("service");
    let run = ["run", "--detach", "--network", "none", "--label", "app=\u{1b}[2J\n\"", "--name", "web"];
    let id = podman.run(&[&run[..], &[image::NAME, "sleep", "3600"]].concat());
    podman.stage.remember(&id);
    daemon.wait_for(|record| is_event(record, "exec", &id) && record["event"]["args"][0] == "sleep");
    let is_whole =
        |record: &serde_json::Value| record["kind"] == "container" && record["container"]["id"] == *id;
    let first = daemon.wait_for(is_whole);
    assert_eq!((&first["container"]["name"], &first["container"]["labels"]), (&json!("web"), &json!(null)));
    podman.start_service();
    let labels = json!({ "app": "\u{1b}[2J\n\"" });
    daemon.wait_for(|record| is_whole(record) && record["container"]["labels"] == labels);
    let (_, records) = daemon.stop();
    podman.run(&["rm", "--force", "--time", "0", "web"]);
    named(&records, &id, &json!({ "runtime": "podman", "name": "web", "image": image::NAME }));
}
