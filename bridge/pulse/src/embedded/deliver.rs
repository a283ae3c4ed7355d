//! Messages into queues, and out of them to consumers.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::GENERATION;
use super::broker::{Broker, Out, Ready};
use super::db::EntryRow;
use super::dead_letter::{Reason, dead_letter};
use crate::Message;
use crate::transport::{Delivery, PublishError, Published};

/// Bodies of waiting messages are kept in memory up to so many bytes; beyond that they are read from the file when their
/// turn comes, so that a long queue costs no memory to speak of.
const CACHE_BYTES: usize = 32 << 20;

/// How quorum queues of RabbitMQ tell how often they have redelivered a message.
const DELIVERY_COUNT: &str = "x-delivery-count";

impl Broker {
    pub fn publish(
        &mut self,
        message: Arc<Message>,
        mandatory: bool,
        reply: oneshot::Sender<Result<Published, PublishError>>,
        healthy: bool,
    ) -> rusqlite::Result<()> {
        let routed = if healthy { self.route(&message) } else { Ok(None) };
        let answer = match &routed {
            Ok(Some(queues)) => Ok(Published { routed: !mandatory || *queues > 0 }),
            _ => Err(PublishError::Refused(format!("no exchange '{}'", message.exchange))),
        };
        self.batch.answers.push(Box::new(move |failed| {
            let answer = match failed {
                Some(reason) => Err(PublishError::Unavailable(reason.to_owned())),
                None => answer,
            };
            let _ = reply.send(answer);
        }));
        routed.map(drop)
    }

    /// Puts the message into every queue that is bound for it; returns into how many. `None`: no such exchange.
    fn route(&mut self, message: &Arc<Message>) -> rusqlite::Result<Option<usize>> {
        let queues = if message.exchange.is_empty() {
            self.queues
                .get_key_value(message.routing_key.as_str())
                .map(|(name, _)| name.clone())
                .into_iter()
                .collect()
        } else {
            match self.routes.queues(&message.exchange, &message.routing_key) {
                Some(queues) => queues,
                None => return Ok(None),
            }
        };
        if queues.is_empty() {
            return Ok(Some(0));
        }
        let row = self.db.add_message(message)?;
        for name in &queues {
            let Some(queue) = self.queues.get_mut(name) else { continue };
            let seq = self.db.add_entry(queue.id, row)?;
            let cached = (self.cached + message.body.len() <= CACHE_BYTES).then(|| message.clone());
            self.cached += cached.as_ref().map_or(0, |m| m.body.len());
            queue.ready.insert(seq, Ready { message: row, redeliveries: 0, redelivered: false, cached });
            self.batch.dirty.insert(name.clone());
        }
        for name in &queues {
            self.drop_over_length(name)?;
        }
        Ok(Some(queues.len()))
    }

    fn drop_over_length(&mut self, name: &Arc<str>) -> rusqlite::Result<()> {
        while let Some(queue) = self.queues.get_mut(name)
            && queue.max_length.is_some_and(|most| queue.ready.len() > most as usize)
            && let Some((seq, oldest)) = queue.ready.pop_first()
        {
            let entry = EntryRow { seq, message: oldest.message, redeliveries: oldest.redeliveries };
            let message = self.load(oldest)?;
            self.give_up(name, entry, message.as_deref(), Reason::MaxLength)?;
        }
        Ok(())
    }

    /// Takes an entry out of its queue for good, by way of the queue's dead-letter exchange if it has one.
    pub fn give_up(
        &mut self,
        name: &Arc<str>,
        entry: EntryRow,
        message: Option<&Message>,
        reason: Reason,
    ) -> rusqlite::Result<()> {
        let exchange = self.queues.get(name).and_then(|queue| queue.dead_letter_exchange.clone());
        if let (Some(exchange), Some(message)) = (exchange, message) {
            let now = chrono::Utc::now().timestamp();
            if let Some(dead) = dead_letter(message, name, &exchange, reason, now) {
                self.route(&Arc::new(dead))?;
            }
        }
        self.db.remove_entry(entry)
    }

    /// The waiting message itself. `None` only if the file was tampered with.
    fn load(&mut self, ready: Ready) -> rusqlite::Result<Option<Arc<Message>>> {
        match ready.cached {
            Some(message) => {
                self.cached = self.cached.saturating_sub(message.body.len());
                Ok(Some(message))
            }
            None => Ok(self.db.message(ready.message)?.map(Arc::new)),
        }
    }

    /// Hands out what waits, as far as the consumers' prefetch allows. The deliveries leave after the commit, which also
    /// keeps that they were made.
    pub fn deliver(&mut self) -> rusqlite::Result<()> {
        while let Some(name) = self.batch.dirty.pop_first() {
            let mut delivered = None;
            while let Some((seq, ready)) = self.next_ready(&name) {
                if let Some(seq) = self.hand_out(&name, seq, ready)? {
                    delivered = delivered.max(Some(seq));
                }
            }
            if let Some(queue) = self.queues.get_mut(&name)
                && let Some(seq) = delivered
                && seq > queue.delivered
            {
                queue.delivered = seq;
                self.db.set_delivered(queue.id, seq)?;
            }
        }
        Ok(())
    }

    fn next_ready(&mut self, name: &Arc<str>) -> Option<(i64, Ready)> {
        let queue = self.queues.get_mut(name)?;
        let consumer = queue.consumer.as_ref()?;
        if consumer.held < consumer.prefetch { queue.ready.pop_first() } else { None }
    }

    /// Returns the entry's number if it went to the consumer.
    fn hand_out(&mut self, name: &Arc<str>, seq: i64, ready: Ready) -> rusqlite::Result<Option<i64>> {
        let redelivered = ready.redelivered;
        let redeliveries = ready.redeliveries + u32::from(redelivered);
        let entry = EntryRow { seq, message: ready.message, redeliveries };
        let Some(mut message) = self.load(ready)? else {
            self.db.remove_entry(entry)?;
            return Ok(None);
        };
        if redelivered {
            let limit = self.queues.get(name).and_then(|queue| queue.delivery_limit);
            if limit.is_some_and(|limit| redeliveries > limit) {
                self.give_up(name, entry, Some(&message), Reason::DeliveryLimit)?;
                return Ok(None);
            }
            self.db.set_redeliveries(seq, redeliveries)?;
            let headers = &mut Arc::make_mut(&mut message).properties.headers;
            headers.insert(DELIVERY_COUNT.into(), redeliveries.into());
        }
        let Some(consumer) = self.queues.get_mut(name).and_then(|queue| queue.consumer.as_mut()) else {
            return Ok(None);
        };
        consumer.held += 1;
        self.last_tag += 1;
        let tag = self.last_tag;
        self.batch.assigned.push(tag);
        let delivery =
            Delivery::new(name.clone(), message.clone(), redelivered, GENERATION, tag, self.settler.clone());
        self.batch.deliveries.push((consumer.pump.clone(), delivery));
        self.out.insert(tag, Out { queue: name.clone(), consumer: consumer.id, entry, message });
        Ok(Some(seq))
    }
}
