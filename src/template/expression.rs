//! A single expression outside a template: what the filter is made of.

use minijinja::Value;

use super::context::NAMES;
use super::leaf::{Expr, Scope};
use super::{TemplateError, environment};

/// A compiled expression over the context.
pub struct Expression(Expr);

impl Expression {
    /// Compiles it, for so much fuel at each evaluation.
    pub fn compile(source: &str, fuel: u64, tokens: usize) -> Result<Expression, TemplateError> {
        Expr::compile(source, &Scope { environment: environment::shared(fuel), tokens, names: &NAMES })
            .map(Expression)
    }

    /// Its value, which may be undefined.
    pub fn eval_lax(&self, context: &Value) -> Result<Value, TemplateError> {
        self.0.eval_lax(context)
    }

    /// Its value; an undefined one is an error.
    pub fn eval(&self, context: &Value) -> Result<Value, TemplateError> {
        self.0.eval(context)
    }

    /// As written.
    pub fn source(&self) -> &str {
        self.0.source()
    }

    /// The dotted names of the context that it reads, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.names()
    }
}

/// The terms of `a and b and c`; `None` if the outermost operator is another one.
pub fn split_and(source: &str) -> Option<Vec<&str>> {
    let bytes = source.as_bytes();
    let mut terms = Vec::new();
    let (mut depth, mut at, mut start) = (0usize, 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'(' | b'[' | b'{' => {
                depth += 1;
                at += 1;
            }
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 => {
                let word = at;
                while at < bytes.len()
                    && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' || bytes[at] >= 0x80)
                {
                    at += 1;
                }
                // An attribute may be called `and`.
                let attribute = source[..word].trim_end().ends_with('.');
                match &source[word..at] {
                    _ if depth > 0 || attribute => {}
                    "or" | "if" | "else" => return None,
                    "and" => {
                        terms.push(source[start..word].trim());
                        start = at;
                    }
                    _ => {}
                }
            }
            _ => at += 1,
        }
    }
    terms.push(source[start..].trim());
    (terms.len() > 1).then_some(terms)
}
