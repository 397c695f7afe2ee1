//! `taffrail config`: check the configuration, and show it whole.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{self, LoadError, Settings};
use crate::diagnostic;
use crate::stamp::Seen;

/// Where settings come from.
#[derive(clap::Args)]
pub struct Source {
    /// Configuration file; by default /etc/taffrail/taffrail.yaml, if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override a setting, such as `-o log.dir=/tmp/log`. Can be given again.
    #[arg(short = 'o', value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

impl Source {
    /// Loads the settings, and notes their file, also if it is not there.
    pub fn read(&self, files: &mut Seen) -> Result<Settings, LoadError> {
        files.note(self.config.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH)));
        config::load(self.config.as_deref(), &self.overrides)
    }

    /// The arguments that give another sub-command the same settings.
    pub fn arguments(&self) -> impl Iterator<Item = OsString> {
        let config = self.config.iter().flat_map(|path| [OsString::from("--config"), path.into()]);
        config.chain(self.overrides.iter().flat_map(|text| [OsString::from("-o"), text.into()]))
    }

    /// Loads the settings; if that fails, says why and gives the exit code.
    pub fn load(&self) -> Result<Settings, ExitCode> {
        self.read(&mut Seen::default()).map_err(|error| match error {
            LoadError::Invalid(diagnostics, _) => {
                eprint!("{}", diagnostic::render(&diagnostics, super::color_on_stderr()));
                ExitCode::from(super::NO)
            }
            error @ LoadError::Unreadable { .. } => {
                super::complain(&error, Some("name another file with `--config`"));
                ExitCode::from(super::FAILED)
            }
        })
    }
}

/// Work with the configuration.
#[derive(clap::Subcommand)]
pub enum ConfigCommand {
    /// Check it, and print all settings with their defaults. Exit code 1: it is not valid.
    Check(Source),
    /// Print a JSON schema of the configuration file, for editors.
    Schema,
}

/// Runs the sub-command.
pub fn run(command: ConfigCommand) -> ExitCode {
    match command {
        ConfigCommand::Check(source) => check(&source),
        ConfigCommand::Schema => {
            println!("{:#}", config::schema());
            ExitCode::SUCCESS
        }
    }
}

fn check(source: &Source) -> ExitCode {
    match source.load() {
        Ok(settings) => {
            print!("{}", settings.to_yaml());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
