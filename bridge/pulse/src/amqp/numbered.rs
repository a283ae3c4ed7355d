//! What waits for confirms, by the number that RabbitMQ gave it.

use std::collections::VecDeque;

/// Items numbered from 1 in the order in which they came, until they are settled.
pub(super) struct Numbered<T> {
    /// `None`: settled, behind one that is not.
    slots: VecDeque<Option<T>>,
    /// The number of the first slot.
    first: u64,
}

impl<T> Numbered<T> {
    pub fn new() -> Self {
        Self { slots: VecDeque::new(), first: 1 }
    }

    pub fn push(&mut self, item: T) {
        self.slots.push_back(Some(item));
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Those that are not settled, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }

    /// Takes out the item with this number, with `multiple` all up to it. The number is the broker's word: what is beyond the last
    /// item concerns nothing, and costs nothing.
    pub fn settle(&mut self, number: u64, multiple: bool, each: impl FnMut(T)) {
        let Some(last) = number.checked_sub(self.first) else { return };
        let last = usize::try_from(last).unwrap_or(usize::MAX);
        let first = if multiple { 0 } else { last };
        let end = last.saturating_add(1).min(self.slots.len());
        (first..end).filter_map(|at| self.slots.get_mut(at)?.take()).for_each(each);
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Takes out all that is not settled, oldest first, when no more will be.
    pub fn take(&mut self) -> impl Iterator<Item = T> {
        self.slots.drain(..).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(numbered: &mut Numbered<char>, number: u64, multiple: bool) -> String {
        let mut settled = String::new();
        numbered.settle(number, multiple, |item| settled.push(item));
        settled
    }

    #[test]
    fn each_is_settled_once_alone_or_with_those_before_it() {
        let mut numbered = Numbered::new();
        "abcde".chars().for_each(|item| numbered.push(item));
        assert_eq!(settled(&mut numbered, 3, false), "c");
        assert_eq!(settled(&mut numbered, 3, false), "");
        assert_eq!(settled(&mut numbered, 4, true), "abd");
        assert_eq!(settled(&mut numbered, 2, true), "", "those are gone");
        numbered.push('f');
        assert_eq!(numbered.iter().collect::<String>(), "ef");
        assert_eq!(numbered.take().collect::<String>(), "ef");
        assert!(numbered.is_empty());
    }

    /// Without a bound this would count for centuries.
    #[test]
    fn a_number_beyond_the_last_settles_what_is_there() {
        let mut numbered = Numbered::new();
        assert_eq!(settled(&mut numbered, u64::MAX, true), "");
        numbered.push('a');
        assert_eq!(settled(&mut numbered, u64::MAX, false), "");
        assert_eq!(settled(&mut numbered, u64::MAX, true), "a");
        numbered.push('b');
        assert_eq!(settled(&mut numbered, 2, false), "b", "the numbers go on");
        assert_eq!(settled(&mut numbered, 0, true), "");
    }
}
