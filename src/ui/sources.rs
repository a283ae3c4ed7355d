//! Webhook sources: where they are, how to set them up at the provider, and what became of their last deliveries.
//!
//! Sources are the bridge's. In one process with it (`pulsehook dev`) it is asked directly; elsewhere it tells on an address of its
//! own, which only the router should reach. It never tells a secret, because it never says one.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode};
use bridge::status::{SourceStatus, Status};
use bytes::Bytes;
use serde_json::{Value, json};

use super::page::{Answer, segment};
use super::refusal::Refusal;
use super::visit::Visit;
use crate::auth::service::{Limits, Service};

/// The longest answer of a bridge: some hundred sources with their last deliveries.
const LONGEST: usize = 4 << 20;

/// A page waits for it, so there is not much time.
const LIMITS: Limits = Limits {
    call: Duration::from_secs(2),
    connect: Duration::from_secs(1),
    idle: Duration::from_secs(30),
    concurrency: 4,
};

/// How the bridge is asked how it is.
#[derive(Clone)]
pub enum Bridge {
    /// Nobody said where there is one.
    Unknown,
    /// In this process.
    Here(Arc<dyn Fn() -> Status + Send + Sync>),
    /// At an address.
    At(Arc<Service>),
}

impl Bridge {
    /// The bridge at `ui.bridge_status`; none if that is empty.
    pub fn at(address: &str) -> Result<Self, String> {
        if address.is_empty() {
            return Ok(Self::Unknown);
        }
        let service = Service::new(address, LIMITS).map_err(|error| format!("ui.bridge_status: {error}"))?;
        Ok(Self::At(Arc::new(service)))
    }

    /// How it is; `None` where nobody said where there is one. The error is for people.
    pub(super) async fn status(&self) -> Result<Option<Status>, String> {
        match self {
            Self::Unknown => Ok(None),
            Self::Here(ask) => Ok(Some(ask())),
            Self::At(service) => {
                let target = service.target("/__status__");
                let answer = service
                    .call(Method::GET, target, HeaderMap::new(), Bytes::new(), LONGEST)
                    .await
                    .map_err(|error| format!("The bridge does not answer: {error}"))?;
                if answer.status != StatusCode::OK {
                    return Err(format!("The bridge answers with status {}.", answer.status.as_u16()));
                }
                serde_json::from_slice(&answer.body).map(Some).map_err(|_| {
                    "What answers at ui.bridge_status is not a bridge of this version.".to_owned()
                })
            }
        }
    }
}

fn may_see(visit: &Visit) -> Result<(), Refusal> {
    Ok(visit.permitted("listDeadLetters", &[])?)
}

fn address(visit: &Visit, source: &SourceStatus) -> String {
    let base = match visit.ui.inner.webhook_url.as_str() {
        "" => "https://<address of the bridge>",
        given => given,
    };
    format!("{base}/webhooks/{}", segment(&source.name))
}

fn shown(visit: &Visit, source: &SourceStatus) -> Value {
    let mut shown = json!(source);
    shown["address"] = json!(address(visit, source));
    shown["href"] = json!(format!("/sources/{}", segment(&source.name)));
    for delivery in shown["deliveries"].as_array_mut().into_iter().flatten() {
        let tone = match delivery["status"].as_u64() {
            Some(200..300) => "good",
            Some(429 | 500..) => "bad",
            _ => "warn",
        };
        delivery["tone"] = json!(tone);
    }
    shown
}

/// `/sources`.
pub(super) async fn show(visit: Visit) -> Result<Answer, Refusal> {
    may_see(&visit)?;
    let status = visit.ui.inner.bridge.status().await;
    let sources: Vec<Value> = match &status {
        Ok(Some(status)) => status.sources.iter().map(|source| shown(&visit, source)).collect(),
        _ => Vec::new(),
    };
    let values = json!({
        "known": !matches!(visit.ui.inner.bridge, Bridge::Unknown),
        "fault": status.as_ref().err(),
        "sources": sources,
        "spool": status.ok().flatten().and_then(|status| status.spool),
    });
    Ok(Answer::page("sources.html", values))
}

/// `/sources/{source}`.
pub(super) async fn one(visit: Visit) -> Result<Answer, Refusal> {
    may_see(&visit)?;
    let name = visit.params.get("source").cloned().unwrap_or_default();
    let status = visit.ui.inner.bridge.status().await.map_err(Refusal::busy)?;
    let found = status.iter().flat_map(|status| &status.sources).find(|source| source.name == name);
    let Some(source) = found else {
        return Err(Refusal::not_found(format!("There is no source {name}.")));
    };
    let pattern = format!("{}.#", source.name);
    let exchange = pulse::naming::exchange(&visit.ui.inner.user, "webhook");
    let values = json!({ "source": shown(&visit, source), "exchange": exchange, "pattern": pattern });
    Ok(Answer::page("source.html", values))
}
