//! The command line: one file per sub-command.

use std::process::ExitCode;

/// Runs the command line that the process was started with.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
