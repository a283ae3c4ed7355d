//! A map that forgets: each entry lives for its own time, and the map holds only so many.
//!
//! What is remembered only to merge repeats may be forgotten under pressure; what that costs is a second message with
//! the same id, which consumers merge by that id.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Entries by key, each with its end.
pub struct Window<K, V> {
    capacity: usize,
    entries: HashMap<K, (V, Instant)>,
    ends: BTreeSet<(Instant, K)>,
}

impl<K: Hash + Ord + Clone, V> Window<K, V> {
    /// Room for `capacity` entries, at least one.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), entries: HashMap::new(), ends: BTreeSet::new() }
    }

    /// The living entry of `key`.
    pub fn get(&mut self, key: &K, now: Instant) -> Option<&mut V> {
        self.forget_ended(now);
        self.entries.get_mut(key).map(|(value, _)| value)
    }

    /// Remembers `value` for `lasting`, in place of what was there; the entry with the nearest end makes room.
    pub fn insert(&mut self, key: K, value: V, lasting: Duration, now: Instant) {
        self.forget_ended(now);
        self.remove(&key);
        while self.entries.len() >= self.capacity {
            let Some((_, oldest)) = self.ends.pop_first() else { break };
            self.entries.remove(&oldest);
        }
        let end = now + lasting;
        self.ends.insert((end, key.clone()));
        self.entries.insert(key, (value, end));
    }

    /// Forgets the entry of `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (value, end) = self.entries.remove(key)?;
        self.ends.remove(&(end, key.clone()));
        Some(value)
    }

    fn forget_ended(&mut self, now: Instant) {
        while let Some((_, key)) = self.ends.first().filter(|(end, _)| *end <= now).cloned() {
            self.remove(&key);
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
        assert_eq!(window.get(&"a", at(6)), None, "the nearest end makes room");
        window.insert("c", 5, Duration::from_secs(1), at(6));
        assert_eq!(window.get(&"c", at(6)).copied(), Some(5));
        assert_eq!(window.get(&"c", at(7)), None);
        assert_eq!((window.entries.len(), window.ends.len()), (1, 1));
    }
}
