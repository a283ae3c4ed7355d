//! The newest messages of each hook and what became of them, in memory: for whoever looks on, and for trying a hook out on a
//! message that did not fire, whose body is kept nowhere else.
//!
//! Bounded per hook and in all; what a restart forgets is still on record as a fire or as a decision. The road pays one lock
//! per batch of messages.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pulse::Message;
use tokio::sync::broadcast;

/// Messages that are remembered of a hook: enough to find one like the next.
pub(super) const PER_HOOK: usize = 20;

/// Bodies that are longer are not remembered, in bytes.
const LONGEST_BODY: usize = 64 << 10;

/// What all remembered messages may weigh, in bytes.
const BUDGET: usize = 16 << 20;

/// What a remembered message weighs besides its body, in bytes: headers, key, the reason.
const OVERHEAD: usize = 1 << 10;

/// Messages that one who looks on may be behind before it misses some.
const BACKLOG: usize = 256;

/// A message that the router has decided about.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Grows with each message of the process.
    pub seq: u64,
    /// When it was decided: milliseconds since the epoch, as in the records.
    pub at: i64,
    /// The message.
    pub message: Arc<Message>,
    /// `fire`, `repeat` (seen before) or the name of the decision, e.g. `filtered`.
    pub outcome: String,
    /// A sentence for people.
    pub reason: String,
    /// The id of the task to be; for a message that did not fire: what it would have been.
    pub task_id: String,
}

/// See the module.
#[derive(Default)]
pub(super) struct Recent {
    inner: Mutex<Inner>,
    watched: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    seq: u64,
    hooks: HashMap<i64, VecDeque<Arc<Seen>>>,
    bytes: usize,
    watchers: HashMap<i64, broadcast::Sender<Arc<Seen>>>,
}

fn weight(seen: &Seen) -> usize {
    OVERHEAD + seen.message.body.len()
}

impl Recent {
    /// Whether anybody looks on, so that all messages of a batch count and not only the newest.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire) > 0
    }

    /// Takes messages of one hook in, oldest first; their `seq` is given here.
    pub fn add(&self, incarnation: i64, batch: impl Iterator<Item = Seen>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        for mut seen in batch {
            inner.seq += 1;
            seen.seq = inner.seq;
            let seen = Arc::new(seen);
            if let Some(watchers) = inner.watchers.get(&incarnation) {
                // Whoever looked on may have gone.
                let _ = watchers.send(seen.clone());
            }
            let kept = inner.hooks.entry(incarnation).or_default();
            inner.bytes += remember(kept, seen);
            while kept.len() > PER_HOOK {
                inner.bytes -= kept.pop_front().map_or(0, |oldest| weight(&oldest));
            }
        }
        if inner.bytes > BUDGET {
            inner.forget_quiet_hooks();
        }
    }

    /// The messages of a hook, newest first.
    pub fn of(&self, incarnation: i64) -> Vec<Arc<Seen>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.hooks.get(&incarnation).map(|kept| kept.iter().rev().cloned().collect()).unwrap_or_default()
    }

    /// The newest messages of all hooks, each with its hook's incarnation, newest first.
    pub fn newest(&self, count: usize) -> Vec<(i64, Arc<Seen>)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<(i64, Arc<Seen>)> = inner
            .hooks
            .iter()
            .flat_map(|(incarnation, kept)| kept.iter().map(|seen| (*incarnation, seen.clone())))
            .collect();
        drop(inner);
        all.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.seq));
        all.truncate(count);
        all
    }

    /// Looks on: what is remembered above `after`, oldest first, and everything from now on.
    pub fn watch(self: &Arc<Self>, incarnation: i64, after: u64) -> (Vec<Arc<Seen>>, Watch) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = match inner.hooks.get(&incarnation) {
            Some(kept) => kept.iter().filter(|seen| seen.seq > after).cloned().collect(),
            None => Vec::new(),
        };
        let sender = inner.watchers.entry(incarnation).or_insert_with(|| broadcast::Sender::new(BACKLOG));
        let news = sender.subscribe();
        drop(inner);
        self.watched.fetch_add(1, Ordering::AcqRel);
        (seen, Watch { recent: self.clone(), incarnation, news: Some(news) })
    }
}

/// Remembers a message, without its body if that is long. Answers what it weighs.
fn remember(kept: &mut VecDeque<Arc<Seen>>, seen: Arc<Seen>) -> usize {
    let seen = if seen.message.body.len() > LONGEST_BODY {
        let message = Message { body: bytes::Bytes::new(), ..Message::clone(&seen.message) };
        Arc::new(Seen { message: Arc::new(message), ..Seen::clone(&seen) })
    } else {
        seen
    };
    let weight = weight(&seen);
    kept.push_back(seen);
    weight
}

impl Inner {
    /// Forgets the hooks that were quiet longest, until a quarter of the budget is free.
    fn forget_quiet_hooks(&mut self) {
        let mut newest: Vec<(u64, i64)> = self
            .hooks
            .iter()
            .map(|(incarnation, kept)| (kept.back().map_or(0, |seen| seen.seq), *incarnation))
            .collect();
        newest.sort_unstable();
        for (_, incarnation) in newest {
            if self.bytes <= BUDGET / 4 * 3 {
                break;
            }
            for seen in self.hooks.remove(&incarnation).into_iter().flatten() {
                self.bytes -= weight(&seen);
            }
        }
    }
}

/// One who looks on, until dropped.
pub struct Watch {
    recent: Arc<Recent>,
    incarnation: i64,
    news: Option<broadcast::Receiver<Arc<Seen>>>,
}

impl Watch {
    /// The next message, or how many were missed because they came too fast.
    pub async fn next(&mut self) -> Result<Arc<Seen>, u64> {
        let Some(news) = &mut self.news else { return std::future::pending().await };
        match news.recv().await {
            Ok(seen) => Ok(seen),
            Err(broadcast::error::RecvError::Lagged(missed)) => Err(missed),
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.recent.watched.fetch_sub(1, Ordering::AcqRel);
        // Before the look, so that this one does not count.
        self.news = None;
        let mut inner = self.recent.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.watchers.get(&self.incarnation).is_some_and(|sender| sender.receiver_count() == 0) {
            inner.watchers.remove(&self.incarnation);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn seen(body: usize) -> Seen {
        let message = Message { body: Bytes::from(vec![b' '; body]), ..Message::default() };
        Seen {
            seq: 0,
            at: 0,
            message: Arc::new(message),
            outcome: "fire".into(),
            reason: String::new(),
            task_id: String::new(),
        }
    }

    #[test]
    fn each_hook_keeps_its_newest_and_all_together_stay_within_the_budget() {
        let recent = Recent::default();
        for hook in 0..100 {
            recent.add(hook, (0..30).map(|_| seen(LONGEST_BODY)));
        }
        assert!(recent.of(0).is_empty(), "the hook that was quiet longest is forgotten");
        let kept = recent.of(99);
        assert_eq!(kept.len(), PER_HOOK);
        assert!(kept[0].seq > kept[1].seq);
        let inner = recent.inner.lock().unwrap();
        let weighed: usize = inner.hooks.values().flatten().map(|seen| weight(seen)).sum();
        assert!(inner.bytes <= BUDGET && inner.bytes == weighed, "{} {weighed}", inner.bytes);
    }

    #[test]
    fn a_long_body_is_not_remembered_but_its_message_is() {
        let recent = Recent::default();
        recent.add(1, [seen(LONGEST_BODY + 1)].into_iter());
        assert!(recent.of(1)[0].message.body.is_empty());
        assert_eq!(recent.newest(5).len(), 1);
    }

    #[tokio::test]
    async fn who_looks_on_hears_of_everything_and_leaves_nothing_behind() {
        let recent = Arc::new(Recent::default());
        recent.add(1, [seen(1), seen(1)].into_iter());
        let (before, mut watch) = recent.watch(1, 1);
        assert_eq!(before.iter().map(|seen| seen.seq).collect::<Vec<_>>(), [2]);
        assert!(recent.is_watched());
        recent.add(2, [seen(1)].into_iter());
        recent.add(1, [seen(1)].into_iter());
        assert_eq!(watch.next().await.unwrap().seq, 4);
        recent.add(1, (0..BACKLOG as u64 + 1).map(|_| seen(1)));
        assert!(watch.next().await.is_err());
        drop(watch);
        assert!(!recent.is_watched() && recent.inner.lock().unwrap().watchers.is_empty());
    }
}
