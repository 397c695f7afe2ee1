//! One file per hook family, named by the event.

mod call;
mod cgroup;
mod connect;
mod cred;
mod exec;
mod exit;
mod flow;
mod fork;
mod io_uring;
mod keep;
mod open;
mod signal;
mod strong_trial;
mod syscall;
