//! Members with dotted names as nested JSON objects. Where each one goes, and what stands before its value, is worked out
//! once for all records that have the same names: of those there are few, and their number is bounded.

use std::borrow::Cow;
use std::cell::RefCell;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use hashbrown::{DefaultHashBuilder, HashMap};

use super::Member;
use crate::export::cut::Cut;

/// So many shapes are kept; a few KiB each.
const SHAPES_MAX: usize = 256;

/// Appends the members of an object, without its braces, after what is there already of it. Of two members with one
/// name the first stays.
pub fn write(members: &[Member<'_>], cut: &Cut, out: &mut Vec<u8>) {
    thread_local! {
        static SHAPES: RefCell<(DefaultHashBuilder, HashMap<u64, Shape>)> = RefCell::default();
    }
    SHAPES.with_borrow_mut(|(hasher, shapes)| {
        let key = hash(hasher, members);
        if !shapes.get(&key).is_some_and(|shape| shape.is_of(members)) {
            if shapes.len() >= SHAPES_MAX {
                shapes.clear();
            }
            shapes.insert(key, Shape::new(members));
        }
        if let Some(shape) = shapes.get(&key) {
            shape.write(members, cut, out);
        }
    });
}

/// Names that live for ever are told apart by where they are.
fn hash(hasher: &DefaultHashBuilder, members: &[Member<'_>]) -> u64 {
    let mut state = hasher.build_hasher();
    for Member { name, .. } in members {
        match name {
            Cow::Borrowed(name) => (name.as_ptr() as usize, name.len()).hash(&mut state),
            Cow::Owned(name) => name.hash(&mut state),
        }
    }
    state.finish()
}

/// How members with certain names, in a certain order, become objects.
struct Shape {
    names: Vec<Cow<'static, str>>,
    /// Which member is next, and where in `text` that ends which stands before its value.
    steps: Vec<(usize, usize)>,
    /// All that is no value.
    text: Vec<u8>,
}

impl Shape {
    fn new(members: &[Member<'_>]) -> Self {
        let names: Vec<Cow<'static, str>> = members.iter().map(|member| member.name.clone()).collect();
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by_key(|index| &names[*index]);
        order.dedup_by_key(|index| &names[*index]);
        let (mut steps, mut text) = (Vec::with_capacity(order.len()), Vec::new());
        let mut open: Vec<&str> = Vec::new();
        for index in order {
            let name = &names[index];
            let (path, leaf) =
                name.rsplit_once('.').map_or((None, &**name), |(path, leaf)| (Some(path), leaf));
            let path = || path.into_iter().flat_map(|path| path.split('.'));
            let common = open.iter().zip(path()).take_while(|(open, part)| **open == *part).count();
            text.extend(std::iter::repeat_n(b'}', open.len() - common));
            open.truncate(common);
            // What is before the first member is not known here.
            let mut is_first = steps.is_empty();
            for part in path().skip(common) {
                key(part, is_first, &mut text);
                text.push(b'{');
                open.push(part);
                is_first = true;
            }
            key(leaf, is_first, &mut text);
            steps.push((index, text.len()));
        }
        text.extend(std::iter::repeat_n(b'}', open.len()));
        Self { steps, text, names }
    }

    fn is_of(&self, members: &[Member<'_>]) -> bool {
        // By its place a name is mostly known; two places may have the same.
        let is_same = |(known, member): (&Cow<'_, str>, &Member<'_>)| {
            std::ptr::eq(&raw const **known, &raw const *member.name) || *known == member.name
        };
        self.names.len() == members.len() && self.names.iter().zip(members).all(is_same)
    }

    fn write(&self, members: &[Member<'_>], cut: &Cut, out: &mut Vec<u8>) {
        if !self.steps.is_empty() && !matches!(out.last(), None | Some(b'{')) {
            out.push(b',');
        }
        let mut written = 0;
        for (index, end) in &self.steps {
            out.extend_from_slice(self.text.get(written..*end).unwrap_or_default());
            written = *end;
            if let Some(member) = members.get(*index) {
                member.value.write_json(cut, out);
            }
        }
        out.extend_from_slice(self.text.get(written..).unwrap_or_default());
    }
}

/// Appends a member's name. Own names of members may hold what others chose.
fn key(name: &str, is_first: bool, out: &mut Vec<u8>) {
    if !is_first {
        out.push(b',');
    }
    crate::event::text::json_string(name.as_bytes(), out);
    out.push(b':');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_names_become_objects_and_the_first_of_two_stays() {
        let member = |name| Member::new(name, 1);
        let members = ["b", "a.c.d", "a.b", "a.b_x", "a.c.e", "c.a.b", "a.c_x.y", "b"]
            .map(member)
            .into_iter()
            .collect::<Vec<_>>();
        let mut out = b"{\"first\":0".to_vec();
        write(&members, &Cut::NOTHING, &mut out);
        out.push(b'}');
        let expected =
            r#"{"first":0,"a":{"b":1,"b_x":1,"c":{"d":1,"e":1},"c_x":{"y":1}},"b":1,"c":{"a":{"b":1}}}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn each_set_of_names_has_its_own_shape_however_many_there_are() {
        let written = |names: &[String]| {
            let member = |(name, n): (&String, i64)| Member { name: name.clone().into(), value: n.into() };
            let members: Vec<Member<'_>> = names.iter().zip(1..).map(member).collect();
            let mut out = Vec::new();
            write(&members, &Cut::NOTHING, &mut out);
            String::from_utf8(out).unwrap()
        };
        for round in 0..2 {
            for n in 0..SHAPES_MAX {
                let names = [format!("a.{n}"), "b".to_owned()];
                assert_eq!(written(&names), format!("\"a\":{{\"{n}\":1}},\"b\":2"), "{round}");
                assert_eq!(written(&names[1..]), "\"b\":1");
            }
        }
        assert_eq!(written(&[]), "");
    }
}
