//! The kernel fields that the probes read, one line each. The daemon resolves each from the running
//! kernel's BTF before load (`monitor/src/probe/btf.rs`); the verifier then sees constants.

macro_rules! kernel_fields {
    ($( $name:ident = $path:literal ),* $(,)?) => {
        /// Byte offsets of kernel fields; [`Offsets::ABSENT`] where the running kernel has no such field.
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct Offsets {
            $( #[doc = concat!("`", $path, "`")] pub $name: u32, )*
        }

        impl Offsets {
            /// The offset of a field that the kernel does not have.
            pub const ABSENT: u32 = u32::MAX;

            /// No field is known yet.
            pub const NONE: Self = Self { $( $name: Self::ABSENT ),* };

            /// The name of each field here and its path in the kernel, in the order of the struct.
            /// A path is `struct.member.member`; `|` separates spellings of different kernels, `sizeof struct` is a size.
            pub const PATHS: &'static [(&'static str, &'static str)] = &[ $( (stringify!($name), $path) ),* ];
        }
    };
}

kernel_fields! {
    task_cgroups = "task_struct.cgroups",
    task_comm = "task_struct.comm",
    task_cred = "task_struct.cred",
    task_exit_code = "task_struct.exit_code",
    task_files = "task_struct.files",
    task_fs = "task_struct.fs",
    task_group_leader = "task_struct.group_leader",
    task_loginuid = "task_struct.loginuid",
    task_mm = "task_struct.mm",
    task_nsproxy = "task_struct.nsproxy",
    task_pid = "task_struct.pid",
    task_real_parent = "task_struct.real_parent",
    task_signal = "task_struct.signal",
    task_start_boottime = "task_struct.start_boottime|task_struct.real_start_time",
    task_status = "task_struct.thread_info.status",
    task_tgid = "task_struct.tgid",
    task_thread_pid = "task_struct.thread_pid",
    task_vfork_done = "task_struct.vfork_done",
    cred_cap_ambient = "cred.cap_ambient",
    cred_cap_bounding = "cred.cap_bset",
    cred_cap_effective = "cred.cap_effective",
    cred_cap_inheritable = "cred.cap_inheritable",
    cred_cap_permitted = "cred.cap_permitted",
    cred_egid = "cred.egid",
    cred_euid = "cred.euid",
    cred_uid = "cred.uid",
    cred_secure_bits = "cred.securebits",
    cred_user_ns = "cred.user_ns",
    css_set_dfl_cgroup = "css_set.dfl_cgrp",
    cgroup_kn = "cgroup.kn",
    cgroup_root = "cgroup.root",
    cgroup_root_hierarchy = "cgroup_root.hierarchy_id",
    kernfs_node_id = "kernfs_node.id",
    nsproxy_cgroup_ns = "nsproxy.cgroup_ns",
    nsproxy_ipc_ns = "nsproxy.ipc_ns",
    nsproxy_mnt_ns = "nsproxy.mnt_ns",
    nsproxy_net_ns = "nsproxy.net_ns",
    nsproxy_uts_ns = "nsproxy.uts_ns",
    mnt_ns_inum = "mnt_namespace.ns.inum",
    pid_ns_inum = "pid_namespace.ns.inum",
    user_ns_inum = "user_namespace.ns.inum",
    pid_level = "pid.level",
    pid_numbers = "pid.numbers",
    upid_nr = "upid.nr",
    upid_ns = "upid.ns",
    signal_flags = "signal_struct.flags",
    signal_group_exit_code = "signal_struct.group_exit_code",
    signal_live = "signal_struct.live",
    signal_pids = "signal_struct.pids",
    signal_tty = "signal_struct.tty",
    tty_driver = "tty_struct.driver",
    tty_index = "tty_struct.index",
    tty_driver_major = "tty_driver.major",
    tty_driver_minor_start = "tty_driver.minor_start",
    mm_arg_end = "mm_struct.arg_end",
    mm_arg_start = "mm_struct.arg_start",
    mm_exe_file = "mm_struct.exe_file",
    bprm_argc = "linux_binprm.argc",
    bprm_envc = "linux_binprm.envc",
    bprm_filename = "linux_binprm.filename",
    fs_pwd = "fs_struct.pwd",
    fs_root = "fs_struct.root",
    files_fdt = "files_struct.fdt",
    fdtable_fd = "fdtable.fd",
    fdtable_max_fds = "fdtable.max_fds",
    file_flags = "file.f_flags",
    file_inode = "file.f_inode",
    file_path = "file.f_path",
    file_private_data = "file.private_data",
    path_dentry = "path.dentry",
    path_mnt = "path.mnt",
    dentry_hash_pprev = "dentry.d_hash.pprev",
    dentry_inode = "dentry.d_inode",
    dentry_name = "dentry.d_name.name",
    dentry_name_len = "dentry.d_name.len",
    dentry_parent = "dentry.d_parent",
    inode_ino = "inode.i_ino",
    inode_mode = "inode.i_mode",
    inode_nlink = "inode.i_nlink",
    inode_sb = "inode.i_sb",
    inode_uid = "inode.i_uid",
    inode_size = "sizeof inode",
    super_block_dev = "super_block.s_dev",
    super_block_magic = "super_block.s_magic",
    mount_mnt = "mount.mnt",
    mount_mountpoint = "mount.mnt_mountpoint",
    mount_parent = "mount.mnt_parent",
    vfsmount_root = "vfsmount.mnt_root",
    socket_sk = "socket.sk",
    socket_type = "socket.type",
    sock_daddr = "sock.__sk_common.skc_daddr",
    sock_dport = "sock.__sk_common.skc_dport",
    sock_err = "sock.sk_err",
    sock_family = "sock.__sk_common.skc_family",
    sock_num = "sock.__sk_common.skc_num",
    sock_protocol = "sock.sk_protocol",
    sock_rcv_saddr = "sock.__sk_common.skc_rcv_saddr",
    sock_v6_daddr = "sock.__sk_common.skc_v6_daddr",
    sock_v6_rcv_saddr = "sock.__sk_common.skc_v6_rcv_saddr",
    tcp_bytes_acked = "tcp_sock.bytes_acked",
    tcp_bytes_received = "tcp_sock.bytes_received",
    siginfo_code = "kernel_siginfo.si_code",
    unix_addr = "unix_sock.addr",
    unix_path = "unix_sock.path",
    unix_peer = "unix_sock.peer",
    unix_address_len = "unix_address.len",
    unix_address_name = "unix_address.name",
    // x86-64, then aarch64.
    regs_bp = "pt_regs.bp",
    regs_bx = "pt_regs.bx",
    regs_cx = "pt_regs.cx",
    regs_orig_ax = "pt_regs.orig_ax",
    regs_di = "pt_regs.di",
    regs_dx = "pt_regs.dx",
    regs_r10 = "pt_regs.r10",
    regs_r8 = "pt_regs.r8",
    regs_r9 = "pt_regs.r9",
    regs_si = "pt_regs.si",
    regs_orig_x0 = "pt_regs.orig_x0",
    regs_regs = "pt_regs.regs",
    regs_syscallno = "pt_regs.syscallno",
}
