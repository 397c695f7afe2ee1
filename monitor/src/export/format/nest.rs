//! Members with dotted names as nested JSON objects, written in one pass.

use super::Member;
use crate::export::cut::Cut;

/// Appends the members of an object, without its braces, after what is there already of it. Of two members with one
/// name the first stays. Sorts them: members of one object stand together then.
pub fn write(members: &mut [Member<'_>], cut: &Cut, out: &mut Vec<u8>) {
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let mut open: Vec<&str> = Vec::new();
    let mut last = "";
    for Member { name, value } in &*members {
        if name == last && !last.is_empty() {
            continue;
        }
        last = name;
        let (path, leaf) = name.rsplit_once('.').map_or((None, &**name), |(path, leaf)| (Some(path), leaf));
        let common = open.iter().zip(path.into_iter().flat_map(|path| path.split('.')));
        let common = common.take_while(|(open, part)| **open == *part).count();
        for _ in common..open.len() {
            out.push(b'}');
        }
        open.truncate(common);
        for part in path.into_iter().flat_map(|path| path.split('.')).skip(common) {
            key(part, out);
            out.push(b'{');
            open.push(part);
        }
        key(leaf, out);
        value.write_json(cut, out);
    }
    out.extend(std::iter::repeat_n(b'}', open.len()));
}

/// Appends a member's name. Own names of members may hold what others chose.
fn key(name: &str, out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{')) {
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
        let mut members = ["b", "a.c.d", "a.b", "a.b_x", "a.c.e", "c.a.b", "a.c_x.y", "b"]
            .map(member)
            .into_iter()
            .collect::<Vec<_>>();
        let mut out = b"{\"first\":0".to_vec();
        write(&mut members, &Cut::NOTHING, &mut out);
        out.push(b'}');
        let expected =
            r#"{"first":0,"a":{"b":1,"b_x":1,"c":{"d":1,"e":1},"c_x":{"y":1}},"b":1,"c":{"a":{"b":1}}}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
