//! The acting task: who it is, by the kernel's own objects.

use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf, bpf_ktime_get_boot_ns,
    bpf_probe_read_kernel_str, bpf_task_pt_regs,
};
use taffrail_common::event::Header;
use taffrail_common::map::feature;

use crate::maps::{HIERARCHY, SELF};
use crate::read::{constant, feature, kernel, offset, trusted};
use crate::scope;

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

    /// Whether it is the kernel's own, without a user's program.
    #[inline(always)]
    pub fn is_kernel_thread(self) -> bool {
        const PF_KTHREAD: u32 = 0x0020_0000;
        self.field::<u32>(offset!(task_flags)) & PF_KTHREAD != 0
    }

    /// Whether it works for io_uring: with its process's id, but not at the process's call.
    #[inline(always)]
    pub fn is_io_worker(self) -> bool {
        const PF_IO_WORKER: u32 = 0x10;
        self.field::<u32>(offset!(task_flags)) & PF_IO_WORKER != 0
    }

    /// The registers of the system call that it is in, null if it can be in none: it works for io_uring.
    #[inline(always)]
    pub fn call_registers(self) -> *const u8 {
        /// `PF_KTHREAD`, `PF_IO_WORKER`, `PF_USER_WORKER`: their registers are copies of their maker's.
        const WORKERS: u32 = 0x0020_0000 | 0x10 | 0x4000;
        if self.field::<u32>(offset!(task_flags)) & WORKERS != 0 {
            return core::ptr::null();
        }
        if feature(feature::TASK_REGS) {
            // SAFETY: the helper takes the acting task, which this is.
            return unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8;
        }
        /// `THREAD_SIZE` of x86-64 and aarch64 before 5.15, at whose end the registers are.
        const STACK_SIZE: usize = 16384;
        let stack: *const u8 = self.field(offset!(task_stack));
        stack.wrapping_add(STACK_SIZE).wrapping_sub(offset!(regs_size))
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

    /// Whether this is a thread of the daemon; only of the task that runs.
    #[inline(always)]
    pub fn is_daemon(self) -> bool {
        let (pid, pid_ns) = self.leader().ns_pid((thread_key() >> 32) as u32);
        pid == constant(&raw const SELF[0]) && pid_ns == constant(&raw const SELF[1])
    }

    /// Cgroup id of this task in the hierarchy that is looked at.
    #[inline(always)]
    pub fn cgroup_id(self) -> u64 {
        let set: *const u8 = self.field(offset!(task_cgroups));
        let cgroup: *const u8 = if scope::hierarchy() == 0 {
            kernel(set, offset!(css_set_dfl_cgroup))
        } else {
            // An array of pointers, one for each controller.
            let place = constant(&raw const HIERARCHY[1]) as usize * 8;
            let state: *const u8 = kernel(set, offset!(css_set_subsys) + place);
            kernel(state, offset!(css_cgroup))
        };
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
    let (tgid, tid): (u32, u32) = (task.field(offset!(task_tgid)), task.field(offset!(task_pid)));
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
        // Not by the helper for it, nor for the ids: programs for packets have none.
        let comm = (&raw mut (*header).comm).cast::<[u64; 2]>();
        comm.write_unaligned([0; 2]);
        bpf_probe_read_kernel_str(comm.cast(), 16, task.address.wrapping_add(offset!(task_comm)).cast());
    }
}
