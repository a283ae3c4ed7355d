//! Health, as Dockerflow has it: `/__heartbeat__`, `/__lbheartbeat__`, `/__version__`; and `/__ready__`.
//!
//! Heartbeat and readiness fail when the bridge can neither publish nor spool: then a load balancer should send events
//! elsewhere. The process lives for as long as `/__lbheartbeat__` answers: no trouble of others is a reason to restart it.
//!
//! Strangers reach these addresses, so what they tell names no host, user or file: that is in the log and in `/__status__`.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use pulse::Status;
use serde_json::json;

use crate::bridge::Shared;

/// The routes.
pub fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/__heartbeat__", get(heartbeat))
        .route("/__lbheartbeat__", get(async || StatusCode::OK))
        .route("/__ready__", get(ready))
        .route("/__version__", get(version))
        .with_state(shared)
}

async fn heartbeat(State(shared): State<Arc<Shared>>) -> Response {
    let now = (shared.now)().timestamp_millis();
    let broker = match &*shared.publisher.status().borrow() {
        Status::Up => Ok(()),
        Status::Down { .. } => Err("the broker is away, or blocks publishers"),
    };
    let spool = match &shared.spool {
        Some(spool) => spool.check(now).map_err(|error| error.outside()),
        None => Err("there is no spool"),
    };
    let told = |result: &Result<(), &str>| match result {
        Ok(()) => json!({"ok": true}),
        Err(reason) => json!({"ok": false, "reason": reason}),
    };
    let works = broker.is_ok() || spool.is_ok();
    let contents = shared.spool.as_ref().map(|spool| spool.contents(now));
    let body = json!({
        "status": if works { "ok" } else { "error" },
        "checks": {"broker": told(&broker), "spool": told(&spool)},
        "spool": contents,
    });
    let status = if works { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// 200 while events can be taken.
async fn ready(State(shared): State<Arc<Shared>>) -> StatusCode {
    let now = (shared.now)().timestamp_millis();
    let broker = *shared.publisher.status().borrow() == Status::Up;
    let takes = broker || shared.spool.as_ref().is_some_and(|spool| spool.check(now).is_ok());
    if takes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn version() -> Json<serde_json::Value> {
    Json(json!({
        "name": "pulsehook-bridge",
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("PULSEHOOK_COMMIT"),
    }))
}
