//! The HTTP API: Taskcluster Hooks v1 under `/api/hooks/v1`, and what pulsehook adds to it.
//!
//! All methods stand in one table, [`table::TABLE`]: routes, scopes, schemas and the published descriptions of the API come
//! from it. Each call goes through one door ([`door`]), which lets in who may and what is well formed. In open mode, which is
//! for `pulsehook dev`, everybody on this machine may everything, and no web page may anything ([`local_only`]).

mod audit;
mod cors;
pub mod door;
pub mod endpoint;
mod error;
mod fires;
mod hooks;
pub mod inside;
pub mod local_only;
mod record;
pub mod reference;
mod rules;
mod schedule;
mod schemas;
mod service;
pub mod table;
mod token;
mod trigger;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderValue;
use axum::routing::{MethodFilter, any, on};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::auth::Authenticator;
pub use error::{ApiError, Code};

/// Below which the methods are.
const PREFIX: &str = "/api/hooks/v1";

/// `[api]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Larger request bodies are answered 413.
    pub max_body_bytes: usize,
    /// Whose web pages may call: `*` or one origin; empty: nobody's.
    pub cors_origin: String,
    /// Exchanges that no hook may be bound to, besides those that would never end: regular expressions over the whole name.
    pub denied_exchanges: Vec<String>,
    /// For how long a trigger waits for its outcome unless its caller says otherwise.
    pub trigger_wait_seconds: u32,
    /// Entries of the audit trail are kept for so many days.
    pub audit_kept_days: u32,
}

/// What the API is given.
pub struct Parts<'a> {
    /// `[api]`.
    pub config: &'a Config,
    /// `[pulse] user`.
    pub user: &'a str,
    /// Where hooks and fires are kept.
    pub store: crate::store::Store,
    /// The router that is running on it.
    pub router: crate::router::Router,
    /// Tells who calls.
    pub authenticator: Arc<Authenticator>,
    /// The deployment's secret for task ids, from which that for tokens is derived.
    pub task_id_key: &'a [u8],
}

/// What the handlers need.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    store: crate::store::Store,
    router: crate::router::Router,
    authenticator: Arc<Authenticator>,
    token_key: token::TokenKey,
    denied: rules::DenyList,
    cors_origin: Option<HeaderValue>,
    max_body_bytes: usize,
    body_budget: Arc<Semaphore>,
    trigger_wait: Duration,
    audit_kept_days: u32,
    started: std::time::Instant,
}

impl Config {
    /// Checks what only this module understands.
    pub fn check(&self) -> Result<(), String> {
        rules::DenyList::new("", &self.denied_exchanges)?;
        self.origin().map(drop)
    }

    fn origin(&self) -> Result<Option<HeaderValue>, String> {
        match self.cors_origin.as_str() {
            "" => Ok(None),
            origin => HeaderValue::from_str(origin).map(Some).map_err(|_| {
                format!("api.cors_origin = {origin:?}: it must be \"*\", an origin as https://example.com, or empty")
            }),
        }
    }
}

impl Api {
    /// An API on a running router. Fails when the configuration is not usable, as [`Config::check`] says beforehand.
    pub async fn new(parts: Parts<'_>) -> anyhow::Result<Self> {
        let config = parts.config;
        let refused = anyhow::Error::msg;
        let store_id = parts.store.id().await?;
        let inner = Inner {
            token_key: token::TokenKey::new(parts.task_id_key, &store_id),
            denied: rules::DenyList::new(parts.user, &config.denied_exchanges).map_err(refused)?,
            cors_origin: config.origin().map_err(refused)?.filter(|_| !parts.authenticator.is_open()),
            max_body_bytes: config.max_body_bytes,
            body_budget: Arc::new(Semaphore::new(door::BODY_BUDGET_KIB)),
            trigger_wait: Duration::from_secs(config.trigger_wait_seconds.into()),
            audit_kept_days: config.audit_kept_days,
            started: std::time::Instant::now(),
            store: parts.store,
            router: parts.router,
            authenticator: parts.authenticator,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The routes, with their full paths.
    pub fn routes(&self) -> Router {
        // Not nested: that would hide the prefix, which signatures cover, from the door.
        let mut routes = Router::new();
        for endpoint in table::TABLE {
            // The methods of the table are methods that axum knows; a test holds the table to that.
            let Ok(method) = MethodFilter::try_from(endpoint.method.clone()) else { continue };
            let handler = async move |State(api): State<Api>,
                                      params: Result<Path<BTreeMap<String, String>>, PathRejection>,
                                      request: Request| {
                let params = params.map(|Path(params)| params).map_err(|error| error.body_text());
                door::pass(api, endpoint, params, request).await
            };
            routes = routes.route(&format!("{PREFIX}{}", endpoint.axum_route()), on(method, handler));
        }
        let routes = routes
            .merge(reference::routes())
            .route(&format!("{PREFIX}/{{*rest}}"), any(error::no_such_route))
            .method_not_allowed_fallback(error::no_such_method)
            .with_state(self.clone());
        match &self.inner.cors_origin {
            Some(origin) => routes.layer(axum::middleware::from_fn_with_state(origin.clone(), cors::cors)),
            None => routes,
        }
    }
}
