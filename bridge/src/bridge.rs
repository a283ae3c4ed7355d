//! The bridge as a whole: built from its configuration, started, and handed to a listener as routes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use chrono::{DateTime, Utc};
use pulse::{TopologyError, Transport};

use crate::config::Config;
use crate::publisher::Publisher;
use crate::source::{self, Source, Sources};
use crate::webhook;

/// The wall clock.
pub type Now = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// What the bridge takes from outside beside its configuration and its transport.
#[derive(Clone)]
pub struct Outside {
    /// The wall clock, by which signatures grow stale.
    pub now: Now,
}

impl Default for Outside {
    fn default() -> Self {
        Self { now: Arc::new(Utc::now) }
    }
}

/// The bridge.
pub struct Bridge {
    shared: Arc<Shared>,
    transport: Arc<dyn Transport>,
}

/// What the handlers work with.
pub(crate) struct Shared {
    sources: RwLock<Arc<Sources>>,
    pub exchange: String,
    pub publisher: Publisher,
    pub max_body_bytes: usize,
    pub read_timeout: Duration,
    pub now: Now,
}

impl Shared {
    pub fn source(&self, name: &str) -> Option<Arc<Source>> {
        let sources = Arc::clone(&self.sources.read().unwrap_or_else(PoisonError::into_inner));
        sources.get(name).cloned()
    }
}

impl Bridge {
    /// A bridge for the pulse user `user`, which publishes through `transport`.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, each as a text that tells where and what to do.
    pub fn new(config: &Config, user: &str, transport: Arc<dyn Transport>) -> Result<Self, Vec<String>> {
        Self::build(config, user, transport, Outside::default())
    }

    /// The same with its surroundings given.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn build(
        config: &Config,
        user: &str,
        transport: Arc<dyn Transport>,
        outside: Outside,
    ) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        for (name, value) in [
            ("max_body_bytes", config.max_body_bytes as u64),
            ("publish_timeout_ms", config.publish_timeout_ms),
            ("read_timeout_seconds", config.read_timeout_seconds),
        ] {
            if value == 0 {
                errors.push(format!("bridge.{name} is 0; nothing could get through"));
            }
        }
        match source::build(config) {
            Ok(sources) if errors.is_empty() => {
                let timeout = Duration::from_millis(config.publish_timeout_ms);
                Ok(Self {
                    shared: Arc::new(Shared {
                        sources: RwLock::new(Arc::new(sources)),
                        exchange: pulse::naming::exchange(user, "webhook"),
                        publisher: Publisher::new(Arc::clone(&transport), timeout),
                        max_body_bytes: config.max_body_bytes,
                        read_timeout: Duration::from_secs(config.read_timeout_seconds),
                        now: outside.now,
                    }),
                    transport,
                })
            }
            Ok(_) => Err(errors),
            Err(own) => Err(errors.into_iter().chain(own).collect()),
        }
    }

    /// Declares the bridge's exchanges. With the broker away they are declared when it is back.
    ///
    /// # Errors
    /// [`TopologyError::Refused`] if the broker does not let this user have them.
    pub async fn start(&self) -> Result<(), TopologyError> {
        match self.transport.declare_exchange(&self.shared.exchange).await {
            Err(TopologyError::Unavailable(reason)) => {
                tracing::warn!(%reason, "the broker is away; the bridge starts all the same");
                Ok(())
            }
            other => other,
        }
    }

    /// `POST /webhooks/{source}`.
    pub fn routes(&self) -> Router {
        webhook::routes(Arc::clone(&self.shared))
    }
}
