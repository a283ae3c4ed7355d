//! A map that forgets: each entry lives for its own time, and the map holds only so many.
//!
//! When it is full the entry that was remembered first makes room, however long it had still to live: a storm of long-lived ones
//! pushes out each other and not every short-lived one at once. What is forgotten so is an answer to repeats, which costs a second message with
//! the same id, which consumers merge by that id; or the mark of a merge window or of coalescing, which costs a message that had been merged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Entries by key, each with its end.
pub struct Window<K, V> {
    capacity: usize,
    entries: HashMap<K, Entry<V>>,
    /// The keys in the order in which they were remembered, by the entries' numbers.
    order: BTreeMap<u64, K>,
    /// Ends and numbers.
    ends: BTreeSet<(Instant, u64)>,
    /// The number of the next entry.
    next: u64,
}

struct Entry<V> {
    value: V,
    end: Instant,
    number: u64,
}

impl<K: Hash + Eq + Clone, V> Window<K, V> {
    /// Room for `capacity` entries, at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            entries: HashMap::new(),
            order: BTreeMap::new(),
            ends: BTreeSet::new(),
            next: 0,
        }
    }

    /// The living entry of `key`.
    pub fn get(&mut self, key: &K, now: Instant) -> Option<&mut V> {
        self.forget_ended(now);
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Remembers `value` for `lasting`, in place of what was there; the entry that was remembered first makes room.
    pub fn insert(&mut self, key: K, value: V, lasting: Duration, now: Instant) {
        self.forget_ended(now);
        self.remove(&key);
        while self.entries.len() >= self.capacity {
            let Some(oldest) = self.order.first_key_value().map(|(_, key)| key.clone()) else { break };
            self.remove(&oldest);
        }
        let (end, number) = (now + lasting, self.next);
        self.next += 1;
        self.order.insert(number, key.clone());
        self.ends.insert((end, number));
        self.entries.insert(key, Entry { value, end, number });
    }

    /// Forgets the entry of `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let Entry { value, end, number } = self.entries.remove(key)?;
        self.order.remove(&number);
        self.ends.remove(&(end, number));
        Some(value)
    }

    fn forget_ended(&mut self, now: Instant) {
        while let Some((_, number)) = self.ends.first().filter(|(end, _)| *end <= now).copied() {
            match self.order.get(&number).cloned() {
                Some(key) => drop(self.remove(&key)),
                None => drop(self.ends.pop_first()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_each_in_its_time_and_the_map_stays_within_its_bound() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window::new(2);
        window.insert("a", 1, Duration::from_secs(10), at(0));
        window.insert("b", 2, Duration::from_secs(5), at(0));
        assert_eq!((window.get(&"a", at(4)).copied(), window.get(&"b", at(4)).copied()), (Some(1), Some(2)));
        assert_eq!((window.get(&"a", at(5)).copied(), window.get(&"b", at(5)).copied()), (Some(1), None));
        window.insert("c", 3, Duration::from_secs(50), at(5));
        window.insert("d", 4, Duration::from_secs(50), at(6));
        assert_eq!(window.get(&"a", at(6)), None, "what was remembered first makes room");
        window.insert("c", 5, Duration::from_secs(1), at(6));
        assert_eq!(window.get(&"c", at(6)).copied(), Some(5));
        assert_eq!(window.get(&"c", at(7)), None);
        assert_eq!((window.entries.len(), window.order.len(), window.ends.len()), (1, 1, 1));
    }

    #[test]
    fn a_storm_of_long_lived_entries_leaves_a_young_short_lived_one_alone() {
        let now = Instant::now();
        let mut window = Window::new(100);
        (0..100).for_each(|n| window.insert(n, (), Duration::from_secs(3600), now));
        window.insert(1000, (), Duration::from_secs(60), now);
        (100..199).for_each(|n| window.insert(n, (), Duration::from_secs(3600), now));
        assert!(window.get(&1000, now).is_some());
        window.insert(199, (), Duration::from_secs(3600), now);
        assert!(window.get(&1000, now).is_none(), "now it is the oldest");
    }
}
