//! What has to be mounted or writable where the daemon looks: in a pod each of these is a mount that can be missing.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Instant;

use procfs::FromRead as _;
use procfs::process::{Stat, StatFlags};

use super::Finding;
use crate::config::Settings;
use crate::enrich::cgroup::Layout;
use crate::enrich::metadata;
use crate::enrich::resolve::{Hint, Question, Resolver};
use crate::enrich::state::{self, Folders};
use crate::event::text::escaped;

/// Cgroups that are looked at, at most.
const CGROUPS_MAX: usize = 8192;

/// Whether `/proc` has the machine's processes, as far as those that run now have to be known from there.
pub fn processes(proc: &Path) -> Finding {
    const WHAT: &str = "processes";
    if is_machines(proc) {
        return Finding::ok(WHAT, format!("{} has those of the machine", proc.display()));
    }
    Finding::less(
        WHAT,
        format!("{} has not those of the machine", proc.display()),
        "what ran before the start is not known until it starts a program, and users of containers have numbers; mount the \
         machine's /proc there, read-only (of the chart: `hostProc: true`)",
    )
}

/// Whether it is of the first pid namespace. Only there are threads of the kernel, and the second one makes all others.
fn is_machines(proc: &Path) -> bool {
    let second = Stat::from_file(proc.join("2/stat"));
    second.is_ok_and(|stat| stat.flags().is_ok_and(|flags| flags.contains(StatFlags::PF_KTHREAD)))
}

/// Whether the log and its keys can be written.
pub fn log(settings: &Settings) -> Finding {
    const WHAT: &str = "log";
    let folders = [Some(&settings.log_dir), settings.log.key_folder.as_ref()];
    for folder in folders.into_iter().flatten() {
        if let Err(why) = try_to_write(folder) {
            return Finding::broken(
                WHAT,
                format!("{} cannot be written to: {why}", folder.display()),
                "the daemon does not start without its log and the keys that sign it; mount a folder of the machine there \
                 (of the chart: `logFolder`), or name another one (`log.dir`, `log.key_dir`)",
            );
        }
    }
    Finding::ok(WHAT, format!("{} can be written to", settings.log_dir.display()))
}

/// Whether probes can be kept in a folder.
pub fn pins(folder: &Path) -> Finding {
    /// `BPF_FS_MAGIC` of the kernel's `magic.h`.
    const BPF_FS: u32 = 0xcafe_4a11;
    const WHAT: &str = "pins";
    let kind = rustix::fs::statfs(nearest(folder)).map(|found| found.f_type as u32);
    let fault = match kind {
        Ok(BPF_FS) => try_to_write(folder).map_err(|error| error.to_string()),
        Ok(_) => Err("it is in no BPF file system".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match fault {
        Ok(()) => Finding::ok(WHAT, format!("probes can be kept in {}", folder.display())),
        Err(why) => Finding::broken(
            WHAT,
            format!("no probes can be kept in {}: {why}", folder.display()),
            "the daemon does not start; mount the machine's /sys/fs/bpf there, to be written to (of the chart: `pinProbes: \
             true`; of a machine: `mount -t bpf bpf /sys/fs/bpf`), or do without `probes.pin`",
        ),
    }
}

/// What of a path is there.
fn nearest(path: &Path) -> &Path {
    let is_there = |path: &&Path| !path.as_os_str().is_empty() && !matches!(path.try_exists(), Ok(false));
    path.ancestors().find(is_there).unwrap_or(Path::new("."))
}

/// Whether files can be made in a folder, or that folder itself. The file that tries it never has a name.
fn try_to_write(folder: &Path) -> io::Result<()> {
    let nameless =
        OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(nearest(folder));
    match nameless {
        // All rights were there, only that this file system has no files without a name.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        tried => tried.map(drop),
    }
}

/// Whether the files of runtimes say what the containers are called that run now. Whether a folder is there says nothing: it
/// may be empty because nothing is mounted there.
pub fn containers(folders: &Folders, layout: &Layout) -> Finding {
    const WHAT: &str = "containers";
    const ADVICE: &str = "they have ids, and no names, images and pods but what a socket of their runtime tells; mount the folders \
                          of their runtimes (of the chart: `runtimeFolders`), or name them (`enrich.folders`)";
    let (mut named, mut nameless) = (0usize, Vec::new());
    let mut resolver = Resolver::new(None, folders.clone());
    let cgroups = layout.tree().map(|tree| tree.all()).unwrap_or_default();
    for (id, path) in cgroups.into_iter().take(CGROUPS_MAX) {
        let question = Question::Whose(id, Some(Hint::new(path.as_bytes(), true)));
        let Some(answer) = resolver.ask(question, Instant::now()) else { continue };
        let Some(container) = answer.container.filter(|container| container.cgroup_path == path) else {
            continue;
        };
        if !has_processes(layout, &path) {
            continue;
        }
        match answer.metadata {
            Some(_) => named += 1,
            None => nameless.push(container),
        }
    }
    let all = named + nameless.len();
    if let Some(first) = nameless.first() {
        let (id, runtime) = (escaped(first.id.as_bytes()), first.runtime.name());
        let why = metadata::find(first, folders).problems.into_iter().next();
        let why =
            why.map_or(String::new(), |problem| format!(" ({})", escaped(problem.to_string().as_bytes())));
        let count = nameless.len();
        let found = format!("{count} of {all} are in no file of a runtime, such as {id} of {runtime}{why}");
        return Finding::less(WHAT, found, ADVICE);
    }
    if all > 0 {
        return Finding::ok(WHAT, format!("all {all} that run are in files of their runtimes"));
    }
    let Folders { docker, podman, containerd, oci } = folders;
    let there = [docker, podman, containerd, oci].into_iter().flat_map(|of| state::expand(of));
    let there: Vec<_> =
        there.filter(|folder| folder.is_dir()).map(|folder| folder.display().to_string()).collect();
    match (there.is_empty(), layout) {
        (true, Layout::None) => Finding::less(WHAT, "there is no folder of a runtime".to_owned(), ADVICE),
        (true, _) => Finding::ok(WHAT, "none runs, and there is no folder of a runtime".to_owned()),
        (false, _) => {
            Finding::ok(WHAT, format!("none is seen to run; runtimes keep files in {}", there.join(", ")))
        }
    }
}

/// Whether anything runs in a cgroup or below it; of v1, in it.
fn has_processes(layout: &Layout, path: &str) -> bool {
    let Some(root) = layout.root() else { return false };
    let read = |name: &str| std::fs::read_to_string(root.join(path.trim_start_matches('/')).join(name));
    match read("cgroup.events") {
        Ok(events) => events.lines().any(|line| line == "populated 1"),
        Err(_) => read("cgroup.procs").is_ok_and(|processes| !processes.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Verdict;
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn processes_of_a_pid_namespace_are_not_those_of_the_machine() {
        let proc = tempfile::tempdir().unwrap();
        assert!(processes(proc.path()).verdict == Verdict::Less);
        fs::create_dir(proc.path().join("2")).unwrap();
        // As the kernel writes it, of a program that calls itself so, and of the kernel's thread.
        for (flags, verdict) in [(0x0040_0100, Verdict::Less), (0x0020_8040, Verdict::Ok)] {
            let stat = format!("2 (kthreadd) S 0 0 0 0 -1 {flags}{}\n", " 0".repeat(43));
            fs::write(proc.path().join("2/stat"), stat).unwrap();
            let found = processes(proc.path());
            assert!(found.verdict == verdict, "{}", found.found);
        }
    }

    #[test]
    fn folder_that_can_be_written_to_is_left_as_it_was_and_one_that_cannot_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let logging_to = |log: &Path| log_in(log, None);
        let to_come = folder.path().join("not/there/yet");
        assert!(logging_to(folder.path()).verdict == Verdict::Ok);
        assert!(logging_to(&to_come).verdict == Verdict::Ok);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        // Not even root can write there.
        for closed in [&file, &file.join("below")] {
            for found in [logging_to(closed), log_in(folder.path(), Some(closed))] {
                let is_told = found.found.starts_with(&format!("{} cannot be written to", closed.display()));
                assert!(found.verdict == Verdict::Broken && is_told, "{}", found.found);
            }
        }
    }

    fn log_in(log_dir: &Path, keys: Option<&Path>) -> Finding {
        let mut settings = Settings { log_dir: log_dir.to_owned(), ..Settings::default() };
        settings.log.key_folder = keys.map(Path::to_owned);
        log(&settings)
    }

    #[test]
    fn probes_cannot_be_kept_in_another_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let found = pins(&folder.path().join("taffrail"));
        assert!(
            found.verdict == Verdict::Broken && found.found.ends_with("in no BPF file system"),
            "{}",
            found.found
        );
    }

    #[test]
    fn containers_that_run_and_are_in_no_file_of_a_runtime_are_told() {
        let (tree, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = tree.path().join("docker").join(ID);
        fs::create_dir_all(own.join("below")).unwrap();
        let layout = Layout::Unified(tree.path().to_owned());
        let root = state.path().join("docker");
        let none =
            Folders { docker: Vec::new(), podman: Vec::new(), containerd: Vec::new(), oci: Vec::new() };
        let folders = Folders { docker: vec![root.display().to_string()], ..none.clone() };
        let look = |folders: &Folders, layout: &Layout| {
            let Finding { verdict, found, .. } = containers(folders, layout);
            (verdict == Verdict::Ok, found)
        };
        // What is left of one that has ended counts for nothing.
        fs::write(own.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        assert_eq!(look(&folders, &layout), (true, "none runs, and there is no folder of a runtime".into()));
        assert_eq!(look(&none, &Layout::None), (false, "there is no folder of a runtime".into()));
        // An empty folder, as the kubelet makes one to mount, is none of a runtime.
        fs::create_dir(&root).unwrap();
        fs::write(own.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        let nameless = format!("1 of 1 are in no file of a runtime, such as {ID} of docker");
        assert_eq!(look(&folders, &layout), (false, nameless.clone()));
        let files = root.join("containers").join(ID);
        fs::create_dir_all(&files).unwrap();
        fs::write(files.join("config.v2.json"), "{").unwrap();
        let (is_ok, found) = look(&folders, &layout);
        assert!(!is_ok && found.starts_with(&format!("{nameless} (")), "{found}");
        fs::write(files.join("config.v2.json"), format!("{{\"ID\":\"{ID}\",\"Name\":\"/web\"}}")).unwrap();
        assert_eq!(look(&folders, &layout), (true, "all 1 that run are in files of their runtimes".into()));
    }
}
