//! The program `act` in a container's cgroup: it does one thing many times, once it is told to go.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::container::Container;
use crate::daemon::beside;
use taffrail::enrich::cgroup::Layout;

/// It, until it has ended.
pub struct Act(Child);

impl Act {
    /// Starts it, up to where it waits.
    pub fn prepare(container: &Container, arguments: &[&str]) -> Self {
        let mut command = command(container, &beside("act"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Keeps it on one core.
    pub fn pin(&self) {
        // SAFETY: a set of CPUs is plain bits.
        let mut cpus: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: CPU 0 is in any set.
        unsafe { libc::CPU_SET(0, &mut cpus) };
        // SAFETY: the set lives.
        unsafe { libc::sched_setaffinity(self.pid() as i32, size_of_val(&cpus), &raw const cpus) };
    }

    /// Tells it to go.
    pub fn go(&mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    }

    /// Waits for its end.
    pub fn end(mut self) {
        assert!(self.0.wait().unwrap().success());
    }

    /// All of it.
    pub fn run(container: &Container, arguments: &[&str]) {
        let mut act = Self::prepare(container, arguments);
        act.go();
        act.end();
    }
}

/// A host program that is put into a container's cgroup before it starts.
fn command(container: &Container, program: &Path) -> Command {
    let layout = Layout::detect();
    let procs = layout.root().expect("a v2 cgroup tree").join(container.id()).join("cgroup.procs");
    let procs = std::fs::OpenOptions::new().write(true).open(procs).unwrap();
    let mut command = Command::new(program);
    // SAFETY: only write(2) is called between fork and exec.
    unsafe { command.pre_exec(move || std::io::Write::write_all(&mut &procs, b"0")) };
    command
}
