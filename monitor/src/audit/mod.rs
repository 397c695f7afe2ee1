//! The audit log: NDJSON segments in a folder, each record chained to the one before by SHA-256.
//! [`writer`] writes, [`recover`] finds where to go on, [`archive`] packs what is closed, [`read`] reads, [`verify`] checks,
//! [`segment`] knows the files. `docs/audit-log.md` is the specification.

pub mod archive;
pub mod read;
mod recover;
pub mod segment;
#[cfg(test)]
mod tests;
pub mod verify;
mod writer;

pub use writer::{CloseError, Entry, Log, OpenError, Options, Stats};

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
    Container "container" "What a container is called and was given: once, when that is known.",
}

/// The `prev` of the first record.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Longest line that a reader takes, in bytes. A record comes nowhere near.
pub const LINE_MAX: usize = 1 << 20;
