//! Mode `taskcluster`: asks the auth service of the deployment about every call.
//!
//! The service knows clients, roles and revocations; nothing of a signed call is remembered here. What an
//! unsigned call may do is the same for all of them and is kept for [`ANONYMOUS_CACHE`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::service::{Answer, Limits, Service, retry_after};
use super::signer::Signer;
use super::{ANONYMOUS, AuthError, Call, Config, ConfigError, Deployment, Identity, ScopeSet};

/// How long the anonymous role's scopes are kept: a change counts within seconds.
const ANONYMOUS_CACHE: Duration = Duration::from_secs(5);

/// The longest answer: a client with all scopes of a large deployment has some hundred kilobytes of them.
const MAX_ANSWER: usize = 8 << 20;

/// Someone waits for the answer, so the auth service has less time than the queue.
const LIMITS: Limits = Limits {
    call: Duration::from_secs(10),
    connect: Duration::from_secs(5),
    idle: Duration::from_secs(60),
    concurrency: 32,
};

pub(super) struct Remote {
    service: Service,
    signer: Signer,
    anonymous: Mutex<Option<(Instant, Arc<ScopeSet>)>>,
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case", rename_all_fields = "camelCase")]
enum Verdict {
    AuthSuccess { client_id: String, scopes: Vec<String>, expires: DateTime<Utc> },
    AuthFailed { message: String },
    NoAuth { scopes: Vec<String> },
}

#[derive(Deserialize)]
struct Expanded {
    scopes: Vec<String>,
}

impl Remote {
    pub fn new(config: &Config, queue: Deployment<'_>) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        for (option, used) in [
            ("anonymous", !config.anonymous.is_empty()),
            ("client", !config.client.is_empty()),
            ("role", !config.role.is_empty()),
        ] {
            if used {
                errors.push(ConfigError(format!(
                    "auth.{option} is for mode \"static\"; in mode \"taskcluster\" the auth service knows it"
                )));
            }
        }
        let built = Service::new(queue.root_url, LIMITS)
            .map_err(|error| format!("queue.root_url: {error}"))
            .and_then(|service| {
                let token =
                    queue.access_token.resolve().map_err(|error| format!("queue.access_token: {error}"))?;
                let certificate =
                    queue.certificate.resolve().map_err(|error| format!("queue.certificate: {error}"))?;
                let certificate = Some(certificate.as_str()).filter(|text| !text.is_empty());
                Signer::new(queue.client_id, &token, certificate, service.host(), service.port())
                    .map(|signer| (service, signer))
                    .map_err(|error| format!("queue: {error}"))
            });
        match built {
            Ok((service, signer)) if errors.is_empty() => {
                Ok(Self { service, signer, anonymous: Mutex::default() })
            }
            Ok(_) => Err(errors),
            Err(reason) => {
                errors.push(ConfigError(reason));
                Err(errors)
            }
        }
    }

    pub async fn authenticate(
        &self,
        call: &Call<'_>,
        authorization: Option<&str>,
        unsigned: bool,
    ) -> Result<Identity, AuthError> {
        if unsigned && let Some(scopes) = self.kept_anonymous() {
            return Ok(anonymous(scopes));
        }
        let mut question = json!({
            "method": call.method.to_ascii_lowercase(), "resource": call.target, "host": call.host, "port": call.port,
        });
        if let Some(authorization) = authorization {
            question["authorization"] = authorization.into();
        }
        if let Some(source) = call.source {
            question["sourceIp"] = source.to_string().into();
        }
        let answer = self.ask("/api/auth/v1/authenticate-hawk", &question, HeaderMap::new()).await?;
        let verdict = serde_json::from_slice(&answer.body).map_err(|_| foreign(&answer))?;
        match (verdict, unsigned) {
            (Verdict::AuthSuccess { client_id, scopes, expires }, false) => {
                if expires < Utc::now() {
                    return Err(AuthError::Failed("the credentials have expired".to_owned()));
                }
                Ok(Identity { client_id, scopes: Arc::new(ScopeSet::new(scopes)), expires: Some(expires) })
            }
            (Verdict::NoAuth { scopes }, true) => {
                let scopes = Arc::new(ScopeSet::new(scopes));
                let mut kept = self.anonymous.lock().unwrap_or_else(PoisonError::into_inner);
                *kept = Some((Instant::now(), scopes.clone()));
                Ok(anonymous(scopes))
            }
            (Verdict::AuthFailed { message }, _) => Err(AuthError::Failed(message)),
            // Signed here, unsigned there, or the other way round: the two did not read the same call.
            _ => Err(AuthError::Failed(
                "the auth service did not recognise the request's signature".to_owned(),
            )),
        }
    }

    pub async fn expand(&self, scopes: &[String]) -> Result<ScopeSet, AuthError> {
        let path = "/api/auth/v1/scopes/expand";
        let authorization = self
            .signer
            .sign("POST", &self.service.target(path), None)
            .map_err(|error| unavailable(format!("the call cannot be signed: {error}")))?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
        let answer = self.ask(path, &json!({ "scopes": scopes }), headers).await?;
        let expanded: Expanded = serde_json::from_slice(&answer.body).map_err(|_| foreign(&answer))?;
        Ok(ScopeSet::new(expanded.scopes))
    }

    async fn ask(&self, path: &str, question: &Value, mut headers: HeaderMap) -> Result<Answer, AuthError> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = Bytes::from(question.to_string());
        let target = self.service.target(path);
        let answer = self
            .service
            .call(Method::POST, target, headers, body, MAX_ANSWER)
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        if answer.status == StatusCode::OK { Ok(answer) } else { Err(foreign(&answer)) }
    }

    fn kept_anonymous(&self) -> Option<Arc<ScopeSet>> {
        let kept = self.anonymous.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(since, _)| since.elapsed() < ANONYMOUS_CACHE).map(|(_, scopes)| scopes.clone())
    }
}

fn anonymous(scopes: Arc<ScopeSet>) -> Identity {
    Identity { client_id: ANONYMOUS.to_owned(), scopes, expires: None }
}

fn unavailable(reason: String) -> AuthError {
    AuthError::Unavailable { reason, retry_after: None }
}

fn foreign(answer: &Answer) -> AuthError {
    AuthError::Unavailable {
        reason: format!(
            "status {}, {} bytes, which is no answer of an auth service (check queue.root_url and what stands between)",
            answer.status.as_u16(),
            answer.body.len()
        ),
        retry_after: retry_after(&answer.headers),
    }
}
