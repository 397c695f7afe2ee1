//! runc by hand, which writes its state only when the container's first process is there.

use serde_json::json;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

use crate::named;

#[test]
fn container_by_hand_is_named_from_the_first_event_on_also_below_a_path_that_its_user_chose() {
    const TEST: &str =
        "container_by_hand_is_named_from_the_first_event_on_also_below_a_path_that_its_user_chose";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let path = format!("/taffrail-chosen-{}/web", std::process::id());
    let plain =
        Container::start_as("plain", |config| config["annotations"] = json!({ "app": "web" })).unwrap();
    let chosen =
        Container::start_as("chosen", |config| config["linux"]["cgroupsPath"] = path.as_str().into());
    let chosen = chosen.unwrap();
    for container in [&plain, &chosen] {
        daemon.wait_for(|record| {
            is_event(record, "exec", container.id()) && record["event"]["args"][0] == "sleep"
        });
    }
    let (_, records) = daemon.stop();
    let ids = [plain.id().to_owned(), chosen.id().to_owned()];
    drop((plain, chosen));
    remove_parents(&path);
    let whole = named(&records, &ids[0], &json!({ "runtime": "oci", "name": ids[0] }));
    assert_eq!(whole["container"]["labels"], json!({ "app": "web" }));
    named(&records, &ids[1], &json!({ "runtime": "oci", "name": ids[1], "cgroup_path": path }));
}

/// Removes the folder that runc made above a container's cgroup.
fn remove_parents(path: &str) {
    let parent = path.trim_start_matches('/').split('/').next().unwrap();
    let trees = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for tree in trees.chain(["/sys/fs/cgroup".into()]) {
        let _ = std::fs::remove_dir(tree.join(parent));
    }
}
