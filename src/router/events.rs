//! Fire events: what became of each fire, published so that anyone can build on it.
//!
//! Ended fires are published in the order of their sequence numbers, and up to where that has come is remembered in the store.
//! So an event is published at least once, whatever stops in between; subscribers merge by `message-id`. Events are handed
//! over in memory as fires end; what was not, or no longer is there, is read from the store.

mod event;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(super) use event::Origin;
use pulse::{Message, PublishError};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Inner;

/// Events that are published at a time.
const AT_ONCE: usize = 500;

/// Fewer than that follow each other no faster than this: many events in one go cost the broker and us less.
const PACE: Duration = Duration::from_millis(50);

/// Events that wait in memory; further ones are read from the store.
const WAITING: usize = 4_096;

/// The watermark is written this often: what was published after it is published again after a crash.
const WATERMARK_EVERY: Duration = Duration::from_secs(1);

/// The wait before a batch is repeated while the broker is away.
const RETRY: Duration = Duration::from_secs(1);

/// What the publisher is to publish.
pub(super) struct Events {
    wake: Notify,
    /// Some ended fires are in the store only.
    in_store: AtomicBool,
    /// By sequence number, ascending.
    ready: Mutex<VecDeque<(i64, Message)>>,
    /// The sequence number up to which all are published.
    published: AtomicI64,
    /// The same, as the store has it.
    watermark: AtomicI64,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            wake: Notify::new(),
            // What had ended before the start.
            in_store: AtomicBool::new(true),
            ready: Mutex::default(),
            published: AtomicI64::new(0),
            watermark: AtomicI64::new(0),
        }
    }
}

/// Where the next events come from.
enum Next {
    /// From memory, up to this sequence number.
    Ready(Vec<Message>, i64),
    /// From the store; what it does not have up to this number is open again and has no event.
    InStore(i64),
    None,
}

impl Events {
    /// A fire has ended and is committed: there is something to publish, and the store knows what.
    pub fn ended(&self) {
        self.in_store.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Fires have ended and are committed, with these events; `None` for those that the store knows. In the order of their
    /// sequence numbers.
    pub fn ended_as(&self, events: impl Iterator<Item = (i64, Option<Message>)>) {
        let mut ready = self.lock();
        for (seq, event) in events {
            match event {
                Some(event) if ready.len() < WAITING => ready.push_back((seq, event)),
                _ => self.in_store.store(true, Ordering::Release),
            }
        }
        drop(ready);
        self.wake.notify_one();
    }

    /// What follows upon a sequence number.
    fn after(&self, published: i64) -> Next {
        let mut ready = self.lock();
        while ready.front().is_some_and(|(seq, _)| *seq <= published) {
            ready.pop_front();
        }
        let follows = |(place, (seq, _)): (usize, &(i64, Message))| *seq == published + 1 + place as i64;
        let count = ready.iter().take(AT_ONCE).enumerate().take_while(|event| follows(*event)).count();
        if count > 0 {
            let events = ready.drain(..count).map(|(_, event)| event).collect();
            return Next::Ready(events, published + count as i64);
        }
        let gap = ready.front().map(|(seq, _)| seq - 1);
        if self.in_store.swap(false, Ordering::AcqRel) || gap.is_some() {
            // Who is handed over is committed, and so are all before it.
            Next::InStore(gap.unwrap_or(published))
        } else {
            Next::None
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(i64, Message)>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Runs until the router stops.
    pub(super) async fn publish_events(self: Arc<Self>) {
        let mut published = loop {
            match self.store.published_watermark().await {
                Ok(seq) => break seq,
                Err(error) => {
                    tracing::error!(%error, "cannot read up to where fire events were published");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        self.events.published.store(published, Ordering::Release);
        self.events.watermark.store(published, Ordering::Release);
        let mut remember_at = Instant::now() + WATERMARK_EVERY;
        let mut next = Instant::now();
        loop {
            tokio::time::sleep_until(next).await;
            let mut idle = false;
            let (events, last) = match self.events.after(published) {
                Next::Ready(events, last) => (events, last),
                Next::InStore(known) => match self.store.ended_fires(published, AT_ONCE as u32).await {
                    Ok(ended) => {
                        if ended.len() == AT_ONCE {
                            self.events.in_store.store(true, Ordering::Release);
                        }
                        let last = ended.last().map_or(known, |summary| summary.ended_seq);
                        (ended.iter().filter_map(|summary| self.event_of_stored(summary)).collect(), last)
                    }
                    Err(error) => {
                        tracing::error!(%error, "cannot read ended fires");
                        self.events.in_store.store(true, Ordering::Release);
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                },
                Next::None => {
                    idle = true;
                    (Vec::new(), published)
                }
            };
            if !events.is_empty() {
                if events.len() < AT_ONCE {
                    next = Instant::now() + PACE;
                }
                if !self.publish_all(events).await {
                    // The same again, from the store.
                    self.events.in_store.store(true, Ordering::Release);
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                pulse::crash::point("router.published");
            }
            published = last;
            self.events.published.store(published, Ordering::Release);
            if Instant::now() >= remember_at {
                self.remember_published().await;
                remember_at = Instant::now() + WATERMARK_EVERY;
            }
            if idle {
                let wake = self.events.wake.notified();
                if self.events.watermark.load(Ordering::Acquire) == published {
                    wake.await;
                } else {
                    // Either way there is something to do.
                    let _ = tokio::time::timeout_at(remember_at, wake).await;
                }
            }
        }
    }

    /// Stores up to where events are published, unless that is what is stored.
    pub(super) async fn remember_published(&self) {
        let published = self.events.published.load(Ordering::Acquire);
        if self.events.watermark.load(Ordering::Acquire) == published {
            return;
        }
        match self.store.set_published_watermark(published).await {
            Ok(()) => self.events.watermark.store(published, Ordering::Release),
            Err(error) => tracing::error!(%error, "cannot store up to where fire events were published"),
        }
    }

    /// Answers false when the broker is away and they must be published again.
    async fn publish_all(&self, events: Vec<Message>) -> bool {
        let mut published = true;
        for answer in self.transport.publish_all(events, false).await {
            match answer {
                Ok(_) => {}
                Err(PublishError::Unavailable(reason)) => {
                    tracing::debug!(reason, "cannot publish a fire event yet");
                    published = false;
                }
                Err(PublishError::Refused(reason)) => {
                    tracing::warn!(reason, "the broker refused a fire event");
                }
            }
        }
        published
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64) -> Message {
        Message { routing_key: seq.to_string(), ..Message::default() }
    }

    fn described(next: Next) -> String {
        match next {
            Next::Ready(events, last) => {
                let keys: Vec<_> = events.iter().map(|event| event.routing_key.as_str()).collect();
                format!("{} up to {last}", keys.join(" "))
            }
            Next::InStore(known) => format!("in store up to {known}"),
            Next::None => "none".into(),
        }
    }

    #[test]
    fn what_was_handed_over_without_a_gap_needs_no_look_into_the_store() {
        let events = Events::default();
        assert_eq!(described(events.after(3)), "in store up to 3", "at first");
        assert_eq!(described(events.after(3)), "none");
        events.ended_as((2..=5).map(|seq| (seq, Some(event(seq)))));
        assert_eq!(described(events.after(3)), "4 5 up to 5");
        assert_eq!(described(events.after(5)), "none");
        events.ended_as([(7, Some(event(7)))].into_iter());
        assert_eq!(described(events.after(5)), "in store up to 6", "6 was not handed over");
        assert_eq!(described(events.after(6)), "7 up to 7");
        events.ended_as([(8, Some(event(8))), (9, None), (10, Some(event(10)))].into_iter());
        assert_eq!(described(events.after(7)), "8 up to 8");
        assert_eq!(described(events.after(8)), "in store up to 9");
        assert_eq!(described(events.after(9)), "10 up to 10");
        assert_eq!(described(events.after(10)), "none");
        events.ended();
        assert_eq!(described(events.after(10)), "in store up to 10");
    }

    #[test]
    fn what_waits_in_memory_is_bounded_and_the_rest_is_in_the_store() {
        let events = Events::default();
        let many = WAITING as i64 + 10;
        events.ended_as((1..=many).map(|seq| (seq, Some(event(seq)))));
        let mut published = 0;
        while let Next::Ready(messages, last) = events.after(published) {
            assert!(messages.len() <= AT_ONCE);
            published = last;
        }
        assert_eq!(published, WAITING as i64);
    }
}
