//! How full a ring is, looked at from outside: its positions are in two pages that the kernel lets anybody map who has
//! the ring. Nothing is taken out, and no thread that reads the ring is asked.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// The positions of a ring.
#[derive(Debug)]
pub struct RingFill {
    /// Its name.
    pub name: &'static str,
    /// Bytes that it has room for.
    pub size: u32,
    pages: *mut libc::c_void,
    page: usize,
}

// SAFETY: the pages are only read, by atomic loads, and stay mapped for as long as this lives.
unsafe impl Send for RingFill {}
// SAFETY: see above.
unsafe impl Sync for RingFill {}

impl RingFill {
    /// Of a ring buffer map of so many bytes.
    pub(super) fn new(name: &'static str, ring: BorrowedFd<'_>, size: u32) -> io::Result<Self> {
        // SAFETY: no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(io::Error::other)?;
        // The page of the reader's position, and behind it that of the writer's (`ringbuf_map_mmap`, Linux 5.8).
        let (length, fd) = (2 * page, ring.as_raw_fd());
        // SAFETY: the kernel chooses the place; nothing of ours is there.
        let pages = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
        if pages == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { name, size, pages, page })
    }

    /// Bytes that are in it now, of records that nobody has read.
    pub fn used(&self) -> u64 {
        let read = self.position(0);
        // In this order, so that the writer is never behind the reader.
        let written = self.position(self.page);
        written.saturating_sub(read).min(self.size.into())
    }

    fn position(&self, offset: usize) -> u64 {
        // SAFETY: the offset is that of one of the two mapped pages.
        let at = unsafe { self.pages.byte_add(offset) };
        // SAFETY: a page begins with the position, an aligned word that lives as long as the mapping.
        let position = unsafe { &*at.cast::<AtomicU64>() };
        position.load(Ordering::Acquire)
    }
}

impl Drop for RingFill {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nobody uses it any more.
        unsafe { libc::munmap(self.pages, 2 * self.page) };
    }
}
