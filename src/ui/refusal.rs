//! Why a page is not shown, or something is not done: for the person who asked, in words that say what to do.

use axum::http::StatusCode;

use crate::api::{ApiError, Code};
use crate::auth::{AuthError, Insufficient};
use crate::store::StoreError;

/// See the module.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Their scopes do not allow it; who is not signed in is asked to.
    Scopes(Insufficient),
    /// Anything else.
    Fault { status: StatusCode, title: &'static str, message: String },
}

impl Refusal {
    fn fault(status: StatusCode, title: &'static str, message: impl Into<String>) -> Self {
        Self::Fault { status, title, message: message.into() }
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::fault(StatusCode::NOT_FOUND, "Not found", message)
    }

    /// What was sent cannot be used.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::fault(StatusCode::BAD_REQUEST, "This cannot be done", message)
    }

    /// A form without our token.
    pub fn forged() -> Self {
        Self::fault(
            StatusCode::FORBIDDEN,
            "This form is out of date",
            "It was not sent from a page of this session, or the session has ended meanwhile. Nothing was done. Go back, \
             reload the page and send the form again.",
        )
    }

    /// Too many of a kind at once.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::fault(StatusCode::SERVICE_UNAVAILABLE, "Busy", message)
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Scopes(_) => StatusCode::FORBIDDEN,
            Self::Fault { status, .. } => *status,
        }
    }
}

impl From<Insufficient> for Refusal {
    fn from(refusal: Insufficient) -> Self {
        Self::Scopes(refusal)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the pages cannot use the store");
        let message = "The store cannot be used right now; the router's log says why.";
        Self::fault(StatusCode::SERVICE_UNAVAILABLE, "The store is not available", message)
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Failed(message) => Self::fault(StatusCode::UNAUTHORIZED, "Not signed in", message),
            AuthError::Unavailable { reason, .. } => {
                tracing::error!(reason, "the auth service is not available");
                let message =
                    "The auth service, which knows who may do this, does not answer. Try again in a moment.";
                Self::fault(StatusCode::SERVICE_UNAVAILABLE, "Cannot sign in", message)
            }
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let (status, title) = match error.code() {
            Code::ResourceNotFound => (StatusCode::NOT_FOUND, "Not found"),
            Code::RequestConflict => (StatusCode::CONFLICT, "Somebody was quicker"),
            Code::InsufficientScopes => (StatusCode::FORBIDDEN, "Not allowed"),
            Code::ServiceUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Not available"),
            Code::InternalServerError => (StatusCode::INTERNAL_SERVER_ERROR, "Something failed"),
            _ => (StatusCode::BAD_REQUEST, "This cannot be done"),
        };
        Self::fault(status, title, error.message())
    }
}
