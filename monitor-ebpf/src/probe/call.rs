//! System calls that are events by themselves: their arguments, and the objects behind those. One program for
//! all kinds that `monitor-common/src/call.rs` lists with this record.

use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use core::ptr::write_volatile;
use taffrail_common::call::{CallShape, FALLOCATE, filter};
use taffrail_common::event::{Call, Path, Text, header_flag};
use taffrail_common::kind::{BPF, SYSCALL, WRITE};
use taffrail_common::map::Written;

use super::open::{asked_name, base, file_of};
use super::strong::{kept, object};
use super::syscall::Ended;
use crate::emit::{Draft, count_lost, lane};
use crate::maps::{SCRATCH_SYSCALL, WRITTEN};
use crate::path;
use crate::read::{address, kernel, mask, offset, unknown, user};
use crate::{scope, task};

/// A call with the record [`Call`] ended.
#[btf_tracepoint(function = "sys_exit")]
pub fn call(ctx: BtfTracePointContext) -> i32 {
    Ended::of(&ctx, SCRATCH_SYSCALL).map_or(0, done::<true>)
}

/// [`call`] for kernels without `bpf_loop`.
#[btf_tracepoint(function = "sys_exit")]
pub fn call_bounded(ctx: BtfTracePointContext) -> i32 {
    Ended::of(&ctx, SCRATCH_SYSCALL).map_or(0, done::<false>)
}

/// [`call`] of the sort of `syscall_exit_classic`.
#[tracepoint]
pub fn call_classic(ctx: TracePointContext) -> u32 {
    Ended::of_classic(&ctx, SCRATCH_SYSCALL).map_or(0, done::<true>) as u32
}

/// Makes the event.
#[inline(always)]
pub fn done<const LOOP: bool>(mut ended: Ended) -> i32 {
    let file = match (ended.shape.filter, ended.shape.fd) {
        (filter::PASSED_FILE, _) => file_of(ended.task, passed(&ended)),
        (filter::TAKEN_FILE, _) => file_of(ended.task, ended.result as i32),
        (_, 0) => core::ptr::null(),
        (_, place) => file_of(ended.task, ended.arg(place) as i32),
    };
    if is_own(&ended) {
        return 0;
    }
    if !is_event(&ended, file) {
        if !is_chosen(&ended) {
            return 0;
        }
        ended.kind = SYSCALL;
    }
    scope::count_offered(ended.kind);
    let (ended, file) = (ended.anew(), address(file.cast_mut()));
    if capture::<LOOP>(&ended, file).is_none() {
        count_lost(ended.kind, ended.cgroup_id);
    }
    0
}

/// Whether a call that its filter does not let pass was asked for by its name.
#[inline(always)]
fn is_chosen(ended: &Ended) -> bool {
    ended.shape.rest != 0 && scope::watched(SYSCALL, ended.cgroup_id)
}

/// Makes the event of a call that names nothing and is none of its kind, if it was asked for by its name.
#[inline(always)]
pub fn rest_of_nameless<const LOOP: bool>(mut ended: Ended) -> i32 {
    if !is_chosen(&ended) {
        return 0;
    }
    scope::count_offered(SYSCALL);
    // VERIFIER: with these the walks of paths are not there at all.
    ended.shape = CallShape { dir: 0, file: 0, target_dir: 0, target: 0, text: 0, ..ended.shape };
    ended.kind = SYSCALL;
    if capture::<LOOP>(&ended, core::ptr::null()).is_none() {
        count_lost(SYSCALL, ended.cgroup_id);
    }
    0
}

const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
const MAP_SHARED: u64 = 1;
const MAP_ANONYMOUS: u64 = 0x20;
const S_IFMT: u16 = 0o170000;
const S_IFREG: u16 = 0o100000;

/// Whether it is the daemon's own BPF call or write.
#[inline(always)]
fn is_own(ended: &Ended) -> bool {
    matches!(ended.kind, BPF | WRITE) && ended.task.is_daemon()
}

/// Whether the call passes its filter.
#[inline(always)]
fn is_event(ended: &Ended, file: *const u8) -> bool {
    let CallShape { filter, filtered, mask, .. } = ended.shape;
    if filter == filter::NONE {
        return true;
    }
    // Arguments that lie in the caller's memory can have been changed since the kernel looked at them.
    if ended.in_memory && matches!(filter, filter::MAPPING | filter::UNUSUAL_SOCKET) {
        return true;
    }
    let filtered = ended.arg(filtered);
    match filter {
        filter::ANY_BIT => filtered & mask != 0,
        // The kernel too looks at the lower half only.
        filter::IN_SET => {
            let number = filtered as u32;
            mask >> (if number > 63 { 63 } else { number }) & 1 != 0
        }
        filter::PASSED_FILE => !file.is_null(),
        filter::TAKEN_FILE => true,
        filter::FIRST_WRITE => {
            (ended.result > 0 || ended.call == FALLOCATE && ended.result == 0) && is_first_write(file)
        }
        filter::MAPPING => {
            let (protection, flags) = (ended.arg(3), ended.arg(4));
            let (anonymous, shared) = (flags & MAP_ANONYMOUS != 0, flags & MAP_SHARED != 0);
            protection & PROT_EXEC != 0
                && (anonymous || shared || protection & PROT_WRITE != 0 || is_unlinked(file))
                || protection & PROT_WRITE != 0 && shared && !anonymous
        }
        filter::UNUSUAL_SOCKET => {
            // AF_UNIX, AF_INET, AF_INET6, AF_NETLINK.
            const USUAL: u64 = 1 << 1 | 1 << 2 | 1 << 10 | 1 << 16;
            const SOCK_RAW: u32 = 3;
            const SOCK_SEQPACKET: u32 = 5;
            const SOCK_PACKET: u32 = 10;
            const AF_NETLINK: u32 = 16;
            // Those that have events of their own: none given, TCP, UDP.
            const SEEN_PROTOCOLS: u64 = 1 | 1 << 6 | 1 << 17;
            let (family, ty, protocol) =
                (ended.arg(1) as u32, ended.arg(2) as u32 & 0xf, ended.arg(3) as u32);
            let is_inet = family == 2 || family == 10;
            family > 63
                || USUAL >> (family & 63) & 1 == 0
                || (ty == SOCK_RAW || ty == SOCK_PACKET) && family != AF_NETLINK
                // ICMP, SCTP, MPTCP …; SCTP is also the default of this type.
                || is_inet && (protocol > 63 || SEEN_PROTOCOLS >> (protocol & 63) & 1 == 0 || ty == SOCK_SEQPACKET)
        }
        _ => false,
    }
}

/// Whether a file has no name: a memfd, or deleted.
#[inline(always)]
fn is_unlinked(file: *const u8) -> bool {
    let inode: *const u8 = kernel(file, offset!(file_inode));
    !file.is_null() && kernel::<u32>(inode, offset!(inode_nlink)) == 0
}

/// The first descriptor that came with a message, -1 if none did.
#[inline(always)]
fn passed(ended: &Ended) -> i32 {
    const NONE: i32 = -1;
    if ended.result < 0 {
        return NONE;
    }
    // `msg_control` and `msg_controllen` of `struct msghdr`, which a `struct mmsghdr` starts with.
    let message = ended.arg(2);
    if ended.flags & header_flag::COMPAT != 0 {
        let mut words = [0u32; 2];
        let read = user((&raw mut words).cast(), 8, message.wrapping_add(16));
        if read { first_descriptor::<4>(words[0] as u64, words[1] as u64) } else { NONE }
    } else {
        let mut words = [0u64; 2];
        let read = user((&raw mut words).cast(), 16, message.wrapping_add(32));
        if read { first_descriptor::<8>(words[0], words[1]) } else { NONE }
    }
}

/// The first descriptor in control messages whose lengths have `WORD` bytes, -1 if there is none.
#[inline(always)]
fn first_descriptor<const WORD: u64>(control: u64, len: u64) -> i32 {
    const SOL_SOCKET_SCM_RIGHTS: [u32; 2] = [1, 1];
    /// Credentials, the security context, a pidfd, time stamps … can come with the descriptors.
    const MESSAGES: u32 = 8;
    let mut at = 0;
    for _ in 0..MESSAGES {
        if len < at + WORD + 12 {
            break;
        }
        // Length (of which the lower half is enough), level, type, data of `struct cmsghdr`.
        let (mut message_len, mut words) = (0u32, [0u32; 3]);
        if !user((&raw mut message_len).cast(), 4, control.wrapping_add(at))
            || !user((&raw mut words).cast(), 12, control.wrapping_add(at + WORD))
        {
            break;
        }
        if [words[0], words[1]] == SOL_SOCKET_SCM_RIGHTS {
            return words[2] as i32;
        }
        at = unknown(at + (message_len as u64 + (WORD - 1) & !(WORD - 1)));
    }
    -1
}

/// Whether nothing was written to that open regular file before.
#[inline(always)]
pub fn is_first_write(file: *const u8) -> bool {
    let inode: *const u8 = kernel(file, offset!(file_inode));
    if kernel::<u16>(inode, offset!(inode_mode)) & S_IFMT != S_IFREG {
        return false;
    }
    let key = file as u64;
    let written = Written { inode: inode as u64, ino: kernel(inode, offset!(inode_ino)) };
    // SAFETY: the value is copied at once.
    let known = unsafe { WRITTEN.get(&key) }.copied();
    // Another file may have its place by now.
    if known.is_some_and(|known| known.inode == written.inode && known.ino == written.ino) {
        return false;
    }
    // An error only makes the next write an event too.
    let _ = WRITTEN.insert(&key, &written, 0);
    true
}

/// Begins anew for a file that was just opened: another one with its place may have been written.
#[inline(always)]
pub fn forget_writes(file: *const u8) {
    const O_ACCMODE: u32 = 3;
    if !file.is_null() && kernel::<u32>(file, offset!(file_flags)) & O_ACCMODE != 0 {
        let _ = WRITTEN.remove(&(file as u64));
    }
}

#[inline(always)]
fn capture<const LOOP: bool>(ended: &Ended, opened: *const u8) -> Option<()> {
    let draft = Draft::<Call>::begin(ended.scratch)?;
    let record = draft.record();
    // SAFETY: the record starts with its header.
    unsafe {
        task::fill_header(&raw mut (*record).header, ended.kind, ended.flags, ended.cgroup_id, ended.task)
    };
    let CallShape { dir, file, target_dir, target, text, .. } = ended.shape;
    // The passed file, or what a null name stands for: the directory's descriptor itself.
    let unnamed = opened.is_null() && file != 0 && dir != 0 && ended.arg(file) == 0;
    let object = if unnamed { file_of(ended.task, ended.arg(dir) as i32) } else { opened };
    // What the kernel resolved, before what the caller gave.
    let is_kept = kept(ended.kind);
    let objects = if is_kept && object.is_null() { object::of_call(ended) } else { None };
    let (file, walked_base, mode) = match objects {
        Some((head, text)) if head.file.flags != 0 => {
            let len = draft.append_kernel(text, head.file.len as u64);
            (Path { len, ..head.file }, path::EMPTY, head.mode)
        }
        _ if object.is_null() => {
            let (file, base) = name::<LOOP>(&draft, ended, dir, file);
            (file, base, 0)
        }
        _ => {
            let inode: *const u8 = kernel(object, offset!(file_inode));
            let path =
                path::append_inode::<_, LOOP>(&draft, path::of_file(object), path::root(ended.task), inode);
            (path, path::EMPTY, kernel::<u16>(inode, offset!(inode_mode)) as u32)
        }
    };
    // VERIFIER: what lies in the record is no state any more; what lies in registers would be one for each way here,
    // each to be followed through the second walk.
    // SAFETY: within the record.
    unsafe { write_volatile(&raw mut (*record).file, file) };
    // SAFETY: as above.
    unsafe { write_volatile(&raw mut (*record).base, walked_base) };
    // SAFETY: as above.
    unsafe { write_volatile(&raw mut (*record).mode, mode) };
    let (target, target_base) = match objects {
        Some((head, text)) if head.target.flags != 0 => {
            let text = text.wrapping_add(mask::<0xfff>(head.file.len as u64) as usize);
            let len = draft.append_kernel(text, head.target.len as u64);
            (Path { len, ..head.target }, path::EMPTY)
        }
        _ => name::<LOOP>(&draft, ended, target_dir, target),
    };
    if is_kept {
        object::forget();
    }
    let text = if text == 0 { Text { len: 0, full_len: 0 } } else { draft.append_user_str(ended.arg(text)) };
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).target = target;
        (*record).target_base = target_base;
        (*record).text = text;
        (*record).args = ended.args();
        (*record).result = ended.result;
        (*record).call = ended.call as u32;
    }
    draft.emit(lane(ended.kind));
    Some(())
}

/// The name at a place of the arguments as the caller gave it, and the directory that it is relative to.
#[inline(always)]
fn name<const LOOP: bool>(draft: &Draft<Call>, ended: &Ended, dir: u8, name: u8) -> (Path, Path) {
    let address = ended.arg(name);
    if name == 0 || address == 0 {
        return (path::EMPTY, path::EMPTY);
    }
    let (name, relative) = asked_name(draft, address);
    if !relative {
        return (name, path::EMPTY);
    }
    let dir = if dir == 0 { path::cwd(ended.task) } else { base(ended.task, ended.arg(dir) as i32) };
    (name, path::append::<_, LOOP>(draft, dir, path::root(ended.task)))
}
