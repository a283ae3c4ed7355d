//! The HTTP API: Taskcluster Hooks v1 under `/api/hooks/v1`, and what pulsehook adds to it.
//!
//! Until callers can sign in it is open, and therefore closed to the network: loopback addresses and loopback Host names
//! only, no foreign Origin, writes only as JSON (see [`local_only`]).

mod error;
mod fires;
mod hooks;
pub mod local_only;
mod record;
mod schedule;
mod service;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use serde::Deserialize;

pub use error::{ApiError, Code};

/// `[api]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Larger request bodies are answered 413.
    pub max_body_bytes: usize,
}

/// What the handlers need.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    store: crate::store::Store,
    router: crate::router::Router,
    started: std::time::Instant,
}

impl Api {
    /// An API on a running router.
    pub fn new(store: crate::store::Store, router: crate::router::Router) -> Self {
        Self { inner: Arc::new(Inner { store, router, started: std::time::Instant::now() }) }
    }

    /// The routes, with their full paths.
    pub fn routes(&self, config: &Config) -> Router {
        let v1 = Router::new()
            .route("/ping", get(service::ping))
            .route("/__lbheartbeat__", get(service::empty))
            .route("/__heartbeat__", get(service::empty))
            .route("/__version__", get(service::version))
            .route("/hooks", get(hooks::list_groups))
            .route("/hooks/{group}", get(hooks::list))
            .route(
                "/hooks/{group}/{id}",
                get(hooks::show)
                    .put(hooks::create)
                    .post(hooks::update)
                    .patch(hooks::update)
                    .delete(hooks::remove),
            )
            .route("/hooks/{group}/{id}/status", get(record::status))
            .route("/hooks/{group}/{id}/schedule", get(schedule::upcoming))
            .route("/hooks/{group}/{id}/last-fires", get(record::last_fires))
            .route("/hooks/{group}/{id}/bindings", get(record::bindings))
            .route("/hooks/{group}/{id}/decisions", get(record::decisions))
            .route("/hooks/{group}/{id}/dead-letters", get(fires::dead_of_hook))
            .route("/hooks/{group}/{id}/fires/{task}", get(fires::show))
            .route("/hooks/{group}/{id}/fires/{task}/requeue", post(fires::requeue))
            .route("/hooks/{group}/{id}/fires/{task}/drop", post(fires::drop))
            .route("/hooks/{group}/{id}/fires/{task}/replay", post(fires::replay))
            .route("/dead-letters", get(fires::dead))
            .fallback(error::no_such_route)
            .method_not_allowed_fallback(error::no_such_method)
            .with_state(self.clone());
        Router::new().nest("/api/hooks/v1", v1).layer(DefaultBodyLimit::max(config.max_body_bytes))
    }
}
