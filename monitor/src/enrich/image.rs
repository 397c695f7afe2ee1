//! What a process runs, in texts that whoever starts it chooses: they are as long as he likes, up to what an event can have.
//! So it is known what all of them take together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::executable::{Digest, Slot, Version};
use super::process::trim_nul;
use super::seed::Seed;
use crate::event::Exec;

/// What a process runs: shared by all that forked from one exec.
#[derive(Debug, Default)]
pub struct Image {
    /// Path of the executable as the process itself would name it.
    pub exe: Box<[u8]>,
    /// The name that exec was asked for; empty if not known (seeded from `/proc`).
    pub filename: Box<[u8]>,
    /// The arguments, each ended by NUL, as far as they were kept.
    pub args: Box<[u8]>,
    /// The arguments joined by single spaces, as `ps` shows them.
    pub exeline: Box<[u8]>,
    /// The same with the command name in place of the first argument, as Falco has it.
    pub cmdline: Box<[u8]>,
    /// Bytes of all arguments as there were.
    pub args_full_len: u32,
    /// Number of arguments as there were.
    pub arg_count: u32,
    /// Which version of which file the executable is.
    pub version: Version,
    /// Its hash, if somebody wants to know it.
    pub digest: OnceLock<Arc<Slot>>,
    /// Bits of `taffrail_common::event::path_flag` for `exe`.
    pub exe_flags: u32,
    /// What it takes.
    _weighed: Weighed,
}

impl Image {
    /// As an exec tells it.
    pub(super) fn of_exec(exec: &Exec<'_>, weight: &Weight) -> Self {
        let Exec { record, exe, cwd, filename, args } = exec;
        Self {
            exe: (*exe).into(),
            filename: (*filename).into(),
            args: (*args).into(),
            exeline: exeline(args),
            cmdline: cmdline(trim_nul(&record.header.comm), args),
            args_full_len: record.args.full_len,
            arg_count: record.arg_count,
            version: Version::of(record),
            digest: OnceLock::new(),
            exe_flags: record.exe.flags,
            _weighed: weight.add(exe.len() + filename.len() + 3 * args.len() + cwd.len()),
        }
    }

    /// As `/proc` tells it.
    pub(super) fn of_seed(seed: &Seed, weight: &Weight) -> Self {
        Self {
            exe: seed.exe.clone().into(),
            filename: Box::default(),
            exeline: exeline(&seed.args),
            cmdline: cmdline(&seed.comm, &seed.args),
            args_full_len: seed.args_full_len.max(seed.args.len() as u32),
            arg_count: memchr::memchr_iter(0, &seed.args).count() as u32,
            args: seed.args.clone().into(),
            version: Version {
                dev: seed.exe_dev,
                ino: seed.exe_ino,
                ctime_ns: seed.exe_ctime_ns,
                bytes: seed.exe_bytes,
                started_ns: 0,
            },
            digest: OnceLock::new(),
            exe_flags: 0,
            _weighed: weight.add(seed.exe.len() + 3 * seed.args.len() + seed.cwd.len()),
        }
    }

    /// The hash of the executable, or why there is none; `None`: nobody wanted to know, or it is to come.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.get()?.get()
    }
}

/// Arguments that end with NUL, joined by spaces.
fn exeline(args: &[u8]) -> Box<[u8]> {
    let args = args.strip_suffix(b"\0").unwrap_or(args);
    args.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect()
}

/// The command name and all arguments but the first; nothing if there are none.
fn cmdline(name: &[u8], args: &[u8]) -> Box<[u8]> {
    let line = exeline(args);
    let Some(end) = memchr::memchr(0, args) else { return line };
    [name, line.get(end..).unwrap_or_default()].concat().into()
}

/// Bytes of all texts of images that are there, with the working folders that came with them.
#[derive(Debug, Default)]
pub(super) struct Weight(Arc<AtomicUsize>);

impl Weight {
    /// The sum.
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) -> Weighed {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Weighed { bytes, sum: Some(Arc::clone(&self.0)) }
    }
}

/// A part of the sum, as long as it lives.
#[derive(Debug, Default)]
struct Weighed {
    bytes: usize,
    sum: Option<Arc<AtomicUsize>>,
}

impl Drop for Weighed {
    fn drop(&mut self) {
        if let Some(sum) = &self.sum {
            sum.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}
