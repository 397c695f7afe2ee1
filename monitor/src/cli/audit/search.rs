//! `taffrail audit search`: records of the log that a condition of the rule language lets pass.

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;

use super::select::Selection;
use super::show;
use crate::audit::search::{self, Options, Order, Outcome, SearchError};
use crate::cli::{FAILED, NO, complain};
use crate::event::text::escaped;

/// Find records. Exit codes: 0 there are some, 1 there are none, 2 the log could not be searched, or not all of it.
#[derive(clap::Args)]
pub struct Args {
    /// Only events and alerts that this condition, in the rule language, lets pass: `proc.name=sh and user.uid=0`.
    condition: Option<String>,
    #[command(flatten)]
    selection: Selection,
    /// At most so many: the newest ones, newest first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// The oldest first, also with `--limit`.
    #[arg(long)]
    oldest_first: bool,
    /// Print the records as they are in the log, instead of lines for people.
    #[arg(long)]
    json: bool,
    /// Read all of the log: use no index, which somebody could have changed to hide records.
    #[arg(long)]
    no_index: bool,
    /// Say how much was read.
    #[arg(long)]
    verbose: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let query = match args.selection.query(args.condition.as_deref()) {
        Ok(query) => query,
        Err(code) => return code,
    };
    let newest_first = args.limit.is_some() && !args.oldest_first;
    let order = if newest_first { Order::NewestFirst } else { Order::OldestFirst };
    let options = Options { order, with_index: !args.no_index };
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let (mut line, mut left) = (String::new(), args.limit.unwrap_or(u64::MAX));
    let found = search::search(&args.selection.folder, &query, options, &mut |record| {
        if args.json {
            out.write_all(record)?;
            out.write_all(b"\n")?;
        } else {
            line.clear();
            show::write_line(record, &mut line);
            out.write_all(line.as_bytes())?;
        }
        left -= 1;
        Ok(left > 0)
    });
    let written = out.flush().map_err(SearchError::Write);
    match found.and_then(|outcome| written.map(|()| outcome)) {
        Ok(outcome) => {
            if args.verbose {
                let Outcome { found, read, spared, .. } = &outcome;
                eprintln!("{found} records found; {read} blocks read, {spared} spared by the index");
            }
            exit_code(&outcome)
        }
        Err(error) => {
            complain(&error, Some("name the log's folder: `--log FOLDER`"));
            ExitCode::from(FAILED)
        }
    }
}

/// What a search comes to; what could not be read is told.
pub fn exit_code(outcome: &Outcome) -> ExitCode {
    for (path, why) in &outcome.damaged {
        let path = escaped(path.as_os_str().as_encoded_bytes());
        eprintln!("error: {path} cannot be read as a whole: {why}");
    }
    match outcome.found {
        _ if !outcome.damaged.is_empty() => ExitCode::from(FAILED),
        0 => ExitCode::from(NO),
        _ => ExitCode::SUCCESS,
    }
}
