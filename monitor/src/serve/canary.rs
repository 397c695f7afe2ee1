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
    /// Children that were not taken leave of yet, each in its place of [`Canary`].
    children: [Option<libc::pid_t>; Canary::AWAITED_MAX],
    /// The place of the next one, which is that of the oldest.
    next: usize,
}

impl Sender {
    /// Lets a child begin and end, unless one of long ago is still there. Its number is noted before it ends.
    pub fn send(&mut self, canary: &Canary) -> io::Result<()> {
        let place = self.next;
        // Before its number can be another's.
        canary.wait_for(place, 0);
        for (place, child) in self.children.iter_mut().enumerate() {
            if canary.awaited(place).is_none() {
                *child = child.filter(|pid| !reap(*pid));
            }
        }
        let Some(child) = self.children.get_mut(place).filter(|child| child.is_none()) else {
            return Err(io::Error::other("one of long ago has not ended"));
        };
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
        canary.wait_for(place, u64::from(pid.unsigned_abs()));
        *child = Some(pid);
        self.next = (place + 1) % Canary::AWAITED_MAX;
        Ok(())
    }
}

/// Takes leave of a child that has ended, which frees its number; tells whether it had. It is not waited for: somebody might
/// have stopped it.
fn reap(pid: libc::pid_t) -> bool {
    // SAFETY: a child of ours that was not waited for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) == pid }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of the children that are waited for.
    fn awaited(canary: &Canary) -> Vec<u32> {
        let pids = (0..Canary::AWAITED_MAX).filter_map(|place| canary.awaited(place));
        pids.map(|pid| u32::try_from(pid).unwrap()).collect()
    }

    /// Whether a child has ended and nobody has taken leave of it.
    fn has_ended(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.contains(") Z ")
    }

    #[test]
    fn children_are_waited_for_until_they_are_seen_however_long_their_way_is() {
        let (canary, mut sender) = (Canary::default(), Sender::default());
        for _ in 0..3 {
            sender.send(&canary).unwrap();
        }
        let pids = awaited(&canary);
        let pid_ns = u32::try_from(canary.pid_ns.get()).unwrap();
        assert_eq!(pids.len(), 3);
        assert!(!canary.takes(pids[0], pid_ns + 1) && canary.seen_ns.get() == 0);
        assert!(canary.takes(pids[0], pid_ns) && canary.seen_ns.get() > 0);
        assert!(!canary.takes(pids[0], pid_ns), "it ends only once");
        assert_eq!(awaited(&canary), pids[1..]);
    }

    #[test]
    fn number_of_a_child_is_nobody_elses_while_it_is_waited_for_and_the_oldest_make_room() {
        let (canary, mut sender) = (Canary::default(), Sender::default());
        for _ in 0..Canary::AWAITED_MAX {
            sender.send(&canary).unwrap();
        }
        let pids = awaited(&canary);
        while !pids.iter().all(|pid| has_ended(*pid)) {
            std::thread::yield_now();
        }
        sender.send(&canary).unwrap();
        let left = awaited(&canary);
        assert_eq!(left.len(), Canary::AWAITED_MAX);
        assert!(pids[1..].iter().all(|pid| left.contains(pid) && has_ended(*pid)));
        assert!(!std::path::Path::new(&format!("/proc/{}", pids[0])).exists() || left.contains(&pids[0]));
    }
}
