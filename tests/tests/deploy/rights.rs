//! The pod's rights and folders: with all of them it watches, and without each it is less in the way that the docs say.
//! Nothing here asks for more than the chart does.

use serde_json::{Value, json};
use taffrail_tests::daemon::{is_event, wait_for};

use crate::engine::{CAPABILITIES, MOUNTS, Podman};
use crate::{chart, image, root};

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
        // What else it costs the doctor says in the same words.
        let cost = row.and_then(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next()).unwrap();
        let advice = capabilities["advice"].as_str().unwrap();
        assert!(found == "it does not start" || advice.contains(cost), "{cost}: {advice}");
    }
}

#[test]
fn doctor_tells_each_mount_that_is_missing_and_what_it_costs() {
    let Some(podman) = Podman::set("doctor_tells_each_mount_that_is_missing_and_what_it_costs") else {
        return;
    };
    let proc = format!("{}:/proc:ro", podman.machines_proc());
    let log = format!("{}:/var/log/taffrail", podman.stage.text("log"));
    let [storage, empty] = ["root/overlay-containers", "empty"].map(|name| podman.stage.text(name));
    podman.stage.run("mkdir", ["-p", &storage, &empty]);
    let [files, none] = [&storage, &empty].map(|from| format!("{from}:{storage}:ro,rslave"));
    let settings = [&format!("enrich.folders.podman=[{}]", podman.stage.text("root"))[..]];
    let mounts: Vec<&str> = MOUNTS.iter().filter(|mount| !mount.starts_with("/proc:")).copied().collect();
    let examine = |more: &[&str], settings: &[&str]| {
        podman.examine(CAPABILITIES, &[&mounts, more].concat(), &["--cgroupns", "private"], settings)
    };
    let all = examine(&[&proc, &log, &files], &settings);
    for what in ["processes", "log"] {
        assert_eq!(finding(&all, what)["verdict"], "ok", "{what}: {all}");
    }
    // Of other containers of the machine nothing is mounted.
    let nameless = |doctor: &Value| {
        let found = finding(doctor, "containers")["found"].as_str().unwrap();
        found.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0u32)
    };
    let others = nameless(&all);
    for (more, what, verdict, advice) in [
        ([&log, &files], "processes", "less", "hostProc: true"),
        ([&proc, &files], "log", "BROKEN", "logFolder"),
        ([&proc, &log], "containers", "less", "runtimeFolders"),
    ] {
        let doctor = examine(&more.map(String::as_str), &settings);
        let found = finding(&doctor, what);
        assert_eq!(found["verdict"], verdict, "{doctor}");
        assert!(found["advice"].as_str().unwrap().contains(advice), "{found}");
    }
    // A folder that was made to be mounted, and pins without their file system.
    let doctor = examine(&[&proc, &log, &none], &[settings[0], "probes.pin=/sys/fs/bpf/taffrail"]);
    assert_eq!(nameless(&doctor), others + 1, "{doctor}");
    assert_eq!(finding(&doctor, "pins")["verdict"], "BROKEN", "{doctor}");
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

/// Probes that the daemon's log tells as failed.
fn failed(records: &[Value]) -> Vec<&Value> {
    let probes = records.iter().find(|record| record["kind"] == "probes").unwrap();
    probes["probes"].as_array().unwrap().iter().filter(|probe| probe["state"] == "failed").collect()
}

#[test]
fn a_daemon_in_a_pod_knows_who_was_there_before_it() {
    let test = "a_daemon_in_a_pod_knows_who_was_there_before_it";
    let Some((event, records)) = event_of_a_container_that_was_there(test, CAPABILITIES, MOUNTS) else {
        return;
    };
    let process = &event["process"];
    assert_eq!(
        (&process["parent_exe"], &process["user"]),
        (&json!("/bin/busybox"), &json!("root")),
        "{event}"
    );
    assert_eq!(failed(&records), [&Value::Null; 0]);
}

#[test]
fn without_net_admin_the_log_says_what_is_not_seen() {
    let test = "without_net_admin_the_log_says_what_is_not_seen";
    let rights = without(CAPABILITIES, "NET_ADMIN");
    let Some((_, records)) = event_of_a_container_that_was_there(test, &rights, MOUNTS) else { return };
    let failed = failed(&records);
    let names: Vec<&Value> = failed.iter().map(|probe| &probe["probe"]).collect();
    assert_eq!(names, OF_CGROUPS);
    assert!(failed.iter().all(|probe| probe["not_seen"].as_str().is_some_and(|what| !what.is_empty())));
}

#[test]
fn without_bpf_or_perfmon_the_daemon_ends_and_says_why() {
    let Some(podman) = Podman::set("without_bpf_or_perfmon_the_daemon_ends_and_says_why") else { return };
    let log = format!("{}:/var/log/taffrail", podman.stage.text("log"));
    for right in ["BPF", "PERFMON"] {
        let rights = without(CAPABILITIES, right);
        let output = podman.image(&rights, MOUNTS, &["--rm", "--volume", &log], &["run"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{right}: {said}");
        assert!(
            said.contains("BPF programs") || said.contains("no probe could be attached"),
            "{right}: {said}"
        );
        assert!(!said.contains("watching with"), "{right}: {said}");
    }
}

/// The name of a container whose runtime's files are another user's, as a daemon with these rights records it.
fn name_of_one_of_another_users(test: &str, rights: &[&str]) -> Option<Value> {
    let mut podman = Podman::set(test)?;
    let log = format!("{}:/var/log/taffrail", podman.stage.text("log"));
    let storage = podman.stage.text("root/overlay-containers");
    podman.stage.run("install", ["-d", "-m", "0700", "-o", "1000", &storage]);
    let storage = format!("{storage}:{storage}:ro,rslave");
    let mounts = [MOUNTS, &[&storage]].concat();
    let folders = format!("enrich.folders.podman=[{}]", podman.stage.text("root"));
    let options = ["--detach", "--name", "daemon", "--cgroupns", "private", "--volume", &log];
    let run = ["run", "-o", "log.record=container.id != host", "-o", &folders];
    let daemon = crate::stage::said("podman", &podman.image(rights, &mounts, &options, &run));
    podman.stage.remember(&daemon);
    podman.wait_until_watches("daemon");
    let run = ["run", "--network", "none", "--name", "quick", image::NAME, "cat", "/etc/passwd"];
    podman.run(&run);
    let id = podman.run(&["ps", "--all", "--quiet", "--no-trunc", "--filter", "name=quick"]);
    podman.stage.remember(&id);
    let event = podman.wait_for("daemon", |record| {
        is_event(record, "open", &id) && record["event"]["file"] == "/etc/passwd"
    });
    podman.run(&["stop", "--time", "10", "daemon"]);
    Some(event["container"]["name"].clone())
}

#[test]
fn what_a_runtime_of_another_user_says_is_read() {
    let test = "what_a_runtime_of_another_user_says_is_read";
    let Some(name) = name_of_one_of_another_users(test, CAPABILITIES) else { return };
    assert_eq!(name, "quick");
}

#[test]
fn without_dac_read_search_containers_of_other_users_are_nameless() {
    let test = "without_dac_read_search_containers_of_other_users_are_nameless";
    let rights = without(CAPABILITIES, "DAC_READ_SEARCH");
    let Some(name) = name_of_one_of_another_users(test, &rights) else { return };
    assert_eq!(name, Value::Null);
}

#[test]
fn without_ptrace_executables_of_who_was_there_before_are_not_known() {
    let test = "without_ptrace_executables_of_who_was_there_before_are_not_known";
    let rights = without(CAPABILITIES, "SYS_PTRACE");
    let Some((event, _)) = event_of_a_container_that_was_there(test, &rights, MOUNTS) else { return };
    // Nor are users' names.
    assert_eq!(
        (&event["process"]["parent_exe"], &event["process"]["user"]),
        (&json!(""), &Value::Null),
        "{event}"
    );
}

#[test]
fn without_the_machines_proc_nothing_is_known_of_who_was_there_before() {
    let test = "without_the_machines_proc_nothing_is_known_of_who_was_there_before";
    let mounts = without(MOUNTS, "/proc");
    let Some((event, _)) = event_of_a_container_that_was_there(test, CAPABILITIES, &mounts) else { return };
    // That there is a parent is known if it was seen to start the process.
    assert_eq!(event["process"]["parent_exe"].as_str().unwrap_or_default(), "", "{event}");
}

/// The chart's pod with these values, and with these objects beside it; `None` after saying why it cannot run.
fn start_the_charts_pod(
    test: &str,
    values: &[&str],
    network: &str,
    beside: impl Fn(&Podman) -> String,
) -> Option<Podman> {
    let helm = match crate::given("TAFFRAIL_HELM") {
        Ok(helm) => helm,
        Err(reason) => {
            taffrail::testing::skipped(test, reason);
            return None;
        }
    };
    let mut podman = Podman::set(test)?;
    let mut all = vec![
        "image.pullPolicy=Never".to_owned(),
        format!("logFolder={}", podman.stage.text("log")),
        format!("runtimeFolders={{{}}}", podman.stage.text("root/overlay-containers")),
        "config.rules.disabled={Password hashes read}".to_owned(),
        "rules.10-ours\\.yaml=- rule: Passwords looked at\n  desc: d\n  condition: evt.kind = open and fd.name = \
         /etc/passwd\n  output: seen\n  priority: NOTICE\n"
            .to_owned(),
    ];
    all.extend(values.iter().map(|value| (*value).to_owned()));
    let objects = beside(&podman) + &chart::pod(&helm, &all);
    std::fs::write(podman.stage.path("pod.yaml"), objects).unwrap();
    podman.run(&["play", "kube", "--network", network, &podman.stage.text("pod.yaml")]);
    let daemon = podman.run(&["ps", "--quiet", "--no-trunc", "--filter", "name=taffrail-taffrail"]);
    podman.stage.remember(&daemon);
    podman.wait_until_watches("taffrail-taffrail");
    podman.wait_until_ready("taffrail-taffrail");
    Some(podman)
}

/// Waits for the alert on a container that looks at its passwords, and ends the pod.
fn raise_an_alert(podman: &mut Podman) {
    let reader = podman.start_reader("reader");
    podman.stage.remember(&reader);
    podman.wait_for("taffrail-taffrail", |record| {
        record["rule"] == "Passwords looked at" && record["container"]["id"] == *reader
    });
    podman.run(&["rm", "--force", "--time", "0", "reader"]);
}

#[test]
fn the_charts_pod_runs_and_raises_an_alert() {
    let test = "the_charts_pod_runs_and_raises_an_alert";
    let Some(mut podman) = start_the_charts_pod(test, &[], "none", |_| String::new()) else { return };
    let inspected: Value = serde_json::from_str(&podman.run(&["inspect", "taffrail-taffrail"])).unwrap();
    let mut rights: Vec<&str> =
        inspected[0]["EffectiveCaps"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    rights.sort_unstable();
    let mut asked: Vec<String> = CAPABILITIES.iter().map(|right| format!("CAP_{right}")).collect();
    asked.sort_unstable();
    assert_eq!(rights, asked);
    assert_eq!(inspected[0]["HostConfig"]["Privileged"], false);
    assert_eq!(inspected[0]["HostConfig"]["ReadonlyRootfs"], true);
    raise_an_alert(&mut podman);
    podman.run(&["pod", "rm", "--force", "--time", "10", "taffrail"]);
}

/// Takes what comes over TLS, and writes it down.
const RECEIVER: &str = "
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('server.pem', 'server.key')
with open('received', 'wb', 0) as out, socket.create_server(('127.0.0.1', 6514)) as server:
    while True:
        stream = context.wrap_socket(server.accept()[0], server_side=True)
        while data := stream.recv(65536):
            out.write(data)
";

#[test]
fn the_charts_pod_exports_over_tls_within_the_shipped_seccomp_profile() {
    let test = "the_charts_pod_exports_over_tls_within_the_shipped_seccomp_profile";
    let values = [
        "trust={siem-ca}",
        "config.export.siem.to=syslog+tls://localhost:6514",
        "config.export.siem.format=json",
        "config.export.siem.ca_file=/etc/taffrail-trust/siem-ca/ca.crt",
    ];
    let receive = |podman: &Podman| {
        let script = "cd \"$0\" && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                      -subj /CN=localhost -addext subjectAltName=DNS:localhost \
                      -addext basicConstraints=critical,CA:FALSE -keyout server.key -out server.pem";
        let folder = podman.stage.text("");
        podman.stage.run("sh", ["-c", script, &folder]);
        let receive = "cd \"$0\" && exec python3 -c \"$1\"";
        podman.stage.start_command("receiver", &[], "sh", &["-c", receive, &folder, RECEIVER]);
        let certificate = std::fs::read_to_string(podman.stage.path("server.pem")).unwrap();
        let data = json!({ "ca.crt": certificate });
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: siem-ca\ndata: {data}\n---\n")
    };
    // Podman's place is the host whose network that is.
    let Some(mut podman) = start_the_charts_pod(test, &values, "host", receive) else { return };
    raise_an_alert(&mut podman);
    let received = podman.stage.path("received");
    let has_arrived = || {
        let text = String::from_utf8_lossy(&std::fs::read(&received).ok()?).into_owned();
        text.contains("\"rule\":\"Passwords looked at\"").then_some(())
    };
    wait_for(has_arrived).unwrap_or_else(|| {
        let exporter: Vec<Value> =
            podman.records().into_iter().filter(|record| record["kind"] == "export").collect();
        panic!("nothing has arrived: {exporter:?}")
    });
    let start = podman.wait_for("taffrail-taffrail", |record| record["kind"] == "start");
    assert_eq!(start["confined"]["not"], json!([]), "{start}");
    podman.run(&["pod", "rm", "--force", "--time", "10", "taffrail"]);
}
