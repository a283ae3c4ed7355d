//! What happened in each minute of the last day, counted as it happens: messages, fires, tasks, dead letters. What a restart
//! forgets is counted again from the store, as far as that is on record.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Inner, now_ms};
use crate::store::{FireState, Happened};

/// Minutes that are kept: a day, and the one that has just begun.
pub const MINUTES: usize = 24 * 60 + 1;

const MINUTE_MS: i64 = 60_000;

/// What one minute saw.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Minute {
    /// Messages that were decided about.
    pub messages: u32,
    /// Of these, those that did not fire.
    pub passed: u32,
    /// Tasks that came to be.
    pub tasks: u32,
    /// Dead letters.
    pub dead: u32,
}

/// See the module.
pub(super) struct Activity(Mutex<Ring>);

struct Ring {
    minutes: Box<[Minute]>,
    /// The newest minute, in minutes since the epoch.
    newest: i64,
}

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new(Ring { minutes: vec![Minute::default(); MINUTES].into(), newest: 0 }))
    }
}

impl Ring {
    /// The place of a minute; `None` if it is older than what is kept.
    fn at(&mut self, minute: i64) -> Option<&mut Minute> {
        let kept = MINUTES as i64;
        if minute > self.newest {
            for passed in (self.newest + 1).max(minute - kept + 1)..=minute {
                self.minutes[passed.rem_euclid(kept) as usize] = Minute::default();
            }
            self.newest = minute;
        }
        (minute > self.newest - kept).then(|| &mut self.minutes[minute.rem_euclid(kept) as usize])
    }
}

impl Activity {
    /// Counts something that happened at this moment (milliseconds since the epoch).
    pub fn count(&self, at: i64, add: impl FnOnce(&mut Minute)) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(minute) = ring.at(at.div_euclid(MINUTE_MS)) {
            add(minute);
        }
    }

    /// The last `count` minutes up to this moment, oldest first.
    pub fn last(&self, now: i64, count: usize) -> Vec<Minute> {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = now.div_euclid(MINUTE_MS);
        (0..count.min(MINUTES) as i64)
            .rev()
            .map(|ago| ring.at(newest - ago).copied().unwrap_or_default())
            .collect()
    }
}

/// Fires, and decisions, that are counted again after a restart: enough for a busy day, read in some hundred milliseconds.
const COUNTED_AGAIN: u32 = 200_000;

impl Inner {
    /// Counts what happened before the start.
    pub(super) async fn remember_activity(self: Arc<Self>) {
        let started = now_ms();
        match self.store.happened_since(started - MINUTES as i64 * MINUTE_MS, COUNTED_AGAIN).await {
            Ok(happened) => self.activity.remember(&happened, started),
            Err(error) => tracing::warn!(%error, "cannot read what happened before the start"),
        }
    }
}

impl Activity {
    /// Counts what is on record from before `started`; what came after has been counted as it happened.
    fn remember(&self, happened: &[Happened], started: i64) {
        for (_, at, state) in happened.iter().filter(|(_, at, _)| *at < started) {
            self.count(*at, |minute| {
                minute.messages += 1;
                match state {
                    None => minute.passed += 1,
                    Some(FireState::Success) => minute.tasks += 1,
                    Some(FireState::Dead | FireState::Dropped) => minute.dead += 1,
                    Some(FireState::Pending | FireState::Cancelled) => {}
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_counted_and_yesterday_is_forgotten() {
        let activity = Activity::default();
        let day = MINUTES as i64 * MINUTE_MS;
        activity.count(10 * MINUTE_MS, |minute| minute.messages += 3);
        activity.count(12 * MINUTE_MS, |minute| minute.tasks += 1);
        let last = activity.last(12 * MINUTE_MS + 59_999, 3);
        assert_eq!(last.iter().map(|minute| minute.messages).collect::<Vec<_>>(), [3, 0, 0]);
        assert_eq!(last[2].tasks, 1);
        activity.count(day + 10 * MINUTE_MS, |minute| minute.dead += 1);
        assert_eq!(activity.last(day + 10 * MINUTE_MS, 1)[0], Minute { dead: 1, ..Minute::default() });
        activity.count(5 * MINUTE_MS, |minute| minute.messages += 1);
        let now = day + 10 * MINUTE_MS;
        activity
            .remember(&[(1, now - MINUTE_MS, Some(FireState::Success)), (2, now, None), (3, 0, None)], now);
        assert_eq!(activity.last(now, 2)[0], Minute { messages: 1, tasks: 1, ..Minute::default() });
        let all = activity.last(day + 10 * MINUTE_MS, MINUTES);
        assert_eq!(all.iter().map(|minute| minute.messages).sum::<u32>(), 1);
    }
}
