//! containerd, by CRI with two pods, and by itself. Labels of pods, and images of `ctr`, are in its database only: it
//! tells them when it is asked.

use serde_json::{Value, json};
use taffrail_tests::cannot_load;
use taffrail_tests::container::by_systemd;
use taffrail_tests::daemon::{Daemon, is_event};

use crate::stage::{Stage, lacks};
use crate::{image, named};

/// Speaks CRI; Debian's Python, which has gRPC.
const PYTHON: &str = "/usr/bin/python3";

/// Where Debian has the plugins for pods' networks, and gRPC for Python.
const NEEDED: &[&str] = &["/usr/lib/cni/bridge", "/usr/lib/python3/dist-packages/grpc/__init__.py", PYTHON];

/// A label that says something else to a terminal, a log and a reader.
const HOSTILE: &str = "\u{1b}]0;x\u{7}\n\"\\,a:b\u{202e}{\"kind\":\"stop\"}";

/// A running containerd.
pub struct Containerd {
    pub stage: Stage,
    socket: String,
    /// What a daemon has to be told of it.
    pub settings: Vec<String>,
}

/// A pod with one container, which is called `web`.
pub struct Pod {
    name: &'static str,
    namespace: &'static str,
    uid: &'static str,
    sandbox: String,
    pub container: String,
}

/// Starts containerd; `None` after saying why a test cannot run.
pub fn start(test: &str) -> Option<Containerd> {
    let programs = ["containerd", "ctr", "runc", "unshare", "nsenter", "ip"];
    if let Some(reason) = cannot_load().or_else(|| lacks(&programs)).or_else(|| lacks(NEEDED)) {
        taffrail::testing::skipped(test, reason);
        return None;
    }
    let stage = Stage::set();
    let socket = stage.text("containerd.sock");
    std::fs::create_dir(stage.path("cni")).unwrap();
    std::fs::write(stage.path("cni/net.conflist"), network(&stage).to_string()).unwrap();
    std::fs::write(stage.path("config.toml"), config(&stage)).unwrap();
    std::fs::write(stage.path("cri.py"), include_str!("cri.py")).unwrap();
    // Long enough for machines that run tests, which are busy.
    let settings = vec![
        crate::ALL.to_owned(),
        "enrich.name_wait_ms=10000".to_owned(),
        format!("enrich.folders.containerd=[{}]", stage.text("state")),
        format!("enrich.sockets.cri=[{socket}]"),
        format!("enrich.sockets.containerd=[{socket}]"),
    ];
    let containerd = Containerd { stage, socket, settings };
    containerd.start();
    containerd.stage.wait_until_works("ctr", &["--address", &containerd.socket, "version"]);
    for archive in image::make(&containerd.stage, &json!({})) {
        for namespace in ["default", "k8s.io"] {
            containerd.ctr(&["--namespace", namespace, "images", "import", &archive]);
        }
    }
    Some(containerd)
}

impl Containerd {
    fn start(&self) {
        self.stage.start("containerd", &["--config", &self.stage.text("config.toml")]);
    }

    /// Runs `ctr`.
    #[track_caller]
    pub fn ctr(&self, arguments: &[&str]) -> String {
        self.stage.run("ctr", ["--address", &self.socket].iter().chain(arguments))
    }

    /// Runs a command in a container.
    #[track_caller]
    pub fn exec(&self, namespace: &str, container: &str, command: &[&str]) {
        let id = format!("exec-{}", command.len());
        let exec = ["--namespace", namespace, "tasks", "exec", "--exec-id", &id, container];
        self.ctr(&[&exec[..], command].concat());
    }

    /// Runs a container of its own; gives the name.
    pub fn run(&mut self) -> String {
        let plain = self.stage.remember(&format!("taffrail-plain-{}", std::process::id()));
        self.ctr(&["run", "--detach", "--label", "app=plain", image::NAME, &plain, "sleep", "3600"]);
        plain
    }

    fn cri(&self, arguments: &[&str]) -> String {
        let script = self.stage.text("cri.py");
        self.stage.run(PYTHON, [script.as_str(), &self.socket].iter().chain(arguments))
    }

    /// Runs two pods in two namespaces, which do that.
    pub fn run_pods(&mut self, command: &[&str]) -> [Pod; 2] {
        let pods = [
            ("front", "shop", "7affa11e-0000-4000-8000-000000000001"),
            ("back", "depot", "7affa11e-0000-4000-8000-000000000002"),
        ];
        pods.map(|(name, namespace, uid)| {
            self.stage.remember(uid);
            let huge = "x".repeat(64 << 10);
            let pod = json!({
                "name": name, "uid": uid, "namespace": namespace,
                "cgroup_parent": parent_of(uid),
                "labels": { "app": name }, "annotations": { "huge": huge }, "log_dir": self.stage.text("logs"),
            });
            let container = json!({
                "name": "web", "image": image::NAME, "command": command,
                "labels": { "part": HOSTILE }, "annotations": { "huge": huge },
            });
            let made = self.cri(&["run", &pod.to_string(), &container.to_string()]);
            let made: Value = serde_json::from_str(&made).unwrap();
            let [sandbox, container] =
                ["sandbox", "container"].map(|key| self.stage.remember(made[key].as_str().unwrap()));
            Pod { name, namespace, uid, sandbox, container }
        })
    }

    /// Removes what was run.
    pub fn remove(&self, pods: &[Pod], plain: &str) {
        for pod in pods {
            self.cri(&["remove", &pod.sandbox]);
        }
        self.ctr(&["tasks", "rm", "--force", plain]);
    }
}

#[test]
fn containers_of_containerd_are_named_from_the_first_event_on_with_their_pods() {
    let name = "containers_of_containerd_are_named_from_the_first_event_on_with_their_pods";
    let Some(mut containerd) = start(name) else { return };
    let settings = containerd.settings.clone();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&settings);
    let plain = containerd.run();
    let pods = containerd.run_pods(&["sleep", "3600"]);
    for id in pods.iter().map(|pod| &pod.container).chain([&plain]) {
        daemon.wait_for(|record| is_event(record, "exec", id) && record["event"]["args"][0] == "sleep");
    }
    let is_labelled = |record: &Value, id: &str| {
        let container = &record["container"];
        record["kind"] == "container" && container["id"] == *id && container["labels"] != Value::Null
    };
    for id in pods.iter().flat_map(|pod| [&pod.sandbox, &pod.container]) {
        daemon.wait_for(|record| is_labelled(record, id));
    }
    let (_, records) = daemon.stop();

    // Somebody who starts to watch while the runtime is down knows the names by its files, and the rest later.
    containerd.stage.stop("containerd");
    let daemon = Daemon::start(&settings);
    let Pod { sandbox, container, .. } = &pods[0];
    let is_its = |record: &Value| record["kind"] == "container" && record["container"]["id"] == **container;
    let known = daemon.wait_for(is_its);
    assert_eq!((&known["container"]["name"], &known["container"]["labels"]), (&json!("web"), &Value::Null));
    containerd.start();
    for id in [sandbox, container] {
        daemon.wait_for(|record| is_labelled(record, id));
    }
    containerd.exec("k8s.io", container, &["cat", "/etc/passwd"]);
    daemon.wait_for(|record| is_event(record, "exec", container) && record["event"]["args"][0] == "cat");
    let (_, later) = daemon.stop();
    containerd.remove(&pods, &plain);

    named(&later, container, &json!({ "name": "web", "pod_name": "front", "image": image::NAME }));
    let whole =
        named(&records, &plain, &json!({ "runtime": "containerd", "name": plain, "image": image::NAME }));
    assert_eq!(whole["container"]["labels"]["app"], "plain");
    for Pod { name, namespace, uid, sandbox, container } in &pods {
        let pod =
            json!({ "runtime": "containerd", "pod_name": name, "pod_namespace": namespace, "pod_uid": uid });
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

/// The cgroup of a pod, as the kubelet calls it.
fn parent_of(uid: &str) -> String {
    match by_systemd() {
        true => format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_")),
        false => format!("/kubepods/burstable/pod{uid}"),
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
    let (pause, by_systemd) = (image::PAUSE, by_systemd());
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
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = {by_systemd}
"#
    )
}
