//! State of runtimes that is there, is not there yet, lies, or is somebody else's.

use super::*;

fn v2() -> Layout {
    Layout::Unified("/sys/fs/cgroup".into())
}

/// A state folder with files of containers: name, file, text.
fn folder(files: &[(&str, &str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, file, text) in files {
        std::fs::create_dir_all(root.path().join(name)).unwrap();
        std::fs::write(root.path().join(name).join(file), text).unwrap();
    }
    root
}

#[test]
fn state_of_runc_and_crun_names_paths_that_the_user_chose() {
    let root = folder(&[
        ("web", "state.json", r#"{"cgroup_paths":{"cpu":"/sys/fs/cgroup/cpu/my/web"}}"#),
        ("db", "status", r#"{"cgroup-path":"/my/db"}"#),
        ("junk", "state.json", "{"),
    ]);
    let mut states = States::new(Layout::None);
    let mut id = |path| states.in_folder(root.path(), path, None).map(|(id, _)| id);
    assert_eq!(id("/my/web"), Some("web".to_owned()));
    assert_eq!(id("/my/web/below"), Some("web".to_owned()));
    assert_eq!(id("/my/website"), None);
    assert_eq!(id("/my/db"), Some("db".to_owned()));
    assert_eq!(id("/elsewhere/junk"), None);
}

#[test]
fn container_at_the_default_path_is_known_before_its_state_is_written() {
    let root = folder(&[("moved", "state.json", r#"{"cgroup_paths":{"":"/sys/fs/cgroup/my/web"}}"#)]);
    std::fs::create_dir(root.path().join("web")).unwrap();
    let mut states = States::new(v2());
    let mut owner = |path| states.in_folder(root.path(), path, None);
    for path in ["/web", "/web/below", "/system.slice/runc-web.scope", "/a.slice/crun-web.scope/x"] {
        assert_eq!(owner(path).map(|(id, _)| id), Some("web".to_owned()), "{path}");
    }
    assert_eq!(owner("/web/below").map(|(_, path)| path), Some("/web".to_owned()));
    // Not of one that is known to be elsewhere, and of no other name.
    for path in ["/moved", "/other", "/x/web", "/..", "/web.slice"] {
        assert_eq!(owner(path), None, "{path}");
    }
}

#[test]
fn state_that_is_replaced_is_read_again() {
    let text = |path: &str| format!(r#"{{"cgroup_paths":{{"":"/sys/fs/cgroup{path}"}}}}"#);
    let root = folder(&[("web", "state.json", &text("/a/x"))]);
    let mut states = States::new(v2());
    assert!(states.in_folder(root.path(), "/a/x", None).is_some());
    std::fs::write(root.path().join("new"), text("/b/x")).unwrap();
    std::fs::rename(root.path().join("new"), root.path().join("web/state.json")).unwrap();
    assert!(states.in_folder(root.path(), "/a/x", None).is_none());
    assert!(states.in_folder(root.path(), "/b/x", None).is_some());
}

#[test]
fn state_of_a_user_is_believed_only_for_his_own_cgroups_and_if_it_is_his() {
    // SAFETY: no arguments.
    let uid = unsafe { libc::geteuid() };
    let his = format!("/user.slice/user-{uid}.slice/user@{uid}.service/x");
    assert_eq!(user_of("/user.slice/user-1000.slice/user@1000.service/x"), Some(1000));
    for path in ["/web", "/system.slice/runc-web.scope", "/user.slice", "/user.slice/user-../x.slice/y"] {
        assert_eq!(user_of(path), None, "{path}");
    }
    let root = folder(&[("web", "state.json", r#"{"cgroup_paths":{"":"/sys/fs/cgroup/user.slice/x"}}"#)]);
    let mut states = States::new(v2());
    // A path of nobody's, which he claims.
    assert_eq!(states.in_folder(root.path(), &his, Some(uid)), None);
    assert!(
        matches!(read(&root.path().join("web/state.json"), Some(uid + 1)), Err(ReadError::Foreign(of)) if of == uid)
    );
    assert!(read(&root.path().join("web/state.json"), Some(uid)).is_ok());
}

#[test]
fn container_without_a_cgroup_is_told_by_the_pid_namespace_of_its_first_process() {
    let own = Path::new("/proc/self/ns/pid").metadata().unwrap().ino() as u32;
    let pid = std::process::id();
    let root = folder(&[("web", "state.json", &format!(r#"{{"init_process_pid":{pid}}}"#))]);
    let folders = Folders { oci: vec![root.path().to_string_lossy().into_owned()], ..Folders::default() };
    let mut states = States::new(Layout::Unified(root.path().to_owned()));
    let changed = |when: SystemTime| File::open(root.path()).unwrap().set_modified(when).unwrap();
    let long_ago = SystemTime::now() - 2 * TICKS;
    changed(long_ago);
    let (found, _) = states.in_namespace(own, &folders);
    let found = found.map(|found| (found.id, found.cgroup_path));
    assert_eq!(found, Some(("web".to_owned(), format!("pid:[{own}]"))));
    assert_eq!(states.in_namespace(own - 1, &folders).0, None);
    std::fs::write(root.path().join("web/state.json"), r#"{"init_process_pid":4294967295}"#).unwrap();
    assert!(
        states.in_namespace(own, &folders).0.is_some(),
        "a folder that was not changed is not read again"
    );
    changed(SystemTime::now());
    assert_eq!(states.in_namespace(own, &folders).0, None);
    // One that is there has the cgroup that its state names.
    let state =
        format!(r#"{{"init_process_pid":{pid},"cgroup_paths":{{"":"{}/own"}}}}"#, root.path().display());
    std::fs::write(root.path().join("new"), state).unwrap();
    std::fs::rename(root.path().join("new"), root.path().join("web/state.json")).unwrap();
    assert!(states.in_namespace(own, &folders).0.is_some());
    std::fs::create_dir(root.path().join("own")).unwrap();
    assert_eq!(states.in_namespace(own, &folders).0, None);
    std::fs::remove_dir(root.path().join("own")).unwrap();
    changed(SystemTime::now());
    // crun's, and one that is not written yet.
    std::fs::remove_file(root.path().join("web/state.json")).unwrap();
    assert_eq!(states.in_namespace(own, &folders), (None, true));
    let left = File::open(root.path().join("web")).unwrap();
    left.set_modified(SystemTime::now() - 2 * GIVE_UP).unwrap();
    assert_eq!(states.in_namespace(own, &folders), (None, false), "left behind");
    changed(SystemTime::now());
    std::fs::write(root.path().join("web/status"), format!(r#"{{"pid":{pid}}}"#)).unwrap();
    assert!(states.in_namespace(own, &folders).0.is_some());
    // A user has a say about his own processes only, and there is no cgroup of such a name.
    assert!(is_in_namespace(pid, own, None) && !is_in_namespace(pid, own, Some(12_345)));
    assert_eq!(user_of(&path_of_namespace(own, Some(1000))), Some(1000));
    assert_eq!(user_of(&path_of_namespace(own, None)), None);
}

#[test]
fn file_that_is_a_pipe_a_link_or_huge_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("plain"), "{}").unwrap();
    std::os::unix::fs::symlink(file("plain"), file("link")).unwrap();
    File::create(file("huge")).unwrap().set_len(BYTES_MAX + 1).unwrap();
    let made = std::process::Command::new("mkfifo").arg(file("pipe")).status().unwrap();
    assert!(made.success());
    assert_eq!(read(&file("plain"), None).unwrap(), b"{}");
    assert!(matches!(read(&file("link"), None), Err(ReadError::Io(_))));
    assert!(matches!(read(&file("huge"), None), Err(ReadError::TooLarge(_))));
    assert!(matches!(read(&file("pipe"), None), Err(ReadError::NotAFile)));
    assert!(matches!(read(&file("plain/x"), None), Err(ReadError::Absent)));
}
