//! The client of a Taskcluster Queue, lean because every fire passes through it.
//!
//! What an answer means is decided by status and error code alone. An answer that the service itself would not
//! give (a proxy's HTML, a redirect to a login page, a 200 without the task's status) is never taken for the
//! service's verdict on a task: it is an outage, or worth a repeat where a gateway says so with 5xx.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::{Config, CreateError, MAX_TASK_BYTES, QueryError, QueueService};
use crate::auth::service::{Answer, CallError, Limits, Service, ServiceError, retry_after};
use crate::auth::signer::{CredentialsError, Signer};

/// Largest answer to createTask or ping: a task status is some hundred bytes, an error repeats parts of the task.
const MAX_SMALL_ANSWER: usize = 2 * MAX_TASK_BYTES;

/// Largest answer to a question for a task: the definition, escaped at worst.
const MAX_TASK_ANSWER: usize = 4 * MAX_TASK_BYTES;

/// Longest message of an error answer that is kept, in characters.
const MAX_MESSAGE: usize = 10_000;

/// A Taskcluster Queue.
pub struct Taskcluster {
    service: Service,
    signer: Signer,
}

/// Why the client cannot be built from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// `queue.access_token` or `queue.certificate` cannot be read.
    #[error("queue.{option}: {source}")]
    Secret {
        /// The option's name.
        option: &'static str,
        /// Why.
        source: pulse::secret::SecretError,
    },
    /// The credentials cannot be used.
    #[error("queue: {0}")]
    Credentials(#[from] CredentialsError),
    /// `queue.root_url` cannot be used, or TLS not set up.
    #[error("queue.root_url: {0}")]
    Service(#[from] ServiceError),
}

impl Taskcluster {
    /// Reads the secrets and prepares the client; nothing is connected yet.
    pub fn new(config: &Config) -> Result<Self, BuildError> {
        let (service, signer) = client(config, Limits::from(config))?;
        Ok(Self { service, signer })
    }

    async fn signed(
        &self,
        method: Method,
        path: &str,
        authorized_scopes: Option<&[String]>,
        traceparent: Option<&str>,
        body: Bytes,
        max_answer: usize,
    ) -> Result<Answer, CallError> {
        let target = self.service.target(path);
        let authorization = self
            .signer
            .sign(method.as_str(), &target, authorized_scopes)
            .map_err(|error| CallError::Connection(format!("the call cannot be signed: {error}")))?;
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(AUTHORIZATION, authorization);
        if let Some(value) = traceparent.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(pulse::trace::HEADER, value);
        }
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.service.call(method, target, headers, body, max_answer).await
    }
}

/// What calls any service of the deployment with the credentials of `[queue]`.
pub fn client(config: &Config, limits: Limits) -> Result<(Service, Signer), BuildError> {
    let secret = |option, secret: &pulse::Secret| {
        secret.resolve().map_err(|source| BuildError::Secret { option, source })
    };
    let token = secret("access_token", &config.access_token)?;
    let certificate = match config.certificate.is_empty() {
        true => None,
        false => Some(secret("certificate", &config.certificate)?),
    };
    let service = Service::new(&config.root_url, limits)?;
    let signer =
        Signer::new(&config.client_id, &token, certificate.as_deref(), service.host(), service.port())?;
    Ok((service, signer))
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            call: Duration::from_secs(config.timeout_seconds),
            connect: Duration::from_secs(config.connect_timeout_seconds),
            idle: Duration::from_secs(config.idle_seconds),
            concurrency: config.concurrency,
        }
    }
}

#[async_trait]
impl QueueService for Taskcluster {
    async fn create_task(
        &self,
        task_id: &str,
        task: Bytes,
        authorized_scopes: &[String],
        traceparent: Option<&str>,
    ) -> Result<(), CreateError> {
        let path = format!("/api/queue/v1/task/{task_id}");
        let answer = self
            .signed(Method::PUT, &path, Some(authorized_scopes), traceparent, task, MAX_SMALL_ANSWER)
            .await
            .map_err(|error| CreateError::Retry { reason: error.to_string(), retry_after: None })?;
        if answer.status == StatusCode::OK {
            return match serde_json::from_slice::<Created<'_>>(&answer.body) {
                Ok(created) if created.status.task_id == task_id => Ok(()),
                _ => Err(CreateError::Outage { reason: foreign(&answer) }),
            };
        }
        Err(classify(&answer))
    }

    async fn task(&self, task_id: &str) -> Result<Option<Value>, QueryError> {
        let path = format!("/api/queue/v1/task/{task_id}");
        let answer = self
            .signed(Method::GET, &path, None, None, Bytes::new(), MAX_TASK_ANSWER)
            .await
            .map_err(|error| QueryError::Retry { reason: error.to_string(), retry_after: None })?;
        if answer.status == StatusCode::OK {
            return match serde_json::from_slice(&answer.body) {
                Ok(task @ Value::Object(_)) if task.get("metadata").is_some() => Ok(Some(task)),
                _ => Err(QueryError::Outage { reason: foreign(&answer) }),
            };
        }
        let absent = StatusCode::NOT_FOUND == answer.status
            && service_error(&answer).is_some_and(|error| error.code == "ResourceNotFound");
        if absent { Ok(None) } else { Err(classify(&answer).into()) }
    }

    async fn probe(&self) -> Result<(), QueryError> {
        let target = self.service.target("/api/queue/v1/ping");
        let answer = self
            .service
            .call(Method::GET, target, HeaderMap::new(), Bytes::new(), MAX_SMALL_ANSWER)
            .await
            .map_err(|error| QueryError::Retry { reason: error.to_string(), retry_after: None })?;
        match (answer.status, serde_json::from_slice::<Ping>(&answer.body)) {
            (StatusCode::OK, Ok(Ping { alive: true })) => Ok(()),
            (StatusCode::OK, _) => Err(QueryError::Outage { reason: foreign(&answer) }),
            _ => Err(classify(&answer).into()),
        }
    }
}

#[derive(Deserialize)]
struct Created<'a> {
    #[serde(borrow)]
    status: CreatedStatus<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreatedStatus<'a> {
    task_id: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Ping {
    alive: bool,
}

/// The body of the service's own errors. Without a code it is somebody else's answer.
#[derive(Deserialize)]
struct ErrorBody {
    code: String,
    message: String,
}

fn service_error(answer: &Answer) -> Option<ErrorBody> {
    let mut error: ErrorBody = serde_json::from_slice(&answer.body).ok()?;
    if let Some((end, _)) = error.message.char_indices().nth(MAX_MESSAGE) {
        error.message.truncate(end);
        error.message.push('…');
    }
    (!error.code.is_empty()).then_some(error)
}

/// What is to be done about an answer that is not a success.
pub(super) fn classify(answer: &Answer) -> CreateError {
    let status = answer.status;
    let error = service_error(answer);
    let described = || match &error {
        Some(error) => format!("{} {}: {}", status.as_u16(), error.code, error.message),
        None => foreign(answer),
    };
    if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
        return CreateError::Retry { reason: described(), retry_after: retry_after(&answer.headers) };
    }
    match (status, error) {
        // A proxy's limit speaks of this body too, in whatever words.
        (StatusCode::PAYLOAD_TOO_LARGE, None) => {
            CreateError::Refused { status: 413, code: String::new(), message: foreign(answer) }
        }
        (StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, Some(error)) => {
            let help = match status {
                StatusCode::UNAUTHORIZED => "check queue.client_id, queue.access_token and the clock",
                _ => "check queue.root_url",
            };
            CreateError::Outage {
                reason: format!("{} {}: {} ({help})", status.as_u16(), error.code, error.message),
            }
        }
        (StatusCode::CONFLICT, Some(error)) => CreateError::Conflict { message: error.message },
        (status, Some(error)) if status.is_client_error() => {
            CreateError::Refused { status: status.as_u16(), code: error.code, message: error.message }
        }
        _ => CreateError::Outage { reason: foreign(answer) },
    }
}

/// Describes an answer that is not the queue service's, without repeating it: it may be anybody's page.
fn foreign(answer: &Answer) -> String {
    let kind =
        answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no content type");
    let via = match answer.headers.get("server").and_then(|value| value.to_str().ok()) {
        Some(server) => format!(", server {server}"),
        None => String::new(),
    };
    format!(
        "an answer that is not the queue service's: status {}, {kind}, {} bytes{via} (check queue.root_url and what stands between)",
        answer.status.as_u16(),
        answer.body.len(),
    )
}

impl From<CreateError> for QueryError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Retry { reason, retry_after } => Self::Retry { reason, retry_after },
            CreateError::Outage { reason } => Self::Outage { reason },
            CreateError::Conflict { message } => {
                Self::Refused { status: 409, code: "RequestConflict".to_owned(), message }
            }
            CreateError::Refused { status, code, message } => Self::Refused { status, code, message },
        }
    }
}

#[cfg(test)]
mod tests;
