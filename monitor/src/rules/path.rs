//! Sets of paths: whether one of them is a path itself or a folder above it (`pmatch`).

use hashbrown::HashMap;

use super::pattern::glob;

/// Paths, by their components. Empty components do not count: `/etc/` is `/etc`, and so is `etc`. Components may be
/// patterns as shells have them.
#[derive(Clone, Debug)]
pub struct Paths {
    /// What they were made of, sorted.
    paths: Box<[Box<[u8]>]>,
    root: Folder,
}

#[derive(Clone, Debug, Default)]
struct Folder {
    /// Whether a path ends here: then all below belongs to it.
    ends: bool,
    named: HashMap<Box<[u8]>, Folder>,
    like: Vec<(Box<[u8]>, Folder)>,
}

/// Most components of a path in a set: each is a level of the walk.
pub const COMPONENTS_MAX: usize = 256;

impl Paths {
    /// Makes one; `None` if a path has more than [`COMPONENTS_MAX`] components.
    pub fn new<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut sorted: Vec<Box<[u8]>> = paths.map(Into::into).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut root = Folder::default();
        for path in &sorted {
            let components = path.split(|&byte| byte == b'/').filter(|component| !component.is_empty());
            if components.count() > COMPONENTS_MAX {
                return None;
            }
            root.add(path);
        }
        Some(Self { paths: sorted.into(), root })
    }

    /// Whether a path of the set is that path or above it. Each folder of the set is looked at once at most.
    pub fn cover(&self, path: &[u8]) -> bool {
        self.root.covers(path)
    }

    /// What they were made of, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.paths.iter().map(|path| &**path)
    }
}

impl PartialEq for Paths {
    fn eq(&self, other: &Self) -> bool {
        self.paths == other.paths
    }
}

impl Eq for Paths {}

impl std::hash::Hash for Paths {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.paths.hash(state);
    }
}

impl Folder {
    fn add(&mut self, path: &[u8]) {
        let mut folder = self;
        let mut rest = path;
        while let Some((component, after)) = first(rest) {
            rest = after;
            folder = if component.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
                let place = folder.like.iter().position(|(pattern, _)| **pattern == *component);
                let place = place.unwrap_or_else(|| {
                    folder.like.push((component.into(), Folder::default()));
                    folder.like.len() - 1
                });
                &mut folder.like[place].1
            } else {
                folder.named.entry(component.into()).or_default()
            };
        }
        folder.ends = true;
    }

    fn covers(&self, path: &[u8]) -> bool {
        if self.ends {
            return true;
        }
        let Some((component, rest)) = first(path) else { return false };
        self.named.get(component).is_some_and(|folder| folder.covers(rest))
            || self
                .like
                .iter()
                .any(|(pattern, folder)| glob(pattern, component, false) && folder.covers(rest))
    }
}

/// The first component and what follows.
fn first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.iter().position(|&byte| byte != b'/')?;
    let path = &path[start..];
    let end = memchr::memchr(b'/', path).unwrap_or(path.len());
    Some(path.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_covered_by_itself_and_by_folders_above_it() {
        for (paths, path, covered) in [
            (&["/var/run", "/etc"][..], "/var/run/docker", true),
            (&["/var/run", "/etc"], "/var/run", true),
            (&["/var/run", "/etc"], "/var/runner", false),
            (&["/var/run", "/etc"], "/var", false),
            (&["/var/run", "/etc"], "/boot", false),
            (&["/etc/"], "//etc///passwd", true),
            (&["/"], "/anything", true),
            (&["/"], "anything", true),
            (&["/home/*/.ssh"], "/home/a/.ssh/id", true),
            (&["/home/*/.ssh"], "/home/a/b/.ssh/id", false),
            (&["/home/*/.ssh", "/home/b"], "/home/b/x", true),
            (&["/h*/*/x", "/home/*/y"], "/home/a/y", true),
            (&["/usr/lib", "/usr"], "/usr/bin", true),
            (&[], "/usr", false),
            (&[""], "/usr", true),
        ] {
            let set = Paths::new(paths.iter().map(|path| path.as_bytes())).unwrap();
            assert_eq!(set.cover(path.as_bytes()), covered, "{paths:?} {path}");
        }
        assert_eq!(Paths::new(["/a".repeat(300).as_bytes()].into_iter()), None);
    }
}
