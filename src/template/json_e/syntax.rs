//! A walk over a template before the crate sees it: what it names, how it is built, what is wrong with it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::marks;
use crate::hook::Problem;
use crate::hook::problem::child;
use crate::template::OPERATORS;

/// Levels of the document. The crate recurses with large frames.
const MAX_DEPTH: usize = 60;
/// Levels of brackets in one expression: the crate's parser takes twice as long for each.
const MAX_BRACKETS: usize = 8;
/// Tokens of one expression: the crate's parser and evaluator recurse for each operator.
const MAX_TOKENS: usize = 200;
/// Bytes of one expression.
const MAX_EXPRESSION: usize = 4096;

/// What a walk finds.
#[derive(Default)]
pub struct Survey {
    /// Faults.
    pub problems: Vec<Problem>,
    /// There is a `$json`.
    pub json: bool,
    /// Dotted names that expressions read, as far as they are plain: `payload.head_commit.id`.
    pub names: BTreeSet<String>,
}

impl Survey {
    /// Walks over a template and gives it back as the crate shall see it.
    pub fn template(&mut self, value: &Value, path: &str, depth: usize) -> Value {
        if depth > MAX_DEPTH {
            self.problems.push(Problem::new(path, format!("is nested deeper than {MAX_DEPTH} levels")));
            return Value::Null;
        }
        match value {
            Value::String(text) => Value::String(self.text(text, path)),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.template(item, &format!("{path}[{index}]"), depth + 1))
                .collect(),
            Value::Object(map) => self.object(map, path, depth),
            Value::Number(_) => marks::mark(value),
            other => other.clone(),
        }
    }

    fn object(&mut self, map: &Map<String, Value>, path: &str, depth: usize) -> Value {
        let operator = map.keys().find(|key| OPERATORS.contains(&key.as_str())).map(String::as_str);
        let conditions = matches!(operator, Some("$switch" | "$match"));
        let mut result = Map::new();
        for (key, value) in map {
            let here = child(path, key);
            if key.starts_with('$')
                && !key.starts_with("$$")
                && !key.starts_with("${")
                && !OPERATORS.contains(&key.as_str())
            {
                self.problems.push(Problem::new(
                    here,
                    "is not an operator of JSON-e; a key that starts with $ is written $$",
                ));
                continue;
            }
            let expression = match key.as_str() {
                "$eval" | "$if" => true,
                key if key.starts_with("by(") => operator == Some("$sort"),
                key if key.starts_with("each(") => operator == Some("$find"),
                _ => false,
            };
            self.json |= key == "$json";
            let new = match value {
                Value::String(text) if expression => Value::String(self.expression(text, &here)),
                Value::Object(branches) if conditions && Some(key.as_str()) == operator => branches
                    .iter()
                    .map(|(condition, branch)| {
                        let here = child(&here, condition);
                        let condition = if condition == "$default" {
                            condition.clone()
                        } else {
                            self.expression(condition, &here)
                        };
                        (condition, self.template(branch, &here, depth + 2))
                    })
                    .collect::<Map<_, _>>()
                    .into(),
                value => self.template(value, &here, depth + 1),
            };
            // The crate takes such a key for an operator, once it has taken the escape away.
            let key = match key.strip_prefix("$${") {
                Some(rest) => format!("{}{}", marks::DOLLAR, self.text(&format!("{{{rest}"), &here)),
                None => self.text(key, &here),
            };
            result.insert(key, new);
        }
        Value::Object(result)
    }

    /// A string with `${…}` in it.
    fn text(&mut self, text: &str, path: &str) -> String {
        let mut result = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, inner) = (&rest[..at], &rest[at + 2..]);
            result.push_str(before);
            result.push_str("${");
            if before.ends_with('$') {
                rest = inner;
                continue;
            }
            let end = end_of_interpolation(inner);
            result.push_str(&self.expression(&inner[..end], path));
            rest = &inner[end..];
        }
        result.push_str(rest);
        result
    }

    /// Checks one expression and gives it back with `as_slugid` rewritten.
    fn expression(&mut self, source: &str, path: &str) -> String {
        let mut fault = |message: String| {
            let shown: String = source.chars().take(80).collect();
            self.problems.push(Problem::new(path, format!("{message} in the expression {shown}")));
        };
        if source.len() > MAX_EXPRESSION {
            fault(format!("there are more than {MAX_EXPRESSION} bytes"));
            return String::new();
        }
        let tokens = tokens(source);
        if tokens.len() > MAX_TOKENS {
            fault(format!("there are more than {MAX_TOKENS} operators, names and literals"));
            return String::new();
        }
        let mut level = 0usize;
        let mut deepest = 0;
        for token in &tokens {
            match token.text {
                "(" | "[" | "{" => {
                    level += 1;
                    deepest = deepest.max(level);
                }
                ")" | "]" | "}" => level = level.saturating_sub(1),
                _ => {}
            }
        }
        if deepest > MAX_BRACKETS {
            fault(format!("brackets are nested deeper than {MAX_BRACKETS} levels"));
            return String::new();
        }
        let rewritten = marks::rewrite_slugids(source, &tokens);
        // Parsed and not evaluated, because the left side decides.
        let probe = serde_json::json!({ "$eval": format!("false && ({rewritten})") });
        if let Err(error) = super::run(&probe, &serde_json::json!({})) {
            fault(error);
            return String::new();
        }
        names(&tokens, &mut self.names);
        rewritten
    }
}

/// A token of an expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token<'a> {
    /// As written.
    pub text: &'a str,
    /// A name, as opposed to a literal or an operator.
    pub name: bool,
    /// Where it starts.
    pub at: usize,
}

/// The tokens of an expression; strings have no escapes in this language.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut name = false;
        match bytes[at] {
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1;
                }
                at = (at + 1).min(bytes.len());
            }
            byte if word(byte) => {
                while at < bytes.len() && word(bytes[at]) {
                    at += 1;
                }
                name =
                    !byte.is_ascii_digit() && !matches!(&source[start..at], "in" | "true" | "false" | "null");
            }
            byte => at += if byte < 0x80 { 1 } else { source[at..].chars().next().map_or(1, char::len_utf8) },
        }
        tokens.push(Token { text: &source[start..at], name, at: start });
    }
    tokens
}

/// The expressions in the `${…}` of a text.
pub fn expressions(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let at = rest.find("${")?;
            let (before, inner) = (&rest[..at], &rest[at + 2..]);
            if before.ends_with('$') {
                rest = inner;
                continue;
            }
            let end = end_of_interpolation(inner);
            rest = &inner[end..];
            return Some(&inner[..end]);
        }
    })
}

/// Where the `}` stands that ends an interpolation, or the end of the text.
fn end_of_interpolation(text: &str) -> usize {
    let mut level = 0usize;
    for token in tokens(text) {
        match token.text {
            "(" | "[" | "{" => level += 1,
            "}" if level == 0 => return token.at,
            ")" | "]" | "}" => level = level.saturating_sub(1),
            _ => {}
        }
    }
    text.len()
}

/// Adds the dotted names that an expression reads.
pub fn names(tokens: &[Token<'_>], into: &mut BTreeSet<String>) {
    let mut index = 0;
    while index < tokens.len() {
        let follows_dot = index > 0 && tokens[index - 1].text == ".";
        if !tokens[index].name || follows_dot {
            index += 1;
            continue;
        }
        let mut name = tokens[index].text.to_owned();
        index += 1;
        while index + 1 < tokens.len() && tokens[index].text == "." && tokens[index + 1].name {
            name.push('.');
            name.push_str(tokens[index + 1].text);
            index += 2;
        }
        into.insert(name);
    }
}
