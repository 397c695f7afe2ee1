//! A recorded session comes out the same on every machine, without root: `tests/data/session.recording` was
//! recorded in a VM (`tests/data/README.md` says how), `session.ndjson` is what it says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use taffrail_tests::daemon::taffrail;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data");

fn replay(arguments: &[&str]) -> String {
    let recording = Path::new(DATA).join("session.recording");
    let output = taffrail(&["trace", "--replay"]).arg(recording).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn recorded_session_says_what_it_said() {
    let said = replay(&["--json", "--rules"]);
    let expected = Path::new(DATA).join("session.ndjson");
    if std::env::var_os("TAFFRAIL_BLESS").is_some() {
        std::fs::write(&expected, &said).unwrap();
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&said), lines(&std::fs::read_to_string(expected).unwrap()));
}

#[test]
fn recorded_session_raises_the_alerts_of_what_was_done_in_it() {
    let said = replay(&["--json", "--rules"]);
    let alerts: Vec<String> = said
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter_map(|line| line["rule"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        alerts,
        [
            "Password hashes read",
            "Program started from a folder for temporary data",
            "Write below a folder of programs",
            "Network tool in container",
            "Cloud metadata service contacted by hand",
            "Network tool in container",
        ]
    );
}

#[test]
fn filter_and_container_choose_from_a_recording() {
    let exits = replay(&["--filter", "evt.kind = exit and proc.exit_code = 3"]);
    assert_eq!(exits.lines().count(), 1, "{exits}");
    assert!(exits.contains("status 3"), "{exits}");
    assert_eq!(replay(&["--container", "feedfeed"]), "");
    assert!(!replay(&["--container", "0123456789ab"]).is_empty());
}
