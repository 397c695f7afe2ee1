//! Puts a record together and sends it: the only way out of the kernel. A full ring is counted, by kind
//! and cgroup, never swallowed.

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user_str, bpf_ringbuf_output,
};
use aya_ebpf::maps::RingBuf;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use core::marker::PhantomData;
use core::ptr::read_volatile;
use taffrail_common::event::{Header, PAYLOAD_MAX, TEXT_MAX, Text};
use taffrail_common::map::LossKey;

use crate::maps::{BULK, LOST, RECORD_MAX, SCRATCH, Scratch, TALLY, URGENT, WAKE_BYTES};
use crate::path::WalkMemory;
use crate::read::{constant, count, mask, user};

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

/// `BPF_RB_NO_WAKEUP`, `BPF_RB_FORCE_WAKEUP` and `BPF_RB_AVAIL_DATA` of the kernel's `bpf.h`.
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
const AVAILABLE: u64 = 0;

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
        const { assert!(512 + 0x3fff <= RECORD_MAX) };
        // SAFETY: within the entry.
        let payload = mask::<0x3fff>(unsafe { read_volatile(&raw const (*self.scratch).payload_len) });
        // SAFETY: a record starts with its header, and `RECORD_MAX` bounds it.
        unsafe { send(self.record().cast(), size_of::<R>() as u64 + payload, lane) }
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
    wake: bool,
}

/// Takes a place in the ring; counts the event as lost if there is none.
#[inline(always)]
pub fn reserve<R: 'static, const MAX: usize>(kind: u16, cgroup_id: u64, lane: Lane) -> Option<Slot<R, MAX>> {
    let (ring, wake) = ring(lane);
    match ring.reserve(0) {
        Some(entry) => Some(Slot { entry, wake }),
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
        self.entry.submit(if self.wake { FORCE_WAKEUP } else { NO_WAKEUP });
    }
}

/// The ring of a lane, and whether it is so full that the daemon is to be woken.
#[inline(always)]
fn ring(lane: Lane) -> (&'static RingBuf, bool) {
    let (ring, wake_bytes) = match lane {
        Lane::Urgent => (&URGENT, &raw const WAKE_BYTES[0]),
        Lane::Bulk => (&BULK, &raw const WAKE_BYTES[1]),
    };
    (ring, ring.query(AVAILABLE) >= constant(wake_bytes))
}

/// # Safety
/// `header` is the start of a record of `len` bytes.
#[inline(always)]
unsafe fn send(header: *mut Header, len: u64, lane: Lane) {
    let (ring, wake) = ring(lane);
    let ring = core::ptr::from_ref::<RingBuf>(ring).cast_mut();
    // SAFETY: the caller's promise.
    unsafe { (*header).len = len as u32 };
    // SAFETY: the verifier checks that `len` bytes are there.
    let result = unsafe {
        bpf_ringbuf_output(ring.cast(), header.cast(), len, if wake { FORCE_WAKEUP } else { NO_WAKEUP })
    };
    if result != 0 {
        // SAFETY: the caller's promise.
        let (kind, cgroup_id) = unsafe { ((*header).kind, (*header).cgroup_id) };
        count_lost(kind, cgroup_id);
    }
}

/// Counts an event that was offered and is not going to be seen.
#[inline(always)]
pub fn count_lost(kind: u16, cgroup_id: u64) {
    let key = LossKey { cgroup_id, kind: kind as u32, reserved: 0 };
    let attributed = match LOST.get_ptr_mut(&key) {
        Some(lost) => {
            // SAFETY: a map's value.
            unsafe { count(lost) };
            true
        }
        // A new entry starts with this CPU's one; another CPU may have made it meanwhile.
        None => LOST.insert(&key, &1, 0).is_ok(),
    };
    if let Some(tally) = TALLY.get_ptr_mut(kind as u32) {
        // SAFETY: within the entry.
        unsafe { count(&raw mut (*tally).lost) };
        if !attributed {
            // SAFETY: within the entry.
            unsafe { count(&raw mut (*tally).lost_unattributed) };
        }
    }
}
