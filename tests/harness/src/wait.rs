//! Waiting for an event under a deadline, in place of sleeping and hoping.

use std::panic::Location;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Repeats `probe` until it gives a value, and returns that. Past the deadline it panics at the caller's place.
///
/// For conditions that announce themselves (a channel, a watch) wait for those under `tokio::time::timeout` instead.
#[track_caller]
pub fn eventually<T, F, P>(deadline: Duration, mut probe: F) -> impl Future<Output = T>
where
    F: FnMut() -> P,
    P: Future<Output = Option<T>>,
{
    let caller = Location::caller();
    async move {
        let started = Instant::now();
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            assert!(started.elapsed() < deadline, "at {caller}: did not happen within {deadline:?}");
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
