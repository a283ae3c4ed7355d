//! Retention in the background: a small step, a pause, and a whole round each hour.

use std::sync::Arc;
use std::time::Duration;

use super::{Inner, now_ms};
use crate::store::{Horizon, StoreError};

/// Between steps, so that fires always come first.
const PAUSE: Duration = Duration::from_millis(200);

/// Between rounds.
const ROUND: Duration = Duration::from_secs(3600);

const DAY_MS: i64 = 24 * 3600 * 1000;

impl Inner {
    /// Runs until the router stops.
    pub(super) async fn keep_retention(self: Arc<Self>) {
        loop {
            if let Err(error) = self.retention_round().await {
                tracing::error!(%error, "cannot remove what is past its retention; trying again later");
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn retention_round(&self) -> Result<(), StoreError> {
        let days = |days: u32| now_ms() - i64::from(days) * DAY_MS;
        let horizon = Horizon {
            fires: days(self.config.router.fires_kept_days),
            messages: days(self.config.router.messages_kept_days),
        };
        while self.store.forget_buried().await? {
            tokio::time::sleep(PAUSE).await;
        }
        let mut cursor = 0;
        loop {
            let step = self.store.retention_step(cursor, horizon).await?;
            if step.finished {
                return Ok(());
            }
            cursor = step.cursor;
            tokio::time::sleep(PAUSE).await;
        }
    }
}
