//! The acting task: who it is, by the kernel's own objects.

use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf,
    bpf_ktime_get_boot_ns,
};
use taffrail_common::event::Header;
use taffrail_common::map::feature;

use crate::read::{feature, kernel, offset, trusted};

/// Inode number of the first pid namespace (`PROC_PID_INIT_INO`).
pub const PID_NS_INIT: u32 = 0xEFFF_FFFC;

/// A task, and whether the verifier lets us load its fields directly.
#[derive(Clone, Copy)]
pub struct Task {
    pub address: *const u8,
    trusted: bool,
}

impl Task {
    /// A task that a `tp_btf` program got as its argument.
    #[inline(always)]
    pub fn argument(address: *const u8) -> Self {
        Self { address, trusted: true }
    }

    /// A task whose address came out of another object.
    #[inline(always)]
    pub fn at(address: *const u8) -> Self {
        Self { address, trusted: false }
    }

    /// The acting task.
    #[inline(always)]
    pub fn current() -> Self {
        if feature(feature::TASK_BTF) {
            // SAFETY: no arguments.
            Self::argument(unsafe { bpf_get_current_task_btf() }.cast())
        } else {
            // SAFETY: no arguments.
            Self::at(unsafe { bpf_get_current_task() } as *const u8)
        }
    }

    /// A field of `struct task_struct`.
    #[inline(always)]
    pub fn field<T: Copy>(self, offset: usize) -> T {
        if self.trusted { trusted(self.address, offset) } else { kernel(self.address, offset) }
    }

    /// The thread that gives the process its id and start time.
    #[inline(always)]
    pub fn leader(self) -> Task {
        Task::at(self.field(offset!(task_group_leader)))
    }

    /// Start of this task since boot, in ns.
    #[inline(always)]
    pub fn start_ns(self) -> u64 {
        self.field(offset!(task_start_boottime))
    }

    /// Id of this task in its own pid namespace, and that namespace's inode number.
    #[inline(always)]
    pub fn ns_pid(self, host_pid: u32) -> (u32, u32) {
        let pid: *const u8 = self.field(offset!(task_thread_pid));
        let level: u32 = kernel(pid, offset!(pid_level));
        if level == 0 {
            return (host_pid, PID_NS_INIT);
        }
        let upid = upid(pid, level);
        let ns: *const u8 = kernel(upid, offset!(upid_ns));
        (kernel(upid, offset!(upid_nr)), kernel(ns, offset!(pid_ns_inum)))
    }

    /// v2 cgroup id of this task.
    #[inline(always)]
    pub fn cgroup_id(self) -> u64 {
        let set: *const u8 = self.field(offset!(task_cgroups));
        let cgroup: *const u8 = kernel(set, offset!(css_set_dfl_cgroup));
        let node: *const u8 = kernel(cgroup, offset!(cgroup_kn));
        kernel(node, offset!(kernfs_node_id))
    }
}

/// The `level`th id of a `struct pid`.
#[inline(always)]
fn upid(pid: *const u8, level: u32) -> *const u8 {
    /// Bytes of `struct upid`: an int, padding, a pointer.
    const UPID_SIZE: usize = 16;
    pid.wrapping_add(offset!(pid_numbers)).wrapping_add(level as usize * UPID_SIZE)
}

/// Id in the host's pid namespace of a `struct pid` (a session, a process group).
#[inline(always)]
pub fn host_nr(pid: *const u8) -> u32 {
    kernel(upid(pid, 0), offset!(upid_nr))
}

/// The acting thread, as the key of maps.
#[inline(always)]
pub fn thread_key() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_pid_tgid() }
}

/// Fills in a record's header but for its length. `task` is the acting task.
///
/// # Safety
/// `header` points to memory of the right size.
#[inline(always)]
pub unsafe fn fill_header(header: *mut Header, kind: u16, flags: u16, cgroup_id: u64, task: Task) {
    let ids = thread_key();
    let (tgid, tid) = ((ids >> 32) as u32, ids as u32);
    let leader = task.leader();
    let (ns_tid, pid_ns) = task.ns_pid(tid);
    let ns_tgid = if tgid == tid { ns_tid } else { leader.ns_pid(tgid).0 };
    let cred: *const u8 = task.field(offset!(task_cred));
    let nsproxy: *const u8 = task.field(offset!(task_nsproxy));
    let mnt_ns: *const u8 = kernel(nsproxy, offset!(nsproxy_mnt_ns));
    // euid and egid are neighbours.
    let [euid, egid]: [u32; 2] = kernel(cred, offset!(cred_euid));
    // SAFETY: the caller's promise; one store per field.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*header).kind = kind;
        (*header).flags = flags;
        (*header).boot_ns = bpf_ktime_get_boot_ns();
        (*header).cgroup_id = cgroup_id;
        (*header).start_ns = leader.start_ns();
        (*header).tgid = tgid;
        (*header).tid = tid;
        (*header).ns_tgid = ns_tgid;
        (*header).ns_tid = ns_tid;
        (*header).euid = euid;
        (*header).egid = egid;
        (*header).pid_ns = pid_ns;
        (*header).mnt_ns = kernel(mnt_ns, offset!(mnt_ns_inum));
        bpf_get_current_comm((&raw mut (*header).comm).cast(), 16);
    }
}
