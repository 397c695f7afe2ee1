//! A daemon without probes: writes events of four containers into a log while exporters send it, as `taffrail run` does.
//! It goes on where the log ends, so that it can be killed and started again. The end of standard input ends it in order.
//!
//! usage: ship CONFIG LOG EVENTS EVENTS_IN_A_SECOND

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use taffrail::audit::{Entry, Log, Options, RecordKind};
use taffrail::clock::{Clock, boot_id, boot_ns};
use taffrail::config;
use taffrail::export::Exporters;

/// What a container's process may be called.
const NAME: &str = "a\\u001b[2J\\\"|=]\\\\n\\u202e\\\\";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, folder, events, rate] = &arguments[..] else { anyhow::bail!("four arguments") };
    let (events, rate): (u64, u64) = (events.parse()?, rate.parse()?);
    let settings =
        config::load(Some(Path::new(config)), &[]).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let folder = Path::new(folder);
    let written = last_number(folder)?;
    let mut options = Options::new(folder.to_owned(), "node-1".to_owned(), boot_id());
    (options.policy.segment_bytes, options.policy.pack) = (2 << 20, false);
    let log = Log::open(options)?;
    let log = Arc::new(log);
    let telling = Arc::clone(&log);
    let exporters = Exporters::start(&settings.exporters, folder, &log.durable(), move |kind, body| {
        append(&telling, kind, &body);
    })?;
    let start = Instant::now();
    for number in written + 1..=events {
        let due = start + Duration::from_secs_f64((number - written) as f64 / rate as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let body = format!(
            "\"event\":{{\"kind\":\"exec\",\"type\":\"execve\",\"args\":[\"x\",\"{NAME}\"]}},\
             \"process\":{{\"key\":\"{number}-1\",\"pid\":{number},\"name\":\"{NAME}\"}},\
             \"container\":{{\"id\":\"{}\",\"name\":\"{NAME}\"}}",
            number % 4
        );
        append(&log, RecordKind::Event, body.as_bytes());
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    exporters.hush();
    let log = Arc::into_inner(log).context("the log is in use")?;
    log.close()?;
    exporters.drain(Duration::from_secs(60));
    Ok(())
}

fn append(log: &Log, kind: RecordKind, body: &[u8]) {
    let boot_ns = boot_ns();
    log.append(Entry { kind, time_ns: Clock::now().realtime_ns(boot_ns), boot_ns, body });
}

/// The number of the last event in the log.
fn last_number(folder: &Path) -> Result<u64> {
    let mut last = 0;
    for entry in folder.read_dir().into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "ndjson") {
            continue;
        }
        for line in BufReader::new(std::fs::File::open(path)?).lines() {
            let number =
                line?.split_once("\"pid\":").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
            last = last.max(number.unwrap_or_default());
        }
    }
    Ok(last)
}
