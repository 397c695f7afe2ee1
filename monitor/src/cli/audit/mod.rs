//! `taffrail audit`: work with the audit log. One file per sub-command.

use std::process::ExitCode;

use crate::audit::hex::from_hex;

mod export;
mod prove;
pub(super) mod search;
pub(super) mod select;
mod show;
mod stats;
mod tail;
mod verify;

/// Where the log is unless somebody says otherwise.
pub(super) const DEFAULT_FOLDER: &str = "/var/log/taffrail";

/// The log, or a proof, is not what it was.
const CHANGED: u8 = 1;
/// Something is missing.
const MISSING: u8 = 2;
/// It cannot be read.
const UNREADABLE: u8 = 3;

/// Work with the audit log.
#[derive(clap::Subcommand)]
pub enum AuditCommand {
    /// Check that nothing in a log was changed or is missing. Exit codes: 0 it is whole, 1 it was changed,
    /// 2 something is missing at its start or end, 3 it cannot be read.
    Verify(verify::Args),
    /// Prove that a record is in the log, to somebody who does not have the log: JSON on stdout.
    Prove(prove::ProveArgs),
    /// Check such a proof, without the log. Exit codes: 0 it holds, 1 it does not, 3 it cannot be read.
    VerifyProof(prove::VerifyArgs),
    Search(search::Args),
    Tail(tail::Args),
    Stats(stats::Args),
    Export(export::Args),
}

/// Runs the sub-command.
pub fn run(command: AuditCommand) -> ExitCode {
    match command {
        AuditCommand::Verify(args) => verify::run(args),
        AuditCommand::Prove(args) => prove::prove(args),
        AuditCommand::VerifyProof(args) => prove::verify(args),
        AuditCommand::Search(args) => search::run(&args),
        AuditCommand::Tail(args) => tail::run(&args),
        AuditCommand::Stats(args) => stats::run(&args),
        AuditCommand::Export(args) => export::run(&args),
    }
}

/// A hash or a key: 64 hex digits.
fn digits(text: &str) -> Result<[u8; 32], String> {
    from_hex(text.to_ascii_lowercase().as_bytes()).ok_or_else(|| "64 hex digits are needed".to_owned())
}
