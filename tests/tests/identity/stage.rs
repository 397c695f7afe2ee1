//! A place for a runtime: namespaces for its network, mounts and processes, which all end with it, and a folder. Where
//! systemd is to make the cgroups there are no namespaces, for it has to know the processes: daemons are its services.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use taffrail::enrich::cgroup::Layout;
use taffrail_tests::container::by_systemd;
use taffrail_tests::daemon::wait_for;
use tempfile::TempDir;

/// The place. When it is dropped, all processes in it are ended, and what its containers left on the host is removed.
pub struct Stage {
    /// The process that everything in there ends with, and its child, the first process in there.
    namespaces: Option<(Child, u32)>,
    /// Services of systemd: what was started, and the unit's name.
    units: RefCell<Vec<(String, String)>>,
    folder: TempDir,
    /// Ids of containers, to clean up after.
    ids: Vec<String>,
}

/// Why a test that needs these programs cannot run here; `None` if it can.
pub fn lacks(programs: &[&str]) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/sbin".into()]).collect();
    let is_there = |program: &&str| folders.iter().any(|folder| folder.join(program).exists());
    let missing = programs.iter().find(|program| !is_there(program))?;
    Some(format!("no {missing}"))
}

impl Stage {
    /// Sets one up.
    pub fn set() -> Self {
        let folder = tempfile::Builder::new().prefix("taffrail-identity-").tempdir().unwrap();
        let (units, ids) = (RefCell::default(), Vec::new());
        if by_systemd() {
            return Self { namespaces: None, units, folder, ids };
        }
        // All that is in there ends with this test, also if that is killed.
        let holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare"])
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sleep", "3600"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        // Once it is `sleep`, all has been set up.
        let inside = wait_for(|| {
            let child = std::fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()?;
            let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            (name.trim() == "sleep").then_some(child)
        });
        let namespaces = Some((holder, inside.expect("namespaces")));
        let stage = Self { namespaces, units, folder, ids };
        stage.run("ip", ["link", "set", "lo", "up"]);
        stage
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As [`Stage::path`], as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// A command in there.
    pub fn command(&self, program: &str) -> Command {
        let mut words = self.prefix();
        words.push(program.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.stdin(Stdio::null());
        command
    }

    /// What goes before a command, so that it is run in there.
    pub fn prefix(&self) -> Vec<String> {
        let Some((_, inside)) = &self.namespaces else { return Vec::new() };
        let inside = inside.to_string();
        ["nsenter", "--target", &inside, "--net", "--mount", "--pid"].map(str::to_owned).to_vec()
    }

    /// Runs a command in there that has to go well; gives what it prints.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = A>) -> String {
        said(program, &self.command(program).args(arguments).output().unwrap())
    }

    /// Starts a command in there that goes on, with its output in a file.
    pub fn start(&self, program: &str, arguments: &[&str]) {
        self.start_command(program, &[], program, arguments);
    }

    /// As [`Stage::start`], with variables, and a name for [`Stage::stop`].
    pub fn start_command(&self, name: &str, variables: &[(&str, &str)], program: &str, arguments: &[&str]) {
        if self.namespaces.is_none() {
            return self.start_unit(name, variables, program, arguments);
        }
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        let mut command = self.command("sh");
        let script = "echo $$ >\"$0\"; exec \"$@\"";
        command.args(["-c", script, &self.text(&format!("{name}.id")), program]).args(arguments);
        command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(log);
        // It ends with all others, and is nobody's to wait for but the first process's in there.
        drop(command.spawn().unwrap());
    }

    /// As the units that come with runtimes: containers outlive the service.
    fn start_unit(&self, name: &str, variables: &[(&str, &str)], program: &str, arguments: &[&str]) {
        let mut command = self.command("systemd-run");
        // One that has ended keeps its name as long as its containers run.
        let unit = format!("taffrail-{name}-{}-{}", std::process::id(), self.units.borrow().len());
        let log = self.text(&format!("{name}.log"));
        command.args(["--quiet", "--collect", "--unit", &unit, "--property", "Delegate=yes"]);
        command.args([
            "--property",
            "KillMode=process",
            "--property",
            &format!("StandardError=append:{log}"),
        ]);
        command.args(variables.iter().map(|(name, value)| format!("--setenv={name}={value}")));
        said(program, &command.arg("--").arg(program).args(arguments).output().unwrap());
        self.units.borrow_mut().push((name.to_owned(), unit));
    }

    /// Ends a command that was started so.
    pub fn stop(&self, name: &str) {
        if self.namespaces.is_none() {
            let units = self.units.borrow();
            let (_, unit) = units.iter().rfind(|(of, _)| of == name).expect("it was started");
            return drop(self.run("systemctl", ["stop", unit]));
        }
        let id = std::fs::read_to_string(self.path(&format!("{name}.id"))).unwrap();
        self.run("kill", [id.trim()]);
        let is_gone = || {
            let output = self.command("kill").args(["-0", id.trim()]).output().unwrap();
            (!output.status.success()).then_some(())
        };
        wait_for(is_gone).unwrap_or_else(|| panic!("{name} does not end"));
    }

    /// Waits until something works in there.
    #[track_caller]
    pub fn wait_until_works(&self, program: &str, arguments: &[&str]) {
        let works = || self.command(program).args(arguments).output().unwrap().status.success().then_some(());
        wait_for(works).unwrap_or_else(|| panic!("{program} {arguments:?} does not work"));
    }

    /// Remembers a container, to clean up after it.
    pub fn remember(&mut self, id: &str) -> String {
        self.ids.push(id.to_owned());
        id.to_owned()
    }
}

/// What a command printed, which has to have gone well.
#[track_caller]
pub fn said(program: &str, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{program}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some((holder, inside)) = &mut self.namespaces {
            let _ = holder.kill();
            let _ = holder.wait();
            // The first process in there is gone only after all others are.
            let _ = wait_for(|| (!Path::new(&format!("/proc/{inside}")).exists()).then_some(()));
        }
        for (_, unit) in self.units.get_mut() {
            let _ = Command::new("systemctl").args(["stop", unit]).stderr(Stdio::null()).status();
        }
        let folders = ["/run/runc", "/run/containerd/runc/default", "/run/containerd/runc/k8s.io"];
        for id in &self.ids {
            for folder in folders {
                let _ = std::fs::remove_dir_all(Path::new(folder).join(id));
            }
        }
        let layout = Layout::detect();
        let roots = layout.root().into_iter().map(Path::to_owned);
        let v1 =
            Path::new("/sys/fs/cgroup").read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
        for root in roots.chain(v1) {
            remove_cgroups(&root, &self.ids, 0);
        }
    }
}

/// Removes empty cgroups that are named for one of these containers or pods, and what is in them.
fn remove_cgroups(folder: &Path, ids: &[String], depth: usize) {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    for entry in entries.filter(|entry| depth < 6 && entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let path = entry.path();
        remove_cgroups(&path, ids, depth + 1);
        if ids.iter().any(|id| path.to_string_lossy().contains(id.as_str())) {
            let _ = std::fs::remove_dir(path);
        }
    }
}
