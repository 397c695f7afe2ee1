//! Real containers by runc, gone when they are dropped: with a root of busybox, which the demo uses too, or with the
//! programs of the machine.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

/// Programs that the root has, all of them busybox.
const APPLETS: &[&str] = &[
    "sh", "cat", "ls", "cp", "mv", "rm", "mkdir", "echo", "sleep", "id", "nc", "wget", "true", "false",
    "kill", "ln", "chmod", "setsid", "nohup", "env", "seq", "touch", "dd", "head", "test", "chroot", "mount",
    "umount", "unshare", "nslookup",
];

/// What a container with the machine's programs may do.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
];

/// What only a privileged container may do.
const MORE_CAPABILITIES: &[&str] = &["CAP_MAC_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_RAWIO"];

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

/// Whether systemd makes the cgroups of containers, and runs what starts them: in VMs with a system of their own.
pub fn by_systemd() -> bool {
    std::env::var_os("TAFFRAIL_SYSTEMD").is_some()
}

/// Where a bundle has all layers of its root as one.
const MERGED: &str = "merged";

/// What a container has of the machine: its `/usr`, as an image.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// Folders that lie over `/usr`, topmost first, below a layer of the container's own.
    pub layers: &'a [&'a Path],
    /// Whether it sees the machine's processes.
    pub host_processes: bool,
    /// Whether it has the capabilities that no usual container has.
    pub is_privileged: bool,
}

/// A running container.
pub struct Container {
    id: String,
    bundle: PathBuf,
    runtime: &'static str,
}

impl Container {
    /// Starts one that sleeps until it is dropped. Its id begins with `taffrail-` and `name`.
    pub fn start(name: &str) -> io::Result<Self> {
        Self::start_as(name, |_| {})
    }

    /// As [`Container::start`], with a change to the bundle's configuration.
    pub fn start_as(name: &str, change: impl FnOnce(&mut Value)) -> io::Result<Self> {
        Self::start_by("runc", name, change)
    }

    /// As [`Container::start_as`], by another runtime that is used as runc is.
    pub fn start_by(runtime: &'static str, name: &str, change: impl FnOnce(&mut Value)) -> io::Result<Self> {
        let mut container = Self::new(name);
        container.runtime = runtime;
        container.make_bundle()?;
        let path = container.bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        change(&mut config);
        std::fs::write(path, config.to_string())?;
        container.run()
    }

    /// As [`Container::start`], with the root as an image and a layer of the container's own over it, as container managers
    /// make them: mounted on the host. `prepare` puts files into the image.
    pub fn layered(name: &str, prepare: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Self> {
        let container = Self::new(name);
        container.make_bundle()?;
        prepare(&container.root())?;
        let [upper, work, merged] = ["upper", "work", MERGED].map(|name| container.bundle.join(name));
        for folder in [&upper, &work, &merged] {
            std::fs::create_dir(folder)?;
        }
        let [lower, upper, work] = [container.root(), upper, work].map(|path| path.display().to_string());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let mount =
            Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&merged).output()?;
        succeed("mount", &mount)?;
        let path = container.bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        config["root"]["path"] = merged.to_string_lossy().into();
        std::fs::write(path, config.to_string())?;
        container.run()
    }

    /// As [`Container::start`], with the programs of the machine. `prepare` puts files into the root. It has most
    /// capabilities, and the kernel's files are not hidden from it.
    pub fn with_machine(
        name: &str,
        machine: &Machine<'_>,
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Self> {
        let container = Self::new(name);
        let root = container.root();
        for folder in
            ["usr", "etc", "tmp", "proc", "dev", "sys", "run", "root", "srv", "mnt", "var/log", "var/lib"]
        {
            std::fs::create_dir_all(root.join(folder))?;
        }
        for folder in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(folder), root.join(folder))?;
        }
        symlink("../run", root.join("var/run"))?;
        prepare(&root)?;
        container.make_spec()?;
        container.edit_spec(machine)?;
        container.run()
    }

    fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("taffrail-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let bundle = std::env::temp_dir().join(&id);
        Self { id, bundle, runtime: "runc" }
    }

    fn run(self) -> io::Result<Self> {
        let output = self.runc(&["run", "--detach", "--bundle"]).arg(&self.bundle).arg(&self.id).output()?;
        succeed("runc run", &output)?;
        Ok(self)
    }

    fn make_bundle(&self) -> io::Result<()> {
        let root = self.bundle.join("rootfs");
        for folder in ["bin", "etc", "tmp", "usr/bin", "proc", "dev", "sys", "run", "root"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        std::fs::copy(BUSYBOX, root.join("bin/busybox"))?;
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        std::fs::write(root.join("etc/shadow"), "root:*:19000:0:99999:7:::\n")?;
        self.make_spec()
    }

    fn make_spec(&self) -> io::Result<()> {
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

    /// Adds what a container with the machine's programs has to the specification.
    fn edit_spec(&self, Machine { layers, host_processes, is_privileged }: &Machine<'_>) -> io::Result<()> {
        let [upper, work] = ["upper", "work"].map(|name| self.bundle.join(name));
        for folder in [&upper, &work] {
            std::fs::create_dir(folder)?;
        }
        let lower: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
        let options = [
            format!("lowerdir={}", [lower, vec!["/usr".to_owned()]].concat().join(":")),
            format!("upperdir={}", upper.display()),
            format!("workdir={}", work.display()),
        ];
        let config = self.bundle.join("config.json");
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&config)?)?;
        if let Some(mounts) = spec["mounts"].as_array_mut() {
            mounts.push(
                json!({"destination": "/usr", "type": "overlay", "source": "overlay", "options": options}),
            );
        }
        let more = if *is_privileged { MORE_CAPABILITIES } else { &[] };
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!([CAPABILITIES, more].concat());
        }
        if let (true, Some(namespaces)) = (*host_processes, spec["linux"]["namespaces"].as_array_mut()) {
            namespaces.retain(|namespace| namespace["type"] != "pid");
        }
        spec["process"]["noNewPrivileges"] = json!(false);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
        spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
        std::fs::write(&config, spec.to_string())
    }

    /// The id that the daemon must find.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bundle's folder.
    pub fn bundle(&self) -> &Path {
        &self.bundle
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
        let mut command = Command::new(self.runtime);
        command.args(by_systemd().then_some("--systemd-cgroup"));
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
        let merged = self.bundle.join(MERGED);
        if merged.exists() {
            let _ = Command::new("umount").arg(&merged).stderr(Stdio::null()).status();
        }
        let _ = std::fs::remove_dir_all(&self.bundle);
    }
}
