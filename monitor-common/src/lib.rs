//! The ABI between the kernel probes and the daemon: record layouts, names and bounds.
//! It holds no logic and no unsafe code. The kernel side (`monitor-ebpf`) writes these records,
//! `monitor/src/event/decode.rs` is the only place that reads them.
#![no_std]
#![forbid(unsafe_code)]

pub mod call;
pub mod event;
pub mod kernel;
pub mod kind;
pub mod map;
