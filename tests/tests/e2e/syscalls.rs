//! System calls that are no events by themselves: counted, chosen by name, and the last ones on demand. By both entries.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::{Value, json};
use taffrail_tests::act::Act;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event, records, taffrail, wait_for};
use taffrail_tests::{cannot_trace, skip};

/// Whether there is an entry for 32-bit calls that a 64-bit program can use.
const HAS_32_BIT: bool = cfg!(target_arch = "x86_64");

/// How often a container made a call, and how often that failed, over all records.
fn counted(records: &[Value], container: &Container, call: &str, compat: bool) -> (u64, u64) {
    let of_container = records
        .iter()
        .filter(|record| record["kind"] == "syscalls" && record["container"]["id"] == container.id());
    let calls = of_container.flat_map(|record| record["calls"].as_array().unwrap());
    let wanted = calls.filter(|entry| entry["type"] == call && (entry["compat"] == true) == compat);
    wanted.fold((0, 0), |(count, errors), entry| {
        (count + entry["count"].as_u64().unwrap(), errors + entry["errors"].as_u64().unwrap())
    })
}

#[test]
fn calls_are_counted_to_the_last_one_by_both_entries() {
    if let Some(reason) = cannot_trace() {
        skip!("calls_are_counted_to_the_last_one_by_both_entries", "{reason}");
    }
    let container = Container::start("count").unwrap();
    let mut acts = vec![
        Act::prepare(&container, &["getppid", "70000"]),
        Act::prepare(&container, &["fork", "50"]),
        Act::prepare(&container, &["open", "30", "/never/there"]),
    ];
    if HAS_32_BIT {
        acts.push(Act::prepare(&container, &["getppid32", "500"]));
    }
    let daemon = Daemon::start(&["syscalls.count=true", "syscalls.interval_s=1"]);
    acts.iter_mut().for_each(Act::go);
    acts.into_iter().for_each(Act::end);
    // Before the end, too.
    daemon.wait_for(|record| record["kind"] == "syscalls" && record["container"]["id"] == container.id());
    let (_, records) = daemon.stop();
    assert_eq!(counted(&records, &container, "getppid", false), (70_000, 0));
    assert_eq!(counted(&records, &container, "getppid", true), (if HAS_32_BIT { 500 } else { 0 }, 0));
    // Not once more for the child.
    assert_eq!(counted(&records, &container, "clone", false), (50, 0));
    assert_eq!(counted(&records, &container, "openat", false), (30, 30));
    assert!(!records.iter().any(|record| record["kind"] == "gap"));
    // Neither the host's calls nor what was not asked for.
    let hosts = records.iter().filter(|record| record["kind"] == "syscalls" && record["container"].is_null());
    assert_eq!(hosts.count(), 0);
    assert!(!records.iter().any(|record| record["kind"] == "flight"));
}

#[test]
fn counts_of_a_container_that_is_gone_are_told() {
    if let Some(reason) = cannot_trace() {
        skip!("counts_of_a_container_that_is_gone_are_told", "{reason}");
    }
    let container = Container::start("gone").unwrap();
    let daemon = Daemon::start(&["syscalls.count=true"]);
    Act::run(&container, &["getppid", "12345"]);
    let id = container.id().to_owned();
    drop(container);
    let (_, records) = daemon.stop();
    let record =
        records.iter().find(|record| record["kind"] == "syscalls" && record["container"]["id"] == *id);
    let calls = record.unwrap_or_else(|| panic!("{records:#?}"))["calls"].as_array().unwrap();
    assert!(calls.contains(&json!({ "type": "getppid", "count": 12_345, "errors": 0 })), "{calls:?}");
}

/// How often a call was recorded: by the 64-bit entry, and by the 32-bit one.
fn recorded(records: &[Value], container: &Container, call: &str) -> (usize, usize) {
    let of = |compat: bool| {
        let records = records.iter().filter(|record| record["container"]["id"] == container.id());
        records
            .filter(|record| record["event"]["type"] == call && (record["event"]["compat"] == true) == compat)
            .count()
    };
    (of(false), of(true))
}

#[test]
fn chosen_call_is_recorded_each_time_with_arguments_and_result() {
    if let Some(reason) = cannot_trace() {
        skip!("chosen_call_is_recorded_each_time_with_arguments_and_result", "{reason}");
    }
    let container = Container::start("chosen").unwrap();
    let daemon = Daemon::start(&["syscalls.events=[keyctl, getppid]", "rules.embedded=false"]);
    Act::run(&container, &["getppid", "3"]);
    Act::run(&container, &["keyctl", "2"]);
    if HAS_32_BIT {
        Act::run(&container, &["getppid32", "4"]);
    }
    let (_, records) = daemon.stop();
    assert_eq!(recorded(&records, &container, "getppid"), (3, if HAS_32_BIT { 4 } else { 0 }));
    assert_eq!(recorded(&records, &container, "keyctl"), (2, 0));
    let event = |call: &str| {
        let event = records.iter().find(|record| record["event"]["type"] == call).unwrap();
        event["event"].clone()
    };
    let (getppid, keyctl) = (event("getppid"), event("keyctl"));
    assert_eq!((&getppid["kind"], &getppid["args"]), (&json!("syscall"), &json!({})));
    assert_eq!(getppid["result"], std::process::id());
    assert_eq!((&keyctl["kind"], &keyctl["args"]["operation"]), (&json!("syscall"), &json!(0)));
    assert_eq!(keyctl["args"]["operation_name"], "KEYCTL_GET_KEYRING_ID");
}

#[test]
fn rule_that_names_a_call_makes_it_seen() {
    if let Some(reason) = cannot_trace() {
        skip!("rule_that_names_a_call_makes_it_seen", "{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    let text = "- rule: asks\n  desc: d\n  condition: evt.type = getppid and container.id != host\n  output: o %evt.type\n  priority: INFO\n";
    std::fs::write(&rules, text).unwrap();
    std::fs::write(folder.path().join("config.yaml"), format!("rules:\n  files: [{}]\n", rules.display()))
        .unwrap();
    let container = Container::start("named").unwrap();
    let daemon = Daemon::start_in(folder, &[]);
    Act::run(&container, &["getppid", "3"]);
    daemon.wait_for(|record| record["rule"] == "asks");
    // What is named later is not seen before a restart, and that is told.
    std::fs::write(&rules, text.replace("getppid", "getpgid")).unwrap();
    daemon.signal(libc::SIGHUP);
    let reloaded = daemon.wait_for(|record| record["kind"] == "rules" && record["result"] == "reloaded");
    assert_eq!(reloaded["not_seen"], json!(["getpgid"]));
    let (_, records) = daemon.stop();
    assert_eq!(records.iter().filter(|record| record["rule"] == "asks").count(), 3);
}

/// A container that the daemon knows has its slot.
fn become_known(daemon: &Daemon, container: &Container) {
    container.exec(&["true", "known"]).unwrap();
    daemon
        .wait_for(|record| is_event(record, "exec", container.id()) && record["event"]["args"][1] == "known");
}

/// The last calls of a container, as the dumps told them.
fn last_calls(records: &[Value], container: &Container) -> Vec<Value> {
    let of_container = records
        .iter()
        .filter(|record| record["kind"] == "flight" && record["container"]["id"] == container.id());
    of_container.flat_map(|record| record["calls"].as_array().unwrap()).cloned().collect()
}

#[test]
fn last_calls_are_told_oldest_first_when_they_are_asked_for() {
    if let Some(reason) = cannot_trace() {
        skip!("last_calls_are_told_oldest_first_when_they_are_asked_for", "{reason}");
    }
    let container = Container::start("flight").unwrap();
    let what = if HAS_32_BIT { "getppid32" } else { "getppid" };
    let mut act = Act::prepare(&container, &[what, "100"]);
    let daemon = Daemon::start(&["syscalls.flight_recorder=128"]);
    become_known(&daemon, &container);
    let pid = act.pid();
    act.go();
    act.end();
    daemon.signal(libc::SIGUSR1);
    daemon.wait_for(|record| record["kind"] == "flight" && record["container"]["id"] == container.id());
    let (_, records) = daemon.stop();
    let calls = last_calls(&records, &container);
    assert!((101..=128).contains(&calls.len()), "{calls:#?}");
    assert!(calls.iter().all(|call| call["torn"].is_null()), "{calls:#?}");
    assert!(calls.is_sorted_by_key(|call| call["boot_ns"].as_u64()));
    let acts: Vec<&Value> = calls.iter().filter(|call| call["pid"] == pid).collect();
    let [read, rest @ ..] = acts.as_slice() else { panic!("{calls:#?}") };
    // It waited for a line.
    assert_eq!((&read["type"], &read["result"], &read["args"]["fd"]), (&json!("read"), &json!(1), &json!(0)));
    assert!(read["args"]["buffer"].as_str().is_some_and(|address| address.starts_with("0x")), "{read}");
    assert!(rest.len() >= 100, "{rest:#?}");
    for call in &rest[..100] {
        assert_eq!((&call["type"], call["compat"] == true), (&json!("getppid"), HAS_32_BIT));
        assert_eq!((&call["result"], &call["args"]), (&json!(std::process::id()), &json!({})));
    }
    let total = records.iter().find(|record| record["kind"] == "flight").map(|record| &record["total"]);
    assert!(total.and_then(Value::as_u64).is_some_and(|total| total >= 101), "{total:?}");
}

#[test]
fn calls_that_are_read_while_others_are_written_are_whole_or_torn() {
    if let Some(reason) = cannot_trace() {
        skip!("calls_that_are_read_while_others_are_written_are_whole_or_torn", "{reason}");
    }
    let container = Container::start("torn").unwrap();
    let mut acts = [0, 1].map(|_| Act::prepare(&container, &["getppid", "1500000"]));
    // The smallest: each entry is written over all the time.
    let daemon = Daemon::start(&["syscalls.flight_recorder=16"]);
    become_known(&daemon, &container);
    let pids = acts.each_ref().map(Act::pid);
    acts.iter_mut().for_each(Act::go);
    let dumps = |count: usize| {
        wait_for(|| {
            let found = records(&daemon.log()).iter().filter(|record| record["kind"] == "flight").count();
            (found > count).then_some(found)
        })
    };
    let mut found = 0;
    for _ in 0..20 {
        daemon.signal(libc::SIGUSR1);
        found = dumps(found).unwrap();
    }
    acts.into_iter().for_each(Act::end);
    let (_, records) = daemon.stop();
    let dumps = records
        .iter()
        .filter(|record| record["kind"] == "flight" && record["container"]["id"] == container.id());
    let totals: BTreeSet<u64> = dumps.filter_map(|record| record["total"].as_u64()).collect();
    assert!(totals.len() > 2, "nothing was written between the dumps: {totals:?}");
    let calls = last_calls(&records, &container);
    let whole: Vec<&Value> = calls.iter().filter(|call| call["torn"] != true).collect();
    eprintln!("{} of {} calls are whole", whole.len(), calls.len());
    // The first ones may be those of the program by which the container became known.
    for call in whole.iter().skip_while(|call| call["type"] != "getppid") {
        assert!(pids.iter().any(|pid| call["pid"] == *pid && call["tid"] == *pid), "{call}");
        if call["type"] == "getppid" {
            assert_eq!(call["result"], std::process::id(), "{call}");
        }
    }
    assert!(whole.iter().any(|call| call["type"] == "getppid"));
}

/// Runs `taffrail trace` with these arguments while `act` does something in a container.
fn trace(container: &Container, arguments: &[&str], act: &[&str]) -> String {
    let mut command = taffrail(&["trace", "--container", container.id()]);
    let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("watching") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended: {said}");
    }
    Act::run(container, act);
    // SAFETY: the child was not waited for, so the id is its own.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.wait().unwrap().success());
    out
}

#[test]
fn trace_prints_a_table_of_counts_the_last_calls_or_chosen_ones() {
    if let Some(reason) = cannot_trace() {
        skip!("trace_prints_a_table_of_counts_the_last_calls_or_chosen_ones", "{reason}");
    }
    let container = Container::start("table").unwrap();
    let table = trace(&container, &["--count"], &["getppid", "4321"]);
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(rows.next().as_deref(), Some(&["container", "call", "count", "errors"][..]));
    assert!(rows.any(|row| row == [&container.id()[..12], "getppid", "4321", "0"]), "{table}");

    let last = trace(&container, &["--last", "100"], &["getppid", "200"]);
    assert!(last.starts_with(&format!("{}: the last 100 of ", container.id())), "{last}");
    assert_eq!(last.lines().count(), 101);
    assert!(last.contains(&format!(" getppid() = {}\n", std::process::id())), "{last}");

    let chosen = trace(&container, &["--syscall", "getppid", "--json"], &["getppid", "3"]);
    // What the container is called and was given is a line of its own.
    let lines = chosen.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events: Vec<Value> = lines.filter(|line| line["kind"] != "container").collect();
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event["event"]["type"] == "getppid"));

    let wrong = taffrail(&["trace", "--syscall", "ptrce"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean `ptrace`?"));
}
