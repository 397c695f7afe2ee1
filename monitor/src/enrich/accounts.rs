//! Names of users and groups: those of the host, read once from `/etc/passwd` and `/etc/group` (no name service is asked:
//! it could hang). What a container calls its users is not known here, but that number 0 is `root`.

use std::io::Read as _;
use std::path::Path;

use hashbrown::HashMap;

/// Most bytes of a file that are looked at.
const SIZE_MAX: u64 = 4 << 20;

/// A user.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: Box<[u8]>,
    /// Its home directory; empty if not known.
    pub home: Box<[u8]>,
    /// Its shell; empty if not known.
    pub shell: Box<[u8]>,
}

/// Users and groups by number.
#[derive(Debug, Default)]
pub struct Accounts {
    users: HashMap<u32, User>,
    groups: HashMap<u32, Box<[u8]>>,
}

impl Accounts {
    /// Nothing but `root`.
    pub fn root_only() -> Self {
        let root = User { name: (*b"root").into(), ..User::default() };
        Self { users: [(0, root)].into(), groups: [(0, Box::from(*b"root"))].into() }
    }

    /// Those of the host.
    pub fn of_host() -> Self {
        Self::of(&read(Path::new("/etc/passwd")), &read(Path::new("/etc/group")))
    }

    /// Those of the two files, and `root` in any case.
    pub fn of(passwd: &[u8], group: &[u8]) -> Self {
        let Self { users: mut all_users, groups: mut all_groups } = Self::root_only();
        // Of two lines with one number the first counts.
        let (mut users, mut groups) = (HashMap::new(), HashMap::new());
        for fields in lines(passwd) {
            if let [name, _, id, _, _, home, shell] = fields.as_slice()
                && let Some(id) = number(id)
            {
                let user = User { name: (*name).into(), home: (*home).into(), shell: (*shell).into() };
                users.entry(id).or_insert(user);
            }
        }
        for fields in lines(group) {
            if let [name, _, id, _] = fields.as_slice()
                && let Some(id) = number(id)
            {
                groups.entry(id).or_insert_with(|| Box::from(*name));
            }
        }
        all_users.extend(users);
        all_groups.extend(groups);
        Self { users: all_users, groups: all_groups }
    }

    /// The user of that number.
    pub fn user(&self, id: u32) -> Option<&User> {
        self.users.get(&id)
    }

    /// The name of the group of that number.
    pub fn group(&self, id: u32) -> Option<&[u8]> {
        self.groups.get(&id).map(|name| &**name)
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    text.split(|&byte| byte == b'\n').map(|line| line.split(|&byte| byte == b':').collect())
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What there is of a file; nothing if it cannot be read.
fn read(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(SIZE_MAX).read_to_end(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_the_names_of_the_files_and_root_in_any_case() {
        let accounts = Accounts::of(
            b"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\nbroken\n+::x:::\nfirst:x:7:7::/home/f:/bin/sh\nsecond:x:7:7:::\n",
            b"adm:x:4:syslog\nbroken:x\n",
        );
        assert_eq!(accounts.user(65534).map(|user| &*user.name), Some(&b"nobody"[..]));
        assert_eq!(
            accounts.user(7).map(|user| (&*user.name, &*user.home, &*user.shell)),
            Some((&b"first"[..], &b"/home/f"[..], &b"/bin/sh"[..]))
        );
        assert_eq!(accounts.user(0).map(|user| &*user.name), Some(&b"root"[..]));
        assert_eq!(accounts.user(1), None);
        assert_eq!(accounts.group(4), Some(&b"adm"[..]));
        assert_eq!(accounts.group(0), Some(&b"root"[..]));
    }
}
