//! Triggers by API: one message to the hook's own queue, and what became of it for those who wait.
//!
//! The task id is known before the message is published: it follows from the hook and the message id. A message id that the
//! caller chose (a task id, a key) makes a repeat harmless: the fire that there is answers for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pulse::{PublishError, naming};
use serde_json::Value;

use super::decide::FiredBy;
use super::identity::identify;
use super::registry::LiveHook;
use super::trigger::Trigger;
use super::waiters::{News, Waiter};
use super::{Inner, Router};
use crate::hook::{Hook, HookName, Problem};
use crate::router::decide::Rules;
use crate::store::{FireState, StoreError};

/// A trigger to be made.
#[derive(Debug)]
pub struct Ask {
    /// By a client or with a token.
    pub fired_by: FiredBy,
    /// Who, where that is known.
    pub client_id: Option<String>,
    /// The task id that the caller asks for: a slugid.
    pub task_id: Option<String>,
    /// What makes a repeat the same trigger; `None`: each is its own.
    pub message_id: Option<String>,
    /// JSON text.
    pub payload: Bytes,
}

/// Why a trigger was not published.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// No such hook.
    #[error("no hook {0}")]
    NoHook(HookName),
    /// The payload does not satisfy triggerSchema, or is too large.
    #[error("the payload is not valid")]
    Payload(Vec<Problem>),
    /// The same task id or key was used with another payload.
    #[error(
        "the trigger with this task id or Idempotency-Key was another one: its fire {0} has another payload"
    )]
    Conflict(String),
    /// The broker will never take it.
    #[error("the broker refused the trigger: {0}")]
    Refused(String),
    /// It may be taken in a moment.
    #[error("the trigger could not be published: {0}; try again")]
    NotPublished(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Not known yet.
    Unknown,
    /// The task exists.
    Created,
    /// The hook did not fire: filter or template said no.
    Declined,
    /// No task can be made.
    Failed {
        /// HTTP status of the queue service, where it was that that refused.
        status: Option<u64>,
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

/// A trigger that the broker has confirmed.
pub struct Triggered {
    /// The id of its task, if it comes to that.
    pub task_id: String,
    hook: Arc<LiveHook>,
    waiter: Waiter,
    inner: Arc<Inner>,
}

impl Router {
    /// Compiles a hook, where there is room for it and nobody waits behind it.
    pub async fn check(&self, hook: Hook) -> Result<Result<Hook, Vec<Problem>>, StoreError> {
        let limits = self.inner.config.limits.clone();
        let compiled =
            self.inner.deciders.run(false, move || Rules::compile(&hook, &limits).map(|_| hook)).await;
        // The threads end with the router.
        compiled.ok_or(StoreError::Closed)
    }

    /// Triggers a hook. Answers when the broker has confirmed the message.
    pub async fn trigger(&self, name: &HookName, ask: Ask) -> Result<Triggered, TriggerError> {
        let inner = &self.inner;
        let queue = naming::queue(&inner.config.user, &name.group, &name.id);
        let hook = inner.registry.get(&queue).ok_or_else(|| TriggerError::NoHook(name.clone()))?;
        inner.check_payload(&hook, &ask.payload).await?;
        let Ask { fired_by, client_id, task_id, message_id, payload } = ask;
        let repeatable = message_id.is_some();
        let id = message_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let trigger = Trigger { fired_by, client_id, scheduled_for: None, task_id };
        let message = inner.trigger_key.message(&inner.config.user, name, id, &trigger, payload);
        let identity = identify(&message, &inner.config.user, super::random_id);
        let task_id =
            trigger.task_id.unwrap_or_else(|| inner.task_ids.task_id(hook.incarnation, &identity.id, 0));
        // Before it is published: news may come before the confirm does.
        let waiter = inner.waiters.wait(&task_id);
        if repeatable && inner.is_repeat(&hook, &task_id, &message.body).await? {
            return Ok(Triggered { task_id, hook, waiter, inner: inner.clone() });
        }
        match inner.transport.publish(&message, true).await {
            Ok(published) if published.routed => {}
            Ok(_) => {
                let reason = inner.registry.health(&queue).error;
                let reason = reason.unwrap_or_else(|| "the hook's queue does not stand yet".to_owned());
                return Err(TriggerError::NotPublished(reason));
            }
            Err(PublishError::Refused(reason)) => return Err(TriggerError::Refused(reason)),
            Err(PublishError::Unavailable(reason)) => return Err(TriggerError::NotPublished(reason)),
        }
        Ok(Triggered { task_id, hook, waiter, inner: inner.clone() })
    }
}

impl Inner {
    /// What its caller did wrong is told to them, and leaves no trace in the hook's record.
    async fn check_payload(
        self: &Arc<Self>,
        hook: &Arc<LiveHook>,
        payload: &Bytes,
    ) -> Result<(), TriggerError> {
        let (inner, hook, payload) = (self.clone(), hook.clone(), payload.clone());
        let checked = self.deciders.run(false, move || {
            match hook.rules(&inner.config.limits, &inner.config.workers) {
                Ok(rules) => rules.check_payload(&payload),
                // The decision says so, and it is on record.
                Err(_) => Ok(()),
            }
        });
        checked.await.ok_or(StoreError::Closed)?.map_err(TriggerError::Payload)
    }

    /// Whether this very trigger has fired before.
    async fn is_repeat(&self, hook: &LiveHook, task_id: &str, body: &[u8]) -> Result<bool, TriggerError> {
        let Some(fire) = self.store.fire_by_task(hook.incarnation, task_id.to_owned()).await? else {
            return Ok(false);
        };
        let Some(stored) = self.store.message(fire.id).await? else { return Ok(true) };
        let parse = |body: &[u8]| serde_json::from_slice::<Value>(body).ok();
        if parse(&stored.message.body) != parse(body) {
            return Err(TriggerError::Conflict(task_id.to_owned()));
        }
        Ok(true)
    }
}

impl Triggered {
    /// Waits for the outcome, for so long at most.
    pub async fn outcome(mut self, wait: Duration) -> Result<Outcome, StoreError> {
        let deadline = tokio::time::Instant::now() + wait;
        if wait.is_zero() {
            return Ok(Outcome::Unknown);
        }
        loop {
            // It may have ended already.
            if let Some(outcome) = self.recorded().await? {
                return Ok(outcome);
            }
            // Its messages wait until somebody ends that, or longer than this caller would: nobody should have to wait with them.
            let rests = self.hook.shared.throttle.paused_for(tokio::time::Instant::now());
            if self.hook.hook.paused == Some(true) || rests.is_some_and(|rest| rest > wait) {
                return Ok(Outcome::Unknown);
            }
            match tokio::time::timeout_at(deadline, self.waiter.next()).await {
                Err(_) => return Ok(Outcome::Unknown),
                Ok(News::Decided { incarnation, outcome, reason })
                    if incarnation == self.hook.incarnation =>
                {
                    return Ok(decided(outcome, reason));
                }
                Ok(News::Decided { .. } | News::Look) => {}
            }
        }
    }

    async fn recorded(&self) -> Result<Option<Outcome>, StoreError> {
        let fire = self.inner.store.fire_by_task(self.hook.incarnation, self.task_id.clone()).await?;
        let Some(fire) = fire else { return Ok(None) };
        Ok(match fire.state {
            FireState::Success => Some(Outcome::Created),
            state if !state.is_failed() => None,
            _ => {
                let error: Value = fire
                    .error
                    .as_deref()
                    .and_then(|error| serde_json::from_str(error).ok())
                    .unwrap_or_default();
                let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
                let status = error["status"].as_u64();
                Some(Outcome::Failed { status, code: text("code"), message: text("message") })
            }
        })
    }
}

/// A decision is no fire: `declined` and `filtered` are the hook's own no, anything else is not as it should be.
fn decided(outcome: String, reason: String) -> Outcome {
    match outcome.as_str() {
        "declined" | "filtered" => Outcome::Declined,
        _ => Outcome::Failed { status: None, code: outcome, message: reason },
    }
}
