//! `syscall`: calls that are no event by themselves, but that a rule asked for.

use serde_json::json;
use taffrail_tests::sandbox::Options;
use taffrail_tests::syscall;

use crate::{finish, set};

#[test]
fn call_that_was_asked_for_by_name_is_told() {
    let test = "call_that_was_asked_for_by_name_is_told";
    let settings = ["log.record=evt.type = getpriority and container.id != host", "rules.embedded=false"];
    let Some((daemon, sandbox)) = set(test, &settings, Options::default()) else { return };
    let Some(seen) = finish(test, daemon, &sandbox, || {
        syscall!(libc::SYS_getpriority, 0, 0)?;
        syscall!(libc::SYS_getppid)
    }) else {
        return;
    };
    let event = seen.one("syscall", json!({"type": "getpriority"}));
    assert_eq!(event["event"]["args"], json!({"which": 0, "who": 0}));
    assert_eq!(event["process"]["pid"], json!(seen.pid));
    assert_eq!(seen.all("syscall", &json!({})).len(), 1);
}
