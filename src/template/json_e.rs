//! JSON-e, through the crate `json-e` behind guards.
//!
//! The crate agrees with the reference on its whole specification, but it trusts its templates, counts from the wall clock
//! and holds numbers as floats. So around it:
//!
//! - before it sees an expression, [`syntax`] bounds length, tokens and brackets (its parser takes time exponential in
//!   the brackets) and the document's depth;
//! - `now` is the frozen moment for `$fromNow` and `fromNow()`: the template is wrapped in a `$let`;
//! - `as_slugid(label)`, which Taskcluster adds to the language, and integers beyond 2^53 pass through it as marked
//!   strings, see [`marks`]; other integers come out as integers;
//! - it gets only those parts of the context that the template names, see [`Wanted`]: converting a payload costs more
//!   than rendering a task;
//! - what a render may cost is worked out first ([`cost`]); what can't be bounded runs in a worker process.
//!
//! A falsy result (null, 0, "", false) declines, as in Taskcluster.

mod cost;
mod locate;
mod marks;
mod syntax;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value, json};

use cost::Cost;

use super::wanted::Wanted;
use super::{Limits, TemplateError};
use crate::hook::Problem;

/// A checked JSON-e template.
pub struct JsonE {
    template: Value,
    wanted: Wanted,
    cost: Cost,
    json: bool,
}

/// What a template gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Rendered {
    /// A value that counts as true.
    Value(Value),
    /// null, 0, "" or false.
    Declined,
}

impl JsonE {
    /// Checks a template; all faults are reported, with paths below `path`.
    pub fn compile(template: &Value, path: &str) -> Result<JsonE, Vec<Problem>> {
        let mut survey = syntax::Survey::default();
        let template = survey.template(template, path, 0);
        if !survey.problems.is_empty() {
            return Err(survey.problems);
        }
        let wanted = Wanted::new(&survey.names);
        let cost = Cost::of(&template);
        Ok(JsonE { template, wanted, cost, json: survey.json })
    }

    /// Whether what rendering with a context may cost can't be bounded low enough for this process.
    pub fn needs_worker(&self, context: &Map<String, Value>) -> bool {
        self.cost.bound(context) > cost::INLINE
    }

    /// What the template reads.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The part of the context that the template names; what else is there, it can't see.
    pub fn prune(&self, context: Map<String, Value>) -> Map<String, Value> {
        self.wanted.prune(context)
    }

    /// Renders with a (pruned) context. `now` is a moment as text; slugids are made for `task_id`.
    pub fn render(
        &self,
        context: &Map<String, Value>,
        now: &str,
        task_id: &str,
        limits: &Limits,
    ) -> Result<Rendered, TemplateError> {
        let context = marks::mark_context(context);
        let with_now = |template: Value| json!({ "$let": { "now": now }, "in": template });
        let value = match run(&with_now(self.template.clone()), &context) {
            Ok(value) => value,
            Err(error) => {
                return Err(locate::locate(
                    &self.template,
                    &mut |part| run(&with_now(part), &context),
                    error,
                ));
            }
        };
        let declined = match &value {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if declined {
            return Ok(Rendered::Declined);
        }
        marks::unmark(value, task_id, limits.depth, self.json).map(Rendered::Value)
    }
}

/// One render by the crate; its panics (dates beyond the calendar) are errors, too.
fn run(template: &Value, context: &Value) -> Result<Value, String> {
    match catch_unwind(AssertUnwindSafe(|| json_e::render(template, context))) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("a number or a date is too large".to_owned()),
    }
}

#[cfg(test)]
mod tests;
