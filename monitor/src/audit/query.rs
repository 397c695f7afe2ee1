//! Which records are wanted: a condition of the rule language, a time, a container, a rule, a kind. From the same it is
//! derived what a block's terms, or its bytes, must have for one of its records to be wanted, so that most blocks need
//! not be read, and most lines not be parsed.

use std::collections::HashSet;

use memchr::memmem::Finder;

use super::index::{self, Content, KIND, RULE, term};
use crate::diagnostic::{Diagnostic, Span};
use crate::event::field::{Field, kind_names};
use crate::event::logged::{Object, Record, Where, of_field};
use crate::rules::Filter;
use crate::rules::matcher::{Matcher, Node, Test};

/// Which records are wanted: those for which all holds that is said here.
#[derive(Clone, Default)]
pub struct Query {
    condition: Option<Filter>,
    /// Not before, in ns since 1970.
    since_ns: Option<u64>,
    /// Before.
    until_ns: Option<u64>,
    container: Option<Whose>,
    pod: Option<Whose>,
    rules: Vec<String>,
    kinds: Vec<String>,
    hint: Hint,
}

/// Which container, or pod, is meant.
#[derive(Clone)]
struct Whose {
    /// A name, or an id.
    wanted: String,
    /// Ids of the containers that are known to be it: what was seen before its name was known has the id alone.
    ids: HashSet<Vec<u8>>,
    hint: Hint,
}

/// What must be there for a record to be wanted.
#[derive(Clone, Default)]
enum Hint {
    /// That cannot be told.
    #[default]
    Any,
    /// One of these values: as terms, if the index has such, and as bytes of the line, if they are there as they are.
    Values {
        terms: Option<Vec<u64>>,
        texts: Option<Vec<Finder<'static>>>,
    },
    All(Vec<Hint>),
    One(Vec<Hint>),
}

/// Fields whose value stands in the line as it is, but for what is escaped.
const VERBATIM: &[&str] = &[
    "evt.kind",
    "evt.type",
    "proc.name",
    "proc.exepath",
    "proc.pname",
    "proc.pexepath",
    "proc.key",
    "proc.pkey",
    "proc.exec_session",
    "user.name",
    "container.id",
    "container.full_id",
    "container.name",
    "container.image",
    "container.image.repository",
    "k8s.ns.name",
    "k8s.pod.name",
    "k8s.workload.name",
    "k8s.pod.uid",
    "target.name",
    "target.exepath",
    "fd.name",
    "fd.directory",
    "fd.filename",
    "dns.question.name",
];

/// More texts than this are not looked for in each line.
const TEXTS_MAX: usize = 32;

impl Query {
    /// All records.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only events, and alerts, that this condition lets pass. A field that the log does not have is an error; one that it has
    /// in some records only a warning.
    pub fn with_condition(mut self, filter: Filter) -> Result<Self, Vec<Diagnostic>> {
        let unknown = filter.fields.iter().filter(|(field, _)| of_field(field.name).is_none());
        let error = |(field, place): &(&Field, Span)| {
            Diagnostic::error("A101", format!("the log does not have `{}`", field.name))
                .label(place.clone(), "only rules can use this field")
                .hint("the page on searching the log tells which fields it has")
        };
        let errors: Vec<_> = unknown.map(error).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        self.add(Hint::of(filter.node()));
        self.condition = Some(filter);
        Ok(self)
    }

    /// What of the condition holds for fewer records than a rule would match.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let Some(filter) = &self.condition else { return Vec::new() };
        let mut warnings = filter.warnings.clone();
        for (field, place) in &filter.fields {
            let only = match of_field(field.name).map(|logged| logged.place) {
                Some(Where::Kinds(kinds)) => {
                    let asked = kind_names(filter.kinds);
                    if asked.iter().all(|kind| kinds.split(", ").any(|of| of == *kind)) {
                        continue;
                    }
                    format!("events of the kind {}", kinds.replace(", ", " or "))
                }
                Some(Where::Containers) => {
                    "`container` records, which tell of each container once".to_owned()
                }
                _ => continue,
            };
            let message = format!("the log has `{}` only in {only}", field.name);
            warnings
                .push(Diagnostic::warning("A102", message).label(place.clone(), "no value in other records"));
        }
        warnings
    }

    /// Only records of a time: from the first on and before the second, in ns since 1970.
    pub fn between(mut self, since_ns: Option<u64>, until_ns: Option<u64>) -> Self {
        (self.since_ns, self.until_ns) = (since_ns, until_ns);
        self
    }

    /// Only of a container: its id or the beginning of it, or its name.
    pub fn of_container(mut self, container: &str) -> Self {
        let terms = ["container.id", "container.full_id", "container.name"]
            .map(|name| term(name, container.as_bytes()));
        // Any other beginning of an id is no term.
        let is_beginning = container.len() < 64
            && container.len() != 12
            && container.bytes().all(|byte| byte.is_ascii_hexdigit());
        let terms = (!is_beginning).then(|| terms.to_vec());
        self.container = Some(Whose::new(container, terms, container.as_bytes()));
        self
    }

    /// Only of a pod: its name, or its namespace, a slash, and its name.
    pub fn of_pod(mut self, pod: &str) -> Self {
        let name = pod.rsplit('/').next().unwrap_or(pod).as_bytes();
        self.pod = Some(Whose::new(pod, Some(vec![term("k8s.pod.name", name)]), name));
        self
    }

    /// What tells which containers have the name that is asked for; `None` if no name is.
    pub fn naming(&self) -> Option<Self> {
        let (container, pod) = (self.container.clone(), self.pod.clone());
        let of_any = || Self::all().of_kinds(vec!["container".to_owned()]);
        (container.is_some() || pod.is_some()).then(|| Self { container, pod, ..of_any() })
    }

    /// The same, and also what has nothing but the id of one of these containers.
    pub fn or_of_ids(mut self, ids: &HashSet<Vec<u8>>) -> Self {
        for whose in [&mut self.container, &mut self.pod].into_iter().flatten() {
            whose.add(ids);
        }
        self
    }

    /// Only what these rules have told.
    pub fn of_rules(mut self, rules: Vec<String>) -> Self {
        if !rules.is_empty() {
            let terms = rules.iter().map(|rule| term(RULE, rule.as_bytes())).collect();
            self.add(Hint::Values { terms: Some(terms), texts: finders(rules.iter().map(String::as_bytes)) });
        }
        self.rules = rules;
        self
    }

    /// Only records of these kinds, or of these kinds of event.
    pub fn of_kinds(mut self, kinds: Vec<String>) -> Self {
        if !kinds.is_empty() {
            let of = |name: &'static str| kinds.iter().map(move |kind| term(name, kind.as_bytes()));
            let terms = of(KIND).chain(of("evt.kind")).collect();
            self.add(Hint::Values { terms: Some(terms), texts: finders(kinds.iter().map(String::as_bytes)) });
        }
        self.kinds = kinds;
        self
    }

    fn add(&mut self, hint: Hint) {
        self.hint = match std::mem::take(&mut self.hint) {
            Hint::All(mut parts) => {
                parts.push(hint);
                Hint::All(parts)
            }
            _ => Hint::All(vec![hint]),
        };
    }

    /// Whether a block with that content can have a record that is wanted.
    pub fn may_be_among(&self, content: &Content) -> bool {
        self.since_ns.is_none_or(|since| content.to_ns >= since)
            && self.until_ns.is_none_or(|until| content.from_ns < until)
            && self.hints().all(|hint| hint.allows_terms(content))
    }

    fn hints(&self) -> impl Iterator<Item = &Hint> {
        let whose = [&self.container, &self.pod].into_iter().flatten();
        whose.map(|whose| &whose.hint).chain([&self.hint])
    }

    /// Whether these lines can have a record that is wanted.
    pub fn may_be_in(&self, lines: &[u8]) -> bool {
        self.hints().all(|hint| hint.allows_bytes(lines))
    }

    /// Whether a line is a record that is wanted.
    pub fn matches(&self, line: &[u8]) -> bool {
        self.judge(line) == Some(true)
    }

    /// The same; `None`: it has what is looked for, but it is no record.
    pub fn judge(&self, line: &[u8]) -> Option<bool> {
        if !self.may_be_in(line) {
            return Some(false);
        }
        if self.wants_all() {
            return Some(true);
        }
        Record::parse(line).map(|record| self.wants(&record))
    }

    fn wants_all(&self) -> bool {
        let Self { condition, since_ns, until_ns, container, pod, rules, kinds, hint: _ } = self;
        condition.is_none()
            && (since_ns, until_ns) == (&None, &None)
            && container.is_none()
            && pod.is_none()
            && rules.is_empty()
            && kinds.is_empty()
    }

    /// Whether a record is wanted.
    pub fn wants(&self, record: &Record<'_>) -> bool {
        let Self { condition, since_ns, until_ns, container, pod, rules, kinds, hint: _ } = self;
        let is = |object: Option<&Object<'_>>, name, wanted: &str| {
            object.and_then(|object| object.text(name)) == Some(wanted.as_bytes())
        };
        let is_in_time = (since_ns.is_none() && until_ns.is_none())
            || record.time_ns().is_some_and(|ns| {
                since_ns.is_none_or(|since| ns >= since) && until_ns.is_none_or(|until| ns < until)
            });
        is_in_time
            && (kinds.is_empty()
                || kinds.iter().any(|kind| kind == record.kind() || kind == record.event_kind()))
            && (rules.is_empty() || rules.iter().any(|rule| is(Some(&record.top), "rule", rule)))
            && container.as_ref().is_none_or(|whose| {
                is_container(record.container(), &whose.wanted) || whose.has_nameless(record, "name")
            })
            && pod.as_ref().is_none_or(|whose| {
                let (namespace, name) = whose.wanted.rsplit_once('/').unwrap_or(("", &whose.wanted));
                is(record.container(), "pod_name", name)
                    && (namespace.is_empty() || is(record.container(), "pod_namespace", namespace))
                    || whose.has_nameless(record, "pod_name")
            })
            && condition.as_ref().is_none_or(|filter| is_seen(record) && filter.matches(record))
    }
}

impl Whose {
    fn new(wanted: &str, terms: Option<Vec<u64>>, text: &[u8]) -> Self {
        let hint = Hint::Values { terms, texts: finders([text].into_iter()) };
        Self { wanted: wanted.to_owned(), ids: HashSet::new(), hint }
    }

    fn add(&mut self, ids: &HashSet<Vec<u8>>) {
        self.ids.extend(ids.iter().cloned());
        let all = || ids.iter().map(Vec::as_slice);
        let terms = Some(all().map(|id| term("container.full_id", id)).collect());
        let by_id = Hint::Values { terms, texts: finders(all()) };
        self.hint = Hint::One(vec![std::mem::take(&mut self.hint), by_id]);
    }

    /// Whether a record is of one of the ids and has no such name: it may have had another one then.
    fn has_nameless(&self, record: &Record<'_>, name: &str) -> bool {
        let Some(container) = record.container().filter(|_| !self.ids.is_empty()) else { return false };
        container.text(name).is_none() && container.text("id").is_some_and(|id| self.ids.contains(id))
    }
}

/// Whether a condition can be asked of it: what was seen, or what a container is.
fn is_seen(record: &Record<'_>) -> bool {
    record.event().is_some() || record.kind() == "container"
}

fn is_container(container: Option<&Object<'_>>, wanted: &str) -> bool {
    let Some(container) = container else { return false };
    let id = container.text("id").unwrap_or_default();
    container.text("name") == Some(wanted.as_bytes())
        || (!wanted.is_empty() && id.starts_with(wanted.as_bytes()))
}

impl Hint {
    fn of(node: &Node) -> Self {
        match node {
            Node::And(parts) => Hint::All(parts.iter().map(Hint::of).collect()),
            Node::Or(parts) => Hint::One(parts.iter().map(Hint::of).collect()),
            Node::Not(_) | Node::Derived(_) => Hint::Any,
            Node::Test(test) => Hint::of_test(test),
        }
    }

    fn of_test(Test { field, index: _, matcher }: &Test) -> Self {
        let name = field.name;
        let is_indexed = index::FIELDS.contains(&name);
        let texts = |texts: &mut dyn Iterator<Item = &[u8]>| {
            // Of the host the log has no name, and a connection is put together.
            let is_there = |text: &&[u8]| *text != b"host" && (name != "fd.name" || text.contains(&b'/'));
            let texts: Vec<&[u8]> = texts.collect();
            let is_verbatim = VERBATIM.contains(&name) && texts.iter().all(is_there);
            if is_verbatim { finders(texts.into_iter()) } else { None }
        };
        let terms = |texts: &mut dyn Iterator<Item = &[u8]>| {
            is_indexed.then(|| texts.map(|text| term(name, text)).collect())
        };
        match matcher {
            Matcher::Text(text, true) => {
                let one = || [&**text].into_iter();
                Hint::Values { terms: terms(&mut one()), texts: texts(&mut one()) }
            }
            Matcher::Texts(all) => {
                Hint::Values { terms: terms(&mut all.iter()), texts: texts(&mut all.iter()) }
            }
            Matcher::Prefix(text) | Matcher::Suffix(text) => {
                Hint::Values { terms: None, texts: texts(&mut [&**text].into_iter()) }
            }
            Matcher::Find(needle) => {
                Hint::Values { terms: None, texts: texts(&mut [needle.text()].into_iter()) }
            }
            _ => Hint::Any,
        }
    }

    fn allows_terms(&self, content: &Content) -> bool {
        match self {
            Hint::Any | Hint::Values { terms: None, .. } => true,
            Hint::Values { terms: Some(terms), .. } => terms.iter().any(|term| content.may_have(*term)),
            Hint::All(parts) => parts.iter().all(|part| part.allows_terms(content)),
            Hint::One(parts) => parts.iter().any(|part| part.allows_terms(content)),
        }
    }

    fn allows_bytes(&self, bytes: &[u8]) -> bool {
        match self {
            Hint::Any | Hint::Values { texts: None, .. } => true,
            Hint::Values { texts: Some(texts), .. } => texts.iter().any(|text| text.find(bytes).is_some()),
            Hint::All(parts) => parts.iter().all(|part| part.allows_bytes(bytes)),
            Hint::One(parts) => parts.iter().any(|part| part.allows_bytes(bytes)),
        }
    }
}

/// What looks for these texts in lines; `None` if one of them may be written otherwise there, or there are many.
fn finders<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Option<Vec<Finder<'static>>> {
    let texts: Vec<_> = texts.take(TEXTS_MAX + 1).collect();
    let is_plain =
        |text: &&[u8]| text.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
    let are_plain = texts.len() <= TEXTS_MAX && texts.iter().all(is_plain);
    are_plain.then(|| texts.into_iter().map(|text| Finder::new(text).into_owned()).collect())
}
