//! containerd, by CRI with two pods, and by itself. Labels of pods, and images of `ctr`, are in its database only: it
//! tells them when it is asked.

use serde_json::{Value, json};
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_load, skip};

use crate::stage::{Stage, lacks};
use crate::{image, named};

/// Speaks CRI; Debian's Python, which has gRPC.
const PYTHON: &str = "/usr/bin/python3";

/// Where Debian has the plugins for pods' networks, and gRPC for Python.
const NEEDED: &[&str] = &["/usr/lib/cni/bridge", "/usr/lib/python3/dist-packages/grpc/__init__.py", PYTHON];

/// A label that says something else to a terminal, a log and a reader.
const HOSTILE: &str = "\u{1b}]0;x\u{7}\n\"\\,a:b\u{202e}{\"kind\":\"stop\"}";

#[test]
fn containers_of_containerd_are_named_from_the_first_event_on_with_their_pods() {
    const TEST: &str = "containers_of_containerd_are_named_from_the_first_event_on_with_their_pods";
    let programs = ["containerd", "ctr", "runc", "unshare", "nsenter", "ip"];
    if let Some(reason) = cannot_load().or_else(|| lacks(&programs)).or_else(|| lacks(NEEDED)) {
        skip!(TEST, "{reason}");
    }
    let mut stage = Stage::set();
    let socket = stage.text("containerd.sock");
    std::fs::create_dir(stage.path("cni")).unwrap();
    std::fs::write(stage.path("cni/net.conflist"), network(&stage).to_string()).unwrap();
    std::fs::write(stage.path("config.toml"), config(&stage)).unwrap();
    stage.start("containerd", &["--config", &stage.text("config.toml")]);
    stage.wait_until_works("ctr", &["--address", &socket, "version"]);
    let ctr =
        |stage: &Stage, arguments: &[&str]| stage.run("ctr", ["--address", &socket].iter().chain(arguments));
    for archive in image::make(&stage, &json!({})) {
        for namespace in ["default", "k8s.io"] {
            ctr(&stage, &["--namespace", namespace, "images", "import", &archive]);
        }
    }
    let settings = [
        crate::ALL.to_owned(),
        "enrich.name_wait_ms=10000".to_owned(),
        format!("enrich.folders.containerd=[{}]", stage.text("state")),
        format!("enrich.sockets.cri=[{socket}]"),
        format!("enrich.sockets.containerd=[{socket}]"),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&settings);

    let plain = stage.remember(&format!("taffrail-plain-{}", std::process::id()));
    ctr(&stage, &["run", "--detach", "--label", "app=plain", image::NAME, &plain, "sleep", "3600"]);
    let script = stage.path("cri.py");
    std::fs::write(&script, include_str!("cri.py")).unwrap();
    let mut pods = Vec::new();
    for (name, uid) in
        [("front", "7affa11e-0000-4000-8000-000000000001"), ("back", "7affa11e-0000-4000-8000-000000000002")]
    {
        stage.remember(uid);
        let pod = json!({
            "name": name, "uid": uid, "namespace": "shop", "cgroup_parent": format!("/kubepods/burstable/pod{uid}"),
            "labels": { "app": name }, "annotations": { "huge": "x".repeat(64 << 10) }, "log_dir": stage.text("logs"),
        });
        let container = json!({
            "name": "web", "image": image::NAME, "command": ["sleep", "3600"],
            "labels": { "part": HOSTILE }, "annotations": { "huge": "x".repeat(64 << 10) },
        });
        let arguments = [script.to_str().unwrap(), &socket, "run", &pod.to_string(), &container.to_string()];
        let made: Value = serde_json::from_str(&stage.run(PYTHON, arguments)).unwrap();
        let [sandbox, container] =
            ["sandbox", "container"].map(|key| stage.remember(made[key].as_str().unwrap()));
        pods.push((name, uid, sandbox, container));
    }
    for id in pods.iter().map(|(.., container)| container).chain([&plain]) {
        daemon.wait_for(|record| is_event(record, "exec", id) && record["event"]["args"][0] == "sleep");
    }
    let has_labels = |record: &Value, id: &str| {
        let container = &record["container"];
        record["kind"] == "container" && container["id"] == *id && container["labels"] != Value::Null
    };
    for id in pods.iter().flat_map(|(_, _, sandbox, container)| [sandbox, container]) {
        daemon.wait_for(|record| has_labels(record, id));
    }
    let (_, records) = daemon.stop();

    // Somebody who starts to watch while the runtime is down knows the names by its files, and the rest later.
    stage.stop("containerd");
    let daemon = Daemon::start(&settings);
    let (_, _, sandbox, container) = &pods[0];
    let known =
        daemon.wait_for(|record| record["kind"] == "container" && record["container"]["id"] == **container);
    assert_eq!((&known["container"]["name"], &known["container"]["labels"]), (&json!("web"), &Value::Null));
    stage.start("containerd", &["--config", &stage.text("config.toml")]);
    for id in [sandbox, container] {
        daemon.wait_for(|record| has_labels(record, id));
    }
    ctr(
        &stage,
        &["--namespace", "k8s.io", "tasks", "exec", "--exec-id", "again", container, "cat", "/etc/passwd"],
    );
    daemon.wait_for(|record| is_event(record, "exec", container) && record["event"]["args"][0] == "cat");
    let (_, later) = daemon.stop();
    named(&later, container, &json!({ "name": "web", "pod_name": "front", "image": image::NAME }));
    for (_, _, sandbox, _) in &pods {
        stage.run(PYTHON, [script.to_str().unwrap(), &socket, "remove", sandbox]);
    }
    ctr(&stage, &["tasks", "rm", "--force", &plain]);

    let whole =
        named(&records, &plain, &json!({ "runtime": "containerd", "name": plain, "image": image::NAME }));
    assert_eq!(whole["container"]["labels"]["app"], "plain");
    for (name, uid, sandbox, container) in &pods {
        let pod =
            json!({ "runtime": "containerd", "pod_name": name, "pod_namespace": "shop", "pod_uid": uid });
        let whole = named(&records, sandbox, &pod);
        assert_eq!(whole["container"]["is_sandbox"], true);
        assert_eq!(whole["container"]["labels"]["app"], *name);
        let whole = named(&records, container, &pod);
        let whole = &whole["container"];
        assert_eq!((&whole["name"], &whole["image"]), (&json!("web"), &json!(image::NAME)));
        assert_eq!((&whole["is_sandbox"], &whole["pod_sandbox_id"]), (&json!(false), &json!(sandbox)));
        assert_eq!((&whole["labels"]["part"], &whole["pod_labels"]["app"]), (&json!(HOSTILE), &json!(name)));
    }
}

/// A bridge, without a way out.
fn network(stage: &Stage) -> Value {
    json!({
        "cniVersion": "0.4.0", "name": "taffrail",
        "plugins": [{
            "type": "bridge", "bridge": "taffrail0",
            "ipam": { "type": "host-local", "dataDir": stage.text("ipam"), "ranges": [[{ "subnet": "10.96.0.0/24" }]] },
        }],
    })
}

fn config(stage: &Stage) -> String {
    let [root, state, socket, cni] = ["data", "state", "containerd.sock", "cni"].map(|name| stage.text(name));
    let pause = image::PAUSE;
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"#
    )
}
