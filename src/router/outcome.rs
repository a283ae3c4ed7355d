//! Ends of fires: committed in groups, along with what else is, then counted out and told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Inner;
use super::intake::Heard;
use super::submit::Settled;
use super::waiters::News;
use crate::store::{FireState, StoreError};

/// Ends that are committed together at most.
const AT_ONCE: usize = 512;

/// Fires that are recorded in this time take the ends along in their commit, unless somebody waits for an end. Nothing is lost
/// meanwhile: a fire whose end is not on record yet is only pending, and would be settled again after a crash.
const PATIENCE: Duration = Duration::from_millis(5);

impl Inner {
    /// Runs until the channel closes or the store does.
    pub(super) async fn keep_outcomes(
        self: Arc<Self>,
        mut settled: mpsc::Receiver<Settled>,
        heard: mpsc::UnboundedSender<Heard>,
    ) {
        let mut batch = Vec::with_capacity(AT_ONCE);
        while settled.recv_many(&mut batch, AT_ONCE).await > 0 {
            pulse::crash::point("router.ended");
            let Some(sequence) = self.commit_ends(&batch).await else { return };
            pulse::crash::point("router.committed");
            let news = batch.iter().zip(&sequence).filter_map(|(settled, seq)| Some((settled, (*seq)?)));
            self.events.ended_as(news.map(|(settled, seq)| (seq, self.event_of(settled, seq))));
            for (settled, seq) in batch.drain(..).zip(sequence) {
                if seq.is_none() {
                    self.load.release(&settled.hook, 1, settled.bytes, &heard);
                    continue;
                }
                self.activity.count(settled.ended.ended_at, |minute| match settled.ended.state {
                    FireState::Success => minute.tasks += 1,
                    FireState::Dead => minute.dead += 1,
                    _ => {}
                });
                self.figures.ended(settled.ended.state);
                match (settled.ended.state, &settled.ended.error) {
                    (FireState::Success, _) => {
                        settled.hook.shared.throttle.succeeded();
                        tracing::info!(hook = %settled.hook.name, message_id = settled.message_id, task_id = settled.task_id, attempts = settled.ended.attempts, "task created")
                    }
                    (state, error) => {
                        if state == FireState::Dead {
                            self.note_failure(&settled.hook);
                        }
                        tracing::warn!(hook = %settled.hook.name, message_id = settled.message_id, task_id = settled.task_id, outcome = state.as_str(), error = error.as_deref(), "no task")
                    }
                }
                // Only now: who is woken by it asks what this fire says of its hook.
                self.load.release(&settled.hook, 1, settled.bytes, &heard);
                self.waiters.tell(&settled.task_id, || News::Look);
            }
        }
    }

    async fn commit_ends(&self, batch: &[Settled]) -> Option<Vec<Option<i64>>> {
        let ends: Arc<Vec<_>> = Arc::new(batch.iter().map(|settled| settled.ended.clone()).collect());
        loop {
            let job = ends.clone();
            let patience = if self.waiters.any() { Duration::ZERO } else { PATIENCE };
            match self
                .store
                .write_along(patience, move |w| {
                    job.iter().map(|ended| w.end_fire(ended)).collect::<Result<Vec<_>, _>>()
                })
                .await
            {
                Ok(sequence) => return Some(sequence),
                Err(StoreError::Closed) => return None,
                Err(error) => {
                    tracing::error!(%error, fires = ends.len(), "cannot record outcomes; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}
