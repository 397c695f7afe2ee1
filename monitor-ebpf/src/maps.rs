//! Every map and read-only global: what it is for, its key, value and size, and who uses it.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf};
use taffrail_common::call::{CallShape, SOCKETCALLS, SOCKETCALLS_MAX};
use taffrail_common::event::{Credentials, Header, PAYLOAD_MAX, Path, TEXT_MAX};
use taffrail_common::kernel::Offsets;
use taffrail_common::kind::KINDS;
use taffrail_common::map::{
    CallsKept, Count, CountKey, DnsNext, DnsStream, FLIGHT_SLOTS, FlightEntry, Handled, LossKey, NO_NUMBER,
    Owner, SHARES, Scope, Share, Tallies, UdpFlow, Written,
};

use crate::path::WalkMemory;

/// Where the kernel's fields are; the daemon sets it before load.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::NONE;

/// What the running kernel can do: bits of `taffrail_common::map::feature`; the daemon sets it before load.
#[unsafe(no_mangle)]
pub static FEATURES: u32 = 0;

/// The daemon itself: its process id in its own pid namespace, and that namespace's inode number. What it does with
/// BPF and files would else be events that make more of the same. The daemon sets it before load.
#[unsafe(no_mangle)]
pub static SELF: [u32; 2] = [0; 2];

/// The hierarchy whose cgroups are told apart: its id, 0 for v2, and the place of its controller among the kernel's, which
/// only a hierarchy of v1 has. The daemon sets it before load.
#[unsafe(no_mangle)]
pub static HIERARCHY: [u32; 2] = [0; 2];

/// How many arguments the tracepoints `io_uring_submit_req` (or `io_uring_submit_sqe` before 6.3) and
/// `io_uring_complete` have: their forms differ by kernel. The daemon sets it before load.
#[unsafe(no_mangle)]
pub static IO_URING_ARGUMENTS: [u32; 2] = [0; 2];

/// Bytes of the urgent and of the bulk ring. The daemon sets it before load.
#[unsafe(no_mangle)]
pub static RING_BYTES: [u64; 2] = [1 << 20, 1 << 22];

/// What is to be kept of all system calls. The daemon sets it before load.
#[unsafe(no_mangle)]
pub static CALLS_KEPT: CallsKept = CallsKept { counted: 0, flight: 0, twice: [NO_NUMBER; 8] };

/// Records that detection must not lose. The daemon sets the size and reads it.
#[map]
pub static URGENT: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// All other records. The daemon sets the size and reads it.
#[map]
pub static BULK: RingBuf = RingBuf::with_byte_size(1 << 22, 0);

/// Copies of records of what has to be looked at before it is gone: new cgroups, and removed ones. They are told to
/// whoever looks at once, and do not wait behind events. The daemon reads it.
#[map]
pub static AHEAD: RingBuf = RingBuf::with_byte_size(1 << 18, 0);

/// What became of the events, by kind: one entry. The daemon reads it.
#[map]
pub static TALLY: PerCpuArray<Tallies> = PerCpuArray::with_max_entries(1, 0);

/// Lost events by cgroup and kind. The daemon reads it, and deletes what it has reported.
#[map]
pub static LOST: PerCpuHashMap<LossKey, u64> = PerCpuHashMap::with_max_entries(4096, 0);

/// What is decided about a cgroup, by cgroup id. The daemon writes it, and removes cgroups that are gone.
#[map]
pub static SCOPE: HashMap<u64, Scope> = HashMap::with_max_entries(16384, 0);

/// What the daemon has made of the events, for the next one: one entry. No probe looks at it.
#[map]
pub static HANDLED: Array<Handled> = Array::with_max_entries(1, 0);

/// What is decided about a cgroup that is not in `SCOPE`: one entry. The daemon writes it.
#[map]
pub static SCOPE_DEFAULT: Array<Scope> = Array::with_max_entries(1, 0);

/// Contained processes that are in a cgroup which is watched for less, by process id: the kinds that they stay watched
/// for, wherever they go. What does not fit is counted in `MOVED_COUNT`. The probes and the daemon write it.
#[map]
pub static MOVED: HashMap<u32, u64> = HashMap::with_max_entries(4096, 0);

/// How many processes were ever put into `MOVED`, and how many did not fit. While the first is 0 nobody looks there. The
/// daemon reads it.
#[map]
pub static MOVED_COUNT: Array<[u64; 2]> = Array::with_max_entries(1, 0);

/// Who has put how much into rings that are filling up: by share, the urgent ring's entry and then the bulk ring's.
#[map]
pub static USED: Array<Share> = Array::with_max_entries(2 * SHARES as u32, 0);

/// Which system calls are events, and how to read them: by number, the native table first, then the 32-bit one,
/// then the operations of socketcall(2). The daemon writes it.
#[map]
pub static CALLS: Array<CallShape> = Array::with_max_entries((SOCKETCALLS + SOCKETCALLS_MAX) as u32, 0);

/// The program for each kind that is system calls, by kind. The daemon writes it.
#[map]
pub static CALL_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(KINDS as u32, 0);

/// As [`CALL_PROGRAMS`], for calls that end in their own functions. The daemon writes it.
#[map]
pub static END_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(KINDS as u32, 0);

/// As [`END_PROGRAMS`], for functions that the kernel's type information describes in another way: all programs of an
/// array must have been loaded for functions of one type (6.12).
#[map]
pub static END_PROGRAMS_OTHER: ProgramArray = ProgramArray::with_max_entries(KINDS as u32, 0);

/// What the strong tier sees: the kinds of system calls that `probe/strong/call.rs` sees, which `syscall_exit` leaves
/// alone; and the kinds of which other programs keep something for the call's end. The daemon writes it.
#[map]
pub static STRONG_KINDS: Array<u64> = Array::with_max_entries(2, 0);

/// Entry of [`STRONG_KINDS`]: system calls that end in their own functions.
pub const STRONG_ENDS: u32 = 0;
/// Entry of [`STRONG_KINDS`]: kinds with something kept.
pub const STRONG_KEPT: u32 = 1;

/// What a thread is opening, by thread: from when the kernel has found the file, or has not, to the end of the call.
/// Entries of threads that die in between, or whose end was missed, age out; as do those of the next two.
#[map]
pub static OPENING: LruHashMap<u64, Opening> = LruHashMap::with_max_entries(8192, 0);

/// The credentials that a thread had before it changed them, by thread, to the end of the call.
#[map]
pub static OLD_CREDENTIALS: LruHashMap<u64, Credentials> = LruHashMap::with_max_entries(4096, 0);

/// The objects that a thread's call works on, by thread, from when the kernel has found them to the end of the call.
#[map]
pub static OBJECTS: LruHashMap<u64, Objects> = LruHashMap::with_max_entries(512, 0);

/// How often each system call ended, by cgroup. The daemon sets the size, reads it, and removes cgroups that are gone.
#[map]
pub static COUNTS: PerCpuHashMap<CountKey, Count> = PerCpuHashMap::with_max_entries(1, 0);

/// System calls for which `COUNTS` had no room: one entry. The daemon reads it.
#[map]
pub static NOT_COUNTED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The last system calls of containers, slot by slot. The daemon sets the size and reads it.
#[map]
pub static FLIGHT: Array<FlightEntry> = Array::with_max_entries(1, 0);

/// How many system calls were put into each slot of `FLIGHT`; the first one is unused. The daemon reads it.
#[map]
pub static FLIGHT_HEADS: Array<u64> = Array::with_max_entries(FLIGHT_SLOTS as u32 + 1, 0);

/// Open files that were written, by address of their `struct file`. Entries of files that were closed age out.
#[map]
pub static WRITTEN: LruHashMap<u64, Written> = LruHashMap::with_max_entries(16384, 0);

/// Operation by ring and user data, from its start to its end, for kernels that do not tell it at the end.
#[map]
pub static IO_URING_TOLD: LruHashMap<[u64; 2], u32> = LruHashMap::with_max_entries(4096, 0);

/// Whose a TCP socket is, by address of its `struct sock`, from connect or accept to its end.
#[map]
pub static OWNERS: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(16384, 0);

/// Who listens, by network namespace and port.
#[map]
pub static LISTENERS: LruHashMap<u64, Header> = LruHashMap::with_max_entries(4096, 0);

/// Who bound or used a UDP socket last, by address of its `struct sock`. Apart from [`OWNERS`], since most of these
/// live for one question of DNS only.
#[map]
pub static DATAGRAM_OWNERS: LruHashMap<u64, Header> = LruHashMap::with_max_entries(8192, 0);

/// UDP flows that were told, and whether they are DNS. One that ages out is told again.
#[map]
pub static UDP_FLOWS: LruHashMap<UdpFlow, u8> = LruHashMap::with_max_entries(32768, 0);

/// UDP sockets that asked port 53, by address of their `struct sock`: the port on the way may be another, by NAT.
#[map]
pub static DNS_SOCKETS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(4096, 0);

/// Where the messages of a TCP connection at port 53 are.
#[map]
pub static DNS_STREAMS: LruHashMap<DnsStream, DnsNext> = LruHashMap::with_max_entries(4096, 0);

/// The address that a thread is connecting to, by thread (`bpf_get_current_pid_tgid`), from the cgroup
/// connect hook to the end of the system call. Entries of threads that die in between age out.
#[map]
pub static CONNECTING: LruHashMap<u64, Connecting> = LruHashMap::with_max_entries(4096, 0);

/// Where records are put together. One entry per program: the kernel never runs a program twice at a time
/// on one CPU, so an entry has one user even if another program interrupts.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SCRATCHES, 0);

/// Entry of [`SCRATCH`] for the exec probe.
pub const SCRATCH_EXEC: u32 = 0;
/// Entry of [`SCRATCH`] for the programs of system calls, of which only one can run.
pub const SCRATCH_SYSCALL: u32 = 1;
/// Entry of [`SCRATCH`] for the cgroup probe.
pub const SCRATCH_CGROUP: u32 = 2;
/// Entry of [`SCRATCH`] for submitted operations of io_uring.
pub const SCRATCH_SUBMIT: u32 = 3;
/// Entry of [`SCRATCH`] for completed operations of io_uring.
pub const SCRATCH_COMPLETE: u32 = 4;
/// First of the entries of [`SCRATCH`] that programs of the strong tier claim: there are many of those, and most
/// kernels let another task's come between.
pub const SCRATCH_STRONG: u32 = 5;
/// How many programs of the strong tier can be under way on one CPU.
pub const STRONG_LEVELS: u32 = 4;
const SCRATCHES: u32 = SCRATCH_STRONG + STRONG_LEVELS;

/// Which of the entries from [`SCRATCH_STRONG`] on are claimed: how many programs of this CPU want each.
#[map]
pub static CLAIMS: PerCpuArray<[u64; STRONG_LEVELS as usize]> = PerCpuArray::with_max_entries(1, 0);

/// A file that is being opened.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Opening {
    /// Address of the `struct file`; [`Opening::TOLD`] if the event was made.
    pub file: u64,
    /// Address of the kernel's copy of the name, which lives until the call ends.
    pub name: u64,
    /// Flags that were asked for.
    pub flags: u32,
    /// Id of the call.
    pub call: u16,
    /// Bits of `header_flag`.
    pub header_flags: u16,
}

impl Opening {
    /// The event was made already.
    pub const TOLD: u64 = 1;
}

/// Paths that the kernel has resolved for a call, and their bytes behind.
#[repr(C)]
pub struct Objects {
    pub head: ObjectsHead,
    pub text: [u8; OBJECTS_TEXT],
}

/// The fixed part of [`Objects`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ObjectsHead {
    /// The first two arguments of the call that they belong to.
    pub args: [u64; 2],
    /// The file.
    pub file: Path,
    /// The second file.
    pub target: Path,
    /// Id of the call.
    pub call: u32,
    /// Type and permissions of the file (`inode->i_mode`).
    pub mode: u32,
}

/// Room for two paths.
pub const OBJECTS_TEXT: usize = 2 * (TEXT_MAX + 1);

/// The kernel's copy of the address that connect(2) was given.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Connecting {
    /// IPv4 in the first word, network order.
    pub addr: [u32; 4],
    /// Network order, in the low half.
    pub port: u32,
    /// `AF_INET` or `AF_INET6`.
    pub family: u32,
    /// Address of the `struct sock`.
    pub sk: u64,
}

/// Bytes that a record with all its payload can take, and room for the verifier's bounds.
pub const RECORD_MAX: usize = 512 + 16384 + 4096;

const _: () = assert!(PAYLOAD_MAX < 16384);

/// A record while it is put together.
#[repr(C)]
pub struct Scratch {
    /// Bytes of payload that are in `record`.
    pub payload_len: u64,
    /// Which entry this is, while a program of the strong tier has it.
    pub own_place: u64,
    /// Arguments of the system call; two words of room for the verifier's bounds.
    pub args: [u64; 8],
    /// The path being walked.
    pub walk: WalkMemory,
    /// The record.
    pub record: [u8; RECORD_MAX],
}
