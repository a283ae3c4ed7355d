//! A map that forgets: each entry lives for its own time, and the map holds only so many.
//!
//! When it is full the entry that was remembered first makes room, however long it had still to live: a storm of long-lived ones
//! pushes out each other and not every short-lived one at once. What is forgotten so is an answer to repeats, which costs a second message with
//! the same id, which consumers merge by that id; or the mark of a merge window or of coalescing, which costs a message that had been merged.

use std::collections::hash_map::HashMap;
use std::collections::vec_deque::VecDeque;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Marks that may be left over before they are cleared away.
const LEFT_OVER: usize = 64;

/// Entries by key, each with its end.
pub struct Window<K, V> {
    capacity: usize,
    entries: HashMap<K, Entry<V>>,
    /// One for each time that entries live for, of which there are few.
    queues: Vec<Queue<K>>,
    /// The number of the next entry.
    next: u64,
}

struct Entry<V> {
    value: V,
    lasting: Duration,
    number: u64,
}

/// Marks of the entries that live for the same time: who was remembered first ends first.
struct Queue<K> {
    lasting: Duration,
    /// Also of entries that were replaced or removed meanwhile; not at the front.
    marks: VecDeque<Mark<K>>,
    /// Entries that live.
    living: usize,
}

struct Mark<K> {
    key: K,
    /// The entry's, while it is the same.
    number: u64,
    end: Instant,
}

impl<K: Hash + Eq + Clone, V> Window<K, V> {
    /// Room for `capacity` entries, at least one.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), entries: HashMap::new(), queues: Vec::new(), next: 0 }
    }

    /// The living entry of `key`.
    pub fn get(&mut self, key: &K, now: Instant) -> Option<&mut V> {
        self.forget_ended(now);
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Remembers `value` for `lasting`, in place of what was there; the entry that was remembered first makes room. Moments never go back.
    pub fn insert(&mut self, key: K, value: V, lasting: Duration, now: Instant) {
        self.forget_ended(now);
        self.remove(&key);
        while self.entries.len() >= self.capacity {
            let fronts = self.queues.iter().filter_map(|queue| queue.marks.front());
            let Some(oldest) = fronts.min_by_key(|mark| mark.number).map(|mark| mark.key.clone()) else {
                break;
            };
            self.remove(&oldest);
        }
        let number = self.next;
        self.next += 1;
        let mark = Mark { key: key.clone(), number, end: now + lasting };
        match self.queues.iter_mut().find(|queue| queue.lasting == lasting) {
            Some(queue) => {
                queue.marks.push_back(mark);
                queue.living += 1;
            }
            None => self.queues.push(Queue { lasting, marks: [mark].into(), living: 1 }),
        }
        self.entries.insert(key, Entry { value, lasting, number });
    }

    /// Forgets the entry of `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let Entry { value, lasting, .. } = self.entries.remove(key)?;
        if let Some(at) = self.queues.iter().position(|queue| queue.lasting == lasting) {
            let (queue, entries) = (&mut self.queues[at], &self.entries);
            queue.living -= 1;
            queue.clear(entries);
            if queue.marks.is_empty() {
                self.queues.swap_remove(at);
            }
        }
        Some(value)
    }

    fn forget_ended(&mut self, now: Instant) {
        let ended = |queue: &Queue<K>| {
            queue.marks.front().filter(|mark| mark.end <= now).map(|mark| mark.key.clone())
        };
        while let Some(key) = self.queues.iter().find_map(ended) {
            self.remove(&key);
        }
    }
}

impl<K: Hash + Eq> Queue<K> {
    /// Drops marks of entries that are gone: those at the front, and all when most are.
    fn clear<V>(&mut self, entries: &HashMap<K, Entry<V>>) {
        let lives = |mark: &Mark<K>| entries.get(&mark.key).is_some_and(|entry| entry.number == mark.number);
        while self.marks.front().is_some_and(|mark| !lives(mark)) {
            self.marks.pop_front();
        }
        if self.marks.len() > 2 * self.living + LEFT_OVER {
            self.marks.retain(lives);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(window.entries.len(), 1);
        let marks = window.queues.iter().map(|queue| (queue.marks.len(), queue.living));
        assert_eq!(marks.collect::<Vec<_>>(), [(1, 1)]);
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

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, u64),
        Remove(u8),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..20_u8, prop::sample::select(vec![1, 5, 1000])).prop_map(|(key, lasting)| Step::Insert(key, lasting)),
            1 => (0..20_u8).prop_map(Step::Remove),
            1 => (0..4_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn it_remembers_what_a_list_would(steps in prop::collection::vec(step(), 1..600), capacity in 1..24_usize) {
            let mut now = Instant::now();
            let mut window = Window::new(capacity);
            // Key, value and end, in the order in which they were remembered.
            let mut list: Vec<(u8, usize, Instant)> = Vec::new();
            for (value, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(key, lasting) => {
                        let lasting = Duration::from_secs(lasting);
                        list.retain(|entry| entry.0 != key);
                        let excess = (list.len() + 1).saturating_sub(capacity);
                        list.drain(..excess);
                        list.push((key, value, now + lasting));
                        window.insert(key, value, lasting, now);
                    }
                    Step::Remove(key) => {
                        let known = list.iter().position(|entry| entry.0 == key).map(|at| list.remove(at).1);
                        prop_assert_eq!(window.remove(&key), known);
                    }
                    Step::Pass(seconds) => {
                        now += Duration::from_secs(seconds);
                        list.retain(|entry| entry.2 > now);
                    }
                }
                for key in 0..20 {
                    let known = list.iter().find(|entry| entry.0 == key).map(|entry| entry.1);
                    prop_assert_eq!(window.get(&key, now).copied(), known);
                }
                let marks: usize = window.queues.iter().map(|queue| queue.marks.len()).sum();
                prop_assert!(marks <= 2 * list.len() + LEFT_OVER * window.queues.len());
            }
        }
    }
}
