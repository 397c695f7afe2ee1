//! Runs commands on other kernels, in small VMs under software emulation: `tests/vm/vmrun` does the work.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where `cargo xtask vm fetch` keeps kernels.
pub fn cache() -> PathBuf {
    match std::env::var_os("TAFFRAIL_VM_CACHE") {
        Some(path) => path.into(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/taffrail/vm"),
    }
}

/// Why commands cannot run on that kernel; `None` if they can.
pub fn unavailable(kernel: &str) -> Option<String> {
    if !cache().join(kernel).join("kernel").exists() {
        return Some(format!("kernel {kernel} was not fetched (`cargo xtask vm fetch {kernel}`)"));
    }
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output();
    (!qemu.is_ok_and(|output| output.status.success())).then(|| "no qemu-system-x86_64".to_owned())
}

/// Boots that kernel with these files in `/vm` and runs a shell script as root.
pub fn run(kernel: &str, files: &[&Path], script: &str) -> std::io::Result<Output> {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/vm/vmrun")).args(["--timeout", "120"]);
    for file in files {
        command.arg("--put").arg(file);
    }
    command.args([kernel, "--", script]).output()
}
