//! The older `{{ }}` syntax: `{{2 days | from-now}}`, `{{my label | as-slugid}}`.
//!
//! Templates of the library json-parameterization are taken verbatim. To minijinja `2 days` is a syntax error and
//! `from-now` reads as `from` minus `now`, so strings in this syntax are recognised before minijinja sees them: by a
//! filter with a hyphen that minijinja doesn't have. The rule holds per string, so both syntaxes can stand in one
//! template. In a string of this syntax the library's rules apply:
//!
//! - the head is a quoted literal or the name of a value of the context; filters follow from left to right; a dotted
//!   name that starts with one of the context (`payload.label`) is looked up too, and must be there;
//! - an unknown name or filter leaves the whole `{{…}}` as it was; but an unknown, non-blank name *with* a filter is a
//!   literal (this is what makes `2 days` work, which the library's own examples intended);
//! - results are not expanded again.

use minijinja::Value;

use super::context::{Fire, timestamp};
use super::functions::{self, Kind};
use super::{TemplateError, duration, json, slugid};

/// A part of a string in the older syntax.
#[derive(Debug)]
pub enum Segment {
    /// Text as it is, unknown expressions included.
    Text(Box<str>),
    /// An expression.
    Expression {
        /// As written, with its braces.
        raw: Box<str>,
        head: Head,
        filters: Box<[Filter]>,
    },
}

#[derive(Debug)]
pub enum Head {
    Literal(Box<str>),
    /// A name of the context; where there is no such one and a filter follows, the text itself.
    Name(Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Filter {
    FromNow,
    AsSlugid,
}

/// The parts of a string, if it is in the older syntax.
pub fn parse(source: &str) -> Option<Box<[Segment]>> {
    if !source.contains("{{") || !source.contains('-') {
        return None;
    }
    let mut segments = Vec::new();
    let mut older = false;
    let mut rest = source;
    while let Some(start) = rest.find("{{") {
        let Some((inner, end)) = inner(&rest[start..]) else { break };
        let raw = &rest[start..start + end];
        if start > 0 {
            segments.push(Segment::Text(rest[..start].into()));
        }
        let (head, names) = split(inner);
        older |= names.iter().any(|name| is_older_filter(name));
        segments.push(expression(raw, head, &names));
        rest = &rest[start + end..];
    }
    if !rest.is_empty() {
        segments.push(Segment::Text(rest.into()));
    }
    older.then(|| segments.into_boxed_slice())
}

/// The text between the braces and the length with them. A quoted head may contain braces.
fn inner(text: &str) -> Option<(&str, usize)> {
    let body = &text[2..];
    let blank = body.len() - body.trim_start().len();
    let mut from = 0;
    if let Some(quote @ ('"' | '\'')) = body[blank..].chars().next()
        && let Some(close) = body[blank + 1..].find(quote)
    {
        from = blank + 1 + close + 1;
    }
    let end = from + body[from..].find("}}")?;
    Some((&body[..end], end + 4))
}

fn split(inner: &str) -> (&str, Vec<&str>) {
    let trimmed = inner.trim_start();
    let mut from = 0;
    if let Some(quote @ ('"' | '\'')) = trimmed.chars().next()
        && let Some(close) = trimmed[1..].find(quote)
    {
        from = close + 2;
    }
    match trimmed[from..].find('|') {
        None => (trimmed.trim_end(), Vec::new()),
        Some(bar) => {
            let (head, filters) = trimmed.split_at(from + bar);
            (head.trim_end(), filters[1..].split('|').map(str::trim).collect())
        }
    }
}

fn is_older_filter(name: &str) -> bool {
    let mut parts = name.split('-');
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let first = parts.next().unwrap_or_default();
    name.contains('-') && word(first) && parts.all(word) && !functions::exists(Kind::Filter, first)
}

fn expression(raw: &str, head: &str, names: &[&str]) -> Segment {
    let known: Option<Vec<Filter>> = names
        .iter()
        .map(|name| match *name {
            "from-now" => Some(Filter::FromNow),
            "as-slugid" => Some(Filter::AsSlugid),
            _ => None,
        })
        .collect();
    let Some(filters) = known else { return Segment::Text(raw.into()) };
    let quoted = head.len() >= 2
        && head.starts_with(['"', '\''])
        && head.find(&head[..1]) == Some(0)
        && head[1..].find(&head[..1]) == Some(head.len() - 2);
    let head = if quoted {
        Head::Literal(head[1..head.len() - 1].into())
    } else if head.is_empty() {
        return Segment::Text(raw.into());
    } else {
        Head::Name(head.into())
    };
    Segment::Expression { raw: raw.into(), head, filters: filters.into() }
}

/// The string with its expressions replaced.
pub fn render(segments: &[Segment], context: &Value, fire: &Fire) -> Result<String, TemplateError> {
    let mut text = String::new();
    for segment in segments {
        match segment {
            Segment::Text(plain) => text.push_str(plain),
            Segment::Expression { raw, head, filters } => {
                let value = match head {
                    Head::Literal(literal) => Some(Value::from(&**literal)),
                    Head::Name(name) => match look_up(name, context)? {
                        None if !filters.is_empty() => Some(Value::from(&**name)),
                        found => found,
                    },
                };
                match value {
                    None => text.push_str(raw),
                    Some(value) => text.push_str(&apply(value, filters, fire).map_err(|mut error| {
                        error.message = format!("{} in {raw}", error.message);
                        error
                    })?),
                }
            }
        }
    }
    Ok(text)
}

/// The names that may be looked up.
pub fn names(segments: &[Segment]) -> impl Iterator<Item = String> + '_ {
    segments.iter().filter_map(|segment| match segment {
        Segment::Expression { head: Head::Name(name), .. } => Some(name.to_string()),
        _ => None,
    })
}

fn look_up(name: &str, context: &Value) -> Result<Option<Value>, TemplateError> {
    let mut parts = name.split('.');
    let mut at = match context.get_attr(parts.next().unwrap_or_default()) {
        Ok(value) if !value.is_undefined() => value,
        _ => return Ok(None),
    };
    for part in parts {
        at = at.get_attr(part).unwrap_or(Value::UNDEFINED);
        if at.is_undefined() {
            return Err(TemplateError::new(format!("'{name}' is undefined")));
        }
    }
    Ok(Some(at))
}

fn apply(mut value: Value, filters: &[Filter], fire: &Fire) -> Result<String, TemplateError> {
    for filter in filters {
        let Some(text) = value.as_str() else {
            return Err(TemplateError::new("the older filters take strings"));
        };
        value = Value::from(match filter {
            Filter::FromNow => {
                let span =
                    duration::parse_simple(text).map_err(|error| TemplateError::new(error.to_string()))?;
                timestamp(duration::add(fire.now, span).map_err(TemplateError::new)?)
            }
            Filter::AsSlugid => slugid::slugid(&fire.task_id, text),
        });
    }
    json::text(&value)
}
