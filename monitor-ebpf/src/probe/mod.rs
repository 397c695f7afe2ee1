//! One file per hook family, named by the event.

mod call;
mod cgroup;
mod connect;
mod cred;
mod dns;
mod exec;
mod exit;
mod flow;
mod fork;
mod io_uring;
mod keep;
mod open;
mod packet;
mod signal;
mod strong;
mod syscall;
mod udp;
