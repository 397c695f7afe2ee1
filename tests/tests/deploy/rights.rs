//! The pod's rights and folders: with all of them it watches, and without each it is less in the way that the docs say.
//! Nothing here asks for more than the chart does.

use serde_json::Value;
use taffrail_tests::daemon::is_event;

use crate::engine::{CAPABILITIES, MOUNTS, Podman};
use crate::{chart, root};

/// Probes that are programs of the cgroup tree.
const OF_CGROUPS: &[&str] =
    &["connect4", "connect6", "egress", "ingress", "sock_create", "sendmsg4", "sendmsg6"];

/// What the doctor says of one thing.
#[track_caller]
fn finding<'a>(doctor: &'a Value, what: &str) -> &'a Value {
    let findings = doctor["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["what"] == what).unwrap_or_else(|| panic!("no {what}: {doctor}"))
}

/// Probes that the kernel refused.
fn refused(doctor: &Value) -> Vec<&str> {
    let probes = doctor["probes"].as_array().unwrap();
    let refused = probes.iter().filter(|probe| probe["status"] == "refused");
    refused.filter_map(|probe| probe["probe"].as_str()).collect()
}

/// All but one of a list.
fn without<'a>(list: &[&'a str], left_out: &str) -> Vec<&'a str> {
    let rest: Vec<&str> = list.iter().copied().filter(|item| !item.starts_with(left_out)).collect();
    assert_eq!(rest.len() + 1, list.len(), "{left_out}");
    rest
}

#[test]
fn each_capability_costs_what_the_docs_say_and_nothing_else() {
    let Some(podman) = Podman::set("each_capability_costs_what_the_docs_say_and_nothing_else") else {
        return;
    };
    let all = podman.doctor(CAPABILITIES, MOUNTS, &[]);
    assert_eq!(finding(&all, "capabilities")["verdict"], "ok", "{all}");
    assert_eq!(refused(&all), [""; 0], "{all}");
    let docs = std::fs::read_to_string(root().join("docs/deploy.md")).unwrap();
    for right in CAPABILITIES {
        let doctor = podman.doctor(&without(CAPABILITIES, right), MOUNTS, &[]);
        let capabilities = finding(&doctor, "capabilities");
        assert_eq!(capabilities["found"], format!("{right} not there"));
        let found = match doctor["verdict"].as_str().unwrap() {
            "BROKEN" => "it does not start".to_owned(),
            _ if refused(&doctor).is_empty() => "all probes".to_owned(),
            _ => {
                assert_eq!(refused(&doctor), OF_CGROUPS, "{doctor}");
                "all probes but those of cgroups".to_owned()
            }
        };
        let row = docs.lines().find(|line| line.starts_with(&format!("| `{right}` |")));
        assert!(row.is_some_and(|row| row.contains(&format!("| {found} |"))), "{right}: {found}: {row:?}");
    }
}

#[test]
fn in_a_cgroup_namespace_the_machines_tree_is_found_and_a_container_without_it_is_told() {
    let test = "in_a_cgroup_namespace_the_machines_tree_is_found_and_a_container_without_it_is_told";
    let Some(podman) = Podman::set(test) else { return };
    let private = ["--cgroupns", "private"];
    let doctor = podman.doctor(CAPABILITIES, MOUNTS, &private);
    assert_eq!(finding(&doctor, "cgroups")["verdict"], "ok", "{doctor}");
    assert_eq!(refused(&doctor), [""; 0]);
    let doctor = podman.doctor(CAPABILITIES, &without(MOUNTS, "/sys/fs/cgroup"), &private);
    assert_eq!(finding(&doctor, "cgroups")["verdict"], "less", "{doctor}");
    assert_eq!(refused(&doctor), OF_CGROUPS);
}

/// A daemon with these rights and mounts, and an event of a container that ran before it.
fn event_of_a_container_that_was_there(
    test: &str,
    rights: &[&str],
    mounts: &[&str],
) -> Option<(Value, Vec<Value>)> {
    let mut podman = Podman::set(test)?;
    let reader = podman.start_reader("reader");
    podman.stage.remember(&reader);
    let log = format!("{}:/var/log/taffrail", podman.stage.text("log"));
    let proc = format!("{}:/proc:ro", podman.machines_proc());
    let mounts: Vec<&str> =
        mounts.iter().map(|mount| if mount.starts_with("/proc:") { &proc } else { *mount }).collect();
    let options = ["--detach", "--name", "daemon", "--cgroupns", "private", "--volume", &log];
    let output = podman.image(rights, &mounts, &options, &["run", "-o", "log.record=container.id != host"]);
    let daemon = crate::stage::said("podman", &output);
    podman.stage.remember(&daemon);
    podman.wait_until_watches("daemon");
    let event = podman.wait_for("daemon", |record| {
        is_event(record, "open", &reader) && record["event"]["file"] == "/etc/passwd"
    });
    podman.run(&["stop", "--time", "10", "daemon"]);
    podman.run(&["rm", "--force", "--time", "0", "reader"]);
    let records = podman.records();
    assert!(records.iter().any(|record| record["kind"] == "stop"));
    let of_itself =
        records.iter().find(|record| is_event(record, "open", &daemon) && record["process"]["vpid"] == 1);
    assert!(of_itself.is_none(), "the daemon watches itself: {of_itself:?}");
    Some((event, records))
}

#[test]
fn a_daemon_in_a_pod_knows_who_was_there_before_it() {
    let test = "a_daemon_in_a_pod_knows_who_was_there_before_it";
    let Some((event, _)) = event_of_a_container_that_was_there(test, CAPABILITIES, MOUNTS) else { return };
    assert_eq!(event["process"]["parent_exe"], "/bin/busybox", "{event}");
}

#[test]
fn without_ptrace_executables_of_who_was_there_before_are_not_known() {
    let test = "without_ptrace_executables_of_who_was_there_before_are_not_known";
    let rights = without(CAPABILITIES, "SYS_PTRACE");
    let Some((event, _)) = event_of_a_container_that_was_there(test, &rights, MOUNTS) else { return };
    assert_eq!(event["process"]["parent_exe"], "", "{event}");
}

#[test]
fn without_the_machines_proc_nothing_is_known_of_who_was_there_before() {
    let test = "without_the_machines_proc_nothing_is_known_of_who_was_there_before";
    let mounts = without(MOUNTS, "/proc");
    let Some((event, _)) = event_of_a_container_that_was_there(test, CAPABILITIES, &mounts) else { return };
    assert_eq!(event["process"]["parent_exe"], "", "{event}");
}

#[test]
fn the_charts_pod_runs_and_raises_an_alert() {
    const TEST: &str = "the_charts_pod_runs_and_raises_an_alert";
    let helm = match crate::given("TAFFRAIL_HELM") {
        Ok(helm) => helm,
        Err(reason) => return taffrail::testing::skipped(TEST, reason),
    };
    let Some(mut podman) = Podman::set(TEST) else { return };
    let values = [
        "image.pullPolicy=Never".to_owned(),
        format!("logFolder={}", podman.stage.text("log")),
        format!("runtimeFolders={{{}}}", podman.stage.text("root/overlay-containers")),
        "config.rules.disabled={Password hashes read}".to_owned(),
        "rules.10-ours\\.yaml=- rule: Passwords looked at\n  desc: d\n  condition: evt.kind = open and fd.name = \
         /etc/passwd\n  output: seen\n  priority: NOTICE\n"
            .to_owned(),
    ];
    std::fs::write(podman.stage.path("pod.yaml"), chart::pod(&helm, &values)).unwrap();
    podman.run(&["play", "kube", "--network", "none", &podman.stage.text("pod.yaml")]);
    let daemon = podman.run(&["ps", "--quiet", "--no-trunc", "--filter", "name=taffrail-taffrail"]);
    podman.stage.remember(&daemon);
    podman.wait_until_watches("taffrail-taffrail");
    let inspected: Value = serde_json::from_str(&podman.run(&["inspect", "taffrail-taffrail"])).unwrap();
    let mut rights: Vec<&str> =
        inspected[0]["EffectiveCaps"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    rights.sort_unstable();
    let mut asked: Vec<String> = CAPABILITIES.iter().map(|right| format!("CAP_{right}")).collect();
    asked.sort_unstable();
    assert_eq!(rights, asked);
    assert_eq!(inspected[0]["HostConfig"]["Privileged"], false);
    assert_eq!(inspected[0]["HostConfig"]["ReadonlyRootfs"], true);
    let reader = podman.start_reader("reader");
    podman.stage.remember(&reader);
    podman.wait_for("taffrail-taffrail", |record| {
        record["rule"] == "Passwords looked at" && record["container"]["id"] == *reader
    });
    podman.run(&["rm", "--force", "--time", "0", "reader"]);
    podman.run(&["pod", "rm", "--force", "--time", "10", "taffrail"]);
}
