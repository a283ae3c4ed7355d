//! A recording transport whose broker can be taken away, and requests against the bridge's router.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::body::Body;
use axum::response::Response;
use bridge::{Bridge, Config, Outside};
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
    /// When it came back.
    pub returned: Mutex<Option<Instant>>,
    /// Every message is refused.
    pub refusing: AtomicBool,
    /// How often a message was refused.
    pub refusals: AtomicU64,
    /// Messages whose body holds this are refused.
    pub poison: Mutex<Option<&'static str>>,
    /// No exchange may be declared.
    pub undeclarable: AtomicBool,
    /// Publishes fail although the status is up.
    pub failing: AtomicBool,
    /// Messages that wait for their confirms, and the most that ever did.
    unconfirmed: AtomicU64,
    pub most_unconfirmed: AtomicU64,
}

impl Broker {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            messages: watch::Sender::new(Vec::new()),
            status: watch::Sender::new(Status::Up),
            events: broadcast::Sender::new(16),
            silent: AtomicBool::new(false),
            unrouted: AtomicBool::new(false),
            returned: Mutex::new(None),
            refusing: AtomicBool::new(false),
            refusals: AtomicU64::new(0),
            poison: Mutex::new(None),
            undeclarable: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            unconfirmed: AtomicU64::new(0),
            most_unconfirmed: AtomicU64::new(0),
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

    /// Waits until the messages satisfy `enough`.
    pub async fn wait(&self, what: &str, enough: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        let mut receiver = self.messages.subscribe();
        let waited = tokio::time::timeout(DEADLINE, receiver.wait_for(|messages| enough(messages))).await;
        waited
            .unwrap_or_else(|_| panic!("not in time: {what}; there are {}", self.messages().len()))
            .unwrap()
            .clone()
    }
}

#[async_trait]
impl Transport for Broker {
    async fn publish(&self, message: &Message, _mandatory: bool) -> Result<Published, PublishError> {
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let poisoned = self
            .poison
            .lock()
            .unwrap()
            .is_some_and(|text| String::from_utf8_lossy(&message.body).contains(text));
        if poisoned || self.refusing.load(Ordering::SeqCst) {
            self.refusals.fetch_add(1, Ordering::SeqCst);
            return Err(PublishError::Refused("refused by the test".to_owned()));
        }
        if *self.status.borrow() != Status::Up || self.failing.load(Ordering::SeqCst) {
            return Err(PublishError::Unavailable("stopped by the test".to_owned()));
        }
        // Every message of every test is held to the published schemas and to the rules of pulse.
        let properties = &message.properties;
        assert!(message.routing_key.len() <= 255 && properties.message_id.is_some(), "{message:?}");
        assert!(properties.timestamp.is_some(), "{message:?}");
        assert_eq!(properties.content_type.as_deref(), Some("application/json"));
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        if message.exchange.ends_with("/clock") {
            valid("clock-tick", &body);
        } else {
            valid("webhook-headers", &serde_json::to_value(&properties.headers).unwrap());
        }
        self.messages.send_modify(|messages| messages.push(message.clone()));
        let unconfirmed = self.unconfirmed.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_unconfirmed.fetch_max(unconfirmed, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.unconfirmed.fetch_sub(1, Ordering::SeqCst);
        Ok(Published { routed: !self.unrouted.load(Ordering::SeqCst) })
    }

    async fn declare_exchange(&self, _name: &str) -> Result<(), TopologyError> {
        match self.undeclarable.load(Ordering::SeqCst) {
            true => Err(TopologyError::Refused("not allowed by the test".to_owned())),
            false => Ok(()),
        }
    }

    async fn exchange_stands(&self, _name: &str) -> Result<bool, TopologyError> {
        Ok(true)
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

    async fn waiting(&self, _queue: &str) -> Result<u64, TopologyError> {
        Ok(0)
    }

    fn returned(&self) -> Option<Instant> {
        *self.returned.lock().unwrap()
    }

    fn unconfirmed(&self) -> usize {
        0
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

/// Holds a value to a schema of `schemas/`.
fn valid(schema: &str, value: &Value) {
    static SCHEMAS: Mutex<BTreeMap<String, Arc<jsonschema::Validator>>> = Mutex::new(BTreeMap::new());
    let validator = Arc::clone(SCHEMAS.lock().unwrap().entry(schema.to_owned()).or_insert_with(|| {
        let path = format!("{}/../schemas/{schema}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Arc::new(jsonschema::draft7::new(&serde_json::from_str(&text).unwrap()).unwrap())
    }));
    let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{value} against {schema}: {errors:?}");
}

/// A configuration from TOML of the `[bridge]` section; without a spool and without ticks unless it speaks of them.
pub fn config(text: &str) -> Config {
    let mut config: Config = toml::from_str(text).unwrap();
    if !text.contains("[spool]") {
        config.spool.path = std::path::PathBuf::new();
    }
    config.clock.enabled = text.contains("[clock]");
    config
}

/// A bridge of user `pulsehook`, and its broker.
pub fn bridge(text: &str) -> (Bridge, Arc<Broker>) {
    let broker = Broker::new();
    let transport: Arc<dyn Transport> = Arc::clone(&broker) as _;
    (Bridge::new(&config(text), "pulsehook", transport).unwrap(), broker)
}

/// The same with its surroundings given.
pub fn bridge_with(text: &str, outside: Outside) -> (Bridge, Arc<Broker>) {
    let broker = Broker::new();
    let transport: Arc<dyn Transport> = Arc::clone(&broker) as _;
    (Bridge::build(&config(text), "pulsehook", transport, outside).unwrap(), broker)
}

/// Waits until the spool holds nothing.
pub async fn emptied(bridge: &Bridge) {
    eventually("the spool is empty", async || (bridge.spooled().unwrap().events == 0).then_some(())).await;
}

/// A signed event of a source of provider `hmac`, whose secret is `key for tests`.
pub fn event(source: &str, delivery: Option<&str>, body: &str) -> Request<Body> {
    let signature = format!("sha256={}", hmac_sha256("key for tests", body.as_bytes()));
    let mut headers = vec![("content-type", "application/json"), ("x-hub-signature-256", signature.as_str())];
    headers.extend(delivery.map(|id| ("x-delivery", id)));
    post(&format!("/webhooks/{source}"), &headers, body.to_owned())
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
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let answer = Self { status: parts.status.as_u16(), headers: parts.headers, text };
        // Every answer of every test is held to the published schemas.
        let known = answer.text.contains("\"messageId\"");
        if known {
            valid("webhook-accepted", &answer.json());
        } else if answer.status >= 400 && answer.text.contains("\"code\"") {
            valid("webhook-refused", &answer.json());
        }
        answer
    }
}

/// Sends a request through the router.
pub async fn send(bridge: &Bridge, request: Request<Body>) -> Answer {
    Answer::of(bridge.routes().oneshot(request).await.unwrap()).await
}

/// Waits until `probe` finds something, looking again and again.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
