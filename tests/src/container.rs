//! Real containers by runc, with a root of busybox, gone when they are dropped. The demo uses them too.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Programs that the root has, all of them busybox.
const APPLETS: &[&str] = &[
    "sh", "cat", "ls", "cp", "mv", "rm", "mkdir", "echo", "sleep", "id", "nc", "wget", "true", "false",
    "kill", "ln", "chmod", "setsid", "nohup", "env", "seq", "touch", "dd", "head", "test", "chroot", "mount",
    "umount", "unshare", "nslookup",
];

/// Where Debian's busybox-static puts it.
const BUSYBOX: &str = "/bin/busybox";

/// Why no container can be started here; `None` if one can.
pub fn unavailable() -> Option<String> {
    if !Path::new(BUSYBOX).exists() {
        return Some(format!("no {BUSYBOX} (package busybox-static)"));
    }
    let runc = Command::new("runc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!runc.is_ok_and(|status| status.success())).then(|| "no runc".to_owned())
}

/// A running container.
pub struct Container {
    id: String,
    bundle: PathBuf,
}

impl Container {
    /// Starts one that sleeps until it is dropped. Its id begins with `taffrail-` and `name`.
    pub fn start(name: &str) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("taffrail-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let bundle = std::env::temp_dir().join(&id);
        let container = Self { id, bundle };
        container.make_bundle()?;
        let output = container
            .runc(&["run", "--detach", "--bundle"])
            .arg(&container.bundle)
            .arg(&container.id)
            .output()?;
        succeed("runc run", &output)?;
        Ok(container)
    }

    fn make_bundle(&self) -> io::Result<()> {
        let root = self.bundle.join("rootfs");
        for folder in ["bin", "etc", "tmp", "usr/bin", "proc", "dev", "sys", "run", "root"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        std::fs::copy(BUSYBOX, root.join("bin/busybox"))?;
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        std::fs::write(root.join("etc/shadow"), "root:*:19000:0:99999:7:::\n")?;
        let spec = Command::new("runc").args(["spec", "--bundle"]).arg(&self.bundle).output()?;
        succeed("runc spec", &spec)?;
        // The generated file has one place each for these.
        let config = self.bundle.join("config.json");
        let text = std::fs::read_to_string(&config)?
            .replace("\"terminal\": true", "\"terminal\": false")
            .replace("\"readonly\": true", "\"readonly\": false")
            .replace("\"sh\"\n", "\"sleep\", \"3600\"\n");
        std::fs::write(config, text)
    }

    /// The id that the daemon must find.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The root folder, from outside.
    pub fn root(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// Runs a program inside and waits for it.
    pub fn exec(&self, command: &[&str]) -> io::Result<Output> {
        self.runc(&["exec", &self.id]).args(command).output()
    }

    /// Runs a shell script inside and waits for it.
    pub fn sh(&self, script: &str) -> io::Result<Output> {
        self.exec(&["sh", "-c", script])
    }

    fn runc(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("runc");
        // A detached container keeps what it inherits: pipes would never close.
        let log = std::fs::File::create(self.bundle.join("log")).map_or_else(|_| Stdio::null(), Stdio::from);
        command.args(arguments).stdin(Stdio::null());
        if arguments.contains(&"run") {
            command.stdout(Stdio::null()).stderr(log);
        }
        command
    }
}

fn succeed(what: &str, output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{what}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr))))
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ =
            self.runc(&["delete", "--force", &self.id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.bundle);
    }
}
