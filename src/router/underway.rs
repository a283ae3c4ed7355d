//! Fires under way: of each hook so many are submitted at a time, the others wait in the order in which they came.
//!
//! A fire that waits is a small thing in a queue. Who submits is one of the hook's lanes, a task that takes one fire after the
//! other until none is left; a fire that must be tried again later waits outside the lanes.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Inner;
use super::submit::{FIRST_BACKOFF, Settled, Submission};
use super::traces::Place;

/// A fire, and how far it has come.
pub(super) struct Underway {
    pub submission: Submission,
    pub place: Place,
    /// The frozen `now` of its first rendering: milliseconds since the epoch.
    pub fired_at: i64,
    /// Of its task, as it is accounted for.
    pub bytes: usize,
    pub begun: Instant,
    pub attempts: u32,
    /// The wait before the next attempt, should it need one.
    pub backoff: Duration,
    _counted: Counted,
}

/// Counts until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// See the module.
pub(super) struct Submitter {
    pub settled: mpsc::Sender<Settled>,
    lanes_per_hook: usize,
    /// By incarnation; those that have fires under way, except fires that are to be tried again later.
    hooks: Mutex<HashMap<i64, Lanes>>,
    count: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Lanes {
    open: usize,
    /// None while another lane may be opened.
    waiting: VecDeque<Box<Underway>>,
}

impl Submitter {
    pub fn new(lanes_per_hook: usize, settled: mpsc::Sender<Settled>) -> Self {
        Self { settled, lanes_per_hook, hooks: Mutex::default(), count: Arc::default() }
    }

    /// Fires under way, wherever they wait.
    pub fn in_flight(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Puts a fire at the end of its hook's queue. True: a lane is to be opened.
    fn add(&self, fire: Box<Underway>) -> bool {
        let mut hooks = self.lock();
        let lanes = hooks.entry(fire.submission.fire.incarnation).or_default();
        lanes.waiting.push_back(fire);
        let opens = lanes.open < self.lanes_per_hook;
        lanes.open += usize::from(opens);
        opens
    }

    /// The next fire of a hook for one of its lanes; `None` closes the lane.
    fn next(&self, incarnation: i64) -> Option<Box<Underway>> {
        let mut hooks = self.lock();
        let Entry::Occupied(mut lanes) = hooks.entry(incarnation) else { return None };
        let next = lanes.get_mut().waiting.pop_front();
        if next.is_none() {
            lanes.get_mut().open -= 1;
            if lanes.get().open == 0 {
                lanes.remove();
            }
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Lanes>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Starts a submission; its end arrives at [`Submitter::settled`].
    pub(super) fn submit(self: &Arc<Self>, submission: Submission) {
        let count = self.submitter.count.clone();
        count.fetch_add(1, Ordering::AcqRel);
        self.enqueue(Box::new(Underway {
            place: Place::new(&self.config.tracing, submission.fire.trace, &submission.fire.task_id),
            fired_at: submission.fire.rendered_at,
            bytes: submission.fire.task.len(),
            begun: Instant::now(),
            attempts: 0,
            backoff: FIRST_BACKOFF,
            submission,
            _counted: Counted(count),
        }));
    }

    /// The same for a fire that its hook's load does not include yet.
    pub(super) fn take_up(self: &Arc<Self>, submission: Submission) {
        self.load.reserve(&submission.hook, 1);
        self.load.bytes.fetch_add(submission.fire.task.len(), Ordering::AcqRel);
        self.submit(submission);
    }

    fn enqueue(self: &Arc<Self>, fire: Box<Underway>) {
        let incarnation = fire.submission.fire.incarnation;
        if self.submitter.add(fire) {
            self.watch(self.clone().lane(incarnation));
        }
    }

    /// Submits one fire of a hook after the other. What is not settled when the router stops is pending in the store, and goes on at
    /// the next start.
    async fn lane(self: Arc<Self>, incarnation: i64) {
        let mut stopped = pin!(self.stop.cancelled());
        while let Some(fire) = self.submitter.next(incarnation) {
            if self.stop.is_cancelled() {
                continue;
            }
            tokio::select! {
                biased;
                () = self.settle(fire) => {}
                () = &mut stopped => {}
            }
        }
    }

    /// Brings a fire back to the lanes after a wait, or when the queue service is found to work again.
    pub(super) async fn submit_later(self: Arc<Self>, fire: Box<Underway>, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.gate.reopened() => {}
            () = self.stop.cancelled() => return,
        }
        self.enqueue(fire);
    }
}
