//! How the daemon is at a moment: what the kernel says of its process and its tables, and what it says of itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use taffrail_tests::syscall;

/// One look.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Since the daemon was started.
    pub at: Duration,
    /// Memory that is its own, in KiB (`RssAnon`), and all that is resident.
    pub own_kib: u64,
    pub resident_kib: u64,
    pub threads: u64,
    pub descriptors: u64,
    /// Entries in the kernel's hash tables that the daemon holds, but for those that forget by themselves.
    pub entries: BTreeMap<String, u64>,
    /// Processes that the daemon remembers.
    pub processes: u64,
    /// What their paths and arguments take, in KiB: as long as whoever starts processes on this machine likes.
    pub texts_kib: u64,
    /// Bytes of all files in the log's folder.
    pub log_bytes: u64,
    /// Records that the exporter is behind.
    pub lag: u64,
    /// Events that were received, and CPU seconds that were used, since the start.
    pub received: u64,
    pub cpu_s: f64,
}

impl Sample {
    /// Looks.
    pub fn take(pid: u32, log: &Path, page: &Metrics, at: Duration) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the daemon is gone")?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        Ok(Self {
            at,
            own_kib: number("RssAnon"),
            resident_kib: number("VmRSS"),
            threads: number("Threads"),
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            entries: tables(pid)?,
            processes: page.sum("taffrail_processes") as u64,
            texts_kib: page.sum("taffrail_process_text_bytes") as u64 / 1024,
            log_bytes: bytes(log),
            lag: page.sum("taffrail_export_lag_records") as u64,
            received: page.sum("taffrail_events_total") as u64,
            cpu_s: page.sum("process_cpu_seconds_total"),
        })
    }

    /// All entries of the kernel's tables.
    pub fn all_entries(&self) -> u64 {
        self.entries.values().sum()
    }
}

/// The daemon's page of metrics.
pub struct Metrics(String);

impl Metrics {
    /// Asks for it over TLS, as Prometheus does.
    pub fn scrape(port: u16, ca: &str, token: &str) -> Result<Self> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "20", "--cacert", ca])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .arg(format!("https://localhost:{port}/metrics"))
            .output()?;
        ensure!(output.status.success(), "no metrics: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Self(String::from_utf8(output.stdout)?))
    }

    /// The samples of a metric: its labels and its value.
    pub fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, value.parse().ok()?))
        })
    }

    /// The sum of a metric's samples.
    pub fn sum(&self, name: &str) -> f64 {
        self.samples(name).map(|(_, value)| value).sum()
    }

    /// Events of each kind that are neither received nor lost: they are on their way, or nobody knows of them.
    pub fn on_their_way(&self) -> BTreeMap<&str, i64> {
        let mut kinds = BTreeMap::new();
        for (name, sign) in [
            ("taffrail_events_offered_total", 1),
            ("taffrail_events_total", -1),
            ("taffrail_events_lost_total", -1),
        ] {
            for (labels, value) in self.samples(name) {
                let kind = labels.split('"').nth(1).unwrap_or_default();
                *kinds.entry(kind).or_default() += sign * value as i64;
            }
        }
        kinds.retain(|_, count| *count != 0);
        kinds
    }
}

/// Bytes of all files in a folder and below.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| match entry.metadata().ok()? {
        metadata if metadata.is_dir() => Some(bytes(&entry.path())),
        metadata => Some(metadata.len()),
    });
    sizes.sum()
}

/// Entries in use of each hash table of the kernel that a process has a descriptor of.
fn tables(pid: u32) -> Result<BTreeMap<String, u64>> {
    /// `BPF_MAP_TYPE_HASH` and `BPF_MAP_TYPE_PERCPU_HASH`.
    const HASHES: [u64; 2] = [1, 5];
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.trim().parse::<u64>().ok())
        };
        let (Some(ty), Some(id)) = (number("map_type"), number("map_id")) else { continue };
        if !HASHES.contains(&ty) {
            continue;
        }
        let max = number("max_entries").unwrap_or_default();
        let (name, count) = table(id as u32, max).with_context(|| format!("the table {id}"))?;
        found.insert(name, count);
    }
    Ok(found)
}

/// Commands of bpf(2).
const GET_NEXT_KEY: i32 = 4;
const MAP_GET_FD_BY_ID: i32 = 14;
const OBJ_GET_INFO_BY_FD: i32 = 15;

/// Name and number of entries of a table.
fn table(id: u32, max: u64) -> Result<(String, u64)> {
    use std::os::fd::AsRawFd as _;
    let by_id = [u64::from(id), 0];
    let map = taffrail_tests::raw::descriptor(syscall!(libc::SYS_bpf, MAP_GET_FD_BY_ID, by_id.as_ptr(), 16))?;
    // `struct bpf_map_info` as Linux 5.10 has it: the key's size is the third word, the name stands at byte 24.
    let mut info = [0u8; 80];
    let about = [map.as_raw_fd() as u64 | (info.len() as u64) << 32, info.as_mut_ptr() as u64];
    syscall!(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, about.as_ptr(), 16)?;
    let name: Vec<u8> = info[24..40].iter().copied().take_while(|byte| *byte != 0).collect();
    let key_bytes = u32::from_ne_bytes(info[8..12].try_into()?) as usize;
    let (mut key, mut next) = (vec![0u8; key_bytes], vec![0u8; key_bytes]);
    let mut count = 0;
    // A key that is deleted meanwhile makes the kernel begin anew.
    while count < max {
        let from = if count == 0 { std::ptr::null() } else { key.as_ptr() };
        let ask = [map.as_raw_fd() as u64, from as u64, next.as_mut_ptr() as u64, 0];
        match syscall!(libc::SYS_bpf, GET_NEXT_KEY, ask.as_ptr(), 32) {
            Ok(_) => std::mem::swap(&mut key, &mut next),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
            Err(error) => return Err(error.into()),
        }
        count += 1;
    }
    Ok((String::from_utf8_lossy(&name).into_owned(), count))
}
