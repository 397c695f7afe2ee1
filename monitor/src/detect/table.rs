//! What one rule remembers, by key: bounded, the least recently touched first to go. It knows how many bytes it
//! takes.

use lru::LruCache;

/// A value that knows how much memory it has besides its own size.
pub trait Weigh {
    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize;
}

/// Values by key.
pub struct Table<V> {
    entries: LruCache<u128, Slot<V>, hashbrown::DefaultHashBuilder>,
    heap_bytes: usize,
}

struct Slot<V> {
    touched_ns: u64,
    value: V,
}

impl<V: Weigh> Slot<V> {
    fn act<R>(&mut self, now_ns: u64, heap_bytes: &mut usize, act: impl FnOnce(&mut V) -> R) -> R {
        let before = self.value.heap_bytes();
        let result = act(&mut self.value);
        self.touched_ns = now_ns;
        *heap_bytes = *heap_bytes - before + self.value.heap_bytes();
        result
    }
}

impl<V: Weigh> Table<V> {
    /// Bytes of an entry besides the heap of its value: the node with its two links, and its share of the index.
    const ENTRY_BYTES: usize = size_of::<(u128, Slot<V>)>() + 4 * size_of::<usize>();

    /// An empty one.
    pub fn new() -> Self {
        Self {
            entries: LruCache::unbounded_with_hasher(hashbrown::DefaultHashBuilder::default()),
            heap_bytes: 0,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.len() * Self::ENTRY_BYTES + self.heap_bytes
    }

    /// Uses the value of a key, if there is one, which makes it the last to go.
    pub fn touch<R>(&mut self, key: u128, now_ns: u64, act: impl FnOnce(&mut V) -> R) -> Option<R> {
        let slot = self.entries.get_mut(&key)?;
        Some(slot.act(now_ns, &mut self.heap_bytes, act))
    }

    /// As [`Table::touch`]; makes the value if there is none.
    pub fn enter<R>(&mut self, key: u128, now_ns: u64, act: impl FnOnce(&mut V) -> R) -> R
    where
        V: Default,
    {
        let slot = self.entries.get_or_insert_mut(key, || Slot { touched_ns: now_ns, value: V::default() });
        slot.act(now_ns, &mut self.heap_bytes, act)
    }

    /// Takes a value out.
    pub fn take(&mut self, key: u128) -> Option<V> {
        let slot = self.entries.pop(&key)?;
        Some(self.gone(slot))
    }

    /// Takes out the value that was not touched for longest, if that was before some time.
    pub fn take_before(&mut self, ns: u64) -> Option<V> {
        let (_, oldest) = self.entries.peek_lru()?;
        if oldest.touched_ns < ns { self.take_oldest() } else { None }
    }

    /// Takes out the value that was not touched for longest.
    pub fn take_oldest(&mut self) -> Option<V> {
        let (_, slot) = self.entries.pop_lru()?;
        Some(self.gone(slot))
    }

    /// Shows all values, in no order.
    pub fn for_each(&mut self, mut act: impl FnMut(&mut V)) {
        for (_, slot) in &mut self.entries {
            let touched_ns = slot.touched_ns;
            slot.act(touched_ns, &mut self.heap_bytes, &mut act);
        }
    }

    fn gone(&mut self, slot: Slot<V>) -> V {
        self.heap_bytes -= slot.value.heap_bytes();
        slot.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for Vec<u8> {
        fn heap_bytes(&self) -> usize {
            self.capacity()
        }
    }

    #[test]
    fn bytes_are_those_of_what_is_in_it_whatever_was_done_to_the_values() {
        let mut table = Table::<Vec<u8>>::new();
        for round in 0..50u64 {
            for key in 0..20 {
                table.enter(key, round, |value| value.extend_from_slice(&[7; 100]));
            }
            table.touch(3, round, Vec::clear);
            table.for_each(|value| {
                value.truncate(10);
                value.shrink_to_fit();
            });
            assert_eq!(table.bytes(), 20 * Table::<Vec<u8>>::ENTRY_BYTES + 19 * 10);
            assert!(table.take(round.into()).is_none_or(|value| value.len() <= 10));
            assert!(table.take_before(round).is_none());
            while table.take_oldest().is_some() {}
            assert_eq!((table.len(), table.bytes()), (0, 0));
        }
    }
}
