//! The kernel object on other kernels: every probe attaches, and an exec, an open and a connect of each sort are
//! seen. One test per kernel, each in a VM of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;

use serde_json::Value;
use taffrail_tests::{skip, vm};

/// The static binary: a VM has no libraries.
fn binary() -> Option<PathBuf> {
    std::env::var_os("TAFFRAIL_STATIC_BIN").map(PathBuf::from).filter(|path| path.exists())
}

/// Traces the guest while it execs, opens and connects. A marker tells when it is ready.
const SCRIPT: &str = r#"
/vm/taffrail doctor --json >/tmp/doctor 2>&1
/vm/taffrail trace --host --json --seconds 60 >/tmp/events 2>/tmp/said &
pid=$!
n=0; until grep -q ready /tmp/events; do cat /etc/ready 2>/dev/null; n=$((n+1)); [ $n -lt 600 ] || break; usleep 50000; done
mkdir -p /tmp/target; ln -s /tmp/target /tmp/link; echo x >/tmp/link/file
cat /tmp/link/file marker 2>/dev/null
nc -w 1 127.0.0.1 9 2>/dev/null
n=0; until grep -q '"remote_port":9,' /tmp/events; do n=$((n+1)); [ $n -lt 200 ] || break; usleep 50000; done
kill -INT $pid; wait $pid
cat /tmp/doctor; grep -e marker -e target -e remote_port /tmp/events
"#;

fn check(test: &str, kernel: &str) {
    let Some(binary) = binary() else { skip!(test, "TAFFRAIL_STATIC_BIN names no static binary") };
    if let Some(reason) = vm::unavailable(kernel) {
        skip!(test, "{reason}");
    }
    let output = vm::run(kernel, &[&binary], SCRIPT).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = || format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));

    let doctor = lines.first().unwrap_or_else(|| panic!("{}", said()));
    assert_eq!(doctor["verdict"], "ok", "{doctor}");
    eprintln!("{kernel}: {doctor}");

    let find = |kind: &str, wanted: &dyn Fn(&Value) -> bool| {
        let found = lines.iter().find(|line| line["event"]["kind"] == kind && wanted(line));
        found.unwrap_or_else(|| panic!("no such {kind} in {}", said()))
    };
    let exec = find("exec", &|line| line["event"]["args"][2] == "marker");
    assert_eq!(exec["event"]["args"][1], "/tmp/link/file");
    assert_eq!(exec["event"]["exe"], "/bin/busybox");
    let write = find("open", &|line| line["event"]["file"] == "/tmp/target/file");
    assert_eq!(write["event"].get("file_flags"), None);
    let failed = find("open", &|line| line["event"]["file"] == "marker");
    assert_eq!(failed["event"]["result"], -2);
    let connect = find("connect", &|line| line["event"]["remote_port"] == 9);
    assert_eq!(connect["event"]["remote_ip"], "127.0.0.1");
    assert_eq!(connect["event"]["result"], -111);
    assert_eq!(connect["event"]["address_source"], "kernel_copy");
}

#[test]
fn probes_work_on_5_10() {
    check("probes_work_on_5_10", "5.10");
}

#[test]
fn probes_work_on_6_1() {
    check("probes_work_on_6_1", "6.1");
}

#[test]
fn probes_work_on_6_12() {
    check("probes_work_on_6_12", "6.12");
}

#[test]
fn probes_work_on_the_newest() {
    check("probes_work_on_the_newest", "sid");
}
