//! `taffrail unload`: takes off the probes that a daemon left at work.

use std::process::ExitCode;

use super::config::Source;
use crate::probe::handover::{self, PinError};

/// Take off the probes that a daemon has left at work (`probes.pin`).
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
}

/// Runs the sub-command.
pub fn run(args: &Args) -> ExitCode {
    let settings = match args.source.load() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let Some(folder) = settings.pin else {
        eprintln!("taffrail: `probes.pin` is not set: the probes end with the daemon");
        return ExitCode::SUCCESS;
    };
    match handover::unload(&folder) {
        Ok(count) => {
            println!("{}: took off the probes of {count} daemons", folder.display());
            ExitCode::SUCCESS
        }
        Err(PinError::Folder(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("{}: there are none", folder.display());
            ExitCode::SUCCESS
        }
        Err(error @ PinError::InUse) => {
            super::complain(&error, Some("stop that daemon first (`systemctl stop taffrail`)"));
            ExitCode::from(super::FAILED)
        }
        Err(error) => {
            super::complain(&error, Some("run as root; `rm -r` of the folder takes them off too"));
            ExitCode::from(super::FAILED)
        }
    }
}
