//! Events that were accepted while the broker was away: fsynced here before the sender hears 202, published in order per
//! source when the broker is back.
//!
//! One SQLite file, one thread that owns it. Appends that wait for each other are committed together, so a storm costs
//! one fsync per batch and not per event. What was accepted is never dropped: at the bounds of bytes and age the *new*
//! event is refused instead, and its sender told so.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pulse::Message;
use tokio::sync::{Notify, mpsc, oneshot};

mod table;
#[cfg(test)]
mod tests;
mod writer;

use table::Table;
pub use table::{HEADER_COUNT, Stored};
use writer::Job;

/// Requests that wait for the file; the senders behind them wait too.
const QUEUE: usize = 1024;

/// What a usual event needs; with less room the spool counts as full in health, whatever smaller ones it may still take.
const USUAL_EVENT_BYTES: u64 = 1024;

/// Most keys that coalescing may hold back at a time; each costs a row with a message.
const MAX_HELD: u64 = 10_000;

/// The bounds of a spool.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Largest sum of the messages' sizes, in bytes: of those that wait and of those that coalescing holds back.
    pub max_bytes: u64,
    /// Once the oldest event has waited so long, no more are accepted.
    pub max_age: Duration,
}

/// Why an event was not kept. The caller answers 503.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// At its bounds.
    #[error("the spool is full: {0}")]
    Full(String),
    /// The file does not work.
    #[error("the spool does not work: {0}")]
    Failed(String),
}

impl SpoolError {
    /// What strangers are told.
    pub fn outside(&self) -> &'static str {
        match self {
            Self::Full(_) => "the spool is full",
            Self::Failed(_) => "the spool does not work",
        }
    }
}

/// What lies in the spool.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// Events that wait for the broker.
    pub events: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Age of the oldest, in seconds.
    pub oldest_seconds: u64,
    /// Events that the broker did not take and that were set aside, until [`Spool::restore`].
    pub refused: u64,
    /// Keys whose events are being held back by coalescing.
    pub held: u64,
    /// The size of what is held back, in bytes.
    #[serde(default)]
    pub held_bytes: u64,
}

#[derive(Default)]
struct State {
    sources: HashMap<String, u64>,
    events: u64,
    bytes: u64,
    /// Unix milliseconds.
    oldest: Option<i64>,
    refused: u64,
    held: u64,
    held_bytes: u64,
    /// Unix milliseconds.
    next_due: Option<i64>,
    /// Why the last write failed.
    failure: Option<String>,
}

/// The spool.
pub struct Spool {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    state: Arc<Mutex<State>>,
    /// Something new lies in it.
    pub filled: Arc<Notify>,
    bounds: Bounds,
}

impl Spool {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// Text for people: the path and what is wrong with it.
    pub fn open(path: &Path, bounds: Bounds) -> Result<Self, String> {
        let table =
            Table::open(path).map_err(|error| format!("bridge.spool: {}: {error}", path.display()))?;
        let mut state = State::default();
        table
            .count(|source, events, bytes| {
                state.sources.insert(source, events);
                state.events += events;
                state.bytes += bytes;
            })
            .and_then(|()| {
                state.oldest = table.oldest()?;
                state.next_due = table.next_due()?;
                state.refused = table.refused()?;
                (state.held, state.held_bytes) = table.held()?;
                Ok(())
            })
            .map_err(|error| format!("bridge.spool: {}: {error}", path.display()))?;
        let state = Arc::new(Mutex::new(state));
        let (jobs, receiver) = mpsc::channel(QUEUE);
        let filled = Arc::new(Notify::new());
        let thread = std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn({
                let (state, filled) = (Arc::clone(&state), Arc::clone(&filled));
                move || writer::run(table, receiver, &state, &filled)
            })
            .map_err(|error| format!("bridge.spool: cannot start its thread: {error}"))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), state, filled, bounds })
    }

    /// True if events of this source wait, or are about to: newer ones must wait behind them.
    pub fn holds(&self, source: &str) -> bool {
        lock(&self.state).sources.get(source).is_some_and(|events| *events > 0)
    }

    /// Sources of which events wait.
    pub fn sources(&self) -> Vec<String> {
        let state = lock(&self.state);
        state.sources.iter().filter(|(_, events)| **events > 0).map(|(source, _)| source.clone()).collect()
    }

    /// What lies in it. `now`: Unix milliseconds.
    pub fn contents(&self, now: i64) -> Contents {
        let state = lock(&self.state);
        Contents {
            events: state.events,
            bytes: state.bytes,
            oldest_seconds: state
                .oldest
                .map_or(0, |oldest| u64::try_from((now - oldest) / 1000).unwrap_or(0)),
            refused: state.refused,
            held: state.held,
            held_bytes: state.held_bytes,
        }
    }

    /// Whether it would take one more event of usual size now, as far as it knows.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, now: i64) -> Result<(), SpoolError> {
        let state = lock(&self.state);
        match &state.failure {
            Some(reason) => Err(SpoolError::Failed(reason.clone())),
            None => self.check_state(&state, USUAL_EVENT_BYTES, now),
        }
    }

    /// When the next held event is due, in Unix milliseconds.
    pub fn next_due(&self) -> Option<i64> {
        lock(&self.state).next_due
    }

    /// Keeps an event; returns once it is fsynced. `now`: Unix milliseconds.
    ///
    /// # Errors
    /// See [`SpoolError`]; then nothing was kept.
    pub async fn append(&self, source: &str, message: &Message, now: i64) -> Result<(), SpoolError> {
        // A place in the queue first: from the count to the hand-over nothing waits, so a sender that goes away meanwhile
        // leaves no count behind.
        let place = self.jobs()?.reserve().await.map_err(|_| gone())?;
        let size = self.reserve(source, message, now)?;
        let (reply, answer) = oneshot::channel();
        place.send(Job::Append { source: source.to_owned(), message: message.clone(), size, now, reply });
        answer.await.map_err(|_| gone())?
    }

    /// Keeps an event until `due` (Unix milliseconds) as the latest of its `key`, in place of the one before; returns
    /// once it is fsynced. The first of a key sets the time. One that is not larger than the one before is taken also where there is no room
    /// for another.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub async fn hold(
        &self,
        source: &str,
        key: [u8; 32],
        message: &Message,
        due: i64,
        now: i64,
    ) -> Result<(), SpoolError> {
        // As for an append: counted before it is written, and nothing waits in between.
        let place = self.jobs()?.reserve().await.map_err(|_| gone())?;
        let size = table::size(message);
        let room = {
            let mut state = lock(&self.state);
            let room = self.check_state(&state, size, now);
            state.held_bytes += size;
            room
        };
        let (reply, answer) = oneshot::channel();
        let (source, message) = (source.to_owned(), message.clone());
        place.send(Job::Hold { source, key, message, size, room, due, reply });
        answer.await.map_err(|_| gone())?
    }

    /// Moves some of what is due from the held events to the waiting ones; what is left is due still.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub async fn release(&self, now: i64) -> Result<(), SpoolError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Release { now, reply }, answer).await?
    }

    /// The oldest events of a source.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub async fn oldest(&self, source: &str, limit: u32) -> Result<Vec<Stored>, SpoolError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Oldest { source: source.to_owned(), limit, reply }, answer).await?
    }

    /// Forgets events that are on pulse.
    ///
    /// # Errors
    /// See [`SpoolError`]; then they will be published once more, with the same ids.
    pub async fn remove(&self, source: &str, ids: Vec<i64>) -> Result<(), SpoolError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Remove { source: source.to_owned(), ids, reply }, answer).await?
    }

    /// Sets an event aside that the broker will never take.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub async fn refuse(&self, source: &str, id: i64, reason: String) -> Result<(), SpoolError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Refuse { source: source.to_owned(), id, reason, reply }, answer).await?
    }

    /// Has every event that was set aside wait for the broker once more, behind those that do; returns how many.
    ///
    /// # Errors
    /// See [`SpoolError`]; then they stay where they are.
    pub async fn restore(&self) -> Result<u64, SpoolError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Restore { reply }, answer).await?
    }

    fn reserve(&self, source: &str, message: &Message, now: i64) -> Result<u64, SpoolError> {
        let size = table::size(message);
        let mut state = lock(&self.state);
        self.check_state(&state, size, now)?;
        // Counted before it is written, so that a newer event of the source cannot overtake it meanwhile.
        *state.sources.entry(source.to_owned()).or_default() += 1;
        state.events += 1;
        state.bytes += size;
        state.oldest.get_or_insert(now);
        Ok(size)
    }

    fn check_state(&self, state: &State, size: u64, now: i64) -> Result<(), SpoolError> {
        let bytes = state.bytes.saturating_add(state.held_bytes);
        if bytes.saturating_add(size) > self.bounds.max_bytes {
            return Err(SpoolError::Full(format!("it may hold {} bytes", self.bounds.max_bytes)));
        }
        let age =
            Duration::from_millis(state.oldest.map_or(0, |oldest| u64::try_from(now - oldest).unwrap_or(0)));
        if age > self.bounds.max_age {
            return Err(SpoolError::Full(format!(
                "its oldest event has waited for {} seconds",
                age.as_secs()
            )));
        }
        Ok(())
    }

    async fn ask<T>(&self, job: Job, answer: oneshot::Receiver<T>) -> Result<T, SpoolError> {
        self.jobs()?.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    fn jobs(&self) -> Result<&mpsc::Sender<Job>, SpoolError> {
        self.jobs.as_ref().ok_or_else(gone)
    }
}

/// The file is closed when this returns: another spool may open it.
impl Drop for Spool {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told so already.
            let _ = thread.join();
        }
    }
}

fn gone() -> SpoolError {
    SpoolError::Failed("its thread has ended".to_owned())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
