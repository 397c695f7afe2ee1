//! The release binary: one static file.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::{cargo, root, succeed};

/// The target without a dynamic C library.
pub const TARGET: &str = "x86_64-unknown-linux-musl";

/// Builds the daemon for release and checks that it needs no other file. Returns where it is.
pub fn release() -> Result<PathBuf> {
    succeed(&mut cargo(&["build", "--release", "--target", TARGET, "--package", "taffrail"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let path = target.join(TARGET).join("release/taffrail").canonicalize()?;
    let binary = std::fs::read(&path)?;
    ensure!(!has_interpreter(&binary), "{} is not static: it names a dynamic linker", path.display());
    eprintln!("built {}, {:.1} MB, static", path.display(), binary.len() as f64 / 1e6);
    Ok(path)
}

/// Whether a 64-bit little-endian ELF file has a program header of type `PT_INTERP`.
fn has_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, len: usize| {
        let bytes = elf.get(at..at + len).unwrap_or_default();
        bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte))
    };
    let (table, size, count) = (number(32, 8) as usize, number(54, 2) as usize, number(56, 2) as usize);
    (0..count).any(|n| number(table + n * size, 4) == PT_INTERP)
}
