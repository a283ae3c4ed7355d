//! Cron expressions: what is taken has a next time after now and a previous one before it, on whole seconds.

#![no_main]

use chrono::{DateTime, Timelike as _, Utc};
use libfuzzer_sys::fuzz_target;
use pulsehook::schedule::Schedule;

fuzz_target!(|input: (&str, u32)| {
    let (text, offset) = input;
    let Ok(schedule) = Schedule::compile(&[text.to_owned()]) else { return };
    // From 2024 on, for 136 years.
    let Some(now) = DateTime::<Utc>::from_timestamp(1_704_067_200 + i64::from(offset), 0) else { return };
    if let Some(next) = schedule.next(now) {
        assert!(next > now && next.nanosecond() == 0, "{text:?}: {next} after {now}");
        assert_eq!(
            schedule.previous(next + chrono::TimeDelta::seconds(1)),
            Some(next),
            "{text:?} around {next}"
        );
    }
    if let Some(previous) = schedule.previous(now) {
        assert!(previous < now, "{text:?}: {previous} before {now}");
    }
});
