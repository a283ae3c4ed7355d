//! Whether messages are taken from the broker: not while the queue service is down for long.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use super::{Inner, gate};

/// Whether messages are taken from the broker, which depends on how long the queue service has been down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taking {
    Yes,
    /// Consumers are being cancelled. What arrives is kept: sent back it would arrive again at once, and each time counts
    /// towards the delivery limit.
    Ending,
    /// There are no consumers; what is not recorded goes back, once.
    No,
}

/// Consumers that are started or cancelled at the same time when the queue service goes or comes.
const CONSUMERS_AT_ONCE: usize = 64;

impl Inner {
    /// Probes the queue service while it is down; stops consuming when that lasts, and resumes after it.
    pub(super) async fn keep_gate(self: Arc<Self>) {
        let probing = self.gate.keep_probing(|| self.queue.probe());
        let consuming = async {
            let mut state = self.gate.watch();
            let patience = Duration::from_secs(self.config.router.return_after_seconds);
            loop {
                let down = self.gate.down_for();
                let returning = *self.taking.borrow() != Taking::Yes;
                if !returning && down.is_some_and(|down| down >= patience) {
                    self.set_consuming(false).await;
                } else if returning && (down.is_none() || self.nothing_to_try()) {
                    self.set_consuming(true).await;
                }
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    changed = state.changed() => if changed.is_err() { return },
                }
            }
        };
        tokio::join!(probing, consuming);
    }

    /// On trial, with no fire left to try it with: only new messages can tell.
    fn nothing_to_try(&self) -> bool {
        *self.gate.watch().borrow() == gate::GateState::Trial && self.submitter.in_flight() == 0
    }

    async fn set_consuming(self: &Arc<Self>, consuming: bool) {
        let first = if consuming { Taking::Yes } else { Taking::Ending };
        self.taking.send_replace(first);
        tracing::info!(consuming, "the queue service decides whether messages are taken");
        stream::iter(self.registry.all())
            .for_each_concurrent(CONSUMERS_AT_ONCE, async |hook| {
                let done = if consuming && hook.waits() {
                    self.wake(&hook);
                    Ok(())
                } else if consuming {
                    self.transport.consume(&hook.queue, self.prefetch(&hook), self.deliveries.clone()).await
                } else {
                    self.transport.cancel(&hook.queue).await
                };
                if let Err(error) = done {
                    tracing::debug!(hook = %hook.name, %error, "will be done when the broker is back");
                }
            })
            .await;
        if !consuming {
            self.taking.send_replace(Taking::No);
        }
    }
}
