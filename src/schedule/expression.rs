//! One cron expression: read in cron-parser's dialect, handed to croner in a plain form, which computes the dates.
//!
//! The plain form has no names, ranges or steps, only lists of numbers: what dialects disagree about is settled before.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::field::{Field, Kind};

/// Longest expression in characters, cron-parser's own bound.
const MAX_LENGTH: usize = 1024;

/// Nicknames, as they are written: cron-parser takes them in lower case only.
const NICKNAMES: [(&str, &str); 10] = [
    ("@yearly", "0 0 0 1 1 *"),
    ("@annually", "0 0 0 1 1 *"),
    ("@monthly", "0 0 0 1 * *"),
    ("@weekly", "0 0 0 * * 0"),
    ("@daily", "0 0 0 * * *"),
    ("@hourly", "0 0 * * * *"),
    ("@minutely", "0 * * * * *"),
    ("@secondly", "* * * * * *"),
    ("@weekdays", "0 0 0 * * 1-5"),
    ("@weekends", "0 0 0 * * 0,6"),
];

/// Days of each month, in a leap year.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Why an expression is refused; reads on after its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Longer than 1024 characters.
    #[error("is longer than {MAX_LENGTH} characters")]
    TooLong,
    /// Begins with `@` and is none of the nicknames.
    #[error("{0:?} is not one of {names}", names = NICKNAMES.map(|(name, _)| name).join(", "))]
    Nickname(String),
    /// Not five or six fields.
    #[error(
        "has {0} fields; five (minute hour day-of-month month day-of-week) or six (the second in front) are needed"
    )]
    Fields(usize),
    /// A field that cannot be read.
    #[error("{0}")]
    Field(String),
    /// Such as the 30th of February.
    #[error("never comes: no month of the month field has the days of the day-of-month field")]
    Never,
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Expression {
    cron: Cron,
}

impl Expression {
    /// Reads an expression of five fields, six fields (seconds in front) or a nickname.
    pub fn parse(source: &str) -> Result<Expression, ExpressionError> {
        if source.chars().count() > MAX_LENGTH {
            return Err(ExpressionError::TooLong);
        }
        let source = match NICKNAMES.iter().find(|(name, _)| *name == source) {
            Some((_, meaning)) => meaning,
            None if source.trim_start().starts_with('@') => {
                return Err(ExpressionError::Nickname(source.to_owned()));
            }
            None => source,
        };
        let mut parts: Vec<&str> = source.split_ascii_whitespace().collect();
        match parts.len() {
            5 => parts.insert(0, "0"),
            6 => {}
            other => return Err(ExpressionError::Fields(other)),
        }
        let field = |kind, index: usize| Field::parse(kind, parts[index]).map_err(ExpressionError::Field);
        let (second, minute, hour) =
            (field(Kind::Second, 0)?, field(Kind::Minute, 1)?, field(Kind::Hour, 2)?);
        let (day, month, weekday) =
            (field(Kind::DayOfMonth, 3)?, field(Kind::Month, 4)?, field(Kind::DayOfWeek, 5)?);
        if weekday.wildcard && !day.last_day {
            let longest = month.numbers().map(|month| LONGEST[month as usize - 1]).max().unwrap_or(0);
            if day.numbers().next().is_none_or(|first| first > longest) {
                return Err(ExpressionError::Never);
            }
        }
        let plain = [
            list(second.numbers()),
            list(minute.numbers()),
            list(hour.numbers()),
            days_of_month(&day),
            list(month.numbers()),
            days_of_week(&weekday),
        ]
        .join(" ");
        let cron = CronParser::builder()
            .seconds(Seconds::Required)
            .year(Year::Disallowed)
            .build()
            .parse(&plain)
            .map_err(|error| ExpressionError::Field(format!("cannot be understood: {error}")))?;
        Ok(Expression { cron })
    }

    /// The first moment after `time`.
    pub fn next(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron.find_next_occurrence(&whole_second(time), false).ok()
    }

    /// The last moment before `time`.
    pub fn previous(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let second = whole_second(time);
        self.cron.find_previous_occurrence(&second, second < time).ok()
    }
}

/// The moment without its fraction of a second: schedules have none.
fn whole_second(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(TimeDelta::seconds(1)).unwrap_or(time)
}

fn list(numbers: impl Iterator<Item = u32>) -> String {
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

/// A wildcard stays one: whether a day field is `*` decides whether the other one counts alone or both count.
fn days_of_month(field: &Field) -> String {
    if field.wildcard {
        return "*".to_owned();
    }
    let last = field.last_day.then(|| "L".to_owned());
    field.numbers().map(|day| day.to_string()).chain(last).collect::<Vec<_>>().join(",")
}

fn days_of_week(field: &Field) -> String {
    if field.wildcard {
        return "*".to_owned();
    }
    let plain = field.numbers().map(|day| match field.nth {
        Some(nth) => format!("{day}#{nth}"),
        None => day.to_string(),
    });
    let last = field.last_weekday_numbers().map(|day| format!("{day}L"));
    plain.chain(last).collect::<Vec<_>>().join(",")
}
