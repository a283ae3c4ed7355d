//! What the crate can't hold passes through it as marked strings.
//!
//! - Integers beyond 2^53 (a float would round them) are strings with a mark in front, and integers again in the task.
//!   In an interpolation they print as they are; arithmetic on them is an error instead of a wrong number.
//! - `as_slugid(label)` becomes a string with the label between marks, which is replaced by the slugid afterwards.
//!
//! The marks are characters of Unicode's private use area; a payload that has them gains nothing: it gets a slugid of its
//! own words, or loses the character.

use serde_json::{Map, Number, Value};

use super::syntax::Token;
use crate::template::TemplateError;
use crate::template::slugid::slugid;

const NUMBER: char = '\u{f8f0}';
const LABEL: char = '\u{f8f1}';
/// Stands for a `$` that begins a key.
pub const DOLLAR: char = '\u{f8f4}';
const LABEL_END: char = '\u{f8f2}';

/// The largest integer up to which floats are exact.
const EXACT: u64 = 1 << 53;

/// A number that the crate would round, as a marked string; anything else as it is.
pub fn mark(value: &Value) -> Value {
    match value {
        Value::Number(number) if !number.is_f64() => {
            let size = number.as_i64().map_or_else(|| number.as_u64().unwrap_or(u64::MAX), i64::unsigned_abs);
            if size > EXACT { Value::String(format!("{NUMBER}{number}")) } else { value.clone() }
        }
        Value::Array(items) => items.iter().map(mark).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), mark(value))).collect())
        }
        other => other.clone(),
    }
}

/// The same for a whole context.
pub fn mark_context(context: &Map<String, Value>) -> Value {
    Value::Object(context.iter().map(|(key, value)| (key.clone(), mark(value))).collect())
}

/// The expression with each `as_slugid(label)` as a marked string.
pub fn rewrite_slugids(source: &str, tokens: &[Token<'_>]) -> String {
    let mut result = String::new();
    let mut from = 0;
    let mut open: Vec<(bool, usize)> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.text {
            "(" => {
                let called = index > 0
                    && tokens[index - 1].text == "as_slugid"
                    && tokens.get(index.wrapping_sub(2)).is_none_or(|before| before.text != ".");
                if called {
                    result.push_str(&source[from..tokens[index - 1].at]);
                    result.push_str(&format!("('{LABEL}' + ("));
                    from = token.at + 1;
                }
                open.push((called, token.at));
            }
            ")" => {
                if let Some((true, _)) = open.pop() {
                    result.push_str(&source[from..token.at]);
                    result.push_str(&format!(") + '{LABEL_END}')"));
                    from = token.at + 1;
                }
            }
            _ => {}
        }
    }
    result.push_str(&source[from..]);
    result
}

/// A rendered value with its numbers as JSON has them and without marks; `json`: the template has a `$json`.
pub fn unmark(value: Value, task_id: &str, depth: usize, json: bool) -> Result<Value, TemplateError> {
    if depth == 0 {
        return Err(TemplateError::exceeded("the rendered task is nested too deep"));
    }
    Ok(match value {
        Value::Number(number) => Value::Number(integral(number)),
        Value::String(text) => match text.strip_prefix(NUMBER).map(str::parse::<Number>) {
            Some(Ok(number)) => Value::Number(number),
            _ => {
                let text = plain(text, task_id);
                Value::String(json.then(|| whole_numbers(&text)).flatten().unwrap_or(text))
            }
        },
        Value::Array(items) => items
            .into_iter()
            .map(|item| unmark(item, task_id, depth - 1, json))
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| Ok((plain(key, task_id), unmark(value, task_id, depth - 1, json)?)))
            .collect::<Result<Map<_, _>, TemplateError>>()?
            .into(),
        other => other,
    })
}

/// The crate writes integers from 2^32 on as floats.
fn integral(number: Number) -> Number {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT as f64 => {
            Number::from(float as i64)
        }
        _ => number,
    }
}

fn plain(text: String, task_id: &str) -> String {
    if !text.contains([NUMBER, LABEL, DOLLAR]) {
        return text;
    }
    let mut result = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(LABEL) {
        let inner = &rest[start + LABEL.len_utf8()..];
        let Some(end) = inner.find(LABEL_END) else { break };
        result.push_str(&rest[..start]);
        result.push_str(&slugid(task_id, &inner[..end].replace(NUMBER, "")));
        rest = &inner[end + LABEL_END.len_utf8()..];
    }
    result.push_str(rest);
    result.replace(NUMBER, "").replace(DOLLAR, "$")
}

/// The crate's `$json` writes integers from 2^32 on as `5000000000.0`: the same text with them as JSON has them. Only what
/// stands like a value in JSON is touched.
pub fn whole_numbers(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut result = String::new();
    let mut from = 0;
    for (at, _) in text.match_indices(".0") {
        let digits = bytes[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let start = at - digits;
        let start = if start > 0 && bytes[start - 1] == b'-' { start - 1 } else { start };
        let before = start.checked_sub(1).map(|at| bytes[at]);
        let after = bytes.get(at + 2);
        let a_value = matches!(before, None | Some(b':' | b',' | b'['))
            && matches!(after, None | Some(b',' | b']' | b'}'));
        if a_value && (10..=16).contains(&digits) {
            result.push_str(&text[from..at]);
            from = at + 2;
        }
    }
    if from == 0 {
        return None;
    }
    result.push_str(&text[from..]);
    Some(result)
}
