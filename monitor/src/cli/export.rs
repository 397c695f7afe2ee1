//! `taffrail export`: what exporters there are and how far they came, one event as a test, and sending again.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::config::Source;
use crate::audit::read::{self, Cursor, ReadError, Step};
use crate::clock::{self, Clock};
use crate::config::Settings;
use crate::event::text::escaped;
use crate::export::cursor::{Files, Position};
use crate::export::record::Record;
use crate::export::settings::Settings as Exporter;
use crate::export::transport::{self, Batch, Event, Failure, Stage};
use crate::rules::hex;

/// Work with exporters.
#[derive(clap::Subcommand)]
pub enum ExportCommand {
    /// List the exporters of the configuration.
    List(Source),
    /// Say how far each one came, how much is left, and why nothing gets through. Exit code 1: something fails.
    Status {
        #[command(flatten)]
        source: Source,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Send one marked event and say how far it came. Exit code 1: it was not taken.
    Test {
        /// Name of the exporter.
        name: String,
        #[command(flatten)]
        source: Source,
    },
    /// Send what is in the log again, whether the daemon runs or not. Receivers know events by their ids.
    Replay {
        /// Name of the exporter.
        name: String,
        /// From when on: a time (`2026-11-24T12:00:00Z`), or how long ago (`2h`, `30m`).
        #[arg(long, value_name = "TIME", value_parser = time_ns)]
        since: i64,
        #[command(flatten)]
        source: Source,
    },
}

/// A time, or how long ago, in ns since 1970.
fn time_ns(text: &str) -> Result<i64, String> {
    let time = match text.parse::<jiff::Timestamp>() {
        Ok(time) => time,
        Err(_) => {
            let ago = text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string())?;
            jiff::Timestamp::now().checked_sub(ago).map_err(|error| error.to_string())?
        }
    };
    i64::try_from(time.as_nanosecond()).map_err(|error| error.to_string())
}

/// Runs the sub-command.
pub fn run(command: ExportCommand) -> ExitCode {
    let (ExportCommand::List(source)
    | ExportCommand::Status { source, .. }
    | ExportCommand::Test { source, .. }
    | ExportCommand::Replay { source, .. }) = &command;
    let settings = match source.load() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match &command {
        ExportCommand::List(_) => list(&settings),
        ExportCommand::Status { json, .. } => status(&settings, *json),
        ExportCommand::Test { name, .. } => match find(&settings, name) {
            Ok(exporter) => test(&settings, exporter),
            Err(code) => code,
        },
        ExportCommand::Replay { name, since, .. } => match find(&settings, name) {
            Ok(exporter) => replay(&settings, exporter, *since),
            Err(code) => code,
        },
    }
}

fn find<'a>(settings: &'a Settings, name: &str) -> Result<&'a Exporter, ExitCode> {
    settings.exporters.iter().find(|exporter| exporter.name == name).ok_or_else(|| {
        let names: Vec<&str> = settings.exporters.iter().map(|exporter| exporter.name.as_str()).collect();
        eprintln!("error: there is no exporter `{}`", escaped(name.as_bytes()));
        eprintln!(
            "  hint: the configuration has {}",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
        ExitCode::from(super::FAILED)
    })
}

fn list(settings: &Settings) -> ExitCode {
    for exporter in &settings.exporters {
        let to = exporter.shown_address();
        println!("{}\t{}\t{}", exporter.name, escaped(to.as_str().as_bytes()), exporter.format.name);
    }
    ExitCode::SUCCESS
}

fn status(settings: &Settings, as_json: bool) -> ExitCode {
    let last = match read::last_seq(&settings.log_dir) {
        Ok(last) => last.unwrap_or_default(),
        Err(error) => {
            super::complain(&error, Some("name the log with `-o log.dir=PATH`"));
            return ExitCode::from(super::FAILED);
        }
    };
    let mut all = Vec::new();
    let mut is_failing = false;
    for exporter in &settings.exporters {
        let position = match Files::new(&settings.log_dir, &exporter.name).load() {
            Ok(position) => position.unwrap_or_default(),
            Err(error) => {
                super::complain(&error, Some("run it as a user who may read the log"));
                return ExitCode::from(super::FAILED);
            }
        };
        let Position { seq, hash: _, sent, failed, refused, dropped, error, failing_since, is_unreadable: _ } =
            position;
        let lag = last.saturating_sub(seq);
        is_failing |= error.is_some();
        if as_json {
            all.push(json!({
                "name": exporter.name, "to": exporter.shown_address().as_str(), "format": exporter.format.name, "position": seq, "lag": lag,
                "sent": sent, "failed": failed, "refused": refused, "dropped": dropped, "error": error,
                "failing_since": failing_since,
            }));
            continue;
        }
        println!("{}: sent {sent}, behind by {lag} records, at record {seq}", exporter.name);
        for (count, what) in [
            (failed, "attempts failed"),
            (refused, "events refused or damaged: they are in the file of dead letters"),
            (dropped, "records deleted from the log before they were sent"),
        ] {
            if count > 0 {
                println!("  {count} {what}");
            }
        }
        if let Some(error) = error {
            let since = failing_since.unwrap_or_default();
            println!("  failing since {}: {}", escaped(since.as_bytes()), escaped(error.as_bytes()));
        }
    }
    if as_json {
        println!("{}", serde_json::Value::from(all));
    }
    if is_failing { ExitCode::from(super::NO) } else { ExitCode::SUCCESS }
}

fn test(settings: &Settings, exporter: &Exporter) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::complain(&error, None);
            return ExitCode::from(super::FAILED);
        }
    };
    let tested = runtime.block_on(send_test(settings, exporter));
    runtime.shutdown_background();
    match tested {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("{}: no: {}", failure.stage.name(), escaped(failure.why.as_bytes()));
            if let Some(hint) = hint(failure.stage) {
                eprintln!("  hint: {hint}");
            }
            ExitCode::from(super::NO)
        }
    }
}

fn hint(stage: Stage) -> Option<&'static str> {
    Some(match stage {
        Stage::Settings => "correct the configuration, or the files that it names",
        Stage::Dns => "check the host in `to`, and this machine's resolver",
        Stage::Tcp => "check the port in `to`, that the receiver runs, and firewalls in between",
        Stage::Tls => {
            "check `ca_file`, `server_name`, and `cert_file` if the receiver asks for a certificate"
        }
        Stage::Authentication => "check the token or login, and what it is allowed to do",
        Stage::Accepted => return None,
    })
}

/// Sends one event, step by step.
async fn send_test(settings: &Settings, exporter: &Exporter) -> Result<(), Failure> {
    transport::probe(exporter, |stage, what| println!("{}: {}", stage.name(), escaped(what.as_bytes())))
        .await?;
    let line = marked(settings, exporter);
    let wrong = |why: &dyn std::fmt::Display| Failure::new(Stage::Settings, why);
    let record = Record::parse(line.as_bytes()).map_err(|error| wrong(&error))?;
    let mut batch = Batch::default();
    if !exporter.format.encode(&record, exporter.max_event_bytes, &mut batch.bytes) {
        return Err(wrong(&"`max_event_bytes` is too small for any event"));
    }
    batch.events.push(Event::new(&record, 0..batch.bytes.len()));
    let mut transport = (exporter.receiver.open)(exporter).await?;
    if let Some(refused) = transport.send(&batch).await?.first() {
        return Err(Failure::new(Stage::Accepted, &refused.reason));
    }
    let id = record.id();
    if transport.settles_after().is_zero() && !transport::is_one_way(exporter) {
        println!("{}: the event {id} was taken", Stage::Accepted.name());
        return Ok(());
    }
    // Whoever reads and then closes the connection has said no.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        transport.has_arrived()?;
    }
    println!("{}: the event {id} was sent; syslog does not say whether it was taken", Stage::Accepted.name());
    Ok(())
}

/// A record that only this test has, in the log's form.
fn marked(settings: &Settings, exporter: &Exporter) -> String {
    let boot_ns = clock::boot_ns();
    let time = clock::rfc3339(Clock::now().realtime_ns(boot_ns));
    let time = String::from_utf8_lossy(time.as_bytes()).into_owned();
    let unique = hex(&Sha256::digest(format!("{time} {}", std::process::id())));
    json!({
        "seq": 0, "prev": unique, "kind": "export", "time": time, "boot_ns": boot_ns, "node": settings.node_name,
        "boot_id": clock::boot_id(), "exporter": exporter.name, "state": "test",
    })
    .to_string()
}

fn replay(settings: &Settings, exporter: &Exporter, since: i64) -> ExitCode {
    let from = match first_since(&settings.log_dir, since) {
        Ok(Some(from)) => from,
        Ok(None) => {
            println!("nothing was recorded since then");
            return ExitCode::from(super::NO);
        }
        Err(error) => {
            super::complain(&error, Some("name the log with `-o log.dir=PATH`"));
            return ExitCode::from(super::FAILED);
        }
    };
    match Files::new(&settings.log_dir, &exporter.name).ask_for_replay(from) {
        Ok(()) => {
            println!(
                "{}: all from record {from} on is sent again, now or when the daemon starts",
                exporter.name
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            super::complain(&error, Some("run it as a user who may write beside the log"));
            ExitCode::from(super::FAILED)
        }
    }
}

/// The first record that is not older; times do not go back but when the clock is set.
fn first_since(log: &Path, since: i64) -> Result<Option<u64>, ReadError> {
    let time_of = |line: &[u8]| Record::parse(line).ok().map(|record| record.time_ns);
    let mut start = 1;
    for segment in read::segments(log)? {
        match Cursor::new(log, segment.first).next()? {
            Step::Record { line, .. } if time_of(line).is_some_and(|time| time >= since) => break,
            _ => start = segment.first,
        }
    }
    let mut cursor = Cursor::new(log, start);
    loop {
        match cursor.next()? {
            Step::Record { seq, line } if time_of(line).is_some_and(|time| time >= since) => {
                return Ok(Some(seq));
            }
            Step::End => return Ok(None),
            _ => {}
        }
    }
}
