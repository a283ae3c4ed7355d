//! What a render may cost at most, estimated from how the template is built and how large its context is.
//!
//! JSON-e has no fuel. Without loops and `$let`, every expression is evaluated once and each name in it stands for at
//! most the whole context, so that names times context bounds the bytes made. A `$let` can multiply that by the names once
//! more, a `$map`, `$find` or `$sort` by the longest list. `$reduce`, `range` and a `join` whose separator is computed can
//! grow beyond any such bound. The estimate is far above what real templates need; only what exceeds a generous limit
//! goes to a worker process, which can be stopped.

use serde_json::{Map, Value};

use super::syntax::Token;

/// Estimated bytes up to which a render happens in the process itself; a real template is some hundred thousand.
pub const INLINE: u64 = 1 << 28;

/// How a template is built.
#[derive(Debug, Default)]
pub struct Shape {
    names: u64,
    brackets: u32,
    unbounded: bool,
    lets: u32,
    loops: u32,
    deepest_lets: u32,
    deepest_loops: u32,
}

impl Shape {
    /// An operator begins. True if [`Shape::leave`] is to be told.
    pub fn enter(&mut self, operator: &str) -> bool {
        match operator {
            "$let" => {
                self.lets += 1;
                self.deepest_lets = self.deepest_lets.max(self.lets);
                true
            }
            "$map" | "$find" | "$sort" => {
                self.loops += 1;
                self.deepest_loops = self.deepest_loops.max(self.loops);
                true
            }
            "$reduce" => {
                self.unbounded = true;
                false
            }
            _ => false,
        }
    }

    /// An operator ends.
    pub fn leave(&mut self, operator: &str) {
        if operator == "$let" {
            self.lets -= 1;
        } else {
            self.loops -= 1;
        }
    }

    /// An expression with its deepest brackets.
    pub fn expression(&mut self, tokens: &[Token<'_>], brackets: usize) {
        self.names += tokens.iter().filter(|token| token.name).count() as u64;
        self.brackets = self.brackets.max(brackets as u32);
        for (index, token) in tokens.iter().enumerate() {
            let called = tokens.get(index + 1).is_some_and(|next| next.text == "(");
            if called && token.text == "range" {
                self.unbounded = true;
            }
            if called && token.text == "join" && !literal_separator(&tokens[index + 1..]) {
                self.unbounded = true;
            }
        }
    }

    /// Estimated bytes of one render.
    pub fn cost(&self, context: &Map<String, Value>) -> u64 {
        if self.unbounded {
            return u64::MAX;
        }
        let (mut bytes, mut longest) = (64, 1);
        for value in context.values() {
            measure(value, &mut bytes, &mut longest);
        }
        bytes
            .saturating_mul((self.names + 1).saturating_pow(1 + self.deepest_lets))
            .saturating_mul(u64::saturating_pow(longest, self.deepest_loops))
            .saturating_mul(1 << self.brackets)
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

fn measure(value: &Value, bytes: &mut u64, longest: &mut u64) {
    *bytes += 8;
    match value {
        // A string can be split into as many items as it has bytes.
        Value::String(text) => *bytes += text.len() as u64,
        Value::Array(items) => {
            *longest = (*longest).max(items.len() as u64);
            items.iter().for_each(|item| measure(item, bytes, longest));
        }
        Value::Object(map) => {
            *longest = (*longest).max(map.len() as u64);
            for (key, value) in map {
                *bytes += key.len() as u64;
                measure(value, bytes, longest);
            }
        }
        _ => {}
    }
}
