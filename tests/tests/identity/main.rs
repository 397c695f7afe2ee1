//! Whose an event is: real runtimes, each in network, mount and process namespaces of its own, so that nothing of it is
//! left whatever happens; and what must be known of their containers from the first event on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod containerd;
mod docker;
mod executable;
mod hostile;
mod image;
mod lineage;
mod lxc;
mod nested;
mod podman;
mod rootless;
mod runc;
mod scope;
mod stage;
mod systemd;

use serde_json::Value;

/// Records every event in containers.
const ALL: &str = "log.record=container.id != host";

/// Asserts that all events of a container have what is expected of its `container` member from the first on, that none
/// was sent off before its name was known, and gives the last record that tells all of it.
#[track_caller]
fn named<'a>(records: &'a [Value], id: &str, expected: &Value) -> &'a Value {
    let is_its = |record: &&Value| record["container"]["id"] == id;
    let events: Vec<&Value> =
        records.iter().filter(is_its).filter(|record| record["event"] != Value::Null).collect();
    assert!(!events.is_empty(), "no event of {id}");
    for event in events {
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(event["container"][name], *value, "{name} in {event}");
        }
        assert_eq!(event["container"]["pending"], Value::Null, "{event}");
    }
    let mut its = records.iter().filter(is_its);
    let first = its.next().unwrap();
    assert_eq!(first["kind"], "container", "what it is called comes first: {first}");
    its.rfind(|record| record["kind"] == "container").unwrap_or(first)
}
