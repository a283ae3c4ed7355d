//! Acknowledgements of one channel: many deliveries with few frames.
//!
//! Whoever consumed a delivery only drops a note here, without waiting. One task for each channel takes all notes there
//! are and settles them at once: what is acknowledged without a gap in one frame, the rest one by one. It does so every
//! few milliseconds: nobody waits for an acknowledgement, and each frame is a write of its own in a quorum queue's log.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use amqprs::channel::{BasicAckArguments, BasicNackArguments, Channel};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::transport::{Settle, Settlement};

/// So many notes are taken at once.
const BATCH: usize = 1024;

/// Frames follow upon those before no sooner, unless many notes or somebody wait.
const PACE: Duration = Duration::from_millis(20);

enum Note {
    End(u64, Settlement),
    /// Answered when everything before it is on its way to the broker.
    Flush(oneshot::Sender<()>),
}

/// Where the deliveries of one channel report their end. When the channel is gone so are its deliveries, as the broker sees
/// it, and reports lead nowhere.
pub(super) struct Settler {
    notes: mpsc::UnboundedSender<Note>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Ends that nothing was sent of yet.
    waiting: AtomicUsize,
    /// So many do not wait for others: half of what a consumer gets in advance, so that it always has some.
    enough: AtomicUsize,
    hurry: Notify,
}

impl Settler {
    /// Starts the channel's task, which ends with the channel or with the settler.
    ///
    /// The notes are bounded by what was delivered, which prefetch bounds.
    pub fn start(channel: Weak<Channel>) -> Arc<Self> {
        let (settler, inbox) = Self::new();
        tokio::spawn(run(channel, inbox));
        Arc::new(settler)
    }

    fn new() -> (Self, Inbox) {
        let (sender, notes) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { enough: BATCH.into(), ..Shared::default() });
        (Self { notes: sender, shared: shared.clone() }, Inbox { notes, shared, next: Instant::now() })
    }

    /// From now on there is a consumer that gets so many messages in advance.
    pub fn serves(&self, prefetch: u16) {
        self.shared.enough.fetch_min(usize::from(prefetch / 2).max(1), Ordering::Relaxed);
    }

    /// Returns when everything that was settled before is on its way to the broker.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.notes.send(Note::Flush(done)).is_ok() {
            self.shared.hurry.notify_one();
            let _ = flushed.await;
        }
    }
}

impl Settle for Settler {
    fn settle(&self, tag: u64, how: Settlement) {
        if self.notes.send(Note::End(tag, how)).is_ok()
            && self.shared.waiting.fetch_add(1, Ordering::Relaxed) + 1
                == self.shared.enough.load(Ordering::Relaxed)
        {
            self.shared.hurry.notify_one();
        }
    }
}

/// What is to be settled together.
struct Inbox {
    notes: mpsc::UnboundedReceiver<Note>,
    shared: Arc<Shared>,
    /// When frames may follow upon those before.
    next: Instant,
}

impl Inbox {
    /// Puts at least one note into `into`; answers false when there will be none.
    async fn take(&mut self, into: &mut Vec<Note>) -> bool {
        if self.notes.recv_many(into, BATCH).await == 0 {
            return false;
        }
        tokio::select! {
            () = sleep_until(self.next) => {}
            () = self.shared.hurry.notified() => {}
        }
        self.next = Instant::now() + PACE;
        self.shared.waiting.store(0, Ordering::Relaxed);
        while into.len() < BATCH
            && let Ok(note) = self.notes.try_recv()
        {
            into.push(note);
        }
        true
    }
}

async fn run(channel: Weak<Channel>, mut inbox: Inbox) {
    let mut tracker = Tracker::default();
    let mut notes = Vec::with_capacity(BATCH);
    while inbox.take(&mut notes).await {
        let Some(channel) = channel.upgrade() else { return };
        let mut ends = Vec::with_capacity(notes.len());
        let mut flushes = Vec::new();
        for note in notes.drain(..) {
            match note {
                Note::End(tag, how) => ends.push((tag, how)),
                Note::Flush(done) => flushes.push(done),
            }
        }
        for frame in tracker.plan(ends) {
            // On a closed channel a frame would make the broker close the whole connection.
            if !channel.is_open() {
                return;
            }
            let sent = match frame {
                Frame::Ack { tag, multiple } => {
                    channel.basic_ack(BasicAckArguments::new(tag, multiple)).await
                }
                Frame::Nack { tag, requeue } => {
                    channel.basic_nack(BasicNackArguments::new(tag, false, requeue)).await
                }
            };
            if sent.is_err() {
                return;
            }
        }
        for done in flushes {
            let _ = done.send(());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Ack { tag: u64, multiple: bool },
    Nack { tag: u64, requeue: bool },
}

/// Knows which of the channel's delivery tags (1, 2, 3 …) are settled.
#[derive(Default)]
struct Tracker {
    /// All tags up to this one are settled.
    floor: u64,
    /// Settled tags above it.
    above: BTreeSet<u64>,
}

impl Tracker {
    /// The frames that settle these deliveries, each of which is settled once.
    fn plan(&mut self, mut ends: Vec<(u64, Settlement)>) -> Vec<Frame> {
        ends.sort_unstable_by_key(|(tag, _)| *tag);
        let mut frames = Vec::new();
        let mut acks = BTreeSet::new();
        for (tag, how) in ends {
            match how {
                Settlement::Ack => drop(acks.insert(tag)),
                Settlement::Retry => frames.push(Frame::Nack { tag, requeue: true }),
                Settlement::Reject => frames.push(Frame::Nack { tag, requeue: false }),
            }
            self.above.insert(tag);
        }
        // The nacks go first: an ack of "all up to here" must not take them along.
        let mut last_ack = None;
        let mut covered = 0;
        while self.above.first() == Some(&(self.floor + 1)) {
            self.floor += 1;
            self.above.pop_first();
            if acks.remove(&self.floor) {
                last_ack = Some(self.floor);
                covered += 1;
            }
        }
        if let Some(tag) = last_ack {
            frames.push(Frame::Ack { tag, multiple: covered > 1 });
        }
        frames.extend(acks.into_iter().map(|tag| Frame::Ack { tag, multiple: false }));
        frames
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    /// What a broker makes of the frames.
    #[derive(Default)]
    struct Broker {
        unsettled: BTreeSet<u64>,
        ends: BTreeMap<u64, Settlement>,
    }

    impl Broker {
        fn take(&mut self, frame: Frame) {
            let (tag, multiple, how) = match frame {
                Frame::Ack { tag, multiple } => (tag, multiple, Settlement::Ack),
                Frame::Nack { tag, requeue: true } => (tag, false, Settlement::Retry),
                Frame::Nack { tag, requeue: false } => (tag, false, Settlement::Reject),
            };
            assert!(self.unsettled.contains(&tag), "the broker would close the channel: {frame:?}");
            let from = if multiple { 0 } else { tag };
            let settled: Vec<u64> = self.unsettled.range(from..=tag).copied().collect();
            for tag in settled {
                self.unsettled.remove(&tag);
                self.ends.insert(tag, how);
            }
        }
    }

    #[test]
    fn what_has_no_gap_takes_one_frame() {
        let mut tracker = Tracker::default();
        let acks = |tags: &[u64]| tags.iter().map(|tag| (*tag, Settlement::Ack)).collect::<Vec<_>>();
        assert_eq!(
            tracker.plan(acks(&[3, 1, 2, 5])),
            [Frame::Ack { tag: 3, multiple: true }, Frame::Ack { tag: 5, multiple: false },]
        );
        assert_eq!(tracker.plan(acks(&[4])), [Frame::Ack { tag: 4, multiple: false }]);
        assert_eq!(tracker.plan(acks(&[6, 7])), [Frame::Ack { tag: 7, multiple: true }]);
    }

    #[tokio::test(start_paused = true)]
    async fn acknowledgements_gather_unless_a_consumer_could_run_dry_or_somebody_waits() {
        let (settler, mut inbox) = Settler::new();
        settler.serves(1_000);
        let begun = Instant::now();
        let taken = async |inbox: &mut Inbox| {
            let mut notes = Vec::new();
            assert!(inbox.take(&mut notes).await);
            (notes.len(), begun.elapsed())
        };
        settler.settle(1, Settlement::Ack);
        assert_eq!(taken(&mut inbox).await, (1, Duration::ZERO), "the first goes at once");
        let gathered = async {
            settler.settle(2, Settlement::Ack);
            tokio::time::sleep(PACE / 5).await;
            settler.settle(3, Settlement::Ack);
        };
        assert_eq!(tokio::join!(taken(&mut inbox), gathered).0, (2, PACE));
        settler.serves(10);
        (4..9).for_each(|tag| settler.settle(tag, Settlement::Ack));
        assert_eq!(taken(&mut inbox).await, (5, PACE), "half of ten");
        settler.settle(9, Settlement::Ack);
        let (flushed, _) = tokio::join!(taken(&mut inbox), async {
            let _ = tokio::time::timeout(Duration::ZERO, settler.flush()).await;
        });
        assert_eq!(flushed, (2, PACE));
        drop(settler);
        assert!(!inbox.take(&mut Vec::new()).await);
    }

    proptest! {
        #[test]
        fn everything_ends_as_asked(
            hows in prop::collection::vec(0..4_u8, 1..60),
            order in any::<prop::sample::Index>(),
            batch in 1..20_usize,
        ) {
            let ends: Vec<(u64, Settlement)> = hows.iter().enumerate().map(|(n, how)| {
                let how = match how { 0 => Settlement::Retry, 1 => Settlement::Reject, _ => Settlement::Ack };
                (n as u64 + 1, how)
            }).collect();
            let mut broker = Broker { unsettled: ends.iter().map(|(tag, _)| *tag).collect(), ..Broker::default() };
            // Any order: stepping through by a number that shares no factor with the length.
            let length = ends.len();
            let step = (1 + order.index(length)..).find(|s| (1..=*s).filter(|d| s % d == 0 && length.is_multiple_of(*d)).count() == 1).unwrap();
            let shuffled: Vec<_> = (0..length).map(|n| ends[n * step % length]).collect();
            let mut tracker = Tracker::default();
            for batch in shuffled.chunks(batch) {
                for frame in tracker.plan(batch.to_vec()) {
                    broker.take(frame);
                }
            }
            prop_assert_eq!(broker.ends, ends.into_iter().collect::<BTreeMap<_, _>>());
            prop_assert!(tracker.above.is_empty());
        }
    }
}
