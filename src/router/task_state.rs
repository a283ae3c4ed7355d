//! What became of tasks: the queue service's messages about their ends, noted with the fires that made them.
//!
//! It is news, not a promise: the queue is bounded, and what is lost while nobody listens for long is missing in the history.
//! Nothing else waits for it, and it shares no consumer with the hooks.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use pulse::{Binding, Delivery, QueueSpec};
use tokio::sync::mpsc;

use super::Inner;

/// The last word of the exchange, and the state that it tells.
const STATES: [(&str, &str); 3] =
    [("task-completed", "completed"), ("task-failed", "failed"), ("task-exception", "exception")];

/// Messages that wait at most while no router runs; then the oldest go.
const MOST_WAITING: u32 = 100_000;

/// Messages in advance.
const PREFETCH: u16 = 500;

/// Messages that are noted together.
const AT_ONCE: usize = 250;

/// The wait after a broker or store that refuses.
const RETRY: Duration = Duration::from_secs(5);

impl Inner {
    /// Runs until the router stops.
    pub(super) async fn keep_task_states(self: Arc<Self>) {
        let prefix = self.config.router.task_states.trim_end_matches('/');
        if prefix.is_empty() {
            return;
        }
        let name: Arc<str> = format!("queue/{}/task-states", self.config.user).into();
        let (sink, mut deliveries) = mpsc::channel(AT_ONCE);
        // What cannot be had now is made as soon as it can be: an exchange that appears, a broker that comes back.
        while let Err(error) = self.listen(&name, prefix, sink.clone()).await {
            tracing::debug!(%error, "cannot listen to what becomes of tasks yet");
            tokio::time::sleep(RETRY).await;
        }
        let mut batch = Vec::with_capacity(AT_ONCE);
        while deliveries.recv_many(&mut batch, AT_ONCE).await > 0 {
            let states: Vec<_> = batch.iter().filter_map(|delivery| told(delivery, prefix)).collect();
            match self.store.set_task_states(states).await {
                Ok(noted) => noted.into_iter().for_each(|state| {
                    counter!("pulsehook_router_task_states_total", "state" => state).increment(1);
                }),
                Err(error) => {
                    tracing::error!(%error, "cannot note what became of tasks; trying again");
                    tokio::time::sleep(RETRY).await;
                    batch.drain(..).for_each(Delivery::retry);
                    continue;
                }
            }
            batch.drain(..).for_each(Delivery::ack);
        }
    }

    async fn listen(
        &self,
        name: &Arc<str>,
        prefix: &str,
        sink: mpsc::Sender<Delivery>,
    ) -> Result<(), pulse::TopologyError> {
        let bindings = STATES
            .map(|(word, _)| Binding { exchange: format!("{prefix}/{word}"), pattern: "#".to_owned() })
            .to_vec();
        let spec = QueueSpec {
            name: name.clone(),
            kind: self.config.queue_kind,
            delivery_limit: Some(self.config.router.delivery_limit),
            dead_letter_exchange: None,
            max_length: Some(MOST_WAITING),
            bindings,
            unbind: Vec::new(),
        };
        for binding in self.transport.declare_queue(spec).await? {
            if let Some(error) = binding.error {
                tracing::info!(exchange = %binding.binding.exchange, error, "cannot hear what becomes of tasks; their state stays unknown (router.task_states)");
            }
        }
        self.transport.consume(name, PREFETCH, sink).await
    }
}

/// Task id and state. The id is the second word of the routing key, after `primary` (Taskcluster Queue's exchanges, v1).
fn told(delivery: &Delivery, prefix: &str) -> Option<(String, &'static str)> {
    let message = &delivery.message;
    let word = message.exchange.strip_prefix(prefix)?.strip_prefix('/')?;
    let (_, state) = STATES.iter().find(|(known, _)| *known == word)?;
    let task_id = message.routing_key.split('.').nth(1)?;
    Some((task_id.to_owned(), state))
}
