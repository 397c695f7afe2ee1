//! The seccomp filters: system calls that the daemon never makes, and that whoever takes it over would. All others pass,
//! so that neither a library's new habit nor an old kernel stops it.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

/// What no thread does.
const NEVER: &[c_long] = &[
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes, but for what `/proc` shows of them.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    // Mounts, roots and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Clocks and names of the machine.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Devices.
    libc::SYS_mknodat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    // Ways around filters, and what exploits of kernels like.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
];

/// Namespaces that a new process could be put into.
const NAMESPACES: &[i32] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// What changes files' modes, owners, times and attributes, which Landlock does not guard.
const ATTRIBUTES: &[c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    FCHMODAT2,
    SETXATTRAT,
    REMOVEXATTRAT,
    FILE_SETATTR,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
];

/// What else changes files, and what makes sockets or connects them: threads that look into other processes do neither.
/// A socket of another thread's has a name, too, which such a thread could look up in other roots.
const CHANGES: &[c_long] = &[
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_socket,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
];

/// Requests of ioctl(2) that file systems know, by what stands in their second byte: those of all of them, of XFS, of
/// btrfs. They change files that are open for reading.
const OF_FILE_SYSTEMS: &[u8] = b"fX\x94";

/// Calls of Linux 6.6, 6.13 and 6.17, which not all C libraries know.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;
const FILE_SETATTR: c_long = 469;

/// Filters for all threads.
pub fn never() -> Result<Vec<BpfProgram>, BackendError> {
    let mut rules = always(NEVER);
    // A handle finds any file of a file system, whatever is mounted of it: to look whose a cgroup is, and no more.
    rules.insert(libc::SYS_open_by_handle_at, vec![masked(2, libc::O_PATH as u64, 0)?]);
    let flags = NAMESPACES.iter().map(|&flag| has(0, flag as u64)).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_clone, flags);
    // What they are asked for is in memory, where a filter cannot look. Whoever hears that the kernel does not know them
    // uses `clone` and `openat`.
    let unknown = compile(always(&[libc::SYS_clone3, libc::SYS_openat2]), libc::ENOSYS)?;
    let mut filters = vec![compile(rules, libc::EPERM)?, unknown];
    if cfg!(target_arch = "x86_64") {
        filters.push(no_x32());
    }
    Ok(filters)
}

/// The filter for all threads once all that the daemon makes has its mode, besides.
pub fn no_attributes() -> Result<BpfProgram, BackendError> {
    let mut rules = always(ATTRIBUTES);
    let requests = OF_FILE_SYSTEMS.iter().map(|&kind| masked(1, 0xff00, u64::from(kind) << 8));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    compile(rules, libc::EPERM)
}

/// The filter for all threads of a daemon that asks no runtime, besides. A runtime starts for root what it is told to;
/// and by a name below `/proc` each socket of the host's is within reach.
pub fn no_callers() -> Result<BpfProgram, BackendError> {
    let unix = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?;
    let of_kind = |kind: i32| {
        // Beside the kind there are flags.
        let is = SeccompCmpOp::MaskedEq(0xf);
        let of_kind = SeccompCondition::new(1, SeccompCmpArgLen::Dword, is, kind as u64)?;
        SeccompRule::new(vec![unix.clone(), of_kind])
    };
    let kinds = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET].map(of_kind).into_iter();
    compile(BTreeMap::from([(libc::SYS_socket, kinds.collect::<Result<_, _>>()?)]), libc::EPERM)
}

/// The filter for threads that look into other processes, besides.
pub fn no_changes() -> Result<BpfProgram, BackendError> {
    let mut rules = always(CHANGES);
    rules.insert(libc::SYS_openat, to_write(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, to_write(1)?);
    // To whom; without that it goes where the socket is connected to, as what wakes up a thread does.
    let to_somebody = SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![to_somebody])?]);
    compile(rules, libc::EPERM)
}

/// Refuses these, whatever they are asked for.
fn always(calls: &[c_long]) -> BTreeMap<i64, Vec<SeccompRule>> {
    calls.iter().map(|&call| (call, Vec::new())).collect()
}

/// That flags open a file to write to it, or make one.
fn to_write(argument: u8) -> Result<Vec<SeccompRule>, BackendError> {
    let mode = |mode: i32| masked(argument, libc::O_ACCMODE as u64, mode as u64);
    let flags = [libc::O_CREAT, libc::O_TRUNC].map(|flag| has(argument, flag as u64));
    [mode(libc::O_WRONLY), mode(libc::O_RDWR)].into_iter().chain(flags).collect()
}

/// That an argument has a flag.
fn has(argument: u8, flag: u64) -> Result<SeccompRule, BackendError> {
    masked(argument, flag, flag)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompRule, BackendError> {
    let is = SeccompCmpOp::MaskedEq(mask);
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)?])
}

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, error: i32) -> Result<BpfProgram, BackendError> {
    let refuse = SeccompAction::Errno(error as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// Refuses the numbers by which some kernels take the same calls once more, from programs with short pointers.
fn no_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    let step = |code: u32, jf: u8, k: u32| sock_filter { code: code as u16, jt: 0, jf, k };
    vec![
        // The call's number is what the filter's data begins with.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ]
}
