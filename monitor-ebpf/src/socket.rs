//! A socket by itself: whose cgroup it is of, and what to say where nobody is known to use it.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use taffrail_common::event::Header;

use crate::read::{kernel, offset};
use crate::scope;
use crate::task::{self, Task};

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const AF_VSOCK: u16 = 40;
pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_UDP: u16 = 17;

/// Cgroup id that a `struct sock` was made in (of an accepted one: that of the one that listens); 0 if the
/// kernel does not tell, as of hierarchies of v1.
#[inline(always)]
pub fn cgroup_id(sk: *const u8) -> u64 {
    /// Before 5.15: the word is no pointer, since `net_cls` or `net_prio` of cgroup v1 use it.
    const OTHER_USE: u64 = 3;
    let cgroup: u64 = kernel(sk, offset!(sock_cgroup));
    if cgroup & OTHER_USE != 0 || scope::hierarchy() != 0 {
        return 0;
    }
    let node: *const u8 = kernel(cgroup as *const u8, offset!(cgroup_kn));
    kernel(node, offset!(kernfs_node_id))
}

/// Who acts on a socket.
#[derive(Clone, Copy)]
pub struct Actor {
    /// The acting task; `None`: a kernel thread that works for the socket's user, who is not known.
    task: Option<Task>,
    /// The cgroup that the event is of.
    pub cgroup_id: u64,
}

impl Actor {
    /// The acting task.
    #[inline(always)]
    pub fn task(task: Task, cgroup_id: u64) -> Self {
        Self { task: Some(task), cgroup_id }
    }

    /// The acting task, or the socket's cgroup if it is a kernel thread: MPTCP makes connections by those, and before
    /// 5.12 so does io_uring.
    #[inline(always)]
    pub fn of(sk: *const u8, own_cgroup_id: u64) -> Self {
        let task = Task::current();
        if task.is_kernel_thread() {
            let cgroup_id = cgroup_id(sk);
            if cgroup_id != own_cgroup_id {
                return Self { task: None, cgroup_id };
            }
        }
        Self { task: Some(task), cgroup_id: own_cgroup_id }
    }

    /// Fills in a record's header but for its length.
    ///
    /// # Safety
    /// `header` points to memory of the right size.
    #[inline(always)]
    pub unsafe fn fill_header(self, header: *mut Header, kind: u16, sk: *const u8) {
        match self.task {
            // SAFETY: the caller's promise.
            Some(task) => unsafe { task::fill_header(header, kind, 0, self.cgroup_id, task) },
            // SAFETY: the caller's promise.
            None => unsafe { fill_nobody(header, kind, self.cgroup_id, sk) },
        }
    }
}

/// Fills in the header of an event of which only the socket is known: process 0.
///
/// # Safety
/// `header` points to memory of the right size.
#[inline(always)]
pub unsafe fn fill_nobody(header: *mut Header, kind: u16, cgroup_id: u64, sk: *const u8) {
    // SAFETY: the caller's promise; one store per field.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*header).len = 0;
        (*header).kind = kind;
        (*header).flags = 0;
        (*header).boot_ns = bpf_ktime_get_boot_ns();
        (*header).cgroup_id = cgroup_id;
        (*header).start_ns = 0;
        (*header).tgid = 0;
        (*header).tid = 0;
        (*header).ns_tgid = 0;
        (*header).ns_tid = 0;
        // The user that made the socket.
        (*header).euid = kernel(sk, offset!(sock_uid));
        (*header).egid = u32::MAX;
        (*header).pid_ns = 0;
        (*header).mnt_ns = 0;
        (&raw mut (*header).comm).cast::<[u64; 2]>().write_unaligned([0; 2]);
    }
}

/// Who acts on a socket if that is watched for one of the kinds, as [`scope::watched`] says.
#[inline(always)]
pub fn acting<const N: usize>(sk: *const u8, kinds: [u16; N]) -> Option<Actor> {
    let actor = Actor::of(sk, scope::cgroup_id());
    kinds.iter().any(|kind| scope::watched(*kind, actor.cgroup_id)).then_some(actor)
}
