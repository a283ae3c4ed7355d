//! The queue service: where fires become tasks.
//!
//! Two implementations stand behind [`QueueService`]: [`taskcluster`], the HTTP client of a Taskcluster Queue,
//! and [`local`], a recording stand-in that speaks the same protocol. Callers branch on the *kind* of a
//! [`CreateError`], because each kind has its own consequence: repeat, stop submitting altogether, ask what is
//! there, or give this one task up. What kind an answer is, is decided in one place
//! ([`taskcluster::classify`](taskcluster)), from status and error code, never from a message's text.
//!
//! `createTask` is idempotent: the same id with the same definition succeeds again, so whoever does not know
//! what became of an attempt repeats it unchanged.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

pub mod command;
pub mod definition;
pub mod local;
pub mod taskcluster;

pub use definition::same_definition;
pub use taskcluster::Taskcluster;

pub use crate::auth::service::MAX_RETRY_AFTER;

/// What the router needs of a queue service.
#[async_trait]
pub trait QueueService: Send + Sync + 'static {
    /// Creates a task. `task` is the JSON definition, sent as it is; `task_id` a slugid; the call may do no
    /// more than `authorized_scopes` allow, whatever the client itself may do. `traceparent` says which trace it is part of.
    ///
    /// Succeeds also when the task exists already with the same definition.
    async fn create_task(
        &self,
        task_id: &str,
        task: Bytes,
        authorized_scopes: &[String],
        traceparent: Option<&str>,
    ) -> Result<(), CreateError>;

    /// The definition of a task as the service keeps it (defaults filled in), `None` if there is no such task.
    /// Compare it with [`same_definition`].
    async fn task(&self, task_id: &str) -> Result<Option<Value>, QueryError>;

    /// Whether the service itself answers; says nothing of credentials.
    async fn probe(&self) -> Result<(), QueryError>;
}

/// Why a task was not created, by what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// Network error, time-out, 408, 425, 429 or 5xx. The task may exist: repeat with the same id and definition.
    #[error("the queue service could not answer: {reason}")]
    Retry {
        /// What happened, for people.
        reason: String,
        /// When the service asked to come back, at most [`MAX_RETRY_AFTER`].
        retry_after: Option<Duration>,
    },
    /// 401, 404, 405, a redirect, or an answer that is not the service's: our configuration or the service as
    /// a whole is at fault, so every other task would fare the same. Stop, probe, resume.
    #[error("the queue service is not usable: {reason}")]
    Outage {
        /// What happened and what to look at, for people.
        reason: String,
    },
    /// 409: the id is taken by another definition, or the task group refuses. Settled by [`QueueService::task`].
    #[error("the queue service reports a conflict: {message}")]
    Conflict {
        /// The service's message.
        message: String,
    },
    /// Any other 4xx: this very task is not acceptable, a repeat will not help.
    #[error("the queue service refused the task ({status} {code}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The service's error code, e.g. `InputError`; empty where it sent none.
        code: String,
        /// The service's message, for the hook's owner.
        message: String,
    },
}

/// Why a question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// As [`CreateError::Retry`].
    #[error("the queue service could not answer: {reason}")]
    Retry {
        /// What happened, for people.
        reason: String,
        /// When the service asked to come back, at most [`MAX_RETRY_AFTER`].
        retry_after: Option<Duration>,
    },
    /// As [`CreateError::Outage`].
    #[error("the queue service is not usable: {reason}")]
    Outage {
        /// What happened and what to look at, for people.
        reason: String,
    },
    /// Another 4xx, e.g. 403 for want of `queue:get-task:<taskId>`.
    #[error("the queue service refused the question ({status} {code}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The service's error code; empty where it sent none.
        code: String,
        /// The service's message.
        message: String,
    },
}

/// The largest task definition that the queue service takes, in bytes (its limit for JSON bodies).
pub const MAX_TASK_BYTES: usize = 10 * 1024 * 1024;

/// The section `[queue]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Taskcluster root URL, `http://` or `https://`; calls go to `<root_url>/api/queue/v1/…`.
    pub root_url: String,
    /// The client's id.
    pub client_id: String,
    /// The client's access token.
    pub access_token: pulse::Secret,
    /// Certificate (JSON text) of temporary credentials; empty for permanent ones.
    pub certificate: pulse::Secret,
    /// Seconds until a call without a complete answer counts as failed.
    pub timeout_seconds: u64,
    /// Seconds to wait for a connection.
    pub connect_timeout_seconds: u64,
    /// Calls, hence connections, at the same time.
    pub concurrency: usize,
    /// Seconds after which an unused connection is closed.
    pub idle_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root_url: "http://127.0.0.1:9090".to_owned(),
            client_id: "pulsehook".to_owned(),
            access_token: pulse::Secret::new("env:TASKCLUSTER_ACCESS_TOKEN"),
            certificate: pulse::Secret::new(""),
            timeout_seconds: 30,
            connect_timeout_seconds: 10,
            concurrency: 64,
            idle_seconds: 60,
        }
    }
}

impl Config {
    /// The deployment and credentials, for asking its auth service.
    pub fn deployment(&self) -> crate::auth::Deployment<'_> {
        crate::auth::Deployment {
            root_url: &self.root_url,
            client_id: &self.client_id,
            access_token: &self.access_token,
            certificate: &self.certificate,
        }
    }
}
