//! Who calls, and what they may do: Hawk signatures and Taskcluster's scopes.
//!
//! Two sources of truth stand behind one [`Authenticator`]: clients and roles in the configuration (`static`), or
//! the auth service of a Taskcluster deployment (`taskcluster`), which is asked about each call. `open` is for
//! `pulsehook dev` alone and cannot be configured.
//!
//! Promises: a signed call is good once (a replay within the clock's tolerance is refused, see `nonce`); a payload hash that
//! is sent is checked against the raw body; nothing about a signed call is cached, so a revocation counts at
//! once; no access token, MAC or certificate reaches a log, an error or an answer. That the auth service cannot
//! be reached is told apart from a refusal: the caller is not at fault and may come back.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde::Deserialize;

pub mod hawk;
mod nonce;
mod role;
pub mod scope;
pub mod service;
pub mod signer;

mod clients;
mod remote;
mod temporary;

pub use scope::{Insufficient, ScopeSet};

/// What callers hear, whoever they are, while nobody may call.
const CLOSED: &str =
    "nobody may use this API yet: the section [auth] of the router's configuration names no client";

/// The client id of a call that says nothing of its sender.
pub const ANONYMOUS: &str = "anonymous";

/// The section `[auth]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients and their scopes are known.
    pub mode: Mode,
    /// Mode `static`: what everybody may do, signed or not.
    pub anonymous: Vec<String>,
    /// Mode `static`: the clients.
    pub client: Vec<ClientConfig>,
    /// Mode `static`: the roles, which scopes `assume:<role_id>` stand for.
    pub role: Vec<RoleConfig>,
}

impl Config {
    /// Whether the deployment's auth service is asked.
    pub fn asks_taskcluster(&self) -> bool {
        self.mode == Mode::Taskcluster
    }
}

/// Where clients and their scopes are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In this configuration.
    #[default]
    Static,
    /// In the auth service of the deployment at `queue.root_url`.
    Taskcluster,
}

/// `[[auth.client]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Its id.
    pub client_id: String,
    /// Its access token.
    pub access_token: pulse::Secret,
    /// What it may do.
    pub scopes: Vec<String>,
}

/// `[[auth.role]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleConfig {
    /// Its id; with a final `*` it is good for every id with that prefix.
    pub role_id: String,
    /// What `assume:<role_id>` gives; `<..>` stands for what the `*` of the id matched.
    pub scopes: Vec<String>,
}

/// What is wrong with the section `[auth]`; the messages name the option, never a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// A Taskcluster deployment, and the credentials with which it is asked (for the expansion of roles).
#[derive(Debug, Clone, Copy)]
pub struct Deployment<'a> {
    /// Its root URL.
    pub root_url: &'a str,
    /// The client's id.
    pub client_id: &'a str,
    /// The client's access token.
    pub access_token: &'a pulse::Secret,
    /// Certificate of temporary credentials; empty for permanent ones.
    pub certificate: &'a pulse::Secret,
}

/// One call, as far as its sender's identity depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Method, upper case.
    pub method: &'a str,
    /// The raw request target: path and query as received, nothing decoded.
    pub target: &'a str,
    /// Host name that the caller addressed; see [`hawk::address`].
    pub host: &'a str,
    /// Port that the caller addressed.
    pub port: u16,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The whole raw body.
    pub body: &'a [u8],
    /// Where the call comes from, told to the auth service.
    pub source: Option<IpAddr>,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The client id; [`ANONYMOUS`] for a call that is not signed.
    pub client_id: String,
    /// What it may do, roles expanded.
    pub scopes: Arc<ScopeSet>,
    /// When the credentials end, if they do.
    pub expires: Option<DateTime<Utc>>,
}

impl Identity {
    /// Whether it may do what needs all of these scopes; the error lists what is missing.
    pub fn require(&self, scopes: &[String]) -> Result<(), Insufficient> {
        self.scopes.require(&self.client_id, scopes)
    }
}

/// Why a call has no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The credentials are not good: 401 `AuthenticationFailed`. The text is for the caller.
    #[error("{0}")]
    Failed(String),
    /// The auth service does not answer: 503, the caller may come back. The reason is for the log.
    #[error("the auth service is not available: {reason}")]
    Unavailable {
        /// What happened, for operators.
        reason: String,
        /// When to come back, if the service said so.
        retry_after: Option<Duration>,
    },
}

impl From<hawk::HawkError> for AuthError {
    fn from(error: hawk::HawkError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Tells who calls.
pub struct Authenticator {
    source: Source,
    nonces: nonce::Nonces,
}

enum Source {
    Open,
    Static(clients::Clients),
    Taskcluster(Box<remote::Remote>),
}

impl Authenticator {
    /// Builds it from its configuration; mode `taskcluster` asks `deployment`. Every mistake is reported.
    pub fn new(config: &Config, deployment: Deployment<'_>) -> Result<Self, Vec<ConfigError>> {
        let source = match config.mode {
            Mode::Static => Source::Static(clients::Clients::new(config)?),
            Mode::Taskcluster => Source::Taskcluster(Box::new(remote::Remote::new(config, deployment)?)),
        };
        Ok(Self { source, nonces: nonce::Nonces::default() })
    }

    /// Everybody may do everything, with any credentials or none: for `pulsehook dev`, on loopback only.
    pub fn open() -> Self {
        Self { source: Source::Open, nonces: nonce::Nonces::default() }
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        matches!(self.source, Source::Open)
    }

    /// Whether there is nobody who may anything: the configuration names no client, and gives nothing to everybody.
    pub fn is_closed(&self) -> bool {
        matches!(&self.source, Source::Static(clients) if clients.is_empty())
    }

    /// Who calls, and what they may do.
    pub async fn authenticate(&self, call: &Call<'_>) -> Result<Identity, AuthError> {
        self.authenticate_at(call, SystemTime::now()).await
    }

    async fn authenticate_at(&self, call: &Call<'_>, now: SystemTime) -> Result<Identity, AuthError> {
        let authorization = match call.headers.get(http::header::AUTHORIZATION) {
            None => None,
            Some(value) => Some(value.to_str().map_err(|_| {
                AuthError::Failed(
                    "the Authorization header has characters outside printable ASCII".to_owned(),
                )
            })?),
        };
        let Call { method, target, host, port, .. } = *call;
        let request = hawk::SignedRequest { method, target, host, port, authorization };
        let claim = match (&self.source, hawk::Claim::read(&request)) {
            (Source::Open, claim) => {
                let client_id = claim.ok().flatten().map(|claim| claim.client_id.into_owned());
                return Ok(Identity {
                    client_id: client_id.unwrap_or_else(|| ANONYMOUS.to_owned()),
                    scopes: Arc::new(ScopeSet::new(["*"])),
                    expires: None,
                });
            }
            (_, claim) => claim?,
        };
        if self.is_closed() {
            return Err(AuthError::Failed(CLOSED.to_owned()));
        }
        let identity = match (&self.source, &claim) {
            (Source::Taskcluster(remote), _) => {
                remote.authenticate(call, authorization, claim.is_none()).await?
            }
            (Source::Static(clients), Some(claim)) => clients.authenticate(&request, claim, now)?,
            (Source::Static(clients), None) => clients.anonymous(),
            (Source::Open, _) => return Err(AuthError::Failed("unreachable in open mode".to_owned())),
        };
        if let Some(claim) = &claim {
            if let Some(hash) = claim.payload_hash() {
                let content_type = call.headers.get(http::header::CONTENT_TYPE);
                hawk::payload_matches(hash, content_type.and_then(|value| value.to_str().ok()), call.body)?;
            }
            // Last, when everything else is good: only authenticated clients take part in the memory of nonces.
            if let Some((nonce, time)) = claim.nonce() {
                self.nonces.first_use(&identity.client_id, nonce, time, now)?;
            }
        }
        Ok(identity)
    }

    /// What a set of scopes amounts to when its roles are expanded, e.g. `["assume:hook-id:<group>/<hook>"]`.
    pub async fn expand(&self, scopes: &[String]) -> Result<Arc<ScopeSet>, AuthError> {
        match &self.source {
            Source::Open => Ok(Arc::new(ScopeSet::new(["*"]))),
            Source::Static(clients) => clients.expand(scopes).map(Arc::new),
            Source::Taskcluster(remote) => remote.expand(scopes).await.map(Arc::new),
        }
    }
}

#[cfg(test)]
mod tests;
