//! Remembers the nonces of signed calls, so that a call that was overheard cannot be repeated.
//!
//! A nonce is remembered as long as the clock's tolerance lets its timestamp pass. Memory is bounded twice: a
//! client has [`PER_CLIENT`] nonces, and there are [`CLIENTS`] clients. Where a bound forgets a nonce, its
//! timestamp becomes a floor, and calls that are not newer are refused: forgetting never lets a replay pass. The
//! floor is the client's own, so that a busy client cannot shut out another. Only calls whose signature was good
//! come here.
//!
//! The memory is this process's own: what was signed shortly before a restart may be repeated once after it, while its timestamp
//! passes. Refusing all that is older than the process would shut out every client whose clock is a little behind.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::AuthError;
use super::hawk::CLOCK_SKEW;

/// Nonces remembered of one client: 70 calls a second for the whole of the clock's tolerance, or any rate from
/// a client whose clock is right. About 4 MB.
const PER_CLIENT: usize = 1 << 16;

/// Clients whose nonces are remembered. Temporary credentials have client ids of their own.
const CLIENTS: usize = 4096;

/// Nonces remembered in all, about 60 MB at worst.
const TOTAL: usize = 1 << 20;

/// A timestamp (seconds) with a digest of the nonce: nonces are as long as their senders like.
type Use = (u64, [u8; 16]);

/// The memory of nonces.
#[derive(Debug, Default)]
pub struct Nonces(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    clients: HashMap<String, Client>,
    total: usize,
    /// For clients that are not remembered.
    floor: u64,
}

#[derive(Debug, Default)]
struct Client {
    uses: BTreeSet<Use>,
    floor: u64,
}

impl Nonces {
    /// Succeeds for the first call of a client with this nonce and timestamp (seconds since the epoch).
    pub fn first_use(
        &self,
        client_id: &str,
        nonce: &str,
        time: u64,
        now: SystemTime,
    ) -> Result<(), AuthError> {
        let digest = Sha256::digest(nonce.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        let oldest = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(CLOCK_SKEW).as_secs();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).first_use(client_id, (time, key), oldest)
    }
}

impl Memory {
    fn first_use(&mut self, client_id: &str, this: Use, oldest: u64) -> Result<(), AuthError> {
        if !self.clients.contains_key(client_id) {
            if this.0 <= self.floor {
                return Err(too_old());
            }
            // What is forgotten now to make room is another client's.
            let floor = self.floor;
            self.make_room(oldest);
            self.clients.insert(client_id.to_owned(), Client { uses: BTreeSet::new(), floor });
        }
        let Some(client) = self.clients.get_mut(client_id) else { return Ok(()) };
        // What is too old for the clock's tolerance need not be remembered.
        while client.uses.first().is_some_and(|first| first.0 < oldest) {
            client.uses.pop_first();
            self.total -= 1;
        }
        if this.0 <= client.floor {
            return Err(too_old());
        }
        if !client.uses.insert(this) {
            return Err(AuthError::Failed(
                "the request was already used: sign each request anew, with its own nonce".to_owned(),
            ));
        }
        self.total += 1;
        if client.uses.len() > PER_CLIENT || self.total > TOTAL {
            let forgotten = client.uses.pop_first().map_or(0, |first| first.0);
            client.floor = client.floor.max(forgotten);
            self.total -= 1;
            // Uses of the same second go too: the floor refuses all of them.
            while client.uses.first().is_some_and(|first| first.0 <= client.floor) {
                client.uses.pop_first();
                self.total -= 1;
            }
        }
        Ok(())
    }

    /// Makes room for one more client: those that have nothing to remember go first, then whoever was quiet longest.
    fn make_room(&mut self, oldest: u64) {
        if self.clients.len() < CLIENTS {
            return;
        }
        let total = &mut self.total;
        self.clients.retain(|_, client| {
            let recent = client.uses.last().is_some_and(|last| last.0 >= oldest) || client.floor >= oldest;
            if !recent {
                *total -= client.uses.len();
            }
            recent
        });
        if self.clients.len() < CLIENTS {
            return;
        }
        let newest = |client: &Client| client.uses.last().map_or(0, |last| last.0).max(client.floor);
        let quiet = self.clients.iter().min_by_key(|(_, client)| newest(client)).map(|(id, _)| id.clone());
        if let Some(client) = quiet.and_then(|id| self.clients.remove(&id)) {
            self.total -= client.uses.len();
            self.floor = self.floor.max(newest(&client));
        }
    }
}

fn too_old() -> AuthError {
    AuthError::Failed(
        "the request's timestamp is older than requests that were already forgotten: correct the client's clock"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    #[test]
    fn a_nonce_is_good_once_for_each_client_and_second() {
        let nonces = Nonces::default();
        nonces.first_use("a", "n", 1_000_000, now()).unwrap();
        nonces.first_use("b", "n", 1_000_000, now()).unwrap();
        nonces.first_use("a", "m", 1_000_000, now()).unwrap();
        nonces.first_use("a", "n", 1_000_001, now()).unwrap();
        let error = nonces.first_use("a", "n", 1_000_000, now()).unwrap_err();
        assert!(error.to_string().contains("already used"));
    }

    #[test]
    fn what_the_clock_refuses_anyway_is_forgotten() {
        let nonces = Nonces::default();
        nonces.first_use("a", "n", 1_000_000, now()).unwrap();
        let later = now() + CLOCK_SKEW + Duration::from_secs(1);
        nonces.first_use("a", "m", 1_000_901, later).unwrap();
        assert_eq!(nonces.0.lock().unwrap().total, 1);
    }

    #[test]
    fn a_busy_client_is_bounded_and_no_replay_passes() {
        let nonces = Nonces::default();
        for n in 0..=PER_CLIENT as u64 {
            nonces.first_use("busy", &n.to_string(), 1_000_000 + n / 100, now()).unwrap();
        }
        assert!(nonces.0.lock().unwrap().total <= PER_CLIENT);
        for n in [0, 50, 99] {
            let error = nonces.first_use("busy", &n.to_string(), 1_000_000, now()).unwrap_err();
            assert!(error.to_string().contains("already forgotten"), "{error}");
        }
        assert!(nonces.first_use("busy", "100", 1_000_001, now()).is_err());
        nonces.first_use("quiet", "0", 1_000_000, now()).unwrap();
    }

    #[test]
    fn many_clients_are_bounded_and_no_replay_passes() {
        let nonces = Nonces::default();
        for n in 0..=CLIENTS as u64 {
            nonces.first_use(&n.to_string(), "n", 1_000_000 + n, now()).unwrap();
        }
        assert_eq!(nonces.0.lock().unwrap().clients.len(), CLIENTS);
        assert!(nonces.first_use("0", "n", 1_000_000, now()).is_err());
        nonces.first_use("0", "n", 1_000_001, now()).unwrap();
    }
}
