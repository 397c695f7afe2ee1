//! The Merkle tree of RFC 6962 (section 2.1) over the records of a segment. An entry is a record's SHA-256, the one that
//! chains it, so that a record's bytes are hashed once. A tree that grows keeps one hash for each bit of its size.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// A tree that grows at its end.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    size: u64,
    /// Roots of the whole subtrees, largest first: one for each bit that is set in `size`.
    peaks: Vec<Hash>,
}

impl Tree {
    /// How many entries it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &Hash) {
        let mut hash = leaf(entry);
        // Each bit that is carried joins two subtrees of the same size.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node(&left, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The hash over all entries.
    pub fn root(&self) -> Hash {
        let root = self.peaks.iter().rev().copied().reduce(|right, left| node(&left, &right));
        root.unwrap_or_else(|| Sha256::digest(b"").into())
    }
}

/// Collects the proof that an entry is in a tree (RFC 6962, section 2.1.1), in memory that does not grow with the tree.
pub struct PathBuilder {
    next: u64,
    /// The subtrees beside the entry's way to the root, lowest first.
    beside: Vec<(Range<u64>, Tree)>,
}

impl PathBuilder {
    /// For the entry at `index` (from 0) of a tree of `size` entries.
    pub fn new(index: u64, size: u64) -> Self {
        let mut beside = Vec::new();
        let mut range = 0..size;
        while range.end - range.start > 1 {
            let middle = range.start + largest_power_below(range.end - range.start);
            let (left, right) = (range.start..middle, middle..range.end);
            let (own, other) = if index < middle { (left, right) } else { (right, left) };
            beside.push((other, Tree::default()));
            range = own;
        }
        beside.reverse();
        Self { next: 0, beside }
    }

    /// Takes the next entry of the tree, from its first one on.
    pub fn push(&mut self, entry: &Hash) {
        let at = self.next;
        self.next += 1;
        if let Some((_, tree)) = self.beside.iter_mut().find(|(range, _)| range.contains(&at)) {
            tree.push(entry);
        }
    }

    /// The hashes beside the entry's way to the root, lowest first.
    pub fn path(&self) -> Vec<Hash> {
        self.beside.iter().map(|(_, tree)| tree.root()).collect()
    }
}

/// The root of a tree of `size` entries that has `entry` at `index`, if `path` is what is beside its way (RFC 9162, section
/// 2.1.3.2). `None` if a path of that length cannot be.
pub fn root_of(entry: &Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf(entry);
    for beside in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node(beside, &hash);
            // Where the way has no subtree on its right it goes up without a hash.
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, beside);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

fn leaf(entry: &Hash) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The largest power of two that is smaller than `n`, which is at least 2.
fn largest_power_below(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: u8) -> Vec<Hash> {
        (0..count).map(|n| Sha256::digest([n]).into()).collect()
    }

    /// MTH as RFC 6962 defines it.
    fn root_by_definition(entries: &[Hash]) -> Hash {
        match entries {
            [] => Sha256::digest(b"").into(),
            [entry] => leaf(entry),
            _ => {
                let (left, right) = entries.split_at(largest_power_below(entries.len() as u64) as usize);
                node(&root_by_definition(left), &root_by_definition(right))
            }
        }
    }

    #[test]
    fn root_of_a_tree_that_grew_is_that_of_the_definition() {
        let entries = entries(70);
        let mut tree = Tree::default();
        for size in 0..entries.len() {
            assert_eq!(tree.root(), root_by_definition(&entries[..size]), "{size}");
            tree.push(&entries[size]);
        }
    }

    #[test]
    fn path_of_each_entry_leads_to_the_root_and_nowhere_else() {
        let entries = entries(40);
        for size in 1..entries.len() {
            let root = root_by_definition(&entries[..size]);
            for index in 0..size {
                let mut builder = PathBuilder::new(index as u64, size as u64);
                entries[..size].iter().for_each(|entry| builder.push(entry));
                let path = builder.path();
                let lead = |entry, index, size, path: &[Hash]| root_of(entry, index, size, path);
                let (at, n) = (index as u64, size as u64);
                assert_eq!(lead(&entries[index], at, n, &path), Some(root), "{index} of {size}");
                assert_ne!(lead(&entries[39], at, n, &path), Some(root));
                assert_eq!(lead(&entries[index], n, n, &path), None);
                if size > 1 {
                    assert_ne!(lead(&entries[index], (at + 1) % n, n, &path), Some(root));
                    assert_ne!(lead(&entries[index], at, n, &path[1..]), Some(root));
                    let longer = [path.as_slice(), &[root]].concat();
                    assert_ne!(lead(&entries[index], at, n, &longer), Some(root));
                }
            }
        }
    }
}
