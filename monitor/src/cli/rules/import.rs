//! `taffrail rules import`: Sigma rules as text in our own language, to be read, changed and kept. Loading the
//! Sigma files themselves does the same without a copy.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{errors, failed, read, tell};
use crate::cli::NO;
use crate::rules::{RuleSet, sigma};

#[derive(clap::Args)]
pub struct Args {
    /// Sigma files, folders of them, or `-` for standard input.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Write to this new file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<(), ExitCode> {
    let sources = read(&args.paths)?;
    let set = match RuleSet::load(&sources) {
        Ok((set, warnings)) => {
            tell(&warnings);
            set
        }
        Err(diagnostics) => {
            tell(&diagnostics);
            eprintln!("{} errors", errors(&diagnostics));
            return Err(ExitCode::from(NO));
        }
    };
    let text = sigma::export::rules(&set);
    match &args.output {
        None => print!("{text}"),
        Some(path) => {
            let file = std::fs::File::create_new(path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
                failed(&std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
            })?;
        }
    }
    let count = set.rules.iter().filter(|rule| rule.origin.is_some()).count();
    eprintln!("{count} rules were imported, {} were left out", set.left_out);
    Ok(())
}
