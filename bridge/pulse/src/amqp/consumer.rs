//! One queue's consumer: carries deliveries from amqprs into the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amqprs::channel::ConsumerMessage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::consumers::Start;
use super::convert;
use super::link::MENDED;
use super::settle::Settler;
use super::wire::Chan;
use crate::transport::{Delivery, Settle, Settlement};

/// Deliveries handed on in one go before others get their turn.
const BURST: usize = 128;

/// A consumer that ended without being stopped.
pub(super) struct Ended {
    pub queue: Arc<str>,
    pub id: u64,
    /// `None`: the sink's receiver is gone, nobody wants deliveries any more.
    pub reason: Option<String>,
}

pub(super) struct Task {
    pub start: Start,
    /// At most `prefetch` wait here, as the broker sends no more.
    pub deliveries: mpsc::UnboundedReceiver<ConsumerMessage>,
    pub settler: Arc<Settler>,
    pub chan: Chan,
    /// Take back what has not reached the sink, and end.
    pub stop: CancellationToken,
    /// Being stopped: the end of the stream is no news.
    pub stopping: Arc<AtomicBool>,
    /// When stopped, send back what is left; else the broker does.
    pub give_back: Arc<AtomicBool>,
}

impl Task {
    /// Runs until stopped, until the broker ends the consumer or its channel, or until nobody listens.
    pub async fn run(mut self) {
        let ended = loop {
            let mut next = tokio::select! {
                biased;
                () = self.stop.cancelled() => break None,
                () = self.start.sink.closed() => break Some(None),
                message = self.deliveries.recv() => match message {
                    Some(message) => Some(message),
                    None => break Some(Some(self.why())),
                },
            };
            // What has come meanwhile goes the short way, while the sink has room.
            let mut full = None;
            let mut burst = 0;
            while let Some(message) = next.take() {
                if let Some(delivery) = self.delivery(message)
                    && let Err(mpsc::error::TrySendError::Full(delivery)) = self.start.sink.try_send(delivery)
                {
                    full = Some(delivery);
                    break;
                }
                burst += 1;
                if burst < BURST && !self.stop.is_cancelled() {
                    next = self.deliveries.try_recv().ok();
                }
            }
            let Some(delivery) = full else { continue };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break None,
                // A delivery that does not arrive is dropped, and so goes back.
                sent = self.start.sink.send(delivery) => if sent.is_err() { break Some(None) },
            }
        };
        if let Some(reason) = ended
            && !self.stopping.load(Ordering::Acquire)
        {
            let ended = Ended { queue: self.start.queue.clone(), id: self.start.id, reason };
            let _ = self.start.ended.send(ended);
        }
        // Returning any of these while the consumer lasts would have the broker deliver them again at once.
        self.stop.cancelled().await;
        if !self.give_back.load(Ordering::Acquire) {
            return;
        }
        while let Ok(message) = self.deliveries.try_recv() {
            if let Some(deliver) = message.deliver {
                self.settler.settle(deliver.delivery_tag(), Settlement::Retry);
            }
        }
    }

    fn why(&self) -> String {
        match self.chan.refusal() {
            Some(refusal) => format!("the broker closed the channel: {refusal}"),
            None => "the broker cancelled the consumer: was the queue deleted?".into(),
        }
    }

    /// `None` for what amqprs never hands out.
    fn delivery(&self, message: ConsumerMessage) -> Option<Delivery> {
        let (deliver, properties) = (message.deliver?, message.basic_properties?);
        let content = message.content.unwrap_or_default();
        let converted = convert::from_amqp(&deliver, &properties, content);
        if converted.properties.headers.contains_key(MENDED) {
            warn!(
                queue = %self.start.queue,
                message_id = converted.properties.message_id,
                exchange = converted.exchange,
                "a message with text that is not UTF-8 in its headers or properties was mended"
            );
        }
        let delivery = Delivery::new(
            self.start.queue.clone(),
            Arc::new(converted),
            deliver.redelivered(),
            self.start.generation,
            deliver.delivery_tag(),
            self.settler.clone(),
        );
        Some(delivery)
    }
}
