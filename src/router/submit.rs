//! From a recorded fire to its end: submit, repeat with backoff, settle conflicts, render anew what went stale. Whose turn it is
//! says `underway`.
//!
//! The task id never changes, and the same stored definition is repeated until the service has said what it thinks of
//! it. A task is rendered anew only after the service said that there is none by its id.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::Inner;
use super::decide::Decision;
use super::events::Origin;
use super::figures::Attempt;
use super::registry::{self, LiveHook};
use super::traces;
use super::underway::Underway;
use crate::queue::{CreateError, QueryError, same_definition};
use crate::store::{Ended, FireState, PendingFire};

/// The queue service refuses a `created` that is further than 15 minutes from its clock: beyond this age, which leaves
/// room for clocks that differ, a task is rendered anew.
const STALE: i64 = 10 * 60 * 1000;

/// The wait between attempts of one fire grows from the first to the second.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LAST_BACKOFF: Duration = Duration::from_secs(30);

/// A fire on its way, with its hook as it was when it was recorded (or is now, after a restart).
pub(super) struct Submission {
    pub fire: PendingFire,
    pub hook: Arc<LiveHook>,
    /// It may have been submitted by a process that died, or its hook's deletion may have met it half way.
    pub recovered: bool,
    /// What its event tells besides; `None`: that is asked of the store.
    pub origin: Option<Origin>,
}

/// The end of a fire, with what is needed to tell of it.
pub(super) struct Settled {
    pub hook: Arc<LiveHook>,
    pub task_id: String,
    pub message_id: Option<String>,
    pub ended: Ended,
    pub bytes: usize,
    pub origin: Option<Origin>,
}

enum Step {
    End(FireState, Option<String>),
    Again { reason: String, retry_after: Option<Duration> },
    Fresh,
}

impl Inner {
    /// Submits a fire until there is an end of it, or puts it aside to be tried again.
    pub(super) async fn settle(self: &Arc<Self>, mut fire: Box<Underway>) {
        let tracing = &self.config.tracing;
        let (state, error) = loop {
            let Some(permit) = self.gate.enter().await else { return };
            let step = self.attempt(&mut fire).await;
            drop(permit);
            match step {
                Step::End(state, error) => break (state, error),
                Step::Fresh => {}
                Step::Again { reason, retry_after } => {
                    // A service that asks for no wait at all gets the usual one.
                    let wait = super::jitter(fire.backoff).max(retry_after.unwrap_or_default());
                    fire.backoff = (fire.backoff * 2).min(LAST_BACKOFF);
                    tracing::debug!(hook = %fire.submission.hook.name, task_id = fire.submission.fire.task_id, attempts = fire.attempts, %reason, "will try again");
                    return self.watch(self.clone().submit_later(fire, wait));
                }
            }
        };
        self.figures.settled(fire.begun.elapsed());
        fire.place.ended(tracing, fire.fired_at, || traces::about(&fire.submission), error.clone());
        let submission = &mut fire.submission;
        let ended = Ended {
            id: submission.fire.id,
            state,
            attempts: fire.attempts,
            ended_at: super::now_ms(),
            error,
        };
        let settled = Settled {
            hook: submission.hook.clone(),
            task_id: std::mem::take(&mut submission.fire.task_id),
            message_id: submission.fire.message_id.take(),
            ended,
            bytes: fire.bytes,
            origin: submission.origin.take(),
        };
        // The receiver lives as long as the router; without it the fire stays pending in the store.
        let _ = self.submitter.settled.send(settled).await;
    }

    /// One try. What is seldom needed is boxed, which keeps the task of a fire small.
    async fn attempt(&self, underway: &mut Underway) -> Step {
        let Underway { submission, attempts, place, .. } = underway;
        let deleted = submission.hook.is_deleted();
        if deleted && *attempts == 0 && !submission.recovered {
            return Step::End(FireState::Cancelled, Some(HOOK_DELETED.to_owned()));
        }
        // Either way: a clock that was put back makes a task of the future.
        let stale = (super::now_ms() - submission.fire.rendered_at).abs() > STALE;
        if deleted || stale {
            return match Box::pin(self.ask(submission)).await {
                Ok(Asked::Ours) => Step::End(FireState::Success, None),
                Ok(Asked::Others) => Step::End(FireState::Dead, Some(conflict())),
                Ok(Asked::Absent) if deleted => {
                    Step::End(FireState::Cancelled, Some(HOOK_DELETED.to_owned()))
                }
                Ok(Asked::Absent) => Box::pin(self.render_anew(submission)).await,
                Err(step) => step,
            };
        }
        *attempts += 1;
        let fire = &submission.fire;
        let scopes = [format!("assume:hook-id:{}", submission.hook.name)];
        let (begun, begun_at) = (Instant::now(), SystemTime::now());
        let context = place.call(&self.config.tracing);
        let traceparent = context.to_string();
        let answer =
            self.queue.create_task(&fire.task_id, fire.task.clone(), &scopes, Some(&traceparent)).await;
        place.called(&self.config.tracing, context, begun_at, answer.as_ref().err().map(ToString::to_string));
        let attempt = match &answer {
            Ok(()) => Attempt::Created,
            Err(CreateError::Retry { .. }) => Attempt::Retry,
            Err(CreateError::Outage { .. }) => Attempt::Outage,
            Err(CreateError::Conflict { .. }) => Attempt::Conflict,
            Err(CreateError::Refused { .. }) => Attempt::Refused,
        };
        self.figures.attempted(attempt, begun.elapsed());
        pulse::crash::point("router.submitted");
        match answer {
            Ok(()) => {
                self.gate.succeeded();
                Step::End(FireState::Success, None)
            }
            Err(CreateError::Retry { reason, retry_after }) => {
                self.gate.failed(fire.id, &reason);
                Step::Again { reason, retry_after }
            }
            Err(CreateError::Outage { reason }) => {
                self.gate.failed(fire.id, &reason);
                Step::Again { reason, retry_after: None }
            }
            Err(CreateError::Conflict { message }) => {
                self.gate.succeeded();
                match Box::pin(self.ask(submission)).await {
                    Ok(Asked::Ours) => Step::End(FireState::Success, None),
                    Ok(Asked::Others) => Step::End(FireState::Dead, Some(conflict())),
                    Ok(Asked::Absent) => {
                        Step::End(FireState::Dead, Some(refused(409, "RequestConflict", &message)))
                    }
                    Err(step) => step,
                }
            }
            Err(CreateError::Refused { status, code, message }) => {
                self.gate.succeeded();
                // An earlier attempt, whose answer was lost, may have made the task before the service changed its mind.
                if *attempts > 1 || submission.recovered {
                    match Box::pin(self.ask(submission)).await {
                        Ok(Asked::Ours) => return Step::End(FireState::Success, None),
                        Err(again @ Step::Again { .. }) => return again,
                        // It is not there, or this client may not look: the refusal counts.
                        Ok(Asked::Others | Asked::Absent) | Err(_) => {}
                    }
                }
                Step::End(FireState::Dead, Some(refused(status, &code, &message)))
            }
        }
    }

    /// Asks the service what stands under the task id.
    async fn ask(&self, submission: &Submission) -> Result<Asked, Step> {
        let fire = &submission.fire;
        match self.queue.task(&fire.task_id).await {
            Ok(None) => {
                self.gate.succeeded();
                Ok(Asked::Absent)
            }
            Ok(Some(theirs)) => {
                self.gate.succeeded();
                let stored = match self.store.stored_task(fire.id).await {
                    Ok(stored) => stored,
                    Err(error) => return Err(Step::Again { reason: error.to_string(), retry_after: None }),
                };
                let ours = stored.renderings.iter().any(|ours| same_definition(&fire.task_id, ours, &theirs));
                Ok(if ours { Asked::Ours } else { Asked::Others })
            }
            Err(QueryError::Retry { reason, retry_after }) => {
                self.gate.failed(fire.id, &reason);
                Err(Step::Again { reason, retry_after })
            }
            Err(QueryError::Outage { reason }) => {
                self.gate.failed(fire.id, &reason);
                Err(Step::Again { reason, retry_after: None })
            }
            Err(QueryError::Refused { status, code, message }) => {
                Err(Step::End(FireState::Dead, Some(refused(status, &code, &message))))
            }
        }
    }

    /// Renders the task again, with the recorded hook version and a new `now`, and stores it.
    async fn render_anew(&self, submission: &mut Submission) -> Step {
        let again = |error: String| Step::Again { reason: error, retry_after: None };
        let fire = &mut submission.fire;
        let message = match self.store.message(fire.id).await {
            Ok(Some(stored)) => stored.message,
            Ok(None) => {
                return Step::End(
                    FireState::Dead,
                    Some(error_json(
                        "message-expired",
                        "the task went stale, and its message is past its retention",
                    )),
                );
            }
            Err(error) => return again(error.to_string()),
        };
        let document = match self.store.hook_version(fire.incarnation, fire.version).await {
            Ok(Some(document)) => document,
            Ok(None) => submission.hook.hook.to_json().to_string(),
            Err(error) => return again(error.to_string()),
        };
        let now = super::now_ms();
        let Some(context) = self.context(&submission.hook.name, &message) else {
            return Step::End(
                FireState::Dead,
                Some(error_json(
                    "untrusted-trigger",
                    "the stored trigger does not carry this router's mark; was keys.task_id changed?",
                )),
            );
        };
        let (name, task_id) = (submission.hook.name.clone(), fire.task_id.clone());
        let (limits, workers) = (self.config.limits.clone(), self.config.workers.clone());
        let render = move || {
            let rules = registry::parse(&name, &document)
                .and_then(|hook| registry::compile(&hook, &limits, &workers))
                .map_err(|error| error_json("template-error", &error))?;
            match rules.decide(&context.event(&message, &task_id, now)) {
                Decision::Fire { task } => Ok(Bytes::from(task)),
                other => Err(error_json(other.outcome(), &other.reason())),
            }
        };
        // After an outage there may be many, of any hook: they keep nobody waiting whose messages have just come.
        let task = match self.deciders.run(true, render).await {
            Some(Ok(task)) => task,
            Some(Err(error)) => return Step::End(FireState::Dead, Some(error)),
            None => return again("it could not be rendered anew".to_owned()),
        };
        let (id, version, stored) = (fire.id, fire.version, task.clone());
        if let Err(error) = self.store.write(move |w| w.rerender(id, version, &stored, now)).await {
            return again(error.to_string());
        }
        tracing::info!(hook = %submission.hook.name, task_id = fire.task_id, "rendered anew: the task had gone stale and does not exist yet");
        fire.task = task;
        fire.rendered_at = now;
        Step::Fresh
    }
}

enum Asked {
    /// It is one of the definitions that were stored for this fire.
    Ours,
    /// Something else.
    Others,
    /// Nothing.
    Absent,
}

const HOOK_DELETED: &str =
    r#"{"code":"hook-deleted","message":"the hook was deleted before the task was submitted"}"#;

pub(super) fn error_json(code: &str, message: &str) -> String {
    serde_json::json!({ "code": code, "message": message }).to_string()
}

fn conflict() -> String {
    error_json("task-id-conflict", "a task with this id exists that this hook did not make")
}

fn refused(status: u16, code: &str, message: &str) -> String {
    serde_json::json!({ "code": code, "status": status, "message": message }).to_string()
}
