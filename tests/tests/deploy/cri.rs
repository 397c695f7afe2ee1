//! The chart's pod by containerd's CRI, asked as a kubelet asks: mounts, rights and the runtime's own seccomp profile, in
//! a cgroup namespace where the machine has such.

use std::path::Path;

use serde_json::{Value, json};
use taffrail_tests::daemon::{is_event, records, wait_for};
use taffrail_tests::skip;

use crate::engine::{CAPABILITIES, NAME, archive, cannot_start};
use crate::stage::{Stage, lacks};
use crate::{chart, given, image};

/// Debian's Python, which has gRPC.
const PYTHON: &str = "/usr/bin/python3";

/// What it needs for that.
const NEEDED: &[&str] = &["/usr/lib/python3/dist-packages/grpc/__init__.py", PYTHON];

#[test]
fn containerds_cri_runs_the_charts_pod_and_it_names_other_pods() {
    const TEST: &str = "containerds_cri_runs_the_charts_pod_and_it_names_other_pods";
    let reason = cannot_start(&["containerd", "ctr", "runc"]).or_else(|| lacks(NEEDED));
    let tools = given("TAFFRAIL_HELM").and_then(|helm| Ok((helm, given("TAFFRAIL_SCHEMAS")?)));
    let (helm, schemas) = match (reason, tools) {
        (None, Ok(tools)) => tools,
        (Some(reason), _) | (None, Err(reason)) => skip!(TEST, "{reason}"),
    };
    let mut stage = Stage::set();
    // As systemd has it on nodes; the place is cut off from the machine's mounts.
    stage.run("mount", ["--make-rshared", "/"]);
    let socket = start_containerd(&stage);
    let [state, log] = ["state", "log"].map(|name| stage.text(name));
    let values = [
        format!("logFolder={log}"),
        format!("runtimeFolders={{{state}/io.containerd.runtime.v2.task}}"),
        format!("config.enrich.folders.containerd={{{state}}}"),
        "config.enrich.name_wait_ms=10000".to_owned(),
        "config.log.record=container.id != host".to_owned(),
    ];
    let daemon = container(&chart::objects(&helm, &schemas, &values), &stage);
    let script = stage.path("cri.py");
    std::fs::write(&script, include_str!("../identity/cri.py")).unwrap();
    let cri = |stage: &Stage, arguments: &[&str]| {
        stage.run(PYTHON, [script.to_str().unwrap(), &socket].iter().chain(arguments))
    };
    let mut pods = Vec::new();
    for (name, uid, container) in [
        ("taffrail", "7affa11e-0000-4000-8000-00000000000a", daemon),
        ("shop", "7affa11e-0000-4000-8000-00000000000b", {
            let read = "while :; do cat /etc/passwd; sleep 0.2; done";
            json!({ "name": "web", "image": image::NAME, "command": ["sh", "-c", read], "labels": {}, "annotations": {} })
        }),
    ] {
        stage.remember(uid);
        // Nothing here has a way out, so there is no network to make for a pod.
        let pod = json!({
            "name": name, "uid": uid, "namespace": "default", "cgroup_parent": format!("/kubepods/burstable/pod{uid}"),
            "labels": {}, "annotations": {}, "log_dir": stage.text("logs"), "network": 2,
        });
        let made: Value =
            serde_json::from_str(&cri(&stage, &["run", &pod.to_string(), &container.to_string()])).unwrap();
        pods.push(["sandbox", "container"].map(|key| stage.remember(made[key].as_str().unwrap())));
        if name == "taffrail" {
            let probes = found(&log, |record| record["kind"] == "probes");
            let failed = probes["probes"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|probe| probe["state"] == "failed")
                .count();
            assert_eq!(failed, 0, "{probes}");
        }
    }
    let event = found(&log, |record| {
        is_event(record, "open", &pods[1][1]) && record["event"]["file"] == "/etc/passwd"
    });
    let container = &event["container"];
    assert_eq!((&container["name"], &container["pod_name"]), (&json!("web"), &json!("shop")), "{event}");
    assert_eq!(container["pod_namespace"], "default");
    for [sandbox, _] in &pods {
        cri(&stage, &["remove", sandbox]);
    }
}

#[track_caller]
fn found(log: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let log = Path::new(log);
    wait_for(|| records(log).into_iter().find(&wanted)).unwrap_or_else(|| {
        let records: Vec<String> = records(log).iter().map(Value::to_string).collect();
        panic!("no such record in\n{}", records.join("\n"))
    })
}

/// Starts it with all images, and networks by `cni` in its place; gives its socket.
pub fn start_containerd(stage: &Stage) -> String {
    let [root, state, socket] = ["data", "state", "containerd.sock"].map(|name| stage.text(name));
    let config = format!(
        "version = 2\nroot = \"{root}\"\nstate = \"{state}\"\n[grpc]\n  address = \"{socket}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"{}\"\n  restrict_oom_score_adj = true\n  \
         disable_tcp_service = true\n  [plugins.\"io.containerd.grpc.v1.cri\".cni]\n    bin_dir = \"/usr/lib/cni\"\n    \
         conf_dir = \"{}\"\n",
        image::PAUSE,
        stage.text("cni")
    );
    std::fs::write(stage.path("config.toml"), config).unwrap();
    stage.start("containerd", &["--config", &stage.text("config.toml")]);
    stage.wait_until_works("ctr", &["--address", &socket, "version"]);
    let archives = image::make(stage, &json!({}));
    for archive in archives.iter().map(String::as_str).chain(archive().unwrap().to_str()) {
        stage.run("ctr", ["--address", &socket, "--namespace", "k8s.io", "images", "import", archive]);
    }
    socket
}

/// What a kubelet makes of the chart's pod.
fn container(objects: &[Value], stage: &Stage) -> Value {
    let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    for map in objects.iter().filter(|object| object["kind"] == "ConfigMap") {
        let folder = stage.path(map["metadata"]["name"].as_str().unwrap());
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in map["data"].as_object().unwrap() {
            std::fs::write(folder.join(name), text.as_str().unwrap()).unwrap();
        }
    }
    let pod = &of_kind("DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(security["capabilities"]["add"], json!(CAPABILITIES));
    let args: Vec<String> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap().replace("$(NODE_NAME)", "node"))
        .collect();
    let mounts: Vec<Value> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| {
            let volumes = pod["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            let outside = match volume["hostPath"]["path"].as_str() {
                Some(path) => path.to_owned(),
                None => stage.text(volume["configMap"]["name"].as_str().unwrap()),
            };
            if volume["hostPath"]["type"] == "DirectoryOrCreate" {
                std::fs::create_dir_all(&outside).unwrap();
            }
            json!({
                "inside": mount["mountPath"],
                "outside": outside,
                "read_only": mount["readOnly"] == true,
                "propagation": i32::from(mount["mountPropagation"] == "HostToContainer"),
            })
        })
        .collect();
    json!({
        "name": "taffrail", "image": NAME, "args": args, "mounts": mounts, "labels": {}, "annotations": {},
        "privileged": security["privileged"],
        "add": security["capabilities"]["add"], "drop": security["capabilities"]["drop"],
        "read_only": security["readOnlyRootFilesystem"],
        "no_new_privileges": security["allowPrivilegeEscalation"] == false,
        "confined": true,
    })
}
