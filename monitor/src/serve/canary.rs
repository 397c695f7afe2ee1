//! The daemon's own event: a child that ends at once. Its `exit` has to come through the kernel's hook, the ring and the
//! match thread, so seeing it again and again shows that somebody is watching, and that nobody has taken the probes off. It is not
//! recorded.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use crate::vitals::Canary;

/// Sends them, one after the other.
#[derive(Default)]
pub struct Sender {
    /// A child that was not waited for yet.
    child: Option<libc::pid_t>,
}

impl Sender {
    /// Lets a child begin and end, unless the last one is still there. Its number is noted before it ends.
    pub fn send(&mut self, canary: &Canary) -> io::Result<()> {
        self.reap();
        if self.child.is_some() {
            return Err(io::Error::other("the last one has not ended"));
        }
        canary.pid_ns.set(std::fs::metadata("/proc/self/ns/pid")?.ino());
        // The child ends when this is closed.
        let (gate, hold) = io::pipe()?;
        let (gate_fd, hold_fd) = (gate.as_raw_fd(), hold.as_raw_fd());
        // SAFETY: the child calls nothing but system calls, and ends without returning.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == 0 {
            // SAFETY: a descriptor of the child's own.
            unsafe { libc::close(hold_fd) };
            let mut byte = 0u8;
            // SAFETY: there is room for one byte; it waits for the end of the pipe.
            unsafe { libc::read(gate_fd, (&raw mut byte).cast(), 1) };
            // SAFETY: it does not return.
            unsafe { libc::_exit(0) };
        }
        canary.pid.set(u64::from(pid.unsigned_abs()));
        self.child = Some(pid);
        Ok(())
    }

    /// Takes leave of a child that has ended, which frees its number. It is not waited for: somebody might have stopped it.
    fn reap(&mut self) {
        let Some(pid) = self.child else { return };
        // SAFETY: a child of ours that was not waited for.
        if unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } == pid {
            self.child = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_ends_and_its_number_is_noted() {
        let (canary, mut sender) = (Canary::default(), Sender::default());
        sender.send(&canary).unwrap();
        assert!(canary.pid.get() > 1 && canary.pid_ns.get() > 0);
        assert_eq!(sender.child.map(|pid| pid as u64), Some(canary.pid.get()));
        while sender.child.is_some() {
            std::thread::yield_now();
            sender.reap();
        }
        sender.send(&canary).unwrap();
    }
}
