//! What stands between two losses: the connections for topology and for consuming.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::consumers::Consumers;
use super::target::Target;
use super::topology::Topology;
use super::wire::{RpcError, Wire};

/// An exchange that was missing is not asked for again within this time: a thousand hooks bound to it cost one refusal.
const MISSING_FOR: Duration = Duration::from_secs(10);

/// Missing exchanges that are remembered; beyond that each binding asks for itself.
const MAX_MISSING: usize = 10_000;

/// The connections of one session.
pub(super) struct Session {
    pub consumers: Consumers,
    topology: Mutex<Arc<Topology>>,
    /// Only one caller replaces it.
    renewing: tokio::sync::Mutex<()>,
    target: Arc<Target>,
    name: String,
    missing: Mutex<HashMap<String, (Instant, String)>>,
}

impl Session {
    /// Connects. `name` is how the broker's operators see the connections.
    pub async fn open(target: Arc<Target>, name: &str) -> Result<Self, String> {
        let consuming = Wire::open(&target, &format!("{name} consuming")).await?;
        let consumers = Consumers::new(consuming).await.map_err(|error| match error {
            RpcError::Lost(reason) => reason,
            RpcError::Refused(refusal) => refusal.text,
        })?;
        let topology = open_topology(&target, name).await?;
        Ok(Self {
            consumers,
            topology: Mutex::new(Arc::new(topology)),
            renewing: Default::default(),
            target,
            name: name.to_owned(),
            missing: Mutex::default(),
        })
    }

    /// The connection that is in use.
    pub fn current_topology(&self) -> Arc<Topology> {
        lock(&self.topology).clone()
    }

    /// The connection for the next request: a new one when the last is worn or lost, which disturbs no consumer. What is
    /// under way on a worn one is finished there.
    pub async fn topology(&self) -> Result<Arc<Topology>, RpcError> {
        let current = self.current_topology();
        if current.usable() {
            return Ok(current);
        }
        let _turn = self.renewing.lock().await;
        let current = self.current_topology();
        if current.usable() {
            return Ok(current);
        }
        let topology = Arc::new(open_topology(&self.target, &self.name).await.map_err(RpcError::Lost)?);
        *lock(&self.topology) = topology.clone();
        Ok(topology)
    }

    /// Why an exchange is known to be missing.
    pub fn missing(&self, exchange: &str) -> Option<String> {
        let missing = lock(&self.missing);
        missing.get(exchange).filter(|(since, _)| since.elapsed() < MISSING_FOR).map(|(_, why)| why.clone())
    }

    pub fn note_missing(&self, exchange: &str, why: &str) {
        let mut missing = lock(&self.missing);
        if missing.len() >= MAX_MISSING {
            missing.retain(|_, (since, _)| since.elapsed() < MISSING_FOR);
        }
        if missing.len() < MAX_MISSING {
            missing.insert(exchange.to_owned(), (Instant::now(), why.to_owned()));
        }
    }

    /// The exchange was declared just now.
    pub fn note_declared(&self, exchange: &str) {
        lock(&self.missing).remove(exchange);
    }
}

async fn open_topology(target: &Target, name: &str) -> Result<Topology, String> {
    Ok(Topology::new(Wire::open(target, &format!("{name} topology")).await?))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
