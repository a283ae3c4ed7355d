//! What a hook fires for when its time has come, and what it no longer fires for.
//!
//! Ticks may be lost, so a time that is handled a little late is on time, and several of them fire each. Beyond that
//! there was an interruption, and the hook's `catchUp` decides. It decides again when a trigger has waited: then a newer
//! time may have come, and a burst of stale runs helps nobody.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::{Config, Schedule};
use crate::hook::CatchUp;

/// Missed times are counted up to so many, for the record: nobody needs to know more exactly how many seconds are in a week.
const COUNTED: usize = 1_000;

/// What counts as missed, and what is done about it.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The hook's `catchUp`.
    pub catch_up: CatchUp,
    /// Handled within this time a moment is on time.
    pub on_time: TimeDelta,
    /// A missed moment older than this never fires.
    pub max_age: TimeDelta,
    /// Most missed moments that fire with [`CatchUp::All`].
    pub cap: usize,
}

impl Policy {
    /// From the configuration, for one hook.
    pub fn new(config: &Config, catch_up: CatchUp) -> Self {
        Self {
            catch_up,
            on_time: TimeDelta::seconds(i64::from(config.on_time_seconds)),
            max_age: TimeDelta::seconds(i64::from(config.missed_max_age_seconds)),
            cap: config.catch_up_cap as usize,
        }
    }
}

/// What is to be done now about a hook whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The moments to fire for, oldest first.
    pub fire: Vec<DateTime<Utc>>,
    /// The moments that are passed over.
    pub missed: Option<Missed>,
    /// The next moment in the future.
    pub next: Option<DateTime<Utc>>,
}

/// Moments that are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// How many, counted up to 1000.
    pub count: usize,
    /// The oldest.
    pub first: DateTime<Utc>,
    /// The newest.
    pub last: DateTime<Utc>,
    /// Why they do not fire, for people.
    pub reason: String,
}

/// Decides about the moments from `due`, the first one that was not handled yet, until `now`.
pub fn plan(schedule: &Schedule, due: DateTime<Utc>, now: DateTime<Utc>, policy: &Policy) -> Plan {
    let next = schedule.next(now);
    let fire = if now - due <= policy.on_time {
        std::iter::once(due).chain(schedule.after(due)).take_while(|moment| *moment <= now).collect()
    } else {
        let (age, count) = match policy.catch_up {
            CatchUp::None => (policy.on_time, 1),
            CatchUp::Latest => (policy.max_age, 1),
            CatchUp::All => (policy.max_age, policy.cap),
        };
        // `now` itself may be a moment.
        let after_now = now + TimeDelta::milliseconds(1);
        let mut fire: Vec<_> = schedule
            .before(after_now)
            .take_while(|moment| *moment >= due && now - *moment <= age)
            .take(count)
            .collect();
        fire.reverse();
        fire
    };
    let missed = missed(schedule, due, now, fire.first().copied(), policy);
    Plan { fire, missed, next }
}

fn missed(
    schedule: &Schedule,
    due: DateTime<Utc>,
    now: DateTime<Utc>,
    fired: Option<DateTime<Utc>>,
    policy: &Policy,
) -> Option<Missed> {
    let end = fired.unwrap_or(now + TimeDelta::milliseconds(1));
    if due >= end {
        return None;
    }
    let passed = || std::iter::once(due).chain(schedule.after(due)).take_while(|moment| *moment < end);
    let count = passed().take(COUNTED).count();
    let last = schedule.previous(end).unwrap_or(due);
    let number = if count == COUNTED { format!("{count} or more") } else { count.to_string() };
    let times = if count == 1 { "time was" } else { "times were" };
    let span = if due == last { shown(due) } else { format!("from {} to {}", shown(due), shown(last)) };
    let why = match policy.catch_up {
        CatchUp::None => "catchUp is none".to_owned(),
        _ if now - last > policy.max_age => {
            format!("they are older than {} seconds", policy.max_age.num_seconds())
        }
        CatchUp::Latest => "catchUp is latest, so only the newest one counts".to_owned(),
        CatchUp::All => format!("catchUp is all, up to {}", policy.cap),
    };
    Some(Missed {
        count,
        first: due,
        last,
        reason: format!("{number} scheduled {times} missed ({span}) and will not fire: {why}."),
    })
}

/// Why a trigger that waited does not fire any more; `None`: it fires. `superseded`: a newer moment of the same hook has
/// been handled, or is about to be.
pub fn stale(
    schedule: &Schedule,
    moment: DateTime<Utc>,
    now: DateTime<Utc>,
    superseded: bool,
    policy: &Policy,
) -> Option<String> {
    let age = now - moment;
    if age <= policy.on_time {
        return None;
    }
    let late = format!("The scheduled time {} was missed by {} seconds", shown(moment), age.num_seconds());
    if age > policy.max_age {
        return Some(format!("{late}, more than {}.", policy.max_age.num_seconds()));
    }
    match policy.catch_up {
        CatchUp::None => Some(format!("{late}, and catchUp is none.")),
        CatchUp::Latest if superseded => {
            Some(format!("{late}, a newer one has come, and catchUp is latest."))
        }
        CatchUp::All => {
            let newer = schedule.after(moment).take_while(|newer| *newer <= now).take(policy.cap).count();
            (newer >= policy.cap)
                .then(|| format!("{late}, and catchUp is all, up to {}; there are newer ones.", policy.cap))
        }
        CatchUp::Latest => None,
    }
}

/// A moment as people and templates see it.
fn shown(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}
