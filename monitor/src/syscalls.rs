//! What is told of all system calls of a container, whether they are events or not: how often each was made, and the
//! last ones. `docs/syscalls.md` has the shapes.

use std::fmt::Write as _;
use std::sync::Arc;

use hashbrown::HashMap;
use taffrail_common::map::{COMPAT, Count, CountKey, FlightEntry};

use crate::enrich::container::Container;
use crate::event::errno;
use crate::event::json::{Members, write_container};
use crate::event::model::named_arguments;
use crate::probe::call;
use crate::probe::flight::Flight;

/// How often a container made each call, in some time.
pub struct Counts {
    /// Whose; `None` is the host.
    pub container: Option<Arc<Container>>,
    /// After this time of the boot clock …
    pub from_boot_ns: u64,
    /// … and before this.
    pub to_boot_ns: u64,
    /// Most frequent first.
    pub calls: Vec<CallCount>,
}

/// How often one call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallCount {
    /// Its name.
    pub name: &'static str,
    /// Whether by the 32-bit entry.
    pub is_compat: bool,
    /// How often.
    pub count: Count,
}

/// Name of a call by its number with [`COMPAT`], and whether it came by the 32-bit entry.
fn name(call: u32) -> (&'static str, bool) {
    let is_compat = call & COMPAT != 0;
    (call::name(call & !COMPAT, is_compat), is_compat)
}

/// Puts counters of cgroups together by container. What `whose` says nothing about is left out.
pub fn by_container(
    counts: Vec<(CountKey, Count)>,
    mut whose: impl FnMut(u64) -> Option<Option<Arc<Container>>>,
    (from_boot_ns, to_boot_ns): (u64, u64),
) -> Vec<Counts> {
    type Calls = HashMap<(&'static str, bool), Count>;
    let mut containers: HashMap<Option<String>, (Option<Arc<Container>>, Calls)> = HashMap::new();
    for (CountKey { cgroup_id, call, reserved: _ }, count) in counts {
        let Some(container) = whose(cgroup_id) else { continue };
        let key = container.as_ref().map(|container| container.cgroup_path.clone());
        let (_, calls) = containers.entry(key).or_insert_with(|| (container, Calls::new()));
        let sum = calls.entry(name(call)).or_default();
        sum.calls += count.calls;
        sum.errors += count.errors;
    }
    let mut all: Vec<Counts> = containers
        .into_values()
        .map(|(container, calls)| {
            let calls = calls.into_iter();
            let mut calls: Vec<CallCount> =
                calls.map(|((name, is_compat), count)| CallCount { name, is_compat, count }).collect();
            calls.sort_by_key(|call| (std::cmp::Reverse(call.count.calls), call.name, call.is_compat));
            Counts { container, from_boot_ns, to_boot_ns, calls }
        })
        .collect();
    all.sort_by(|a, b| a.id().cmp(b.id()));
    all
}

impl Counts {
    /// Id of the container; `host` for the host.
    pub fn id(&self) -> &str {
        self.container.as_ref().map_or("host", |container| container.id.as_str())
    }

    /// As members of a record.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let Self { container, from_boot_ns, to_boot_ns, calls } = self;
        let mut members = Members::within(out);
        members.number("from_boot_ns", *from_boot_ns as i64);
        members.number("to_boot_ns", *to_boot_ns as i64);
        members.objects("calls", calls, |CallCount { name, is_compat, count }, out| {
            out.text("type", name.as_bytes());
            if *is_compat {
                out.bool("compat", true);
            }
            out.number("count", count.calls as i64);
            out.number("errors", count.errors as i64);
        });
        out.push(b',');
        write_container(container.as_deref(), out);
    }
}

/// Counters as a table for people, the container first.
pub fn table(all: &[Counts]) -> String {
    let rows: Vec<[String; 4]> = all
        .iter()
        .flat_map(|counts| {
            let id: String = counts.id().chars().take(12).collect();
            counts.calls.iter().map(move |CallCount { name, is_compat, count }| {
                let name = if *is_compat { format!("{name} (32-bit)") } else { (*name).to_owned() };
                [
                    crate::event::text::escaped(id.as_bytes()),
                    name,
                    count.calls.to_string(),
                    count.errors.to_string(),
                ]
            })
        })
        .collect();
    let head = ["container", "call", "count", "errors"].map(str::to_owned);
    let width = |column: usize| {
        std::iter::once(&head).chain(&rows).map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), width(3)];
    let mut text = String::new();
    for [container, call, count, errors] in std::iter::once(&head).chain(&rows) {
        let [a, b, c, d] = widths;
        let _ = writeln!(text, "{container:<a$}  {call:<b$}  {count:>c$}  {errors:>d$}");
    }
    text
}

/// Bytes of calls in one record: a record of the log is bounded, a container's last calls may take several.
const PART_BYTES: usize = 256 << 10;

/// A container's last calls as members of records, oldest first. `part` counts from 1, the last one says so.
pub fn flight_records(flight: &Flight) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut rest = flight.calls.as_slice();
    loop {
        let mut out = Vec::new();
        let mut members = Members::within(&mut out);
        members.number("part", records.len() as i64 + 1);
        members.number("total", flight.total as i64);
        let mut taken = 0;
        members.objects_while("calls", rest, PART_BYTES, |call, out| {
            taken += 1;
            write_call(call.as_ref(), out);
        });
        rest = rest.get(taken..).unwrap_or_default();
        members.bool("last", rest.is_empty());
        out.push(b',');
        write_container(Some(&flight.container), &mut out);
        records.push(out);
        if rest.is_empty() {
            return records;
        }
    }
}

fn write_call(call: Option<&FlightEntry>, out: &mut Members<'_>) {
    let Some(entry) = call else { return out.bool("torn", true) };
    let (name, is_compat) = name(entry.call as u32);
    out.number("boot_ns", entry.boot_ns as i64);
    out.number("pid", (entry.thread >> 32) as i64);
    out.number("tid", i64::from(entry.thread as u32));
    out.text("type", name.as_bytes());
    if is_compat {
        out.bool("compat", true);
    }
    out.number("result", entry.result);
    let mut args = out.object("args");
    match named_arguments(name) {
        Some(arguments) => {
            for (argument, register) in arguments.iter().zip(entry.args) {
                match argument.value(register) {
                    Some(value) => argument.write_json(value, &mut args),
                    None => args.raw(argument.name, format_args!("\"{register:#x}\"")),
                }
            }
        }
        None => {
            for (place, register) in PLACES.into_iter().zip(entry.args) {
                args.raw(place, format_args!("\"{register:#x}\""));
            }
        }
    }
    args.close();
}

/// Names of arguments whose names are not known.
const PLACES: [&str; 6] = ["0", "1", "2", "3", "4", "5"];

/// A call for people: `7/7 openat(dfd=-100, name=0x7f…, flags=0) = 3`.
pub fn call_line(call: Option<&FlightEntry>) -> String {
    let Some(entry) = call else { return "(torn: it was being written)".to_owned() };
    let (name, is_compat) = name(entry.call as u32);
    let mut line = format!("{}/{} {name}", entry.thread >> 32, entry.thread as u32);
    line.push_str(if is_compat { " (32-bit)(" } else { "(" });
    let named = named_arguments(name);
    for (n, register) in entry.args.into_iter().enumerate().take(named.map_or(6, <[_]>::len)) {
        if n > 0 {
            line.push_str(", ");
        }
        let argument = named.and_then(|arguments| arguments.get(n));
        match argument.map(|argument| (argument, argument.value(register))) {
            Some((argument, Some(value))) => argument.write_text(value, &mut line),
            Some((argument, None)) => drop(write!(line, "{}={register:#x}", argument.name)),
            None => drop(write!(line, "{}={register:#x}", PLACES[n])),
        }
    }
    let _ = write!(line, ") = {}", entry.result);
    if let Some(name) = u32::try_from(-entry.result).ok().and_then(errno::name).filter(|_| entry.result < 0) {
        let _ = write!(line, " ({name})");
    }
    line
}
