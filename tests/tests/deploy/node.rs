//! The chart on a real node: helm installs it, an API server, a scheduler and controllers make a pod of it, and a kubelet
//! runs that by containerd. `cargo xtask setup --kubernetes` builds these programs; without them the test is skipped.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use taffrail_tests::daemon::{records, taffrail};
use taffrail_tests::skip;

use crate::cluster::{self, Cluster};
use crate::cri::start_containerd;
use crate::engine::cannot_start;
use crate::stage::{Stage, lacks, said};
use crate::{given, image, root};

/// The node.
const NODE: &str = "node-1";

/// Where Debian has the plugins for pods' networks.
const NETWORK: &str = "/usr/lib/cni/bridge";

/// A rule file by which whoever reads users raises an alert of that name.
fn rules(name: &str) -> String {
    let condition = "evt.kind = open and fd.name = /etc/passwd and k8s.workload.name = shop";
    format!("- rule: {name}\n  desc: a test\n  condition: {condition}\n  output: read\n  priority: WARNING\n")
}

/// A cluster of one node, and helm.
struct Node {
    // It ends before its stage does.
    cluster: Cluster,
    stage: Stage,
    helm: PathBuf,
}

impl Node {
    fn start(helm: PathBuf) -> Self {
        let stage = Stage::set();
        // As systemd has it on nodes; the place is cut off from the machine's mounts.
        stage.run("mount", ["--make-rshared", "/"]);
        stage.run("mount", ["-t", "bpf", "bpf", "/sys/fs/bpf"]);
        let prefix = stage.prefix();
        let cluster = Cluster::open(&prefix.iter().map(String::as_str).collect::<Vec<_>>());
        let network = json!({
            "cniVersion": "0.4.0", "name": "pods",
            "plugins": [{
                "type": "bridge", "bridge": "pods", "isGateway": true,
                "ipam": {
                    "type": "host-local", "dataDir": stage.text("ipam"), "ranges": [[{ "subnet": "10.96.0.0/24" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }],
        });
        std::fs::create_dir(stage.path("cni")).unwrap();
        std::fs::write(stage.path("cni/pods.conflist"), network.to_string()).unwrap();
        let socket = start_containerd(&stage);
        let mut node = Self { cluster, stage, helm };
        node.start_kubelet(&socket);
        node.cluster.until("the node is ready", || {
            let (_, node) = node.cluster.ask("GET", &format!("/api/v1/nodes/{NODE}"), None);
            let mut conditions = node["status"]["conditions"].as_array()?.iter();
            conditions
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
                .then_some(())
        });
        node
    }

    fn start_kubelet(&mut self, socket: &str) {
        self.cluster.certificates.issue(NODE, &format!("/O=system:nodes/CN=system:node:{NODE}"));
        self.cluster.configure("kubelet", NODE);
        let group = self.stage.remember(&format!("taffrail-node-{}", std::process::id()));
        let settings = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": { "x509": { "clientCAFile": self.cluster.certificates.path("ca.pem") } },
            "cgroupRoot": format!("/{group}"), "failSwapOn": false, "makeIPTablesUtilChains": false, "resolvConf": "",
            // How full the disk is says nothing of this test.
            "evictionHard": { "memory.available": "1Mi" }, "imageGCHighThresholdPercent": 100,
            "syncFrequency": "2s", "volumePluginDir": self.stage.text("plugins"),
        });
        for folder in Path::new("/sys/fs/cgroup").read_dir().unwrap().flatten() {
            // Of one tree there are files here, of several their folders.
            if folder.path().join("cgroup.procs").exists() {
                std::fs::create_dir_all(folder.path().join(&group)).unwrap();
            }
        }
        std::fs::write(self.stage.path("kubelet.json"), settings.to_string()).unwrap();
        let arguments = [
            format!("--config={}", self.stage.text("kubelet.json")),
            format!("--kubeconfig={}", self.cluster.certificates.path("kubelet")),
            format!("--root-dir={}", self.stage.text("kubelet")),
            format!("--cert-dir={}", self.stage.text("kubelet/pki")),
            format!("--container-runtime-endpoint=unix://{socket}"),
            "--container-runtime=remote".to_owned(),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={}", cluster::SERVICE),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let program = cluster::program("kubelet").display().to_string();
        self.stage.start_command("kubelet", &[], &program, &arguments);
    }

    /// Runs helm, with those values.
    #[track_caller]
    fn helm(&self, arguments: &[&str], values: &Value) {
        let path = self.stage.path("values.json");
        std::fs::write(&path, values.to_string()).unwrap();
        let mut helm = self.cluster.command(&self.helm);
        helm.args(arguments).args(["--namespace", "taffrail", "--timeout", "120s", "--wait"]);
        helm.args(["--kubeconfig", &self.cluster.certificates.path("config")]);
        if *values != Value::Null {
            helm.arg("--values").arg(path);
        }
        let output = helm.output().unwrap();
        if !output.status.success() {
            let (_, pods) = self.cluster.ask("GET", "/api/v1/pods", None);
            let log = std::fs::read_to_string(self.stage.path("kubelet.log")).unwrap();
            let log: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("pods: {pods:#}\nthe kubelet, backwards: {}", log.join("\n"));
        }
        said("helm", &output);
    }

    /// The only pod of the chart: its unique id, how often it was started anew, and its address.
    fn pod(&self) -> (String, u64, String) {
        self.cluster.until("there is one pod", || {
            let (_, pods) = self.cluster.ask("GET", "/api/v1/namespaces/taffrail/pods", None);
            let [pod] = &pods["items"].as_array()?[..] else { return None };
            let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64()?;
            let text = |value: &Value| value.as_str().map(str::to_owned);
            Some((text(&pod["metadata"]["uid"])?, restarts, text(&pod["status"]["podIP"])?))
        })
    }

    /// What the pod says about its metrics to who has that token.
    fn metrics(&self, address: &str, token: &str) -> String {
        let mut curl = self.cluster.command("curl");
        curl.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}"]);
        curl.args(["--cacert", &self.cluster.certificates.path("ca.pem")]);
        curl.args(["--header", &format!("Authorization: Bearer {token}")]);
        curl.args(["--connect-to", &format!("localhost:9641:{address}:9641")]);
        said("curl", &curl.arg("https://localhost:9641/metrics").output().unwrap())
    }

    /// Waits for a record of the log.
    #[track_caller]
    fn found(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.cluster.until(what, || records(&self.stage.path("log")).into_iter().find(&wanted))
    }
}

/// Whether this is an alert of a rule.
fn is_alert(rule: &str) -> impl Fn(&Value) -> bool {
    move |record| record["kind"] == "alert" && record["rule"] == rule
}

#[test]
fn chart_on_a_real_node_watches_it_takes_rules_as_they_come_and_is_replaced_without_a_gap() {
    const TEST: &str =
        "chart_on_a_real_node_watches_it_takes_rules_as_they_come_and_is_replaced_without_a_gap";
    let reason = cluster::unavailable()
        .or_else(|| cannot_start(&["containerd", "ctr", "runc"]))
        .or_else(|| lacks(&[NETWORK, "curl"]));
    let helm = match (reason, given("TAFFRAIL_HELM")) {
        (None, Ok(helm)) => helm,
        (Some(reason), _) | (None, Err(reason)) => skip!(TEST, "{reason}"),
    };
    let mut node = Node::start(helm);
    let cluster = &mut node.cluster;
    cluster.make("/api/v1/namespaces", json!({ "metadata": { "name": "taffrail" } }));
    let file = |name: &str| std::fs::read_to_string(cluster.certificates.path(name)).unwrap();
    let pair = json!({ "tls.crt": file("server.pem"), "tls.key": file("server.key") });
    let secret = json!({ "metadata": { "name": "tls" }, "type": "kubernetes.io/tls", "stringData": pair });
    cluster.make("/api/v1/namespaces/taffrail/secrets", secret);
    cluster.account("prometheus", json!([{ "nonResourceURLs": ["/metrics"], "verbs": ["get"] }]));
    cluster.account("shop", json!([]));
    let tokens = ["prometheus", "shop"].map(|name| cluster.token(name, None));
    let state = node.stage.text("state");
    let mut values = json!({
        "logFolder": node.stage.text("log"),
        "runtimeFolders": [format!("{state}/io.containerd.runtime.v2.task")],
        "pinProbes": true,
        "kubernetes": { "workloads": true },
        "metrics": { "enabled": true, "tlsSecret": "tls", "kubernetes": { "tokens": true } },
        "config": {
            "enrich": { "folders": { "containerd": [state] }, "name_wait_ms": 10000 },
            "log": { "record": "evt.kind = open and k8s.workload.name = shop" },
        },
        "rules": { "ours.yaml": rules("first") },
    });
    let chart = root().join("deploy/chart").display().to_string();
    // It is ready once an event that it causes itself was seen.
    node.helm(&["install", "taffrail", &chart], &values);
    let (uid, _, address) = node.pod();

    let labels = json!({ "app": "shop" });
    let read = "while :; do cat /etc/passwd; sleep 0.5; done";
    let container = json!({
        "name": "web", "image": image::NAME, "imagePullPolicy": "Never", "command": ["sh", "-c", read],
    });
    let template = json!({
        "metadata": { "labels": labels },
        "spec": {
            "serviceAccountName": "shop", "containers": [container], "tolerations": [{ "operator": "Exists" }],
            "terminationGracePeriodSeconds": 0,
        },
    });
    node.cluster.make(
        "/apis/apps/v1/namespaces/default/deployments",
        json!({ "metadata": { "name": "shop" }, "spec": { "selector": { "matchLabels": labels }, "template": template } }),
    );
    let event = node.found("an event of the deployment's", |record| {
        record["kind"] == "event" && record["event"]["file"] == "/etc/passwd"
    });
    let container = &event["container"];
    let told = ["name", "image", "pod_namespace", "workload_kind", "workload_name", "service_account"]
        .map(|member| container[member].as_str().unwrap_or_default());
    assert_eq!(told, ["web", image::NAME, "default", "Deployment", "shop", "shop"], "{event}");
    node.found("an alert", is_alert("first"));

    let [prometheus, shop] = &tokens;
    let metrics = node.metrics(&address, prometheus);
    assert!(metrics.contains("taffrail_events_total") && metrics.ends_with("\n200"), "{metrics}");
    assert!(node.metrics(&address, shop).ends_with("\n403"));

    // Rules and settings that need no start come to the same pod, and broken ones do no harm.
    values["rules"]["ours.yaml"] = "- rule: broken\n  condition: evt.knid = open\n".into();
    node.helm(&["upgrade", "taffrail", &chart], &values);
    node.found("that rules are refused", |record| record["kind"] == "rules" && record["result"] == "refused");
    values["rules"]["ours.yaml"] = rules("second").into();
    values["config"]["log"]["record"] = "evt.kind = exec and k8s.workload.name = shop".into();
    node.helm(&["upgrade", "taffrail", &chart], &values);
    node.found("an alert of a new rule", is_alert("second"));
    node.found("an event of a new kind", |record| record["event"]["kind"] == "exec");
    assert_eq!(node.pod(), (uid.clone(), 0, address));

    // What needs a start gets one, and what happened meanwhile was seen.
    values["config"]["log"]["commit_interval_ms"] = 50.into();
    node.helm(&["upgrade", "taffrail", &chart], &values);
    assert_ne!(node.pod().0, uid);
    let restart = node.found("a restart", |record| record["kind"] == "restart");
    assert_eq!(restart["watched"], true, "{restart}");

    node.helm(&["uninstall", "taffrail"], &Value::Null);
    node.cluster.until("the pod is gone", || {
        let (_, pods) = node.cluster.ask("GET", "/api/v1/namespaces/taffrail/pods", None);
        pods["items"].as_array()?.is_empty().then_some(())
    });
    let log = node.stage.text("log");
    said("taffrail", &taffrail(&["audit", "verify", &log]).output().unwrap());
    let records = records(Path::new(&log));
    let stops = records.iter().filter(|record| record["kind"] == "stop").count();
    assert_eq!(stops, 2, "both pods ended in good order");
    // The machine itself may be too busy for its own processes; that is counted.
    let lost = |record: &&Value| record["kind"] == "gap" && record["container"]["id"] == container["id"];
    let broken: Vec<&Value> =
        records.iter().filter(|record| lost(record) || record["kind"] == "degraded").collect();
    assert!(broken.is_empty(), "{broken:?}");
}
