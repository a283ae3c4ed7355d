//! Errors as Taskcluster services answer them: `{code, message, requestInfo}`.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::hook::Problem;
use crate::store::StoreError;

/// The error codes of Taskcluster services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Not JSON, or not declared as JSON.
    MalformedPayload,
    /// A path or query parameter.
    InvalidRequestArguments,
    /// The body does not match its schema.
    InputValidationError,
    /// The body is not acceptable for another reason.
    InputError,
    /// The credentials are not good.
    AuthenticationFailed,
    /// The caller may not do this.
    InsufficientScopes,
    /// No such hook, group or route.
    ResourceNotFound,
    /// Another definition stands under the name.
    RequestConflict,
    /// The body is too large.
    InputTooLarge,
    /// The method is not one of the route's.
    MethodNotAllowed,
    /// Refused because of where the request comes from.
    Forbidden,
    /// Ours.
    InternalServerError,
    /// Something that is needed does not answer; the same call may work in a moment.
    ServiceUnavailable,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::MalformedPayload
            | Self::InvalidRequestArguments
            | Self::InputValidationError
            | Self::InputError => StatusCode::BAD_REQUEST,
            Self::AuthenticationFailed => StatusCode::UNAUTHORIZED,
            Self::InsufficientScopes | Self::Forbidden => StatusCode::FORBIDDEN,
            Self::ResourceNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestConflict => StatusCode::CONFLICT,
            Self::InputTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An error answer.
#[derive(Debug)]
pub struct ApiError {
    code: Code,
    message: String,
    faults: Vec<Problem>,
    retry_after: Option<Duration>,
    request: Box<RequestInfo>,
}

/// What was asked: the method's name, its parameters and its body, for `requestInfo`.
#[derive(Debug, Default, Clone)]
pub struct RequestInfo {
    method: &'static str,
    params: Map<String, Value>,
    payload: Value,
}

/// The parameter of the route that is a secret.
const SECRET_PARAMETER: &str = "token";

/// Bodies that are longer than this are not sent back.
const LONGEST_PAYLOAD: usize = 16 << 10;

impl RequestInfo {
    /// Nothing but the name in the API reference, e.g. `createHook`.
    pub(super) fn new(method: &'static str) -> Self {
        Self { method, ..Self::default() }
    }

    /// Parameters of the path; a token is left out.
    pub(super) fn set_params(&mut self, params: &BTreeMap<String, String>) {
        let shown = params.iter().filter(|(name, _)| *name != SECRET_PARAMETER);
        self.params = shown.map(|(name, value)| (name.clone(), value.clone().into())).collect();
    }

    /// The body, if it is not long.
    pub(super) fn set_payload(&mut self, payload: &Value) {
        if payload.to_string().len() <= LONGEST_PAYLOAD {
            self.payload = payload.clone();
        }
    }
}

impl ApiError {
    /// An error with a message for the caller.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), faults: Vec::new(), retry_after: None, request: Box::default() }
    }

    /// Problems of a document, a line each.
    pub fn problems(code: Code, what: &str, problems: &[Problem]) -> Self {
        let lines: Vec<String> = problems.iter().map(|problem| format!("  * {problem}")).collect();
        Self { faults: problems.to_vec(), ..Self::new(code, format!("{what}:\n\n{}", lines.join("\n"))) }
    }

    /// What kind of error it is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What it says to the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What is wrong with a document, where that is what it is about.
    pub fn faults(&self) -> &[Problem] {
        &self.faults
    }

    /// The same error, with when to come back.
    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same error with what was asked.
    pub(super) fn of(mut self, request: &RequestInfo) -> Self {
        self.request = Box::new(request.clone());
        self
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the API cannot use the store");
        Self::new(Code::InternalServerError, "the store cannot be used right now; the router's log says why")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({
            "code": format!("{:?}", self.code),
            "message": self.message,
            "requestInfo": {
                "method": self.request.method,
                "params": self.request.params,
                "payload": self.request.payload,
                "time": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            },
        });
        let mut response = (self.code.status(), Json(body)).into_response();
        let headers = response.headers_mut();
        if self.code == Code::AuthenticationFailed {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Hawk"));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}

/// Says nothing of the path: there may be a token in it.
pub(super) async fn no_such_route() -> ApiError {
    ApiError::new(Code::ResourceNotFound, "there is no such path; /api/hooks/v1/openapi.json lists all")
}

pub(super) async fn no_such_method(method: axum::http::Method) -> ApiError {
    ApiError::new(Code::MethodNotAllowed, format!("this path does not take {method}"))
}
