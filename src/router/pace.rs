//! How fast one hook is decided: a hook that keeps running into its limits is slowed, the others are not.
//!
//! One decision may take as long as `limits.render_ms`. A hook that is new, or was just changed, has one batch at a time until
//! its first decisions are within the limits. One that exceeded them is slow: its messages are decided one by one, on a thread
//! that only slow hooks use, and between two of them it rests for a multiple of what the last one took. So many decisions
//! within the limits in a row, or a change of the hook, and it is as quick as any.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Decisions within the limits, in a row, after which a slow hook is quick again.
const RECOVERY: u32 = 20;

/// A slow hook rests so many times as long as its last decision took: it has a fifth of its thread at most.
const REST: u32 = 4;

/// Not decided yet: neither slow nor known to be quick.
const NEW: u32 = u32::MAX;

/// The pace of one hook.
pub struct Pace(AtomicU32);

impl Default for Pace {
    fn default() -> Self {
        Self(AtomicU32::new(NEW))
    }
}

impl Pace {
    /// The hook was changed.
    pub fn reset(&self) {
        self.0.store(NEW, Ordering::Release);
    }

    /// True while nothing is known of what the hook costs.
    pub fn is_new(&self) -> bool {
        self.0.load(Ordering::Acquire) == NEW
    }

    /// True while its messages go one by one.
    pub fn is_slow(&self) -> bool {
        !matches!(self.0.load(Ordering::Acquire), 0 | NEW)
    }

    /// A decision exceeded a limit. Answers true if the hook is slow from now on.
    pub fn exceeded(&self) -> bool {
        matches!(self.0.swap(RECOVERY, Ordering::AcqRel), 0 | NEW)
    }

    /// A decision was within the limits. Answers true if the hook was slow and is quick from now on.
    pub fn within(&self) -> bool {
        let next = |left: u32| match left {
            0 => None,
            NEW => Some(0),
            left => Some(left - 1),
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) == Ok(1)
    }

    /// How long the hook rests after a decision that took so long.
    pub fn rest(&self, took: Duration) -> Duration {
        if self.is_slow() { took * REST } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_new_then_quick_slow_when_it_exceeds_and_quick_again_after_a_row_of_good_ones() {
        let pace = Pace::default();
        assert!(pace.is_new() && !pace.is_slow());
        assert!(!pace.within());
        assert!(!pace.is_new() && !pace.is_slow());
        assert_eq!(pace.rest(Duration::from_secs(1)), Duration::ZERO);

        assert!(pace.exceeded());
        assert!(!pace.exceeded(), "it is slow already");
        assert!(pace.is_slow());
        assert_eq!(pace.rest(Duration::from_secs(1)), Duration::from_secs(4));
        for _ in 1..RECOVERY {
            assert!(!pace.within());
        }
        assert!(pace.within());
        assert!(!pace.is_slow());

        pace.exceeded();
        pace.reset();
        assert!(pace.is_new() && !pace.is_slow());
    }
}
