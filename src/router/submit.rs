//! From a recorded fire to its end: submit, repeat with backoff, settle conflicts, render anew what went stale.
//!
//! The task id never changes, and the same stored definition is repeated until the service has said what it thinks of
//! it. A task is rendered anew only after the service said that there is none by its id.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use super::Inner;
use super::decide::{Decision, Event};
use super::events::Origin;
use super::figures::Attempt;
use super::registry::{self, LiveHook};
use super::traces::{self, Place};
use crate::queue::{CreateError, QueryError, same_definition};
use crate::store::{Ended, FireState, PendingFire};

/// The queue service refuses a `created` that is further than 15 minutes from its clock: beyond this age, which leaves
/// room for clocks that differ, a task is rendered anew.
const STALE: i64 = 10 * 60 * 1000;

/// The wait between attempts of one fire grows from the first to the second.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
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

/// Fires under way.
pub(super) struct Submitter {
    pub settled: mpsc::Sender<Settled>,
    per_hook: usize,
    turns: std::sync::Mutex<std::collections::HashMap<i64, Arc<Semaphore>>>,
    pub in_flight: AtomicUsize,
}

enum Step {
    End(FireState, Option<String>),
    Again { reason: String, retry_after: Option<Duration> },
    Fresh,
}

impl Submitter {
    pub fn new(per_hook: usize, settled: mpsc::Sender<Settled>) -> Self {
        Self { settled, per_hook, turns: Default::default(), in_flight: AtomicUsize::new(0) }
    }

    /// The turns of a hook: so many of its fires are submitted at a time, and the rest leave others the way free.
    fn turns(&self, incarnation: i64) -> Arc<Semaphore> {
        match self.turns.lock() {
            Ok(mut turns) => {
                turns.entry(incarnation).or_insert_with(|| Arc::new(Semaphore::new(self.per_hook))).clone()
            }
            Err(_) => Arc::new(Semaphore::new(self.per_hook)),
        }
    }

    /// Forgets the turns of hooks that have none under way.
    pub fn tidy(&self) {
        if let Ok(mut turns) = self.turns.lock() {
            turns.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
    }
}

impl Inner {
    /// Starts a submission; its end arrives at [`Submitter::settled`].
    pub(super) fn submit(self: &Arc<Self>, submission: Submission) {
        let inner = self.clone();
        self.submitter.in_flight.fetch_add(1, Ordering::Relaxed);
        self.watch(async move {
            let stopping = inner.stop.clone();
            tokio::select! {
                biased;
                () = inner.clone().settle(submission) => {}
                // What is not settled is pending in the store, and goes on at the next start.
                () = stopping.cancelled() => {}
            }
            inner.submitter.in_flight.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// The same for a fire that is not counted as under way yet.
    pub(super) fn take_up(self: &Arc<Self>, submission: Submission) {
        self.load.reserve(&submission.hook, 1);
        self.load.bytes.fetch_add(submission.fire.task.len(), Ordering::AcqRel);
        self.submit(submission);
    }

    async fn settle(self: Arc<Self>, mut submission: Submission) {
        let turns = self.submitter.turns(submission.fire.incarnation);
        let begun = Instant::now();
        let tracing = &self.config.tracing;
        let place = Place::new(tracing, submission.fire.trace, &submission.fire.task_id);
        let fired_at = submission.fire.rendered_at;
        let mut attempts: u32 = 0;
        let mut backoff = FIRST_BACKOFF;
        let bytes = submission.fire.task.len();
        let (state, error) = loop {
            let Ok(_turn) = turns.acquire().await else { return };
            let Some(permit) = self.gate.enter().await else { return };
            let step = self.attempt(&mut submission, &mut attempts, place).await;
            drop(permit);
            drop(_turn);
            match step {
                Step::End(state, error) => break (state, error),
                Step::Fresh => {}
                Step::Again { reason, retry_after } => {
                    // A service that asks for no wait at all gets the usual one.
                    let wait = super::jitter(backoff).max(retry_after.unwrap_or_default());
                    backoff = (backoff * 2).min(LAST_BACKOFF);
                    tracing::debug!(hook = %submission.hook.name, task_id = submission.fire.task_id, attempts, %reason, "will try again");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.gate.reopened() => {}
                    }
                }
            }
        };
        self.figures.settled(begun.elapsed());
        place.ended(tracing, fired_at, || traces::about(&submission), error.clone());
        let ended = Ended { id: submission.fire.id, state, attempts, ended_at: super::now_ms(), error };
        let task_id = std::mem::take(&mut submission.fire.task_id);
        let message_id = submission.fire.message_id.take();
        // The receiver lives as long as the router; without it the fire stays pending in the store.
        let _ = self
            .submitter
            .settled
            .send(Settled {
                hook: submission.hook,
                task_id,
                message_id,
                ended,
                bytes,
                origin: submission.origin,
            })
            .await;
    }

    /// One try. What is seldom needed is boxed, which keeps the task of a fire small.
    async fn attempt(&self, submission: &mut Submission, attempts: &mut u32, place: Place) -> Step {
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
            let event = Event {
                message: &message,
                fired_by: context.fired_by,
                client_id: context.client_id.as_deref(),
                scheduled_for: context.scheduled_for,
                task_id: &task_id,
                now: super::from_ms(now),
            };
            match rules.decide(&event) {
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
