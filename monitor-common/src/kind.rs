//! The event table: id, name, lane and record of each event kind. Ids are never reused.

/// Calls `$with!` with the whole event table, one row per kind: `(id, name, Record, Lane)`.
///
/// Adding an event kind is one row here, its record in `event/`, its probe and its model.
#[macro_export]
macro_rules! for_each_kind {
    ($with:ident) => {
        $with! {
            (1, exec, Exec, Urgent)
            (2, fork, Fork, Urgent)
            (3, exit, Exit, Urgent)
            (4, open, Open, Bulk)
            (5, connect, Connect, Bulk)
        }
    };
}

/// One more than the highest kind id: the size of tables indexed by kind.
pub const KINDS: usize = 6;

/// A process replaced its image.
pub const EXEC: u16 = 1;
/// A process was created.
pub const FORK: u16 = 2;
/// The last thread of a process ended.
pub const EXIT: u16 = 3;
/// A file was opened, or an open failed.
pub const OPEN: u16 = 4;
/// A socket was connected, or a connect failed.
pub const CONNECT: u16 = 5;
