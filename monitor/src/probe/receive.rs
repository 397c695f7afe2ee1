//! Takes records out of the two rings, in the order in which they happened.
//!
//! The rings are read in rounds. A round is given the time and handles only records made before it:
//! whatever led to such a record was sent before it too, in either ring, so merging by time gives an order
//! in which a process's records follow one another and its fork.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use aya::maps::ring_buf::RingBufItem;
use aya::maps::{MapData, RingBuf};

/// How long records wait at most while the rings are almost empty: the kernel side wakes nobody then.
pub const TICK: Duration = Duration::from_millis(10);

/// The reading ends of both rings.
pub struct Receiver {
    urgent: RingBuf<MapData>,
    bulk: RingBuf<MapData>,
    epoll: OwnedFd,
}

impl Receiver {
    pub(super) fn new(urgent: RingBuf<MapData>, bulk: RingBuf<MapData>) -> io::Result<Self> {
        let epoll = epoll(&[urgent.as_raw_fd(), bulk.as_raw_fd()])?;
        Ok(Self { urgent, bulk, epoll })
    }

    /// Waits until a ring fills up, at most one [`TICK`].
    pub fn wait(&self) {
        wait(&self.epoll, TICK);
    }

    /// Hands each record that was made before that time of the boot clock, which is now or earlier, to `take`,
    /// oldest first, until it returns false. Returns whether the rings may hold more of them.
    pub fn round(&mut self, until_ns: u64, mut take: impl FnMut(&[u8]) -> bool) -> bool {
        let mut bulk = before(self.bulk.next(), until_ns);
        let mut urgent = before(self.urgent.next(), until_ns);
        loop {
            let goes_on = match (&urgent, &bulk) {
                (None, None) => return false,
                (Some(a), Some(b)) if made_ns(a) > made_ns(b) => {
                    let goes_on = take(b);
                    drop(bulk);
                    bulk = before(self.bulk.next(), until_ns);
                    goes_on
                }
                (None, Some(b)) => {
                    let goes_on = take(b);
                    drop(bulk);
                    bulk = before(self.bulk.next(), until_ns);
                    goes_on
                }
                (Some(a), _) => {
                    let goes_on = take(a);
                    drop(urgent);
                    urgent = before(self.urgent.next(), until_ns);
                    goes_on
                }
            };
            if !goes_on {
                // What is held stays in its ring.
                std::mem::forget(urgent);
                std::mem::forget(bulk);
                return true;
            }
        }
    }
}

/// The reading end of the ring of what has to be looked at before it is gone.
pub struct Ahead {
    ring: RingBuf<MapData>,
    epoll: OwnedFd,
}

impl Ahead {
    pub(super) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        let epoll = epoll(&[ring.as_raw_fd()])?;
        Ok(Self { ring, epoll })
    }

    /// Waits for records, at most that long, and hands them to `take`.
    pub fn take(&mut self, at_most: Duration, mut take: impl FnMut(&[u8])) {
        wait(&self.epoll, at_most);
        while let Some(record) = self.ring.next() {
            take(&record);
        }
    }
}

/// What waits for these rings.
fn epoll(rings: &[RawFd]) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
    for ring in rings {
        // Edge-triggered: waiting data alone is no reason to wake up, only the kernel side's call is.
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
        // SAFETY: both descriptors are open and `event` lives.
        if unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, *ring, &raw mut event) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(epoll)
}

fn wait(epoll: &OwnedFd, at_most: Duration) {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 2];
    // An interrupted wait is a short wait.
    // SAFETY: there is room for two events.
    unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), 2, at_most.as_millis() as i32) };
}

/// The record if it was made before that time; else it stays in its ring.
fn before(item: Option<RingBufItem<'_>>, until_ns: u64) -> Option<RingBufItem<'_>> {
    let item = item?;
    if made_ns(&item) < until_ns {
        return Some(item);
    }
    std::mem::forget(item);
    None
}

/// When a record was made; one too short for a header counts as old and goes to the decoder at once.
fn made_ns(record: &[u8]) -> u64 {
    let bytes = record.get(8..16).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_ne_bytes)
}

const _: () = assert!(std::mem::offset_of!(taffrail_common::event::Header, boot_ns) == 8);
