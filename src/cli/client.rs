//! The CLI's side of the API.

use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use clap::Args;
use serde_json::Value;

use crate::auth::service::{Limits, Service};
use crate::hook::HookName;

/// Answers beyond this are not read.
const MAX_ANSWER: usize = 64 << 20;

/// Where the API is.
#[derive(Debug, Clone, Args)]
pub(super) struct ServerArgs {
    /// Root URL of the router: the API is at <URL>/api/hooks/v1.
    #[arg(long, value_name = "URL", env = "TASKCLUSTER_ROOT_URL", default_value = "http://127.0.0.1:8080")]
    root_url: String,
}

pub(super) struct Client {
    service: Service,
    root_url: String,
}

/// An answer that is not a success.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    pub status: StatusCode,
    pub message: String,
}

impl ServerArgs {
    pub fn client(&self) -> anyhow::Result<Client> {
        let service = Service::new(
            &self.root_url,
            Limits {
                call: Duration::from_secs(60),
                connect: Duration::from_secs(10),
                idle: Duration::from_secs(30),
                concurrency: 8,
            },
        )?;
        Ok(Client { service, root_url: self.root_url.clone() })
    }
}

impl Client {
    /// Calls the API; `path` is below `/api/hooks/v1`. Fails with [`Refused`] when the answer is an error.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut headers = HeaderMap::new();
        let host = format!("{}:{}", self.service.host(), self.service.port());
        headers.insert(header::HOST, HeaderValue::from_str(&host).context("the root URL's host")?);
        let bytes = match body {
            Some(body) => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Bytes::from(serde_json::to_vec(body)?)
            }
            None => Bytes::new(),
        };
        let target = self.service.target(&format!("/api/hooks/v1{path}"));
        let answer =
            self.service.call(method, target, headers, bytes, MAX_ANSWER).await.with_context(|| {
                format!("cannot reach {} (--root-url says where the router is)", self.root_url)
            })?;
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if answer.status.is_success() {
            return Ok(value);
        }
        match value.get("message").and_then(Value::as_str) {
            Some(message) => bail!(Refused { status: answer.status, message: message.to_owned() }),
            None => bail!("{} answered {}: is that a pulsehook router?", self.root_url, answer.status),
        }
    }
}

/// The path of a hook below `/api/hooks/v1`, a slash in the id escaped.
pub(super) fn hook_path(name: &HookName) -> String {
    format!("/hooks/{}/{}", name.group, name.id.replace('/', "%2F"))
}
