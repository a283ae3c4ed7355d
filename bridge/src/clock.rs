//! The clock: each minute one tick on pulse, so that a time of day is an event like any other.
//!
//! A tick's message id is its minute, so any number of bridges may tick, and a tick may be repeated. The clock follows
//! the wall clock, over suspends and jumps: a jump forward is made good up to a bound, after a jump back the minutes
//! come once more, with the ids that they had. A tick counts as given once the broker has confirmed it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Datelike, SecondsFormat, TimeDelta, Timelike, Utc};
use pulse::{Message, Properties};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::bridge::Now;
use crate::publisher::{NotPublished, Publisher};

/// How often the wall clock is looked at. A sleep until the next minute would not notice a suspend or a jump.
const LOOK: Duration = Duration::from_millis(500);

/// Longest pause after a tick that could not be published.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Which minutes have had their tick.
#[derive(Debug, Clone)]
pub struct Ticks {
    last: Option<DateTime<Utc>>,
    catch_up: u32,
}

impl Ticks {
    /// No tick yet: the current minute's is due at once, since whoever ticked before may have stopped in it.
    pub fn new(catch_up: u32) -> Self {
        Self { last: None, catch_up }
    }

    /// The minutes whose tick is due, oldest first; never more than the bound, nor fewer than the current minute.
    pub fn due(&mut self, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let current = minute(now);
        // Noted even if it cannot be given: a broker that is away at the start gets it later.
        self.last.get_or_insert(current - TimeDelta::minutes(1));
        let first = match self.last {
            Some(last) if last == current => return Vec::new(),
            // The wall clock went back: it is followed.
            Some(last) if last > current => current,
            Some(last) => {
                (last + TimeDelta::minutes(1)).max(current - TimeDelta::minutes(i64::from(self.catch_up)))
            }
            None => current,
        };
        let minutes = (current - first).num_minutes();
        (0..=minutes).map(|offset| first + TimeDelta::minutes(offset)).collect()
    }

    /// The broker has confirmed this minute's tick.
    pub fn ticked(&mut self, time: DateTime<Utc>) {
        self.last = Some(time);
    }
}

fn minute(time: DateTime<Utc>) -> DateTime<Utc> {
    time.with_second(0).and_then(|time| time.with_nanosecond(0)).unwrap_or(time)
}

/// The message of one tick.
pub fn tick(exchange: &str, time: DateTime<Utc>) -> Message {
    let text = time.to_rfc3339_opts(SecondsFormat::Secs, true);
    Message {
        exchange: exchange.to_owned(),
        routing_key: format!(
            "time.{:04}.{:02}.{:02}.{}.{:02}.{:02}",
            time.year(),
            time.month(),
            time.day(),
            time.weekday().to_string().to_lowercase(),
            time.hour(),
            time.minute()
        ),
        properties: Properties {
            message_id: Some(format!("tick-{text}")),
            timestamp: u64::try_from(time.timestamp()).ok(),
            content_type: Some("application/json".to_owned()),
            headers: pulse::Headers::new(),
        },
        body: Bytes::from(format!("{{\"time\": \"{text}\"}}")),
    }
}

/// Ticks until `stop`.
pub async fn run(
    publisher: Arc<Publisher>,
    exchange: String,
    catch_up: u32,
    now: Now,
    stop: CancellationToken,
) {
    let mut ticks = Ticks::new(catch_up);
    let mut pause = LOOK;
    loop {
        let given = tokio::select! {
            given = give(&publisher, &exchange, &mut ticks, &now) => given,
            () = stop.cancelled() => return,
        };
        match given {
            Ok(()) => pause = LOOK,
            Err(reason) => {
                // Told once per outage and not at each attempt.
                if pause == LOOK {
                    warn!(reason, "ticks wait for the broker");
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn give(publisher: &Publisher, exchange: &str, ticks: &mut Ticks, now: &Now) -> Result<(), String> {
    for time in ticks.due(now()) {
        let message = tick(exchange, time);
        match publisher.publish_patiently(&message).await {
            Ok(routed) => debug!(routing_key = %message.routing_key, routed, "tick"),
            // A refused tick is no other than its neighbours: the exchange or a right is missing, and comes back.
            Err(NotPublished::Unavailable(reason) | NotPublished::Refused(reason)) => return Err(reason),
        }
        ticks.ticked(time);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Ticks at these moments, all confirmed.
    fn ticks(catch_up: u32, moments: &[&str]) -> Vec<String> {
        let mut ticks = Ticks::new(catch_up);
        let mut given = Vec::new();
        for moment in moments {
            for time in ticks.due(at(moment)) {
                given.push(time.format("%H:%M").to_string());
                ticks.ticked(time);
            }
        }
        given
    }

    #[test]
    fn each_minute_ticks_once() {
        let moments = [
            "2026-11-22T10:05:59.9Z",
            "2026-11-22T10:06:00Z",
            "2026-11-22T10:06:30Z",
            "2026-11-22T10:07:01Z",
        ];
        assert_eq!(ticks(60, &moments), ["10:05", "10:06", "10:07"]);
    }

    #[test]
    fn a_jump_forward_is_made_good_within_the_bound_and_a_jump_back_is_followed() {
        let day = |time: &str| format!("2026-11-22T{time}Z");
        let run = |catch_up, times: &[&str]| {
            let moments: Vec<String> = times.iter().map(|time| day(time)).collect();
            ticks(catch_up, &moments.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(run(60, &["10:00:00", "10:03:10"]), ["10:00", "10:01", "10:02", "10:03"]);
        assert_eq!(run(2, &["10:00:00", "11:00:10"]), ["10:00", "10:58", "10:59", "11:00"]);
        assert_eq!(run(0, &["10:00:00", "11:00:10"]), ["10:00", "11:00"]);
        assert_eq!(
            run(60, &["10:00:00", "09:58:30", "09:59:00", "10:00:00"]),
            ["10:00", "09:58", "09:59", "10:00"]
        );
    }

    #[test]
    fn a_tick_that_was_not_confirmed_stays_due() {
        let mut ticks = Ticks::new(60);
        assert_eq!(ticks.due(at("2026-11-22T10:04:00Z")).len(), 1);
        assert_eq!(ticks.due(at("2026-11-22T10:05:00Z")).len(), 2);
        ticks.ticked(at("2026-11-22T10:05:00Z"));
        assert_eq!(ticks.due(at("2026-11-22T10:08:00Z")).len(), 3);
        assert_eq!(ticks.due(at("2026-11-22T10:09:00Z")).len(), 4);
    }

    #[test]
    fn a_tick_tells_its_minute_everywhere() {
        let message = tick("exchange/u/v1/clock", at("2026-11-22T10:05:00Z"));
        assert_eq!(message.routing_key, "time.2026.11.22.sun.10.05");
        assert_eq!(message.body, r#"{"time": "2026-11-22T10:05:00Z"}"#);
        assert_eq!(message.properties.message_id.as_deref(), Some("tick-2026-11-22T10:05:00Z"));
        assert_eq!(tick("e", at("2024-02-29T00:00:00Z")).routing_key, "time.2024.02.29.thu.00.00");
    }
}
