//! Bounds in a storm: rates, requests under way, and memory, so that one sender's storm leaves the others alone.
//!
//! Strangers are limited by their address, before anything is read; a source's own share counts only for verified
//! events, so that nobody without its secret can use it up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::Refusal;

mod memory;

pub use memory::{Memory, Share};

/// Addresses whose rates are remembered; beyond that the idle ones are forgotten, and if all are busy the new ones share
/// one rate. About 100 bytes each.
const MAX_PEERS: usize = 100_000;

/// When to come again if too much is under way.
const BUSY: Duration = Duration::from_secs(1);

fn quota(per_second: u32, burst: u32) -> Option<Quota> {
    let rate = NonZeroU32::new(per_second)?;
    Some(Quota::per_second(rate).allow_burst(NonZeroU32::new(burst).unwrap_or(rate)))
}

/// Limits per peer address.
pub struct PeerLimits {
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
    under_way: Arc<Mutex<HashMap<IpAddr, usize>>>,
    concurrency: usize,
}

/// One request of a peer under way.
pub struct PeerSlot {
    under_way: Arc<Mutex<HashMap<IpAddr, usize>>>,
    peer: IpAddr,
}

impl PeerLimits {
    /// `per_second` 0: any rate.
    pub fn new(per_second: u32, burst: u32, concurrency: usize) -> Self {
        Self {
            rate: quota(per_second, burst).map(RateLimiter::keyed),
            under_way: Arc::default(),
            concurrency,
        }
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub fn enter(&self, peer: IpAddr) -> Result<PeerSlot, Refusal> {
        let mut peer = network(peer);
        if let Some(rate) = &self.rate {
            if rate.len() > MAX_PEERS {
                rate.retain_recent();
                if rate.len() > MAX_PEERS {
                    peer = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
                }
            }
            if let Err(until) = rate.check_key(&peer) {
                let retry_after = until.wait_time_from(DefaultClock::default().now());
                return Err(Refusal::TooMany {
                    what: "too many requests from this address".to_owned(),
                    retry_after,
                });
            }
        }
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(peer).or_default();
        if *count >= self.concurrency {
            let what = "too many requests from this address are under way".to_owned();
            return Err(Refusal::TooMany { what, retry_after: BUSY });
        }
        *count += 1;
        Ok(PeerSlot { under_way: Arc::clone(&self.under_way), peer })
    }

    /// Forgets peers that have been quiet.
    pub fn forget_idle(&self) {
        if let Some(rate) = &self.rate {
            rate.retain_recent();
            rate.shrink_to_fit();
        }
    }
}

impl PeerSlot {
    /// Whose it is, as the limits see them: an address, or a network of them.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }
}

impl Drop for PeerSlot {
    fn drop(&mut self) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.peer);
            }
        }
    }
}

/// An IPv6 sender has a whole /64 to choose addresses from.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A source's share.
pub struct SourceLimits {
    rate: Option<DefaultDirectRateLimiter>,
    slots: Arc<Semaphore>,
}

impl SourceLimits {
    /// `per_second` 0: any rate.
    pub fn new(per_second: u32, burst: u32, concurrency: usize) -> Self {
        let slots = Arc::new(Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)));
        Self { rate: quota(per_second, burst).map(RateLimiter::direct), slots }
    }

    /// Lets a verified event in.
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| Refusal::TooMany {
            what: "too many events of this source are under way".to_owned(),
            retry_after: BUSY,
        })?;
        if let Some(rate) = &self.rate
            && let Err(until) = rate.check()
        {
            let retry_after = until.wait_time_from(DefaultClock::default().now());
            return Err(Refusal::TooMany { what: "too many events of this source".to_owned(), retry_after });
        }
        Ok(permit)
    }
}

/// Places for work that anybody can cause.
#[derive(Clone)]
pub struct Turns {
    places: Arc<Semaphore>,
    longest_wait: Duration,
}

impl Turns {
    /// So many at a time, at least one; nobody waits longer than `longest_wait`.
    pub fn new(places: usize, longest_wait: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS))), longest_wait }
    }

    /// Waits for a place, in the order in which they come; it is free again when the permit is dropped.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] if it takes too long.
    pub async fn take(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place = Arc::clone(&self.places).acquire_owned();
        match tokio::time::timeout(self.longest_wait, place).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Refusal::unavailable("too many compressed bodies wait to be expanded", "")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_has_its_rate_and_its_slots_and_another_peer_its_own() {
        let limits = PeerLimits::new(1, 2, 10);
        assert!(limits.enter(ip("192.0.2.1")).is_ok() && limits.enter(ip("::ffff:192.0.2.1")).is_ok());
        assert!(matches!(limits.enter(ip("192.0.2.1")), Err(Refusal::TooMany { .. })));
        assert!(limits.enter(ip("192.0.2.2")).is_ok());
        let limits = PeerLimits::new(0, 0, 1);
        let slot = limits.enter(ip("2001:db8::1")).ok();
        assert!(slot.is_some() && limits.enter(ip("2001:db8::2")).is_err(), "one network");
        drop(slot);
        assert!(limits.enter(ip("2001:db8::2")).is_ok());
        assert!(limits.under_way.lock().unwrap().is_empty());
    }

    #[test]
    fn a_source_has_its_rate_and_its_slots() {
        let limits = SourceLimits::new(1, 3, 2);
        let held = (limits.enter().unwrap(), limits.enter().unwrap());
        assert!(limits.enter().is_err(), "two are under way");
        drop(held);
        assert!(limits.enter().is_ok());
        assert!(limits.enter().is_err(), "the burst is used up");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_finds_no_place_waits_and_not_for_ever() {
        let turns = Turns::new(0, Duration::from_secs(10));
        let first = turns.take().await.unwrap();
        assert!(matches!(turns.take().await, Err(Refusal::Unavailable { .. })));
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take().await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert!(waiting.await.unwrap());
    }
}
