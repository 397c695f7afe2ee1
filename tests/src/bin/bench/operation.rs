//! What is done under watch: an operation or more of each family of hooks. They leave nothing behind, and need root, a
//! loopback interface and no container.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use io_uring::{IoUring, opcode, squeue, types};
use taffrail::enrich::cgroup::Layout;
use taffrail_tests::{raw, syscall};

/// A family of hooks by an operation of it, how many times that is done for one figure, and how to do it that often.
pub type Operation = (&'static str, u32, fn(u32));

/// All of them: first what is no event of any kind.
pub const OPERATIONS: [Operation; 21] = [
    ("getpid: no event", 400_000, getpid),
    ("read 1 byte: no event", 200_000, read),
    ("write 1 byte: only the first is an event", 100_000, write),
    ("mmap + munmap of plain memory: no event", 60_000, map),
    ("io_uring no-op: no event", 60_000, ring_nop),
    ("open + close", 60_000, open),
    ("open by io_uring + close", 20_000, ring_open),
    ("create + unlink", 20_000, unlink),
    ("rename", 40_000, rename),
    ("mount + umount", 1_000, mount),
    ("setresuid", 100_000, setresuid),
    ("prctl(PR_SET_NAME)", 100_000, set_name),
    ("mprotect to executable and back", 60_000, protect),
    ("signal to another process", 60_000, signal),
    ("move to another cgroup and back", 500, move_cgroup),
    ("connect (UDP)", 60_000, connect),
    ("connect + accept + close (Unix)", 20_000, connect_unix),
    ("sendto (UDP, unconnected)", 60_000, send),
    ("DNS query (UDP, port 53)", 20_000, query),
    ("connect + accept + close (TCP)", 6_000, accept),
    ("fork + exec + exit", 150, exec),
];

/// Puts this process into a mount namespace of its own, so that no mount is seen outside.
pub fn prepare() {
    syscall!(libc::SYS_unshare, libc::CLONE_NEWNS).unwrap();
    raw::mount("", "/", "", libc::MS_REC | libc::MS_PRIVATE, "").unwrap();
}

fn getpid(times: u32) {
    for _ in 0..times {
        syscall!(libc::SYS_getpid).unwrap();
    }
}

fn read(times: u32) {
    let mut zero = File::open("/dev/zero").unwrap();
    for _ in 0..times {
        zero.read_exact(&mut [0]).unwrap();
    }
}

fn write(times: u32) {
    let mut file = tempfile::tempfile().unwrap();
    for _ in 0..times {
        file.write_all(b"x").unwrap();
    }
}

const PAGE: usize = 4096;

fn new_page() -> *mut libc::c_void {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, which nobody uses.
    unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, flags, -1, 0) }
}

fn map(times: u32) {
    for _ in 0..times {
        // SAFETY: memory that nobody uses.
        unsafe { libc::munmap(new_page(), PAGE) };
    }
}

fn protect(times: u32) {
    let memory = new_page();
    for _ in 0..times {
        for protection in [libc::PROT_READ | libc::PROT_EXEC, libc::PROT_READ | libc::PROT_WRITE] {
            // SAFETY: memory that nobody uses.
            assert_eq!(unsafe { libc::mprotect(memory, PAGE, protection) }, 0);
        }
    }
    // SAFETY: as above.
    unsafe { libc::munmap(memory, PAGE) };
}

/// Hands in one operation and gives its result.
fn submit(ring: &mut IoUring, entry: &squeue::Entry) -> i32 {
    // SAFETY: callers keep what the entry points to until the result is there.
    unsafe { ring.submission().push(entry) }.unwrap();
    ring.submit_and_wait(1).unwrap();
    ring.completion().next().unwrap().result()
}

fn ring_nop(times: u32) {
    let mut ring = IoUring::new(8).unwrap();
    for _ in 0..times {
        assert_eq!(submit(&mut ring, &opcode::Nop::new().build()), 0);
    }
}

fn ring_open(times: u32) {
    let mut ring = IoUring::new(8).unwrap();
    let entry = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), c"/etc/passwd".as_ptr()).build();
    for _ in 0..times {
        let file = submit(&mut ring, &entry);
        syscall!(libc::SYS_close, file).unwrap();
    }
}

/// Opens a file and closes it.
pub fn open(times: u32) {
    for _ in 0..times {
        drop(File::open("/etc/passwd").unwrap());
    }
}

fn unlink(times: u32) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a");
    for _ in 0..times {
        drop(File::create(&file).unwrap());
        std::fs::remove_file(&file).unwrap();
    }
}

fn rename(times: u32) {
    let folder = tempfile::tempdir().unwrap();
    let names = [folder.path().join("a"), folder.path().join("b")];
    std::fs::write(&names[0], "").unwrap();
    for n in 0..times as usize {
        std::fs::rename(&names[n % 2], &names[1 - n % 2]).unwrap();
    }
}

fn mount(times: u32) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let name = raw::name(place);
    for _ in 0..times {
        raw::mount("bench", place, "tmpfs", 0, "").unwrap();
        syscall!(libc::SYS_umount2, name.as_ptr(), 0).unwrap();
    }
}

fn setresuid(times: u32) {
    for _ in 0..times {
        // -1 leaves all as it is.
        syscall!(libc::SYS_setresuid, u32::MAX, u32::MAX, u32::MAX).unwrap();
    }
}

fn set_name(times: u32) {
    for _ in 0..times {
        syscall!(libc::SYS_prctl, libc::PR_SET_NAME, c"bench".as_ptr()).unwrap();
    }
}

/// The other process ignores it, as by default it does.
fn signal(times: u32) {
    let mut other = Command::new("/bin/sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    for _ in 0..times {
        syscall!(libc::SYS_kill, other.id(), libc::SIGURG).unwrap();
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

fn move_cgroup(times: u32) {
    let layout = Layout::detect();
    let tree = layout.root().unwrap();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let other = tree.join(own).join(format!("taffrail-bench-{}", std::process::id()));
    std::fs::create_dir(&other).unwrap();
    let open =
        |folder: &std::path::Path| File::options().write(true).open(folder.join("cgroup.procs")).unwrap();
    let mut both = [open(&other), open(&tree.join(own))];
    for _ in 0..times {
        both.iter_mut().for_each(|procs| procs.write_all(b"0").unwrap());
    }
    std::fs::remove_dir(&other).unwrap();
}

fn connect(times: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..times {
        socket.connect("127.0.0.1:9").unwrap();
    }
}

fn connect_unix(times: u32) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    for _ in 0..times {
        let socket = UnixStream::connect(&path).unwrap();
        drop(listener.accept().unwrap());
        drop(socket);
    }
}

fn send(times: u32) {
    let (socket, sink) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let peer = sink.local_addr().unwrap();
    for _ in 0..times {
        socket.send_to(b"x", peer).unwrap();
    }
}

/// A question for a name, to an address of the loopback network where nobody answers.
fn query(times: u32) {
    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";
    let (socket, _server) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.53.9:53").unwrap());
    for _ in 0..times {
        socket.send_to(QUESTION, "127.0.53.9:53").unwrap();
    }
}

fn accept(times: u32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..times {
        let socket = TcpStream::connect(address).unwrap();
        drop(listener.accept().unwrap());
        drop(socket);
    }
}

fn exec(times: u32) {
    for _ in 0..times {
        Command::new("/bin/true").stdin(Stdio::null()).status().unwrap();
    }
}
