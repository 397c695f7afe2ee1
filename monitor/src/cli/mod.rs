//! The command line: one file per sub-command. stdout is data, stderr is talk. Exit codes: 0 fine, 1 the
//! answer is "no", 2 could not do it.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

mod audit;
mod bundle;
mod changes;
mod config;
mod control;
mod diff;
mod doctor;
mod export;
mod load;
mod restart;
mod rules;
mod run;
mod scope;
mod sink;
mod status;
mod trace;
mod unload;

/// eBPF runtime monitor for containers: who did what, in a log that can be trusted.
#[derive(Parser)]
#[command(name = "taffrail", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon: watch containers, match rules, write the audit log.
    Run(run::Args),
    /// Show events as they happen, of one or all containers.
    Trace(trace::Args),
    /// Check and list rules.
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// Work with the audit log.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show what changed inside a container: files, packages, users, programs, sessions, rights.
    Changes(changes::Args),
    /// Show what a service does in one time and not in another: programs, files, peers.
    Diff(diff::Args),
    /// Check the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Say what exporters do, test them, send again.
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// Say what works on this machine, what does not, what that blinds, and what to do.
    Doctor(doctor::Args),
    /// Say how the running daemon is.
    Status(status::Args),
    /// Change how much the running daemon says on stderr.
    LogLevel(status::LogLevelArgs),
    /// Gather what somebody needs who is to help, without secrets and events.
    SupportBundle(bundle::Args),
    /// Take off the probes that a daemon has left at work.
    Unload(unload::Args),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// The answer is "no".
pub(crate) const NO: u8 = 1;
/// Could not do it.
pub(crate) const FAILED: u8 = 2;

/// Runs the command line that the process was started with. `give_back_memory` asks the allocator to do so.
pub fn main(give_back_memory: fn()) -> ExitCode {
    // A reader that goes away (`taffrail trace | head`) ends us as it ends other tools.
    // SAFETY: no thread runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    crate::talk::start();
    match Cli::parse().command {
        Command::Run(args) => run::run(args, give_back_memory),
        Command::Trace(args) => trace::run(args),
        Command::Rules(command) => rules::run(command),
        Command::Audit(command) => audit::run(command),
        Command::Changes(args) => changes::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Config(command) => config::run(command),
        Command::Export(command) => export::run(command),
        Command::Doctor(args) => doctor::run(args),
        Command::Status(args) => status::run(&args),
        Command::LogLevel(args) => status::set_log_level(&args),
        Command::SupportBundle(args) => bundle::run(&args),
        Command::Unload(args) => unload::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "taffrail", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

/// Whether colours are wanted on stderr: on a terminal, unless `NO_COLOR` is set.
pub(crate) fn color_on_stderr() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Says what failed, why, and what to do about it, one line each.
pub(crate) fn complain(error: &dyn std::error::Error, hint: Option<&str>) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    if let Some(hint) = hint {
        eprintln!("  hint: {hint}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
