//! What the service says of itself.

use serde_json::{Value, json};

use super::ApiError;
use super::endpoint::Call;

/// `ping`: alive, and for how many seconds.
pub(super) async fn ping(call: Call) -> Result<Value, ApiError> {
    Ok(json!({ "alive": true, "uptime": call.api.inner.started.elapsed().as_secs_f64() }))
}

/// Being able to answer is all that is asked.
pub(super) async fn empty(_: Call) -> Result<Value, ApiError> {
    Ok(json!({}))
}

/// The store can be read.
pub(super) async fn heartbeat(call: Call) -> Result<Value, ApiError> {
    call.api.inner.store.published_watermark().await?;
    Ok(json!({}))
}

/// Dockerflow's version object.
pub(super) async fn version(_: Call) -> Result<Value, ApiError> {
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("PULSEHOOK_COMMIT").unwrap_or(""),
        "source": "",
        "build": "",
    }))
}
