//! `taffrail audit tail`: the end of the log, and what is written from now on.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::select::Selection;
use super::show;
use crate::audit::read::{self, Cursor, Step, seq_of};
use crate::audit::search::{self, Options, Order, SearchError};
use crate::cli::{FAILED, complain};
use crate::event::text::escaped;

/// Show the last records, and new ones as they are written. Ends with Ctrl-C.
#[derive(clap::Args)]
pub struct Args {
    /// Only events and alerts that this condition, in the rule language, lets pass.
    condition: Option<String>,
    #[command(flatten)]
    selection: Selection,
    /// So many of those that are there already.
    #[arg(long, value_name = "N", default_value_t = 10)]
    lines: usize,
    /// Print the records as they are in the log, instead of lines for people.
    #[arg(long)]
    json: bool,
    /// End after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

pub fn run(args: &Args) -> ExitCode {
    match follow(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

fn follow(args: &Args) -> Result<(), ExitCode> {
    let failed = |error: SearchError| {
        complain(&error, Some("name the log's folder: `--log FOLDER`"));
        ExitCode::from(FAILED)
    };
    let read = |error| failed(SearchError::Read(error));
    let write = |error| failed(SearchError::Write(error));
    let folder = &args.selection.folder;
    let options = Options { order: Order::NewestFirst, with_index: true };
    let query = args.selection.query(args.condition.as_deref())?;
    let (query, _) = search::complete(folder, &query, options).map_err(failed)?;
    let mut out = Printer { out: BufWriter::new(io::stdout().lock()), json: args.json, line: String::new() };

    // What is written from here on is the cursor's.
    let last = read::last_seq(folder).map_err(read)?.unwrap_or(0);
    let mut there = VecDeque::new();
    if args.lines > 0 {
        let found = search::search(folder, &query, options, &mut |line| {
            if seq_of(line).is_some_and(|seq| seq <= last) {
                there.push_front(line.to_vec());
            }
            Ok(there.len() < args.lines)
        });
        found.map_err(failed)?;
    }
    there.iter().try_for_each(|line| out.print(line)).map_err(write)?;

    let mut cursor = Cursor::new(folder, last + 1);
    let end = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    loop {
        match cursor.next().map_err(read)? {
            Step::Record { line, .. } if query.matches(line) => out.print(line).map_err(write)?,
            Step::Record { .. } => {}
            Step::Skipped { from, to } => {
                eprintln!("taffrail: records {from} to {to} are not in the log any more")
            }
            Step::Damaged { segment, offset, .. } => {
                let segment = escaped(segment.as_os_str().as_encoded_bytes());
                eprintln!("taffrail: what is at byte {offset} of {segment} is no record");
            }
            Step::End => {
                out.out.flush().map_err(write)?;
                let left = end.map(|end| end.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) {
                    return Ok(());
                }
                cursor.wait(left.unwrap_or(Duration::from_secs(3600))).map_err(read)?;
            }
        }
    }
}

struct Printer<'a> {
    out: BufWriter<io::StdoutLock<'a>>,
    json: bool,
    line: String,
}

impl Printer<'_> {
    fn print(&mut self, record: &[u8]) -> io::Result<()> {
        if self.json {
            self.out.write_all(record)?;
            return self.out.write_all(b"\n");
        }
        self.line.clear();
        show::write_line(record, &mut self.line);
        self.out.write_all(self.line.as_bytes())
    }
}
