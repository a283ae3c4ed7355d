//! Spans of time as people write them: `2 days`, `1 day 2 hours`, `-30 minutes`.

use chrono::{DateTime, TimeDelta, Utc};

/// A text that is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a span of time such as \"2 days\", \"1 day 2 hours\" or \"-30 minutes\"")]
pub struct NotADuration(String);

/// Units in descending order with their names and seconds. A month is 30 days and a year 365, as in Taskcluster.
const UNITS: [(&[&str], i64); 7] = [
    (&["years", "year", "yr", "y"], 365 * 86400),
    (&["months", "month", "mo"], 30 * 86400),
    (&["weeks", "week", "wk", "w"], 7 * 86400),
    (&["days", "day", "d"], 86400),
    (&["hours", "hour", "h"], 3600),
    (&["minutes", "minute", "min", "m"], 60),
    (&["seconds", "second", "sec", "s"], 1),
];

/// Spans beyond this many seconds (10,000 years) are refused: no date could hold the sum.
const MAX_SECONDS: i64 = 10_000 * 365 * 86400;

/// `[+|-] (<number> <unit>)*`, each unit once and in descending order; blank means none. The sign holds for all.
pub fn parse(text: &str) -> Result<TimeDelta, NotADuration> {
    parse_units(text, &UNITS)
}

/// The syntax of the older `{{2 days | from-now}}`: days, hours and minutes only, no sign.
pub fn parse_simple(text: &str) -> Result<TimeDelta, NotADuration> {
    if text.trim_start().starts_with(['-', '+']) {
        return Err(NotADuration(text.to_owned()));
    }
    parse_units(text, &UNITS[3..6])
}

fn parse_units(text: &str, units: &[(&[&str], i64)]) -> Result<TimeDelta, NotADuration> {
    let fail = || NotADuration(text.chars().take(100).collect());
    let mut rest = text.trim();
    let mut sign = 1;
    if let Some(unsigned) = rest.strip_prefix(['-', '+']) {
        sign = if rest.starts_with('-') { -1 } else { 1 };
        rest = unsigned.trim_start();
    }
    let mut left = units;
    let mut seconds: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count: i64 = rest[..digits].parse().map_err(|_| fail())?;
        rest = rest[digits..].trim_start();
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let word = &rest[..letters];
        rest = rest[letters..].trim_start();
        let at = left.iter().position(|(names, _)| names.contains(&word)).ok_or_else(fail)?;
        seconds = count
            .checked_mul(left[at].1)
            .and_then(|more| seconds.checked_add(more))
            .filter(|seconds| *seconds <= MAX_SECONDS)
            .ok_or_else(fail)?;
        left = &left[at + 1..];
    }
    Ok(TimeDelta::seconds(sign * seconds))
}

/// `start` plus a span; an error where no date holds the sum.
pub fn add(start: DateTime<Utc>, span: TimeDelta) -> Result<DateTime<Utc>, String> {
    start
        .checked_add_signed(span)
        .filter(|at| (0..=9999).contains(&chrono::Datelike::year(at)))
        .ok_or_else(|| "the date lies outside the years 0 to 9999".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, seconds) in [
            ("2 days", 2 * 86400),
            ("1 day 2 hours 3 minutes 4 seconds", 86400 + 7200 + 180 + 4),
            ("1 year 1 month", 395 * 86400),
            ("- 1 week", -7 * 86400),
            ("+5m", 300),
            ("1d2h", 86400 + 7200),
            ("", 0),
            ("  ", 0),
        ] {
            assert_eq!(parse(text).unwrap(), TimeDelta::seconds(seconds), "{text}");
        }
        for text in
            ["days", "2", "2 dogs", "1 hour 1 day", "1 day 1 day", "99999999999 years", "1.5 days", "now"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_older_syntax_knows_days_hours_minutes() {
        assert_eq!(parse_simple("1 day 2 hours").unwrap(), TimeDelta::seconds(86400 + 7200));
        assert_eq!(parse_simple("").unwrap(), TimeDelta::zero());
        for text in ["1 week", "-1 day", "2 hours 1 day", "30 seconds"] {
            assert!(parse_simple(text).is_err(), "{text}");
        }
    }
}
