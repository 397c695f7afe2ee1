//! `taffrail audit`: work with the audit log. One file per sub-command.

use std::process::ExitCode;

mod verify;

/// Where the log is unless somebody says otherwise.
const DEFAULT_FOLDER: &str = "/var/log/taffrail";

/// Work with the audit log.
#[derive(clap::Subcommand)]
pub enum AuditCommand {
    /// Check that nothing in a log was changed or is missing. Exit codes: 0 it is whole, 1 it was changed,
    /// 2 something is missing at its start or end, 3 it cannot be read.
    Verify(verify::Args),
}

/// Runs the sub-command.
pub fn run(command: AuditCommand) -> ExitCode {
    match command {
        AuditCommand::Verify(args) => verify::run(args),
    }
}
