//! Loads the kernel object and attaches its probes, each on its own: one that the running kernel refuses
//! is reported with what it blinds and stops nothing else. Nothing is pinned: all is gone with the process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf};
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, FEntry,
    Program, ProgramError, ProgramFd, TracePoint,
};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader};
use aya_log::EbpfLogger;
use taffrail_common::call::CallShape;
use taffrail_common::kind::{self, KINDS};
use taffrail_common::map::{COUNTED, CallsKept, FLIGHT_SLOTS, feature};
use thiserror::Error;

use super::btf::{self, KernelFacts};
use super::call;
use super::count::{COUNTS_MAX, CallCounts};
use super::flight::Flights;
use super::hook::{ALL_KINDS, Attach, CgroupHook, HOOKS, Hook, PROCESS_KINDS, ProbeState, Status, Tier, bit};
use super::loss::{LossKeyPod, LossReader, TalliesPod};
use super::receive::Receiver;
use super::scope::Scopes;
use super::strong;
use crate::clock;
use crate::enrich::cgroup::Cgroups;
use crate::event::field::KindSet;
use crate::event::text::escaped;

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
    /// The root folder of the v2 cgroup tree, if there is one.
    pub cgroup_root: Option<PathBuf>,
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
            LoadError::NothingAttached(_) => "`taffrail doctor` shows why, probe by probe",
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
    /// When they began to be attached, by the boot clock: nothing was counted before.
    pub loaded_ns: u64,
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
        let mut ebpf = EbpfLoader::new()
            .btf(&btf)
            .override_global("OFFSETS", facts.offsets.as_slice(), true)
            .override_global("FEATURES", &features, true)
            .override_global("CALLS_KEPT", &kept, true)
            .map_max_entries("COUNTS", if options.count_calls { COUNTS_MAX } else { 1 })
            .map_max_entries("FLIGHT", (options.flight * FLIGHT_SLOTS as u32).max(1))
            .override_global("RING_BYTES", ring_bytes.as_slice(), true)
            .override_global("IO_URING_ARGUMENTS", facts.io_uring_arguments.as_slice(), true)
            .override_global("SELF", own_process().as_slice(), true)
            .map_max_entries("URGENT", options.urgent_bytes)
            .map_max_entries("BULK", options.bulk_bytes)
            .load(OBJECT)
            .map_err(classify)?;

        let root = options.cgroup_root.as_deref();
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

        let receiver = Receiver::new(ring(&mut ebpf, "URGENT")?, ring(&mut ebpf, "BULK")?)
            .map_err(|_| LoadError::Map("URGENT"))?;
        let losses = LossReader::new(
            PerCpuArray::<_, TalliesPod>::try_from(take(&mut ebpf, "TALLY")?)
                .map_err(|_| LoadError::Map("TALLY"))?,
            PerCpuHashMap::<_, LossKeyPod, u64>::try_from(take(&mut ebpf, "LOST")?)
                .map_err(|_| LoadError::Map("LOST"))?,
            root.and_then(|root| Cgroups::new(root).ok()),
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
            states,
            missing_fields: facts.missing,
            scopes,
            moved,
            moved_count,
            counts: options.count_calls.then_some(counts),
            flights: (options.flight > 0).then_some(flights),
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

    /// Prints what the probes have logged, with `--debug-probes`.
    pub fn print_debug_log(&mut self) {
        if let Some(log) = &mut self.debug_log {
            log.flush();
        }
    }

    /// Times that the kernel skipped a probe because it was still running on that CPU (5.12): events that
    /// nobody counted. By program.
    pub fn skipped_runs(&self) -> Vec<(&'static str, u64)> {
        let attached = self.states.iter().filter(|state| state.status == Status::Attached);
        let single = attached.filter_map(|state| {
            let program = self.ebpf.program(state.program)?;
            Some((state.program, recursion_misses(program.fd().ok()?)?))
        });
        let copies = self.ends.programs().filter(|(name, _)| !strong::is_made_up_for(name));
        let copies = copies.filter_map(|(name, fd)| Some((name, recursion_misses(fd)?)));
        let mut runs: Vec<(&'static str, u64)> = Vec::new();
        for (name, skipped) in single.chain(copies) {
            match runs.iter_mut().find(|run| run.0 == name) {
                Some(run) => run.1 += skipped,
                None => runs.push((name, skipped)),
            }
        }
        runs
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

/// Whether classic programs can be attached: that needs tracefs and perf_event_open(2).
fn try_classic(ebpf: &mut Ebpf) -> Result<(), String> {
    let program = ebpf.program_mut("classic_trial").ok_or_else(|| not_in_object("classic_trial"))?;
    let program = <&mut TracePoint>::try_from(program).map_err(one_line)?;
    program.load().map_err(one_line)?;
    let link = program.attach("raw_syscalls", "sys_exit").map_err(one_line)?;
    program.detach(link).map_err(one_line)
}

/// What attaching needs.
struct Loader<'a> {
    ebpf: &'a mut Ebpf,
    btf: &'a Btf,
    root: Option<&'a Path>,
    /// Whether classic programs are tried at the ends of system calls.
    classic: bool,
    programs: &'a mut ProgramArray<MapData>,
    ends: &'a mut strong::Ends,
}

impl Loader<'_> {
    /// Attaches what the wanted kinds need: hooks of the strong tier first, then portable ones for what is left.
    fn attach_all(&mut self, wanted: KindSet, options: &Options) -> Vec<ProbeState> {
        let entries = match options.tiers {
            Tiers::Portable => BTreeMap::new(),
            Tiers::Auto | Tiers::Strong => {
                strong::raise_file_limit();
                strong::kernel_entries(wanted, &options.calls)
            }
        };
        let trial = match options.tiers {
            Tiers::Auto => strong::takes_too_long(self.ebpf, self.btf, entries.len()),
            Tiers::Portable | Tiers::Strong => Ok(None),
        };
        let (too_long, refusal) = match trial {
            Ok(_) if options.tiers == Tiers::Auto && wanted & COUNTED != 0 => {
                (Some("all system calls are counted or kept".to_owned()), None)
            }
            Ok(too_long) => (too_long, None),
            Err(why) => (None, Some(why)),
        };
        // The kinds of which calls are seen that a filter refuses, and those whose calls the portable tier has to see.
        let (mut refused, mut left) = (0, wanted);
        let attach = |hook: &'static Hook| {
            let kinds = match hook.attach {
                _ if hook.tier == Tier::Strong && options.tiers == Tiers::Portable => 0,
                Attach::Refused if too_long.is_some() => 0,
                _ if hook.is_replaceable() => hook.kinds & left,
                _ => hook.kinds & wanted,
            };
            let refusal = refusal.as_ref().filter(|_| hook.tier == Tier::Strong && kinds != 0);
            let mut state = if let Some(why) = refusal {
                ProbeState::failed(hook, kinds, why.clone())
            } else if hook.attach != Attach::CallEnds || kinds & !refused == 0 {
                self.attach(hook, kinds, &entries)
            } else {
                let unseen = || "calls that a filter refuses would not be seen".to_owned();
                ProbeState::failed(hook, kinds, too_long.clone().unwrap_or_else(unseen))
            };
            match hook.attach {
                Attach::Refused => refused |= state.kinds,
                Attach::CallEnds if options.tiers == Tiers::Strong => left &= !hook.kinds,
                Attach::CallEnds => left &= !state.kinds,
                _ => {}
            }
            if hook.tier == Tier::Strong
                && options.tiers == Tiers::Auto
                && let Status::Failed(why) = state.status
            {
                state.status = Status::Replaced(why);
            }
            state
        };
        HOOKS.iter().map(attach).collect()
    }

    /// Loads and attaches one probe.
    fn attach(
        &mut self,
        hook: &'static Hook,
        wanted: KindSet,
        entries: &BTreeMap<String, KindSet>,
    ) -> ProbeState {
        let mut state = ProbeState {
            hook,
            program: hook.program,
            status: Status::NotNeeded,
            wanted,
            kinds: 0,
            verified_instructions: None,
        };
        if wanted == 0 {
            return state;
        }
        let classic = hook.classic().filter(|_| self.classic);
        for name in [classic, Some(hook.program), hook.fallback].into_iter().flatten() {
            let attached = match hook.attach {
                Attach::CallEnds => self.attach_ends(name, wanted, entries),
                Attach::Refused => self.attach_copies(name, wanted, &["__seccomp_filter"]),
                Attach::Begin(functions) | Attach::End(functions) => {
                    self.attach_copies(name, wanted, functions)
                }
                _ => self.attach_one(name, hook, wanted),
            };
            match attached {
                Ok(Delivered { kinds, verified_instructions, refusal }) => {
                    state.program = name;
                    state.status = refusal.map_or(Status::Attached, Status::Failed);
                    state.kinds = kinds;
                    state.verified_instructions = verified_instructions;
                    break;
                }
                Err(why) => state.status = Status::Failed(why),
            }
        }
        state
    }

    fn attach_one(&mut self, name: &str, hook: &Hook, wanted: KindSet) -> Result<Delivered, String> {
        let program = self.ebpf.program_mut(name).ok_or_else(|| not_in_object(name))?;
        try_attach(program, hook, wanted, self.btf, self.root, self.programs)?;
        let verified_instructions = program.info().ok().and_then(|info| info.verified_instruction_count());
        Ok(Delivered { kinds: wanted, verified_instructions, refusal: None })
    }

    /// Attaches a copy of a program to each of the functions.
    fn attach_copies(
        &mut self,
        name: &'static str,
        wanted: KindSet,
        functions: &[&str],
    ) -> Result<Delivered, String> {
        let mut delivered = Delivered { kinds: wanted, verified_instructions: None, refusal: None };
        let mut attached = false;
        for names in functions {
            match self.ends.attach_copy(self.ebpf, self.btf, name, names) {
                Ok(verified_instructions) => {
                    attached = true;
                    delivered.verified_instructions =
                        delivered.verified_instructions.max(verified_instructions);
                }
                // What the first one refuses is refused everywhere.
                Err(why) if !attached => return Err(format!("{names}: {why}")),
                Err(why) => delivered.refusal = Some(format!("{names}: {why}")),
            }
        }
        Ok(delivered)
    }

    /// Lets the entry functions of the wanted kinds hand over to a program at their ends. A kind is delivered if all its
    /// functions do; what the others see they leave to the portable tier.
    fn attach_ends(
        &mut self,
        name: &'static str,
        wanted: KindSet,
        entries: &BTreeMap<String, KindSet>,
    ) -> Result<Delivered, String> {
        let mut delivered = Delivered { kinds: wanted, verified_instructions: None, refusal: None };
        let mut attached = false;
        for (function, kinds) in entries.iter().filter(|(_, kinds)| *kinds & wanted != 0) {
            let result = self.ends.attach(self.ebpf, self.btf, function, name, wanted);
            match result {
                Ok(verified_instructions) => {
                    attached = true;
                    delivered.verified_instructions =
                        delivered.verified_instructions.or(verified_instructions);
                }
                // What the first one refuses is refused everywhere.
                Err(why) if !attached => return Err(format!("{function}: {why}")),
                Err(why) => {
                    delivered.kinds &= !kinds;
                    delivered.refusal = Some(format!("{function}: {why}"));
                }
            }
        }
        match attached {
            true => Ok(delivered),
            false => Err("the kernel has no entry functions of these calls".to_owned()),
        }
    }
}

/// What an attached probe delivers.
struct Delivered {
    kinds: KindSet,
    verified_instructions: Option<u32>,
    /// Why it is not all that it was to deliver.
    refusal: Option<String>,
}

pub(super) fn not_in_object(name: &str) -> String {
    format!("`{name}` is not in the kernel object")
}

fn try_attach(
    program: &mut Program,
    hook: &Hook,
    wanted: KindSet,
    btf: &Btf,
    root: Option<&Path>,
    programs: &mut ProgramArray<MapData>,
) -> Result<(), String> {
    match hook.attach {
        Attach::BtfTracepoint(_) if let Program::TracePoint(program) = program => {
            program.load().map_err(one_line)?;
            program.attach("raw_syscalls", "sys_exit").map_err(one_line)?;
        }
        Attach::BtfTracepoint(name) => {
            let program = <&mut BtfTracePoint>::try_from(program).map_err(one_line)?;
            // The last name's error is told: it is the one of older kernels.
            let mut result = Err("no name".to_owned());
            for name in name.split('|') {
                result = program.load(name, btf).map_err(one_line);
                if result.is_ok() {
                    break;
                }
            }
            result?;
            program.attach().map_err(one_line)?;
        }
        Attach::Calls => {
            if let Program::TracePoint(program) = program {
                program.load().map_err(one_line)?;
            } else {
                let program = <&mut BtfTracePoint>::try_from(&mut *program).map_err(one_line)?;
                program.load("sys_exit", btf).map_err(one_line)?;
            }
            let fd = program.fd().map_err(one_line)?;
            for kind in (1..KINDS as u16).filter(|kind| wanted & bit(*kind) != 0) {
                programs.set(kind.into(), fd, 0).map_err(|error| error.to_string())?;
            }
        }
        Attach::Cgroup(hook) => {
            let root = root.ok_or("there is no v2 cgroup tree")?;
            let folder = File::open(root).map_err(|error| format!("{}: {error}", root.display()))?;
            attach_to_cgroup(program, hook, folder).map_err(one_line)?;
        }
        Attach::CallEnds | Attach::Refused | Attach::Begin(_) | Attach::End(_) => {
            return Err("has a copy for each function".to_owned());
        }
    }
    Ok(())
}

fn attach_to_cgroup(program: &mut Program, hook: CgroupHook, folder: File) -> Result<(), ProgramError> {
    let direction = match hook {
        CgroupHook::Address => {
            let program = <&mut CgroupSockAddr>::try_from(program)?;
            program.load()?;
            program.attach(folder, CgroupAttachMode::Single)?;
            return Ok(());
        }
        CgroupHook::Create => {
            let program = <&mut CgroupSock>::try_from(program)?;
            program.load()?;
            program.attach(folder, CgroupAttachMode::Single)?;
            return Ok(());
        }
        CgroupHook::Ingress => CgroupSkbAttachType::Ingress,
        CgroupHook::Egress => CgroupSkbAttachType::Egress,
    };
    let program = <&mut CgroupSkb>::try_from(program)?;
    program.load()?;
    program.attach(folder, direction, CgroupAttachMode::Single)?;
    Ok(())
}

/// The kinds that attached probes deliver, of those that `which` picks.
fn delivered(states: &[ProbeState], which: impl Fn(&Hook) -> bool) -> KindSet {
    states.iter().filter(|state| which(state.hook)).fold(0, |kinds, state| kinds | state.kinds)
}

/// Kinds that were asked for and that no attached probe delivers.
fn blind_kinds(states: &[ProbeState]) -> KindSet {
    let failed = |state: &&ProbeState| state.hook.vital && matches!(state.status, Status::Failed(_));
    states.iter().filter(failed).fold(0, |kinds, state| kinds | state.wanted & !state.kinds)
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

/// Why a probe was refused, in a line: of the verifier's log only its end.
pub(super) fn one_line(error: ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let reason = log.lines().rev().find(|line| {
                const STATISTICS: [&str; 3] = ["processed ", "verification time", "stack depth"];
                !line.trim().is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start))
            });
            match reason {
                Some(reason) => format!("{io_error}: verifier: {}", reason.trim()),
                None => io_error.to_string(),
            }
        }
        ProgramError::SyscallError(error) => format!("{}: {}", error.call, error.io_error),
        other => other.to_string(),
    }
}

fn first_failure(states: &[ProbeState]) -> String {
    let failure = states.iter().find_map(|state| match &state.status {
        Status::Failed(why) => Some(format!("{}: {why}", state.hook.hook_name())),
        _ => None,
    });
    failure.unwrap_or_else(|| "none is needed".to_owned())
}

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

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::Map(name))
}

fn ring(ebpf: &mut Ebpf, name: &'static str) -> Result<RingBuf<MapData>, LoadError> {
    RingBuf::try_from(take(ebpf, name)?).map_err(|_| LoadError::Map(name))
}

/// From the program's entry in `/proc/self/fdinfo`.
pub(super) fn recursion_misses(program: &ProgramFd) -> Option<u64> {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}

const _: () = assert!(ALL_KINDS & bit(kind::EXEC) != 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_blind_only_if_the_tier_that_was_to_see_them_failed() {
        let state = |program: &str, status: Status, kinds: KindSet| {
            let hook = HOOKS.iter().find(|hook| hook.program == program).expect("a hook");
            ProbeState { status, kinds, ..ProbeState::failed(hook, hook.kinds, String::new()) }
        };
        let open = bit(kind::OPEN);
        let replaced = state("end_open", Status::Replaced("refused".to_owned()), 0);
        let portable = state("open", Status::Attached, open);
        assert_eq!(blind_kinds(&[replaced.clone(), portable]), 0);
        let failed = state("open", Status::Failed("refused".to_owned()), 0);
        assert_eq!(blind_kinds(&[replaced, failed]), open);
        // What only adds to a kind blinds nothing.
        assert_eq!(blind_kinds(&[state("fd_installed", Status::Failed("refused".to_owned()), 0)]), 0);
    }
}
