//! The audit log: NDJSON segments in a folder, each record chained to the one before by SHA-256, each segment's Merkle tree
//! signed again and again. `docs/audit-log.md` is the specification.
//!
//! [`log`] is what the daemon holds, [`queue`] leads from there to the one thread of the [`writer`], which makes lines
//! ([`record`], [`merkle`], [`key`]) and puts them into the open segment ([`tail`]); [`recover`] finds where to go on,
//! [`retention`] what goes, [`packer`] packs what is closed ([`archive`]), [`anchor`] keeps checkpoints elsewhere;
//! what of that does not work goes by [`trouble`] into the log. [`read`] reads, [`search`] finds ([`query`], [`index`]), [`verify`] checks ([`trust`] the keys,
//! [`witness`] what others have kept), [`prove`] proves a record without the rest.

mod anchor;
pub mod archive;
mod disk;
pub mod hex;
pub mod index;
mod key;
mod log;
mod merkle;
mod packer;
pub mod prove;
pub mod query;
mod queue;
pub mod read;
mod record;
mod recover;
mod retention;
pub mod search;
pub mod segment;
mod succession;
mod tail;
#[cfg(test)]
mod tests;
mod trouble;
mod trust;
pub mod verify;
pub mod witness;
mod writer;

pub use log::{CloseError, Durable, FullDisk, Log, OpenError, Options, Policy, make_folder};
pub use queue::{Entry, Stats};

macro_rules! record_kinds {
    ($( $name:ident $text:literal $doc:literal ),* $(,)?) => {
        /// What a record is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RecordKind { $( #[doc = $doc] $name, )* }

        impl RecordKind {
            /// All kinds.
            pub const ALL: &'static [RecordKind] = &[ $( RecordKind::$name, )* ];

            /// Its name in the log.
            pub fn name(self) -> &'static str {
                match self { $( RecordKind::$name => $text, )* }
            }
        }
    };
}

record_kinds! {
    Start "start" "The daemon started.",
    Stop "stop" "The daemon stopped in good order: the last record of a run.",
    Event "event" "Something that was seen.",
    Alert "alert" "An event that a rule matched.",
    Gap "gap" "Events that were lost: how many, of which kind and container.",
    Rules "rules" "The rules that are in force from here on.",
    Probes "probes" "What became of each probe.",
    Clock "clock" "The wall clock was set.",
    Recovery "recovery" "The log did not end in good order: what was found and cut off.",
    Retention "retention" "Old segments were deleted.",
    Syscalls "syscalls" "How often a container made each system call.",
    Flight "flight" "The last system calls of a container.",
    Suppressed "suppressed" "Matches of a rule that raised no alert, since there were too many.",
    Evicted "evicted" "Memory of a rule that was given up too early, since there was too much.",
    Restart "restart" "Who watched since the last daemon, and what was read of that.",
    Export "export" "What became of an exporter: it goes on, fails, works again, or passed something over.",
    Container "container" "What a container is called and was given: once, when that is known.",
    Segment "segment" "The first record of each segment.",
    Checkpoint "checkpoint" "The root of the segment's records so far, signed.",
    Key "key" "A new key signs from here on.",
    Config "config" "The settings were read anew and are not what they were.",
    Degraded "degraded" "Something about the log does not work as it should.",
    Api "api" "Somebody called the API.",
}

/// Longest line that a reader takes, in bytes. A record comes nowhere near.
pub const LINE_MAX: usize = 1 << 20;

/// At most so many records come without a checkpoint.
pub const CHECKPOINT_RECORDS_MAX: u64 = 65_536;
