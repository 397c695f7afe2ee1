//! Whose workload a container's pod is: pods that real controllers have made of real workloads, and processes in cgroups
//! that are named as the kubelet names those of pods.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use taffrail_tests::daemon::{Daemon, taffrail};
use taffrail_tests::skip;

use crate::cluster::{Cluster, unavailable};

/// The node that all pods are on.
const NODE: &str = "node-1";

/// A cgroup as the kubelet makes it for a pod's container; gone with this.
struct Pod {
    folder: PathBuf,
}

impl Pod {
    fn new(uid: &str, id: &str) -> Self {
        let root = if PathBuf::from("/sys/fs/cgroup/cgroup.procs").exists() {
            "/sys/fs/cgroup"
        } else {
            "/sys/fs/cgroup/unified"
        };
        let folder = PathBuf::from(root).join(format!("kubepods/besteffort/pod{uid}/{id}"));
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    /// Runs a program in it.
    fn run(&self) {
        let procs = self.folder.join("cgroup.procs").display().to_string();
        let script = format!("echo 0 > {procs}; exec /bin/true");
        assert!(Command::new("/bin/sh").args(["-c", &script]).status().unwrap().success());
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let pod = self.folder.parent().unwrap();
        let class = pod.parent().unwrap();
        // Others' pods may be in the upper ones.
        let folders = [&self.folder, pod, class, class.parent().unwrap()];
        let _ = folders.map(std::fs::remove_dir);
    }
}

/// A pod's template.
fn template(account: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": "shop" } },
        "spec": {
            "nodeName": NODE, "serviceAccountName": account, "restartPolicy": "Always",
            "containers": [{ "name": "main", "image": "main" }],
        },
    })
}

#[test]
fn containers_have_the_workload_of_their_pod_from_the_first_event_on_as_real_controllers_made_it() {
    const TEST: &str =
        "containers_have_the_workload_of_their_pod_from_the_first_event_on_as_real_controllers_made_it";
    if let Some(reason) = unavailable() {
        skip!(TEST, "{reason}");
    }
    let mut cluster = Cluster::start();
    cluster.make("/api/v1/nodes", json!({ "metadata": { "name": NODE } }));
    cluster.account(
        "taffrail",
        json!([
            { "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] },
            { "apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get"] },
            { "apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"] },
        ]),
    );
    cluster.account("shop", json!([]));
    let token_file = cluster.certificates.path("token");
    std::fs::write(&token_file, cluster.token("taffrail", None)).unwrap();
    let settings = [
        format!("kubernetes.server={}", cluster.url()),
        format!("kubernetes.ca_file={}", cluster.certificates.path("ca.pem")),
        format!("kubernetes.token_file={token_file}"),
        "kubernetes.workloads=true".to_owned(),
        format!("node.name={NODE}"),
        "log.record=evt.kind = exec and k8s.sa.name exists".to_owned(),
    ];
    // It is there first: pods come by the watch.
    let daemon = Daemon::start(&settings.each_ref().map(String::as_str));
    let of = |group: &str, kind: &str| format!("/apis/{group}/namespaces/default/{kind}");
    let selector = json!({ "matchLabels": { "app": "shop" } });
    let spec = |account: &str| json!({ "selector": selector, "template": template(account) });
    let mut once = template("default");
    once["spec"]["restartPolicy"] = "Never".into();
    let named = |name: &str, spec: Value| json!({ "metadata": { "name": name }, "spec": spec });
    cluster.make(&of("apps/v1", "deployments"), named("web", spec("shop")));
    cluster.make(&of("apps/v1", "statefulsets"), named("db", spec("shop")));
    cluster.make(&of("apps/v1", "daemonsets"), named("agent", spec("default")));
    cluster.make(&of("batch/v1", "jobs"), named("migrate", json!({ "template": once })));
    let every_minute = json!({ "schedule": "* * * * *", "jobTemplate": { "spec": { "template": once } } });
    cluster.make(&of("batch/v1beta1", "cronjobs"), named("backup", every_minute));
    let mut alone = template("default");
    // Without labels: a controller would adopt it.
    alone["metadata"] = json!({ "name": "alone" });
    // Not before a controller has given the namespace its service account, and that a token.
    cluster.until("a pod can be made", || {
        let (status, _) = cluster.ask("POST", "/api/v1/namespaces/default/pods", Some(&alone));
        (status == 201).then_some(())
    });
    let uid = |prefix: &str| {
        cluster.until("its controller has made a pod", || {
            let (_, list) = cluster.ask("GET", "/api/v1/namespaces/default/pods", None);
            let pods = list["items"].as_array()?;
            let its = |pod: &&Value| pod["metadata"]["name"].as_str().unwrap().starts_with(prefix);
            pods.iter().find(its)?["metadata"]["uid"].as_str().map(str::to_owned)
        })
    };
    let id = |number: usize| format!("{number:064x}");
    let mut pods = Vec::new();
    for (number, (name, kind, workload, account)) in [
        ("web-", "Deployment", "web", "shop"),
        ("db-", "StatefulSet", "db", "shop"),
        ("agent-", "DaemonSet", "agent", "default"),
        ("migrate-", "Job", "migrate", "default"),
        ("alone", "", "", "default"),
        ("backup-", "CronJob", "backup", "default"),
    ]
    .into_iter()
    .enumerate()
    {
        let pod = Pod::new(&uid(name), &id(number));
        pod.run();
        // The rule language asked for it, so the first event of the container had it.
        let event =
            daemon.wait_for(|record| record["kind"] == "event" && record["container"]["id"] == id(number));
        let container = &event["container"];
        let text = |member: &str| container[member].as_str().unwrap_or_default();
        let found = (text("workload_kind"), text("workload_name"), text("service_account"));
        assert_eq!(found, (kind, workload, account), "{name}: {container}");
        assert_eq!(container["pod_namespace"], "default");
        pods.push(pod);
    }
    // A server that is away holds up nobody, and is told; what was known is still known.
    cluster.stop_api_server();
    let told = |is_over: bool| {
        move |record: &Value| {
            record["kind"] == "degraded"
                && record["what"] == "workloads"
                && (record["is_over"] == true) == is_over
        }
    };
    daemon.wait_for(told(false));
    pods[0].run();
    cluster.start_api_server();
    daemon.wait_for(told(true));
    let mut status = taffrail(&["status", "--json", "--config"]);
    status.arg(daemon.config()).args(["-o", &format!("log.dir={}", daemon.log().display())]);
    let status: Value = serde_json::from_slice(&status.output().unwrap().stdout).unwrap();
    let server =
        status["servers"].as_array().unwrap().iter().find(|server| server["name"] == "workloads").unwrap();
    assert_eq!(server["error"], Value::Null);
    let (_, records) = daemon.stop();
    let events = records.iter().filter(|record| {
        let is_true = record["event"]["exe"].as_str().is_some_and(|exe| exe.ends_with("/true"));
        record["container"]["id"] == id(0) && is_true
    });
    assert!(events.count() >= 2);
}
