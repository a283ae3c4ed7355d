//! Hooks that rest: their fires keep failing, so their messages wait in the broker for a while.

use std::sync::Arc;

use tokio::time::Instant;

use super::Inner;
use super::registry::LiveHook;
use crate::hook::HookName;

impl Inner {
    /// A fire ended as a dead letter.
    pub(super) fn note_failure(&self, hook: &LiveHook) {
        if let Some(pause) = hook.shared.throttle.failed(&self.config.router.hook, Instant::now()) {
            let seconds = pause.as_secs();
            tracing::warn!(hook = %hook.name, seconds, "its fires keep failing: its messages wait in the broker");
        }
    }

    /// Stops consuming a hook's queue until the moment has come. What has come in advance goes back once nothing more comes: before, it
    /// would come again at once, and each time counts towards the delivery limit.
    pub(super) fn rest(self: &Arc<Self>, hook: &LiveHook, until: Instant) {
        let (inner, name, queue) = (self.clone(), hook.name.clone(), hook.queue.clone());
        self.spawn(async move {
            if let Err(error) = inner.transport.cancel(&queue).await {
                tracing::debug!(hook = %name, %error, "will not be consumed when the broker is back");
            }
            drop(inner.taken_in(&queue).await);
            inner.keep_at(until, name).await;
        });
    }

    /// Sees to it that a hook that is not consumed because its fires keep failing is consumed again after its pause.
    pub(super) fn wake(self: &Arc<Self>, hook: &LiveHook) {
        if let Some(until) = hook.shared.throttle.untold(Instant::now()) {
            let (inner, name) = (self.clone(), hook.name.clone());
            self.spawn(async move { inner.keep_at(until, name).await });
        }
    }

    async fn keep_at(self: Arc<Self>, at: Instant, name: HookName) {
        tokio::time::sleep_until(at).await;
        if let Err(error) = self.keep(&name).await {
            tracing::warn!(hook = %name, %error, "the hook's queue is not as it should be");
            self.keep_trying(name);
        }
    }
}
