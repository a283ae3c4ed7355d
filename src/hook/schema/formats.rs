//! Formats that ajv knows by its package ajv-formats, as Taskcluster has it, and draft 7 doesn't.
//!
//! A format that nobody knows is refused when a schema is compiled, as ajv refuses it: a misspelt one would check nothing.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonschema::ValidationOptions;
use regex::Regex;

/// Spans of ISO 8601: `P1DT2H`, `P2W`.
static DURATION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^P(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?)$").ok());

fn duration(text: &str) -> bool {
    DURATION.as_ref().is_some_and(|regex| regex.is_match(text)) && !text.ends_with(['P', 'T'])
}

fn iso_date_time(text: &str) -> bool {
    chrono::DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)).is_ok()
        || chrono::NaiveDateTime::parse_from_str(&text.replacen(' ', "T", 1), "%Y-%m-%dT%H:%M:%S%.f").is_ok()
}

fn iso_time(text: &str) -> bool {
    iso_date_time(&format!("2000-01-01T{text}"))
}

/// Adds them.
pub fn with_formats(options: ValidationOptions<'_>) -> ValidationOptions<'_> {
    // The last ones say how a number is stored; ajv checks ranges of some of them, on numbers only.
    let stored = ["int32", "int64", "float", "double", "password", "binary"];
    let options = stored.into_iter().fold(options, |options, name| options.with_format(name, |_: &str| true));
    options
        .with_format("uuid", |text: &str| {
            uuid::Uuid::try_parse(text.strip_prefix("urn:uuid:").unwrap_or(text)).is_ok()
                && text.contains('-')
        })
        .with_format("url", |text: &str| {
            url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "ftp"))
        })
        .with_format("byte", |text: &str| STANDARD.decode(text).is_ok())
        .with_format("duration", duration)
        .with_format("iso-date-time", iso_date_time)
        .with_format("iso-time", iso_time)
        .should_ignore_unknown_formats(false)
}
