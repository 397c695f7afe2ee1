//! The table of system calls that are events: which kind each one is, and what its arguments mean. The daemon
//! looks the numbers up for the running machine; the kernel side sees a call only by its id in here.

use crate::kind;

/// One system call.
#[derive(Clone, Copy, Debug)]
pub struct CallRow {
    /// Its name.
    pub name: &'static str,
    /// The kind of event that it is.
    pub kind: u16,
    /// Its arguments in order, each a name, or `name:role`. One without a role is a number of 32 bits without a
    /// sign, or a descriptor if its name ends with `fd`. Roles are:
    ///
    /// - `int`: 32 bits with a sign; `long`: all 64; `octal`: permissions;
    /// - `fd`: a descriptor whose open file is the event's file;
    /// - `dir`, `file`: where a relative name starts, and the name;
    /// - `target_dir`, `target`: the same of a second name;
    /// - `text`: a text that names no file;
    /// - `pointer`: an address of the caller's, which says nothing to anybody;
    /// - `process`: a process id in the caller's pid namespace;
    /// - `any=N`: `long`, and the call is an event only if it has one of these bits;
    /// - `in=N`: the call is an event only if the lower half of this argument, which is all that the kernel looks at,
    ///   is the number of one of these bits; 63 is for all above.
    pub arguments: &'static str,
}

macro_rules! calls {
    ($( $constant:ident $name:literal $kind:ident $arguments:literal )*) => {
        /// All system calls that are events; the id of one is its place here.
        pub const CALLS: &[CallRow] = &[ $( CallRow { name: $name, kind: kind::$kind, arguments: $arguments } ),* ];
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "only their numbers are used")]
        #[repr(u16)]
        enum Id { $( $constant ),* }
        $( #[doc = concat!("Id of `", $name, "`.")] pub const $constant: u16 = Id::$constant as u16; )*
    };
}

calls! {
    OPEN                "open"                OPEN      "name:pointer flags mode:octal"
    CREAT               "creat"               OPEN      "name:pointer mode:octal"
    OPENAT              "openat"              OPEN      "dfd name:pointer flags mode:octal"
    OPENAT2             "openat2"             OPEN      "dfd name:pointer how:pointer size"
    OPEN_BY_HANDLE_AT   "open_by_handle_at"   OPEN      "mount_fd handle:pointer flags"
    CONNECT             "connect"             CONNECT   "fd address:pointer length"
    SOCKETCALL          "socketcall"          CONNECT   "operation arguments:pointer"
    BIND                "bind"                BIND      "fd address:pointer length"
    LISTEN              "listen"              LISTEN    "fd backlog"
    ACCEPT              "accept"              ACCEPT    "fd address:pointer length"
    ACCEPT4             "accept4"             ACCEPT    "fd address:pointer length flags"
    DUP                 "dup"                 DUP       "old_fd"
    DUP2                "dup2"                DUP       "old_fd new_fd"
    DUP3                "dup3"                DUP       "old_fd new_fd flags"
    // F_DUPFD and all above 62, of which F_DUPFD_CLOEXEC is one.
    FCNTL               "fcntl"               DUP       "fd command:in=0x8000000000000001 argument:long"
    FCNTL64             "fcntl64"             DUP       "fd command:in=0x8000000000000001 argument:long"
    SOCKET              "socket"              SOCKET    "family type protocol"
    UNLINK              "unlink"              CHANGE    "name:file"
    UNLINKAT            "unlinkat"            CHANGE    "dfd:dir name:file flags"
    RMDIR               "rmdir"               CHANGE    "name:file"
    RENAME              "rename"              CHANGE    "name:file target:target"
    RENAMEAT            "renameat"            CHANGE    "dfd:dir name:file target_dfd:target_dir target:target"
    RENAMEAT2           "renameat2"           CHANGE    "dfd:dir name:file target_dfd:target_dir target:target flags"
    LINK                "link"                CHANGE    "name:file target:target"
    LINKAT              "linkat"              CHANGE    "dfd:dir name:file target_dfd:target_dir target:target flags"
    SYMLINK             "symlink"             CHANGE    "content:text name:file"
    SYMLINKAT           "symlinkat"           CHANGE    "content:text dfd:dir name:file"
    MKDIR               "mkdir"               CHANGE    "name:file mode:octal"
    MKDIRAT             "mkdirat"             CHANGE    "dfd:dir name:file mode:octal"
    MKNOD               "mknod"               CHANGE    "name:file mode:octal device"
    MKNODAT             "mknodat"             CHANGE    "dfd:dir name:file mode:octal device"
    TRUNCATE            "truncate"            CHANGE    "name:file length:long"
    FTRUNCATE           "ftruncate"           CHANGE    "fd:fd length:long"
    TRUNCATE64          "truncate64"          CHANGE    "name:file length"
    FTRUNCATE64         "ftruncate64"         CHANGE    "fd:fd length"
    CHMOD               "chmod"               CHANGE    "name:file mode:octal"
    FCHMOD              "fchmod"              CHANGE    "fd:fd mode:octal"
    FCHMODAT            "fchmodat"            CHANGE    "dfd:dir name:file mode:octal"
    FCHMODAT2           "fchmodat2"           CHANGE    "dfd:dir name:file mode:octal flags"
    CHOWN               "chown"               CHANGE    "name:file owner:int group:int"
    LCHOWN              "lchown"              CHANGE    "name:file owner:int group:int"
    FCHOWN              "fchown"              CHANGE    "fd:fd owner:int group:int"
    FCHOWNAT            "fchownat"            CHANGE    "dfd:dir name:file owner:int group:int flags"
    CHOWN32             "chown32"             CHANGE    "name:file owner:int group:int"
    LCHOWN32            "lchown32"            CHANGE    "name:file owner:int group:int"
    FCHOWN32            "fchown32"            CHANGE    "fd:fd owner:int group:int"
    SETXATTR            "setxattr"            CHANGE    "name:file attribute:text"
    LSETXATTR           "lsetxattr"           CHANGE    "name:file attribute:text"
    FSETXATTR           "fsetxattr"           CHANGE    "fd:fd attribute:text"
    SETXATTRAT          "setxattrat"          CHANGE    "dfd:dir name:file flags attribute:text"
    REMOVEXATTR         "removexattr"         CHANGE    "name:file attribute:text"
    LREMOVEXATTR        "lremovexattr"        CHANGE    "name:file attribute:text"
    FREMOVEXATTR        "fremovexattr"        CHANGE    "fd:fd attribute:text"
    REMOVEXATTRAT       "removexattrat"       CHANGE    "dfd:dir name:file flags attribute:text"
    FILE_SETATTR        "file_setattr"        CHANGE    "dfd:dir name:file attributes:pointer size:long flags"
    UTIME               "utime"               CHANGE    "name:file"
    UTIMES              "utimes"              CHANGE    "name:file"
    FUTIMESAT           "futimesat"           CHANGE    "dfd:dir name:file"
    UTIMENSAT_TIME64    "utimensat_time64"    CHANGE    "dfd:dir name:file times:pointer flags"
    UTIMENSAT           "utimensat"           CHANGE    "dfd:dir name:file times:pointer flags"
    WRITE               "write"               WRITE     "fd:fd buffer:pointer size:long"
    WRITEV              "writev"              WRITE     "fd:fd vectors:pointer count:long"
    PWRITE64            "pwrite64"            WRITE     "fd:fd buffer:pointer size:long"
    PWRITEV             "pwritev"             WRITE     "fd:fd vectors:pointer count:long"
    PWRITEV2            "pwritev2"            WRITE     "fd:fd vectors:pointer count:long"
    SENDFILE            "sendfile"            WRITE     "fd:fd from_fd"
    SENDFILE64          "sendfile64"          WRITE     "fd:fd from_fd"
    COPY_FILE_RANGE     "copy_file_range"     WRITE     "from_fd from_offset:pointer fd:fd"
    SPLICE              "splice"              WRITE     "from_fd from_offset:pointer fd:fd"
    FALLOCATE           "fallocate"           WRITE     "fd:fd mode"
    MOUNT               "mount"               MOUNT     "source:file name:target type:text flags:long"
    UMOUNT              "umount"              MOUNT     "name:file"
    UMOUNT2             "umount2"             MOUNT     "name:file flags"
    MOVE_MOUNT          "move_mount"          MOUNT     "dfd:dir name:file target_dfd:target_dir target:target flags"
    OPEN_TREE           "open_tree"           MOUNT     "dfd:dir name:file flags"
    OPEN_TREE_ATTR      "open_tree_attr"      MOUNT     "dfd:dir name:file flags"
    FSOPEN              "fsopen"              MOUNT     "type:text flags"
    FSCONFIG            "fsconfig"            MOUNT     "fd command key:text value:target"
    FSMOUNT             "fsmount"             MOUNT     "fd flags attributes"
    FSPICK              "fspick"              MOUNT     "dfd:dir name:file flags"
    MOUNT_SETATTR       "mount_setattr"       MOUNT     "dfd:dir name:file flags"
    PIVOT_ROOT          "pivot_root"          MOUNT     "name:file target:target"
    CHROOT              "chroot"              MOUNT     "name:file"
    SETUID              "setuid"              CRED      "uid"
    SETGID              "setgid"              CRED      "gid"
    SETREUID            "setreuid"            CRED      "ruid euid"
    SETREGID            "setregid"            CRED      "rgid egid"
    SETRESUID           "setresuid"           CRED      "ruid euid suid"
    SETRESGID           "setresgid"           CRED      "rgid egid sgid"
    SETFSUID            "setfsuid"            CRED      "uid"
    SETFSGID            "setfsgid"            CRED      "gid"
    SETUID32            "setuid32"            CRED      "uid"
    SETGID32            "setgid32"            CRED      "gid"
    SETREUID32          "setreuid32"          CRED      "ruid euid"
    SETREGID32          "setregid32"          CRED      "rgid egid"
    SETRESUID32         "setresuid32"         CRED      "ruid euid suid"
    SETRESGID32         "setresgid32"         CRED      "rgid egid sgid"
    SETFSUID32          "setfsuid32"          CRED      "uid"
    SETFSGID32          "setfsgid32"          CRED      "gid"
    SETGROUPS           "setgroups"           CRED      "count"
    SETGROUPS32         "setgroups32"         CRED      "count"
    CAPSET              "capset"              CRED      ""
    UNSHARE             "unshare"             NAMESPACE "flags"
    SETNS               "setns"               NAMESPACE "fd:fd flags"
    // TRACEME, POKE*, SETREGS, SETFPREGS, ATTACH and all above 62: not what a debugger does all the time.
    PTRACE              "ptrace"              ACCESS    "request:in=0x800000000001a071 pid:process address:long data:long"
    PROCESS_VM_READV    "process_vm_readv"    ACCESS    "pid:process"
    PROCESS_VM_WRITEV   "process_vm_writev"   ACCESS    "pid:process"
    RECVMSG             "recvmsg"             ACCESS    "fd message:pointer flags"
    RECVMMSG_TIME64     "recvmmsg_time64"     ACCESS    "fd messages:pointer count flags"
    RECVMMSG            "recvmmsg"            ACCESS    "fd messages:pointer count flags"
    PIDFD_GETFD         "pidfd_getfd"         ACCESS    "pidfd target_fd"
    // DUMPABLE, NAME, SECCOMP, CAPBSET_DROP, SECUREBITS, MM, CHILD_SUBREAPER, NO_NEW_PRIVS, CAP_AMBIENT.
    PRCTL               "prctl"               SETTING   "option:in=0x805811408010 value:text value2:long"
    SECCOMP             "seccomp"             SETTING   "operation flags"
    PERSONALITY         "personality"         SETTING   "persona"
    MEMFD_CREATE        "memfd_create"        MEMFD     "name:text flags"
    MEMFD_SECRET        "memfd_secret"        MEMFD     "flags"
    MMAP                "mmap"                MEMORY    "address:long length:long protection:long flags:long fd:fd offset:long"
    MMAP2               "mmap2"               MEMORY    "address:long length:long protection:long flags:long fd:fd offset:long"
    MPROTECT            "mprotect"            MEMORY    "address:long length:long protection:any=4"
    PKEY_MPROTECT       "pkey_mprotect"       MEMORY    "address:long length:long protection:any=4 key"
    // All but what a running program does with the elements of its maps.
    BPF                 "bpf"                 BPF       "command:in=0xfffffffff0dfffe1 attributes:pointer size"
    INIT_MODULE         "init_module"         MODULE    "image:pointer length:long parameters:text"
    FINIT_MODULE        "finit_module"        MODULE    "fd:fd parameters:text flags"
    DELETE_MODULE       "delete_module"       MODULE    "name:text flags"
    KEXEC_LOAD          "kexec_load"          MODULE    "entry:long count:long segments:pointer flags:long"
    KEXEC_FILE_LOAD     "kexec_file_load"     MODULE    "fd:fd initrd_fd length:long parameters:text flags:long"
    IO_URING_SETUP      "io_uring_setup"      IO_URING  "entries parameters:pointer"
    IO_URING_REGISTER   "io_uring_register"   IO_URING  "fd operation"
    // No system calls: an operation of no like-named call, and the end of any.
    IO_URING_OP         "io_uring_op"         IO_URING  "opcode user_data:long"
    IO_URING_COMPLETE   "io_uring_complete"   IO_URING  "opcode user_data:long"
    ADD_KEY             "add_key"             KEY       "type:text description:pointer"
    REQUEST_KEY         "request_key"         KEY       "type:text description:pointer"
    KEYCTL              "keyctl"              KEY       "operation argument:int"
    PERF_EVENT_OPEN     "perf_event_open"     KERNEL    "attributes:pointer pid:process cpu:int group_fd flags"
    USERFAULTFD         "userfaultfd"         KERNEL    "flags"
    ACCT                "acct"                KERNEL    "name:file"
    SWAPON              "swapon"              KERNEL    "name:file flags"
    SWAPOFF             "swapoff"             KERNEL    "name:file"
    REBOOT              "reboot"              KERNEL    "magic magic2 command"
    SETTIMEOFDAY        "settimeofday"        KERNEL    ""
    CLOCK_SETTIME       "clock_settime"       KERNEL    "clock"
    CLOCK_SETTIME64     "clock_settime64"     KERNEL    "clock"
    SETHOSTNAME         "sethostname"         KERNEL    "name:text length"
    SETDOMAINNAME       "setdomainname"       KERNEL    "name:text length"
    IOPERM              "ioperm"              KERNEL    "from:long count:long on"
    IOPL                "iopl"                KERNEL    "level"
    SYSLOG              "syslog"              KERNEL    "command"
    FANOTIFY_INIT       "fanotify_init"       KERNEL    "flags"
}

/// Id of a call that is no row of [`CALLS`] but was asked for by its name: this bit, and its number.
pub const CHOSEN: u16 = 0x8000;

/// Rows that are no system calls.
pub const NOT_CALLS: &[u16] = &[IO_URING_OP, IO_URING_COMPLETE];

/// Id of no call at all.
pub const NO_CALL: u16 = 0x7fff;

/// Entries of the map `CALLS` for the numbers of one table; the native table comes first, then the 32-bit one.
pub const NUMBERS: usize = 1024;

/// Place in the map `CALLS` of the operations of socketcall(2), after both tables.
pub const SOCKETCALLS: usize = 2 * NUMBERS;

/// Operations of socketcall(2), with room.
pub const SOCKETCALLS_MAX: usize = 32;

/// How the kernel side is to read one system call: an entry of the map `CALLS`, by number. Places of arguments
/// count from 1; 0 is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallShape {
    /// What the filter compares with.
    pub mask: u64,
    /// Id in [`CALLS`], or [`CHOSEN`] and a number.
    pub call: u16,
    /// Kind of event; 0: the call is none.
    pub kind: u16,
    /// One of [`filter`].
    pub filter: u8,
    /// The argument that the filter looks at.
    pub filtered: u8,
    /// Descriptor of the file.
    pub fd: u8,
    /// Descriptor of the folder that the file's name starts at.
    pub dir: u8,
    /// The file's name.
    pub file: u8,
    /// Descriptor of the folder that the target's name starts at.
    pub target_dir: u8,
    /// The target's name.
    pub target: u8,
    /// A text.
    pub text: u8,
    /// 1 if those that the filter does not let pass are events too, of the kind `syscall`.
    pub rest: u8,
}

/// Which calls are events: values of [`CallShape::filter`].
pub mod filter {
    /// All.
    pub const NONE: u8 = 0;
    /// Those whose argument has a bit of the mask.
    pub const ANY_BIT: u8 = 1;
    /// Those whose argument is the number of a bit of the mask, 63 being for all above.
    pub const IN_SET: u8 = 2;
    /// The first write to each open regular file that succeeds.
    pub const FIRST_WRITE: u8 = 3;
    /// Memory that is executable and anonymous, shared, writable or of a file without a name; and files mapped writable
    /// and shared.
    pub const MAPPING: u8 = 4;
    /// Sockets that are neither of the usual families nor of the usual types.
    pub const UNUSUAL_SOCKET: u8 = 5;
    /// Messages with open files in them (`SCM_RIGHTS`); the first file of the first message is the event's.
    pub const PASSED_FILE: u8 = 6;
    /// Descriptors that were taken over; the result is the event's file.
    pub const TAKEN_FILE: u8 = 7;
}
