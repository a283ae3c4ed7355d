//! Every way in which the bridge says no, with its HTTP status and its code.
//!
//! The one place that maps errors to HTTP. A refusal is answered `{code, message}`, logged once where it is answered,
//! and never holds a secret, a signature or a body. After a refusal nothing was published.
//!
//! A refusal's text is for strangers. What the broker and the spool said names hosts, users and files: it is for those who operate
//! the bridge, in the log and in `/__status__`; see [`Refusal::inside`].

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::signature::SignatureError;

/// Why a request is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// No source has this name.
    #[error("there is no webhook source of this name")]
    NoSource,
    /// Another method than POST.
    #[error("webhooks are sent with POST")]
    Method,
    /// No proof of the sender, or a wrong one.
    #[error("{error}")]
    Signature {
        /// What is wrong.
        error: SignatureError,
        /// The status that this provider expects for a wrong signature.
        status: u16,
    },
    /// The body is not what its content type says, or lacks what the provider always sends.
    #[error("{0}")]
    Malformed(String),
    /// A body that the bridge cannot read.
    #[error("{0}")]
    MediaType(String),
    /// Too many bytes.
    #[error("{0}")]
    TooLarge(String),
    /// The sender took too long for its body, or went away.
    #[error("the request's body did not arrive within {0} seconds")]
    TooSlow(u64),
    /// Too many requests.
    #[error("{what}; come again later")]
    TooMany {
        /// Of what there are too many.
        what: String,
        /// When to come again.
        retry_after: Duration,
    },
    /// The body came before under another delivery id, which is not signed: a replay. Holds the first message's id.
    #[error("this body came before under another delivery id, as message {0}")]
    Repeated(String),
    /// The broker will never take the message. Holds what it said, for those inside.
    #[error("the broker refuses the message")]
    NotPublishable(String),
    /// The event cannot be kept safe now.
    #[error("{reason}; nothing was published, send the event again")]
    Unavailable {
        /// Why, for people outside.
        reason: String,
        /// What exactly, for those inside; empty: no more than that.
        detail: String,
        /// When to come again.
        retry_after: Duration,
    },
}

/// When a sender shall come again whose event could not be kept safe.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The body of every refusal.
#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    message: String,
}

impl Refusal {
    /// [`Refusal::Unavailable`] for the usual time, with what strangers and what those inside are told.
    pub fn unavailable(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), detail: detail.into(), retry_after: RETRY_AFTER }
    }

    /// The refusal's text with what strangers are not told.
    pub fn inside(&self) -> String {
        match self {
            Self::NotPublishable(detail) | Self::Unavailable { detail, .. } if !detail.is_empty() => {
                format!("{self} ({detail})")
            }
            _ => self.to_string(),
        }
    }

    /// HTTP status and code.
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoSource => (StatusCode::NOT_FOUND, "ResourceNotFound"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::Signature { error: SignatureError::Missing(_), .. } => {
                (StatusCode::UNAUTHORIZED, "SignatureMissing")
            }
            Self::Signature { error, status } => (
                StatusCode::from_u16(*status).unwrap_or(StatusCode::FORBIDDEN),
                match error {
                    SignatureError::Stale { .. } => "SignatureStale",
                    SignatureError::Missing(_) | SignatureError::Wrong(_) => "SignatureWrong",
                },
            ),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "MalformedPayload"),
            Self::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge"),
            Self::TooSlow(_) => (StatusCode::REQUEST_TIMEOUT, "RequestTooSlow"),
            Self::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::Repeated(_) => (StatusCode::CONFLICT, "RepeatedBody"),
            Self::NotPublishable(_) => (StatusCode::BAD_GATEWAY, "NotPublishable"),
            Self::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } | Self::TooMany { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.status();
        let mut response = (status, Json(Body { code, message: self.to_string() })).into_response();
        if let Some(wait) = self.retry_after() {
            // At least a second: 0 would invite a storm.
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}
