//! Looks a value up among literals: which of them it is, begins with, ends with or contains. The time depends
//! on the value, and hardly on how many literals there are. Upper and lower case (ASCII) are the same.

use aho_corasick::AhoCorasick;
use hashbrown::HashMap;

use super::leaf::Literal;
use crate::event::field::Value;
use crate::rules::network::{Network, Size};
use crate::rules::pattern::{Folded, FoldedBox};

/// What literals stand for, by number.
type Marks = Vec<u32>;

/// Collects literals.
#[derive(Default)]
pub struct Builder {
    equal: HashMap<FoldedBox, Marks>,
    numbers: HashMap<i64, Marks>,
    networks: HashMap<Network, Marks>,
    prefixes: HashMap<Box<[u8]>, Marks>,
    /// Back to front.
    suffixes: HashMap<Box<[u8]>, Marks>,
    parts: HashMap<Box<[u8]>, Marks>,
}

/// Literals that are ready to be looked up.
pub struct Lookup {
    equal: HashMap<FoldedBox, Marks>,
    numbers: HashMap<i64, Marks>,
    networks: HashMap<Network, Marks>,
    sizes: Box<[Size]>,
    prefixes: Affixes,
    suffixes: Affixes,
    /// `None` if there are no parts, or too many: then each text is taken to have all of them.
    parts: Option<AhoCorasick>,
    marks_of_parts: Vec<Marks>,
}

impl Builder {
    /// Adds a literal and what it stands for.
    pub fn add(&mut self, literal: Literal, mark: u32) {
        let folded = |text: Box<[u8]>| -> Box<[u8]> { text.to_ascii_lowercase().into() };
        let reversed = |text: Box<[u8]>| text.iter().rev().map(u8::to_ascii_lowercase).collect::<Box<[u8]>>();
        let marks = match literal {
            Literal::Equal(text) => self.equal.entry(FoldedBox::new(&text)).or_default(),
            Literal::Number(number) => self.numbers.entry(number).or_default(),
            Literal::Network(network) => self.networks.entry(network).or_default(),
            Literal::Prefix(text) => self.prefixes.entry(folded(text)).or_default(),
            Literal::Suffix(text) => self.suffixes.entry(reversed(text)).or_default(),
            Literal::Part(text) => self.parts.entry(folded(text)).or_default(),
        };
        if marks.last() != Some(&mark) {
            marks.push(mark);
        }
    }

    /// Makes them ready.
    pub fn build(self) -> Lookup {
        let Self { equal, numbers, networks, prefixes, suffixes, parts } = self;
        let mut sizes: Vec<Size> = networks.keys().map(|network| network.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let (parts, marks_of_parts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(&parts);
        Lookup {
            equal,
            numbers,
            networks,
            sizes: sizes.into(),
            prefixes: Affixes::new(prefixes),
            suffixes: Affixes::new(suffixes),
            parts: automaton.ok().filter(|_| !parts.is_empty()),
            marks_of_parts,
        }
    }
}

impl Lookup {
    /// Tells what the literals stand for that a value has, and perhaps others; some more than once.
    pub fn find(&self, value: &Value<'_>, mut found: impl FnMut(u32)) {
        let mut tell = |marks: &Marks| marks.iter().for_each(|&mark| found(mark));
        match value {
            Value::Number(number) => self.numbers.get(number).into_iter().for_each(tell),
            Value::Address(address) => Network::around_each(&self.sizes, *address)
                .filter_map(|network| self.networks.get(&network))
                .for_each(tell),
            Value::Bool(_) => {}
            Value::Text(_) | Value::Inline(_) => {
                let text = value.text().unwrap_or_default();
                self.equal.get(&Folded(text)).into_iter().for_each(&mut tell);
                self.prefixes.each(text.iter().map(u8::to_ascii_lowercase), &mut tell);
                self.suffixes.each(text.iter().rev().map(u8::to_ascii_lowercase), &mut tell);
                match &self.parts {
                    Some(parts) => parts
                        .find_overlapping_iter(text)
                        .for_each(|hit| tell(&self.marks_of_parts[hit.pattern().as_usize()])),
                    None => self.marks_of_parts.iter().for_each(&mut tell),
                }
            }
        }
    }
}

/// Texts that others begin with.
struct Affixes {
    /// In order of their bytes.
    sorted: Box<[Affix]>,
}

struct Affix {
    text: Box<[u8]>,
    marks: Marks,
    /// The longest other one that this begins with.
    shorter: Option<usize>,
}

impl Affixes {
    fn new(texts: HashMap<Box<[u8]>, Marks>) -> Self {
        let mut sorted: Vec<_> =
            texts.into_iter().map(|(text, marks)| Affix { text, marks, shorter: None }).collect();
        sorted.sort_by(|one, other| one.text.cmp(&other.text));
        for at in 1..sorted.len() {
            // What this one begins with is the one before it, or begins that one too.
            let mut before = Some(at - 1);
            while let Some(shorter) = before
                && !sorted[at].text.starts_with(&sorted[shorter].text)
            {
                before = sorted[shorter].shorter;
            }
            sorted[at].shorter = before;
        }
        Self { sorted: sorted.into() }
    }

    /// Shows the marks of all that a text begins with.
    fn each(&self, text: impl Iterator<Item = u8> + Clone, mut show: impl FnMut(&Marks)) {
        let behind = self.sorted.partition_point(|affix| affix.text.iter().copied().le(text.clone()));
        // The last that is not greater shares most with the text: what the text begins with is this or begins this.
        let mut at = behind.checked_sub(1);
        while let Some(affix) = at.map(|at| &self.sorted[at]) {
            let mut rest = text.clone();
            if affix.text.iter().all(|&byte| rest.next() == Some(byte)) {
                show(&affix.marks);
            }
            at = affix.shorter;
        }
    }
}
