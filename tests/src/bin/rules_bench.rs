//! Measures what rules cost, and writes `docs/performance-rules.md`: events per second through decode, enrichment and
//! matching on one core, and how the cost grows with the number of rules, next to that of evaluating each rule by
//! itself. All that is compared takes turns within one run; figures are medians. Run by `cargo xtask bench`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taffrail::audit::RecordKind;
use taffrail::capture::{Frame, Note, Reader};
use taffrail::clock::Clock;
use taffrail::detect::Detector;
use taffrail::detect::alert::Verdict;
use taffrail::detect::memory::Limits;
use taffrail::diagnostic::{Source, render};
use taffrail::enrich::{self, Enricher, Subject};
use taffrail::event::kind_name;
use taffrail::pipeline::{Gap, Sink, Worker};
use taffrail::rules::{RuleSet, embedded};
use taffrail_common::kind;

/// Rounds of each measurement; what is compared takes turns within a round.
const ROUNDS: usize = 9;

/// How much CPU time one figure is measured for, in ns.
const SPAN_NS: f64 = 100e6;

/// Of a hundred events so many are of that kind; what is left is of the recording's other kinds.
const MIX: [(u16, usize); 5] =
    [(kind::OPEN, 55), (kind::EXEC, 10), (kind::FORK, 10), (kind::CONNECT, 15), (kind::SETTING, 5)];

/// Numbers of generated rules.
const COUNTS: [usize; 5] = [10, 30, 100, 300, 1_000];

fn main() {
    let mut bench = Bench::new();
    let mut page = String::from(
        "# What rules cost\n\nWritten by `cargo xtask bench`; medians of interleaved runs; times are CPU time of the \
         one thread that does it all.\n",
    );
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let _ = writeln!(page, "\nMachine: Linux {}. Events: {}.", release.trim(), bench.mix());
    sets(&mut page, &mut bench);
    curve(&mut page, &mut bench);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance-rules.md");
    std::fs::write(path, &page).unwrap();
    print!("{page}");
}

/// What is done with an event once it is enriched.
enum Matching {
    Nothing,
    Engine(Box<Detector>),
    EachByItself(Arc<RuleSet>),
}

struct Count {
    matching: Matching,
    events: u64,
    alerts: u64,
}

impl Sink for Count {
    fn event(&mut self, subject: &Subject<'_>, _verdict: Verdict<'_>) {
        self.events += 1;
        let kind = subject.event.header().kind;
        self.alerts += match &mut self.matching {
            Matching::Nothing => 0,
            Matching::Engine(detector) => detector.matches(kind, subject).count(),
            Matching::EachByItself(set) => {
                set.enabled().filter(|rule| rule.kinds & 1 << kind != 0 && rule.matches(subject)).count()
            }
        } as u64;
    }

    fn gap(&mut self, _gap: &Gap<'_>) {}

    fn note(&mut self, _kind: RecordKind, _boot_ns: u64, _time_ns: u64, _body: &[u8]) {}
}

/// Events, and what they go through.
struct Bench {
    worker: Worker<Count>,
    records: Vec<Vec<u8>>,
}

/// What one run showed.
struct Figures {
    ns_per_event: f64,
    alerts_per_event: f64,
}

impl Bench {
    /// The records of the recorded session, mixed anew.
    fn new() -> Self {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data/session.recording");
        let mut reader = Reader::new(std::fs::File::open(data).unwrap()).unwrap();
        let sink = Count { matching: Matching::Nothing, events: 0, alerts: 0 };
        let enricher = Enricher::new(enrich::Source::Recorded, 65_536);
        let nothing = (Arc::default(), Limits::default());
        let mut worker = Worker::new(enricher, nothing, Clock { offset_ns: 0 }, sink);
        let mut by_kind: HashMap<u16, Vec<Vec<u8>>> = HashMap::new();
        while let Some(frame) = reader.frame().unwrap() {
            match frame {
                Frame::Record(bytes) => {
                    let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
                    // A process ends only once.
                    if kind != kind::EXIT {
                        worker.record(&bytes);
                        let key = if MIX.iter().any(|(mixed, _)| *mixed == kind) { kind } else { 0 };
                        by_kind.entry(key).or_default().push(bytes);
                    }
                }
                Frame::Note(note) => match *note {
                    Note::Process(seed) => worker.enricher.learn_process(seed),
                    Note::Cgroup { id, path: _, container } => worker.enricher.recall_cgroup(id, container),
                    Note::Container { cgroup_path, metadata } => {
                        worker.enricher.recall_container(&cgroup_path, *metadata);
                    }
                    Note::Names { cgroup_path, names } => worker.enricher.users.recall(cgroup_path, names),
                    Note::Digest { version, digest } => worker.enricher.recall_digest(version, digest),
                    Note::Loss { .. } => {}
                },
                Frame::Clock(offset_ns) => worker.clock = Clock { offset_ns },
            }
        }
        let rest = 100 - MIX.iter().map(|(_, share)| share).sum::<usize>();
        let mut turns: HashMap<u16, usize> = HashMap::new();
        let mut records = Vec::new();
        for hundred in 0..40 {
            let shares = MIX.iter().copied().chain([(0, rest)]);
            let mut kinds: Vec<u16> =
                shares.flat_map(|(kind, share)| std::iter::repeat_n(kind, share)).collect();
            // Spread evenly: a step that has no divisor in common with a hundred.
            kinds = (0..kinds.len()).map(|n| kinds[(n * 37 + hundred) % kinds.len()]).collect();
            for kind in kinds {
                let turn = turns.entry(kind).or_default();
                let of_kind = &by_kind[&kind];
                records.push(of_kind[*turn % of_kind.len()].clone());
                *turn += 1;
            }
        }
        Self { worker, records }
    }

    fn mix(&self) -> String {
        let mut text =
            format!("{} records of `tests/data/session.recording`, of a hundred", self.records.len());
        for (kind, share) in MIX {
            let _ = write!(text, " {share} of kind {},", kind_name(kind));
        }
        text + " the rest of others"
    }

    /// All events, again and again.
    fn run(&mut self, matching: Matching) -> (Figures, Matching) {
        self.worker.sink = Count { matching, events: 0, alerts: 0 };
        let start = cpu_ns();
        while cpu_ns() - start < SPAN_NS {
            self.records.iter().for_each(|bytes| self.worker.record(bytes));
            self.worker.enricher.take_findings();
        }
        let ns = cpu_ns() - start;
        let Count { events, alerts, .. } = self.worker.sink;
        let figures =
            Figures { ns_per_event: ns / events as f64, alerts_per_event: alerts as f64 / events as f64 };
        (figures, std::mem::replace(&mut self.worker.sink.matching, Matching::Nothing))
    }

    /// Nanoseconds per event, for each way of matching; they take turns. That each finds as much as the others of the
    /// same set is for the tests to show.
    fn compare(&mut self, mut ways: Vec<Matching>) -> Vec<Figures> {
        let mut all: Vec<Vec<Figures>> = ways.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (way, figures) in ways.iter_mut().zip(&mut all) {
                let (found, back) = self.run(std::mem::replace(way, Matching::Nothing));
                *way = back;
                figures.push(found);
            }
        }
        all.into_iter().map(median).collect()
    }
}

/// CPU time of this thread: others on the machine do not count.
fn cpu_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn median(mut figures: Vec<Figures>) -> Figures {
    figures.sort_by(|one, other| one.ns_per_event.total_cmp(&other.ns_per_event));
    let middle = figures.len() / 2;
    figures.swap_remove(middle)
}

fn engine(set: &Arc<RuleSet>) -> Matching {
    Matching::Engine(Box::new(Detector::new(Arc::clone(set))))
}

fn load(sources: &[Arc<Source>]) -> Result<Arc<RuleSet>, String> {
    match RuleSet::load(sources) {
        Ok((set, _)) => Ok(Arc::new(set)),
        Err(diagnostics) => {
            let first = render(&diagnostics[..1], false);
            Err(format!("{} diagnostics, the first of them:\n{first}", diagnostics.len()))
        }
    }
}

/// The sets that users have.
fn sets(page: &mut String, bench: &mut Bench) {
    let mut sets = vec![("none", Arc::default()), ("shipped", load(&embedded()).unwrap())];
    for (name, below) in
        [("shipped and Falco's", &["falco"][..]), ("shipped, Falco's and Sigma's", &["falco", "sigma"])]
    {
        match foreign(below) {
            Ok(set) => sets.push((name, set)),
            Err(reason) => eprintln!("SKIPPED: {name}: {reason}"),
        }
    }
    let figures = bench.compare(sets.iter().map(|(_, set)| engine(set)).collect());
    let _ = write!(
        page,
        "\n## Sets of rules\n\nDecode, enrichment and matching on one core.\n\n\
         | rules | number | events/s | ns per event | alerts per 1,000 events |\n|---|---|---|---|---|\n"
    );
    for ((name, set), Figures { ns_per_event, alerts_per_event }) in sets.iter().zip(figures) {
        let _ = writeln!(
            page,
            "| {name} | {} | {:.0} | {ns_per_event:.0} | {:.0} |",
            set.enabled().count(),
            1e9 / ns_per_event,
            alerts_per_event * 1e3
        );
    }
}

/// The folder with other projects' rules.
fn shared_data() -> PathBuf {
    std::env::var_os("TAFFRAIL_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from)
}

/// The shipped rules and those in these folders of other projects' rules.
fn foreign(folders: &[&str]) -> Result<Arc<RuleSet>, String> {
    let mut sources = embedded();
    for folder in folders {
        let folder = shared_data().join(folder);
        add_files(&folder, &mut sources).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    load(&sources)
}

/// Adds the YAML files in a folder and those in it, by name.
fn add_files(folder: &Path, sources: &mut Vec<Arc<Source>>) -> io::Result<()> {
    let mut inside =
        folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    inside.sort();
    for path in inside {
        if path.is_dir() {
            add_files(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            let text = std::fs::read_to_string(&path)?;
            sources.push(Arc::new(Source { name: path.display().to_string(), text }));
        }
    }
    Ok(())
}

/// How the cost grows.
fn curve(page: &mut String, bench: &mut Bench) {
    let sets =
        COUNTS.map(|count| load(&[macros(), generated(count)]).unwrap_or_else(|error| panic!("{error}")));
    let ways = std::iter::once(Matching::Nothing)
        .chain(sets.iter().flat_map(|set| [engine(set), Matching::EachByItself(Arc::clone(set))]));
    let figures = bench.compare(ways.collect());
    let base = figures[0].ns_per_event;
    let _ = write!(
        page,
        "\n## How the cost grows with the number of rules\n\nMatching alone, in ns per event: what it takes longer than \
         without any matching. The rules are made by the bench after the models of those that are in use.\n\n\
         | rules | engine | each rule by itself | ratio | alerts per 1,000 events |\n|---|---|---|---|---|\n"
    );
    for (count, pair) in COUNTS.iter().zip(figures[1..].chunks(2)) {
        let [engine, naive] = [0, 1].map(|way| pair[way].ns_per_event - base);
        let alerts = pair[0].alerts_per_event * 1e3;
        let _ =
            writeln!(page, "| {count} | {engine:.0} | {naive:.0} | {:.1} | {alerts:.0} |", naive / engine);
    }
}

fn macros() -> Arc<Source> {
    embedded().into_iter().find(|source| source.name.ends_with("macros.yaml")).unwrap()
}

/// Conditions as rules in use have them; `{n}` and `{m}` are other numbers in each rule.
const MODELS: [&str; 16] = [
    "spawned and container and proc.name in (tool{n}, tool{n}-cli, t{n}d) and not proc.pname in (supervisor{m}, init)",
    "spawned and proc.exepath endswith /tool{n} and (proc.args contains \" --exec{m}\" or proc.args contains \"-x{m} \")",
    "spawned and proc.cmdline contains \"tool{n} \" and proc.cmdline contains \"/tmp/stage{m}\"",
    "spawned and proc.pname in (server{n}, worker{n}) and runs_shell and not proc.cmdline startswith \"sh -c run{m}\"",
    "spawned and container and proc.cmdline icontains \"--Password{n}=\" and not proc.exepath in (/usr/bin/app{m})",
    "spawned and proc.aname in (server{n}, proxy{n}) and proc.exepath startswith /tmp/drop{m}",
    "opened_for_writing and container and fd.name startswith /etc/app{n}/ and not proc.exepath in (package_manager_paths)",
    "opened_for_writing and (fd.name endswith .service{n} or fd.name endswith /cron.d/job{m}) and not container_setup",
    "opened_for_reading and container and fd.name in (/etc/secret{n}, /root/.secret{n}) and not proc.name = agent{m}",
    "opened_for_reading and fd.name glob \"/home/*/.app{n}/*key{m}*\"",
    "opened_for_reading and fd.filename in (id_{n}, credentials{n}.json) and proc.name in (shells, cat, cp, curl)",
    "evt.kind = connect and fd.rport = {p} and container and not proc.exepath in (/usr/bin/agent{n})",
    "evt.type in (connect, sendto) and fd.rip in (198.51.{a}.{b}, 203.0.{a}.{b}) and not proc.name = client{n}",
    "evt.kind = change and container and fs.path.name startswith /var/lib/app{n}/ and evt.failed = false",
    "evt.kind = setting and evt.text contains \"name{n}\" and user.uid != {m}",
    "spawned and container and proc.is_exe_upper_layer = true and not proc.exepath startswith /opt/app{n}/",
];

fn generated(count: usize) -> Arc<Source> {
    let mut text = String::new();
    for n in 0..count {
        let numbers =
            [("{n}", n), ("{m}", n * 7 + 3), ("{p}", 1_024 + n * 13), ("{a}", n % 256), ("{b}", n / 256 + 1)];
        let model = MODELS[n % MODELS.len()].to_owned();
        let condition =
            numbers.iter().fold(model, |text, (place, number)| text.replace(place, &number.to_string()));
        let _ = writeln!(
            text,
            "- rule: r{n}\n  desc: d\n  output: o\n  priority: INFO\n  condition: >\n    {condition}"
        );
    }
    Arc::new(Source { name: "generated.yaml".to_owned(), text })
}
