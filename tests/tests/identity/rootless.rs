//! runc by a user who was given no cgroup: nothing but namespaces tells such containers apart, in the host's own cgroup.

use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use taffrail::enrich::cgroup::Layout;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};
use tempfile::TempDir;

use crate::stage::said;
use crate::{image, named};

/// A user of this test's, with a folder as systemd makes them, and a root folder.
struct User {
    uid: u32,
    run: PathBuf,
    folder: TempDir,
    ids: Vec<String>,
}

impl User {
    fn new() -> Self {
        let uid = 700_000 + std::process::id();
        let run = PathBuf::from(format!("/run/user/{uid}"));
        std::fs::create_dir_all(&run).unwrap();
        let folder = tempfile::tempdir().unwrap();
        image::make_root(&folder.path().join("rootfs"));
        for path in [&run, folder.path()] {
            chown(path, Some(uid), Some(uid)).unwrap();
        }
        Self { uid, run, folder, ids: Vec::new() }
    }

    /// A command of the user's.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        let uid = self.uid.to_string();
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", program]).stdin(Stdio::null());
        command
            .env("XDG_RUNTIME_DIR", &self.run)
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path());
        command
    }

    /// Starts a container that sleeps.
    fn start(&mut self, name: &str) -> String {
        let id = format!("taffrail-{name}-{}", self.uid);
        let bundle = self.folder.path().join(&id);
        std::fs::create_dir(&bundle).unwrap();
        chown(&bundle, Some(self.uid), Some(self.uid)).unwrap();
        said(
            "runc",
            &self.command("runc").args(["spec", "--rootless", "--bundle"]).arg(&bundle).output().unwrap(),
        );
        let path = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", "exec sleep 3600", id]);
        config["root"]["path"] = self.folder.path().join("rootfs").to_string_lossy().into();
        std::fs::write(&path, config.to_string()).unwrap();
        let mut run = self.command("runc");
        run.args(["run", "--detach", "--bundle"]).arg(&bundle).arg(&id);
        // What runs on keeps what it inherits: pipes would never close.
        let log = bundle.join("log");
        let status = run.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).status().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(&log).unwrap());
        self.ids.push(id.clone());
        id
    }

    fn exec(&self, id: &str, arguments: &[&str]) {
        said("runc", &self.command("runc").args(["exec", id]).args(arguments).output().unwrap());
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for id in &self.ids {
            let _ = self.command("runc").args(["delete", "--force", id]).output();
        }
        let _ = std::fs::remove_dir_all(&self.run);
        // Only if nobody else has a folder there.
        let _ = std::fs::remove_dir("/run/user");
    }
}

/// Why a user cannot start containers here.
fn unavailable() -> Option<String> {
    let allowed = Command::new("setpriv")
        .args(["--reuid", "700000", "--regid", "700000", "--clear-groups", "unshare", "--user", "true"])
        .output();
    (!allowed.is_ok_and(|output| output.status.success()))
        .then(|| "users cannot make user namespaces here".to_owned())
}

#[test]
fn containers_of_a_user_without_cgroups_are_told_apart_and_named() {
    const TEST: &str = "containers_of_a_user_without_cgroups_are_told_apart_and_named";
    if let Some(reason) = cannot_trace().or_else(unavailable) {
        skip!(TEST, "{reason}");
    }
    let mut user = User::new();
    let before = user.start("before");
    // Machines that run tests are busy.
    let daemon = Daemon::start(&[crate::ALL, "enrich.name_wait_ms=10000"]);
    let after = user.start("after");
    for id in [&before, &after] {
        user.exec(id, &["cat", "/etc/passwd"]);
        daemon.wait_for(|record| is_event(record, "exec", id) && record["event"]["args"][0] == "cat");
    }
    let (_, records) = daemon.stop();
    for id in [&before, &after] {
        let whole = named(&records, id, &json!({ "runtime": "oci", "name": id }));
        let path = whole["container"]["cgroup_path"].as_str().unwrap();
        assert!(path.starts_with(&format!("user:[{}]/pid:[", user.uid)), "{path}");
        let its = |kind: &str| records.iter().filter(|record| is_event(record, kind, id)).collect::<Vec<_>>();
        // Files too, which the host's processes are not watched for. Its runtime looks there first.
        let passwd = its("open")
            .into_iter()
            .find(|open| open["event"]["file"] == "/etc/passwd" && open["process"]["name"] == "cat");
        let passwd = passwd.unwrap_or_else(|| panic!("no open of {id}"));
        assert_eq!(passwd["process"]["exec_session"], passwd["process"]["key"]);
        // Its root is its user, by its own list.
        assert_eq!(
            (&passwd["process"]["uid"], &passwd["process"]["user"]),
            (&json!(user.uid), &json!("root"))
        );
    }
    let first =
        records.iter().find(|record| is_event(record, "exec", &after) && record["event"]["args"][3] == after);
    let first = first.expect("its first program");
    assert_eq!((&first["process"]["vpid"], &first["process"]["exec_session"]), (&json!(1), &Value::Null));
    let own = Layout::detect().tree().and_then(|tree| tree.id(&tree.of_process(std::process::id())?));
    assert_eq!(first["process"]["cgroup_id"], json!(own), "it has no cgroup of its own");
}
