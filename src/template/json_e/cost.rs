//! What a render may cost at most, worked out from the template and the sizes in its context.
//!
//! JSON-e has no fuel. But its templates are trees: an expression makes at most as many bytes as the values that it names
//! have together, a `$let` gives a name to so many, a `$map` repeats its body for each item. So a bound can be computed
//! beforehand, and a template that doubles its values again and again shows. `range` and `$reduce` have no such bound.
//! What is bounded by some ten million bytes renders in the process itself, and that is every usual template; the rest in a
//! worker, which can be stopped.

use serde_json::{Map, Value};

use super::syntax::{Token, expressions, tokens};
use crate::template::OPERATORS;

/// Bytes that a render in the process itself may make: some tens of milliseconds.
pub const INLINE: u64 = 1 << 25;

/// Bytes of bookkeeping for a value.
const VALUE: u64 = 32;

/// How to work out a bound, in bytes.
#[derive(Debug)]
pub enum Cost {
    /// So many.
    Bytes(u64),
    /// The size of what a dotted name stands for.
    Name(Box<str>),
    /// All together.
    Sum(Vec<Cost>),
    /// Each byte of the one may meet each of the other.
    Square(Box<Cost>),
    /// Each byte may become a value of its own.
    Scatter(Box<Cost>),
    /// Names with the size of their values, and where they hold. An empty name stands for names that can't be told.
    Let(Vec<(Box<str>, Cost)>, Box<Cost>),
    /// A body for each item of a list, with the name of the item.
    Each(Box<Cost>, Box<str>, Box<Cost>),
    /// No bound.
    Unbounded,
}

impl Cost {
    /// How to work out the bound of a template.
    pub fn of(template: &Value) -> Cost {
        match template {
            Value::String(text) => {
                let mut parts = vec![Cost::Bytes(VALUE + text.len() as u64)];
                parts.extend(expressions(text).map(expression));
                Cost::Sum(parts)
            }
            Value::Array(items) => Cost::Sum(items.iter().map(Cost::of).collect()),
            Value::Object(map) => object(map),
            _ => Cost::Bytes(VALUE),
        }
    }

    /// The bound for a context.
    pub fn bound(&self, context: &Map<String, Value>) -> u64 {
        self.eval(&mut Vec::new(), context)
    }

    fn eval<'a>(&'a self, names: &mut Vec<(&'a str, u64, u64)>, context: &Map<String, Value>) -> u64 {
        match self {
            Cost::Bytes(bytes) => *bytes,
            Cost::Name(name) => size_of(name, names, context).0,
            Cost::Sum(parts) => {
                parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.eval(names, context)))
            }
            Cost::Square(part) => {
                let bytes = part.eval(names, context);
                bytes.saturating_mul(bytes)
            }
            Cost::Scatter(part) => part.eval(names, context).saturating_mul(VALUE),
            Cost::Let(bound, body) => {
                let before = names.len();
                let mut total = 0u64;
                let mut sizes = Vec::with_capacity(bound.len());
                for (name, value) in bound {
                    let bytes = value.eval(names, context);
                    total = total.saturating_add(bytes);
                    sizes.push((&**name, bytes, bytes));
                }
                names.extend(sizes);
                let total = total.saturating_add(body.eval(names, context));
                names.truncate(before);
                total
            }
            Cost::Each(list, name, body) => {
                let (bytes, items) = match &**list {
                    Cost::Name(name) => size_of(name, names, context),
                    other => {
                        let bytes = other.eval(names, context);
                        (bytes, bytes)
                    }
                };
                names.push((name, bytes, bytes));
                let each = body.eval(names, context);
                names.pop();
                bytes.saturating_add(each.saturating_mul(items))
            }
            Cost::Unbounded => u64::MAX,
        }
    }
}

/// Bytes of what a name stands for, and items that it may have.
fn size_of(name: &str, names: &[(&str, u64, u64)], context: &Map<String, Value>) -> (u64, u64) {
    let head = name.split('.').next().unwrap_or_default();
    if let Some((_, bytes, items)) = names.iter().rev().find(|(known, ..)| *known == head) {
        return (*bytes, *items);
    }
    let mut parts = name.split('.');
    let mut at = parts.next().and_then(|head| context.get(head));
    for part in parts {
        at = at.and_then(|value| value.get(part));
    }
    match at {
        Some(value) => {
            let mut bytes = 0;
            measure(value, &mut bytes);
            let items = match value {
                Value::Array(items) => items.len() as u64,
                Value::Object(map) => map.len() as u64,
                _ => 1,
            };
            (bytes, items)
        }
        None => names
            .iter()
            .rev()
            .find(|(known, ..)| known.is_empty())
            .map_or((0, 0), |(_, bytes, items)| (*bytes, *items)),
    }
}

fn measure(value: &Value, bytes: &mut u64) {
    *bytes += VALUE;
    match value {
        Value::String(text) => *bytes += text.len() as u64,
        Value::Array(items) => items.iter().for_each(|item| measure(item, bytes)),
        Value::Object(map) => {
            for (key, value) in map {
                *bytes += VALUE + key.len() as u64;
                measure(value, bytes);
            }
        }
        _ => {}
    }
}

fn object(map: &Map<String, Value>) -> Cost {
    let part = |key: &str| map.get(key).map_or(Cost::Bytes(0), Cost::of);
    let text = |value: &Value| value.as_str().map_or_else(|| Cost::of(value), expression);
    // The variable of each(x), each(x, i) or by(x), and its body.
    let body = || {
        map.iter().find_map(|(key, value)| {
            let inner = key.strip_prefix("each(").or_else(|| key.strip_prefix("by("))?.strip_suffix(')')?;
            Some((inner.split(',').next().unwrap_or_default().trim(), value))
        })
    };
    match map.keys().find(|key| OPERATORS.contains(&key.as_str())).map(String::as_str) {
        Some("$eval") => text(&map["$eval"]),
        Some("$if") => Cost::Sum(vec![text(&map["$if"]), part("then"), part("else")]),
        Some(operator @ ("$switch" | "$match")) => match &map[operator] {
            Value::Object(branches) => Cost::Sum(
                branches
                    .iter()
                    .flat_map(|(condition, value)| [expression(condition), Cost::of(value)])
                    .collect(),
            ),
            other => Cost::of(other),
        },
        Some("$let") => {
            let bound = match &map["$let"] {
                Value::Object(values) if !values.keys().any(|key| key.starts_with('$')) => {
                    values.iter().map(|(name, value)| (name.as_str().into(), Cost::of(value))).collect()
                }
                other => vec![("".into(), Cost::of(other))],
            };
            Cost::Let(bound, Box::new(part("in")))
        }
        Some(operator @ ("$map" | "$find" | "$sort")) => {
            let list = match Cost::of(&map[operator]) {
                // A list that is just a name has as many items as it has.
                Cost::Sum(mut parts) if parts.len() == 1 => parts.remove(0),
                other => other,
            };
            match body() {
                Some((name, value)) => {
                    let body = if operator == "$map" { Cost::of(value) } else { text(value) };
                    Cost::Each(
                        Box::new(list),
                        name.into(),
                        Box::new(Cost::Sum(vec![Cost::Bytes(VALUE), body])),
                    )
                }
                None => Cost::Sum(vec![list, Cost::Bytes(VALUE)]),
            }
        }
        Some("$reduce") => Cost::Unbounded,
        // Merges its objects one by one, each time anew.
        Some("$mergeDeep") => Cost::Square(Box::new(part("$mergeDeep"))),
        Some(operator) => Cost::Sum(vec![part(operator), part(operator)]),
        None => Cost::Sum(
            map.iter()
                .flat_map(|(key, value)| {
                    let mut parts = vec![Cost::Bytes(VALUE + key.len() as u64), Cost::of(value)];
                    parts.extend(expressions(key).map(expression));
                    parts
                })
                .collect(),
        ),
    }
}

fn expression(source: &str) -> Cost {
    let tokens = tokens(source);
    let called = |name: &str| {
        tokens
            .iter()
            .zip(tokens.iter().skip(1))
            .position(|(token, next)| token.text == name && next.text == "(")
    };
    if called("range").is_some() {
        return Cost::Unbounded;
    }
    // A plain name alone is kept as it is, for the length of its list.
    if let [Token { name: true, .. }, rest @ ..] = &tokens[..]
        && rest.chunks(2).all(|pair| matches!(pair, [dot, Token { name: true, .. }] if dot.text == "."))
    {
        return Cost::Sum(vec![Cost::Name(source.split_whitespace().collect::<String>().into())]);
    }
    let mut names = std::collections::BTreeSet::new();
    let mut parts = Vec::new();
    let (mut level, mut deepest) = (0u32, 0u32);
    for (index, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => {
                level += 1;
                deepest = deepest.max(level);
            }
            ")" | "]" | "}" => level = level.saturating_sub(1),
            _ => {}
        }
        if token.name && (index == 0 || tokens[index - 1].text != ".") {
            names.clear();
            super::syntax::names(&tokens[index..], &mut names);
            let dotted = names
                .iter()
                .filter(|name| name.split('.').next() == Some(token.text))
                .min_by_key(|name| name.len());
            parts.push(Cost::Name(dotted.map_or(token.text, String::as_str).into()));
        }
    }
    // The parser takes twice as long for each level of brackets.
    parts.push(Cost::Bytes(VALUE + source.len() as u64 + (16 << deepest.min(20))));
    let mut cost = Cost::Sum(parts);
    if called("split").is_some() {
        cost = Cost::Scatter(Box::new(cost));
    }
    match called("join") {
        Some(at) if !literal_separator(&tokens[at + 1..]) => Cost::Square(Box::new(cost)),
        _ => cost,
    }
}

/// Whether the arguments end in `, "…")`.
fn literal_separator(tokens: &[Token<'_>]) -> bool {
    let mut level = 0usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => level += 1,
            ")" | "]" | "}" => {
                level = level.saturating_sub(1);
                if level == 0 {
                    return index >= 2
                        && tokens[index - 1].text.starts_with(['"', '\''])
                        && tokens[index - 2].text == ",";
                }
            }
            _ => {}
        }
    }
    false
}
