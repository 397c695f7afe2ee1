//! Puts a record together and sends it: the only way out of the kernel. What finds no room is counted, by kind
//! and cgroup, never swallowed.
//!
//! Rings are shared fairly once they are a quarter full. From then on a container may put in at most half of what
//! is still free, counted anew each time that the reading end has come a quarter further. While nothing is read, one
//! that floods thus gets a third of the rest, two get half of it, n get n in n+2, and something is always left for
//! others; and as much as is read can be written, so that nobody is held back without need. Counters are shared by
//! all CPUs: each can be a record late.

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user_str, bpf_ringbuf_output,
};
use aya_ebpf::maps::RingBuf;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use core::marker::PhantomData;
use core::ptr::read_volatile;
use taffrail_common::event::{Header, PAYLOAD_MAX, TEXT_MAX, Text};
use taffrail_common::map::{LossKey, Share};

use crate::atomic;
use crate::maps::{AHEAD, BULK, LOST, RECORD_MAX, RING_BYTES, SCRATCH, Scratch, URGENT, USED};
use crate::path::WalkMemory;
use crate::read::{constant, mask, user};
use crate::scope;

/// Which ring a record takes.
#[derive(Clone, Copy)]
pub enum Lane {
    /// What detection must not lose.
    Urgent,
    /// The rest.
    Bulk,
}

macro_rules! urgent_kinds {
    ($( ($id:literal, $name:ident, $record:ident, $lane:ident) )*) => {
        0 $( | match Lane::$lane { Lane::Urgent => 1u64 << $id, Lane::Bulk => 0 } )*
    };
}

/// Bit n is kind n.
const URGENT_KINDS: u64 = taffrail_common::for_each_kind!(urgent_kinds);

/// The lane of a kind that is known at run time only.
#[inline(always)]
pub fn lane(kind: u16) -> Lane {
    if URGENT_KINDS >> (kind & 63) & 1 != 0 { Lane::Urgent } else { Lane::Bulk }
}

/// A record of type `R` while it is put together, in this CPU's scratch memory.
pub struct Draft<R> {
    scratch: *mut Scratch,
    record: PhantomData<R>,
}

/// `BPF_RB_NO_WAKEUP`, `BPF_RB_FORCE_WAKEUP`, `BPF_RB_AVAIL_DATA` and `BPF_RB_CONS_POS` of the kernel's `bpf.h`.
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
const AVAILABLE: u64 = 0;
const READ_POSITION: u64 = 2;

/// Bytes that the kernel puts before each record in a ring.
const RECORD_HEADER: u64 = 8;

impl<R> Draft<R> {
    /// Starts a record in the program's entry of the scratch map.
    #[inline(always)]
    pub fn begin(scratch: u32) -> Option<Self> {
        const { assert!(size_of::<R>() <= 512) };
        let scratch = SCRATCH.get_ptr_mut(scratch)?;
        // SAFETY: the entry is this program's own on this CPU.
        unsafe { (*scratch).payload_len = 0 };
        Some(Self { scratch, record: PhantomData })
    }

    /// The fixed part. It holds the bytes of the last record until each field is written.
    #[inline(always)]
    pub fn record(&self) -> *mut R {
        // SAFETY: an address within the entry.
        unsafe { (&raw mut (*self.scratch).record).cast() }
    }

    /// Memory for walking a path.
    #[inline(always)]
    pub fn walk(&self) -> *mut WalkMemory {
        // SAFETY: an address within the entry.
        unsafe { &raw mut (*self.scratch).walk }
    }

    /// Where the payload goes on, with [`TEXT_MAX`] + 1 bytes of room.
    #[inline(always)]
    pub fn payload_end(&self) -> *mut u8 {
        // SAFETY: an address within the entry. Volatile, so that the verifier sees an unknown scalar
        // with the mask's bound on every path, and prunes.
        unsafe {
            let at = mask::<0x3fff>(read_volatile(&raw const (*self.scratch).payload_len));
            (&raw mut (*self.scratch).record).cast::<u8>().add(size_of::<R>()).add(at as usize)
        }
    }

    /// Counts bytes that were written at `payload_end`.
    #[inline(always)]
    pub fn grow(&self, len: u64) {
        // SAFETY: the entry is this program's own on this CPU.
        unsafe { (*self.scratch).payload_len += len };
    }

    /// Appends kernel memory, at most [`TEXT_MAX`] bytes; returns how many.
    #[inline(always)]
    pub fn append_kernel(&self, from: *const u8, len: u64) -> u32 {
        if !self.has_room() {
            return 0;
        }
        let len = mask::<0xfff>(if len > TEXT_MAX as u64 { TEXT_MAX as u64 } else { len });
        // SAFETY: the verifier checks the room.
        if unsafe { bpf_probe_read_kernel(self.payload_end().cast(), len as u32, from.cast()) } != 0 {
            return 0;
        }
        self.grow(len);
        len as u32
    }

    /// Whether there is room for one more text of any length.
    #[inline(always)]
    fn has_room(&self) -> bool {
        // SAFETY: the entry is this program's own on this CPU.
        unsafe { read_volatile(&raw const (*self.scratch).payload_len) <= (PAYLOAD_MAX - TEXT_MAX) as u64 }
    }

    /// Appends user memory, at most [`TEXT_MAX`] bytes: nothing if any of it cannot be read.
    #[inline(always)]
    pub fn append_user(&self, from: u64, full_len: u64) -> Text {
        let len = mask::<0xfff>(if full_len > TEXT_MAX as u64 { TEXT_MAX as u64 } else { full_len });
        let len = if user(self.payload_end(), len as u32, from) { len } else { 0 };
        self.grow(len);
        Text { len: len as u32, full_len: full_len as u32 }
    }

    /// Appends a C string of the kernel's.
    #[inline(always)]
    pub fn append_kernel_str(&self, from: *const u8) -> Text {
        // SAFETY: the verifier checks the room.
        let with_nul =
            unsafe { bpf_probe_read_kernel_str(self.payload_end().cast(), TEXT_MAX as u32 + 1, from.cast()) };
        self.grown_by_str(with_nul)
    }

    /// Appends a C string of the caller's: nothing if it cannot be read.
    #[inline(always)]
    pub fn append_user_str(&self, from: u64) -> Text {
        if !self.has_room() {
            return Text { len: 0, full_len: 1 };
        }
        // SAFETY: the verifier checks the room.
        let with_nul = unsafe {
            bpf_probe_read_user_str(self.payload_end().cast(), TEXT_MAX as u32 + 1, from as *const _)
        };
        self.grown_by_str(with_nul)
    }

    #[inline(always)]
    fn grown_by_str(&self, with_nul: i64) -> Text {
        let len = if with_nul > 0 { with_nul as u64 - 1 } else { 0 };
        self.grow(len);
        Text { len: len as u32, full_len: len as u32 }
    }

    /// Sends the record.
    #[inline(always)]
    pub fn emit(self, lane: Lane) {
        // SAFETY: a record starts with its header, and `RECORD_MAX` bounds it.
        unsafe { send(self.record().cast(), self.len(), lane) }
    }

    /// Sends a copy to whoever has to look at the thing before it is gone, who is woken at once. It is not the event: if
    /// there is no room, he looks when that is handled.
    #[inline(always)]
    pub fn send_ahead(&self) {
        let (header, len) = (self.record().cast::<Header>(), self.len());
        // SAFETY: a record starts with its header.
        unsafe { (*header).len = len as u32 };
        let ring = (&raw const AHEAD).cast_mut();
        // SAFETY: the verifier checks that `len` bytes are there.
        unsafe { bpf_ringbuf_output(ring.cast(), header.cast(), len, FORCE_WAKEUP) };
    }

    /// Bytes of the record and its payload.
    #[inline(always)]
    fn len(&self) -> u64 {
        const { assert!(512 + 0x3fff <= RECORD_MAX) };
        // SAFETY: within the entry.
        let payload = mask::<0x3fff>(unsafe { read_volatile(&raw const (*self.scratch).payload_len) });
        size_of::<R>() as u64 + payload
    }
}

/// Sends a record without payload.
///
/// # Safety
/// All fields of the record are written, and it starts with its header.
#[inline(always)]
pub unsafe fn emit<R>(record: *mut R, lane: Lane) {
    // SAFETY: the caller's promise.
    unsafe { send(record.cast(), size_of::<R>() as u64, lane) }
}

/// A record that is put together in the ring itself, with room for `MAX` bytes of payload: for programs that another
/// can interrupt on the same CPU, which must not share scratch memory.
#[repr(C)]
struct Whole<R, const MAX: usize> {
    record: R,
    payload: [u8; MAX],
}

/// A place in the ring for one.
pub struct Slot<R: 'static, const MAX: usize> {
    entry: RingBufEntry<Whole<R, MAX>>,
    /// Of the ring: whether the daemon is to be woken.
    flags: u64,
}

/// Takes a place in the ring; counts the event as lost if there is none.
#[inline(always)]
pub fn reserve<R: 'static, const MAX: usize>(kind: u16, cgroup_id: u64, lane: Lane) -> Option<Slot<R, MAX>> {
    let (ring, flags) = admit(kind, cgroup_id, lane, size_of::<Whole<R, MAX>>() as u64)?;
    match ring.reserve(0) {
        Some(entry) => Some(Slot { entry, flags }),
        None => {
            count_lost(kind, cgroup_id);
            None
        }
    }
}

impl<R, const MAX: usize> Slot<R, MAX> {
    /// The record and its payload, of which nothing is written yet.
    #[inline(always)]
    pub fn parts(&mut self) -> (*mut R, *mut u8) {
        let whole = self.entry.as_mut_ptr();
        // SAFETY: addresses within the entry.
        unsafe { (&raw mut (*whole).record, (&raw mut (*whole).payload).cast()) }
    }

    /// Sends it; what is unused of its room the daemon passes over.
    ///
    /// # Safety
    /// All fields of the record are written, it starts with its header, and `payload_len` bytes of payload are.
    #[inline(always)]
    pub unsafe fn submit(mut self, payload_len: u32) {
        let header = self.entry.as_mut_ptr().cast::<Header>();
        // SAFETY: the caller's promise.
        unsafe { (*header).len = size_of::<R>() as u32 + payload_len };
        self.entry.submit(self.flags);
    }
}

/// The ring of a lane and the flags for a record of `len` bytes; `None`, and a loss, if its cgroup has had its share.
#[inline(always)]
fn admit(kind: u16, cgroup_id: u64, lane: Lane, len: u64) -> Option<(&'static RingBuf, u64)> {
    let (ring, ring_bytes) = match lane {
        Lane::Urgent => (&URGENT, constant(&raw const RING_BYTES[0])),
        Lane::Bulk => (&BULK, constant(&raw const RING_BYTES[1])),
    };
    let waiting = ring.query(AVAILABLE);
    if waiting < ring_bytes / 4 {
        return Some((ring, NO_WAKEUP));
    }
    let free = ring_bytes.saturating_sub(waiting);
    // A ring has bytes: the compiler does not know that, and nothing may panic here.
    let quarter = ring.query(READ_POSITION).checked_div(ring_bytes / 4).unwrap_or(0);
    if !take_share(cgroup_id, lane, quarter, len + RECORD_HEADER, free / 2) {
        count_lost(kind, cgroup_id);
        return None;
    }
    Some((ring, FORCE_WAKEUP))
}

/// # Safety
/// `header` is the start of a record of `len` bytes.
#[inline(always)]
unsafe fn send(header: *mut Header, len: u64, lane: Lane) {
    // SAFETY: the caller's promise.
    let (kind, cgroup_id) = unsafe { ((*header).kind, (*header).cgroup_id) };
    let Some((ring, flags)) = admit(kind, cgroup_id, lane, len) else { return };
    let ring = core::ptr::from_ref::<RingBuf>(ring).cast_mut();
    // SAFETY: the caller's promise.
    unsafe { (*header).len = len as u32 };
    // SAFETY: the verifier checks that `len` bytes are there.
    if unsafe { bpf_ringbuf_output(ring.cast(), header.cast(), len, flags) } != 0 {
        count_lost(kind, cgroup_id);
    }
}

/// Takes bytes of a ring off the share of a cgroup; false if they are more than it may have.
#[inline(always)]
fn take_share(cgroup_id: u64, lane: Lane, quarter: u64, bytes: u64, allowed: u64) -> bool {
    let share = scope::of(cgroup_id).map_or(0, |scope| scope.share);
    // There is an entry for each share: without one the ring itself decides.
    let Some(entry) = USED.get_ptr_mut(2 * share + lane as u32) else { return true };
    // SAFETY: an entry of an array map, which other CPUs use too: all that they can do is to count late.
    let Share { quarter: last, used_bytes } = unsafe { read_volatile(entry) };
    let used_bytes = if last == quarter {
        used_bytes
    } else {
        // SAFETY: as above.
        unsafe { entry.write_volatile(Share { quarter, used_bytes: 0 }) };
        0
    };
    if used_bytes + bytes > allowed {
        return false;
    }
    // SAFETY: as above; the counter is aligned.
    unsafe { atomic::add(&raw mut (*entry).used_bytes, bytes) };
    true
}

/// Counts an event that was offered and is not going to be seen.
#[inline(always)]
pub fn count_lost(kind: u16, cgroup_id: u64) {
    let key = LossKey { cgroup_id, kind: kind as u32, reserved: 0 };
    match LOST.get_ptr_mut(&key) {
        // SAFETY: a map's value.
        Some(lost) => unsafe { atomic::add(lost, 1) },
        // A new entry starts with this CPU's one; another CPU may have made it meanwhile. If there is no room, the
        // tally has one more than this map.
        None => drop(LOST.insert(&key, &1, 0)),
    }
    // The tally comes last: the daemon reads it first.
    if let Some(tally) = scope::tally(kind) {
        // SAFETY: within the entry.
        unsafe { atomic::add(&raw mut (*tally).lost, 1) };
    }
}
