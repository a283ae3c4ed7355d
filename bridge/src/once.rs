//! One event, one message: a repeat is answered with the first answer, and a repeat that comes while the first is under
//! way waits for it.
//!
//! Only 2xx answers are remembered: after a refusal the sender's next attempt is a first one again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::accept::Accepted;
use crate::window::Window;

/// What makes two requests the same: a hash.
pub type Key = [u8; 32];

/// How long the mark of an attempt under way may stand. Longer than any attempt takes, since each step has a deadline of
/// its own; it only bounds what a defect could do.
const UNDER_WAY: Duration = Duration::from_secs(300);

/// The window of recent requests.
#[derive(Clone)]
pub struct Once {
    entries: Arc<Mutex<Window<Key, Entry>>>,
}

enum Entry {
    UnderWay(watch::Receiver<()>),
    Answered(Accepted),
}

/// What a request turns out to be.
pub enum Begun {
    /// The first of its kind: the caller does the work and ends its turn.
    First(Turn),
    /// A repeat, with the first one's answer.
    Repeat(Accepted),
}

/// The right to do the work. Dropped without [`done`](Self::done) it passes to whoever waits or comes next.
pub struct Turn {
    once: Once,
    key: Key,
    /// Dropping it wakes those who wait.
    wake: watch::Sender<()>,
    done: bool,
}

impl Once {
    /// Remembers at most `capacity` requests.
    pub fn new(capacity: usize) -> Self {
        Self { entries: Arc::new(Mutex::new(Window::new(capacity))) }
    }

    /// Is this a first request or a repeat? Waits while the first is under way.
    pub async fn begin(&self, key: Key) -> Begun {
        loop {
            let mut waiting = {
                let mut entries = self.lock();
                let now = Instant::now();
                match entries.get(&key, now) {
                    Some(Entry::Answered(answer)) => return Begun::Repeat(answer.clone()),
                    Some(Entry::UnderWay(end)) => end.clone(),
                    None => {
                        let (wake, end) = watch::channel(());
                        entries.insert(key, Entry::UnderWay(end), UNDER_WAY, now);
                        return Begun::First(Turn { once: self.clone(), key, wake, done: false });
                    }
                }
            };
            // An error is the end of the first attempt, which is what is waited for.
            let _ = waiting.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Window<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The work is done: repeats within `lasting` get this answer.
    pub fn done(mut self, answer: &Accepted, lasting: Duration) {
        self.done = true;
        self.once.lock().insert(self.key, Entry::Answered(answer.clone()), lasting, Instant::now());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let own = self.wake.subscribe();
        let mut entries = self.once.lock();
        // The mark may have been forgotten meanwhile, and another's turn begun or done.
        let stands = match entries.get(&self.key, Instant::now()) {
            Some(Entry::UnderWay(end)) => end.same_channel(&own),
            Some(Entry::Answered(_)) | None => false,
        };
        if stands {
            entries.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: &str) -> Accepted {
        Accepted::published(id, "exchange", "key", true)
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_wait_for_the_first_and_get_its_answer_until_the_window_ends() {
        let once = Once::new(10);
        let Begun::First(turn) = once.begin([1; 32]).await else { panic!("not the first") };
        let waiting = tokio::spawn({
            let once = once.clone();
            async move { matches!(once.begin([1; 32]).await, Begun::Repeat(answer) if answer.message_id == "m") }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        turn.done(&answer("m"), Duration::from_secs(60));
        assert!(waiting.await.unwrap());
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(matches!(once.begin([1; 32]).await, Begun::Repeat(_)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(once.begin([1; 32]).await, Begun::First(_)));
    }

    #[tokio::test]
    async fn after_a_failure_whoever_waits_has_the_next_turn() {
        let once = Once::new(10);
        let Begun::First(turn) = once.begin([1; 32]).await else { panic!("not the first") };
        let waiting = tokio::spawn({
            let once = once.clone();
            async move { matches!(once.begin([1; 32]).await, Begun::First(_)) }
        });
        tokio::task::yield_now().await;
        drop(turn);
        assert!(waiting.await.unwrap());
        assert!(matches!(once.begin([2; 32]).await, Begun::First(_)));
    }

    #[tokio::test]
    async fn a_turn_whose_mark_was_forgotten_takes_nobody_elses_along() {
        let once = Once::new(1);
        let Begun::First(first) = once.begin([1; 32]).await else { panic!("not the first") };
        assert!(matches!(once.begin([2; 32]).await, Begun::First(_)), "it takes the room");
        let Begun::First(second) = once.begin([1; 32]).await else { panic!("its mark is forgotten") };
        drop(first);
        let waiting = tokio::spawn({
            let once = once.clone();
            async move { matches!(once.begin([1; 32]).await, Begun::Repeat(answer) if answer.message_id == "m") }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "the second is under way");
        second.done(&answer("m"), Duration::from_secs(60));
        assert!(waiting.await.unwrap());
    }
}
