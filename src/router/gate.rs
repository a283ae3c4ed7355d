//! The gate before the queue service: open while it works, closed while it is down for everybody.
//!
//! A single fire that fails is that fire's affair and backs off alone. When several different fires fail in a row,
//! with no success in between, the service is down: the gate closes, nothing is submitted, a probe asks the service
//! again and again, and the router stops taking messages. It opens to one submission at a time (a trial); each
//! success lets one more through, so that a service that comes back is not trampled.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// So many failures in a row, of at least [`DISTINCT`] fires, close the gate.
const FAILURES: usize = 5;
pub(super) const DISTINCT: usize = 3;

/// The wait between probes grows from the first to the second.
const FIRST_PROBE: Duration = Duration::from_millis(500);
const LAST_PROBE: Duration = Duration::from_secs(5);

/// What everybody sees of the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateState {
    /// Submissions go through.
    Open,
    /// The service answers again, and one submission at a time tries it.
    Trial,
    /// The service is down.
    Closed {
        /// Why, for people.
        reason: String,
    },
}

struct Inner {
    failures: usize,
    failed: HashSet<i64>,
    /// Permits that are held back after an outage.
    withheld: usize,
    wanted_withheld: usize,
    probe_wait: Duration,
    since: Option<Instant>,
}

/// See the module.
pub struct Gate {
    state: watch::Sender<GateState>,
    permits: Arc<Semaphore>,
    max: usize,
    inner: Mutex<Inner>,
}

/// The right to make one call. Dropped, it goes back, or is held back while the service recovers.
pub struct Permit {
    gate: Arc<Gate>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        if let Ok(mut inner) = self.gate.inner.lock()
            && inner.withheld < inner.wanted_withheld
        {
            inner.withheld += 1;
            permit.forget();
        }
    }
}

impl Gate {
    /// An open gate for `max` calls at a time.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: watch::Sender::new(GateState::Open),
            permits: Arc::new(Semaphore::new(max)),
            max,
            inner: Mutex::new(Inner {
                failures: 0,
                failed: HashSet::new(),
                withheld: 0,
                wanted_withheld: 0,
                probe_wait: FIRST_PROBE,
                since: None,
            }),
        })
    }

    /// Waits until the gate is not closed and a call may be made.
    pub async fn enter(self: &Arc<Self>) -> Option<Permit> {
        loop {
            if matches!(*self.state.borrow(), GateState::Closed { .. }) {
                self.opened().await?;
            }
            let permit = self.permits.clone().acquire_owned().await.ok()?;
            let permit = Permit { gate: self.clone(), permit: Some(permit) };
            // It may have closed while this call waited for its turn.
            if !matches!(*self.state.borrow(), GateState::Closed { .. }) {
                return Some(permit);
            }
        }
    }

    async fn opened(&self) -> Option<()> {
        let mut state = self.state.subscribe();
        state.wait_for(|state| !matches!(state, GateState::Closed { .. })).await.ok().map(drop)
    }

    /// Ends a wait early when the gate opens after having been closed.
    pub async fn reopened(&self) {
        let mut state = self.state.subscribe();
        let closed = state.wait_for(|state| matches!(state, GateState::Closed { .. })).await.is_ok();
        if !closed || state.wait_for(|state| !matches!(state, GateState::Closed { .. })).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A call was answered as the service answers: it works. While the gate is closed that is the late answer of a call from
    /// before, and what opens the gate is a probe.
    pub fn succeeded(&self) {
        let Ok(mut inner) = self.inner.lock() else { return };
        if matches!(*self.state.borrow(), GateState::Closed { .. }) {
            return;
        }
        inner.failures = 0;
        inner.failed.clear();
        inner.probe_wait = FIRST_PROBE;
        inner.since = None;
        if inner.wanted_withheld > 0 {
            inner.wanted_withheld -= 1;
        }
        if inner.withheld > inner.wanted_withheld {
            inner.withheld -= 1;
            self.permits.add_permits(1);
        }
        drop(inner);
        self.state.send_if_modified(|state| {
            let news = *state == GateState::Trial;
            if news {
                *state = GateState::Open;
            }
            news
        });
    }

    /// A call of this fire failed in a way that may speak of the service as a whole.
    pub fn failed(&self, fire: i64, reason: &str) {
        let Ok(mut inner) = self.inner.lock() else { return };
        inner.failures += 1;
        if inner.failed.len() < DISTINCT {
            inner.failed.insert(fire);
        }
        let trial = *self.state.borrow() == GateState::Trial;
        let closes = trial || (inner.failures >= FAILURES && inner.failed.len() >= DISTINCT);
        if !closes || matches!(*self.state.borrow(), GateState::Closed { .. }) {
            return;
        }
        if trial {
            inner.probe_wait = (inner.probe_wait * 2).min(LAST_PROBE);
        }
        inner.since.get_or_insert_with(Instant::now);
        inner.wanted_withheld = self.max - 1;
        let missing = inner.wanted_withheld - inner.withheld.min(inner.wanted_withheld);
        inner.withheld += self.permits.forget_permits(missing);
        // Under the lock: a success that comes in between would forget since when it is down.
        self.state.send_replace(GateState::Closed { reason: reason.to_owned() });
    }

    /// What everybody may watch.
    pub fn watch(&self) -> watch::Receiver<GateState> {
        self.state.subscribe()
    }

    /// For how long the service has been down; `None` while it works.
    pub fn down_for(&self) -> Option<Duration> {
        self.inner.lock().ok()?.since.map(|since| since.elapsed())
    }

    /// Probes while the gate is closed, and opens it to a trial when the service answers. Runs until dropped.
    pub async fn keep_probing<F, E>(&self, mut probe: impl FnMut() -> F)
    where
        F: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        let mut state = self.state.subscribe();
        loop {
            if state.wait_for(|state| matches!(state, GateState::Closed { .. })).await.is_err() {
                return;
            }
            let reason = match &*self.state.borrow() {
                GateState::Closed { reason } => reason.clone(),
                _ => continue,
            };
            tracing::error!(%reason, "the queue service is down; fires wait and messages stay in the broker");
            loop {
                let wait = self.inner.lock().map(|inner| inner.probe_wait).unwrap_or(LAST_PROBE);
                tokio::time::sleep(super::jitter(wait)).await;
                match probe().await {
                    Ok(()) => break,
                    Err(error) => tracing::debug!(%error, "the queue service is still down"),
                }
                if let Ok(mut inner) = self.inner.lock() {
                    inner.probe_wait = (inner.probe_wait * 2).min(LAST_PROBE);
                }
            }
            tracing::info!("the queue service answers again; trying it");
            self.state.send_replace(GateState::Trial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_failing_fire_does_not_close_it_and_several_do() {
        let gate = Gate::new(4);
        for _ in 0..50 {
            gate.failed(1, "poison");
        }
        assert_eq!(*gate.watch().borrow(), GateState::Open);
        gate.failed(2, "503");
        gate.failed(3, "503");
        assert!(matches!(*gate.watch().borrow(), GateState::Closed { .. }));
        assert!(gate.down_for().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_outage_one_goes_first_and_each_success_lets_one_more_through() {
        let gate = Gate::new(4);
        for fire in 0..5 {
            gate.failed(fire, "503");
        }
        let probing = gate.clone();
        let task = tokio::spawn(async move { probing.keep_probing(async || Ok::<_, String>(())).await });
        let first = gate.enter().await.unwrap();
        assert_eq!(gate.permits.available_permits(), 0);
        gate.succeeded();
        drop(first);
        assert_eq!(gate.permits.available_permits(), 2);
        gate.succeeded();
        gate.succeeded();
        assert_eq!(gate.permits.available_permits(), 4);
        gate.succeeded();
        assert_eq!(gate.permits.available_permits(), 4);
        assert_eq!(*gate.watch().borrow(), GateState::Open);
        task.abort();
    }

    #[tokio::test]
    async fn a_late_success_does_not_end_an_outage() {
        let gate = Gate::new(4);
        for fire in 0..5 {
            gate.failed(fire, "503");
        }
        gate.succeeded();
        assert!(matches!(*gate.watch().borrow(), GateState::Closed { .. }));
        assert!(gate.down_for().is_some(), "consuming has to end some time");
        assert_eq!(gate.permits.available_permits(), 1, "one goes first when it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_trial_closes_it_again() {
        let gate = Gate::new(2);
        for fire in 0..5 {
            gate.failed(fire, "401");
        }
        let probing = gate.clone();
        let task = tokio::spawn(async move { probing.keep_probing(async || Ok::<_, String>(())).await });
        drop(gate.enter().await.unwrap());
        gate.failed(1, "401");
        assert!(matches!(*gate.watch().borrow(), GateState::Closed { .. }));
        task.abort();
    }
}
