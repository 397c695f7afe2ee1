//! Another thread changes an argument while the kernel works on the call: what the pointer says afterwards is not what
//! the kernel did.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};

use taffrail_tests::raw::{self, open};
use taffrail_tests::score::Verdict;
use taffrail_tests::syscall;

use crate::scaled;
use crate::stage::{Object, Stage};

/// The kernel's `O_LARGEFILE`, which it adds to every open of a 64-bit program.
const LARGE_FILE: i32 = if cfg!(target_arch = "aarch64") { 0o400000 } else { 0o100000 };

/// Memory that threads write to while the kernel reads it.
struct Shared([AtomicU8; 64]);

impl Shared {
    const fn new() -> Self {
        Self([const { AtomicU8::new(0) }; 64])
    }

    fn set(&self, bytes: &[u8]) {
        for (to, from) in self.0.iter().zip(bytes) {
            to.store(*from, Ordering::Release);
        }
    }

    fn is(&self, bytes: &[u8]) -> bool {
        self.0.iter().zip(bytes).all(|(here, there)| here.load(Ordering::Acquire) == *there)
    }
}

/// Waits until a thread of this process sleeps in the kernel.
fn wait_until_asleep(tid: i32) -> io::Result<()> {
    let file = format!("/proc/self/task/{tid}/stat");
    loop {
        let stat = std::fs::read_to_string(&file)?;
        if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S')) {
            return Ok(());
        }
        std::thread::yield_now();
    }
}

fn gettid() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() }
}

const PIPE: &CStr = c"/tmp/secret";
const DECOY: &CStr = c"/tmp/a-decoy";

#[test]
fn path_that_is_swapped_while_the_call_sleeps_is_the_one_that_was_opened() {
    let Some(stage) = Stage::set("open: path swapped while the call sleeps") else { return };
    let twin = stage.play(|| {
        syscall!(libc::SYS_mknodat, libc::AT_FDCWD, PIPE.as_ptr(), libc::S_IFIFO | 0o600, 0)?;
        std::fs::write("/tmp/a-decoy", "")?;
        Object::of(&open("/tmp/secret", libc::O_RDWR)?)
    });
    let twin = twin.unwrap();
    let tried = stage.play(|| {
        // Opening a pipe sleeps until its other end is opened.
        static PATH: Shared = Shared::new();
        PATH.set(PIPE.to_bytes_with_nul());
        let opener = gettid();
        let swapper = std::thread::spawn(move || {
            wait_until_asleep(opener)?;
            PATH.set(DECOY.to_bytes_with_nul());
            open("/tmp/secret", libc::O_WRONLY)
        });
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let opened = raw::descriptor(syscall!(libc::SYS_openat, libc::AT_FDCWD, &raw const PATH, flags, 0))?;
        let swapped = PATH.is(DECOY.to_bytes_with_nul());
        let _other_end = swapper.join().expect("no panic in there")?;
        Ok((Object::of(&opened)?, swapped))
    });
    let Some(tried) = tried else { return };
    let (object, swapped) = &tried.value;
    assert!(*swapped && *object == twin.value, "the trick did not work: {object:?}");
    let ending = stage.end();
    ending.twin("the open", ending.opened(twin.pid, &twin.value, "/tmp/secret").0 == Verdict::Seen);
    let decoys = ending.by(tried.pid, "open").filter(|record| record["event"]["file"] == "/tmp/a-decoy");
    assert_eq!(decoys.count(), 0, "nobody opened the decoy");
    ending.judge(ending.opened(tried.pid, object, "/tmp/secret"));
}

#[test]
fn paths_that_a_thread_flips_are_counted_as_they_were_opened() {
    let Some(stage) = Stage::set("open: path flipped by a second thread, all the time") else { return };
    const ONE: &CStr = c"/tmp/target-1";
    const TWO: &CStr = c"/tmp/target-2";
    let rounds = scaled(2000);
    let tried = stage.play(|| {
        for path in [ONE, TWO] {
            std::fs::write(path.to_str().unwrap_or_default(), "")?;
        }
        let ino =
            |path: &CStr| -> io::Result<u64> { Ok(Object::of(&open(path.to_bytes(), libc::O_PATH)?)?.ino) };
        let inodes = [ino(ONE)?, ino(TWO)?];
        static PATH: Shared = Shared::new();
        static STOP: AtomicBool = AtomicBool::new(false);
        PATH.set(ONE.to_bytes_with_nul());
        // One byte differs, so no call can find half of each.
        let last = ONE.count_bytes() - 1;
        let flipper = std::thread::spawn(move || {
            while !STOP.load(Ordering::Relaxed) {
                PATH.0[last].fetch_xor(b'1' ^ b'2', Ordering::AcqRel);
            }
        });
        let (mut opened, mut swapped) = ([0u64; 2], 0u64);
        for _ in 0..rounds {
            let before = PATH.0[last].load(Ordering::Acquire);
            let file = syscall!(libc::SYS_openat, libc::AT_FDCWD, &raw const PATH, libc::O_RDONLY, 0);
            let after = PATH.0[last].load(Ordering::Acquire);
            let ino = Object::of(&raw::descriptor(file)?)?.ino;
            let which = usize::from(ino == inodes[1]);
            assert_eq!(ino, inodes[which]);
            opened[which] += 1;
            swapped += u64::from(after != b'1' + which as u8 || before != b'1' + which as u8);
        }
        STOP.store(true, Ordering::Relaxed);
        flipper.join().expect("no panic in there");
        if swapped == 0 {
            return Err(taffrail_tests::sandbox::unsupported("no swap hit the window on this machine"));
        }
        Ok((inodes, opened))
    });
    let Some(tried) = tried else { return };
    let (inodes, opened) = tried.value;
    let ending = stage.end();
    let count = |path: &str, ino: u64| {
        let same = |record: &&serde_json::Value| {
            let event = &record["event"];
            event["file"] == path && event["file_ino"] == ino && event["flags"] == LARGE_FILE
        };
        ending.by(tried.pid, "open").filter(same).count() as u64
    };
    let seen = [count("/tmp/target-1", inodes[0]), count("/tmp/target-2", inodes[1])];
    let lost = ending.lost("open");
    let verdict = match (seen == opened, lost) {
        (true, _) => (Verdict::Seen, "each open under the path of what was opened".to_owned()),
        (false, 1..) => (Verdict::LossReported, "each open, or its loss".to_owned()),
        (false, 0) => (Verdict::Missed, format!("{seen:?} seen, {opened:?} opened")),
    };
    ending.judge(verdict);
}

#[test]
fn name_of_a_failed_open_is_marked_as_what_the_caller_said() {
    let Some(stage) = Stage::set("open: path swapped during an open that fails") else { return };
    let tried = stage.play(|| {
        static PATH: Shared = Shared::new();
        syscall!(libc::SYS_mknodat, libc::AT_FDCWD, PIPE.as_ptr(), libc::S_IFIFO | 0o600, 0)?;
        PATH.set(PIPE.to_bytes_with_nul());
        extern "C" fn nothing(_: i32) {}
        let handler: extern "C" fn(i32) = nothing;
        // SAFETY: all zeros are a valid action; without SA_RESTART the call ends with EINTR.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as usize;
        // SAFETY: the handler does nothing.
        unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
        let (opener, pid) = (gettid(), std::process::id());
        let swapper = std::thread::spawn(move || {
            wait_until_asleep(opener)?;
            PATH.set(DECOY.to_bytes_with_nul());
            syscall!(libc::SYS_tgkill, pid, opener, libc::SIGUSR1)
        });
        let result = syscall!(libc::SYS_openat, libc::AT_FDCWD, &raw const PATH, libc::O_RDONLY, 0);
        swapper.join().expect("no panic in there")?;
        let error = result.err().and_then(|error| error.raw_os_error());
        assert_eq!((error, PATH.is(DECOY.to_bytes_with_nul())), (Some(libc::EINTR), true));
        let _ = open("/tmp/not-there", libc::O_RDONLY);
        Ok(())
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    let failed = |file: &'static str| {
        ending.by(tried.pid, "open").find(|record| {
            record["event"]["file"] == file
                && record["event"]["result"].as_i64().is_some_and(|result| result < 0)
        })
    };
    let is_marked =
        |record: &serde_json::Value| record["event"]["file_flags"] == serde_json::json!(["unverified"]);
    ending.twin("the failed open", failed("/tmp/not-there").is_some_and(is_marked));
    let verdict = match (failed("/tmp/secret"), failed("/tmp/a-decoy")) {
        (Some(_), _) => (Verdict::Seen, "the name that the kernel took".to_owned()),
        (None, Some(record)) if is_marked(record) => {
            (Verdict::Flagged, "the name of afterwards, `unverified`".to_owned())
        }
        _ => (Verdict::Missed, "no failed open".to_owned()),
    };
    ending.judge(verdict);
}

#[test]
fn address_that_is_swapped_while_the_call_sleeps_is_the_one_that_was_connected() {
    let Some(stage) = Stage::with_network("connect: address swapped while the call sleeps") else { return };
    let tried = stage.play(|| {
        static ADDRESS: Shared = Shared::new();
        static REACHED: AtomicI32 = AtomicI32::new(-1);
        // A queue that is full makes the next connect wait until somebody accepts.
        let listener = raw::descriptor(syscall!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0))?;
        let real = ipv4([127, 0, 0, 1], 4444);
        let decoy = ipv4([203, 0, 113, 7], 80);
        syscall!(libc::SYS_bind, listener.as_raw_fd(), real.as_ptr(), 16)?;
        syscall!(libc::SYS_listen, listener.as_raw_fd(), 0)?;
        let _first = std::net::TcpStream::connect(("127.0.0.1", 4444))?;
        ADDRESS.set(&real);
        let (connector, listener) = (gettid(), listener);
        let swapper = std::thread::spawn(move || {
            wait_until_asleep(connector)?;
            ADDRESS.set(&decoy);
            let first = raw::descriptor(syscall!(libc::SYS_accept4, listener.as_raw_fd(), 0, 0, 0))?;
            let second = raw::descriptor(syscall!(libc::SYS_accept4, listener.as_raw_fd(), 0, 0, 0))?;
            REACHED.store(second.as_raw_fd(), Ordering::Release);
            Ok::<_, io::Error>((first, second))
        });
        let socket = raw::descriptor(syscall!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0))?;
        syscall!(libc::SYS_connect, socket.as_raw_fd(), &raw const ADDRESS, 16)?;
        let swapped = ADDRESS.is(&decoy);
        let _ends = swapper.join().expect("no panic in there")?;
        assert!(swapped && REACHED.load(Ordering::Acquire) >= 0, "the trick did not work");
        Ok(socket.as_raw_fd())
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    let connects = |fd: Option<i32>| {
        ending.by(tried.pid, "connect").filter(move |record| {
            let event = &record["event"];
            event["remote_ip"] == "127.0.0.1"
                && event["remote_port"] == 4444
                && event["address_source"] == "socket"
                && fd.is_none_or(|fd| event["fd"] == fd)
        })
    };
    ending.twin("the connect", connects(None).count() >= 1);
    let decoys = ending.by(tried.pid, "connect").filter(|record| record["event"]["remote_port"] == 80);
    assert_eq!(decoys.count(), 0, "nobody connected to the decoy");
    let found = connects(Some(tried.value)).count() == 1;
    ending.judge(crate::stage::seen(found, "the peer that the socket has"));
}

/// A `sockaddr_in`.
pub fn ipv4(address: [u8; 4], port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&address);
    bytes
}
