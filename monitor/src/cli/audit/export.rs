//! `taffrail audit export`: a part of the log, byte for byte and without holes, so that what is exported can be checked by
//! itself: from the first record that is wanted to the last one, and on to the checkpoint that vouches for it.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::select;
use crate::audit::query::Query;
use crate::audit::read::{Cursor, Step, last_seq, seq_of};
use crate::audit::search::{self, Options, Order, SearchError};
use crate::cli::{FAILED, NO, complain};
use crate::event::logged::Record;

/// Write a part of the log as it is: all records of a time or between two numbers, on to the next checkpoint. Exit codes:
/// 0 it is whole, 1 there are no such records, 2 it could not be read, or records are missing in it.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the log.
    #[arg(long = "log", value_name = "FOLDER", default_value = super::DEFAULT_FOLDER)]
    folder: PathBuf,
    /// From the first record of this time on (RFC 3339, or how long ago: `2h`).
    #[arg(long, value_name = "TIME", value_parser = select::time, conflicts_with = "from")]
    since: Option<u64>,
    /// Up to the last record before this time.
    #[arg(long, value_name = "TIME", value_parser = select::time, conflicts_with = "to")]
    until: Option<u64>,
    /// From this record on.
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Up to this record.
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// Write into this new file, not to stdout.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args) -> ExitCode {
    match export(args) {
        Ok(Some(Exported { records, missing: 0 })) => {
            eprintln!("taffrail: {records} records");
            ExitCode::SUCCESS
        }
        Ok(Some(Exported { records, missing })) => {
            eprintln!(
                "taffrail: {records} records; {missing} records or pieces of the range are missing or damaged"
            );
            ExitCode::from(FAILED)
        }
        Ok(None) => {
            eprintln!("taffrail: there are no such records");
            ExitCode::from(NO)
        }
        Err(error) => {
            complain(
                &error,
                Some("name the log's folder with `--log FOLDER`, and a new file with `--output FILE`"),
            );
            ExitCode::from(FAILED)
        }
    }
}

struct Exported {
    records: u64,
    missing: u64,
}

fn export(args: &Args) -> Result<Option<Exported>, SearchError> {
    let Some((from, to)) = range(args)? else { return Ok(None) };
    // What was asked for by number and is not there yet is missing too.
    let beyond = args.to.map_or(0, |asked| asked.saturating_sub(to));
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::new(match &args.output {
        Some(path) => Box::new(create(path).map_err(SearchError::Write)?),
        None => Box::new(io::stdout().lock()),
    });
    let mut cursor = Cursor::new(&args.folder, from);
    let mut exported = Exported { records: 0, missing: beyond };
    let (mut is_vouched, mut held_bytes) = (false, 0);
    // What follows the range is held back until a checkpoint shows that it is needed.
    let mut behind = Vec::new();
    loop {
        let is_within = cursor.position() <= to;
        match cursor.next()? {
            Step::Record { seq, line } if seq <= to => {
                exported.records += 1;
                is_vouched = is_checkpoint(line);
                out.write_all(line).and_then(|()| out.write_all(b"\n")).map_err(SearchError::Write)?;
            }
            Step::Record { .. } if is_vouched => break,
            Step::Record { line, .. } => {
                behind.push(line.to_vec());
                held_bytes += line.len();
                is_vouched = is_checkpoint(line);
                if is_vouched {
                    for line in &behind {
                        exported.records += 1;
                        out.write_all(line)
                            .and_then(|()| out.write_all(b"\n"))
                            .map_err(SearchError::Write)?;
                    }
                    break;
                }
                if held_bytes > BEHIND_BYTES_MAX {
                    break;
                }
            }
            Step::Skipped { from, to: end } if from <= to => exported.missing += end.min(to) - from + 1,
            Step::Damaged { .. } if is_within => exported.missing += 1,
            Step::Skipped { .. } | Step::Damaged { .. } | Step::End => break,
        }
    }
    out.flush().map_err(SearchError::Write)?;
    if !is_vouched {
        eprintln!("taffrail: no checkpoint follows that vouches for the last of these records");
    }
    Ok((exported.records > 0).then_some(exported))
}

/// A checkpoint that is further away, in bytes, is not looked for.
const BEHIND_BYTES_MAX: usize = 64 << 20;

fn is_checkpoint(line: &[u8]) -> bool {
    Record::parse(line).is_some_and(|record| record.kind() == "checkpoint")
}

/// The numbers of the first and the last record.
fn range(args: &Args) -> Result<Option<(u64, u64)>, SearchError> {
    let query = Query::all().between(args.since, args.until);
    let first = |order| -> Result<Option<u64>, SearchError> {
        let mut first = None;
        let options = Options { order, with_index: true };
        search::search(&args.folder, &query, options, &mut |line| {
            first = seq_of(line);
            Ok(first.is_none())
        })?;
        Ok(first)
    };
    let Some(last) = last_seq(&args.folder)? else { return Ok(None) };
    let from = match (args.from, args.since) {
        (Some(from), _) => Some(from),
        (None, _) => first(Order::OldestFirst)?,
    };
    let to = match (args.to, args.until) {
        (Some(to), _) => Some(to.min(last)),
        (None, None) => Some(last),
        (None, Some(_)) => first(Order::NewestFirst)?,
    };
    Ok(from.zip(to).filter(|(from, to)| from <= to))
}

fn create(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
