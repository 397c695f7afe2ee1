//! What an event led to: alerts with their evidence, and matches that were one too many.

use crate::enrich::process::{Process, ProcessKey, trim_nul};
use crate::event::field::{Field, Get, Type, Value, Values};
use crate::event::json::Members;
use crate::event::kind_name;
use crate::probe::hook::ALL_KINDS;
use crate::rules::state::{Operand, Trigger};
use crate::rules::{Rule, RuleSet, write_value};

/// One event of those that led to an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// When it counts as having happened: never before the one that was handled before it.
    pub clock_ns: u64,
    /// When it happened, by the boot clock.
    pub boot_ns: u64,
    /// Its kind, 0 if it has none.
    pub kind: u16,
    /// Whose it is.
    pub process: Option<ProcessKey>,
    /// That one's command name, padded with NUL.
    pub name: [u8; 16],
}

impl Mark {
    /// Of an event.
    pub fn new(kind: Option<u16>, boot_ns: u64, process: Option<&Process>) -> Self {
        Self {
            clock_ns: boot_ns,
            boot_ns,
            kind: kind.unwrap_or(0),
            process: process.map(|process| process.key),
            name: process.map_or([0; 16], |process| process.comm),
        }
    }
}

/// Why there is an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// So many matches.
    Count {
        /// How many.
        count: u32,
        /// When the first was.
        first_ns: u64,
        /// When the last was.
        last_ns: u64,
    },
    /// So many distinct values.
    Values {
        /// How many.
        count: u32,
        /// Some of them, the first ones that came.
        values: Vec<Box<[u8]>>,
        /// When the first was.
        first_ns: u64,
        /// When the last was.
        last_ns: u64,
    },
    /// All steps.
    Steps(Box<[Mark]>),
    /// Values that were not seen before.
    New,
}

/// A rule that matched, with all that its state has to say.
#[derive(Clone, Debug)]
pub struct Fired {
    /// Its place in the set.
    pub rule: usize,
    /// The step or source that was the last.
    pub step: usize,
    /// Why.
    pub proof: Option<Proof>,
    /// How many matches had no alert since the last one; `None` if this one has none either.
    pub suppressed: Option<u64>,
}

/// What an event led to.
#[derive(Clone, Copy)]
pub struct Verdict<'a> {
    /// The rules.
    pub set: &'a RuleSet,
    /// Those that fired, in their order.
    pub fired: &'a [Fired],
}

impl<'a> Verdict<'a> {
    /// The alerts.
    pub fn alerts(self) -> impl Iterator<Item = Alert<'a>> {
        let Self { set, fired } = self;
        fired.iter().filter_map(|fired| {
            let Fired { rule, step, proof, suppressed } = fired;
            let rule = set.rules.get(*rule)?;
            Some(Alert { rule, step: *step, proof: proof.as_ref(), suppressed: (*suppressed)? })
        })
    }

    /// The rules that matched and raise no alert, since there were too many.
    pub fn suppressed(self) -> impl Iterator<Item = &'a Rule> {
        let Self { set, fired } = self;
        let without = fired.iter().filter(|fired| fired.suppressed.is_none());
        without.filter_map(|fired| set.rules.get(fired.rule))
    }
}

/// One alert.
#[derive(Clone, Copy)]
pub struct Alert<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Matches without an alert since the last one.
    pub suppressed: u64,
    step: usize,
    proof: Option<&'a Proof>,
}

impl Alert<'_> {
    /// Writes the text of the rule's output.
    pub fn render(&self, values: &impl Values, out: &mut String) {
        self.rule.output.render(&WithAlert { values, alert: self }, out);
    }

    /// Adds `suppressed` and `evidence`, if there is something to say.
    pub fn write_json(&self, values: &impl Values, out: &mut Members<'_>) {
        if self.suppressed > 0 {
            out.number("suppressed", self.suppressed as i64);
        }
        let Some(proof) = self.proof else { return };
        let mut evidence = out.object("evidence");
        let mut by = evidence.object("by");
        write_operands(self.by(), values, &mut by);
        by.close();
        match proof {
            Proof::Count { count, first_ns, last_ns } => {
                evidence.number("count", i64::from(*count));
                write_times(*first_ns, *last_ns, &mut evidence);
            }
            Proof::Values { count, values, first_ns, last_ns } => {
                evidence.number("distinct", i64::from(*count));
                let joined = values.iter().flat_map(|value| value.iter().map(|&byte| byte.max(1)).chain([0]));
                evidence.texts("values", &joined.collect::<Vec<u8>>());
                write_times(*first_ns, *last_ns, &mut evidence);
            }
            Proof::Steps(marks) => {
                evidence.objects("steps", marks.iter().enumerate(), |(n, mark), out| {
                    write_step(self.step_name(n), mark, out);
                });
            }
            Proof::New => {}
        }
        evidence.close();
    }

    /// The fields whose values tell what belongs together.
    fn by(&self) -> &[Operand] {
        match &self.rule.stateful.trigger {
            Trigger::New(new) => &new.fields,
            _ => self.rule.stateful.steps().nth(self.step).map_or(&[], |step| &step.by),
        }
    }

    fn step_name(&self, step: usize) -> &str {
        self.rule.stateful.steps().nth(step).map_or("", |step| &step.name)
    }
}

fn write_times(first_ns: u64, last_ns: u64, out: &mut Members<'_>) {
    out.number("first_boot_ns", first_ns as i64);
    out.number("last_boot_ns", last_ns as i64);
}

fn write_step(name: &str, mark: &Mark, out: &mut Members<'_>) {
    let Mark { clock_ns: _, boot_ns, kind, process, name: command } = mark;
    out.text("step", name.as_bytes());
    if *kind != 0 {
        out.text("kind", kind_name(*kind).as_bytes());
    }
    out.number("boot_ns", *boot_ns as i64);
    if let Some(key) = process {
        out.raw("process_key", format_args!("\"{key}\""));
        out.text("process_name", trim_nul(command));
    }
}

/// Writes the values of fields by their names.
pub fn write_operands(operands: &[Operand], values: &impl Values, out: &mut Members<'_>) {
    for operand in operands {
        let mut text = String::new();
        let mut add = |value: Value<'_>| {
            if !text.is_empty() {
                text.push(',');
            }
            match value {
                // The writer escapes it; twice would be too much.
                Value::Text(_) | Value::Inline(_) => {
                    text.push_str(&String::from_utf8_lossy(value.text().unwrap_or_default()));
                }
                Value::Number(_) | Value::Bool(_) | Value::Address(_) => write_value(&value, &mut text),
            }
        };
        if operand.is_several() {
            values.any(operand.field, operand.index, &mut |value| {
                add(value);
                false
            });
        } else {
            operand.value(values).into_iter().for_each(add);
        }
        out.text(&operand.to_string(), text.as_bytes());
    }
}

const fn alert_field(name: &'static str, ty: Type, doc: &'static str) -> Field {
    Field { name, ty, kinds: ALL_KINDS, doc, get: Get::One(|_| None) }
}

/// What the output of an alert can name besides the fields of its event.
pub static ALERT_FIELDS: &[Field] = &[
    alert_field(
        "alert.count",
        Type::Number,
        "Matches, distinct values or steps that led to the alert; 1 if each match is one.",
    ),
    alert_field("alert.values", Type::TextList, "Some of the distinct values that were counted."),
    alert_field("alert.suppressed", Type::Number, "Matches without an alert since the last one."),
];

/// The values of an event, and those of the alert on it.
struct WithAlert<'a, V> {
    values: &'a V,
    alert: &'a Alert<'a>,
}

impl<V: Values> Values for WithAlert<'_, V> {
    fn one(&self, field: &'static Field, index: Option<u32>) -> Option<Value<'_>> {
        match (field.name, self.alert.proof) {
            ("alert.count", Some(Proof::Count { count, .. } | Proof::Values { count, .. })) => {
                Some(Value::Number(i64::from(*count)))
            }
            ("alert.count", Some(Proof::Steps(marks))) => Some(Value::Number(marks.len() as i64)),
            ("alert.count", Some(Proof::New) | None) => Some(Value::Number(1)),
            ("alert.suppressed", _) => Some(Value::Number(self.alert.suppressed as i64)),
            _ => self.values.one(field, index),
        }
    }

    fn keyed(&self, field: &'static Field, key: &[u8]) -> Option<Value<'_>> {
        self.values.keyed(field, key)
    }

    fn any(
        &self,
        field: &'static Field,
        index: Option<u32>,
        test: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> bool {
        match (field.name, self.alert.proof) {
            ("alert.values", Some(Proof::Values { values, .. })) => {
                values.iter().any(|value| test(Value::Text(value)))
            }
            ("alert.count" | "alert.suppressed", _) => self.one(field, index).is_some_and(test),
            _ => self.values.any(field, index, test),
        }
    }
}
