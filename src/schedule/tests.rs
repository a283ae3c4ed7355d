use chrono::TimeDelta;
use proptest::prelude::*;

use super::plan::{Policy, plan, stale};
use super::*;
use crate::hook::CatchUp;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn schedule(expressions: &[&str]) -> Schedule {
    let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
    Schedule::compile(&expressions).unwrap()
}

fn times(expressions: &[&str], after: &str, count: usize) -> Vec<String> {
    schedule(expressions).after(at(after)).take(count).map(|time| time.format("%F %T").to_string()).collect()
}

fn policy(catch_up: CatchUp) -> Policy {
    Policy { catch_up, on_time: TimeDelta::seconds(150), max_age: TimeDelta::hours(24), cap: 3 }
}

#[test]
fn moments_of_expressions_are_merged_and_ordered() {
    assert_eq!(
        times(&["0 */6 * * *", "0 0 12 * * *", "30 11 * * *"], "2026-11-22T05:00:00Z", 4),
        ["2026-11-22 06:00:00", "2026-11-22 11:30:00", "2026-11-22 12:00:00", "2026-11-22 18:00:00"]
    );
    assert_eq!(
        times(&["0 0 29 2 *"], "2026-11-22T05:00:00Z", 2),
        ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]
    );
    assert!(schedule(&[]).next(at("2026-11-22T05:00:00Z")).is_none());
}

#[test]
fn after_and_before_are_strict_and_whole_seconds() {
    let schedule = schedule(&["0 * * * *"]);
    let hour = at("2026-11-22T10:00:00Z");
    let half = TimeDelta::milliseconds(500);
    assert_eq!(schedule.next(hour - half), Some(hour));
    assert_eq!(schedule.next(hour), Some(hour + TimeDelta::hours(1)));
    assert_eq!(schedule.next(hour + half), Some(hour + TimeDelta::hours(1)));
    assert_eq!(schedule.previous(hour + half), Some(hour));
    assert_eq!(schedule.previous(hour), Some(hour - TimeDelta::hours(1)));
    assert_eq!(schedule.previous(hour - half), Some(hour - TimeDelta::hours(1)));
}

#[test]
fn either_day_field_is_enough_where_both_restrict() {
    let start = "2026-11-22T00:00:00Z";
    assert_eq!(
        times(&["0 0 13 * FRI"], start, 3),
        ["2026-11-27 00:00:00", "2026-12-04 00:00:00", "2026-12-11 00:00:00"]
    );
    assert_eq!(times(&["0 0 ? * 1#2"], start, 2), ["2026-12-14 00:00:00", "2027-01-11 00:00:00"]);
    assert_eq!(times(&["0 0 * * 5L"], start, 2), ["2026-11-27 00:00:00", "2026-12-25 00:00:00"]);
    assert_eq!(times(&["0 0 L * *"], start, 2), ["2026-11-30 00:00:00", "2026-12-31 00:00:00"]);
}

#[test]
fn faults_are_told_with_their_places() {
    let faults = |expressions: &[&str]| -> Vec<String> {
        let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
        Schedule::compile(&expressions).unwrap_err().iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        faults(&["0 25 * * *", "* * * *", "@daily", "0 0 30 2 *", "H * * * *"]),
        [
            "schedule[0]: the hour field \"25\" has 25, which is not between 0 and 23",
            "schedule[1]: has 4 fields; five (minute hour day-of-month month day-of-week) or six (the second in front) are needed",
            "schedule[3]: never comes: no month of the month field has the days of the day-of-month field",
            "schedule[4]: the minute field \"H\" has H, a value that would be another in each process: write the value itself",
        ]
    );
    for (expression, wanted) in [
        ("@Daily", "is not one of @yearly"),
        ("0 0 15W * *", "the nearest weekday"),
        ("0 0 * * L", "must name a day before L"),
        ("0 0 * * 1#6", "a number from 1 to 5"),
        ("0 0 * * 1,2#1", "may not combine"),
        ("1,,2 * * * *", "empty list item"),
        ("5,1-9 * * * *", "names 5 twice"),
        ("0 0 * * 0,7", "names 0 twice"),
        ("*/0 * * * *", "above 0 after /"),
        ("9-5 * * * *", "begins after its end"),
        ("0 0 0 * * * *", "has 7 fields"),
        ("", "has 0 fields"),
        ("0 0 * foo *", "a number or a three-letter name"),
    ] {
        let fault = faults(&[expression]).join("\n");
        assert!(fault.contains(wanted), "{expression}: {fault}");
    }
}

#[test]
fn what_is_a_little_late_is_on_time_whatever_the_policy() {
    let minutely = schedule(&["* * * * *"]);
    for catch_up in [CatchUp::Latest, CatchUp::All, CatchUp::None] {
        let plan =
            plan(&minutely, at("2026-11-22T10:01:00Z"), at("2026-11-22T10:03:00.2Z"), &policy(catch_up));
        assert_eq!(plan.fire, [1, 2, 3].map(|minute| at(&format!("2026-11-22T10:0{minute}:00Z"))));
        assert_eq!((plan.missed, plan.next), (None, Some(at("2026-11-22T10:04:00Z"))));
    }
}

#[test]
fn after_an_interruption_the_policy_decides() {
    let hourly = schedule(&["0 * * * *"]);
    let (due, now) = (at("2026-11-22T01:00:00Z"), at("2026-11-22T10:30:00Z"));
    let fire = |catch_up, now| plan(&hourly, due, now, &policy(catch_up));
    let latest = fire(CatchUp::Latest, now);
    assert_eq!(latest.fire, [at("2026-11-22T10:00:00Z")]);
    let missed = latest.missed.unwrap();
    assert_eq!((missed.count, missed.first, missed.last), (9, due, at("2026-11-22T09:00:00Z")));
    assert!(
        missed.reason.contains("9 scheduled times") && missed.reason.contains("latest"),
        "{}",
        missed.reason
    );

    let all = fire(CatchUp::All, now);
    assert_eq!(all.fire, [8, 9, 10].map(|hour| at(&format!("2026-11-22T{hour:02}:00:00Z"))));
    assert_eq!(all.missed.unwrap().count, 7);

    let none = fire(CatchUp::None, now);
    assert_eq!((none.fire.len(), none.missed.unwrap().count), (0, 10));
    // The newest one is not missed.
    assert_eq!(fire(CatchUp::None, at("2026-11-22T10:01:00Z")).fire, [at("2026-11-22T10:00:00Z")]);

    let old = fire(CatchUp::Latest, at("2026-11-24T10:30:00Z"));
    assert_eq!(old.fire, [at("2026-11-24T10:00:00Z")]);
    let yearly = plan(
        &schedule(&["@yearly"]),
        at("2026-01-01T00:00:00Z"),
        at("2026-01-05T00:00:00Z"),
        &policy(CatchUp::All),
    );
    assert!(yearly.fire.is_empty());
    assert!(yearly.missed.unwrap().reason.contains("older than 86400 seconds"));
}

#[test]
fn a_long_interruption_of_a_busy_schedule_costs_little() {
    let secondly = schedule(&["* * * * * *"]);
    let plan = plan(&secondly, at("2016-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"), &policy(CatchUp::All));
    assert_eq!(plan.fire.len(), 3);
    assert!(plan.missed.unwrap().reason.starts_with("1000 or more scheduled times"));
}

#[test]
fn a_trigger_that_waited_is_judged_again() {
    let hourly = schedule(&["0 * * * *"]);
    let moment = at("2026-11-22T10:00:00Z");
    let judge = |catch_up, late: TimeDelta, superseded| {
        stale(&hourly, moment, moment + late, superseded, &policy(catch_up)).is_some()
    };
    let (minute, hours) = (TimeDelta::minutes(1), TimeDelta::hours);
    for catch_up in [CatchUp::Latest, CatchUp::All, CatchUp::None] {
        assert!(!judge(catch_up, minute, true));
        assert!(judge(catch_up, hours(25), false));
    }
    assert!(!judge(CatchUp::Latest, hours(5), false));
    assert!(judge(CatchUp::Latest, hours(5), true));
    assert!(!judge(CatchUp::All, hours(2), true));
    assert!(judge(CatchUp::All, hours(3), true));
    assert!(judge(CatchUp::None, hours(1), false));
}

/// Texts of the characters of cron expressions, most of which are none.
fn anything() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-0-9*/,?#LWH@a-zA-Z ]{0,40}",
        "([*?0-9]{1,2}([-/,][0-9]{1,2})? ){4,5}[0-7*?]([L#][1-5])?",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_what_is_taken_comes(text in anything(), seconds in 0_i64..4_102_444_800) {
        let Ok(schedule) = Schedule::compile(&[text]) else { return Ok(()) };
        let time = DateTime::from_timestamp(seconds, 0).unwrap();
        let next = schedule.next(time).expect("what never comes is refused");
        prop_assert!(next > time);
        prop_assert_eq!(schedule.previous(next + TimeDelta::seconds(1)), Some(next));
        prop_assert!(schedule.previous(next).is_none_or(|previous| previous <= time));
    }

    #[test]
    fn merged_moments_are_those_of_asking_every_expression_each_time(
        texts in prop::collection::vec("(\\*|[0-5]?[0-9]|\\*/[0-9]{1,2}) ([0-5]?[0-9]|\\*) (\\*|1?[0-9]|2[0-3]) (\\*|[12]?[1-9]|L) (\\*|[1-9]) (\\*|[0-7]|[1-5]#[1-4])", 0..6),
        seconds in 0_i64..4_102_444_800,
    ) {
        let texts: Vec<String> = texts.into_iter().filter(|text| Expression::parse(text).is_ok()).collect();
        let schedule = Schedule::compile(&texts).unwrap();
        let time = DateTime::from_timestamp(seconds, 0).unwrap();
        let after = std::iter::successors(schedule.next(time), |time| schedule.next(*time));
        prop_assert!(schedule.after(time).take(30).eq(after.take(30)), "{texts:?} after {time}");
        let before = std::iter::successors(schedule.previous(time), |time| schedule.previous(*time));
        prop_assert!(schedule.before(time).take(30).eq(before.take(30)), "{texts:?} before {time}");
    }
}

#[test]
fn many_expressions_that_come_rarely_cost_little() {
    let texts: Vec<String> = (0..1_000).map(|n| format!("{} {} 0 29 2 *", n % 60, n / 60)).collect();
    let schedule = Schedule::compile(&texts).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(schedule.after(at("2026-11-22T00:00:00Z")).take(1_000).count(), 1_000);
    assert_eq!(schedule.before(at("2026-11-22T00:00:00Z")).take(1_000).count(), 1_000);
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}
