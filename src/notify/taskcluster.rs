//! Mail through Taskcluster's notify service: `POST <root_url>/api/notify/v1/email`, which needs the scope
//! `notify:email:<address>`. Its texts are Markdown; ours is sent as one block of code, so that it stays as it is.

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::{Mail, Mailer, SendError};
use crate::auth::service::{Answer, Limits, Service};
use crate::auth::signer::Signer;
use crate::queue::taskcluster::{BuildError, client};

/// Answers are short.
const MAX_ANSWER: usize = 1 << 20;

/// The service takes at most 255 characters of subject.
const MAX_SUBJECT: usize = 255;

/// The notify service of a deployment.
pub(super) struct Notify {
    service: Service,
    signer: Signer,
}

impl Notify {
    pub fn new(config: &crate::queue::Config) -> Result<Self, BuildError> {
        let (service, signer) = client(config, Limits { concurrency: 1, ..Limits::from(config) })?;
        Ok(Self { service, signer })
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, String> {
        let target = self.service.target(path);
        let mut headers = HeaderMap::new();
        let authorization =
            self.signer.sign(method.as_str(), &target, None).map_err(|error| error.to_string())?;
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.service.call(method, target, headers, body, MAX_ANSWER).await.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Mailer for Notify {
    async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let subject: String = mail.subject.chars().take(MAX_SUBJECT).collect();
        let content: Vec<String> = mail.body.lines().map(|line| format!("    {line}")).collect();
        let body = json!({ "address": mail.to, "subject": subject, "content": content.join("\n") });
        let answer = self
            .call(Method::POST, "/api/notify/v1/email", Bytes::from(body.to_string()))
            .await
            .map_err(SendError::Later)?;
        if answer.status.is_success() {
            return Ok(());
        }
        let error: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let told = error["message"].as_str().unwrap_or("an answer that is not the service's");
        let reason = format!("{} {told}", answer.status.as_u16());
        match answer.status {
            // What the service itself says about this mail; anything else may be somebody between.
            StatusCode::BAD_REQUEST if error["code"].is_string() => Err(SendError::Refused(reason)),
            _ => Err(SendError::Later(reason)),
        }
    }

    async fn check(&self) -> Result<(), String> {
        let answer = self.call(Method::GET, "/api/notify/v1/ping", Bytes::new()).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(format!("the notify service answers {}", answer.status)),
        }
    }
}
