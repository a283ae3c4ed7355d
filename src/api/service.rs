//! What the service says of itself.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Api;

/// `ping`: alive, and for how many seconds.
pub(super) async fn ping(State(api): State<Api>) -> Json<Value> {
    Json(json!({ "alive": true, "uptime": api.inner.started.elapsed().as_secs_f64() }))
}

pub(super) async fn empty() -> Json<Value> {
    Json(json!({}))
}

/// Dockerflow's version object.
pub(super) async fn version() -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("PULSEHOOK_COMMIT").unwrap_or(""),
        "source": "",
        "build": "",
    }))
}
