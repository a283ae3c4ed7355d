//! A year in seconds: each moment of each schedule exactly once, whatever happens to ticks and processes.

use super::*;
use crate::schedule::Schedule;

const CORPUS: [&[&str]; 12] = [
    &["0 */6 * * *"],
    &["0 0 */8 * * *", "0 16 * * *"],
    &["30 4 * * 1-5"],
    &["0 0 * * MON"],
    &["15 3 L * *"],
    &["0 12 29 2 *", "0 12 31 12 *"],
    &["@daily"],
    &["@monthly", "@weekly"],
    &["0 9 13 * FRI"],
    &["0 18 * * 5L"],
    &["59 59 23 * * *"],
    &["45 7 ? */2 1#3"],
];

/// A small generator with a seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_lost_doubled_and_late_ticks_and_of_crashes_triggers_each_moment_once() {
    // A leap year, with two days around it.
    let (start, end) = (at("2027-12-31T00:00:30Z"), at("2029-01-02T00:00:30Z"));
    let mut random = Random(0x5eed_2026);
    let mut world = World::new("2027-12-31T00:00:30Z").await;
    world.declare_queue().await;
    let mut schedules = Vec::new();
    for (number, expressions) in CORPUS.iter().enumerate() {
        world.create(&format!("g/{number}"), expressions, "latest").await;
        let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
        schedules.push(Schedule::compile(&expressions).unwrap());
    }
    // The minutes in which anything is due, and some in which nothing is.
    let mut minutes = std::collections::BTreeSet::new();
    for schedule in &schedules {
        for moment in schedule.after(start).take_while(|moment| *moment <= end) {
            let minute = moment.timestamp().div_euclid(60) + i64::from(moment.timestamp() % 60 != 0);
            minutes.extend([minute, minute + 1, minute + 2]);
        }
    }
    let (mut lost, mut doubled, mut crashes) = (0, 0, 0);
    let mut dropped_in_a_row = 0;
    for minute in minutes {
        let time = DateTime::from_timestamp(minute * 60, 0).unwrap();
        // Two in a row may get lost; a third would be an interruption.
        if dropped_in_a_row < 2 && random.below(4) == 0 {
            (lost, dropped_in_a_row) = (lost + 1, dropped_in_a_row + 1);
            continue;
        }
        dropped_in_a_row = 0;
        world.set(time + TimeDelta::milliseconds(random.below(900) as i64));
        if random.below(40) == 0 {
            // The process ends in the midst of its work, wherever that is.
            crashes += 1;
            let patience = Duration::from_micros(random.below(4_000));
            let _ = tokio::time::timeout(patience, world.scheduler().sweep()).await;
            world.start().await;
        }
        world.scheduler().sweep().await.unwrap();
        if random.below(5) == 0 {
            doubled += 1;
            world.scheduler().sweep().await.unwrap();
        }
    }
    assert!(lost > 100 && doubled > 100 && crashes > 20, "{lost} {doubled} {crashes}");
    let triggers = world.triggers().await;
    for (number, schedule) in schedules.iter().enumerate() {
        let wanted: Vec<_> = schedule.after(start).take_while(|moment| *moment <= end).collect();
        let mut got = triggers.get(&format!("g/{number}")).cloned().unwrap_or_default();
        got.sort();
        assert_eq!(got, wanted, "{:?}", CORPUS[number]);
    }
    assert_eq!(triggers["g/6"].len(), 366 + 2);
}
