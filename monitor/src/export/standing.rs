//! How an exporter is doing, for metrics and status.

use crate::vitals::Number;

/// How an exporter is doing, for others to read.
#[derive(Debug, Default)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// The last record that the receiver is known to have.
    pub seq: Number,
    /// Events that arrived.
    pub sent: Number,
    /// Attempts that failed.
    pub failed: Number,
    /// Records that the receiver did not take, and never will.
    pub refused: Number,
    /// Records that were deleted before they were sent.
    pub dropped: Number,
    /// 1 while nothing gets through.
    pub failing: Number,
}
