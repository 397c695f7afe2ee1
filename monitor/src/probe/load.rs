//! Loads the kernel object and has its probes attached, each on its own: one that the running kernel refuses
//! is reported with what it blinds and stops nothing else. All is gone with the process, unless it is to
//! [outlive](super::handover) it.

use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf};
use aya::programs::{FEntry, ProgramFd};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader};
use aya_log::EbpfLogger;
use taffrail_common::call::CallShape;
use taffrail_common::kind;
use taffrail_common::map::{COUNTED, CallsKept, FLIGHT_SLOTS, feature};
use thiserror::Error;

use super::attach::{Loader, blind_kinds, delivered, first_failure, one_line, try_classic};
use super::btf::{self, KernelFacts};
use super::call;
use super::count::{COUNTS_MAX, CallCounts};
use super::fill::RingFill;
use super::flight::Flights;
use super::handover::{self, Ledger, Pins};
use super::hook::{ALL_KINDS, Attach, PROCESS_KINDS, ProbeState, Status, bit};
use super::loss::{LOST_MAX, LossKeyPod, LossReader, TalliesPod};
use super::receive::{Ahead, Receiver};
use super::scope::{SCOPE_MAX, Scopes};
use super::strong;
use super::tree::Tree;
use crate::clock;
use crate::enrich::cgroup::Layout;
use crate::event::field::KindSet;
use crate::event::text::escaped;
use crate::vitals::OfProgram;

/// The kernel object, as `build.rs` made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/taffrail-ebpf"));

/// What to load.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of the ring for what must not be lost: a power of two, at least a page.
    pub urgent_bytes: u32,
    /// Bytes of the ring for the rest.
    pub bulk_bytes: u32,
    /// Kinds that anything needs: probes for others are left out. Process kinds always are in.
    pub kinds: KindSet,
    /// The trees of cgroups.
    pub cgroups: Layout,
    /// That to which programs for packets and sockets are attached.
    pub tree: Tree,
    /// Names of system calls that are to be events of the kind `syscall`.
    pub calls: Vec<String>,
    /// Whether system calls are counted.
    pub count_calls: bool,
    /// How many of the last system calls of a container are kept: 0, or a power of two.
    pub flight: u32,
    /// Which hooks to try.
    pub tiers: Tiers,
    /// Kernel-side diagnosis.
    pub debug: bool,
    /// The folder in a BPF file system that they stay attached by when the daemon ends.
    pub pin: Option<PathBuf>,
}

/// Which hooks to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tiers {
    /// Strong ones, and portable ones for the kinds for which the kernel refuses those.
    Auto,
    /// Portable ones only.
    Portable,
    /// Strong ones where there are any, and nothing in their place.
    Strong,
}

impl Tiers {
    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Tiers::Auto => "auto",
            Tiers::Portable => "portable",
            Tiers::Strong => "strong",
        }
    }
}

/// Why nothing can be seen at all. A single probe's failure is no error but a [`ProbeState`].
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel has no BTF.
    #[error("cannot read the kernel's type information {path}")]
    NoBtf {
        /// Where it should be.
        path: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel's BTF is not what it should be.
    #[error("the kernel's type information {0} is damaged")]
    BadBtf(&'static str),
    /// The process may not load BPF programs.
    #[error("not allowed to load BPF programs")]
    NotPermitted(#[source] EbpfError),
    /// The kernel refused the object as a whole: its maps.
    #[error("the kernel refused the probes' maps")]
    Object(#[source] EbpfError),
    /// No probe at all could be attached.
    #[error("no probe could be attached: {0}")]
    NothingAttached(String),
    /// They cannot be kept for the next daemon.
    #[error("cannot keep the probes in {}", folder.display())]
    Pin {
        /// Where they were to be.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: handover::PinError,
    },
    /// The object lacks a map: it was built from other sources.
    #[error("the kernel object has no usable map `{0}`")]
    Map(&'static str),
}

impl LoadError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            LoadError::NoBtf { .. } | LoadError::BadBtf(_) => {
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (all current distributions, 5.10 or newer)"
            }
            LoadError::NotPermitted(_) => {
                "run as root, or give the capabilities BPF, PERFMON and NET_ADMIN (SYS_ADMIN before Linux 5.8)"
            }
            LoadError::Object(_) => "use Linux 5.10 or newer; `taffrail doctor` shows what is missing",
            LoadError::Pin { source: handover::PinError::InUse, .. } => {
                "stop the other one first, or give this one a folder of its own (`probes.pin`)"
            }
            LoadError::NothingAttached(_) => "`taffrail doctor` shows why, probe by probe",
            LoadError::Pin { .. } => {
                "`probes.pin` has to name a folder in a BPF file system, such as /sys/fs/bpf/taffrail (`mount -t bpf bpf /sys/fs/bpf`)"
            }
            LoadError::Map(_) => "build the whole workspace again",
        }
    }
}

/// Probes that are attached. They detach when this is dropped.
pub struct Probes {
    ebpf: Ebpf,
    /// The kernel empties the array of programs when nobody holds it.
    _programs: ProgramArray<MapData>,
    ends: strong::Ends,
    /// What was made of the events, for the next daemon.
    pub ledger: Option<Ledger>,
    /// What became of each probe.
    pub states: Vec<ProbeState>,
    /// Kernel fields that the probes want and the kernel does not have.
    pub missing_fields: Vec<&'static str>,
    /// What is watched.
    pub scopes: Scopes,
    /// What processes are watched for that left their container's cgroup.
    moved: HashMap<MapData, u32, KindSet>,
    moved_count: Array<MapData, CountsPod>,
    /// How often system calls were made, if they are counted.
    pub counts: Option<CallCounts>,
    /// The last system calls of containers, if they are kept.
    pub flights: Option<Flights>,
    /// How full the rings are.
    pub rings: Vec<RingFill>,
    /// When they began to be attached, by the boot clock: nothing was counted before.
    pub loaded_ns: u64,
    /// What has to be looked at before it is gone; whoever does takes it.
    pub ahead: Option<Ahead>,
    debug_log: Option<EbpfLogger<Stderr>>,
}

/// Prints what the probes log.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("probe: {}", escaped(record.args().to_string().as_bytes()));
    }

    fn flush(&self) {}
}

impl Probes {
    /// Loads and attaches. Events of no cgroup pass until [`Scopes::set_default`].
    pub fn load(options: &Options) -> Result<(Self, Receiver, LossReader), LoadError> {
        let loaded_ns = clock::boot_ns();
        let facts = kernel_facts()?;
        let btf = Btf::from_sys_fs().map_err(|_| LoadError::BadBtf(btf::VMLINUX))?;
        let features = facts.features | if options.debug { feature::DEBUG } else { 0 };
        let ring_bytes = [u64::from(options.urgent_bytes), u64::from(options.bulk_bytes)];
        let kept = CallsKeptPod(CallsKept {
            counted: options.count_calls.into(),
            flight: options.flight,
            twice: call::returns_twice(),
        });
        let hierarchy = match options.cgroups.hierarchy() {
            Some(v1) => {
                let known = facts.controllers.get(v1.controller).copied();
                [v1.id, known.or_else(|| v1.place()).ok_or(LoadError::BadBtf(btf::VMLINUX))?]
            }
            None => [0; 2],
        };
        let mut ebpf = EbpfLoader::new()
            .btf(&btf)
            .override_global("OFFSETS", facts.offsets.as_slice(), true)
            .override_global("HIERARCHY", hierarchy.as_slice(), true)
            .override_global("FEATURES", &features, true)
            .override_global("CALLS_KEPT", &kept, true)
            .map_max_entries("SCOPE", SCOPE_MAX)
            .map_max_entries("LOST", LOST_MAX)
            .map_max_entries("COUNTS", if options.count_calls { COUNTS_MAX } else { 1 })
            .map_max_entries("FLIGHT", (options.flight * FLIGHT_SLOTS as u32).max(1))
            .override_global("RING_BYTES", ring_bytes.as_slice(), true)
            .override_global("IO_URING_ARGUMENTS", facts.io_uring_arguments.as_slice(), true)
            .override_global("SELF", own_process().as_slice(), true)
            .map_max_entries("URGENT", options.urgent_bytes)
            .map_max_entries("BULK", options.bulk_bytes)
            .load(OBJECT)
            .map_err(classify)?;

        let root = options.tree.root();
        let keeps = if options.count_calls || options.flight > 0 { COUNTED } else { 0 };
        let mut wanted = options.kinds | PROCESS_KINDS | keeps;
        // An open begins anew what `write` tells of a file.
        if wanted & bit(kind::WRITE) != 0 {
            wanted |= bit(kind::OPEN);
        }
        // Whose a TCP connection is that DNS goes over, the probe for its end knows.
        if wanted & bit(kind::DNS) != 0 {
            wanted |= bit(kind::FLOW);
        }
        let pins = options
            .pin
            .as_deref()
            .map(|root| Pins::create(root, &options.cgroups))
            .transpose()
            .map_err(|error| cannot_pin(options, error))?;
        // The kernel empties arrays of programs that only programs use.
        for name in [
            "URGENT",
            "BULK",
            "TALLY",
            "LOST",
            "HANDLED",
            "CALL_PROGRAMS",
            "END_PROGRAMS",
            "END_PROGRAMS_OTHER",
        ] {
            if let (Some(pins), Some(map)) = (&pins, ebpf.map(name)) {
                pins.map(name, map).map_err(|error| cannot_pin(options, error))?;
            }
        }
        let mut programs = ProgramArray::try_from(take(&mut ebpf, "CALL_PROGRAMS")?)
            .map_err(|_| LoadError::Map("CALL_PROGRAMS"))?;
        let mut ends = strong::Ends::new([
            ProgramArray::try_from(take(&mut ebpf, "END_PROGRAMS")?)
                .map_err(|_| LoadError::Map("END_PROGRAMS"))?,
            ProgramArray::try_from(take(&mut ebpf, "END_PROGRAMS_OTHER")?)
                .map_err(|_| LoadError::Map("END_PROGRAMS_OTHER"))?,
        ]);
        let classic = preempts_in_tracepoints() && try_classic(&mut ebpf).is_ok();
        let mut loader =
            Loader { ebpf: &mut ebpf, btf: &btf, root, classic, programs: &mut programs, ends: &mut ends };
        let states = loader.attach_all(wanted, options);
        let strong_kinds = delivered(&states, |hook| hook.attach == Attach::CallEnds);
        Array::<_, u64>::try_from(take(&mut ebpf, "STRONG_KINDS")?)
            .and_then(|mut map| {
                let kept =
                    delivered(&states, |hook| matches!(hook.attach, Attach::Begin(_) | Attach::End(_)));
                map.set(0, &strong_kinds, 0)?;
                map.set(1, &kept, 0)
            })
            .map_err(|_| LoadError::Map("STRONG_KINDS"))?;
        let mut calls = Array::<_, CallShapePod>::try_from(take(&mut ebpf, "CALLS")?)
            .map_err(|_| LoadError::Map("CALLS"))?;
        // Only calls that have a program: one that the kernel refused makes its kinds blind, which its state tells.
        let handed_over = delivered(&states, |hook| hook.attach == Attach::Calls);
        for (place, shape) in call::entries(strong_kinds | handed_over, &options.calls) {
            calls.set(place, &CallShapePod(shape), 0).map_err(|_| LoadError::Map("CALLS"))?;
        }
        if !states.iter().any(|state| state.status == Status::Attached) {
            return Err(LoadError::NothingAttached(first_failure(&states)));
        }

        let handled = take(&mut ebpf, "HANDLED")?;
        let ledger = match &pins {
            Some(pins) => {
                pins.links(&mut ends.links).map_err(|error| cannot_pin(options, error))?;
                Some(Ledger::new(handled).ok_or(LoadError::Map("HANDLED"))?)
            }
            None => None,
        };
        let rings = [("urgent", "URGENT", options.urgent_bytes), ("bulk", "BULK", options.bulk_bytes)];
        let rings = rings.into_iter().filter_map(|(name, map, bytes)| {
            let Map::RingBuf(map) = ebpf.map(map)? else { return None };
            RingFill::new(name, map.fd().as_fd(), bytes).ok()
        });
        let rings = rings.collect();
        let receiver = Receiver::new(ring(&mut ebpf, "URGENT")?, ring(&mut ebpf, "BULK")?)
            .map_err(|_| LoadError::Map("URGENT"))?;
        let ahead = Ahead::new(ring(&mut ebpf, "AHEAD")?).map_err(|_| LoadError::Map("AHEAD"))?;
        let losses = LossReader::new(
            PerCpuArray::<_, TalliesPod>::try_from(take(&mut ebpf, "TALLY")?)
                .map_err(|_| LoadError::Map("TALLY"))?,
            PerCpuHashMap::<_, LossKeyPod, u64>::try_from(take(&mut ebpf, "LOST")?)
                .map_err(|_| LoadError::Map("LOST"))?,
            options.cgroups.tree(),
            loaded_ns,
        );
        let scopes = Scopes::new(
            HashMap::try_from(take(&mut ebpf, "SCOPE")?).map_err(|_| LoadError::Map("SCOPE"))?,
            Array::try_from(take(&mut ebpf, "SCOPE_DEFAULT")?)
                .map_err(|_| LoadError::Map("SCOPE_DEFAULT"))?,
        );
        let moved = HashMap::try_from(take(&mut ebpf, "MOVED")?).map_err(|_| LoadError::Map("MOVED"))?;
        let moved_count =
            Array::try_from(take(&mut ebpf, "MOVED_COUNT")?).map_err(|_| LoadError::Map("MOVED_COUNT"))?;
        let counts = CallCounts::new(
            PerCpuHashMap::try_from(take(&mut ebpf, "COUNTS")?).map_err(|_| LoadError::Map("COUNTS"))?,
            PerCpuArray::try_from(take(&mut ebpf, "NOT_COUNTED")?)
                .map_err(|_| LoadError::Map("NOT_COUNTED"))?,
        );
        let flights = Flights::new(
            Array::try_from(take(&mut ebpf, "FLIGHT")?).map_err(|_| LoadError::Map("FLIGHT"))?,
            Array::try_from(take(&mut ebpf, "FLIGHT_HEADS")?).map_err(|_| LoadError::Map("FLIGHT_HEADS"))?,
            options.flight,
        );
        let debug_log = match options.debug {
            true => EbpfLogger::init_with_logger(&mut ebpf, Stderr).ok(),
            false => None,
        };
        let probes = Self {
            ebpf,
            _programs: programs,
            ends,
            ledger,
            states,
            missing_fields: facts.missing,
            scopes,
            moved,
            moved_count,
            counts: options.count_calls.then_some(counts),
            flights: (options.flight > 0).then_some(flights),
            ahead: Some(ahead),
            rings,
            loaded_ns,
            debug_log,
        };
        Ok((probes, receiver, losses))
    }

    /// The kinds that a process is watched for wherever it goes; 0: as its cgroup is.
    pub fn set_moved(&mut self, tgid: u32, kinds: KindSet) {
        // One that is gone has no entry; one that does not fit is counted by the kernel side.
        let _ = if kinds == 0 { self.moved.remove(&tgid) } else { self.moved.insert(&tgid, &kinds, 0) };
        if kinds != 0
            && let Ok(CountsPod([0, unfit])) = self.moved_count.get(&0, 0)
        {
            let _ = self.moved_count.set(0, &CountsPod([1, unfit]), 0);
        }
    }

    /// How many processes left their container's cgroup without room to remember them: what they do next may be
    /// missing from the record.
    pub fn unfollowed(&self) -> u64 {
        self.moved_count.get(&0, 0).map_or(0, |CountsPod([_, unfit])| unfit)
    }

    /// Whether a map can be read: what that takes depends on the kernel.
    pub fn answers(&self) -> bool {
        self.moved_count.get(&0, 0).is_ok()
    }

    /// Prints what the probes have logged, with `--debug-probes`.
    pub fn print_debug_log(&mut self) {
        if let Some(log) = &mut self.debug_log {
            log.flush();
        }
    }

    /// How often each program ran, and how often the kernel skipped it because it was still running on that CPU (5.12):
    /// events that nobody counted.
    pub fn runs(&self) -> Vec<OfProgram> {
        let attached = self.states.iter().filter(|state| state.status == Status::Attached);
        let single = attached.filter_map(|state| {
            let program = self.ebpf.program(state.program)?;
            runs_of(state.program, program.fd().ok()?)
        });
        let copies = self.ends.programs().filter(|(name, _)| !strong::is_made_up_for(name));
        let copies = copies.filter_map(|(name, fd)| runs_of(name, fd));
        let mut all: Vec<OfProgram> = Vec::new();
        for new in single.chain(copies) {
            match all.iter_mut().find(|of| of.program == new.program) {
                Some(of) => {
                    of.skipped += new.skipped;
                    of.runs += new.runs;
                    of.run_ns += new.run_ns;
                }
                None => all.push(new),
            }
        }
        all
    }

    /// Kinds of event that were asked for and that no attached probe delivers.
    pub fn blind_kinds(&self) -> KindSet {
        blind_kinds(&self.states)
    }
}

/// This process as the probes see it: its id in its own pid namespace, and that namespace.
fn own_process() -> [u32; 2] {
    use std::os::unix::fs::MetadataExt as _;
    let namespace = std::fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino() as u32);
    [std::process::id(), namespace]
}

/// What the probes need to know of the running kernel.
pub fn kernel_facts() -> Result<KernelFacts, LoadError> {
    let data =
        std::fs::read(btf::VMLINUX).map_err(|source| LoadError::NoBtf { path: btf::VMLINUX, source })?;
    let btf = btf::Btf::parse(&data).ok_or(LoadError::BadBtf(btf::VMLINUX))?;
    Ok(KernelFacts::from_btf(&btf))
}

/// Whether this kernel lets `fentry` programs run, found out by attaching one that does nothing.
pub fn try_strong_tier() -> Result<(), String> {
    let facts = kernel_facts().map_err(|error| error.to_string())?;
    let btf = Btf::from_sys_fs().map_err(|error| error.to_string())?;
    let mut ebpf = EbpfLoader::new()
        .btf(&btf)
        .override_global("OFFSETS", facts.offsets.as_slice(), true)
        .load(OBJECT)
        .map_err(|error| error.to_string())?;
    let program = ebpf.program_mut("strong_trial").ok_or("`strong_trial` is not in the kernel object")?;
    let program = <&mut FEntry>::try_from(program).map_err(one_line)?;
    program.load("security_file_open", &btf).map_err(one_line)?;
    program.attach().map_err(one_line)?;
    Ok(())
}

/// Whether this kernel lets a thread be preempted within a program at a tracepoint. The release decides, since trying
/// would need many threads and luck; one that cannot be read counts as new, as the classic sort works on all.
pub fn preempts_in_tracepoints() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_none_or(|major| major >= 7)
}

/// The value of the map `MOVED_COUNT`.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct CountsPod([u64; 2]);

// SAFETY: integers only.
unsafe impl Pod for CountsPod {}

/// [`CallShape`] as a map value.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct CallShapePod(CallShape);

// SAFETY: integers only; its padding at the end is never read.
unsafe impl Pod for CallShapePod {}

/// [`CallsKept`] as a global.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct CallsKeptPod(CallsKept);

// SAFETY: integers only, without padding.
unsafe impl Pod for CallsKeptPod {}

/// Tells a missing permission from a kernel that cannot.
fn classify(error: EbpfError) -> LoadError {
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            return LoadError::NotPermitted(error);
        }
        cause = current.source();
    }
    LoadError::Object(error)
}

fn cannot_pin(options: &Options, source: handover::PinError) -> LoadError {
    LoadError::Pin { folder: options.pin.clone().unwrap_or_default(), source }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::Map(name))
}

fn ring(ebpf: &mut Ebpf, name: &'static str) -> Result<RingBuf<MapData>, LoadError> {
    RingBuf::try_from(take(ebpf, name)?).map_err(|_| LoadError::Map(name))
}

/// From the program's entry in `/proc/self/fdinfo`. A number that this kernel does not tell is 0.
fn runs_of(program: &'static str, fd: &ProgramFd) -> Option<OfProgram> {
    use std::os::fd::AsRawFd as _;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
    let number = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    let (skipped, runs, run_ns) = (number("recursion_misses"), number("run_cnt"), number("run_time_ns"));
    Some(OfProgram { program, skipped, runs, run_ns })
}

const _: () = assert!(ALL_KINDS & bit(kind::EXEC) != 0);
