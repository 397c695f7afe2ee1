//! `taffrail status` and `taffrail log-level`: what the running daemon says by its local socket.

use std::path::PathBuf;
use std::process::ExitCode;

use hyper::Method;
use serde_json::Value;

use super::config::Source;
use crate::event::text::escaped;
use crate::serve::{local, status};
use crate::talk;

/// Which daemon.
#[derive(clap::Args)]
pub struct Daemon {
    /// Its local socket; by default the one that the configuration names.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
}

impl Daemon {
    /// Asks it; if it cannot be asked, says why and gives the exit code.
    pub fn ask(&self, method: Method, path: &str) -> Result<(u16, String), ExitCode> {
        let socket = match &self.socket {
            Some(path) => path.clone(),
            None => {
                let settings = self.source.load()?;
                settings.api.socket_path(&settings.log_dir).ok_or_else(|| {
                    eprintln!("error: `api.socket` is `none`: there is nothing to ask");
                    ExitCode::from(super::FAILED)
                })?
            }
        };
        local::ask(&socket, method, path).map_err(|error| {
            eprintln!(
                "error: cannot ask the daemon at {}: {error}",
                escaped(socket.as_os_str().as_encoded_bytes())
            );
            eprintln!("  hint: it may not run, or write to another folder: name its socket by `--socket`");
            ExitCode::from(super::FAILED)
        })
    }

    /// The settings that it is looked for by.
    pub fn source(&self) -> &Source {
        &self.source
    }
}

/// Say how the running daemon is. Exit code 1: it is not live (or with `--ready`, not ready).
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Say nothing but what is missing for it to be of use, and fail if anything is.
    #[arg(long, conflicts_with_all = ["live", "json"])]
    ready: bool,
    /// Say nothing but what does not go on, and fail if anything does not.
    #[arg(long, conflicts_with = "json")]
    live: bool,
}

/// Runs the sub-command.
pub fn run(args: &Args) -> ExitCode {
    let asked = if args.ready {
        "/readyz"
    } else if args.live {
        "/livez"
    } else {
        "/status"
    };
    let (code, body) = match args.daemon.ask(Method::GET, asked) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    if args.ready || args.live {
        body.lines().for_each(|line| println!("{}", escaped(line.as_bytes())));
        return if code == 200 { ExitCode::SUCCESS } else { ExitCode::from(super::NO) };
    }
    let Ok(found) = serde_json::from_str::<Value>(&body) else {
        eprintln!("error: what answers there is no taffrail");
        return ExitCode::from(super::FAILED);
    };
    if args.json {
        println!("{found}");
    } else {
        println!("{}", status::to_text(&found));
    }
    if found["live"] == true { ExitCode::SUCCESS } else { ExitCode::from(super::NO) }
}

/// Change how much the running daemon says on stderr, until it ends.
#[derive(clap::Args)]
pub struct LogLevelArgs {
    /// How much.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(talk::LEVELS))]
    level: String,
    #[command(flatten)]
    daemon: Daemon,
}

/// Runs the sub-command.
pub fn set_log_level(args: &LogLevelArgs) -> ExitCode {
    match args.daemon.ask(Method::PUT, &format!("/log-level/{}", args.level)) {
        Ok((200, _)) => ExitCode::SUCCESS,
        Ok((_, why)) => {
            eprintln!("error: {}", escaped(why.trim().as_bytes()));
            ExitCode::from(super::NO)
        }
        Err(code) => code,
    }
}
