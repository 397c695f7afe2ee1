//! The chart: helm renders it in all its variants, the schemas of several versions of Kubernetes accept what comes out,
//! its own schema refuses what it does not know, and the plain manifests are what it renders.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use taffrail_tests::skip;

use crate::stage::said;
use crate::{given, root};

/// Versions of Kubernetes: the oldest that there are schemas of (the chart works on 1.20, too), those around the changes of
/// AppArmor's place and of what is read-only, the newest.
const VERSIONS: &[&str] = &["1.25.0", "1.29.0", "1.30.0", "1.31.0", "1.35.0", "1.37.0"];

/// Values that switch on what is off and off what is on.
const OTHER: &[&str] = &[
    "rules.10-ours\\.yaml=- list: ours",
    "runtimeSockets={/run/containerd/containerd.sock}",
    "hostProc=false",
    "tracefs=false",
    "pinProbes=true",
    "seccomp.type=Localhost",
    "seLinuxType=spc_t",
    "serviceAccount.create=false",
    "imagePullSecrets[0].name=pull",
    "secrets={siem}",
    "trust={siem-ca}",
    "config.export.siem.to=syslog+tls://siem.example:6514",
    "config.export.siem.ca_file=/etc/taffrail-trust/siem-ca/ca.crt",
    "networkPolicy.egress[0].to[0].ipBlock.cidr=10.0.0.0/8",
    "networkPolicy.scrapers[0].podSelector.matchLabels.app=prometheus",
    "probes.enabled=false",
    "metrics.enabled=true",
    "metrics.tlsSecret=tls",
    "metrics.tokensSecret=tokens",
    "metrics.clientCaSecret=ca",
    "metrics.dashboard.enabled=true",
];

/// Values with which the API server is asked whose tokens and pods are, and who may.
const ASKING: &[&str] = &[
    "metrics.enabled=true",
    "metrics.tlsSecret=tls",
    "metrics.kubernetes.tokens=true",
    "metrics.oidc.issuer=https://login.example",
    "metrics.oidc.audience=taffrail",
    "metrics.oidc.groups={ops}",
    "metrics.oidc.ca_file=/etc/taffrail-trust/idp/ca.crt",
    "trust={idp}",
    "kubernetes.workloads=true",
];

/// What no variant may have.
const FORBIDDEN: &[&str] = &["privileged: true", "hostNetwork", "hostPID", "hostIPC", "SYS_ADMIN"];

/// What only those may have with which the API server is asked.
const RIGHTS: &[&str] = &["ClusterRole", "serviceAccountToken:", "kubernetes.io/serviceaccount"];

/// Renders it.
fn render(helm: &Path, kubernetes: &str, values: &[&str], options: &[&str]) -> Output {
    let mut command = Command::new(helm);
    command.args(["template", "taffrail", "deploy/chart", "--namespace", "taffrail"]).current_dir(root());
    command.args(["--kube-version", kubernetes]).args(options);
    command.args(values.iter().flat_map(|value| ["--set", value])).output().unwrap()
}

/// The pod that a node would get, and its settings, as podman takes them.
pub fn pod(helm: &Path, values: &[String]) -> String {
    // Podman leaves checks to systemd, which need not be there.
    let values: Vec<&str> = values.iter().map(String::as_str).chain(["probes.enabled=false"]).collect();
    let shown = |file: &str| {
        said("helm", &render(helm, "1.30.0", &values, &["--show-only", &format!("templates/{file}")]))
    };
    let set = shown("daemonset.yaml");
    let (_, template) = set.split_once("\n  template:\n").unwrap();
    let template: Vec<&str> =
        template.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    // Podman knows no nodes, and fills nothing in for arguments.
    let template = template.join("\n").replacen("metadata:", "metadata:\n  name: taffrail", 1);
    let template = template.replace("spec.nodeName", "metadata.name").replace("$(NODE_NAME)", "node");
    format!("{}\n---\napiVersion: v1\nkind: Pod\n{template}\n", shown("configmap.yaml"))
}

/// All that the chart renders, read with Python's help.
pub fn objects(helm: &Path, schemas: &Path, values: &[String]) -> Vec<Value> {
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let manifests = said("helm", &render(helm, "1.35.0", &values, &[]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifests.yaml");
    std::fs::write(&path, manifests).unwrap();
    let script =
        "import json, sys, yaml; print(json.dumps([d for d in yaml.safe_load_all(open(sys.argv[1])) if d]))";
    let mut command = Command::new("python3");
    let output = command.args(["-c", script]).arg(path).env("PYTHONPATH", schemas).output().unwrap();
    serde_json::from_str(&said("python3", &output)).unwrap()
}

/// The settings that the values can have, by their keys.
fn settings(schema: &Value, section: &str) -> Vec<String> {
    let members = schema["properties"].as_object().unwrap().iter();
    // A key with a dot in it is another way to write one that is there, too; what is the chart's own is forbidden.
    let members = members.filter(|(name, of)| !name.contains('.') && of.is_object());
    let each = members.map(|(name, of)| {
        let exporter = &of["additionalProperties"];
        if of["properties"].is_object() {
            settings(of, &format!("{section}{name}."))
        } else if exporter.is_object() {
            settings(exporter, &format!("{section}{name}.siem."))
        } else {
            vec![format!("{section}{name}")]
        }
    });
    each.flatten().collect()
}

#[test]
fn helm_finds_nothing_wrong_with_the_chart() {
    let helm = match given("TAFFRAIL_HELM") {
        Ok(helm) => helm,
        Err(reason) => skip!("helm_finds_nothing_wrong_with_the_chart", "{reason}"),
    };
    let output = Command::new(helm).args(["lint", "--strict", "deploy/chart"]).current_dir(root()).output();
    said("helm lint", &output.unwrap());
}

#[test]
fn kubernetes_accepts_every_variant_of_the_chart_and_none_asks_for_more_than_it_may() {
    const TEST: &str = "kubernetes_accepts_every_variant_of_the_chart_and_none_asks_for_more_than_it_may";
    let (helm, schemas) = match given("TAFFRAIL_HELM").and_then(|helm| Ok((helm, given("TAFFRAIL_SCHEMAS")?)))
    {
        Ok(tools) => tools,
        Err(reason) => skip!(TEST, "{reason}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let validate = |version: &str, manifests: &str| {
        let path = folder.path().join("manifests.yaml");
        std::fs::write(&path, manifests).unwrap();
        let mut command = Command::new("python3");
        command.args(["-m", "kubernetes_validate", "--strict", "--quiet", "-k", version]).arg(path);
        command.env("PYTHONPATH", &schemas).output().unwrap()
    };
    for version in VERSIONS {
        for values in [&[][..], OTHER, ASKING] {
            let manifests = said("helm", &render(&helm, version, values, &[]));
            said(&format!("Kubernetes {version}, {values:?}: {manifests}"), &validate(version, &manifests));
            for forbidden in FORBIDDEN {
                assert!(!manifests.contains(forbidden), "{forbidden} in {manifests}");
            }
            for right in RIGHTS {
                assert_eq!(manifests.contains(right), values == ASKING, "{right} in {manifests}");
            }
        }
    }
    // It would see what is wrong.
    let manifests = said("helm", &render(&helm, "1.35.0", &[], &[]));
    let wrong = manifests.replace("readOnlyRootFilesystem: true", "readOnlyRoot: true");
    assert!(!validate("1.35.0", &wrong).status.success());
    // Kinds of the Prometheus operator are not Kubernetes' own.
    let operator = ["metrics.enabled=true", "metrics.tlsSecret=tls", "metrics.tokensSecret=tokens"];
    let kinds = ["metrics.serviceMonitor.enabled=true", "metrics.prometheusRule.enabled=true"];
    let of_a_name = ["fullnameOverride=watch"];
    let operator = [&operator[..], &kinds, &of_a_name].concat();
    let monitoring = said("helm", &render(&helm, "1.35.0", &operator, &[]));
    for part in [
        "kind: ServiceMonitor",
        "kind: PrometheusRule",
        "alert: TaffrailTamperWindow",
        "{{ $labels.instance }}",
        // Alerts are about this one, by nodes.
        "{daemonset=\"watch\"}",
        "sourceLabels: [__meta_kubernetes_pod_node_name]\n          targetLabel: instance\n",
    ] {
        assert!(monitoring.contains(part), "{part} in {monitoring}");
    }
    // There is nothing to ask without metrics.
    let none = said("helm", &render(&helm, "1.35.0", &kinds, &[]));
    assert!(!none.contains("monitoring.coreos.com"), "{none}");
    // OpenShift's own kind is not Kubernetes'.
    let constraints = said("helm", &render(&helm, "1.35.0", &["openshift.scc=true"], &[]));
    assert!(constraints.contains("kind: SecurityContextConstraints"));
}

#[test]
fn pods_start_anew_for_settings_that_are_not_read_anew_and_for_no_others() {
    let helm = match given("TAFFRAIL_HELM") {
        Ok(helm) => helm,
        Err(reason) => {
            skip!("pods_start_anew_for_settings_that_are_not_read_anew_and_for_no_others", "{reason}")
        }
    };
    let pods = |values: &[&str]| {
        let options = ["--skip-schema-validation", "--show-only", "templates/daemonset.yaml"];
        said("helm", &render(&helm, "1.35.0", values, &options))
    };
    let before = pods(&[]);
    let schema = std::fs::read_to_string(root().join("deploy/chart/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let settings = settings(&schema["properties"]["config"], "");
    for key in ["log.record", "export.siem.to"] {
        assert!(settings.iter().any(|setting| setting == key), "{key}: {settings:?}");
    }
    for key in settings {
        let is_same = pods(&[&format!("config.{key}=other")]) == before;
        assert_eq!(is_same, taffrail::config::is_live(&key), "{key}");
    }
    let rules = "rules.ours\\.yaml=- list: ours";
    assert_eq!(pods(&[rules]), before);
    // Nobody would read them anew.
    let unwatched = "config.rules.watch=false";
    let before = pods(&[unwatched]);
    for value in [rules, "config.rules.disabled={One}", "config.log.record=proc.pid = 1"] {
        assert_ne!(pods(&[unwatched, value]), before, "{value}");
    }
}

#[test]
fn chart_asks_for_the_rights_of_what_is_switched_on_and_no_others() {
    const TEST: &str = "chart_asks_for_the_rights_of_what_is_switched_on_and_no_others";
    let (helm, schemas) = match given("TAFFRAIL_HELM").and_then(|helm| Ok((helm, given("TAFFRAIL_SCHEMAS")?)))
    {
        Ok(tools) => tools,
        Err(reason) => skip!(TEST, "{reason}"),
    };
    let rights = |values: &[&str]| {
        let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        let all = objects(&helm, &schemas, &values);
        let role = all.iter().find(|object| object["kind"] == "ClusterRole").unwrap().clone();
        let rules = role["rules"].as_array().unwrap().iter();
        let rules = rules.map(|rule| format!("{} {}", rule["verbs"], rule["resources"]));
        rules.collect::<Vec<_>>()
    };
    let tokens = "[\"create\"] [\"tokenreviews\"]";
    assert_eq!(rights(&ASKING[..3]), [tokens, "[\"create\"] [\"subjectaccessreviews\"]"]);
    assert_eq!(rights(&[&ASKING[..3], &["metrics.kubernetes.groups={ops}"]].concat()), [tokens]);
    let pods = ["[\"list\",\"watch\"] [\"pods\"]", "[\"get\"] [\"replicasets\"]", "[\"get\"] [\"jobs\"]"];
    assert_eq!(rights(&["kubernetes.workloads=true"]), pods);
    // Its token is a volume of a kind that OpenShift has to allow; and the account is its own.
    let workloads = ["openshift.scc=true", "kubernetes.workloads=true"];
    let constraints = said("helm", &render(&helm, "1.35.0", &workloads, &[]));
    assert!(constraints.contains("volumes: [configMap, hostPath, secret, projected]"), "{constraints}");
    assert!(constraints.contains("  name: taffrail.taffrail\n"), "{constraints}");
    for right in ["kubernetes.workloads=true", "openshift.scc=true"] {
        let everybodys = render(&helm, "1.35.0", &[right, "serviceAccount.create=false"], &[]);
        let said = String::from_utf8_lossy(&everybodys.stderr);
        assert!(!everybodys.status.success() && said.contains("serviceAccount.name"), "{everybodys:?}");
    }
}

#[test]
fn values_that_the_chart_does_not_know_or_that_would_widen_it_are_refused() {
    const TEST: &str = "values_that_the_chart_does_not_know_or_that_would_widen_it_are_refused";
    let helm = match given("TAFFRAIL_HELM") {
        Ok(helm) => helm,
        Err(reason) => skip!(TEST, "{reason}"),
    };
    for (value, place) in [
        ("tolerationz=x", "tolerationz"),
        ("capabilities={SYS_ADMIN}", "/capabilities/0"),
        ("seccomp.type=None", "/seccomp/type"),
        ("runtimeFolders={run}", "/runtimeFolders/0"),
        ("runtimeFolders={/}", "/runtimeFolders/0"),
        ("runtimeFolders={/run/containerd}", "/runtimeFolders/0"),
        ("runtimeFolders={/var/lib/kubelet/pods}", "/runtimeFolders/0"),
        ("runtimeFolders={/run/x/../../etc/ssh}", "/runtimeFolders/0"),
        ("runtimeSockets={/root/x.sock}", "/runtimeSockets/0"),
        ("logFolder=/", "/logFolder"),
        ("logFolder=/var", "/logFolder"),
        ("logFolder=/var/log", "/logFolder"),
        ("logFolder=/var/log/", "/logFolder"),
        ("logFolder=/etc/cron.d", "/logFolder"),
        ("logFolder=/usr/bin", "/logFolder"),
        ("logFolder=/var/spool/cron", "/logFolder"),
        ("logFolder=/opt/cni/bin", "/logFolder"),
        ("logFolder=/var/lib/etcd", "/logFolder"),
        ("logFolder=/var/log/pods", "/logFolder"),
        ("logFolder=/run/systemd/system/taffrail.service.d", "/logFolder"),
        ("logFolder=/var/log/taffrail/../pods", "/logFolder"),
        ("logFolder=/var/log/not-taffrail", "/logFolder"),
        ("secrets={../x}", "/secrets/0"),
        ("config.log.dir=/tmp", "/config/log/dir"),
        ("rules.notes\\.txt=x", "notes.txt"),
        ("image.digest=latest", "/image/digest"),
        ("config.api.listen=0.0.0.0:1", "/config/api"),
        ("config.kubernetes.workloads=true", "/config/kubernetes"),
        ("metrics.enabled=true", "/metrics/tlsSecret"),
        ("metrics.oidc.issuer=http://x", "/metrics/oidc/issuer"),
        ("metrics.oidc.audience=x", "/metrics/oidc"),
        ("config.api\\.listen=0.0.0.0:1", "api.listen"),
        ("config.log.segment_bytez=1", "segment_bytez"),
        ("config.log.heartbeat_s=often", "/config/log/heartbeat_s"),
    ] {
        let output = render(&helm, "1.35.0", &[value], &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(place), "{value}: {said}");
    }
    // Without one of these nobody could be let in.
    for left_out in ["metrics.oidc.ca_file", "metrics.oidc.groups"] {
        let values = ASKING.iter().copied().filter(|value| !value.starts_with(left_out));
        let values: Vec<&str> = values.collect();
        let output = render(&helm, "1.35.0", &values, &["--set-json", "metrics.oidc.users=[]"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("/metrics/oidc"), "{left_out}: {said}");
    }
    for folder in ["/data/taffrail-audit", "/var/log/taffrail/node"] {
        said("helm", &render(&helm, "1.35.0", &[&format!("logFolder={folder}")], &[]));
    }
}

#[test]
fn notes_warn_of_what_the_network_policy_keeps_from_working() {
    let helm = match given("TAFFRAIL_HELM") {
        Ok(helm) => helm,
        Err(reason) => skip!("notes_warn_of_what_the_network_policy_keeps_from_working", "{reason}"),
    };
    let warnings = |values: &[&str]| {
        let mut command = Command::new(&helm);
        command.args(["install", "--dry-run=client", "taffrail", "deploy/chart"]).current_dir(root());
        let notes =
            said("helm", &command.args(values.iter().flat_map(|value| ["--set", value])).output().unwrap());
        let warnings = notes.lines().filter_map(|line| line.strip_prefix("WARNING: "));
        warnings.map(|line| line.split(',').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(warnings(&[]), [""; 0]);
    assert_eq!(warnings(OTHER), [""; 0]);
    let expected = [
        "nobody can scrape the metrics",
        "the API server cannot be asked",
        "the provider of OpenID Connect cannot be asked",
        "the exporter siem reaches nobody",
    ];
    let exporters = ["config.export.siem.to=syslog+tls://siem.example:6514", "config.export.here.to=stdout:"];
    assert_eq!(warnings(&[ASKING, &exporters].concat()), expected);
}

#[test]
fn plain_manifests_are_fresh() {
    let helm = match given("TAFFRAIL_HELM") {
        Ok(helm) => helm,
        Err(reason) => skip!("plain_manifests_are_fresh", "{reason}"),
    };
    let manifests = said("helm", &render(&helm, "1.30.0", &[], &[]));
    let namespace = "# Rendered from deploy/chart by `cargo xtask test deploy`.\napiVersion: v1\nkind: Namespace\n\
                     metadata:\n  name: taffrail\n  labels:\n    pod-security.kubernetes.io/enforce: privileged\n";
    taffrail::testing::assert_fresh("deploy/manifests/taffrail.yaml", &format!("{namespace}{manifests}\n"));
}
