//! Errors as Taskcluster services answer them: `{code, message, requestInfo}`.

use axum::Json;
use axum::http::StatusCode;
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
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::MalformedPayload
            | Self::InvalidRequestArguments
            | Self::InputValidationError
            | Self::InputError => StatusCode::BAD_REQUEST,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::ResourceNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestConflict => StatusCode::CONFLICT,
            Self::InputTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An error answer.
#[derive(Debug)]
pub struct ApiError {
    code: Code,
    message: String,
    request: RequestInfo,
}

/// What was asked: the method's name and its parameters, for `requestInfo`.
#[derive(Debug, Default, Clone)]
pub struct RequestInfo {
    /// Name in the API reference, e.g. `createHook`.
    pub method: &'static str,
    /// Parameters of the path.
    pub params: Map<String, Value>,
    /// The body, where there is one.
    pub payload: Value,
}

impl ApiError {
    /// An error with a message for the caller.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), request: RequestInfo::default() }
    }

    /// Problems of a document, a line each.
    pub fn problems(code: Code, what: &str, problems: &[Problem]) -> Self {
        let lines: Vec<String> = problems.iter().map(|problem| format!("  * {problem}")).collect();
        Self::new(code, format!("{what}:\n\n{}", lines.join("\n")))
    }

    /// The same error with what was asked.
    pub fn of(mut self, request: &RequestInfo) -> Self {
        self.request = request.clone();
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
        (self.code.status(), Json(body)).into_response()
    }
}

pub(super) async fn no_such_route(uri: axum::http::Uri) -> ApiError {
    ApiError::new(Code::ResourceNotFound, format!("there is no {} here", uri.path()))
}

pub(super) async fn no_such_method(method: axum::http::Method, uri: axum::http::Uri) -> ApiError {
    ApiError::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}
