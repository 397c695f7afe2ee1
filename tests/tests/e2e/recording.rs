//! A recording holds all that a replay needs: the same lines come out, without root.

use std::process::Stdio;

use serde_json::Value;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{taffrail, wait_for};
use taffrail_tests::{cannot_trace, skip};

#[test]
fn replay_of_a_recording_says_what_the_live_view_said() {
    if let Some(reason) = cannot_trace() {
        skip!("replay_of_a_recording_says_what_the_live_view_said", "{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("recording");
    let live = folder.path().join("live");
    let container = Container::start("rec").unwrap();
    let mut trace = taffrail(&["trace", "--json", "--rules", "--record"])
        .arg(&recording)
        .stdout(std::fs::File::create(&live).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(|| {
        container.exec(&["true", "waiting"]).unwrap();
        std::fs::read_to_string(&live).is_ok_and(|text| text.contains("waiting")).then_some(())
    })
    .expect("the live view sees the container");
    container
        .sh("cat /etc/shadow; nc -w 1 169.254.169.254 80; cp /bin/busybox /tmp/true; /tmp/true last; true")
        .unwrap();
    wait_for(|| std::fs::read_to_string(&live).is_ok_and(|text| text.contains("\"last\"")).then_some(()))
        .unwrap();
    // SAFETY: the child was not waited for, so the id is its own.
    unsafe { libc::kill(trace.id() as i32, libc::SIGINT) };
    assert!(trace.wait().unwrap().success());

    let mut replay = taffrail(&["trace", "--json", "--rules", "--replay"]);
    replay.arg(&recording);
    // As nobody in particular: a replay needs no rights.
    std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
    std::os::unix::fs::chown(&recording, Some(65534), Some(65534)).unwrap();
    let output = match std::os::unix::process::CommandExt::uid(&mut replay, 65534).output() {
        Ok(output) => output,
        Err(_) => taffrail(&["trace", "--json", "--rules", "--replay"]).arg(&recording).output().unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines =
        |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let (live, replayed) =
        (std::fs::read_to_string(&live).unwrap(), String::from_utf8(output.stdout).unwrap());
    assert_eq!(lines(&replayed), lines(&live));
    for rule in [
        "Password hashes read",
        "Cloud metadata service contacted by hand",
        "Program started from a folder for temporary data",
    ] {
        assert!(replayed.contains(rule), "{rule}");
    }
}
