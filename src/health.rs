//! Health of the router, as Dockerflow has it, and readiness apart from liveness.
//!
//! | route | answers 200 while | for |
//! |---|---|---|
//! | `/__lbheartbeat__` | the process serves requests | liveness: restart it when this fails |
//! | `/__ready__` | it is the active router of its store and takes calls | readiness: a standby is alive and not ready |
//! | `/__heartbeat__` | everything that it depends on works, and says what does not | people and monitoring |
//!
//! Restarting helps against nothing that the heartbeat reports, so it is no probe for a service manager. What is asked of
//! others is remembered for some seconds: however often somebody looks, they are asked as often as before.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router as Routes};
use http::StatusCode;
use pulse::{Status, Transport};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use crate::router::Router;
use crate::store::Store;

/// A dependency that does not answer within this time does not work.
const CHECK: Duration = Duration::from_secs(5);

/// The store and the queue service are asked this often at most.
const REMEMBERED: Duration = Duration::from_secs(5);

/// What the router stands on, once it runs.
pub struct Parts {
    /// The store.
    pub store: Store,
    /// The broker.
    pub transport: Arc<dyn Transport>,
    /// The router.
    pub router: Router,
}

/// The router's health. Clones share it.
#[derive(Clone, Default)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// None while it starts or stands by.
    running: OnceCell<Parts>,
    standing_by: std::sync::atomic::AtomicBool,
    store: Remembered,
    queue: Remembered,
}

/// The last answer of a check, and when it was given. The lock lets one ask for all who want to know.
#[derive(Default)]
struct Remembered(Mutex<Option<(Instant, Result<(), String>)>>);

impl Remembered {
    async fn ask(&self, check: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < REMEMBERED
        {
            return answer.clone();
        }
        let answer = tokio::time::timeout(CHECK, check)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", CHECK.as_secs())));
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

impl Health {
    /// Another router owns the store.
    pub fn standing_by(&self) {
        self.inner.standing_by.store(true, std::sync::atomic::Ordering::Release);
    }

    /// The router runs and takes calls.
    pub fn running(&self, parts: Parts) {
        // It runs once in the life of a process.
        let _ = self.inner.running.set(parts);
    }

    /// Whether another router owns the store.
    pub fn is_standing_by(&self) -> bool {
        self.inner.standing_by.load(std::sync::atomic::Ordering::Acquire) && !self.inner.running.initialized()
    }

    /// `/__heartbeat__`, `/__lbheartbeat__`, `/__ready__` and `/__version__`.
    pub fn routes(&self) -> Routes {
        Routes::new()
            .route("/__heartbeat__", get(heartbeat))
            .route("/__lbheartbeat__", get(async || StatusCode::OK))
            .route("/__ready__", get(ready))
            .route("/__version__", get(version))
            .with_state(self.clone())
    }

    fn phase(&self) -> &'static str {
        match (self.inner.running.initialized(), self.is_standing_by()) {
            (true, _) => "active",
            (false, true) => "standby",
            (false, false) => "starting",
        }
    }
}

async fn heartbeat(State(health): State<Health>) -> Response {
    let phase = health.phase();
    let Some(parts) = health.inner.running.get() else {
        // It depends on nothing yet; the active router tells how things are.
        return Json(json!({ "status": "ok", "role": phase, "checks": {} })).into_response();
    };
    let broker = match &*parts.transport.status().borrow() {
        Status::Up => Ok(()),
        Status::Down { reason } => Err(reason.clone()),
    };
    let store = async { parts.store.check().await.map_err(|error| error.to_string()) };
    let (store, queue) = tokio::join!(
        health.inner.store.ask(store),
        health.inner.queue.ask(parts.router.check_queue_service())
    );
    let works = broker.is_ok() && store.is_ok() && queue.is_ok();
    let body = json!({
        "status": if works { "ok" } else { "error" },
        "role": phase,
        "checks": { "broker": told(broker), "store": told(store), "queueService": told(queue) },
    });
    let status = if works { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

fn told(result: Result<(), String>) -> Value {
    match result {
        Ok(()) => json!({ "ok": true }),
        Err(reason) => json!({ "ok": false, "reason": reason }),
    }
}

async fn ready(State(health): State<Health>) -> Response {
    let phase = health.phase();
    let status = if phase == "active" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": phase == "active", "role": phase }))).into_response()
}

async fn version() -> Json<Value> {
    Json(json!({
        "name": "pulsehook-router",
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("PULSEHOOK_COMMIT"),
    }))
}
