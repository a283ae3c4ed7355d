//! The CLI's side of the API.

use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use clap::Args;
use serde_json::Value;

use super::output::Output;
use crate::auth::service::{Limits, Service};
use crate::auth::signer::Signer;
use crate::hook::HookName;

/// A call that takes longer has failed: longer than the router waits for a trigger's outcome (a minute), or takes for anything.
const CALL_TIME: Duration = Duration::from_secs(90);

/// Answers beyond this are not read.
const MAX_ANSWER: usize = 64 << 20;

/// Where the API is. Who calls is in TASKCLUSTER_CLIENT_ID, TASKCLUSTER_ACCESS_TOKEN and, for temporary credentials,
/// TASKCLUSTER_CERTIFICATE, as in Taskcluster's own tools; without them calls are not signed.
#[derive(Debug, Clone, Args)]
pub(super) struct ServerArgs {
    /// Root URL of the router: the API is at <URL>/api/hooks/v1.
    #[arg(long, value_name = "URL", env = "TASKCLUSTER_ROOT_URL", default_value = "http://127.0.0.1:8080")]
    root_url: String,
    /// How results are shown.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

pub(super) struct Client {
    service: Service,
    root_url: String,
    signer: Option<Signer>,
    /// What the names of the variables with credentials begin with.
    prefix: String,
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
        client_of(&self.root_url, "TASKCLUSTER")
    }
}

/// A client of the router at this root URL, with the credentials in `<prefix>_CLIENT_ID` and its kin.
pub(super) fn client_of(root_url: &str, prefix: &str) -> anyhow::Result<Client> {
    let service = Service::new(
        root_url,
        Limits {
            call: CALL_TIME,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            concurrency: 8,
        },
    )?;
    let signer = signer(&service, prefix)?;
    Ok(Client { service, root_url: root_url.to_owned(), signer, prefix: prefix.to_owned() })
}

/// Signs with the credentials of the environment. Access tokens are not options: other users of a machine see those.
fn signer(service: &Service, prefix: &str) -> anyhow::Result<Option<Signer>> {
    let variable =
        |name: &str| std::env::var(format!("{prefix}_{name}")).ok().filter(|value| !value.is_empty());
    let (id, token) = (variable("CLIENT_ID"), variable("ACCESS_TOKEN"));
    let certificate = variable("CERTIFICATE");
    match (id, token) {
        (Some(id), Some(token)) => {
            Ok(Some(Signer::new(&id, &token, certificate.as_deref(), service.host(), service.port())?))
        }
        (Some(_), None) => bail!("{prefix}_CLIENT_ID is set, {prefix}_ACCESS_TOKEN is not"),
        (None, _) => Ok(None),
    }
}

impl Client {
    /// Calls the API; `path` is below `/api/hooks/v1`. Fails with [`Refused`] when the answer is an error.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.call_with(method, path, [], body).await
    }

    /// The same with more headers.
    pub async fn call_with<'a>(
        &self,
        method: Method,
        path: &str,
        more: impl IntoIterator<Item = (&'static str, &'a str)>,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let mut headers = HeaderMap::new();
        for (name, value) in more {
            headers.insert(name, HeaderValue::from_str(value).with_context(|| name.to_owned())?);
        }
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
        if let Some(signer) = &self.signer {
            headers.insert(header::AUTHORIZATION, signer.sign(method.as_str(), &target, None)?);
        }
        let answer =
            self.service.call(method, target, headers, bytes, MAX_ANSWER).await.with_context(|| {
                format!("cannot reach {} (--root-url says where the router is)", self.root_url)
            })?;
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        // Any page may come with a 200, a login form for example.
        if answer.status.is_success() && value.is_object() {
            return Ok(value);
        }
        match value.get("message").and_then(Value::as_str) {
            Some(message) => {
                let hint = match (answer.status, &self.signer) {
                    (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => {
                        let prefix = &self.prefix;
                        format!(
                            "\n(the call was not signed: set {prefix}_CLIENT_ID and {prefix}_ACCESS_TOKEN)"
                        )
                    }
                    _ => String::new(),
                };
                bail!(Refused { status: answer.status, message: format!("{message}{hint}") })
            }
            None => bail!("{} answered {}: is that a pulsehook router?", self.root_url, answer.status),
        }
    }
}

/// The path of a hook below `/api/hooks/v1`, a slash in the id escaped.
pub(super) fn hook_path(name: &HookName) -> String {
    format!("/hooks/{}/{}", name.group, name.id.replace('/', "%2F"))
}
