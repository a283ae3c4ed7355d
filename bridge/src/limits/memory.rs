//! Memory for bodies, counted before it is used.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::BUSY;
use crate::refusal::Refusal;

/// Unit in which memory is counted: a semaphore has 32-bit counts.
const MEMORY_UNIT: usize = 1 << 10;

/// Memory for bodies, all requests together. One peer may use a part of it only, so that whoever sends many large bodies slowly does
/// not keep it from the others.
#[derive(Clone)]
pub struct Memory {
    units: Arc<Semaphore>,
    /// What each peer uses, in units.
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
    part: usize,
}

/// A request's share of the memory; grows with its body.
pub struct Share {
    memory: Memory,
    peer: IpAddr,
    permit: Option<OwnedSemaphorePermit>,
    units: usize,
}

impl Memory {
    /// `bytes` in all, of which one peer may use a quarter, and `request` bytes in any case: what one request needs.
    pub fn new(bytes: u64, request: usize) -> Self {
        let units = usize::try_from(bytes / MEMORY_UNIT as u64).unwrap_or(usize::MAX);
        let part = (units / 4).max(request.div_ceil(MEMORY_UNIT)).max(1);
        let units = Arc::new(Semaphore::new(units.clamp(1, Semaphore::MAX_PERMITS)));
        Self { units, peers: Arc::default(), part }
    }

    /// Nothing yet, for a request of this peer.
    pub fn share(&self, peer: IpAddr) -> Share {
        Share { memory: self.clone(), peer, permit: None, units: 0 }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a peer uses less.
    fn give_back(&self, peer: IpAddr, units: usize) {
        let mut peers = self.peers();
        if let Some(used) = peers.get_mut(&peer) {
            *used = used.saturating_sub(units);
            if *used == 0 {
                peers.remove(&peer);
            }
        }
    }
}

impl Share {
    /// Makes sure of `bytes` in all for this request.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] if the requests of this peer use too much, [`Refusal::Unavailable`] if those of all do.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = bytes.div_ceil(MEMORY_UNIT).saturating_sub(self.units);
        if more == 0 {
            return Ok(());
        }
        let busy = || Refusal::Unavailable {
            reason: "the bodies of other requests fill the memory that is set aside for them".to_owned(),
            detail: String::new(),
            retry_after: BUSY,
        };
        let mut peers = self.memory.peers();
        let used = peers.get(&self.peer).copied().unwrap_or(0).saturating_add(more);
        if used > self.memory.part {
            return Err(Refusal::TooMany {
                what: "the bodies from this address fill its part of the memory for bodies".to_owned(),
                retry_after: BUSY,
            });
        }
        let count = u32::try_from(more).map_err(|_| busy())?;
        let permit = Arc::clone(&self.memory.units).try_acquire_many_owned(count).map_err(|_| busy())?;
        peers.insert(self.peer, used);
        match &mut self.permit {
            Some(own) => own.merge(permit),
            None => self.permit = Some(permit),
        }
        self.units += more;
        Ok(())
    }

    /// Gives back what is beyond `bytes` in all.
    pub fn shrink(&mut self, bytes: usize) {
        let less = self.units.saturating_sub(bytes.div_ceil(MEMORY_UNIT));
        if let Some(permit) = &mut self.permit {
            drop(permit.split(less));
            self.units -= less;
            self.memory.give_back(self.peer, less);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.give_back(self.peer, self.units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn memory_is_shared_and_given_back() {
        let memory = Memory::new(4 << 10, 4 << 10);
        let share = || memory.share(ip("192.0.2.1"));
        let mut first = share();
        first.grow(1).unwrap();
        first.grow(3 << 10).unwrap();
        assert!(share().grow(2 << 10).is_err());
        first.shrink(2 << 10);
        assert!(share().grow(2 << 10).is_ok());
        drop(first);
        assert!(share().grow(4 << 10).is_ok());
        assert!(memory.peers().is_empty());
    }

    #[test]
    fn a_peer_has_a_quarter_of_the_memory_and_room_for_one_request_in_any_case() {
        let memory = Memory::new(16 << 10, 2 << 10);
        let (mut one, mut two) = (memory.share(ip("192.0.2.1")), memory.share(ip("192.0.2.1")));
        one.grow(2 << 10).unwrap();
        two.grow(2 << 10).unwrap();
        assert!(matches!(two.grow(3 << 10), Err(Refusal::TooMany { .. })));
        assert!(memory.share(ip("192.0.2.2")).grow(4 << 10).is_ok());
        one.shrink(1 << 10);
        assert!(two.grow(3 << 10).is_ok());
        let small = Memory::new(4 << 10, 4 << 10);
        assert!(small.share(ip("192.0.2.1")).grow(4 << 10).is_ok());
    }
}
