//! Attaches the probes, each on its own: hooks of the strong tier first, then portable ones for what these leave.
//! `load.rs` has what they need before, and what is made of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use aya::maps::{MapData, ProgramArray};
use aya::programs::links::FdLink;
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, Program,
    ProgramError, TracePoint,
};
use aya::{Btf, Ebpf};
use taffrail_common::kind::KINDS;
use taffrail_common::map::COUNTED;

use super::hook::{Attach, CgroupHook, HOOKS, Hook, ProbeState, Status, Tier, bit};
use super::load::{Options, Tiers};
use super::strong;
use crate::event::field::KindSet;

/// Whether classic programs can be attached: that needs tracefs and perf_event_open(2).
pub(super) fn try_classic(ebpf: &mut Ebpf) -> Result<(), String> {
    let program = ebpf.program_mut("classic_trial").ok_or_else(|| not_in_object("classic_trial"))?;
    let program = <&mut TracePoint>::try_from(program).map_err(one_line)?;
    program.load().map_err(one_line)?;
    let link = program.attach("raw_syscalls", "sys_exit").map_err(one_line)?;
    program.detach(link).map_err(one_line)
}

/// What attaching needs.
pub(super) struct Loader<'a> {
    pub ebpf: &'a mut Ebpf,
    pub btf: &'a Btf,
    /// Where programs for packets and sockets are attached, or why there is no such place.
    pub root: Result<&'a Path, &'a str>,
    /// Whether classic programs are tried at the ends of system calls.
    pub classic: bool,
    pub programs: &'a mut ProgramArray<MapData>,
    pub ends: &'a mut strong::Ends,
}

impl Loader<'_> {
    /// Attaches what the wanted kinds need: hooks of the strong tier first, then portable ones for what is left.
    pub fn attach_all(&mut self, wanted: KindSet, options: &Options) -> Vec<ProbeState> {
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
        let link = try_attach(program, hook, wanted, self.btf, self.root, self.programs)?;
        self.ends.links.extend(link);
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

/// Loads a program and attaches it, if it is one that attaches by itself.
fn try_attach(
    program: &mut Program,
    hook: &Hook,
    wanted: KindSet,
    btf: &Btf,
    root: Result<&Path, &str>,
    programs: &mut ProgramArray<MapData>,
) -> Result<Option<FdLink>, String> {
    match hook.attach {
        Attach::BtfTracepoint(_) if let Program::TracePoint(program) = program => {
            program.load().map_err(one_line)?;
            let link = program.attach("raw_syscalls", "sys_exit").map_err(one_line)?;
            let link = program.take_link(link).map_err(one_line)?;
            Ok(Some(FdLink::try_from(link).map_err(|error| error.to_string())?))
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
            let link = program.attach().and_then(|link| program.take_link(link)).map_err(one_line)?;
            Ok(Some(link.into()))
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
            Ok(None)
        }
        Attach::Cgroup(hook) => {
            let root = root?;
            let folder = File::open(root).map_err(|error| format!("{}: {error}", root.display()))?;
            attach_to_cgroup(program, hook, folder).map(Some)
        }
        Attach::CallEnds | Attach::Refused | Attach::Begin(_) | Attach::End(_) => {
            Err("has a copy for each function".to_owned())
        }
    }
}

fn attach_to_cgroup(program: &mut Program, hook: CgroupHook, folder: File) -> Result<FdLink, String> {
    /// Links stand beside others whatever they say.
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    let not_a_link = |error: aya::programs::links::LinkError| error.to_string();
    match hook {
        CgroupHook::Address => {
            let program = <&mut CgroupSockAddr>::try_from(program).map_err(one_line)?;
            program.load().map_err(one_line)?;
            let link = program.attach(folder, MODE).and_then(|link| program.take_link(link));
            FdLink::try_from(link.map_err(one_line)?).map_err(not_a_link)
        }
        CgroupHook::Create => {
            let program = <&mut CgroupSock>::try_from(program).map_err(one_line)?;
            program.load().map_err(one_line)?;
            let link = program.attach(folder, MODE).and_then(|link| program.take_link(link));
            FdLink::try_from(link.map_err(one_line)?).map_err(not_a_link)
        }
        CgroupHook::Ingress | CgroupHook::Egress => {
            let direction = match hook {
                CgroupHook::Egress => CgroupSkbAttachType::Egress,
                _ => CgroupSkbAttachType::Ingress,
            };
            let program = <&mut CgroupSkb>::try_from(program).map_err(one_line)?;
            program.load().map_err(one_line)?;
            let link = program.attach(folder, direction, MODE).and_then(|link| program.take_link(link));
            FdLink::try_from(link.map_err(one_line)?).map_err(not_a_link)
        }
    }
}

/// The kinds that attached probes deliver, of those that `which` picks.
pub(super) fn delivered(states: &[ProbeState], which: impl Fn(&Hook) -> bool) -> KindSet {
    states.iter().filter(|state| which(state.hook)).fold(0, |kinds, state| kinds | state.kinds)
}

/// Kinds that were asked for and that no attached probe delivers.
pub(super) fn blind_kinds(states: &[ProbeState]) -> KindSet {
    let failed = |state: &&ProbeState| state.hook.vital && matches!(state.status, Status::Failed(_));
    states.iter().filter(failed).fold(0, |kinds, state| kinds | state.wanted & !state.kinds)
}

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

pub(super) fn first_failure(states: &[ProbeState]) -> String {
    let failure = states.iter().find_map(|state| match &state.status {
        Status::Failed(why) => Some(format!("{}: {why}", state.hook.hook_name())),
        _ => None,
    });
    failure.unwrap_or_else(|| "none is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use taffrail_common::kind;

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
