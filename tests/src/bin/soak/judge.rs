//! Whether it went well: nothing has grown, nothing is missing without being told.

use crate::ledger::Ledger;
use crate::sample::Sample;

/// The chart's limit of memory.
const MEMORY_MAX_KIB: f64 = 512.0 * 1024.0;
/// What paths and arguments of processes may take.
const TEXTS_MAX_KIB: f64 = 128.0 * 1024.0;

/// Threads and descriptors that the daemon may have at all.
const THREADS_MAX: f64 = 32.0;
const DESCRIPTORS_MAX: f64 = 512.0;

/// A thing that is judged.
pub struct Verdict {
    pub what: String,
    pub found: String,
    pub limit: String,
    pub is_fine: bool,
}

impl Verdict {
    /// Something that has to be at most so much.
    fn at_most(what: &str, found: f64, limit: f64, unit: &str) -> Self {
        let text = |number: f64| format!("{number:.0}{unit}");
        Self { what: what.to_owned(), found: text(found), limit: text(limit), is_fine: found <= limit }
    }

    /// Something that has to be so.
    pub fn that(what: &str, is_fine: bool, found: String) -> Self {
        Self { what: what.to_owned(), found, limit: String::new(), is_fine }
    }
}

/// What of the daemon may have a highest value but must not grow: name, unit, how much more it may be at the end of the
/// second half than at its beginning by the line that fits best (a part of the mean, and so much besides), its highest
/// value at all, and where it is.
type Measure = (&'static str, &'static str, (f64, f64), f64, fn(&Sample) -> f64);

const MEASURES: &[Measure] = &[
    ("memory of its own but for texts of processes", " KiB", (0.03, 1024.0), MEMORY_MAX_KIB, |of| {
        of.own_kib.saturating_sub(of.texts_kib) as f64
    }),
    ("threads", "", (0.0, 2.0), THREADS_MAX, |of| of.threads as f64),
    ("descriptors", "", (0.0, 4.0), DESCRIPTORS_MAX, |of| of.descriptors as f64),
    ("entries of the kernel's tables", "", (0.0, 16.0), 24_576.0, |of| of.all_entries() as f64),
    ("processes that it remembers", "", (0.01, 0.0), 65_536.0, |of| of.processes as f64),
];

/// Judges how the daemon was, sample by sample.
pub fn daemon(samples: &[Sample], log_max_bytes: u64) -> Vec<Verdict> {
    let second_half = samples.split_at(samples.len() / 2).1;
    let mut verdicts = Vec::new();
    for (what, unit, (part, besides), max, value) in MEASURES {
        let values: Vec<(f64, f64)> = second_half.iter().map(|of| (of.at.as_secs_f64(), value(of))).collect();
        let (growth, mean) = growth(&values);
        let name = format!("{what}, growth in the second half");
        verdicts.push(Verdict::at_most(&name, growth, mean * part + besides, unit));
        let most = samples.iter().map(value).fold(0.0, f64::max);
        verdicts.push(Verdict::at_most(&format!("{what}, at most"), most, *max, unit));
    }
    let most = |value: fn(&Sample) -> u64| samples.iter().map(value).max().unwrap_or_default() as f64;
    let (own, texts) = (most(|of| of.own_kib), most(|of| of.texts_kib));
    verdicts.push(Verdict::at_most("memory of its own, at most", own, MEMORY_MAX_KIB, " KiB"));
    verdicts.push(Verdict::at_most("texts of processes, at most", texts, TEXTS_MAX_KIB, " KiB"));
    verdicts.push(Verdict::at_most(
        "folder of the log, at most",
        most(|of| of.log_bytes),
        log_max_bytes as f64,
        " bytes",
    ));
    verdicts
}

/// How much the line that fits best rises from the first value to the last, and the mean.
fn growth(values: &[(f64, f64)]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = |read: fn(&(f64, f64)) -> f64| values.iter().map(read).sum::<f64>() / count.max(1.0);
    let (mean_x, mean_y) = (mean(|(x, _)| *x), mean(|(_, y)| *y));
    let spread: f64 = values.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let together: f64 = values.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let span = values.last().map_or(0.0, |last| last.0) - values.first().map_or(0.0, |first| first.0);
    (if spread > 0.0 { together / spread * span } else { 0.0 }, mean_y)
}

/// Judges what is told of what was done, up to the record that the exporter has come to.
pub fn told(ledger: &mut Ledger, exported: u64) -> Vec<Verdict> {
    let wrong_before = ledger.wrong.len();
    let missing = ledger.check_deeds();
    let wrong_deeds = ledger.wrong.len() - wrong_before;
    let (records, times) = ledger.check_arrivals(exported);
    let wrong_arrivals = ledger.wrong.len() - wrong_before - wrong_deeds;
    let done: u64 = ledger.done.values().sum();
    vec![
        Verdict::that(
            "what containers did is in the log or counted as lost",
            wrong_deeds == 0,
            format!("{done} done, {} in the log, {} lost", ledger.seen(), ledger.lost()),
        ),
        Verdict::at_most(
            "what containers did and is not in the log",
            missing as f64,
            done as f64 / 100.0,
            "",
        ),
        Verdict::that(
            "what was written has arrived or is told to be dropped",
            wrong_arrivals == 0,
            format!("{} written, {records} arrived, {times} times in all", ledger.last_seq()),
        ),
        Verdict::that(
            "the exporter has come to the end",
            ledger.last_seq() - exported <= 64,
            format!("{} behind", ledger.last_seq() - exported),
        ),
        Verdict::that(
            "started and stopped once, in good order",
            ["start", "stop"].iter().all(|kind| ledger.kinds.get(*kind) == Some(&1)),
            String::new(),
        ),
        Verdict::that("nothing else is wrong", wrong_before == 0, format!("{wrong_before} things")),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    /// Samples whose memory is what this gives for their number.
    fn samples(own_kib: impl Fn(u64) -> u64) -> Vec<Sample> {
        let sample = |n: u64| Sample {
            at: Duration::from_secs(n * 5),
            own_kib: own_kib(n),
            resident_kib: 0,
            threads: 10,
            descriptors: 100,
            entries: BTreeMap::new(),
            processes: 32_768,
            texts_kib: 0,
            log_bytes: 1 << 20,
            lag: 0,
            received: 0,
            cpu_s: 0.0,
        };
        (0..120).map(sample).collect()
    }

    fn wrong(samples: &[Sample]) -> Vec<String> {
        let verdicts = daemon(samples, 2 << 20);
        verdicts.into_iter().filter(|of| !of.is_fine).map(|of| of.what).collect()
    }

    #[test]
    fn memory_that_grows_by_the_hour_is_found_and_memory_that_swings_is_not() {
        // 50 MiB, and 6 MiB more within ten minutes.
        let growing = samples(|n| 51_200 + 50 * n);
        assert_eq!(
            wrong(&growing),
            ["memory of its own but for texts of processes, growth in the second half"]
        );
        let swinging = samples(|n| 51_200 + if n % 7 == 0 { 4_096 } else { 0 });
        assert_eq!(wrong(&swinging), [""; 0]);
        // What was taken at the start and is kept is no growth.
        assert_eq!(wrong(&samples(|n| if n < 30 { 20_000 } else { 80_000 })), [""; 0]);
        let large = samples(|_| 600_000);
        let names = ["memory of its own but for texts of processes, at most", "memory of its own, at most"];
        assert_eq!(wrong(&large), names);
    }
}
