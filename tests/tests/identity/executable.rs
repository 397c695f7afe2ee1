//! What runs: the hash of an executable, whether it is the image's, and whether it was written while its container ran.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use taffrail_tests::container::{Container, Machine};
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

/// Puts a program that is known to be bad into an image: busybox, and something behind it.
fn add_bad(root: &Path) -> std::io::Result<()> {
    let busybox = root.join("bin/busybox");
    let bytes = [std::fs::read(&busybox)?, b"known to be bad".into()].concat();
    let path = root.join("opt/cat");
    std::fs::create_dir_all(root.join("opt"))?;
    std::fs::write(&path, bytes)?;
    std::fs::set_permissions(&path, busybox.metadata()?.permissions())
}

/// What sha256sum(1) says of a file.
fn sha256(path: &Path) -> String {
    let said = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(said.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// A daemon that knows one bad program, and records everything in containers.
fn with_bad_list(hash: &str) -> Daemon {
    let rule = format!(
        "
- list: bad_programs
  items: [{}, {hash}]
- rule: Program that is known to be bad
  desc: d
  condition: evt.kind = exec and container.id != host and proc.exe_sha256 in (bad_programs)
  output: '%proc.exepath is %proc.exe_sha256'
  priority: CRITICAL
",
        "0".repeat(64)
    );
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    std::fs::write(&rules, rule).unwrap();
    let config = format!("rules:\n  files: [{}]\n  embedded: false\n", rules.display());
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    // Machines that run tests are busy.
    Daemon::start_in(folder, &[crate::ALL, "enrich.name_wait_ms=10000"])
}

/// The records of execs of that file in a container.
fn execs<'a>(records: &'a [Value], container: &Container, exe: &str) -> Vec<&'a Value> {
    let is_it = |record: &&Value| is_event(record, "exec", container.id()) && record["event"]["exe"] == exe;
    records.iter().filter(is_it).collect()
}

#[test]
fn program_on_a_list_of_bad_ones_is_told_by_its_hash_wherever_it_lies_and_however_short_it_runs() {
    const TEST: &str =
        "program_on_a_list_of_bad_ones_is_told_by_its_hash_wherever_it_lies_and_however_short_it_runs";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let mut bad = String::new();
    let mut good = String::new();
    let container = Container::layered("hash", |root| {
        add_bad(root)?;
        (bad, good) = (sha256(&root.join("opt/cat")), sha256(&root.join("bin/busybox")));
        Ok(())
    })
    .unwrap();
    let daemon = with_bad_list(&bad);
    // Of the image; a copy under another name; one whose name is gone while it runs; one in memory only.
    container.exec(&["/opt/cat", "/dev/null"]).unwrap();
    container.sh("cp /opt/cat /tmp/true; /tmp/true; true").unwrap();
    container.sh("cp /opt/cat /tmp/sleep; /tmp/sleep 1 & sleep 0.2; rm /tmp/sleep; wait").unwrap();
    container.sh("cp /opt/cat /dev/sleep; /dev/sleep 1; true").unwrap();
    container.exec(&["/bin/true", "last"]).unwrap();
    daemon
        .wait_for(|record| is_event(record, "exec", container.id()) && record["event"]["args"][1] == "last");
    let (_, records) = daemon.stop();
    for exe in ["/opt/cat", "/tmp/true", "/tmp/sleep", "/dev/sleep"] {
        let [exec] = execs(&records, &container, exe)[..] else { panic!("{exe}") };
        assert_eq!(
            (&exec["kind"], &exec["rule"], &exec["event"]["exe_sha256"]),
            (&json!("alert"), &json!("Program that is known to be bad"), &json!(bad)),
            "{exec}"
        );
        assert_eq!(exec["output"], format!("{exe} is {bad}"));
    }
    let others = execs(&records, &container, "/bin/busybox");
    assert!(!others.is_empty());
    for exec in others {
        assert_eq!((&exec["kind"], &exec["event"]["exe_sha256"]), (&json!("event"), &json!(good)), "{exec}");
    }
}

#[test]
fn program_that_nobody_can_be_trusted_to_read_says_so_and_holds_nothing_up() {
    const TEST: &str = "program_that_nobody_can_be_trusted_to_read_says_so_and_holds_nothing_up";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let daemon = with_bad_list(&"1".repeat(64));
    // Its overlay is in its own mount namespace only: what is below may be anything.
    let machine = Machine { layers: &[], host_processes: false, is_privileged: false };
    let container = Container::with_machine("unread", &machine, |_| Ok(())).unwrap();
    container.exec(&["/usr/bin/true", "unread"]).unwrap();
    let exec = daemon.wait_for(|record| {
        is_event(record, "exec", container.id()) && record["event"]["args"][1] == "unread"
    });
    assert_eq!(exec["event"]["exe_sha256"], Value::Null, "{exec}");
    let why = exec["event"]["exe_sha256_missing"].as_str().unwrap();
    assert!(["unreadable", "gone"].contains(&why), "{exec}");
}

#[test]
fn what_is_the_images_is_told_from_what_was_written_while_the_container_runs() {
    const TEST: &str = "what_is_the_images_is_told_from_what_was_written_while_the_container_runs";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let container = Container::layered("image", add_bad).unwrap();
    let daemon = Daemon::start(&[crate::ALL]);
    container.exec(&["/opt/cat", "/dev/null"]).unwrap();
    // Its time of writing is that of the image's file, but nobody can set when its inode was changed.
    container.sh("cp -p /opt/cat /tmp/cat; touch -d 2001-01-01 /tmp/cat; /tmp/cat /dev/null; true").unwrap();
    let later = Container::start("later").unwrap();
    later.sh("cp /bin/busybox /tmp/true; /tmp/true; /bin/true").unwrap();
    daemon
        .wait_for(|record| is_event(record, "exec", later.id()) && record["event"]["args"][0] == "/bin/true");
    let (_, records) = daemon.stop();
    let of = |container: &Container, exe: &str| {
        let event = &execs(&records, container, exe).pop().unwrap()["event"];
        assert_eq!(event["exe_sha256"], Value::Null, "nobody asked");
        (event["exe_flags"].clone(), event["exe_new_in_container"].clone(), event["exe_ctime"].clone())
    };
    let (flags, new, changed) = of(&container, "/opt/cat");
    assert_eq!((flags, new), (json!(["image_layer"]), Value::Null));
    let (flags, new, changed_later) = of(&container, "/tmp/cat");
    assert_eq!((flags, new), (json!(["upper_layer"]), json!(true)));
    assert!(changed.as_str().unwrap() < changed_later.as_str().unwrap());
    // The same where there are no layers.
    let (flags, new, _) = of(&later, "/bin/busybox");
    assert_eq!((flags, new), (Value::Null, Value::Null));
    assert_eq!(of(&later, "/tmp/true").1, json!(true));
}
