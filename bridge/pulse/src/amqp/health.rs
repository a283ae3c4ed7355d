//! One status out of the parts that make it.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::transport::Status;

/// What has to work for [`Status::Up`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Publishing = 0,
    Consuming = 1,
    /// The broker has blocked publishers, on a connection that stands.
    Blocked = 2,
}

/// The reasons why each part does not work, and the status that follows.
pub(super) struct Health {
    reasons: Mutex<[Option<String>; 3]>,
    status: watch::Sender<Status>,
    returned: Mutex<Option<Instant>>,
}

impl Health {
    pub fn new() -> Self {
        let reason = Some("connecting to the broker".to_owned());
        let health = Self {
            reasons: Mutex::new([reason.clone(), reason, None]),
            status: watch::Sender::new(Status::Up),
            returned: Mutex::default(),
        };
        health.set(Part::Blocked, None);
        health
    }

    /// A part works (`None`) or does not, and why.
    pub fn set(&self, part: Part, reason: Option<String>) {
        let mut reasons = self.lock();
        reasons[part as usize] = reason;
        let first = reasons.iter().flatten().next();
        let now = first.map_or(Status::Up, |reason| Status::Down { reason: reason.clone() });
        self.status.send_if_modified(|status| {
            let changed = *status != now;
            *status = now;
            changed
        });
    }

    /// It can be published again after it could not.
    pub fn set_returned(&self) {
        *self.returned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// When that was the last time.
    pub fn returned(&self) -> Option<Instant> {
        *self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the broker takes no messages, on a connection that stands.
    pub fn blocked(&self) -> Option<String> {
        self.lock()[Part::Blocked as usize].clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, [Option<String>; 3]> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}
