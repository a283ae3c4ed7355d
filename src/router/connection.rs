//! The connection to the broker: its epochs on record, its news in the log and in the registry.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pulse::Event as PulseEvent;
use tokio::sync::broadcast;

use super::{Inner, now_ms};
use crate::store::EPOCH_KEPT_MS;

/// A connection's row says this often that it is alive.
const EPOCH_EVERY: Duration = Duration::from_secs(5);

impl Inner {
    /// The epoch of a connection: greater than that of every earlier connection of this store.
    pub(super) fn epoch(&self, generation: u64) -> i64 {
        self.epoch_base + generation as i64
    }

    pub(super) async fn keep_epoch(self: Arc<Self>) {
        let mut status = self.transport.status();
        loop {
            if *status.borrow_and_update() == pulse::Status::Up {
                let now = now_ms();
                let first = self.generation.load(Ordering::Acquire);
                let last = self.latest_generation.load(Ordering::Acquire).max(first);
                let epochs = self.epoch(first)..=self.epoch(last);
                if let Err(error) = self.store.epochs_seen(epochs, now, now - EPOCH_KEPT_MS).await {
                    tracing::error!(%error, "cannot record that the connection is alive");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EPOCH_EVERY) => {}
                changed = status.changed() => if changed.is_err() { return },
            }
        }
    }

    pub(super) async fn follow_transport(self: Arc<Self>, mut events: broadcast::Receiver<PulseEvent>) {
        loop {
            match events.recv().await {
                Ok(PulseEvent::Connected { generation }) => {
                    self.generation.store(generation, Ordering::Release);
                    tracing::info!(generation, "connected to the broker");
                }
                Ok(PulseEvent::Disconnected { reason, .. }) => {
                    tracing::warn!(reason, "lost the broker; connecting again")
                }
                Ok(PulseEvent::Binding { queue, health }) => {
                    if self.registry.set_binding(&queue, health.clone()) {
                        let pulse::Binding { exchange, pattern } = &health.binding;
                        match &health.error {
                            Some(error) => {
                                tracing::warn!(%queue, exchange, pattern, error, "binding refused")
                            }
                            None => tracing::info!(%queue, exchange, pattern, "binding stands"),
                        }
                    }
                }
                Ok(PulseEvent::Queue { queue, error }) => {
                    if self.registry.set_queue(&queue, error.clone()) {
                        match error {
                            Some(error) => tracing::warn!(%queue, error, "the queue cannot be consumed"),
                            None => tracing::info!(%queue, "the queue is consumed again"),
                        }
                    }
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "missed news of the broker")
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}
