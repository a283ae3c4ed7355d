//! How much waits for each hook, and how old it is. Asked of the broker a few queues at a time, so that ten thousand hooks
//! cost it no more than ten do.
//!
//! RabbitMQ does not tell a message's age without giving the message away. Of a hook that is consumed the oldest message is
//! the first one that waits in the intake; of one that is not it is at least so old as messages have been seen to wait.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use pulse::Status;

use super::registry::LiveHook;
use super::{Inner, Taking, now_ms};
use crate::hook::HookName;

/// Queues that are asked for in a second: a look is a request of some tenths of a millisecond to the broker.
const LOOKS_PER_SECOND: usize = 50;

/// So many of them at the same time.
const LOOKS_AT_ONCE: usize = 4;

/// A look that takes longer has failed.
const LOOK: Duration = Duration::from_secs(5);

/// The store is asked for its figures once in so many seconds.
const STORE_EVERY: u32 = 15;

/// What is known of the queues.
#[derive(Default)]
pub(super) struct Depths {
    known: Mutex<HashMap<Arc<str>, Depth>>,
}

#[derive(Clone, Copy)]
struct Depth {
    messages: u64,
    /// Since when messages wait and nobody takes any: milliseconds since the epoch.
    unattended_since: Option<i64>,
}

/// How much waits for one hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The hook.
    pub hook: HookName,
    /// Messages in its queue at the broker, as last seen, and in the router.
    pub messages: u64,
    /// At least so old is the oldest of them.
    pub oldest: Duration,
}

impl Depths {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Depth>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, queue: Arc<str>, messages: u64, attended: bool) {
        let mut known = self.lock();
        let before = known.get(&queue).and_then(|depth| depth.unattended_since);
        let unattended_since = (messages > 0 && !attended).then(|| before.unwrap_or_else(now_ms));
        known.insert(queue, Depth { messages, unattended_since });
    }
}

impl Inner {
    /// Looks at one queue after the other until the router stops.
    pub(super) async fn keep_depths(self: Arc<Self>) {
        let mut left: Vec<Arc<LiveHook>> = Vec::new();
        let mut seconds = 0_u32;
        loop {
            if left.is_empty() {
                left = self.registry.all();
                self.depths.lock().retain(|queue, _| self.registry.get(queue).is_some());
            }
            if *self.transport.status().borrow() == Status::Up {
                let next: Vec<_> = left.drain(..left.len().min(LOOKS_PER_SECOND)).collect();
                stream::iter(next)
                    .for_each_concurrent(LOOKS_AT_ONCE, async |hook| {
                        let looked = tokio::time::timeout(LOOK, self.transport.waiting(&hook.queue)).await;
                        if let Ok(Ok(messages)) = looked {
                            self.depths.saw(hook.queue.clone(), messages, self.is_attended(&hook));
                        }
                    })
                    .await;
            }
            if seconds.is_multiple_of(STORE_EVERY) {
                match self.store.figures().await {
                    Ok(figures) => self.gauges.store(figures),
                    Err(error) => tracing::debug!(%error, "cannot count the dead letters"),
                }
            }
            seconds = seconds.wrapping_add(1);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Whether somebody takes messages from the hook's queue.
    fn is_attended(&self, hook: &LiveHook) -> bool {
        hook.hook.paused != Some(true)
            && *self.taking.borrow() == Taking::Yes
            && hook.shared.throttle.paused_for(tokio::time::Instant::now()).is_none()
            && self.registry.health(&hook.queue).error.is_none()
    }

    /// What waits for each hook for which anything waits.
    pub(super) fn backlogs(&self) -> Vec<Backlog> {
        let now = now_ms();
        let age = |since: i64| Duration::from_millis(u64::try_from(now - since).unwrap_or_default());
        let known = self.depths.lock().clone();
        let backlog = |hook: Arc<LiveHook>| {
            let depth = known.get(&hook.queue);
            let held = hook.shared.held.load(Ordering::Relaxed) as u64;
            let oldest_held = match hook.shared.oldest_held.load(Ordering::Relaxed) {
                0 => Duration::ZERO,
                since => age(since),
            };
            let unattended = depth.and_then(|depth| depth.unattended_since).map_or(Duration::ZERO, age);
            let messages = depth.map_or(0, |depth| depth.messages) + held;
            let oldest = oldest_held.max(unattended);
            (messages > 0).then(|| Backlog { hook: hook.name.clone(), messages, oldest })
        };
        self.registry.all().into_iter().filter_map(backlog).collect()
    }
}
