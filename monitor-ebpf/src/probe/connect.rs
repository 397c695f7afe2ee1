//! `connect`, `bind`, `listen`, `accept`, `dup`: a socket and its addresses. They come from the socket; of a failed
//! connect from the kernel's own copy, taken by the cgroup hook before the attempt.

use aya_ebpf::macros::{btf_tracepoint, cgroup_sock_addr, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, SockAddrContext, TracePointContext};
use core::mem::MaybeUninit;
use core::ptr::read_volatile;
use taffrail_common::call::{FCNTL, FCNTL64, NO_CALL};
use taffrail_common::event::{Connect, Path, Text, header_flag, path_flag, source};
use taffrail_common::kind::{ACCEPT, BIND, CONNECT, DUP, LISTEN};

use super::open::file_of;
use super::syscall::{Ended, in_io_uring, running};
use super::{call, flow, packet};
use crate::emit::{Draft, Lane, count_lost, emit};
use crate::maps::{CONNECTING, Connecting, SCRATCH_SYSCALL};
use crate::path::{self, kernel_path};
use crate::read::{address, kernel, kernel_or, offset, user};
use crate::scope;
use crate::socket::{self, AF_INET, AF_INET6, AF_UNIX, AF_VSOCK, Actor, IPPROTO_TCP, IPPROTO_UDP};
use crate::task::{self, Task};

const EINPROGRESS: i32 = 115;
const IPPROTO_MPTCP: u16 = 262;
const SOCK_STREAM: u16 = 1;
const S_IFMT: u16 = 0o170000;
const S_IFSOCK: u16 = 0o140000;

/// `BPF_CGROUP_INET4_CONNECT`: runs before a connect of an IPv4 socket, by whatever means, with the kernel's copy of
/// the address. It always allows.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context is valid for the program's run.
    let (addr, port) = unsafe { ((*ctx.sock_addr).user_ip4, (*ctx.sock_addr).user_port) };
    connecting(&ctx, Connecting { addr: [addr, 0, 0, 0], port, family: AF_INET as u32, sk: 0 });
    1
}

/// `BPF_CGROUP_INET6_CONNECT`: as [`connect4`], for IPv6.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context is valid for the program's run. The kernel wants one load per word.
    let (addr, port) = unsafe {
        let words = (&raw const (*ctx.sock_addr).user_ip6).cast::<u32>();
        let addr = [
            read_volatile(words),
            read_volatile(words.add(1)),
            read_volatile(words.add(2)),
            read_volatile(words.add(3)),
        ];
        (addr, read_volatile(&raw const (*ctx.sock_addr).user_port))
    };
    connecting(&ctx, Connecting { addr, port, family: AF_INET6 as u32, sk: 0 });
    1
}

/// Of connect(2) it remembers the address for the end of the call. Whatever else connects (io_uring, a send with
/// `MSG_FASTOPEN`, MPTCP's further connections) is told here: nothing else will see it.
#[inline(always)]
fn connecting(ctx: &SockAddrContext, to: Connecting) {
    // SAFETY: the context is valid for the program's run.
    let (sk, ty, protocol) = unsafe {
        (
            address((*ctx.sock_addr).__bindgen_anon_1.sk),
            read_volatile(&raw const (*ctx.sock_addr).type_),
            read_volatile(&raw const (*ctx.sock_addr).protocol),
        )
    };
    let Some(actor) = socket::acting(sk, [CONNECT]) else { return };
    let Err(call) = running(CONNECT) else {
        // An error leaves a failed connect with the caller's copy, which the record then says.
        let _ = CONNECTING.insert(&task::thread_key(), &Connecting { sk: sk as u64, ..to }, 0);
        return;
    };
    scope::count_offered(CONNECT);
    let ends = Ends {
        remote_addr: to.addr,
        remote_port: u16::from_be(to.port as u16),
        family: to.family as u16,
        source: source::KERNEL_COPY,
        ..Ends::NONE
    };
    // How it ends is not known yet.
    tell(CONNECT, actor, sk, &ends, [ty as u16, protocol as u16], (-EINPROGRESS, call));
}

/// A TCP socket began to listen, not by listen(2).
#[inline(always)]
pub fn listens_otherwise(sk: *const u8) {
    let Some(actor) = socket::acting(sk, [LISTEN]) else { return };
    scope::count_offered(LISTEN);
    let ends = addresses(sk, kernel(sk, offset!(sock_family)));
    tell(LISTEN, actor, sk, &ends, [SOCK_STREAM, IPPROTO_TCP], (0, NO_CALL));
}

/// An io_uring gave out a connection at a descriptor.
#[inline(always)]
pub fn accepted_by_ring(task: Task, cgroup_id: u64, fd: i32) {
    let socket = socket_of(file_of(task, fd));
    let sk: *const u8 = if socket.is_null() { socket } else { kernel(socket, offset!(socket_sk)) };
    if sk.is_null() {
        return;
    }
    flow::accepted(sk, cgroup_id, task);
    let family = kernel(sk, offset!(sock_family));
    if !scope::watched(ACCEPT, cgroup_id) || family != AF_INET && family != AF_INET6 {
        return;
    }
    scope::count_offered(ACCEPT);
    let ends = addresses(sk, family);
    let protocol = kernel(sk, offset!(sock_protocol));
    tell(ACCEPT, Actor::task(task, cgroup_id), sk, &ends, [SOCK_STREAM, protocol], (fd, NO_CALL));
}

/// Sends a record of what was done without a call of its own.
#[inline(always)]
fn tell(
    kind: u16,
    actor: Actor,
    sk: *const u8,
    ends: &Ends,
    [socket_type, protocol]: [u16; 2],
    (result, call): (i32, u16),
) {
    let mut record = MaybeUninit::<Connect>::uninit();
    let record = record.as_mut_ptr();
    // SAFETY: it starts with the header.
    unsafe { actor.fill_header(&raw mut (*record).header, kind, sk) };
    if kind == ACCEPT || in_io_uring() {
        // SAFETY: plain store.
        unsafe { (*record).header.flags = header_flag::IO_URING };
    }
    // SAFETY: memory of a record.
    unsafe { fill(record, ends, [socket_type, protocol], (result, call), -1) };
    // SAFETY: all fields are written.
    unsafe { emit(record, Lane::Bulk) };
}

/// Fills in all but the header.
///
/// # Safety
/// `record` points to memory of the right size.
#[inline(always)]
unsafe fn fill(
    record: *mut Connect,
    ends: &Ends,
    [socket_type, protocol]: [u16; 2],
    (result, call): (i32, u16),
    fd: i32,
) {
    // SAFETY: the caller's promise; plain stores.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).path = ends.path;
        (&raw mut (*record).remote_addr).cast::<[u32; 4]>().write(ends.remote_addr);
        (&raw mut (*record).local_addr).cast::<[u32; 4]>().write(ends.local_addr);
        (*record).result = result;
        (*record).fd = fd;
        (*record).remote_port = ends.remote_port;
        (*record).local_port = ends.local_port;
        (*record).family = ends.family;
        (*record).protocol = protocol;
        (*record).socket_type = socket_type;
        (*record).source = ends.source;
        (*record).reserved = 0;
        (*record).call = call as u32;
    }
}

/// connect, bind, listen, accept, or a copy of a descriptor ended.
#[btf_tracepoint(function = "sys_exit")]
pub fn connect(ctx: BtfTracePointContext) -> i32 {
    Ended::of(&ctx, SCRATCH_SYSCALL).map_or(0, done::<true>)
}

/// [`connect`] for kernels without `bpf_loop`.
#[btf_tracepoint(function = "sys_exit")]
pub fn connect_bounded(ctx: BtfTracePointContext) -> i32 {
    Ended::of(&ctx, SCRATCH_SYSCALL).map_or(0, done::<false>)
}

/// [`connect`] of the sort of `syscall_exit_classic`.
#[tracepoint]
pub fn connect_classic(ctx: TracePointContext) -> u32 {
    Ended::of_classic(&ctx, SCRATCH_SYSCALL).map_or(0, done::<true>) as u32
}

/// Makes the event.
#[inline(always)]
pub fn done<const LOOP: bool>(ended: Ended) -> i32 {
    if ended.kind == DUP && !is_remote_stream(&ended) {
        return call::rest_of_nameless::<LOOP>(ended);
    }
    scope::count_offered(ended.kind);
    if capture::<LOOP>(&ended).is_none() {
        count_lost(ended.kind, ended.cgroup_id);
    }
    0
}

/// Whether a copied descriptor made a socket that can reach another machine standard input, output or error.
#[inline(always)]
fn is_remote_stream(ended: &Ended) -> bool {
    const F_DUPFD: u32 = 0;
    const F_DUPFD_CLOEXEC: u32 = 1030;
    const STDERR: i64 = 2;
    let command = ended.arg(2) as u32;
    let copies = !matches!(ended.call, FCNTL | FCNTL64) || command == F_DUPFD || command == F_DUPFD_CLOEXEC;
    if !copies || ended.result < 0 || ended.result > STDERR {
        return false;
    }
    let socket = socket_of(file_of(ended.task, ended.result as i32));
    let sk: *const u8 = if socket.is_null() { socket } else { kernel(socket, offset!(socket_sk)) };
    !sk.is_null() && matches!(kernel(sk, offset!(sock_family)), AF_INET | AF_INET6 | AF_VSOCK)
}

/// What the record says of the two ends.
pub struct Ends {
    pub remote_addr: [u32; 4],
    pub local_addr: [u32; 4],
    pub remote_port: u16,
    pub local_port: u16,
    family: u16,
    source: u8,
    path: Path,
}

impl Ends {
    const NONE: Self = Self {
        remote_addr: [0; 4],
        local_addr: [0; 4],
        remote_port: 0,
        local_port: 0,
        family: 0,
        source: source::NONE,
        path: path::EMPTY,
    };

    /// With the address that the caller gave: of a bind the own one, of a connect the peer's.
    #[inline(always)]
    fn asked(self, kind: u16, addr: [u32; 4], port: u16) -> Self {
        if kind == BIND {
            Self { local_addr: addr, local_port: port, ..self }
        } else {
            Self { remote_addr: addr, remote_port: port, ..self }
        }
    }
}

#[inline(always)]
fn capture<const LOOP: bool>(ended: &Ended) -> Option<()> {
    let (kind, task, result) = (ended.kind, ended.task, ended.result as i32);
    let fd = ended.arg(1) as i32;
    let draft = Draft::<Connect>::begin(ended.scratch)?;
    let record = draft.record();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, kind, ended.flags, ended.cgroup_id, task) };

    // An accept's connection has a socket of its own. What was copied may be closed by now, or be another.
    let accepted = kind == ACCEPT && result >= 0;
    let socket = socket_of(file_of(task, if accepted || kind == DUP { result } else { fd }));
    let sk: *const u8 = if socket.is_null() { socket } else { kernel(socket, offset!(socket_sk)) };
    if accepted && !sk.is_null() {
        flow::accepted(sk, ended.cgroup_id, task);
    }
    if (kind == BIND || kind == CONNECT)
        && result == 0
        && kernel::<u16>(sk, offset!(sock_protocol)) == IPPROTO_UDP
    {
        packet::uses(sk, ended.cgroup_id, task);
    }
    let key = task::thread_key();
    // SAFETY: the value is copied at once; only this thread writes it.
    let remembered = if kind == CONNECT { unsafe { CONNECTING.get(&key) }.copied() } else { None };
    if remembered.is_some() {
        let _ = CONNECTING.remove(&key);
    }
    // Another thread can have put another socket at the descriptor meanwhile. (MPTCP connects by an inner socket.)
    let is_same = match remembered {
        Some(copy) => copy.sk == sk as u64 || kernel::<u16>(sk, offset!(sock_protocol)) == IPPROTO_MPTCP,
        None => true,
    };
    let from_sk = match kind {
        CONNECT => is_same && (result == 0 || result == -EINPROGRESS),
        BIND => result == 0,
        _ => true,
    };
    let ends = match remembered {
        _ if from_sk && !sk.is_null() => from_socket::<LOOP>(&draft, ended, sk),
        Some(copy) => Ends {
            remote_addr: copy.addr,
            remote_port: u16::from_be(copy.port as u16),
            family: copy.family as u16,
            source: source::KERNEL_COPY,
            ..Ends::NONE
        },
        None if kind == CONNECT || kind == BIND => from_caller(&draft, ended),
        None => Ends::NONE,
    };
    let protocol = if sk.is_null() { 0 } else { kernel(sk, offset!(sock_protocol)) };
    let socket_type = if socket.is_null() { 0 } else { kernel(socket, offset!(socket_type)) };
    // SAFETY: the draft's own record.
    unsafe { fill(record, &ends, [socket_type, protocol], (result, ended.call), fd) };
    draft.emit(Lane::Bulk);
    Some(())
}

/// The `struct socket` of an open file, null if the file is none.
#[inline(always)]
fn socket_of(file: *const u8) -> *const u8 {
    let inode: *const u8 = kernel(file, offset!(file_inode));
    if kernel::<u16>(inode, offset!(inode_mode)) & S_IFMT == S_IFSOCK {
        kernel(file, offset!(file_private_data))
    } else {
        core::ptr::null()
    }
}

/// The two ends as the socket has them.
#[inline(always)]
fn from_socket<const LOOP: bool>(draft: &Draft<Connect>, ended: &Ended, sk: *const u8) -> Ends {
    let family: u16 = kernel(sk, offset!(sock_family));
    match family {
        AF_INET | AF_INET6 => addresses(sk, family),
        AF_UNIX => {
            // Of a connection the name that it was made to, which is the listening end's.
            let named = if ended.kind == CONNECT { kernel(sk, offset!(unix_peer)) } else { sk };
            Ends {
                family,
                source: source::SOCKET,
                path: unix_name::<LOOP>(draft, ended, named),
                ..Ends::NONE
            }
        }
        _ => Ends { family, source: source::SOCKET, ..Ends::NONE },
    }
}

/// The two ends of an IPv4 or IPv6 socket.
#[inline(always)]
pub fn addresses(sk: *const u8, family: u16) -> Ends {
    let (remote_addr, local_addr) = match family {
        AF_INET => {
            ([kernel(sk, offset!(sock_daddr)), 0, 0, 0], [kernel(sk, offset!(sock_rcv_saddr)), 0, 0, 0])
        }
        _ => {
            (kernel_or(sk, offset!(sock_v6_daddr), [0; 4]), kernel_or(sk, offset!(sock_v6_rcv_saddr), [0; 4]))
        }
    };
    Ends {
        remote_addr,
        local_addr,
        remote_port: u16::from_be(kernel(sk, offset!(sock_dport))),
        local_port: kernel(sk, offset!(sock_num)),
        family,
        source: source::SOCKET,
        path: path::EMPTY,
    }
}

/// The name that a Unix socket was bound to.
#[inline(always)]
fn unix_name<const LOOP: bool>(draft: &Draft<Connect>, ended: &Ended, sk: *const u8) -> Path {
    let bound = kernel_path(sk, offset!(unix_path));
    if !bound.dentry.is_null() {
        return path::append::<_, LOOP>(draft, bound, path::root(ended.task));
    }
    let address: *const u8 = kernel(sk, offset!(unix_addr));
    if address.is_null() {
        return Path { flags: path_flag::UNREADABLE, ..path::EMPTY };
    }
    // The name follows the address family.
    let len = kernel::<u32>(address, offset!(unix_address_len)).saturating_sub(2);
    let name = address.wrapping_add(offset!(unix_address_name) + 2);
    Path { len: draft.append_kernel(name, len as u64), full_len: len, ..path::EMPTY }
}

/// The address in the caller's memory: all that is left of some failed calls.
#[inline(always)]
fn from_caller(draft: &Draft<Connect>, ended: &Ended) -> Ends {
    let (address, address_len) = (ended.arg(2), ended.arg(3) as u32);
    let mut family = 0u16;
    if !user((&raw mut family).cast(), 2, address) {
        return Ends::NONE;
    }
    let ends = Ends { family, source: source::CALLER, ..Ends::NONE };
    match family {
        AF_INET => {
            // Family, port, address.
            let mut head = [0u32; 2];
            if !user((&raw mut head).cast(), 8, address) {
                return Ends { source: source::NONE, ..ends };
            }
            let port = u16::from_be((head[0] >> 16) as u16);
            ends.asked(ended.kind, [head[1], 0, 0, 0], port)
        }
        AF_INET6 => {
            // Family, port, flow, address.
            let mut head = [0u32; 6];
            if !user((&raw mut head).cast(), 24, address) {
                return Ends { source: source::NONE, ..ends };
            }
            let port = u16::from_be((head[0] >> 16) as u16);
            ends.asked(ended.kind, [head[2], head[3], head[4], head[5]], port)
        }
        AF_UNIX => {
            /// Bytes of `sockaddr_un.sun_path`.
            const SUN_PATH: u32 = 108;
            let mut first = 0u8;
            let len = address_len.saturating_sub(2).min(SUN_PATH);
            let readable = len > 0 && user(&raw mut first, 1, address + 2);
            let name = match (readable, first) {
                (false, _) => Text { len: 0, full_len: 0 },
                (true, 0) => draft.append_user(address + 2, len as u64),
                (true, _) => draft.append_user_str(address + 2),
            };
            let flags = path_flag::UNVERIFIED | if readable { 0 } else { path_flag::UNREADABLE };
            Ends { path: Path { len: name.len, full_len: name.full_len, flags, ..path::EMPTY }, ..ends }
        }
        _ => ends,
    }
}
