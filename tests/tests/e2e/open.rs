//! `open`: which file, by the kernel's own object, and with what result.

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

fn open_of(daemon: &Daemon, container: &Container, file: &str) -> Value {
    daemon.wait_for(|record| is_event(record, "open", container.id()) && record["event"]["file"] == file)
}

#[test]
fn opened_file_is_the_one_behind_links_and_relative_names() {
    if let Some(reason) = cannot_trace() {
        skip!("opened_file_is_the_one_behind_links_and_relative_names", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("open").unwrap();
    container.sh("ln -s /etc/passwd /tmp/innocent; cd /tmp; cat ./innocent; true").unwrap();
    // runc reads that file too, before it starts anything.
    let event = daemon.wait_for(|record| {
        is_event(record, "open", container.id())
            && record["event"]["file"] == "/etc/passwd"
            && record["process"]["cmdline"] == "cat ./innocent"
    });
    let open = &event["event"];
    let file = container.root().join("etc/passwd").metadata().unwrap();
    assert_eq!(open["file_ino"], file.ino());
    assert_eq!(open["file_dev"], format!("{}:{}", libc::major(file.dev()), libc::minor(file.dev())));
    assert_eq!(open["mode"], format!("{:o}", file.mode()));
    assert_eq!((&open["links"], &open["owner"]), (&json!(1), &json!(0)));
    assert_eq!(open.get("file_flags"), None);
    // Negative control: nobody opened the link's own name.
    let (_, records) = daemon.stop();
    assert!(
        !records.iter().any(|record| {
            record["event"]["kind"] == "open" && record["event"]["file"] == "/tmp/innocent"
        })
    );
}

#[test]
fn failed_open_is_recorded_with_its_error_and_marked_as_what_the_caller_said() {
    if let Some(reason) = cannot_trace() {
        skip!("failed_open_is_recorded_with_its_error_and_marked_as_what_the_caller_said", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("failed").unwrap();
    container.sh("cat /etc/never; cd /etc; cat never/there; cat /etc/passwd/x; true").unwrap();
    let absolute = open_of(&daemon, &container, "/etc/never");
    assert_eq!(absolute["event"]["result"], -libc::ENOENT);
    assert_eq!(absolute["event"]["file_flags"], json!(["unverified"]));
    assert_eq!(absolute["event"].get("file_ino"), None);
    let relative = open_of(&daemon, &container, "never/there");
    assert_eq!(
        (&relative["event"]["result"], &relative["event"]["base"]),
        (&json!(-libc::ENOENT), &json!("/etc"))
    );
    let no_folder = open_of(&daemon, &container, "/etc/passwd/x");
    assert_eq!(no_folder["event"]["result"], -libc::ENOTDIR);
}

#[test]
fn flags_tell_reading_from_writing_and_creating() {
    if let Some(reason) = cannot_trace() {
        skip!("flags_tell_reading_from_writing_and_creating", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("flags").unwrap();
    container.sh("echo x > /tmp/new; echo y >> /tmp/new; cat /tmp/new; true").unwrap();
    let flags = |wanted: i32| {
        let event = daemon.wait_for(|record| {
            is_event(record, "open", container.id())
                && record["event"]["file"] == "/tmp/new"
                && record["event"]["flags"].as_i64().is_some_and(|flags| flags as i32 & wanted == wanted)
        });
        event["event"]["flags"].as_i64().unwrap() as i32
    };
    assert_eq!(flags(libc::O_CREAT | libc::O_TRUNC) & libc::O_ACCMODE, libc::O_WRONLY);
    assert_eq!(flags(libc::O_CREAT | libc::O_APPEND) & libc::O_ACCMODE, libc::O_WRONLY);
    let read = daemon.wait_for(|record| {
        is_event(record, "open", container.id())
            && record["event"]["file"] == "/tmp/new"
            && record["process"]["name"] == "cat"
    });
    assert_eq!(
        read["event"]["flags"].as_i64().unwrap() as i32 & (libc::O_ACCMODE | libc::O_CREAT),
        libc::O_RDONLY
    );
}

#[test]
fn hostile_names_come_whole_and_stay_within_their_record() {
    if let Some(reason) = cannot_trace() {
        skip!("hostile_names_come_whole_and_stay_within_their_record", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("hostile").unwrap();
    let name = "a\n{\"seq\":1}\u{1b}[2J\"\\\u{202e}";
    container.exec(&["touch", &format!("/tmp/{name}")]).unwrap();
    open_of(&daemon, &container, &format!("/tmp/{name}"));
    // Bytes that are not UTF-8 come beside their readable form.
    container.sh("printf 'x' > /tmp/$(printf 'bad\\377name'); true").unwrap();
    let event = open_of(&daemon, &container, "/tmp/bad\u{fffd}name");
    assert_eq!(event["event"]["file_hex"], "2f746d702f626164ff6e616d65");
}

#[test]
fn deep_path_comes_whole() {
    if let Some(reason) = cannot_trace() {
        skip!("deep_path_comes_whole", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("deep").unwrap();
    let folder = format!("/tmp{}", "/d".repeat(100));
    container.exec(&["mkdir", "-p", &folder]).unwrap();
    container.exec(&["touch", &format!("{folder}/f")]).unwrap();
    let event = open_of(&daemon, &container, &format!("{folder}/f"));
    assert_eq!(event["event"].get("file_flags"), None);
}

#[test]
fn deleted_file_is_marked() {
    if let Some(reason) = cannot_trace() {
        skip!("deleted_file_is_marked", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("marks").unwrap();
    container.sh("exec 3>/tmp/gone; rm /tmp/gone; cat /proc/self/fd/3; true").unwrap();
    let deleted = daemon.wait_for(|record| {
        is_event(record, "open", container.id())
            && record["event"]["file"] == "/tmp/gone"
            && record["process"]["cmdline"] == "cat /proc/self/fd/3"
    });
    assert_eq!(deleted["event"]["file_flags"], json!(["deleted"]));
}

#[test]
fn name_as_the_caller_gave_it_is_kept_where_it_is_asked_for() {
    if let Some(reason) = cannot_trace() {
        skip!("name_as_the_caller_gave_it_is_kept_where_it_is_asked_for", "{reason}");
    }
    let daemon = Daemon::start(&["log.record=container.id != host and fd.nameraw contains /../"]);
    let container = Container::start("asked").unwrap();
    container.sh("cat /etc/hosts /usr/../etc/passwd /usr/../etc/never; true").unwrap();
    let opened = open_of(&daemon, &container, "/etc/passwd");
    assert_eq!(opened["event"]["asked"], "/usr/../etc/passwd");
    assert_eq!(opened["event"]["asked_flags"], json!(["unverified"]));
    let failed = open_of(&daemon, &container, "/usr/../etc/never");
    assert_eq!(failed["event"].get("asked"), None);
    let (_, records) = daemon.stop();
    assert!(!records.iter().any(|record| record["event"]["file"] == "/etc/hosts"));
}
