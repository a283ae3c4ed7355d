//! Moments and spans, always counted from the frozen `now` of the fire, never from the clock.

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use minijinja::{Environment, Error, State, Value};

use super::{Function, Kind, entry, fail, string};
use crate::template::context::{fire_of, timestamp};
use crate::template::duration;

pub const TABLE: &[Function] = &[
    entry(
        Kind::Function,
        "from_now",
        "from_now(span[, from])",
        "The moment a span after (or, negative, before) `now`; years, months (30 days), weeks, days, hours, minutes and seconds in this order.",
        ("from_now(\"1 day 2 hours\")", "\"2026-11-23T12:05:00.000Z\""),
    ),
    entry(
        Kind::Filter,
        "from_now",
        "span | from_now[(from)]",
        "The same as the function.",
        ("\"-30 minutes\" | from_now", "\"2026-11-22T09:35:00.000Z\""),
    ),
    entry(
        Kind::Filter,
        "timestamp",
        "moment | timestamp[(format)]",
        "Seconds since 1970 of a moment in ISO 8601, or in a strptime format.",
        ("\"2026-11-22T10:05:00.000Z\" | timestamp", "1795341900"),
    ),
    entry(
        Kind::Filter,
        "isoformat",
        "moment | isoformat",
        "A moment (seconds since 1970, or ISO 8601 with any offset) as the queue service writes it.",
        ("1795341900 | isoformat", "\"2026-11-22T10:05:00.000Z\""),
    ),
    entry(
        Kind::Filter,
        "strftime",
        "moment | strftime(format)",
        "A moment (seconds since 1970, or ISO 8601) in a format with %Y %m %d %H %M %S and the like, UTC.",
        ("now | strftime(\"%Y-%m-%d %H:%M\")", "\"2026-11-22 10:05\""),
    ),
    entry(
        Kind::Filter,
        "strptime",
        "text | strptime(format)",
        "A moment read in a format, as the queue service writes it; UTC unless the format has %z.",
        ("\"22/11/2026\" | strptime(\"%d/%m/%Y\")", "\"2026-11-22T00:00:00.000Z\""),
    ),
];

/// Longest format and result of strftime, in bytes: `%N` with widths could grow without end.
const MAX_FORMAT: usize = 200;

pub fn install(environment: &mut Environment<'static>) {
    environment.add_function("from_now", from_now);
    environment.add_filter("from_now", from_now);
    environment.add_filter("timestamp", |value: Value, format: Option<Value>| match format {
        None => moment(&value).map(|at| at.timestamp()),
        Some(format) => {
            read(string("timestamp", &value)?, string("the format", &format)?).map(|at| at.timestamp())
        }
    });
    environment.add_filter("isoformat", |value: Value| moment(&value).map(timestamp));
    environment.add_filter("strftime", |value: Value, format: Value| {
        let format = string("the format", &format)?;
        if format.len() > MAX_FORMAT {
            return Err(fail(format!("the format is longer than {MAX_FORMAT} bytes")));
        }
        let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
        if items.contains(&Item::Error) {
            return Err(fail(format!("{format:?} is not a strftime format")));
        }
        Ok(moment(&value)?.format_with_items(items.into_iter()).to_string())
    });
    environment.add_filter("strptime", |value: Value, format: Value| {
        read(string("strptime", &value)?, string("the format", &format)?).map(timestamp)
    });
}

fn from_now(state: &State<'_, '_>, span: Value, from: Option<Value>) -> Result<String, Error> {
    let start = match from {
        Some(from) => moment(&from)?,
        None => fire_of(state)?.now,
    };
    let span = duration::parse(string("from_now", &span)?).map_err(|error| fail(error.to_string()))?;
    duration::add(start, span).map(timestamp).map_err(fail)
}

fn moment(value: &Value) -> Result<DateTime<Utc>, Error> {
    if let Some(seconds) = value.as_i64() {
        return DateTime::from_timestamp(seconds, 0).ok_or_else(|| fail("seconds beyond any date"));
    }
    if value.is_number() {
        let seconds = f64::try_from(value.clone())?;
        return DateTime::from_timestamp_millis((seconds * 1000.0) as i64)
            .ok_or_else(|| fail("seconds beyond any date"));
    }
    let text = string("a moment", value)?;
    DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&Utc)).map_err(|error| {
        let text: String = text.chars().take(60).collect();
        fail(format!("{text:?} is not a moment such as 2026-11-22T10:05:00Z: {error}"))
    })
}

fn read(text: &str, format: &str) -> Result<DateTime<Utc>, Error> {
    let short: String = text.chars().take(60).collect();
    if format.len() > MAX_FORMAT {
        return Err(fail(format!("the format is longer than {MAX_FORMAT} bytes")));
    }
    if let Ok(at) = DateTime::parse_from_str(text, format) {
        return Ok(at.with_timezone(&Utc));
    }
    if let Ok(at) = NaiveDateTime::parse_from_str(text, format) {
        return Ok(at.and_utc());
    }
    NaiveDate::parse_from_str(text, format)
        .map(|date| date.and_time(NaiveTime::MIN).and_utc())
        .map_err(|error| fail(format!("{short:?} doesn't have the format {format:?}: {error}")))
}
