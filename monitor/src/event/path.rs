//! Paths of two parts: a name as a caller gave it, and the directory that it starts at.

/// Longest path that is put together: two of the kernel's.
const MAX: usize = 2 * libc::PATH_MAX as usize;

/// Shows the whole path of a name: without `.`, `..` and double slashes, as text; symbolic links are not followed. A
/// name that is whole by itself is shown as it is.
pub fn whole(name: &[u8], base: &[u8], show: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let needs_none = |path: &[u8]| path.first() == Some(&b'/') && !has_dots(path);
    if needs_none(name) || base.is_empty() && name.first() != Some(&b'/') {
        return !name.is_empty() && show(name);
    }
    let base = if name.first() == Some(&b'/') { &[][..] } else { base };
    let mut path = [0; MAX];
    let mut len = 0;
    for part in base.split(|&byte| byte == b'/').chain(name.split(|&byte| byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => len = memchr::memrchr(b'/', &path[..len]).unwrap_or(0),
            part => {
                let end = len + 1 + part.len();
                let Some(room) = path.get_mut(len..end) else { return show(name) };
                let (slash, rest) = room.split_at_mut(1);
                slash.copy_from_slice(b"/");
                rest.copy_from_slice(part);
                len = end;
            }
        }
    }
    show(if len == 0 { b"/" } else { &path[..len] })
}

/// Whether a path has parts that say nothing or lead back.
fn has_dots(path: &[u8]) -> bool {
    memchr::memmem::find(path, b"//").is_some()
        || path.split(|&byte| byte == b'/').any(|part| matches!(part, b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_path_begins_at_the_base_and_has_no_dots() {
        for (name, base, expected) in [
            ("/etc/passwd", "/tmp", "/etc/passwd"),
            ("passwd", "/etc", "/etc/passwd"),
            ("../etc/./passwd", "/tmp/", "/etc/passwd"),
            ("../../..", "/a", "/"),
            ("/a/../b//c", "/x", "/b/c"),
            ("relative", "", "relative"),
            ("x", "/", "/x"),
        ] {
            let mut found = Vec::new();
            whole(name.as_bytes(), base.as_bytes(), &mut |path| {
                found = path.to_vec();
                true
            });
            assert_eq!(String::from_utf8_lossy(&found), expected, "{name} from {base}");
        }
        assert!(!whole(b"", b"", &mut |_| true));
        let long = "x/".repeat(6_000);
        assert!(whole(long.as_bytes(), b"/a", &mut |path| path == long.as_bytes()));
    }
}
