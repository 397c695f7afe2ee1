//! Names of the arguments of system calls that are no event kind of their own, for those that are chosen by name
//! and for the flight recorder. The roles are those of `monitor-common/src/call.rs`.

/// Calls with their arguments. What is not in here is told by place.
#[rustfmt::skip]
pub const MORE_ARGUMENTS: &[(&str, &str)] = &[
    ("read", "fd buffer:pointer size:long"), ("readv", "fd vectors:pointer count"), ("pread64", "fd buffer:pointer size:long offset:long"),
    ("close", "fd"), ("close_range", "first last flags"),
    ("lseek", "fd offset:long whence:int"), ("fsync", "fd"), ("fdatasync", "fd"), ("flock", "fd operation"),
    ("ioctl", "fd request:long argument:pointer"), ("getdents64", "fd buffer:pointer size:long"),
    ("stat", "name:pointer buffer:pointer"), ("fstat", "fd buffer:pointer"), ("lstat", "name:pointer buffer:pointer"),
    ("newfstatat", "dfd name:pointer buffer:pointer flags"), ("statx", "dfd name:pointer flags mask buffer:pointer"),
    ("statfs", "name:pointer buffer:pointer"), ("fstatfs", "fd buffer:pointer"), ("access", "name:pointer mode:octal"),
    ("faccessat", "dfd name:pointer mode:octal"), ("faccessat2", "dfd name:pointer mode:octal flags"),
    ("readlink", "name:pointer buffer:pointer size:long"), ("readlinkat", "dfd name:pointer buffer:pointer size:long"),
    ("getcwd", "buffer:pointer size:long"), ("chdir", "name:pointer"), ("fchdir", "fd"), ("umask", "mask:octal"),
    ("pipe", "fds:pointer"), ("pipe2", "fds:pointer flags"), ("poll", "fds:pointer count timeout:int"),
    ("ppoll", "fds:pointer count timeout:pointer mask:pointer size:long"), ("select", "count read:pointer write:pointer except:pointer timeout:pointer"),
    ("pselect6", "count read:pointer write:pointer except:pointer timeout:pointer mask:pointer"),
    ("epoll_create1", "flags"), ("epoll_ctl", "epoll_fd operation fd event:pointer"),
    ("epoll_wait", "epoll_fd events:pointer max timeout:int"), ("epoll_pwait", "epoll_fd events:pointer max timeout:int mask:pointer size:long"),
    ("eventfd2", "value flags"), ("signalfd4", "fd mask:pointer size:long flags"), ("timerfd_create", "clock flags"),
    ("timerfd_settime", "fd flags new:pointer old:pointer"), ("inotify_init1", "flags"), ("inotify_add_watch", "fd name:pointer mask"),
    ("inotify_rm_watch", "fd watch"), ("fanotify_mark", "fd flags mask dfd name:pointer"),
    ("brk", "address:pointer"), ("munmap", "address:pointer length:long"), ("mremap", "address:pointer length:long new_length:long flags new_address:pointer"),
    ("madvise", "address:pointer length:long advice"), ("mlock", "address:pointer length:long"), ("mlockall", "flags"), ("msync", "address:pointer length:long flags"),
    ("clone", "flags:long stack:pointer parent_tid:pointer child_tid:pointer tls:pointer"), ("clone3", "arguments:pointer size:long"), ("fork", ""), ("vfork", ""),
    ("execve", "name:pointer arguments:pointer environment:pointer"), ("execveat", "dfd name:pointer arguments:pointer environment:pointer flags"),
    ("wait4", "pid:process status:pointer options:int usage:pointer"), ("waitid", "which id info:pointer options:int usage:pointer"),
    ("kill", "pid:process signal"), ("tkill", "tid signal"), ("tgkill", "pid:process tid signal"), ("rt_sigqueueinfo", "pid:process signal info:pointer"),
    ("pidfd_open", "pid:process flags"), ("pidfd_send_signal", "pidfd signal info:pointer flags"),
    ("rt_sigaction", "signal new:pointer old:pointer size:long"), ("rt_sigprocmask", "how new:pointer old:pointer size:long"), ("pause", ""),
    ("rt_sigtimedwait", "set:pointer info:pointer timeout:pointer size:long"), ("sigaltstack", "new:pointer old:pointer"),
    ("getpid", ""), ("gettid", ""), ("getppid", ""), ("getuid", ""), ("geteuid", ""), ("getgid", ""), ("getegid", ""), ("getuid32", ""),
    ("getpgid", "pid:process"), ("setpgid", "pid:process group"), ("getpgrp", ""), ("getsid", "pid:process"), ("setsid", ""), ("sched_yield", ""),
    ("sched_setaffinity", "pid:process size:long mask:pointer"), ("sched_getaffinity", "pid:process size:long mask:pointer"),
    ("sched_setscheduler", "pid:process policy parameter:pointer"), ("setpriority", "which who:int priority:int"), ("getpriority", "which who:int"),
    ("setrlimit", "resource limit:pointer"), ("getrlimit", "resource limit:pointer"), ("prlimit64", "pid:process resource new:pointer old:pointer"),
    ("futex", "word:pointer operation value timeout:pointer word2:pointer value3"), ("set_robust_list", "head:pointer length:long"),
    ("rseq", "area:pointer length:long flags signature"), ("set_tid_address", "address:pointer"), ("arch_prctl", "code address:pointer"),
    ("membarrier", "command flags cpu"), ("getrandom", "buffer:pointer size:long flags"), ("uname", "buffer:pointer"), ("sysinfo", "info:pointer"),
    ("nanosleep", "time:pointer left:pointer"), ("clock_nanosleep", "clock flags time:pointer left:pointer"),
    ("clock_gettime", "clock time:pointer"), ("gettimeofday", "time:pointer zone:pointer"), ("time", "time:pointer"), ("alarm", "seconds"),
    ("sendto", "fd buffer:pointer size:long flags address:pointer length:long"), ("recvfrom", "fd buffer:pointer size:long flags address:pointer length:pointer"),
    ("sendmsg", "fd message:pointer flags"), ("sendmmsg", "fd messages:pointer count flags"),
    ("shutdown", "fd how"), ("getsockname", "fd address:pointer length:pointer"), ("getpeername", "fd address:pointer length:pointer"),
    ("socketpair", "family type protocol fds:pointer"), ("setsockopt", "fd level option value:pointer length:long"),
    ("getsockopt", "fd level option value:pointer length:pointer"), ("io_uring_enter", "fd submit complete flags"),
    ("kcmp", "pid:process pid2:int type index1:long index2:long"), ("name_to_handle_at", "dfd name:pointer handle:pointer mount_id:pointer flags"),
    ("quotactl", "command device:pointer id address:pointer"), ("lookup_dcookie", "cookie:long buffer:pointer size:long"),
    ("shmget", "key size:long flags"), ("shmat", "id address:pointer flags"), ("semget", "key count flags"), ("msgget", "key flags"),
    ("landlock_create_ruleset", "attributes:pointer size:long flags"), ("landlock_restrict_self", "fd flags"), ("getxattr", "name:pointer attribute:pointer value:pointer size:long"),
];

#[cfg(test)]
mod tests {
    use super::MORE_ARGUMENTS;
    use crate::event::model::named_arguments;
    use crate::probe::call;

    #[test]
    fn every_call_of_the_table_exists_once_and_is_no_event_kind() {
        for (place, (name, arguments)) in MORE_ARGUMENTS.iter().enumerate() {
            assert!(call::native_number(name).or(call::compat_number(name)).is_some(), "{name}");
            assert!(MORE_ARGUMENTS[..place].iter().all(|(other, _)| other != name), "{name}");
            assert!(taffrail_common::call::CALLS.iter().all(|row| row.name != *name), "{name}");
            let named = named_arguments(name).unwrap_or_default();
            assert!(named.len() <= 6 && named.len() == arguments.split_whitespace().count(), "{name}");
        }
    }
}
