//! Fires that get another chance: dead letters requeued or dropped, recorded messages replayed.

use std::sync::Arc;

use bytes::Bytes;
use pulse::{Message, naming};

use super::decide::{Decision, FiredBy};
use super::registry::LiveHook;
use super::trigger::Trigger;
use super::{Inner, Router, now_ms, submit};
use crate::hook::HookName;
use crate::store::{FireRow, FireState, NewFire, PendingFire, Recorded, Rendering, StoreError};

/// Why a fire gets no other chance.
#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    /// No such hook, or no such fire of it.
    #[error("{0}")]
    NotFound(String),
    /// It is not in a state that allows it.
    #[error("the fire is {state}; {wanted}")]
    State {
        /// Where it stands.
        state: &'static str,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// The hook as it is now makes no task of the message.
    #[error("{0}")]
    NoTask(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// States in which no task was made, as far as is known.
const FAILED: &[FireState] = &[FireState::Dead, FireState::Cancelled, FireState::Dropped];

impl Router {
    /// Submits a dead fire again, rendered anew with the hook as it is now, under the same task id.
    pub async fn requeue(&self, name: &HookName, task_id: &str) -> Result<(), AgainError> {
        let (hook, fire) = self.inner.find_fire(name, task_id).await?;
        if fire.state != FireState::Dead {
            return Err(AgainError::State {
                state: fire.state.as_str(),
                wanted: "only dead ones can be requeued",
            });
        }
        let message = self.inner.message_of(&fire).await?;
        let now = now_ms();
        let task = self.inner.render(&hook, &message, task_id, now).await?;
        self.inner.reopen(hook, fire, &[FireState::Dead], Some((task, now))).await
    }

    /// Marks a dead fire as not needed; its record stays.
    pub async fn drop_dead(&self, name: &HookName, task_id: &str) -> Result<(), AgainError> {
        let (_, fire) = self.inner.find_fire(name, task_id).await?;
        let id = fire.id;
        match self.inner.store.write(move |w| w.drop_fire(id, now_ms())).await? {
            Some(_) => {
                self.inner.figures.ended(FireState::Dropped);
                self.inner.events.ended();
                Ok(())
            }
            None => {
                Err(AgainError::State { state: fire.state.as_str(), wanted: "only dead ones can be dropped" })
            }
        }
    }

    /// Fires a recorded message again under the same task id: a task that exists is not made twice.
    pub async fn replay(&self, name: &HookName, task_id: &str) -> Result<(), AgainError> {
        let (hook, fire) = self.inner.find_fire(name, task_id).await?;
        match fire.state {
            FireState::Pending => {
                Err(AgainError::State { state: fire.state.as_str(), wanted: "it is still on its way" })
            }
            FireState::Success => self.inner.reopen(hook, fire, &[FireState::Success], None).await,
            FireState::Dead | FireState::Cancelled | FireState::Dropped => {
                let message = self.inner.message_of(&fire).await?;
                let now = now_ms();
                let task = self.inner.render(&hook, &message, task_id, now).await?;
                self.inner.reopen(hook, fire, FAILED, Some((task, now))).await
            }
        }
    }

    /// Fires a recorded message again as a new fire, with the hook as it is now. What somebody had triggered is `client_id`'s own trigger
    /// this time. Answers the new task id.
    pub async fn replay_as_new(
        &self,
        name: &HookName,
        task_id: &str,
        client_id: &str,
    ) -> Result<String, AgainError> {
        let (hook, fire) = self.inner.find_fire(name, task_id).await?;
        self.inner.replay_as_new(hook, fire, client_id).await
    }
}

impl Inner {
    async fn find_fire(
        &self,
        name: &HookName,
        task_id: &str,
    ) -> Result<(Arc<LiveHook>, FireRow), AgainError> {
        let queue = naming::queue(&self.config.user, &name.group, &name.id);
        let Some(hook) = self.registry.get(&queue) else {
            return Err(AgainError::NotFound(format!("no hook {name}")));
        };
        match self.store.fire_by_task(hook.incarnation, task_id.to_owned()).await? {
            Some(fire) => Ok((hook, fire)),
            None => Err(AgainError::NotFound(format!("hook {name} has no fire with the task id {task_id}"))),
        }
    }

    async fn message_of(&self, fire: &FireRow) -> Result<Message, AgainError> {
        match self.store.message(fire.id).await? {
            Some(stored) => Ok(stored.message),
            None => Err(AgainError::NotFound("the message of this fire is past its retention".into())),
        }
    }

    /// Renders with the hook as it is now, on a decider thread.
    async fn render(
        self: &Arc<Self>,
        hook: &Arc<LiveHook>,
        message: &Message,
        task_id: &str,
        now: i64,
    ) -> Result<Bytes, AgainError> {
        let (inner, hook, message, task_id) =
            (self.clone(), hook.clone(), message.clone(), task_id.to_owned());
        let decided = self
            .deciders
            .run(false, move || {
                let context = inner.context(&hook.name, &message).ok_or(
                    "the stored trigger does not carry this router's mark; was keys.task_id changed?",
                )?;
                let rules =
                    hook.rules(&inner.config.limits, &inner.config.workers).map_err(ToOwned::to_owned)?;
                match rules.decide(&context.event(&message, &task_id, now)) {
                    Decision::Fire { task } => Ok(Bytes::from(task)),
                    other => Err(other.reason()),
                }
            })
            .await;
        match decided {
            Some(decided) => decided.map_err(AgainError::NoTask),
            None => Err(StoreError::Closed.into()),
        }
    }

    /// Makes an ended fire pending again and submits it.
    async fn reopen(
        self: &Arc<Self>,
        hook: Arc<LiveHook>,
        fire: FireRow,
        from: &'static [FireState],
        rendering: Option<(Bytes, i64)>,
    ) -> Result<(), AgainError> {
        let (id, version, new) = (fire.id, hook.version, rendering.clone());
        let stored =
            match rendering {
                Some(_) => None,
                None => Some(self.store.stored_task(id).await?.renderings.into_iter().next().ok_or_else(
                    || AgainError::NotFound("the task of this fire is past its retention".into()),
                )?),
            };
        let reopened = self
            .store
            .write(move |w| {
                let rendering = new.as_ref().map(|(task, rendered_at)| Rendering {
                    version,
                    task,
                    rendered_at: *rendered_at,
                });
                w.reopen(id, from, rendering)
            })
            .await?;
        if !reopened {
            return Err(AgainError::State { state: "no longer as it was", wanted: "somebody was quicker" });
        }
        let (task, rendered_at, version) = match (rendering, stored) {
            (Some((task, rendered_at)), _) => (task, rendered_at, version),
            (None, stored) => (stored.unwrap_or_default(), fire.fired_at, fire.version),
        };
        let pending = PendingFire {
            id,
            incarnation: hook.incarnation,
            version,
            task_id: fire.task_id,
            rendered_at,
            task,
            message_id: fire.message_id,
            // Somebody's decision of today is no part of the trace of then.
            trace: None,
        };
        self.take_up(submit::Submission { fire: pending, hook, recovered: true, origin: None });
        Ok(())
    }

    async fn replay_as_new(
        self: &Arc<Self>,
        hook: Arc<LiveHook>,
        fire: FireRow,
        client_id: &str,
    ) -> Result<String, AgainError> {
        let message = self.message_of(&fire).await?;
        let message = match self.context(&hook.name, &message).map(|context| context.fired_by) {
            Some(FiredBy::TriggerHook | FiredBy::TriggerHookWithToken) => {
                let trigger = Trigger {
                    fired_by: FiredBy::TriggerHook,
                    client_id: Some(client_id.to_owned()),
                    scheduled_for: None,
                    task_id: None,
                };
                let id = uuid::Uuid::new_v4().to_string();
                self.trigger_key.message(&self.config.user, &hook.name, id, &trigger, message.body)
            }
            _ => message,
        };
        let message_id = message.properties.message_id.clone();
        let now = now_ms();
        let task_id = self.task_ids.task_id(hook.incarnation, &super::random_id(), 0);
        let task = self.render(&hook, &message, &task_id, now).await?;
        let new = NewFire {
            incarnation: hook.incarnation,
            version: hook.version,
            task_id: task_id.clone(),
            occurrence: 0,
            fired_by: self
                .context(&hook.name, &message)
                .map_or(FiredBy::PulseMessage, |context| context.fired_by)
                .as_str(),
            fired_at: now,
            epoch: 0,
            digest: None,
            redelivered: false,
            message: Arc::new(message),
            task: Some(task.clone()),
            error: None,
            // A person decided it.
            cause: None,
        };
        let Recorded::New { id, .. } = self.store.write(move |w| w.fire(&new)).await? else {
            return Err(AgainError::State { state: "known", wanted: "try again" });
        };
        let pending = PendingFire {
            id,
            incarnation: hook.incarnation,
            version: hook.version,
            task_id: task_id.clone(),
            rendered_at: now,
            task,
            message_id,
            trace: None,
        };
        self.take_up(submit::Submission { fire: pending, hook, recovered: false, origin: None });
        Ok(task_id)
    }
}
