//! `taffrail trace`: events as they happen, or as a recording has them.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use taffrail_common::kind::SYSCALL;
use taffrail_common::map::COUNTED;

use super::config;
use super::scope::Choice;
use super::sink::{gap_body, write_alert};
use crate::audit::RecordKind;
use crate::capture;
use crate::clock::{self, Clock};
use crate::detect::alert::Verdict;
use crate::detect::memory::Limits;
use crate::diagnostic;
use crate::enrich::cgroup::Layout;
use crate::enrich::container::Container;
use crate::enrich::{Enricher, Source, Subject};
use crate::event::human;
use crate::event::json::{write_subject, write_whole_container};
use crate::event::text::escaped;
use crate::pipeline::{self, Gap, Live, Sink, Worker, receive};
use crate::probe::flight::Flight;
use crate::probe::hook::{ALL_KINDS, bit};
use crate::probe::load::Tiers;
use crate::probe::tree::Tree;
use crate::probe::{Options, Probes, call};
use crate::rules::{self, Filter, RuleSet};
use crate::scope::Scope;
use crate::syscalls::{self, Counts};
use crate::vitals::Vitals;

/// Show events as they happen. Ends with Ctrl-C.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: config::Source,
    #[command(flatten)]
    choice: Choice,
    /// Only events that this condition, in the rule language, lets pass.
    #[arg(long, value_name = "CONDITION")]
    filter: Option<String>,
    /// Only this system call, by its name. Can be given again.
    #[arg(long = "syscall", value_name = "NAME")]
    syscalls: Vec<String>,
    /// Count system calls instead of showing events, and print a table at the end.
    #[arg(long, conflicts_with_all = ["filter", "rules", "record", "syscalls", "replay"])]
    count: bool,
    /// Show the last so many system calls of each container at the end (at most 4096), instead of events.
    #[arg(long, value_name = "N", conflicts_with_all = ["filter", "rules", "record", "syscalls", "replay"],
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    last: Option<u32>,
    /// Show alerts of the rules that come with the program too.
    #[arg(long)]
    rules: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
    /// End after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Write everything that enters into a new file, for `--replay`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Show a recording instead of what happens. Needs no rights.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["record", "seconds"])]
    replay: Option<PathBuf>,
    /// Which hooks to try.
    #[arg(long, value_enum, default_value = "auto")]
    tier: Tiers,
    /// Print what the probes log about themselves.
    #[arg(long)]
    debug_probes: bool,
}

/// Runs the sub-command.
pub fn run(args: Args) -> ExitCode {
    let filter = match args.filter.as_deref().map(|text| Filter::from_text(text, "--filter")).transpose() {
        Ok(filter) => filter,
        Err(diagnostics) => {
            eprint!("{}", diagnostic::render(&diagnostics, super::color_on_stderr()));
            return ExitCode::from(super::NO);
        }
    };
    let wrong: Vec<_> = args.syscalls.iter().filter_map(|name| call::check(name).err()).collect();
    if !wrong.is_empty() {
        eprint!("{}", diagnostic::render(&wrong, super::color_on_stderr()));
        return ExitCode::from(super::NO);
    }
    let rules = match (args.rules, RuleSet::load(&rules::embedded())) {
        (true, Ok((rules, _))) => rules,
        _ => RuleSet::default(),
    };
    let mut scope = Scope::default();
    if let Err(wrong) = args.choice.add_to(&mut scope) {
        eprint!("{}", diagnostic::render(&wrong, super::color_on_stderr()));
        return ExitCode::from(super::NO);
    }
    let sink = Printer {
        out: BufWriter::with_capacity(1 << 16, io::stdout()),
        filter,
        json: args.json,
        host: scope.host,
        syscalls: args.syscalls.clone(),
        events: !args.count && args.last.is_none(),
        counts: Vec::new(),
        last: args.last.unwrap_or(0) as usize,
        line: String::new(),
        body: Vec::new(),
    };
    let result = match &args.replay {
        Some(path) => replay(path, rules, scope, sink),
        None => live(&args, rules, scope, sink),
    };
    result.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}

fn failed(error: &dyn std::error::Error, hint: Option<&str>) -> ExitCode {
    super::complain(error, hint);
    ExitCode::from(super::FAILED)
}

fn worker(source: Source, rules: RuleSet, sink: Printer) -> Worker<Printer> {
    Worker::new(Enricher::new(source, 65_536), (Arc::new(rules), Limits::default()), Clock::now(), sink)
}

fn replay(path: &PathBuf, rules: RuleSet, scope: Scope, sink: Printer) -> Result<(), ExitCode> {
    let read = |error: io::Error| {
        failed(&io::Error::new(error.kind(), format!("{}: {error}", path.display())), None)
    };
    let mut recording = File::open(path).and_then(capture::Reader::new).map_err(read)?;
    let mut worker = worker(Source::Recorded, rules, sink);
    worker.scope = scope;
    worker.replay(&mut recording).map_err(read)
}

fn live(args: &Args, rules: RuleSet, scope: Scope, sink: Printer) -> Result<(), ExitCode> {
    let settings = args.source.load()?;
    let layout = Layout::detect();
    let mut calls = rules.calls();
    calls.extend(args.syscalls.iter().cloned());
    let mut kinds = rules.kinds();
    match &sink.filter {
        Some(filter) => {
            kinds |= filter.kinds | filter.needs;
            calls.extend(filter.calls.iter().cloned());
        }
        // Chosen calls are of the kind `syscall` where no other kind is wanted.
        None if !args.syscalls.is_empty() => {}
        None if sink.events => kinds |= ALL_KINDS,
        None => kinds |= COUNTED,
    }
    if !calls.is_empty() {
        kinds |= bit(SYSCALL);
    }
    let options = Options {
        urgent_bytes: 1 << 20,
        bulk_bytes: 4 << 20,
        kinds,
        cgroups: layout.clone(),
        tree: Tree::open(&layout),
        calls: calls.into_iter().collect(),
        count_calls: args.count,
        flight: args.last.map_or(0, |last| last.next_power_of_two().max(16)),
        tiers: args.tier,
        debug: args.debug_probes,
        pin: None,
    };
    let recording = args.record.as_deref().map(capture::Writer::create).transpose();
    let recording = recording.map_err(|error| failed(&error, Some("choose a file that is not there yet")))?;
    let (probes, rings, losses) =
        Probes::load(&options).map_err(|error| failed(&error, Some(error.hint())))?;
    // The table is printed once, at the end.
    let live =
        Live::new(probes, kinds, Duration::from_secs(1 << 30)).map_err(|error| failed(&error, None))?;
    let cgroups = layout.tree();
    let mut worker = worker(Source::Live(cgroups), rules, sink);
    (worker.live, worker.recording, worker.scope) = (Some(live), recording, scope);
    let (to_match, messages) = receive::queue();
    worker.enricher.set_runtimes(settings.folders.clone(), settings.name_wait);
    let apis = pipeline::ask_runtimes(&settings, &to_match).map_err(|error| failed(&error, None))?;
    worker.enricher.set_apis(apis);
    worker.hash_if_needed(kinds);

    stop_on_signals();
    worker.seed();
    let ahead = worker.start_resolving().map_err(|error| failed(&error, None))?;
    let watching = &mut worker;
    std::thread::scope(|threads| {
        threads.spawn(move || {
            eprintln!("taffrail: watching; end with Ctrl-C");
            watching.run(&messages);
            watching.tell_flights();
        });
        threads.spawn(move || receive::receive(rings, losses, &to_match, &STOP, &Vitals::default()));
        if let Some((ahead, asker)) = ahead {
            threads.spawn(move || receive::look_ahead(ahead, &asker, &STOP));
        }
        let end = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        while !STOP.load(Ordering::Acquire) {
            if end.is_some_and(|end| Instant::now() >= end) {
                STOP.store(true, Ordering::Release);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let written = worker.recording.take().map_or(Ok(()), capture::Writer::finish);
    if args.count && !args.json {
        let _ = worker.sink.out.write_all(syscalls::table(&worker.sink.counts).as_bytes());
    }
    written.and_then(|()| worker.sink.out.flush()).map_err(|error| failed(&error, None))
}

static STOP: AtomicBool = AtomicBool::new(false);

fn stop_on_signals() {
    extern "C" fn stop(_signal: i32) {
        STOP.store(true, Ordering::Release);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, stop as extern "C" fn(i32) as libc::sighandler_t) };
    }
}

/// Prints to stdout.
struct Printer {
    out: BufWriter<io::Stdout>,
    filter: Option<Filter>,
    json: bool,
    host: bool,
    /// Only these system calls, if there are any.
    syscalls: Vec<String>,
    /// Whether events are shown.
    events: bool,
    counts: Vec<Counts>,
    /// How many of a container's last calls are shown.
    last: usize,
    line: String,
    body: Vec<u8>,
}

impl Printer {
    /// Whether a person asked for this one: the process table needs more than that.
    fn wanted(&self, subject: &Subject<'_>) -> bool {
        let name = || subject.event.model().type_name();
        self.events
            && (self.host || subject.container.is_some())
            && (self.syscalls.is_empty() || self.syscalls.iter().any(|call| call == name()))
            && self.filter.as_ref().is_none_or(|filter| filter.matches(subject))
    }

    fn print_body(&mut self) {
        let written = self.out.write_all(b"{").and_then(|()| self.out.write_all(&self.body));
        let written = written.and_then(|()| self.out.write_all(b"}\n")).and_then(|()| self.out.flush());
        // A reader that went away ends us by SIGPIPE; anything else would say the same for each line.
        drop(written);
    }
}

impl Sink for Printer {
    fn event(&mut self, subject: &Subject<'_>, verdict: Verdict<'_>) {
        if !self.wanted(subject) {
            return;
        }
        for alert in verdict.alerts() {
            if self.json {
                self.body.clear();
                write_alert(&alert, subject, &mut self.body);
                self.print_body();
            } else {
                self.line.clear();
                alert.render(subject, &mut self.line);
                let (priority, name) = (alert.rule.priority.name(), &alert.rule.name);
                let _ = writeln!(self.out, "ALERT {priority} {name}: {}", self.line.trim());
            }
        }
        if self.json {
            self.body.clear();
            let time = clock::rfc3339(subject.time_ns);
            let time = String::from_utf8_lossy(time.as_bytes());
            let boot_ns = subject.event.header().boot_ns;
            let _ = write!(self.body, "\"time\":\"{time}\",\"boot_ns\":{boot_ns},");
            write_subject(subject, &mut self.body);
            self.print_body();
        } else {
            self.line.clear();
            human::write_line(subject, &mut self.line);
            let _ = writeln!(self.out, "{}", self.line);
            let _ = self.out.flush();
        }
    }

    fn gap(&mut self, gap: &Gap<'_>) {
        if self.json {
            self.body = gap_body(gap);
            self.body.splice(0..0, *b"\"kind\":\"gap\",");
            self.print_body();
        }
        eprintln!("LOST {} events ({}, {})", gap.count, escaped(gap.what.as_bytes()), gap.place);
    }

    fn container(&mut self, container: &Container, problems: &[String], _boot_ns: u64, _time_ns: u64) {
        for problem in problems {
            eprintln!("warning: {}: {}", escaped(container.id.as_bytes()), escaped(problem.as_bytes()));
        }
        if self.json && container.watched.get() {
            self.body.clear();
            self.body.extend_from_slice(b"\"kind\":\"container\",");
            write_whole_container(container, problems, &mut self.body);
            self.print_body();
        }
    }

    fn counts(&mut self, counts: Counts, _time_ns: u64) {
        if self.json {
            self.body.clear();
            counts.write_json(&mut self.body);
            self.body.splice(0..0, *b"\"kind\":\"syscalls\",");
            self.print_body();
        } else {
            self.counts.push(counts);
        }
    }

    fn flight(&mut self, mut flight: Flight, _boot_ns: u64, _time_ns: u64) {
        let too_many = flight.calls.len().saturating_sub(self.last);
        flight.calls.drain(..too_many);
        if self.json {
            for body in syscalls::flight_records(&flight) {
                self.body = body;
                self.body.splice(0..0, *b"\"kind\":\"flight\",");
                self.print_body();
            }
            return;
        }
        let Flight { container, total, calls } = flight;
        let id = escaped(container.id.as_bytes());
        let _ = writeln!(self.out, "{id}: the last {} of {total} system calls", calls.len());
        for call in &calls {
            let _ = writeln!(self.out, "  {}", syscalls::call_line(call.as_ref()));
        }
    }

    fn note(&mut self, kind: RecordKind, _boot_ns: u64, _time_ns: u64, body: &[u8]) {
        eprintln!("{}: {}", kind.name(), escaped(body));
    }
}
