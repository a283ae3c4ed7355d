//! Triggers by API: by a client that may, or by whoever has the hook's token; and the tokens.
//!
//! A trigger is one message to the hook's own queue, published and confirmed before the caller is answered. Its task id
//! follows from its message id, so the answer has it even when the outcome is not known yet. A caller who waits (the default)
//! hears what Taskcluster Hooks would tell: the task, `{}` when the hook declined, 400 or 403 when no task can be made.

use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::endpoint::Call;
use super::hooks::find;
use super::{ApiError, Code};
use crate::hook::HookName;
use crate::router::decide::FiredBy;
use crate::router::triggering::{Ask, Outcome, TriggerError};

type Answer = Result<Value, ApiError>;

/// The longest wait that a caller may ask for, in seconds: proxies commonly give up after a minute.
const LONGEST_WAIT: u64 = 60;

static SLUGID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$")
        .expect("a regular expression")
});

/// Reads `?wait=`.
pub(super) fn wait_seconds(text: &str) -> Result<u64, &'static str> {
    match text.parse() {
        Ok(seconds) if seconds <= LONGEST_WAIT => Ok(seconds),
        _ => Err("it must be a number of seconds, 0 to 60"),
    }
}

pub(super) async fn by_client(call: Call) -> Answer {
    let name = call.name()?;
    trigger(&call, &name, FiredBy::TriggerHook).await
}

pub(super) async fn by_token_in_path(call: Call) -> Answer {
    let token = call.param("token");
    by_token(&call, &token).await
}

pub(super) async fn by_token_in_header(call: Call) -> Answer {
    match call.header("x-hook-token") {
        Some(token) => by_token(&call, token).await,
        None => {
            let message = "the header X-Hook-Token, with the hook's trigger token, is missing";
            Err(ApiError::new(Code::AuthenticationFailed, message))
        }
    }
}

async fn by_token(call: &Call, token: &str) -> Answer {
    let name = call.name()?;
    let row = find(&call.api, &name).await?;
    let resets = call.api.inner.store.token_resets(row.incarnation).await?;
    if !call.api.inner.token_key.is_token(token, row.incarnation, resets) {
        let message = format!("that is not the trigger token of hook {name}");
        return Err(ApiError::new(Code::AuthenticationFailed, message));
    }
    trigger(call, &name, FiredBy::TriggerHookWithToken).await
}

async fn trigger(call: &Call, name: &HookName, fired_by: FiredBy) -> Answer {
    let task_id = task_id(&call.body)?;
    let message_id = match (&task_id, call.header("idempotency-key")) {
        (Some(task_id), _) => Some(format!("task/{task_id}")),
        // One client's keys are nothing to another's; a hash because keys may be long.
        (None, Some(key)) => {
            let digest = Sha256::digest(format!("{}\0{}\0{key}", fired_by.as_str(), call.client_id()));
            Some(format!("key/{}", hex::encode(digest)))
        }
        (None, None) => None,
    };
    let by_client = fired_by == FiredBy::TriggerHook;
    let ask = Ask {
        fired_by,
        client_id: by_client.then(|| call.client_id().to_owned()),
        task_id,
        message_id,
        payload: call.raw.clone(),
    };
    let triggered = call.api.inner.router.trigger(name, ask).await.map_err(refused)?;
    let task_id = triggered.task_id.clone();
    call.note(name, "trigger-hook", json!({ "taskId": task_id, "firedBy": fired_by })).await?;
    let wait = call.query.get("wait").and_then(|wait| wait_seconds(wait).ok());
    let wait = wait.map_or(call.api.inner.trigger_wait, Duration::from_secs);
    match triggered.outcome(wait).await? {
        Outcome::Created | Outcome::Unknown => {
            Ok(json!({ "taskId": task_id, "status": { "taskId": task_id } }))
        }
        Outcome::Declined => Ok(json!({})),
        Outcome::Failed { status, code, message } => Err(failed(name, status, &code, &message)),
    }
}

/// `payload.taskId`.
fn task_id(payload: &Value) -> Result<Option<String>, ApiError> {
    match payload.get("taskId") {
        None => Ok(None),
        Some(Value::String(id)) if SLUGID.is_match(id) => Ok(Some(id.clone())),
        Some(_) => Err(ApiError::new(Code::InputError, "payload.taskId must be a slugid, the id of a task")),
    }
}

/// No task will be made. What the queue service said is told with its code, as Taskcluster Hooks does.
fn failed(name: &HookName, status: Option<u64>, code: &str, message: &str) -> ApiError {
    let (kind, what) = match (status, code) {
        (Some(403), _) => (Code::InsufficientScopes, "the queue service refused the task"),
        (Some(_), _) => (Code::InputError, "the queue service refused the task"),
        (None, "task-id-conflict") => (Code::RequestConflict, "no task could be made"),
        (None, "hook-deleted") => (Code::ResourceNotFound, "no task could be made"),
        (None, _) => (Code::InputError, "no task could be made"),
    };
    ApiError::new(kind, format!("hook {name}: {what} ({code}): {message}"))
}

fn refused(error: TriggerError) -> ApiError {
    match error {
        TriggerError::NoHook(_) => ApiError::new(Code::ResourceNotFound, error.to_string()),
        TriggerError::Payload(problems) => ApiError::problems(
            Code::InputError,
            "the payload does not satisfy the hook's triggerSchema",
            &problems,
        ),
        TriggerError::Conflict(_) => ApiError::new(Code::RequestConflict, error.to_string()),
        TriggerError::Refused(_) => ApiError::new(Code::InputError, error.to_string()),
        TriggerError::NotPublished(_) => {
            ApiError::new(Code::ServiceUnavailable, error.to_string()).retry_after(Duration::from_secs(1))
        }
        TriggerError::Store(error) => error.into(),
    }
}

pub(super) async fn token(call: Call) -> Answer {
    let row = find(&call.api, &call.name()?).await?;
    let resets = call.api.inner.store.token_resets(row.incarnation).await?;
    Ok(json!({ "token": call.api.inner.token_key.token(row.incarnation, resets) }))
}

pub(super) async fn reset_token(call: Call) -> Answer {
    let name = call.name()?;
    let row = find(&call.api, &name).await?;
    let (entry, horizon) = (call.entry(&name, "reset-token", Value::Null), call.api.audit_horizon());
    let reset = call.api.inner.store.write(move |w| {
        w.audit(&entry, horizon)?;
        w.reset_token(row.incarnation)
    });
    let resets = reset.await?;
    tracing::info!(hook = %name, client_id = call.client_id(), "trigger token reset");
    Ok(json!({ "token": call.api.inner.token_key.token(row.incarnation, resets) }))
}
