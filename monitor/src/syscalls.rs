//! What is told of all system calls of a container, whether they are events or not: how often each was made, and the
//! last ones. `docs/syscalls.md` has the shapes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use hashbrown::HashMap;
use taffrail_common::map::{COMPAT, Count, CountKey, FlightEntry};

use crate::enrich::container::Container;
use crate::enrich::owner::Owner;
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

/// Puts counters of cgroups together by container. Beside them, how many calls were made in cgroups of which nobody
/// knows whose they are.
pub fn by_container(
    counts: Vec<(CountKey, Count)>,
    mut whose: impl FnMut(u64) -> Owner,
    (from_boot_ns, to_boot_ns): (u64, u64),
) -> (Vec<Counts>, BTreeMap<u64, u64>) {
    type Calls = HashMap<(&'static str, bool), Count>;
    let mut containers: HashMap<Option<String>, (Option<Arc<Container>>, Calls)> = HashMap::new();
    let mut nobodys = BTreeMap::new();
    for (CountKey { cgroup_id, call, reserved: _ }, count) in counts {
        let container = match whose(cgroup_id) {
            Owner::Container(container) => Some(container),
            Owner::Host => None,
            Owner::Unknown => {
                *nobodys.entry(cgroup_id).or_default() += count.calls;
                continue;
            }
        };
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
    (all, nobodys)
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::enrich::container::Runtime;
    use taffrail_common::map::NO_NUMBER;

    fn container(id: &str) -> Arc<Container> {
        let cgroup_path = format!("/docker/{id}");
        Arc::new(Container::new(id.into(), Runtime::Docker, None, cgroup_path))
    }

    fn number(name: &str) -> u32 {
        call::native_number(name).unwrap_or(NO_NUMBER)
    }

    fn counter(cgroup_id: u64, call: u32, calls: u64, errors: u64) -> (CountKey, Count) {
        (CountKey { cgroup_id, call, reserved: 0 }, Count { calls, errors })
    }

    #[test]
    fn counters_of_a_containers_cgroups_are_one_and_the_most_frequent_call_is_first() {
        let web = container("web");
        let compat = call::compat_number("read").unwrap_or(0) | COMPAT;
        let counters = vec![
            counter(10, number("read"), 5, 1),
            counter(11, number("read"), 2, 0),
            counter(10, number("close"), 9, 0),
            counter(10, compat, 1, 1),
            counter(10, NO_NUMBER, 1, 1),
            counter(20, number("read"), 3, 0),
            counter(30, number("read"), 4, 0),
            counter(30, number("close"), 9, 0),
        ];
        let whose = |cgroup_id| match cgroup_id {
            10 | 11 => Owner::Container(Arc::clone(&web)),
            20 => Owner::Host,
            _ => Owner::Unknown,
        };
        let (all, nobodys) = by_container(counters, whose, (1, 2));
        assert_eq!(nobodys, BTreeMap::from([(30, 13)]));
        assert_eq!(all.iter().map(Counts::id).collect::<Vec<_>>(), ["host", "web"]);
        let mut body = b"{".to_vec();
        all[1].write_json(&mut body);
        body.push(b'}');
        let record: Value = serde_json::from_slice(&body).unwrap();
        let calls = json!([
            { "type": "close", "count": 9, "errors": 0 },
            { "type": "read", "count": 7, "errors": 1 },
            { "type": "read", "compat": true, "count": 1, "errors": 1 },
            { "type": "unknown", "count": 1, "errors": 1 },
        ]);
        assert_eq!((&record["calls"], &record["container"]["id"]), (&calls, &json!("web")));
        let expected = "\
container  call           count  errors
host       read               3       0
web        close              9       0
web        read               7       1
web        read (32-bit)      1       1
web        unknown            1       1
";
        assert_eq!(table(&all), expected);
    }

    #[test]
    fn last_calls_that_are_too_many_for_a_record_take_several_in_order() {
        let entry = |n: u64| FlightEntry {
            sequence: n,
            boot_ns: n,
            args: [u64::MAX, u64::MAX, 0o1, 0o644, 0, 0],
            result: -2,
            thread: 7 << 32 | 8,
            call: number("openat").into(),
            sum: 0,
        };
        let mut calls: Vec<Option<FlightEntry>> = (0..4096).map(|n| Some(entry(n))).collect();
        calls[5] = None;
        let records = flight_records(&Flight { container: container("web"), total: 9999, calls });
        assert!(records.len() > 1 && records.iter().all(|record| record.len() < crate::audit::LINE_MAX / 2));
        let records: Vec<Value> = records
            .iter()
            .map(|body| serde_json::from_slice(&[b"{", body.as_slice(), b"}"].concat()).unwrap())
            .collect();
        let all: Vec<&Value> =
            records.iter().flat_map(|record| record["calls"].as_array().unwrap()).collect();
        assert_eq!(all.len(), 4096);
        assert_eq!(all[5], &json!({ "torn": true }));
        let args = &all[6]["args"];
        assert_eq!(
            (&args["dfd"], &args["name"], &args["mode"]),
            (&json!(-1), &json!("0xffffffffffffffff"), &json!("644"))
        );
        let call = json!({ "boot_ns": 6, "pid": 7, "tid": 8, "type": "openat", "result": -2, "args": args });
        assert_eq!(all[6], &call);
        let last: Vec<bool> = records.iter().map(|record| record["last"] == true).collect();
        assert_eq!(last.iter().position(|last| *last), Some(records.len() - 1));
        let line = call_line(Some(&entry(1)));
        assert!(line.starts_with("7/8 openat(dfd=-1, name=0xffffffffffffffff, flags="), "{line}");
        assert!(line.ends_with(", mode=644) = -2 (ENOENT)"), "{line}");
    }
}
