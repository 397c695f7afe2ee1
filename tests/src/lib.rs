//! What the end-to-end tests share: real containers, containers without a runtime, a real daemon, what the verifier says.

pub mod act;
pub mod container;
pub mod daemon;
pub mod fence;
pub mod net;
pub mod pins;
pub mod profile;
pub mod raw;
pub mod sandbox;
pub mod score;
#[cfg(target_arch = "x86_64")]
pub mod taken;
pub mod verifier;

/// Says loudly that a test cannot run here, and why. The task runner counts these lines.
#[macro_export]
macro_rules! skip {
    ($test:expr, $($reason:tt)*) => {{
        taffrail::testing::skipped($test, format_args!($($reason)*));
        return;
    }};
}

/// Why tests that load probes and start containers by runc cannot run here; `None` if they can.
pub fn cannot_trace() -> Option<String> {
    cannot_load().or_else(container::unavailable)
}

/// Why tests that load probes cannot run here; `None` if they can.
pub fn cannot_load() -> Option<String> {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        return Some("needs root".to_owned());
    }
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no BTF".to_owned());
    }
    None
}
