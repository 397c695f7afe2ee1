//! Programs that are started so that another one, or none, seems to run.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use taffrail_tests::raw::{self, name, open};
use taffrail_tests::sandbox::{in_child, unsupported};
use taffrail_tests::score::Verdict;
use taffrail_tests::syscall;

use crate::stage::{Ending, Object, Stage, seen};

/// The program of a few instructions that each sandbox has.
const PROGRAM: &str = "/bin/program";

/// Pointers to texts, ended by null, as exec takes them.
struct Texts {
    _texts: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Texts {
    fn new(texts: &[&str]) -> Self {
        let texts: Vec<CString> = texts.iter().map(|text| name(*text)).collect();
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _texts: texts, pointers }
    }

    fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }
}

/// Starts a program plainly in a child; gives the child's id in the sandbox.
pub fn execute(path: &str, arguments: &[&str]) -> io::Result<i32> {
    let (path, arguments, environment) = (name(path), Texts::new(arguments), Texts::new(&[]));
    started(|| syscall!(libc::SYS_execve, path.as_ptr(), arguments.as_ptr(), environment.as_ptr()))
}

/// Runs a closure that execs in a child; gives the child's id in the sandbox once the program has ended well.
fn started(exec: impl FnOnce() -> io::Result<i64>) -> io::Result<i32> {
    let (child, status) = in_child(|| exec().err().and_then(|error| error.raw_os_error()).unwrap_or(1))?;
    if status != 0 {
        let error = io::Error::from_raw_os_error(libc::WEXITSTATUS(status));
        return Err(io::Error::other(format!("the program did not run: {status:#x}, {error}")));
    }
    Ok(child)
}

fn exec_of(ending: &Ending, vpid: i32) -> Option<&Value> {
    ending.by_vpid(vpid, "exec").last().map(|record| &record["event"])
}

/// Plays a trick that starts a program in a child, beside a plain start.
#[track_caller]
fn start(
    trick: &'static str,
    part: impl FnOnce() -> io::Result<i32>,
    judge: impl FnOnce(&Value) -> (Verdict, String),
) {
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(|| execute(PROGRAM, &["plain"])).unwrap();
    let Some(tried) = stage.play(part) else { return };
    let ending = stage.end();
    let plain = exec_of(&ending, twin.value);
    ending.twin(
        "the exec",
        plain.is_some_and(|exec| exec["exe"] == PROGRAM && exec["args"] == json!(["plain"])),
    );
    let verdict = match exec_of(&ending, tried.value) {
        Some(exec) => judge(exec),
        None if ending.lost("exec") > 0 => {
            (Verdict::LossReported, "lost, and the gap record says so".to_owned())
        }
        None => (Verdict::Missed, "no exec".to_owned()),
    };
    ending.judge(verdict);
}

#[test]
fn program_in_a_memfd_is_told_to_be_in_memory_only() {
    start(
        "exec: memfd and fexecve",
        || {
            let label = name("kworker");
            let file =
                std::fs::File::from(raw::descriptor(syscall!(libc::SYS_memfd_create, label.as_ptr(), 0))?);
            io::Write::write_all(&mut &file, &raw::program())?;
            let (empty, arguments) = (name(""), Texts::new(&["[kworker/0:1]"]));
            let fd = file.as_raw_fd();
            started(|| {
                syscall!(
                    libc::SYS_execveat,
                    fd,
                    empty.as_ptr(),
                    arguments.as_ptr(),
                    Texts::new(&[]).as_ptr(),
                    libc::AT_EMPTY_PATH
                )
            })
        },
        |exec| {
            let detached =
                exec["exe_flags"].as_array().is_some_and(|flags| flags.contains(&json!("detached")));
            seen(exec["exe"] == "/memfd:kworker" && detached, "as `/memfd:kworker`, detached")
        },
    );
}

#[test]
fn program_that_was_deleted_before_it_ran_is_told() {
    start(
        "exec: file that is deleted before it runs",
        || {
            std::fs::copy(PROGRAM, "/tmp/gone")?;
            let file = open("/tmp/gone", libc::O_PATH)?;
            std::fs::remove_file("/tmp/gone")?;
            let (empty, arguments) = (name(""), Texts::new(&["gone"]));
            started(|| {
                let environment = Texts::new(&[]);
                let (fd, flags) = (file.as_raw_fd(), libc::AT_EMPTY_PATH);
                let (arguments, environment) = (arguments.as_ptr(), environment.as_ptr());
                syscall!(libc::SYS_execveat, fd, empty.as_ptr(), arguments, environment, flags)
            })
        },
        |exec| {
            let deleted = exec["exe_flags"].as_array().is_some_and(|flags| flags.contains(&json!("deleted")));
            seen(exec["exe"] == "/tmp/gone" && deleted, "as `/tmp/gone`, deleted")
        },
    );
}

/// The dynamic loader of this machine, and what a dynamic program of it needs.
const LOADERS: &[&str] = &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
const LIBRARIES: &[&str] = &[
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/usr/lib/libc.so.6",
    "/lib/aarch64-linux-gnu/libc.so.6",
];

#[test]
fn program_that_the_loader_runs_is_seen_as_its_argument_and_as_an_open() {
    let trick = "exec: loader runs the program (ld.so ./x)";
    let Some(stage) = Stage::set(trick) else { return };
    let find = |paths: &'static [&str]| paths.iter().find(|path| Path::new(path).exists());
    let (Some(loader), Some(library)) = (find(LOADERS), find(LIBRARIES)) else {
        return stage.skip("this machine has no dynamic loader");
    };
    let Ok(program) = std::fs::read("/bin/true") else { return stage.skip("this machine has no /bin/true") };
    for (from, to) in [(*loader, "ld.so"), (*library, "libc.so.6")] {
        std::fs::copy(from, stage.sandbox.root().join("tmp").join(to)).unwrap();
    }
    std::fs::write(stage.sandbox.root().join("tmp/innocent"), program).unwrap();
    let tried = stage.play(|| {
        std::fs::set_permissions("/tmp/ld.so", std::fs::Permissions::from_mode(0o755))?;
        // The program need not even be executable.
        let object = Object::of(&open("/tmp/innocent", libc::O_PATH)?)?;
        let vpid = execute("/tmp/ld.so", &["ld.so", "--library-path", "/tmp", "/tmp/innocent"])
            .map_err(unsupported)?;
        Ok((vpid, object))
    });
    let Some(tried) = tried else { return };
    let (vpid, object) = &tried.value;
    let ending = stage.end();
    let loaded = exec_of(&ending, *vpid).is_some_and(|exec| {
        exec["exe"] == "/tmp/ld.so"
            && exec["args"].as_array().is_some_and(|args| args.contains(&json!("/tmp/innocent")))
    });
    let opened = ending.opened_among(ending.by_vpid(*vpid, "open").collect(), object, "/tmp/innocent").0;
    let found = loaded && opened == Verdict::Seen;
    ending.judge(seen(found, "the loader's exec with its arguments, and the open of the program"));
}

#[test]
fn script_is_told_from_its_interpreter_through_a_chain() {
    start(
        "exec: script whose interpreter is a script",
        || {
            for (path, line) in [("/tmp/outer", "#!/tmp/inner\n"), ("/tmp/inner", "#!/bin/program\n")] {
                std::fs::write(path, line)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
            }
            execute("/tmp/outer", &["outer"])
        },
        |exec| {
            let args = exec["args"] == json!(["/bin/program", "/tmp/inner", "/tmp/outer"]);
            let right = exec["exe"] == PROGRAM && exec["filename"] == "/tmp/outer" && args;
            seen(right, "script, interpreter, and the chain in the arguments")
        },
    );
}

#[test]
fn script_that_is_given_to_a_shell_is_an_argument_and_an_open() {
    let trick = "exec: script given to its interpreter";
    let Some(stage) = Stage::set(trick) else { return };
    let tried = stage.play(|| {
        if !Path::new("/bin/sh").exists() {
            return Err(unsupported("this machine has no busybox"));
        }
        std::fs::write("/tmp/script", "true\n")?;
        let object = Object::of(&open("/tmp/script", libc::O_PATH)?)?;
        Ok((execute("/bin/sh", &["sh", "/tmp/script"])?, object))
    });
    let Some(tried) = tried else { return };
    let (vpid, object) = &tried.value;
    let ending = stage.end();
    let argument = exec_of(&ending, *vpid).is_some_and(|exec| exec["args"] == json!(["sh", "/tmp/script"]));
    let opened = ending.opened_among(ending.by_vpid(*vpid, "open").collect(), object, "/tmp/script").0;
    ending.judge(seen(argument && opened == Verdict::Seen, "the argument, and the open of the script"));
}

#[test]
fn arguments_beyond_every_bound_are_told_with_their_true_length() {
    let padding = "x".repeat(100_000);
    start(
        "exec: arguments padded with 100,000 bytes before the one that counts",
        || execute(PROGRAM, &["program", &padding, "--the-one-that-counts"]),
        |exec| {
            let bytes = "program".len() + 1 + padding.len() + 1 + "--the-one-that-counts".len() + 1;
            if exec["exe"] == PROGRAM && exec["args_full_bytes"] == bytes && exec["arg_count"] == 3 {
                let note = "program, first 4,095 bytes, number and true length of the arguments";
                return (Verdict::Flagged, note.to_owned());
            }
            (Verdict::Missed, "the cut is not told".to_owned())
        },
    );
}

#[test]
fn program_without_any_argument_is_seen() {
    start(
        "exec: empty argument list",
        || execute(PROGRAM, &[]),
        |exec| seen(exec["exe"] == PROGRAM && exec["filename"] == PROGRAM, "the program"),
    );
}

#[test]
fn exec_by_another_thread_than_the_first_is_the_processs() {
    start(
        "exec: by another thread than the first",
        || {
            let (path, arguments) = (name(PROGRAM), "thread");
            started(|| {
                let thread = std::thread::spawn(move || {
                    let arguments = Texts::new(&[arguments]);
                    let environment = Texts::new(&[]);
                    let (arguments, environment) = (arguments.as_ptr(), environment.as_ptr());
                    syscall!(libc::SYS_execve, path.as_ptr(), arguments, environment)
                });
                thread.join().unwrap_or(Ok(0))
            })
        },
        |exec| {
            seen(exec["exe"] == PROGRAM && exec["exec_tid"].is_u64(), "the process, and which thread it was")
        },
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn exec_by_the_32_bit_entry_is_an_exec() {
    use taffrail_tests::raw::compat::{call, low, unavailable};
    start(
        "exec: 32-bit entry",
        || {
            unavailable().map_or(Ok(()), |reason| Err(unsupported(reason)))?;
            const EXECVE: u32 = 11;
            started(|| {
                let path = low(b"/bin/program\0")?;
                let argument = low(b"compat\0")?;
                let arguments = low(&[argument.to_le_bytes(), [0; 4]].concat())?;
                let environment = low(&[0; 4])?;
                call(EXECVE, &[path, arguments, environment])
            })
        },
        |exec| seen(exec["exe"] == PROGRAM && exec["args"] == json!(["compat"]), "program and arguments"),
    );
}

#[test]
fn process_that_renames_itself_keeps_its_program_and_its_arguments() {
    let trick = "process: name and argument memory overwritten";
    let Some(stage) = Stage::set(trick) else { return };
    let tried = stage.play(|| {
        let name = c"sshd";
        syscall!(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr())?;
        // Fields 48 and 49 of /proc/self/stat are where the arguments start and end; the third follows the name.
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let address = |n: usize| fields.get(n - 3).and_then(|field| field.parse::<usize>().ok());
        let (Some(start), Some(end)) = (address(48), address(49)) else {
            return Err(unsupported("no addresses of the arguments in /proc/self/stat"));
        };
        for at in start..end {
            // SAFETY: the arguments of this process, which nobody reads any more.
            unsafe { (at as *mut u8).write_volatile(b'#') };
        }
        let cmdline = std::fs::read("/proc/self/cmdline")?;
        assert!(cmdline.starts_with(b"###"), "the arguments were not overwritten: {cmdline:?}");
        let exe = std::fs::read_link("/proc/self/exe")?;
        Ok((Object::of(&open("/etc/shadow", libc::O_RDONLY)?)?, exe.to_string_lossy().into_owned()))
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    let own: Vec<&Value> = ending.by(tried.pid, "open").collect();
    let opened = ending.opened_among(own.clone(), &tried.value.0, "/etc/shadow").0;
    let last = own.last().map(|record| &record["process"]);
    let right = last.is_some_and(|process| {
        let exe = process["exe"].as_str().unwrap_or_default();
        let kept = !process["cmdline"].as_str().unwrap_or_default().contains("###");
        process["name"] == "sshd"
            && Path::new(exe).file_name() == Path::new(&tried.value.1).file_name()
            && kept
    });
    ending.judge(seen(opened == Verdict::Seen && right, "the new name, the real program and arguments"));
}
