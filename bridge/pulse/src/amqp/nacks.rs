//! Messages that a queue refused: RabbitMQ answers `basic.nack` when *one* of the queues that a message goes to rejects it,
//! although the others took it.
//!
//! Whoever may bind to an exchange can so spoil every publish on it: a queue with a maximum length and
//! `x-overflow: reject-publish`, bound with `#` and full, has each message nacked for ever. And a nack may be a mishap, after which a
//! repeat helps: a queue that crashed, or that its consumer is about to empty. So a nack means "repeat" at first, and once an
//! exchange has had them for a while it means that the message is published: it is in the queues that take messages, as far
//! as repeating can bring it there. The log says then what to look for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::warn;

use super::lane::Answer;
use crate::transport::{PublishError, Published};

/// So long callers repeat what was nacked: longer than a queue needs to move to another node.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// After so long without a nack the next one is a new mishap. Longer than any caller's pause before a repeat, and than two minutes: where
/// nothing but the clock's ticks is published, each of them would be a new mishap otherwise.
const FORGOTTEN: Duration = Duration::from_secs(150);

/// How often the log tells of an exchange.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The exchanges that have had nacks lately. There are few: one's own, which are published to.
pub(super) struct Nacks {
    patience: Duration,
    exchanges: HashMap<String, Count>,
}

struct Count {
    since: Instant,
    last: Instant,
    warned: Option<Instant>,
}

impl Nacks {
    /// Nacks count as published after `patience`.
    pub fn new(patience: Duration) -> Self {
        Self { patience, exchanges: HashMap::new() }
    }

    /// What a nack at `now` means for a message to `exchange`. `returned`: no queue was bound for it.
    pub fn answer(&mut self, exchange: &str, returned: bool, now: Instant) -> Answer {
        self.exchanges.retain(|_, count| now.saturating_duration_since(count.last) <= FORGOTTEN);
        let count = self.exchanges.entry(exchange.to_owned()).or_insert(Count {
            since: now,
            last: now,
            warned: None,
        });
        count.last = now;
        if now.saturating_duration_since(count.since) < self.patience {
            return Err(PublishError::Unavailable(format!(
                "a queue that is bound to {exchange:?} refuses it (basic.nack), or has crashed"
            )));
        }
        if count.warned.is_none_or(|warned| now.saturating_duration_since(warned) >= WARN_EVERY) {
            count.warned = Some(now);
            warn!(
                exchange,
                "a queue keeps refusing what is published here, and the other queues take it: it counts as published; look for a queue \
                 that is bound to this exchange, is full and has the overflow reject-publish (rabbitmqctl list_queues name policy arguments messages)"
            );
        }
        Ok(Published { routed: !returned })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nack_means_repeat_until_an_exchange_has_had_them_for_a_while() {
        let start = Instant::now();
        let mut nacks = Nacks::new(PATIENCE);
        let mut at = |exchange: &str, seconds| match nacks.answer(
            exchange,
            false,
            start + Duration::from_secs(seconds),
        ) {
            Ok(Published { routed }) => routed,
            Err(PublishError::Unavailable(reason)) => {
                assert!(reason.contains(exchange), "{reason}");
                false
            }
            Err(refused) => panic!("{refused}"),
        };
        assert!(!at("e", 0) && !at("e", 29));
        assert!(at("e", 30) && at("e", 31) && at("e", 91), "they go on");
        assert!(at("e", 152) && at("e", 300), "a tick may be missing between them");
        assert!(!at("other", 300), "each exchange for itself");
        assert!(!at("e", 451), "a new mishap");
        assert!(at("e", 500));
    }

    #[test]
    fn what_no_queue_was_bound_for_stays_unrouted() {
        let mut nacks = Nacks::new(Duration::ZERO);
        assert!(matches!(nacks.answer("e", true, Instant::now()), Ok(Published { routed: false })));
    }
}
