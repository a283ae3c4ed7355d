//! The intake: takes deliveries of all hooks from one channel and lets each hook have its turn.
//!
//! Deliveries wait per hook (as many as its prefetch allows) and leave in small batches, hook after hook, so a hook
//! with a backlog of a hundred thousand holds up a quiet one by a few batches at most. A hook whose pending fires are
//! at their bound waits, and so do all when the bound of all is reached: the rest waits in the broker.

mod waiting;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pulse::Delivery;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use waiting::Waiting;

use super::gate::GateState;
use super::registry::LiveHook;
use super::throttle::Held;
use super::{Inner, Taking};

/// Messages of one hook that are decided and recorded together.
const BATCH: usize = 128;

/// Batches of one hook at a time: one is decided while another is committed.
const BATCHES_PER_HOOK: usize = 4;

/// Batches of all hooks at a time.
const BATCHES: usize = 32;

/// Deliveries that are taken from the channel at once.
const TAKEN_AT_ONCE: usize = 1_024;

/// When what waits here exceeds its bound of bytes, a hook with this share of them gets few messages in advance from then on: the broker
/// counts messages, and a thousand of them may be as large as the memory.
const HEAVY: usize = 16;

/// What the intake hears from the rest of the router.
pub(super) enum Heard {
    /// A batch of this queue is done; these messages of it are still to be decided, and the hook rests before.
    Batch { queue: Arc<str>, rest: Rest },
    /// Fires of this queue have ended, after it had been full.
    Room(Arc<str>),
    /// The rate limit, or its pace, lets this queue go on.
    Leave(Arc<str>),
    /// The hook of this queue is deleted, or its messages are to wait in the broker: what waits here is handed over.
    GiveUp(Arc<str>, oneshot::Sender<Vec<Delivery>>),
}

/// What a batch leaves behind.
#[derive(Default)]
pub(super) struct Rest {
    /// Messages that it did not come to.
    pub undecided: Vec<Delivery>,
    /// For how long the hook is not to be decided.
    pub pause: Duration,
}

pub(super) struct Intake {
    inner: Arc<Inner>,
    hooks: HashMap<Arc<str>, Waiting>,
    ring: VecDeque<Arc<str>>,
    batches: usize,
    heard: mpsc::UnboundedSender<Heard>,
}

impl Intake {
    /// Runs until the router stops. `deliveries` is the sink of every hook's consumer.
    pub(super) async fn run(
        inner: Arc<Inner>,
        mut deliveries: mpsc::Receiver<Delivery>,
        heard: mpsc::UnboundedSender<Heard>,
        mut hearing: mpsc::UnboundedReceiver<Heard>,
    ) {
        let mut intake = Intake { inner, hooks: HashMap::new(), ring: VecDeque::new(), batches: 0, heard };
        let mut gate = intake.inner.gate.watch();
        let mut taking = intake.inner.taking.subscribe();
        let mut taken = Vec::with_capacity(TAKEN_AT_ONCE);
        loop {
            tokio::select! {
                () = intake.inner.stop.cancelled() => return,
                count = deliveries.recv_many(&mut taken, TAKEN_AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    for delivery in taken.drain(..) {
                        intake.arrived(delivery);
                    }
                }
                Some(heard) = hearing.recv() => {
                    // What was delivered before is here before it is acted upon.
                    while let Ok(delivery) = deliveries.try_recv() {
                        intake.arrived(delivery);
                    }
                    intake.hear(heard);
                }
                changed = gate.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                changed = taking.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            while let Ok(heard) = hearing.try_recv() {
                intake.hear(heard);
            }
            intake.start_batches();
        }
    }

    fn arrived(&mut self, delivery: Delivery) {
        if *self.inner.taking.borrow() == Taking::No {
            delivery.retry();
            return;
        }
        self.inner.latest_generation.fetch_max(delivery.generation, Ordering::AcqRel);
        let waiting = self.hooks.entry(delivery.queue.clone()).or_default();
        if !waiting.in_ring && !waiting.held {
            waiting.in_ring = true;
            self.ring.push_back(delivery.queue.clone());
        }
        let queue = delivery.queue.clone();
        waiting.given_up = false;
        waiting.push(delivery);
        let most = self.inner.config.router.held_megabytes as usize * 1024 * 1024;
        let (first, heavy) = (waiting.deliveries.len() == 1, waiting.bytes > most / HEAVY);
        if first {
            self.tell_held(&queue);
        }
        if heavy && self.hooks.values().map(|waiting| waiting.bytes).sum::<usize>() > most {
            self.inner.give_less(&queue);
        }
    }

    /// Notes how much of a hook's waits here, for whoever asks.
    fn tell_held(&self, queue: &str) {
        let Some(hook) = self.inner.registry.get(queue) else { return };
        let deliveries = self.hooks.get(queue).map(|waiting| &waiting.deliveries);
        let oldest = deliveries.and_then(VecDeque::front).map_or(0, |delivery| {
            let sent = delivery.message.properties.timestamp.and_then(|sent| i64::try_from(sent).ok());
            sent.map_or_else(super::now_ms, |sent| sent.saturating_mul(1000)).max(1)
        });
        hook.shared.held.store(deliveries.map_or(0, VecDeque::len), Ordering::Relaxed);
        hook.shared.oldest_held.store(oldest, Ordering::Relaxed);
    }

    fn hear(&mut self, heard: Heard) {
        let queue = match heard {
            Heard::Batch { queue, rest } => {
                self.batches -= 1;
                if let Some(waiting) = self.hooks.get_mut(&queue) {
                    waiting.batches -= 1;
                    if !waiting.given_up {
                        waiting.put_back(rest.undecided);
                    }
                    if !rest.pause.is_zero() && !waiting.held {
                        waiting.held = true;
                        call_back(&self.inner, &self.heard, &queue, Instant::now() + rest.pause);
                    }
                }
                queue
            }
            Heard::Room(queue) => queue,
            Heard::GiveUp(queue, reply) => {
                let waiting = self.hooks.get_mut(&queue).map(|waiting| {
                    waiting.given_up = true;
                    waiting.give_up()
                });
                // Who asked may have gone: then the deliveries go back, as all that are dropped.
                let _ = reply.send(waiting.unwrap_or_default());
                self.tell_held(&queue);
                queue
            }
            Heard::Leave(queue) => {
                if let Some(waiting) = self.hooks.get_mut(&queue) {
                    waiting.held = false;
                }
                queue
            }
        };
        let Some(waiting) = self.hooks.get_mut(&queue) else { return };
        if waiting.deliveries.is_empty() {
            if waiting.batches == 0 {
                self.hooks.remove(&queue);
            }
        } else if !waiting.in_ring && !waiting.held {
            waiting.in_ring = true;
            self.ring.push_back(queue);
        }
    }

    fn start_batches(&mut self) {
        let inner = self.inner.clone();
        if matches!(*inner.gate.watch().borrow(), GateState::Closed { .. }) {
            if *inner.taking.borrow() == Taking::No {
                self.hooks.values_mut().for_each(|waiting| drop(waiting.give_up()));
                self.hooks.keys().for_each(|queue| self.tell_held(queue));
            }
            return;
        }
        // Turn after turn, until a whole round has started nothing.
        while self.start_round(&inner) {}
    }

    /// Gives each hook that has messages one turn. Answers whether any batch was started.
    fn start_round(&mut self, inner: &Arc<Inner>) -> bool {
        let bounds = &inner.config.router;
        let mut started = false;
        for _ in 0..self.ring.len() {
            if self.batches >= BATCHES || inner.load.is_full(bounds) {
                return false;
            }
            let Some(queue) = self.ring.pop_front() else { return false };
            let Some(waiting) = self.hooks.get_mut(&queue) else { continue };
            waiting.in_ring = false;
            let Some(hook) = inner.registry.get(&queue) else {
                // Deleted: its queue is being deleted too, and these messages with it.
                drop(waiting.give_up());
                continue;
            };
            if hook.hook.paused == Some(true) {
                // They are about to go back.
                continue;
            }
            let pending = hook.shared.pending.load(Ordering::Acquire);
            let room = (bounds.pending_fires_per_hook as usize).saturating_sub(pending);
            if room == 0 {
                hook.shared.full.store(true, Ordering::Release);
                // A fire may have ended between the two looks.
                if hook.shared.pending.load(Ordering::Acquire) >= bounds.pending_fires_per_hook as usize {
                    continue;
                }
            }
            let pace = &hook.shared.pace;
            let (batches, most) = match (pace.is_slow(), pace.is_new()) {
                (true, _) => (1, 1),
                (_, true) => (1, BATCH),
                _ => (BATCHES_PER_HOOK, BATCH),
            };
            if waiting.batches >= batches || waiting.held {
                continue;
            }
            let count = waiting.deliveries.len().min(most).min(room.max(1));
            if count == 0 {
                continue;
            }
            let Some(count) = leave(inner, &self.heard, waiting, &queue, &hook, count) else { continue };
            let batch = waiting.take(count);
            waiting.batches += 1;
            self.batches += 1;
            if !waiting.deliveries.is_empty() {
                waiting.in_ring = true;
                self.ring.push_back(queue.clone());
            }
            self.tell_held(&queue);
            self.start(queue, hook, batch);
            started = true;
        }
        started
    }

    fn start(&self, queue: Arc<str>, hook: Arc<LiveHook>, batch: Vec<Delivery>) {
        let (inner, heard) = (self.inner.clone(), self.heard.clone());
        let reserved = batch.len();
        inner.load.reserve(&hook, reserved);
        self.inner.watch(async move {
            let (fires, rest) = inner.process(hook.clone(), batch).await;
            hook.shared.throttle.give_back(reserved - fires.min(reserved));
            inner.load.release(&hook, reserved - fires.min(reserved), 0, &heard);
            // The intake ends before its tasks when the router stops.
            let _ = heard.send(Heard::Batch { queue, rest });
        });
    }
}

/// How many of the messages may go on now. `None`: none; whoever lets them go on will be heard of, or they are about to go back.
fn leave(
    inner: &Arc<Inner>,
    heard: &mpsc::UnboundedSender<Heard>,
    waiting: &mut Waiting,
    queue: &Arc<str>,
    hook: &LiveHook,
    count: usize,
) -> Option<usize> {
    let take = || hook.shared.throttle.take(count, &inner.config.router.hook, Instant::now());
    let taken = match take() {
        Err(Held::Trial) => {
            hook.shared.full.store(true, Ordering::Release);
            // It may have ended between the two looks.
            take()
        }
        taken => taken,
    };
    match taken {
        Ok(count) => return Some(count),
        Err(Held::Rate(until)) => {
            waiting.held = true;
            call_back(inner, heard, queue, until);
        }
        Err(Held::Broken { until, news: true }) => inner.rest(hook, until),
        // The trial's end, or that of the pause, is heard of.
        Err(Held::Trial | Held::Broken { news: false, .. }) => {}
    }
    None
}

/// Lets the intake hear at that moment that the queue may go on.
fn call_back(inner: &Inner, heard: &mpsc::UnboundedSender<Heard>, queue: &Arc<str>, at: Instant) {
    let (heard, queue) = (heard.clone(), queue.clone());
    inner.spawn(async move {
        tokio::time::sleep_until(at).await;
        // The intake ends before its tasks when the router stops.
        let _ = heard.send(Heard::Leave(queue));
    });
}
