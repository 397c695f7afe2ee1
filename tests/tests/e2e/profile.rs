//! The seccomp profile that is shipped allows what the daemon does, so that under it nothing is silently less.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event, records, wait_for};
use taffrail_tests::profile::{self, Profile};
use taffrail_tests::{cannot_trace, raw, skip, syscall};

const RULE: &str = "
- rule: Program in memory
  desc: d
  condition: evt.kind = exec and proc.is_exe_from_memfd = true and proc.exe_sha256 exists
  output: '%proc.exe_sha256'
  priority: CRITICAL
";

#[test]
fn shipped_profile_allows_all_that_the_daemon_does() {
    const TEST: &str = "shipped_profile_allows_all_that_the_daemon_does";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/seccomp/taffrail.json");
    let shipped = Profile::read(&shipped).unwrap();
    assert_eq!(shipped.unknown(), [""; 0]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let rules = path("rules.yaml");
    std::fs::write(&rules, RULE).unwrap();
    let config = format!(
        "rules: {{files: [{rules}]}}\nexport: {{x: {{to: 'file://{}'}}, y: {{to: 'syslog+tcp://127.0.0.1:9'}}}}\n",
        path("x.json")
    );
    std::fs::write(path("config.yaml"), config).unwrap();
    let mut held = None;
    // Machines that run tests are busy.
    let settings = [crate::ALL, "scope.host=true", "enrich.name_wait_ms=10000"];
    let daemon = Daemon::start_prepared(folder, &settings, |command| {
        held = Some(profile::hold(command, shipped).unwrap());
    });
    let container = Container::start("profile").unwrap();
    container.exec(&["/bin/cat", "/etc/passwd"]).unwrap();
    daemon.wait_for(|record| {
        is_event(record, "open", container.id()) && record["event"]["file"] == "/etc/passwd"
    });
    // A program in memory, whose hash takes a file in memory of the daemon's own.
    let memory =
        File::from(raw::descriptor(syscall!(libc::SYS_memfd_create, c"program".as_ptr(), 0)).unwrap());
    (&memory).write_all(&std::fs::read("/bin/sleep").unwrap()).unwrap();
    let mut program =
        Command::new(format!("/proc/self/fd/{}", memory.as_raw_fd())).arg("600").spawn().unwrap();
    let said = Command::new("sha256sum").arg("/bin/sleep").output().unwrap();
    let hash = String::from_utf8(said.stdout).unwrap();
    let alert =
        wait_for(|| records(&daemon.log()).into_iter().find(|record| record["rule"] == "Program in memory"));
    program.kill().unwrap();
    program.wait().unwrap();
    let alert = alert.expect("an alert");
    assert_eq!(alert["output"], json!(hash.split(' ').next()), "{alert}");
    std::fs::write(&rules, format!("{RULE}# No other.\n")).unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for(|record| record["kind"] == "rules" && record["result"] == "reloaded");
    let (status, records) = daemon.stop();
    assert!(status.success());
    let start = records.iter().find(|record| record["kind"] == "start").unwrap();
    assert!(start["confined"]["by"].as_array().unwrap().iter().any(|by| by == "seccomp"), "{start}");
    let refused = held.unwrap().join().unwrap().unwrap();
    assert!(refused.is_empty(), "{refused:#?}");
}
