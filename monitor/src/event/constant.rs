//! Names of the numbers that system calls take, from the kernel's headers (`include/uapi`, Linux 6.18): which
//! argument of which call has which names. Bits and numbers without a name stay numbers.

use taffrail_common::call::{self as id, CALLS};

use super::field::KindSet;
use crate::probe::hook::bit;

/// The names that a number can have.
#[derive(Debug)]
pub struct Names {
    /// Whether it is a number of a list; else it is a set of bits, which may have such numbers within.
    pub is_choice: bool,
    rows: &'static [Row],
}

/// A name, for numbers whose bits of the mask are this value.
#[derive(Debug)]
struct Row {
    mask: u64,
    value: u64,
    name: &'static str,
}

impl Names {
    /// Calls `take` with each name of a number; returns the bits that have none.
    pub fn each(&self, number: u64, mut take: impl FnMut(&'static str)) -> u64 {
        let mut rest = number;
        let mut free = u64::MAX;
        for Row { mask, value, name } in self.rows {
            // Of two rows for the same bits the first counts.
            if number & mask == *value && free & mask == *mask {
                take(name);
                rest &= !mask;
                free &= !mask;
            }
        }
        rest
    }

    /// The name of a number, if it has exactly one.
    pub fn name(&self, number: u64) -> Option<&'static str> {
        let mut name = None;
        let rest = self.each(number, |one| name = name.or(Some(one)));
        name.filter(|_| rest == 0)
    }

    /// The names, joined as in C: `PROT_READ|PROT_EXEC`, with what has no name as a number at the end.
    pub fn write(&self, number: u64, out: &mut String) {
        use std::fmt::Write as _;
        let mut separator = "";
        let rest = self.each(number, |name| {
            out.push_str(separator);
            out.push_str(name);
            separator = "|";
        });
        let _ = match (rest, separator) {
            (0, "|") => Ok(()),
            (rest, _) if self.is_choice || number == 0 => write!(out, "{rest}"),
            (rest, separator) => write!(out, "{separator}{rest:#x}"),
        };
    }
}

/// A set of bits: `mask => NAME`, or `value of mask => NAME`.
macro_rules! bits {
    ($($rest:tt)*) => { Names { is_choice: false, rows: rows!([] $($rest)*) } };
}

/// One number of a list, of 32 bits.
macro_rules! choice {
    ($( $value:literal $name:ident )*) => {
        Names { is_choice: true, rows: &[ $( Row { mask: u64::MAX, value: $value, name: stringify!($name) } ),* ] }
    };
}

macro_rules! rows {
    ([$($done:tt)*]) => { &[ $($done)* ] };
    ([$($done:tt)*] $value:literal of $mask:literal $name:ident $($rest:tt)*) => {
        rows!([$($done)* Row { mask: $mask, value: $value, name: stringify!($name) },] $($rest)*)
    };
    ([$($done:tt)*] $mask:literal $name:ident $($rest:tt)*) => {
        rows!([$($done)* Row { mask: $mask, value: $mask, name: stringify!($name) },] $($rest)*)
    };
}

/// `CLONE_*`.
pub static CLONE: Names = bits! {
    0x80 CLONE_NEWTIME 0x100 CLONE_VM 0x200 CLONE_FS 0x400 CLONE_FILES 0x800 CLONE_SIGHAND 0x1000 CLONE_PIDFD
    0x2000 CLONE_PTRACE 0x4000 CLONE_VFORK 0x8000 CLONE_PARENT 0x1_0000 CLONE_THREAD 0x2_0000 CLONE_NEWNS
    0x4_0000 CLONE_SYSVSEM 0x8_0000 CLONE_SETTLS 0x10_0000 CLONE_PARENT_SETTID 0x20_0000 CLONE_CHILD_CLEARTID
    0x40_0000 CLONE_DETACHED 0x80_0000 CLONE_UNTRACED 0x100_0000 CLONE_CHILD_SETTID 0x200_0000 CLONE_NEWCGROUP
    0x400_0000 CLONE_NEWUTS 0x800_0000 CLONE_NEWIPC 0x1000_0000 CLONE_NEWUSER 0x2000_0000 CLONE_NEWPID
    0x4000_0000 CLONE_NEWNET 0x8000_0000 CLONE_IO
};

/// `O_*` of open(2).
#[cfg(target_arch = "x86_64")]
pub static OPEN: Names = bits! {
    0 of 3 O_RDONLY 1 of 3 O_WRONLY 2 of 3 O_RDWR 0o100 O_CREAT 0o200 O_EXCL 0o400 O_NOCTTY 0o1000 O_TRUNC
    0o2000 O_APPEND 0o4000 O_NONBLOCK 0o4010000 O_SYNC 0o10000 O_DSYNC 0o20000 O_ASYNC 0o40000 O_DIRECT
    0o100000 O_LARGEFILE 0o20200000 O_TMPFILE 0o200000 O_DIRECTORY 0o400000 O_NOFOLLOW 0o1000000 O_NOATIME
    0o2000000 O_CLOEXEC 0o10000000 O_PATH
};

/// `O_*` of open(2).
#[cfg(target_arch = "aarch64")]
pub static OPEN: Names = bits! {
    0 of 3 O_RDONLY 1 of 3 O_WRONLY 2 of 3 O_RDWR 0o100 O_CREAT 0o200 O_EXCL 0o400 O_NOCTTY 0o1000 O_TRUNC
    0o2000 O_APPEND 0o4000 O_NONBLOCK 0o4010000 O_SYNC 0o10000 O_DSYNC 0o20000 O_ASYNC 0o200000 O_DIRECT
    0o400000 O_LARGEFILE 0o20040000 O_TMPFILE 0o40000 O_DIRECTORY 0o100000 O_NOFOLLOW 0o1000000 O_NOATIME
    0o2000000 O_CLOEXEC 0o10000000 O_PATH
};

/// Signals.
pub static SIGNAL: Names = choice! {
    1 SIGHUP 2 SIGINT 3 SIGQUIT 4 SIGILL 5 SIGTRAP 6 SIGABRT 7 SIGBUS 8 SIGFPE 9 SIGKILL 10 SIGUSR1 11 SIGSEGV
    12 SIGUSR2 13 SIGPIPE 14 SIGALRM 15 SIGTERM 16 SIGSTKFLT 17 SIGCHLD 18 SIGCONT 19 SIGSTOP 20 SIGTSTP
    21 SIGTTIN 22 SIGTTOU 23 SIGURG 24 SIGXCPU 25 SIGXFSZ 26 SIGVTALRM 27 SIGPROF 28 SIGWINCH 29 SIGIO
    30 SIGPWR 31 SIGSYS 32 SIGRTMIN 64 SIGRTMAX
};

/// `AF_*`.
pub static FAMILY: Names = choice! {
    0 AF_UNSPEC 1 AF_UNIX 2 AF_INET 3 AF_AX25 4 AF_IPX 5 AF_APPLETALK 6 AF_NETROM 7 AF_BRIDGE 8 AF_ATMPVC 9 AF_X25
    10 AF_INET6 11 AF_ROSE 13 AF_NETBEUI 14 AF_SECURITY 15 AF_KEY 16 AF_NETLINK 17 AF_PACKET 18 AF_ASH
    19 AF_ECONET 20 AF_ATMSVC 21 AF_RDS 22 AF_SNA 23 AF_IRDA 24 AF_PPPOX 25 AF_WANPIPE 26 AF_LLC 27 AF_IB
    28 AF_MPLS 29 AF_CAN 30 AF_TIPC 31 AF_BLUETOOTH 32 AF_IUCV 33 AF_RXRPC 34 AF_ISDN 35 AF_PHONET
    36 AF_IEEE802154 37 AF_CAIF 38 AF_ALG 39 AF_NFC 40 AF_VSOCK 41 AF_KCM 42 AF_QIPCRTR 43 AF_SMC 44 AF_XDP
    45 AF_MCTP
};

static SOCKET_TYPE: Names = bits! {
    1 of 0xf SOCK_STREAM 2 of 0xf SOCK_DGRAM 3 of 0xf SOCK_RAW 4 of 0xf SOCK_RDM 5 of 0xf SOCK_SEQPACKET
    6 of 0xf SOCK_DCCP 10 of 0xf SOCK_PACKET 0o4000 SOCK_NONBLOCK 0o2000000 SOCK_CLOEXEC
};

static PTRACE: Names = choice! {
    0 PTRACE_TRACEME 1 PTRACE_PEEKTEXT 2 PTRACE_PEEKDATA 3 PTRACE_PEEKUSR 4 PTRACE_POKETEXT 5 PTRACE_POKEDATA
    6 PTRACE_POKEUSR 7 PTRACE_CONT 8 PTRACE_KILL 9 PTRACE_SINGLESTEP 12 PTRACE_GETREGS 13 PTRACE_SETREGS
    14 PTRACE_GETFPREGS 15 PTRACE_SETFPREGS 16 PTRACE_ATTACH 17 PTRACE_DETACH 18 PTRACE_GETFPXREGS
    19 PTRACE_SETFPXREGS 21 PTRACE_OLDSETOPTIONS 24 PTRACE_SYSCALL 25 PTRACE_GET_THREAD_AREA
    26 PTRACE_SET_THREAD_AREA 30 PTRACE_ARCH_PRCTL 31 PTRACE_SYSEMU 32 PTRACE_SYSEMU_SINGLESTEP
    33 PTRACE_SINGLEBLOCK 0x4200 PTRACE_SETOPTIONS 0x4201 PTRACE_GETEVENTMSG 0x4202 PTRACE_GETSIGINFO
    0x4203 PTRACE_SETSIGINFO 0x4204 PTRACE_GETREGSET 0x4205 PTRACE_SETREGSET 0x4206 PTRACE_SEIZE
    0x4207 PTRACE_INTERRUPT 0x4208 PTRACE_LISTEN 0x4209 PTRACE_PEEKSIGINFO 0x420a PTRACE_GETSIGMASK
    0x420b PTRACE_SETSIGMASK 0x420c PTRACE_SECCOMP_GET_FILTER 0x420d PTRACE_SECCOMP_GET_METADATA
    0x420e PTRACE_GET_SYSCALL_INFO 0x420f PTRACE_GET_RSEQ_CONFIGURATION
    0x4210 PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG 0x4211 PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
    0x4212 PTRACE_SET_SYSCALL_INFO
};

static PRCTL: Names = choice! {
    4 PR_SET_DUMPABLE 15 PR_SET_NAME 22 PR_SET_SECCOMP 24 PR_CAPBSET_DROP 28 PR_SET_SECUREBITS 35 PR_SET_MM
    36 PR_SET_CHILD_SUBREAPER 38 PR_SET_NO_NEW_PRIVS 47 PR_CAP_AMBIENT
};

static SECCOMP: Names = choice! {
    0 SECCOMP_SET_MODE_STRICT 1 SECCOMP_SET_MODE_FILTER 2 SECCOMP_GET_ACTION_AVAIL 3 SECCOMP_GET_NOTIF_SIZES
};

static SECCOMP_FLAGS: Names = bits! {
    1 SECCOMP_FILTER_FLAG_TSYNC 2 SECCOMP_FILTER_FLAG_LOG 4 SECCOMP_FILTER_FLAG_SPEC_ALLOW
    8 SECCOMP_FILTER_FLAG_NEW_LISTENER 0x10 SECCOMP_FILTER_FLAG_TSYNC_ESRCH
    0x20 SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
};

static PERSONALITY: Names = bits! {
    0 of 0xff PER_LINUX 8 of 0xff PER_LINUX32 0x2_0000 UNAME26 0x4_0000 ADDR_NO_RANDOMIZE 0x8_0000 FDPIC_FUNCPTRS
    0x10_0000 MMAP_PAGE_ZERO 0x20_0000 ADDR_COMPAT_LAYOUT 0x40_0000 READ_IMPLIES_EXEC 0x80_0000 ADDR_LIMIT_32BIT
    0x100_0000 SHORT_INODE 0x200_0000 WHOLE_SECONDS 0x400_0000 STICKY_TIMEOUTS 0x800_0000 ADDR_LIMIT_3GB
};

static PROTECTION: Names = bits! {
    0 of 0xffff_ffff PROT_NONE 1 PROT_READ 2 PROT_WRITE 4 PROT_EXEC 8 PROT_SEM 0x100_0000 PROT_GROWSDOWN
    0x200_0000 PROT_GROWSUP
};

static MAP: Names = bits! {
    1 of 0xf MAP_SHARED 2 of 0xf MAP_PRIVATE 3 of 0xf MAP_SHARED_VALIDATE 0x10 MAP_FIXED 0x20 MAP_ANONYMOUS
    0x40 MAP_32BIT 0x100 MAP_GROWSDOWN 0x800 MAP_DENYWRITE 0x1000 MAP_EXECUTABLE 0x2000 MAP_LOCKED
    0x4000 MAP_NORESERVE 0x8000 MAP_POPULATE 0x1_0000 MAP_NONBLOCK 0x2_0000 MAP_STACK 0x4_0000 MAP_HUGETLB
    0x8_0000 MAP_SYNC 0x10_0000 MAP_FIXED_NOREPLACE 0x400_0000 MAP_UNINITIALIZED
};

static MEMFD: Names = bits! {
    1 MFD_CLOEXEC 2 MFD_ALLOW_SEALING 4 MFD_HUGETLB 8 MFD_NOEXEC_SEAL 0x10 MFD_EXEC
};

static AT: Names = bits! {
    0x100 AT_SYMLINK_NOFOLLOW 0x200 AT_REMOVEDIR 0x400 AT_SYMLINK_FOLLOW 0x800 AT_NO_AUTOMOUNT 0x1000 AT_EMPTY_PATH
    0x8000 AT_RECURSIVE
};

static RENAME: Names = bits! { 1 RENAME_NOREPLACE 2 RENAME_EXCHANGE 4 RENAME_WHITEOUT };

static FALLOCATE: Names = bits! {
    1 FALLOC_FL_KEEP_SIZE 2 FALLOC_FL_PUNCH_HOLE 4 FALLOC_FL_NO_HIDE_STALE 8 FALLOC_FL_COLLAPSE_RANGE
    0x10 FALLOC_FL_ZERO_RANGE 0x20 FALLOC_FL_INSERT_RANGE 0x40 FALLOC_FL_UNSHARE_RANGE
    0x80 FALLOC_FL_WRITE_ZEROES
};

static MOUNT: Names = bits! {
    0xc0ed_0000 of 0xffff_0000 MS_MGC_VAL 0x1 MS_RDONLY 0x2 MS_NOSUID 0x4 MS_NODEV 0x8 MS_NOEXEC 0x10 MS_SYNCHRONOUS
    0x20 MS_REMOUNT 0x40 MS_MANDLOCK 0x80 MS_DIRSYNC 0x100 MS_NOSYMFOLLOW 0x400 MS_NOATIME 0x800 MS_NODIRATIME
    0x1000 MS_BIND 0x2000 MS_MOVE 0x4000 MS_REC 0x8000 MS_SILENT 0x1_0000 MS_POSIXACL 0x2_0000 MS_UNBINDABLE
    0x4_0000 MS_PRIVATE 0x8_0000 MS_SLAVE 0x10_0000 MS_SHARED 0x20_0000 MS_RELATIME 0x40_0000 MS_KERNMOUNT
    0x80_0000 MS_I_VERSION 0x100_0000 MS_STRICTATIME 0x200_0000 MS_LAZYTIME
};

static UMOUNT: Names = bits! { 1 MNT_FORCE 2 MNT_DETACH 4 MNT_EXPIRE 8 UMOUNT_NOFOLLOW };

static MOVE_MOUNT: Names = bits! {
    1 MOVE_MOUNT_F_SYMLINKS 2 MOVE_MOUNT_F_AUTOMOUNTS 4 MOVE_MOUNT_F_EMPTY_PATH 0x10 MOVE_MOUNT_T_SYMLINKS
    0x20 MOVE_MOUNT_T_AUTOMOUNTS 0x40 MOVE_MOUNT_T_EMPTY_PATH 0x100 MOVE_MOUNT_SET_GROUP 0x200 MOVE_MOUNT_BENEATH
};

static OPEN_TREE: Names = bits! {
    1 OPEN_TREE_CLONE 0x100 AT_SYMLINK_NOFOLLOW 0x800 AT_NO_AUTOMOUNT 0x1000 AT_EMPTY_PATH 0x8000 AT_RECURSIVE
    0o2000000 OPEN_TREE_CLOEXEC
};

static FSOPEN: Names = bits! { 1 FSOPEN_CLOEXEC };

static FSMOUNT: Names = bits! { 1 FSMOUNT_CLOEXEC };

static FSPICK: Names = bits! {
    1 FSPICK_CLOEXEC 2 FSPICK_SYMLINK_NOFOLLOW 4 FSPICK_NO_AUTOMOUNT 8 FSPICK_EMPTY_PATH
};

static FSCONFIG: Names = choice! {
    0 FSCONFIG_SET_FLAG 1 FSCONFIG_SET_STRING 2 FSCONFIG_SET_BINARY 3 FSCONFIG_SET_PATH 4 FSCONFIG_SET_PATH_EMPTY
    5 FSCONFIG_SET_FD 6 FSCONFIG_CMD_CREATE 7 FSCONFIG_CMD_RECONFIGURE 8 FSCONFIG_CMD_CREATE_EXCL
};

static MOUNT_ATTRIBUTES: Names = bits! {
    1 MOUNT_ATTR_RDONLY 2 MOUNT_ATTR_NOSUID 4 MOUNT_ATTR_NODEV 8 MOUNT_ATTR_NOEXEC 0x10 of 0x70 MOUNT_ATTR_NOATIME
    0x20 of 0x70 MOUNT_ATTR_STRICTATIME 0x80 MOUNT_ATTR_NODIRATIME 0x10_0000 MOUNT_ATTR_IDMAP
    0x20_0000 MOUNT_ATTR_NOSYMFOLLOW
};

static BPF: Names = choice! {
    0 BPF_MAP_CREATE 1 BPF_MAP_LOOKUP_ELEM 2 BPF_MAP_UPDATE_ELEM 3 BPF_MAP_DELETE_ELEM 4 BPF_MAP_GET_NEXT_KEY
    5 BPF_PROG_LOAD 6 BPF_OBJ_PIN 7 BPF_OBJ_GET 8 BPF_PROG_ATTACH 9 BPF_PROG_DETACH 10 BPF_PROG_TEST_RUN
    11 BPF_PROG_GET_NEXT_ID 12 BPF_MAP_GET_NEXT_ID 13 BPF_PROG_GET_FD_BY_ID 14 BPF_MAP_GET_FD_BY_ID
    15 BPF_OBJ_GET_INFO_BY_FD 16 BPF_PROG_QUERY 17 BPF_RAW_TRACEPOINT_OPEN 18 BPF_BTF_LOAD 19 BPF_BTF_GET_FD_BY_ID
    20 BPF_TASK_FD_QUERY 21 BPF_MAP_LOOKUP_AND_DELETE_ELEM 22 BPF_MAP_FREEZE 23 BPF_BTF_GET_NEXT_ID
    24 BPF_MAP_LOOKUP_BATCH 25 BPF_MAP_LOOKUP_AND_DELETE_BATCH 26 BPF_MAP_UPDATE_BATCH 27 BPF_MAP_DELETE_BATCH
    28 BPF_LINK_CREATE 29 BPF_LINK_UPDATE 30 BPF_LINK_GET_FD_BY_ID 31 BPF_LINK_GET_NEXT_ID 32 BPF_ENABLE_STATS
    33 BPF_ITER_CREATE 34 BPF_LINK_DETACH 35 BPF_PROG_BIND_MAP 36 BPF_TOKEN_CREATE 37 BPF_PROG_STREAM_READ_BY_FD
};

static MODULE_INIT: Names = bits! {
    1 MODULE_INIT_IGNORE_MODVERSIONS 2 MODULE_INIT_IGNORE_VERMAGIC 4 MODULE_INIT_COMPRESSED_FILE
};

static MODULE_DELETE: Names = bits! { 0o1000 O_TRUNC 0o4000 O_NONBLOCK };

static KEXEC: Names = bits! {
    1 KEXEC_ON_CRASH 2 KEXEC_PRESERVE_CONTEXT 4 KEXEC_UPDATE_ELFCOREHDR 8 KEXEC_CRASH_HOTPLUG_SUPPORT
};

static KEXEC_FILE: Names = bits! {
    1 KEXEC_FILE_UNLOAD 2 KEXEC_FILE_ON_CRASH 4 KEXEC_FILE_NO_INITRAMFS 8 KEXEC_FILE_DEBUG 0x10 KEXEC_FILE_NO_CMA
    0x20 KEXEC_FILE_FORCE_DTB
};

static IO_URING_REGISTER: Names = choice! {
    0 IORING_REGISTER_BUFFERS 1 IORING_UNREGISTER_BUFFERS 2 IORING_REGISTER_FILES 3 IORING_UNREGISTER_FILES
    4 IORING_REGISTER_EVENTFD 5 IORING_UNREGISTER_EVENTFD 6 IORING_REGISTER_FILES_UPDATE
    7 IORING_REGISTER_EVENTFD_ASYNC 8 IORING_REGISTER_PROBE 9 IORING_REGISTER_PERSONALITY
    10 IORING_UNREGISTER_PERSONALITY 11 IORING_REGISTER_RESTRICTIONS 12 IORING_REGISTER_ENABLE_RINGS
    13 IORING_REGISTER_FILES2 14 IORING_REGISTER_FILES_UPDATE2 15 IORING_REGISTER_BUFFERS2
    16 IORING_REGISTER_BUFFERS_UPDATE 17 IORING_REGISTER_IOWQ_AFF 18 IORING_UNREGISTER_IOWQ_AFF
    19 IORING_REGISTER_IOWQ_MAX_WORKERS 20 IORING_REGISTER_RING_FDS 21 IORING_UNREGISTER_RING_FDS
    22 IORING_REGISTER_PBUF_RING 23 IORING_UNREGISTER_PBUF_RING 24 IORING_REGISTER_SYNC_CANCEL
    25 IORING_REGISTER_FILE_ALLOC_RANGE 26 IORING_REGISTER_PBUF_STATUS 27 IORING_REGISTER_NAPI
    28 IORING_UNREGISTER_NAPI 29 IORING_REGISTER_CLOCK 30 IORING_REGISTER_CLONE_BUFFERS
    31 IORING_REGISTER_SEND_MSG_RING 32 IORING_REGISTER_ZCRX_IFQ 33 IORING_REGISTER_RESIZE_RINGS
    34 IORING_REGISTER_MEM_REGION 35 IORING_REGISTER_QUERY
};

static IO_URING_OP: Names = choice! {
    0 IORING_OP_NOP 1 IORING_OP_READV 2 IORING_OP_WRITEV 3 IORING_OP_FSYNC 4 IORING_OP_READ_FIXED
    5 IORING_OP_WRITE_FIXED 6 IORING_OP_POLL_ADD 7 IORING_OP_POLL_REMOVE 8 IORING_OP_SYNC_FILE_RANGE
    9 IORING_OP_SENDMSG 10 IORING_OP_RECVMSG 11 IORING_OP_TIMEOUT 12 IORING_OP_TIMEOUT_REMOVE 13 IORING_OP_ACCEPT
    14 IORING_OP_ASYNC_CANCEL 15 IORING_OP_LINK_TIMEOUT 16 IORING_OP_CONNECT 17 IORING_OP_FALLOCATE
    18 IORING_OP_OPENAT 19 IORING_OP_CLOSE 20 IORING_OP_FILES_UPDATE 21 IORING_OP_STATX 22 IORING_OP_READ
    23 IORING_OP_WRITE 24 IORING_OP_FADVISE 25 IORING_OP_MADVISE 26 IORING_OP_SEND 27 IORING_OP_RECV
    28 IORING_OP_OPENAT2 29 IORING_OP_EPOLL_CTL 30 IORING_OP_SPLICE 31 IORING_OP_PROVIDE_BUFFERS
    32 IORING_OP_REMOVE_BUFFERS 33 IORING_OP_TEE 34 IORING_OP_SHUTDOWN 35 IORING_OP_RENAMEAT 36 IORING_OP_UNLINKAT
    37 IORING_OP_MKDIRAT 38 IORING_OP_SYMLINKAT 39 IORING_OP_LINKAT 40 IORING_OP_MSG_RING 41 IORING_OP_FSETXATTR
    42 IORING_OP_SETXATTR 43 IORING_OP_FGETXATTR 44 IORING_OP_GETXATTR 45 IORING_OP_SOCKET 46 IORING_OP_URING_CMD
    47 IORING_OP_SEND_ZC 48 IORING_OP_SENDMSG_ZC 49 IORING_OP_READ_MULTISHOT 50 IORING_OP_WAITID
    51 IORING_OP_FUTEX_WAIT 52 IORING_OP_FUTEX_WAKE 53 IORING_OP_FUTEX_WAITV 54 IORING_OP_FIXED_FD_INSTALL
    55 IORING_OP_FTRUNCATE 56 IORING_OP_BIND 57 IORING_OP_LISTEN 58 IORING_OP_RECV_ZC 59 IORING_OP_EPOLL_WAIT
    60 IORING_OP_READV_FIXED 61 IORING_OP_WRITEV_FIXED 62 IORING_OP_PIPE
};

static KEYCTL: Names = choice! {
    0 KEYCTL_GET_KEYRING_ID 1 KEYCTL_JOIN_SESSION_KEYRING 2 KEYCTL_UPDATE 3 KEYCTL_REVOKE 4 KEYCTL_CHOWN
    5 KEYCTL_SETPERM 6 KEYCTL_DESCRIBE 7 KEYCTL_CLEAR 8 KEYCTL_LINK 9 KEYCTL_UNLINK 10 KEYCTL_SEARCH 11 KEYCTL_READ
    12 KEYCTL_INSTANTIATE 13 KEYCTL_NEGATE 14 KEYCTL_SET_REQKEY_KEYRING 15 KEYCTL_SET_TIMEOUT
    16 KEYCTL_ASSUME_AUTHORITY 17 KEYCTL_GET_SECURITY 18 KEYCTL_SESSION_TO_PARENT 19 KEYCTL_REJECT
    20 KEYCTL_INSTANTIATE_IOV 21 KEYCTL_INVALIDATE 22 KEYCTL_GET_PERSISTENT 23 KEYCTL_DH_COMPUTE
    24 KEYCTL_PKEY_QUERY 25 KEYCTL_PKEY_ENCRYPT 26 KEYCTL_PKEY_DECRYPT 27 KEYCTL_PKEY_SIGN 28 KEYCTL_PKEY_VERIFY
    29 KEYCTL_RESTRICT_KEYRING 30 KEYCTL_MOVE 31 KEYCTL_CAPABILITIES 32 KEYCTL_WATCH_KEY
};

static PERF: Names = bits! {
    1 PERF_FLAG_FD_NO_GROUP 2 PERF_FLAG_FD_OUTPUT 4 PERF_FLAG_PID_CGROUP 8 PERF_FLAG_FD_CLOEXEC
};

static USERFAULTFD: Names = bits! { 1 UFFD_USER_MODE_ONLY 0o4000 O_NONBLOCK 0o2000000 O_CLOEXEC };

static SWAP: Names = bits! {
    0x8000 SWAP_FLAG_PREFER 0x1_0000 SWAP_FLAG_DISCARD 0x2_0000 SWAP_FLAG_DISCARD_ONCE 0x4_0000 SWAP_FLAG_DISCARD_PAGES
};

static REBOOT: Names = choice! {
    0x0123_4567 LINUX_REBOOT_CMD_RESTART 0xcdef_0123 LINUX_REBOOT_CMD_HALT 0x89ab_cdef LINUX_REBOOT_CMD_CAD_ON
    0 LINUX_REBOOT_CMD_CAD_OFF 0x4321_fedc LINUX_REBOOT_CMD_POWER_OFF 0xa1b2_c3d4 LINUX_REBOOT_CMD_RESTART2
    0xd000_fce2 LINUX_REBOOT_CMD_SW_SUSPEND 0x4558_4543 LINUX_REBOOT_CMD_KEXEC
};

static CLOCK: Names = choice! { 0 CLOCK_REALTIME 1 CLOCK_MONOTONIC 11 CLOCK_TAI };

static SYSLOG: Names = choice! {
    0 SYSLOG_ACTION_CLOSE 1 SYSLOG_ACTION_OPEN 2 SYSLOG_ACTION_READ 3 SYSLOG_ACTION_READ_ALL
    4 SYSLOG_ACTION_READ_CLEAR 5 SYSLOG_ACTION_CLEAR 6 SYSLOG_ACTION_CONSOLE_OFF 7 SYSLOG_ACTION_CONSOLE_ON
    8 SYSLOG_ACTION_CONSOLE_LEVEL 9 SYSLOG_ACTION_SIZE_UNREAD 10 SYSLOG_ACTION_SIZE_BUFFER
};

static FANOTIFY: Names = bits! {
    0 of 0xc FAN_CLASS_NOTIF 4 of 0xc FAN_CLASS_CONTENT 8 of 0xc FAN_CLASS_PRE_CONTENT 1 FAN_CLOEXEC 2 FAN_NONBLOCK
    0x10 FAN_UNLIMITED_QUEUE 0x20 FAN_UNLIMITED_MARKS 0x40 FAN_ENABLE_AUDIT 0x80 FAN_REPORT_PIDFD
    0x100 FAN_REPORT_TID 0x200 FAN_REPORT_FID 0x400 FAN_REPORT_DIR_FID 0x800 FAN_REPORT_NAME
    0x1000 FAN_REPORT_TARGET_FID 0x2000 FAN_REPORT_FD_ERROR 0x4000 FAN_REPORT_MNT
};

/// Calls, their argument, and its names.
const NAMED: &[(&[u16], &str, &Names)] = &[
    (&[id::UNSHARE, id::SETNS], "flags", &CLONE),
    (&[id::PTRACE], "request", &PTRACE),
    (&[id::PRCTL], "option", &PRCTL),
    (&[id::SECCOMP], "operation", &SECCOMP),
    (&[id::SECCOMP], "flags", &SECCOMP_FLAGS),
    (&[id::PERSONALITY], "persona", &PERSONALITY),
    (&[id::MMAP, id::MMAP2, id::MPROTECT, id::PKEY_MPROTECT], "protection", &PROTECTION),
    (&[id::MMAP, id::MMAP2], "flags", &MAP),
    (&[id::MEMFD_CREATE], "flags", &MEMFD),
    (&[id::SOCKET], "family", &FAMILY),
    (&[id::SOCKET], "type", &SOCKET_TYPE),
    (
        &[
            id::UNLINKAT,
            id::LINKAT,
            id::FCHMODAT2,
            id::FCHOWNAT,
            id::UTIMENSAT,
            id::UTIMENSAT_TIME64,
            id::SETXATTRAT,
            id::REMOVEXATTRAT,
            id::FILE_SETATTR,
            id::MOUNT_SETATTR,
        ],
        "flags",
        &AT,
    ),
    (&[id::RENAMEAT2], "flags", &RENAME),
    (&[id::FALLOCATE], "mode", &FALLOCATE),
    (&[id::MOUNT], "flags", &MOUNT),
    (&[id::UMOUNT2], "flags", &UMOUNT),
    (&[id::MOVE_MOUNT], "flags", &MOVE_MOUNT),
    (&[id::OPEN_TREE, id::OPEN_TREE_ATTR], "flags", &OPEN_TREE),
    (&[id::FSOPEN], "flags", &FSOPEN),
    (&[id::FSMOUNT], "flags", &FSMOUNT),
    (&[id::FSMOUNT], "attributes", &MOUNT_ATTRIBUTES),
    (&[id::FSPICK], "flags", &FSPICK),
    (&[id::FSCONFIG], "command", &FSCONFIG),
    (&[id::BPF], "command", &BPF),
    (&[id::FINIT_MODULE], "flags", &MODULE_INIT),
    (&[id::DELETE_MODULE], "flags", &MODULE_DELETE),
    (&[id::KEXEC_LOAD], "flags", &KEXEC),
    (&[id::KEXEC_FILE_LOAD], "flags", &KEXEC_FILE),
    (&[id::IO_URING_REGISTER], "operation", &IO_URING_REGISTER),
    (&[id::IO_URING_OP, id::IO_URING_COMPLETE], "opcode", &IO_URING_OP),
    (&[id::KEYCTL], "operation", &KEYCTL),
    (&[id::PERF_EVENT_OPEN], "flags", &PERF),
    (&[id::USERFAULTFD], "flags", &USERFAULTFD),
    (&[id::SWAPON], "flags", &SWAP),
    (&[id::REBOOT], "command", &REBOOT),
    (&[id::CLOCK_SETTIME, id::CLOCK_SETTIME64], "clock", &CLOCK),
    (&[id::SYSLOG], "command", &SYSLOG),
    (&[id::FANOTIFY_INIT], "flags", &FANOTIFY),
];

/// The names of an argument of a call, if it has some.
pub fn of(call: u16, argument: &str) -> Option<&'static Names> {
    let row = NAMED.iter().find(|(calls, name, _)| *name == argument && calls.contains(&call))?;
    Some(row.2)
}

/// The kinds of event that have an argument of that name with names for its value.
pub const fn kinds_with(argument: &str) -> KindSet {
    let mut kinds = 0;
    let mut row = 0;
    while row < NAMED.len() {
        let (calls, name, _) = NAMED[row];
        let mut call = 0;
        while same(name, argument) && call < calls.len() {
            kinds |= bit(CALLS[calls[call] as usize].kind);
            call += 1;
        }
        row += 1;
    }
    kinds
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::model::arguments;

    fn written(names: &Names, number: u64) -> String {
        let mut out = String::new();
        names.write(number, &mut out);
        out
    }

    #[test]
    fn numbers_have_their_names_and_what_has_none_stays_a_number() {
        for (names, number, expected) in [
            (&CLONE, 0x2000_0000, "CLONE_NEWPID"),
            (&CLONE, 0x1002_0000, "CLONE_NEWNS|CLONE_NEWUSER"),
            (&CLONE, 0, "0"),
            (&CLONE, 0x1_0000_0011, "0x100000011"),
            (&OPEN, 0, "O_RDONLY"),
            (&OPEN, libc::O_RDWR as u64 | libc::O_CREAT as u64, "O_RDWR|O_CREAT"),
            (&OPEN, libc::O_SYNC as u64 | libc::O_WRONLY as u64, "O_WRONLY|O_SYNC"),
            (&OPEN, libc::O_TMPFILE as u64 | 3, "O_TMPFILE|0x3"),
            (&PROTECTION, 0, "PROT_NONE"),
            (&PROTECTION, 7, "PROT_READ|PROT_WRITE|PROT_EXEC"),
            (&MAP, 0x22, "MAP_PRIVATE|MAP_ANONYMOUS"),
            (&MAP, 0x8000_0003, "MAP_SHARED_VALIDATE|0x80000000"),
            (&MOUNT, 0xc0ed_1001, "MS_MGC_VAL|MS_RDONLY|MS_BIND"),
            (&SOCKET_TYPE, 0o2000003, "SOCK_RAW|SOCK_CLOEXEC"),
            (&PTRACE, 16, "PTRACE_ATTACH"),
            (&PTRACE, 77, "77"),
            (&SIGNAL, 9, "SIGKILL"),
            (&PERSONALITY, 0x40000, "PER_LINUX|ADDR_NO_RANDOMIZE"),
        ] {
            assert_eq!(written(names, number), expected);
        }
    }

    #[test]
    fn numbers_are_those_of_the_c_library() {
        for (names, number, expected) in [
            (&CLONE, libc::CLONE_NEWUSER as u64, "CLONE_NEWUSER"),
            (&CLONE, libc::CLONE_NEWNS as u64, "CLONE_NEWNS"),
            (&OPEN, libc::O_DIRECTORY as u64, "O_RDONLY|O_DIRECTORY"),
            (&OPEN, libc::O_DIRECT as u64, "O_RDONLY|O_DIRECT"),
            (&OPEN, libc::O_NOFOLLOW as u64, "O_RDONLY|O_NOFOLLOW"),
            (&OPEN, libc::O_PATH as u64, "O_RDONLY|O_PATH"),
            (&FAMILY, libc::AF_VSOCK as u64, "AF_VSOCK"),
            (&FAMILY, libc::AF_ALG as u64, "AF_ALG"),
            (&PTRACE, libc::PTRACE_SEIZE as u64, "PTRACE_SEIZE"),
            (&PRCTL, libc::PR_CAP_AMBIENT as u64, "PR_CAP_AMBIENT"),
            (&MAP, libc::MAP_LOCKED as u64, "MAP_LOCKED"),
            (&MOUNT, libc::MS_PRIVATE, "MS_PRIVATE"),
            (&UMOUNT, libc::MNT_DETACH as u64, "MNT_DETACH"),
            (&AT, libc::AT_SYMLINK_NOFOLLOW as u64, "AT_SYMLINK_NOFOLLOW"),
            (&MEMFD, libc::MFD_ALLOW_SEALING.into(), "MFD_ALLOW_SEALING"),
        ] {
            assert_eq!(written(names, number), expected);
        }
    }

    #[test]
    fn every_row_is_about_an_argument_that_its_calls_have() {
        for (calls, argument, _) in NAMED {
            for call in *calls {
                let has = arguments((*call).into()).iter().any(|one| one.name == *argument);
                assert!(has, "{} has no {argument}", CALLS[usize::from(*call)].name);
            }
            assert_ne!(kinds_with(argument), 0);
        }
        assert_eq!(kinds_with("request"), bit(taffrail_common::kind::ACCESS));
    }
}
