//! Acknowledgements of one channel: many deliveries with few frames.
//!
//! Whoever consumed a delivery only drops a note here, without waiting. One task for each channel takes all notes there
//! are and settles them at once: what is acknowledged without a gap in one frame, the rest one by one.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use amqprs::channel::{BasicAckArguments, BasicNackArguments, Channel};
use tokio::sync::{mpsc, oneshot};

use crate::transport::{Settle, Settlement};

/// So many notes are taken at once.
const BATCH: usize = 1024;

enum Note {
    End(u64, Settlement),
    /// Answered when everything before it is on its way to the broker.
    Flush(oneshot::Sender<()>),
}

/// Where the deliveries of one channel report their end. When the channel is gone so are its deliveries, as the broker sees
/// it, and reports lead nowhere.
pub(super) struct Settler(mpsc::UnboundedSender<Note>);

impl Settler {
    /// Starts the channel's task, which ends with the channel or with the settler.
    ///
    /// The notes are bounded by what was delivered, which prefetch bounds.
    pub fn start(channel: Weak<Channel>) -> Arc<Self> {
        let (notes, inbox) = mpsc::unbounded_channel();
        tokio::spawn(run(channel, inbox));
        Arc::new(Self(notes))
    }

    /// Returns when everything that was settled before is on its way to the broker.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.0.send(Note::Flush(done)).is_ok() {
            let _ = flushed.await;
        }
    }
}

impl Settle for Settler {
    fn settle(&self, tag: u64, how: Settlement) {
        let _ = self.0.send(Note::End(tag, how));
    }
}

async fn run(channel: Weak<Channel>, mut inbox: mpsc::UnboundedReceiver<Note>) {
    let mut tracker = Tracker::default();
    let mut notes = Vec::with_capacity(BATCH);
    while inbox.recv_many(&mut notes, BATCH).await > 0 {
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
