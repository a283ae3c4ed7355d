//! Text: names of files, hashes, encodings, regular expressions.
//!
//! Regular expressions are those of the regex crate: no backtracking, time linear in the text. The text that one is
//! put to is bounded all the same, because linear times a large pattern is still much.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use minijinja::{Environment, Error, State, Value};
use regex::{Regex, RegexBuilder};
use sha2::{Digest, Sha256};

use super::{BYTES_PER_FUEL, Function, Kind, entry, fail, string};
use crate::template::json;

pub const TABLE: &[Function] = &[
    entry(
        Kind::Filter,
        "basename",
        "path | basename",
        "The last part of a path or routing key written with slashes.",
        ("\"refs/heads/main\" | basename", "\"main\""),
    ),
    entry(
        Kind::Filter,
        "dirname",
        "path | dirname",
        "All but the last part of a path.",
        ("\"refs/heads/main\" | dirname", "\"refs/heads\""),
    ),
    entry(
        Kind::Filter,
        "sha256",
        "text | sha256",
        "SHA-256 of a text, in hex.",
        ("\"a\" | sha256", "\"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb\""),
    ),
    entry(
        Kind::Filter,
        "b64encode",
        "text | b64encode",
        "Base64 of a text.",
        ("\"hi!?\" | b64encode", "\"aGkhPw==\""),
    ),
    entry(
        Kind::Filter,
        "b64decode",
        "text | b64decode",
        "The text in base64, in the standard or the URL-safe alphabet; must be UTF-8.",
        ("\"aGkhPw==\" | b64decode", "\"hi!?\""),
    ),
    entry(
        Kind::Filter,
        "regex_search",
        "text | regex_search(pattern[, group])",
        "The first match of a regular expression, or one of its groups by number or name; null if there is none.",
        ("\"release-12.3\" | regex_search(\"(\\\\d+)\\\\.(\\\\d+)\", 1)", "\"12\""),
    ),
    entry(
        Kind::Filter,
        "regex_findall",
        "text | regex_findall(pattern)",
        "All matches of a regular expression.",
        ("\"a1b22\" | regex_findall(\"[0-9]+\")", "[\"1\",\"22\"]"),
    ),
    entry(
        Kind::Filter,
        "regex_replace",
        "text | regex_replace(pattern, replacement)",
        "Every match replaced; $1 and ${name} stand for groups.",
        ("\"v1.2\" | regex_replace(\"^v(.*)$\", \"release-$1\")", "\"release-1.2\""),
    ),
    entry(
        Kind::Test,
        "matching",
        "text is matching(pattern)",
        "True if a regular expression matches somewhere in the text; anchor it with ^ and $.",
        ("\"refs/heads/main\" is matching(\"^refs/heads/\")", "true"),
    ),
    entry(
        Kind::Filter,
        "join",
        "list | join[(separator)]",
        "The items of a list as one text; what isn't a string stands as JSON.",
        ("[1, \"a\", true] | join(\"-\")", "\"1-a-true\""),
    ),
    entry(
        Kind::Filter,
        "string",
        "value | string",
        "A value as text; what isn't a string stands as JSON.",
        ("[true, none, 1.5] | string", "\"[true,null,1.5]\""),
    ),
];

/// Compiled size of one regular expression, in bytes.
const REGEX_SIZE: usize = 256 << 10;
/// Longest text that a regular expression is put to, in bytes.
const REGEX_TEXT: usize = 64 << 10;
/// Compiled regular expressions kept; payloads can make patterns, so there is no end of them.
const REGEX_KEPT: usize = 500;
/// Fuel of compiling a regular expression that isn't at hand.
const REGEX_FUEL: u64 = 500;

#[derive(Clone, Default)]
struct Regexes(Arc<Mutex<HashMap<String, Regex>>>);

impl Regexes {
    fn get(&self, state: &State<'_, '_>, pattern: &str, text: &str) -> Result<Regex, Error> {
        if text.len() > REGEX_TEXT {
            return Err(fail(format!("regular expressions take texts up to {REGEX_TEXT} bytes")));
        }
        state.consume_fuel(10 + text.len() as u64 / 8)?;
        if let Some(regex) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(pattern) {
            return Ok(regex.clone());
        }
        state.consume_fuel(REGEX_FUEL)?;
        let regex = RegexBuilder::new(pattern)
            .size_limit(REGEX_SIZE)
            .dfa_size_limit(REGEX_SIZE)
            .build()
            .map_err(|error| fail(format!("not a regular expression: {}", short(&error.to_string()))))?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= REGEX_KEPT {
            kept.clear();
        }
        kept.insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    }
}

fn short(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    line.chars().take(200).collect()
}

pub fn install(environment: &mut Environment<'static>) {
    environment.add_filter("basename", |value: Value| {
        let text = string("basename", &value)?;
        Ok::<_, Error>(text.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned())
    });
    environment.add_filter("dirname", |value: Value| {
        let text = string("dirname", &value)?.trim_end_matches('/');
        Ok::<_, Error>(text.rsplit_once('/').map_or(String::new(), |(head, _)| head.to_owned()))
    });
    environment.add_filter("sha256", |state: &State<'_, '_>, value: Value| {
        let text = string("sha256", &value)?;
        state.consume_fuel(text.len() as u64 / 16)?;
        Ok::<_, Error>(hex::encode(Sha256::digest(text.as_bytes())))
    });
    environment.add_filter("b64encode", |value: Value| {
        Ok::<_, Error>(STANDARD.encode(string("b64encode", &value)?))
    });
    environment.add_filter("b64decode", |value: Value| {
        let text = string("b64decode", &value)?.trim_end_matches('=');
        let bytes = STANDARD_NO_PAD
            .decode(text)
            .or_else(|_| URL_SAFE_NO_PAD.decode(text))
            .map_err(|error| fail(format!("not base64: {error}")))?;
        String::from_utf8(bytes).map_err(|_| fail("the base64 does not hold UTF-8 text"))
    });
    let regexes = Regexes::default();
    let cache = regexes.clone();
    environment.add_filter(
        "regex_search",
        move |state: &State<'_, '_>, value: Value, pattern: Value, group: Option<Value>| {
            let text = string("regex_search", &value)?;
            let regex = cache.get(state, string("the pattern", &pattern)?, text)?;
            let Some(captures) = regex.captures(text) else { return Ok(Value::from(())) };
            let found = match group {
                None => captures.get(0),
                Some(group) => match (group.as_str(), group.as_usize()) {
                    (Some(name), _) => captures.name(name),
                    (None, Some(index)) => captures.get(index),
                    (None, None) => return Err(fail("the group must be a number or a name")),
                },
            };
            Ok(found.map_or(Value::from(()), |found| Value::from(found.as_str())))
        },
    );
    let cache = regexes.clone();
    environment.add_filter("regex_findall", move |state: &State<'_, '_>, value: Value, pattern: Value| {
        let text = string("regex_findall", &value)?;
        let regex = cache.get(state, string("the pattern", &pattern)?, text)?;
        Ok::<_, Error>(regex.find_iter(text).map(|found| Value::from(found.as_str())).collect::<Value>())
    });
    let cache = regexes.clone();
    environment.add_filter(
        "regex_replace",
        move |state: &State<'_, '_>, value: Value, pattern: Value, replacement: Value| {
            let text = string("regex_replace", &value)?;
            let regex = cache.get(state, string("the pattern", &pattern)?, text)?;
            let replacement = string("the replacement", &replacement)?;
            let matches = regex.find_iter(text).count() as u64;
            // A group may stand in the replacement many times, so each of its bytes may stand for the whole text.
            let most = matches.saturating_mul(replacement.len() as u64);
            let grown =
                if replacement.contains('$') { most.saturating_mul(text.len() as u64) / 2 } else { most };
            state.consume_fuel(grown / BYTES_PER_FUEL)?;
            Ok::<_, Error>(regex.replace_all(text, replacement).into_owned())
        },
    );
    environment.add_test("matching", move |state: &State<'_, '_>, value: Value, pattern: Value| {
        let text = string("the tested value", &value)?;
        Ok::<_, Error>(regexes.get(state, string("the pattern", &pattern)?, text)?.is_match(text))
    });
    environment.add_filter("join", |state: &State<'_, '_>, value: Value, separator: Option<Value>| {
        let separator = separator.as_ref().map_or(Ok(""), |separator| string("the separator", separator))?;
        let mut joined = String::new();
        for (index, item) in value.try_iter()?.enumerate() {
            if index > 0 {
                joined.push_str(separator);
            }
            let text = as_text(&item)?;
            state.consume_fuel(1 + (text.len() + separator.len()) as u64 / BYTES_PER_FUEL)?;
            joined.push_str(&text);
        }
        Ok::<_, Error>(joined)
    });
    environment.add_filter("string", |state: &State<'_, '_>, value: Value| {
        let text = as_text(&value)?;
        state.consume_fuel(text.len() as u64 / 4)?;
        Ok::<_, Error>(text)
    });
}

fn as_text(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(minijinja::ErrorKind::UndefinedError));
    }
    json::text(value).map_err(|error| fail(error.message))
}
