//! Errors as Taskcluster's services answer them: `{code, message, requestInfo}`.

use axum::response::{IntoResponse, Response};
use chrono::{SecondsFormat, Utc};
use http::{StatusCode, header};
use serde_json::{Value, json};

/// An error answer.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    pub method: &'static str,
    pub params: Value,
    pub retry_after: Option<u64>,
}

impl Problem {
    pub fn new(status: u16, code: &'static str, message: impl ToString) -> Self {
        Self { status, code, message: message.to_string(), method: "", params: json!({}), retry_after: None }
    }

    pub fn unauthenticated(message: impl ToString) -> Self {
        Self::new(401, "AuthenticationFailed", message)
    }

    pub fn input(message: impl ToString) -> Self {
        Self::new(400, "InputError", message)
    }

    /// Names the API method and its parameters, for `requestInfo`.
    pub fn of(mut self, method: &'static str, task_id: &str) -> Self {
        self.method = method;
        self.params = json!({ "taskId": task_id });
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let Self { status, code, method, .. } = self;
        let details = format!(
            "\n\n---\n\n* method:     {method}\n* errorCode:  {code}\n* statusCode: {status}\n* time:       {time}"
        );
        let body = json!({
            "code": code,
            "message": self.message + &details,
            "requestInfo": { "method": method, "params": self.params, "payload": {}, "time": time },
        });
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
