//! A recording transport whose broker can be taken away, and requests against the bridge's router.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::response::Response;
use bridge::{Bridge, Config};
use http::Request;
use http_body_util::BodyExt as _;
use pulse::{
    BindingHealth, Delivery, Event, Message, PublishError, Published, QueueSpec, Status, TopologyError,
    Transport,
};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, watch};
use tower::ServiceExt as _;

/// Longest wait for anything in a test.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A broker in memory.
pub struct Broker {
    messages: watch::Sender<Vec<Message>>,
    status: watch::Sender<Status>,
    events: broadcast::Sender<Event>,
    /// Confirms stay away.
    pub silent: AtomicBool,
    /// Nothing is bound.
    pub unrouted: AtomicBool,
    /// Every message is refused.
    pub refusing: AtomicBool,
    /// Publishes fail although the status is up.
    pub failing: AtomicBool,
}

impl Broker {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            messages: watch::Sender::new(Vec::new()),
            status: watch::Sender::new(Status::Up),
            events: broadcast::Sender::new(16),
            silent: AtomicBool::new(false),
            unrouted: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        })
    }

    pub fn down(&self) {
        self.status.send_replace(Status::Down { reason: "stopped by the test".to_owned() });
    }

    pub fn up(&self) {
        self.status.send_replace(Status::Up);
    }

    pub fn messages(&self) -> Vec<Message> {
        self.messages.borrow().clone()
    }
}

#[async_trait]
impl Transport for Broker {
    async fn publish(&self, message: &Message, _mandatory: bool) -> Result<Published, PublishError> {
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.refusing.load(Ordering::SeqCst) {
            return Err(PublishError::Refused("refused by the test".to_owned()));
        }
        if *self.status.borrow() != Status::Up || self.failing.load(Ordering::SeqCst) {
            return Err(PublishError::Unavailable("stopped by the test".to_owned()));
        }
        self.messages.send_modify(|messages| messages.push(message.clone()));
        Ok(Published { routed: !self.unrouted.load(Ordering::SeqCst) })
    }

    async fn declare_exchange(&self, _name: &str) -> Result<(), TopologyError> {
        Ok(())
    }

    async fn declare_queue(&self, _spec: QueueSpec) -> Result<Vec<BindingHealth>, TopologyError> {
        Ok(Vec::new())
    }

    async fn delete_queue(&self, _name: &str) -> Result<u64, TopologyError> {
        Ok(0)
    }

    async fn consume(&self, _: &str, _: u16, _: mpsc::Sender<Delivery>) -> Result<(), TopologyError> {
        Ok(())
    }

    async fn cancel(&self, _queue: &str) -> Result<(), TopologyError> {
        Ok(())
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    async fn close(&self) {}
}

/// A configuration from TOML of the `[bridge]` section.
pub fn config(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

/// A bridge of user `pulsehook`, and its broker.
pub fn bridge(text: &str) -> (Bridge, Arc<Broker>) {
    let broker = Broker::new();
    let transport: Arc<dyn Transport> = Arc::clone(&broker) as _;
    (Bridge::new(&config(text), "pulsehook", transport).unwrap(), broker)
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_else(|| panic!("no code: {}", self.text)).to_owned()
    }

    pub async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }
}

/// Sends a request through the router.
pub async fn send(bridge: &Bridge, request: Request<Body>) -> Answer {
    Answer::of(bridge.routes().oneshot(request).await.unwrap()).await
}

/// A POST with headers.
pub fn post(path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

/// HMAC-SHA256, hexadecimal: the test's own, by another library than the bridge's.
pub fn hmac_sha256(secret: &str, body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    hex::encode(ring::hmac::sign(&key, body))
}
