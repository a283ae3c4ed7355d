//! The filter of a hook: an expression over the message that says yes, no and why, or fails.
//!
//! An error is never taken for a no: a filter that reads `payload.reff` shall be heard of. For a no, the record keeps the
//! term that said it and the values that it looked at, so an expression is split at its outer `and`s: each term is
//! compiled by itself and the first that isn't true answers for the whole.

use minijinja::Value;
use serde::{Deserialize, Serialize};

use crate::hook::Problem;
use crate::template::expression::{Expression, split_and};
use crate::template::{self, Limits, TemplateError};

/// Most values that are recorded for a no.
const MAX_SEEN: usize = 8;
/// Longest recorded value, in characters of JSON.
const MAX_SEEN_CHARS: usize = 200;

/// A compiled filter.
pub struct Filter {
    terms: Box<[Expression]>,
}

/// What a filter says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// All terms are true.
    Yes,
    /// A term is false.
    No {
        /// The first one.
        term: String,
        /// What it looked at.
        saw: Vec<Saw>,
    },
}

/// A value that a term looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saw {
    /// Its name, e.g. `payload.ref`.
    pub name: String,
    /// Its value as JSON, shortened if it is long; `undefined` if there is none.
    pub value: String,
}

impl Filter {
    /// Compiles a filter. The fault's path is `filter`.
    pub fn compile(source: &str, limits: &Limits) -> Result<Filter, Vec<Problem>> {
        template::deep_stack(|| {
            let compile = |source: &str| {
                Expression::compile(source, limits.filter_fuel, limits.tokens)
                    .map_err(|error| vec![Problem::new("filter", error.message)])
            };
            let whole = compile(source)?;
            // Repeated lists in repeated lists take no fuel to compare but endless time, and filters have no workers.
            if source.contains('*') && source.contains('[') {
                return Err(vec![Problem::new(
                    "filter",
                    "must not have both * and [ … ]: it could take endless time",
                )]);
            }
            // Without any name the answer is always the same, so it can be looked at now.
            if whole.names().is_empty()
                && let Ok(value) = whole.eval_lax(&Value::UNDEFINED)
                && !is_boolean(&value)
            {
                return Err(vec![Problem::new(
                    "filter",
                    format!("must be true or false, is always {}", value.kind()),
                )]);
            }
            let terms = match split_and(source) {
                Some(parts) => parts.into_iter().map(compile).collect::<Result<Box<[Expression]>, _>>()?,
                None => vec![whole].into(),
            };
            Ok(Filter { terms })
        })
    }

    /// The dotted names of the context that it reads.
    pub fn reads(&self) -> Vec<String> {
        self.terms.iter().flat_map(Expression::names).collect()
    }

    /// The names that it reads, with their values.
    pub fn saw(&self, context: &Value) -> Vec<Saw> {
        let mut all: Vec<Saw> = self.terms.iter().flat_map(|term| seen(term, context)).collect();
        let mut names = std::collections::HashSet::new();
        all.retain(|saw| names.insert(saw.name.clone()));
        all
    }

    /// Looks at a message.
    pub fn decide(&self, context: &Value) -> Result<Verdict, TemplateError> {
        for (index, term) in self.terms.iter().enumerate() {
            let value = term.eval_lax(context)?;
            let last = index + 1 == self.terms.len();
            if last && !is_boolean(&value) {
                if value.is_undefined() {
                    term.eval(context)?;
                }
                return Err(TemplateError::new(format!(
                    "{} gives {}, must be true or false; compare it with something",
                    term.source(),
                    value.kind()
                )));
            }
            if !value.is_true() {
                return Ok(Verdict::No { term: term.source().to_owned(), saw: seen(term, context) });
            }
        }
        Ok(Verdict::Yes)
    }
}

fn is_boolean(value: &Value) -> bool {
    value.kind() == minijinja::value::ValueKind::Bool
}

fn seen(term: &Expression, context: &Value) -> Vec<Saw> {
    term.names()
        .iter()
        .take(MAX_SEEN)
        .map(|name| {
            let mut at = Some(context.clone());
            for part in name.split('.') {
                at = at.and_then(|value| value.get_attr(part).ok()).filter(|value| !value.is_undefined());
            }
            let value = match at {
                None => "undefined".to_owned(),
                Some(value) => template::shortened_json(&value, MAX_SEEN_CHARS),
            };
            Saw { name: name.to_string(), value }
        })
        .collect()
}

#[cfg(test)]
mod tests;
