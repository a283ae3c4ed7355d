//! Those who wait for what becomes of a trigger: told at once, by task id. Costs the road one look at a counter when nobody
//! waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;

/// News that may pile up for one who waits; who misses some looks into the store instead.
const NEWS: usize = 4;

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// The fire by that task id has ended or was there already: the store knows.
    Look,
    /// It did not fire. With the hook whose decision it was: task ids that callers chose may be those of two hooks.
    Decided { incarnation: i64, outcome: String, reason: String },
}

/// Who waits for which task id.
#[derive(Default)]
pub(super) struct Waiters {
    count: AtomicUsize,
    waiting: Mutex<HashMap<String, (broadcast::Sender<News>, usize)>>,
}

/// One who waits, until dropped.
pub(super) struct Waiter {
    waiters: Arc<Waiters>,
    task_id: String,
    news: broadcast::Receiver<News>,
}

impl Waiters {
    /// From now on, news about this task id is heard.
    pub fn wait(self: &Arc<Self>, task_id: &str) -> Waiter {
        self.count.fetch_add(1, Ordering::AcqRel);
        let news = match self.waiting.lock() {
            Ok(mut waiting) => {
                let (sender, count) =
                    waiting.entry(task_id.to_owned()).or_insert_with(|| (broadcast::Sender::new(NEWS), 0));
                *count += 1;
                sender.subscribe()
            }
            Err(_) => broadcast::Sender::new(NEWS).subscribe(),
        };
        Waiter { waiters: self.clone(), task_id: task_id.to_owned(), news }
    }

    /// Whether anybody waits for anything.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Tells whoever waits.
    pub fn tell(&self, task_id: &str, news: impl FnOnce() -> News) {
        if !self.any() {
            return;
        }
        if let Ok(waiting) = self.waiting.lock()
            && let Some((sender, _)) = waiting.get(task_id)
        {
            // Whoever waited may have gone.
            let _ = sender.send(news());
        }
    }
}

impl Waiter {
    /// The next news. Never ends when nothing comes any more: the caller bounds the time.
    pub async fn next(&mut self) -> News {
        match self.news.recv().await {
            Ok(news) => news,
            Err(broadcast::error::RecvError::Lagged(_)) => News::Look,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waiters.count.fetch_sub(1, Ordering::AcqRel);
        let Ok(mut waiting) = self.waiters.waiting.lock() else { return };
        if let Some((_, count)) = waiting.get_mut(&self.task_id) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.task_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_of_it_and_nothing_stays_behind() {
        let waiters = Arc::new(Waiters::default());
        assert!(!waiters.any());
        let (mut one, mut two) = (waiters.wait("a"), waiters.wait("a"));
        assert!(waiters.any());
        waiters.tell("b", || unreachable!());
        waiters.tell("a", || News::Look);
        assert_eq!((one.next().await, two.next().await), (News::Look, News::Look));
        drop((one, two));
        assert!(waiters.waiting.lock().unwrap().is_empty() && !waiters.any());
        waiters.tell("a", || unreachable!());
    }
}
