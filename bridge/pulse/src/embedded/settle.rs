//! The ends of deliveries.

use super::broker::{Broker, Out, Ready};
use super::dead_letter::Reason;
use crate::transport::Settlement;

impl Broker {
    /// Ends a delivery. A tag that is not out is none of this state's: it was undone by a failed transaction, or its queue was
    /// deleted.
    pub fn settle(&mut self, tag: u64, how: Settlement, healthy: bool) -> rusqlite::Result<()> {
        let Some(out) = self.out.remove(&tag) else { return Ok(()) };
        let result = if healthy { self.end(&out, how) } else { Ok(()) };
        self.batch.settled.push((tag, how, out));
        result
    }

    fn end(&mut self, out: &Out, how: Settlement) -> rusqlite::Result<()> {
        let Some(queue) = self.queues.get_mut(&out.queue) else { return Ok(()) };
        if let Some(consumer) = queue.consumer.as_mut()
            && consumer.id == out.consumer
        {
            consumer.held -= 1;
        }
        self.batch.dirty.insert(out.queue.clone());
        match how {
            Settlement::Ack => self.db.remove_entry(out.entry),
            Settlement::Reject => self.give_up(&out.queue, out.entry, Some(&out.message), Reason::Rejected),
            Settlement::Retry => {
                self.cached += out.message.body.len();
                let ready = Ready {
                    message: out.entry.message,
                    redeliveries: out.entry.redeliveries,
                    redelivered: true,
                    cached: Some(out.message.clone()),
                };
                queue.ready.insert(out.entry.seq, ready);
                Ok(())
            }
        }
    }
}
