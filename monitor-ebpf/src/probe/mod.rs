//! The probes, one file per hook family.

mod connect;
mod exec;
mod exit;
mod fork;
mod open;
mod strong_trial;
mod syscall;
