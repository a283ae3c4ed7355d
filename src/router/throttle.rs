//! How fast one hook may fire: a rate limit, and a circuit breaker for a hook whose fires keep failing.
//!
//! What is over the limit waits in the broker; nothing is dropped. The breaker opens after so many fires in a row that ended
//! as dead letters; after a pause one message is tried, and what becomes of it closes the breaker or doubles the pause.
//! Changing the hook closes it at once. The state is in memory: a restart begins anew.

use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

/// The longest pause between trials.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The limits of every hook: part of `[router]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Fires of one hook in a minute; 0: as many as there are.
    pub fires_per_minute: u32,
    /// After so many dead letters in a row a hook pauses; 0: never.
    pub failures: u32,
    /// The first pause; each further one is twice as long, up to an hour.
    pub pause_seconds: u32,
}

/// Why a hook's messages have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The rate limit, until then.
    Rate(Instant),
    /// Its fires keep failing, until then. `news`: nobody has been told so yet.
    Broken {
        /// When the next one is tried.
        until: Instant,
        /// The first to hear of it sees to it that consuming stops until then.
        news: bool,
    },
    /// One message is on trial.
    Trial,
}

#[derive(Default)]
struct State {
    /// Fires that may leave now, as of `filled`.
    tokens: f64,
    filled: Option<Instant>,
    failures: u32,
    /// Pauses in a row.
    pauses: u32,
    until: Option<Instant>,
    told: bool,
    trial: bool,
}

/// See the module.
#[derive(Default)]
pub struct Throttle {
    state: Mutex<State>,
}

impl Throttle {
    /// Takes leave for up to `want` (at least one) messages.
    pub fn take(&self, want: usize, config: &Config, now: Instant) -> Result<usize, Held> {
        let Ok(mut state) = self.state.lock() else { return Ok(want) };
        let mut want = want;
        if let Some(until) = state.until {
            if now < until {
                let news = !std::mem::replace(&mut state.told, true);
                return Err(Held::Broken { until, news });
            }
            if state.trial {
                return Err(Held::Trial);
            }
            want = 1;
        }
        if config.fires_per_minute > 0 {
            let rate = f64::from(config.fires_per_minute);
            let since = state.filled.map_or(Duration::MAX, |filled| now.saturating_duration_since(filled));
            state.tokens = (state.tokens + since.as_secs_f64() * rate / 60.0).min(rate);
            state.filled = Some(now);
            let available = state.tokens.floor() as usize;
            if available == 0 {
                let missing = (1.0 - state.tokens) * 60.0 / rate;
                return Err(Held::Rate(now + Duration::from_secs_f64(missing.max(0.001))));
            }
            want = want.min(available);
            state.tokens -= want as f64;
        }
        state.trial = state.until.is_some();
        Ok(want)
    }

    /// So many of the messages that had leave did not fire.
    pub fn give_back(&self, unused: usize) {
        let Ok(mut state) = self.state.lock() else { return };
        state.tokens += unused as f64;
        if unused > 0 {
            state.trial = false;
        }
    }

    /// The end of a pause that nobody has been told of yet. Who asks is told, and sees to it that consuming begins again then.
    pub fn untold(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock().ok()?;
        let until = state.until.filter(|until| now < *until && !state.told)?;
        state.told = true;
        Some(until)
    }

    /// A fire made its task.
    pub fn succeeded(&self) {
        self.reset();
    }

    /// The hook was changed, or works.
    pub fn reset(&self) {
        let Ok(mut state) = self.state.lock() else { return };
        (state.failures, state.pauses, state.until, state.told, state.trial) = (0, 0, None, false, false);
    }

    /// A fire ended as a dead letter. Answers the pause if that opens the breaker.
    pub fn failed(&self, config: &Config, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock().ok()?;
        state.failures = state.failures.saturating_add(1);
        let paused = state.until.is_some_and(|until| now < until);
        if config.failures == 0 || paused || (state.failures < config.failures && !state.trial) {
            return None;
        }
        let first = Duration::from_secs(u64::from(config.pause_seconds.max(1)));
        let pause = first.saturating_mul(1 << state.pauses.min(16)).min(LONGEST_PAUSE);
        state.pauses += 1;
        (state.until, state.told, state.trial) = (Some(now + pause), false, false);
        Some(pause)
    }

    /// For how long the rate limit makes the hook's next message wait; `None`: not at all.
    pub fn limited_for(&self, config: &Config, now: Instant) -> Option<Duration> {
        if config.fires_per_minute == 0 {
            return None;
        }
        let state = self.state.lock().ok()?;
        let rate = f64::from(config.fires_per_minute);
        let since = now.saturating_duration_since(state.filled?);
        let missing = 1.0 - state.tokens - since.as_secs_f64() * rate / 60.0;
        (missing > 0.0).then(|| Duration::from_secs_f64(missing * 60.0 / rate))
    }

    /// For how long the hook's messages still wait because its fires keep failing; `None`: they do not.
    pub fn paused_for(&self, now: Instant) -> Option<Duration> {
        let state = self.state.lock().ok()?;
        state.until?.checked_duration_since(now).filter(|rest| !rest.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config(fires_per_minute: u32, failures: u32) -> Config {
        Config { fires_per_minute, failures, pause_seconds: 60 }
    }

    #[test]
    fn without_limits_everything_leaves() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..1_000 {
            assert_eq!(throttle.failed(&config(0, 0), now), None);
        }
        assert_eq!(throttle.take(128, &config(0, 0), now), Ok(128));
    }

    #[test]
    fn a_minute_s_worth_leaves_at_once_and_then_one_as_its_time_comes() {
        let (throttle, config, now) = (Throttle::default(), config(30, 0), Instant::now());
        assert_eq!((throttle.limited_for(&config, now), throttle.take(128, &config, now)), (None, Ok(30)));
        assert!(throttle.limited_for(&config, now).is_some_and(|wait| wait > SECOND && wait <= 2 * SECOND));
        assert_eq!(throttle.limited_for(&config, now + 2 * SECOND), None);
        let Err(Held::Rate(until)) = throttle.take(1, &config, now) else { panic!("there is no more") };
        assert!(until > now + SECOND && until <= now + 2 * SECOND);
        assert_eq!(throttle.take(5, &config, now + 2 * SECOND), Ok(1));
        // What did not fire does not count.
        throttle.give_back(10);
        assert_eq!(throttle.take(128, &config, now + 2 * SECOND), Ok(10));
    }

    #[test]
    fn a_hook_that_keeps_failing_pauses_and_one_message_tries_again() {
        let (throttle, config, now) = (Throttle::default(), config(0, 3), Instant::now());
        assert_eq!((throttle.failed(&config, now), throttle.failed(&config, now)), (None, None));
        assert_eq!(throttle.failed(&config, now), Some(60 * SECOND));
        let until = now + 60 * SECOND;
        assert_eq!(throttle.take(9, &config, now), Err(Held::Broken { until, news: true }));
        assert_eq!(throttle.take(9, &config, now), Err(Held::Broken { until, news: false }));
        assert_eq!(throttle.untold(now), None);
        assert_eq!(throttle.paused_for(now), Some(60 * SECOND));
        // Those that were under way make it no longer.
        assert_eq!(throttle.failed(&config, now), None);

        assert_eq!(throttle.take(9, &config, until), Ok(1));
        assert_eq!(throttle.take(9, &config, until), Err(Held::Trial));
        // A message that does not fire says nothing of the hook: the next one is on trial.
        throttle.give_back(1);
        assert_eq!(throttle.take(9, &config, until), Ok(1));
        assert_eq!(throttle.failed(&config, until), Some(120 * SECOND));
        assert_eq!(throttle.untold(until), Some(until + 120 * SECOND));
        assert_eq!(throttle.untold(until), None);

        assert_eq!(throttle.take(9, &config, until + 120 * SECOND), Ok(1));
        throttle.succeeded();
        assert_eq!(throttle.take(9, &config, until + 120 * SECOND), Ok(9));
        assert_eq!(throttle.paused_for(now), None);
    }
}
