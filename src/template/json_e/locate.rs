//! Where in a template a render failed. The crate says what, not where.
//!
//! After a failure, parts of the template are rendered by themselves, in the surroundings in which they stand, and the
//! part that fails is searched further. That costs a few renders, but only where there was an error.

use serde_json::{Value, json};

use crate::hook::problem::child;
use crate::template::TemplateError;
use crate::template::engine::OPERATORS;

/// Most renders for one search.
const MAX_RENDERS: usize = 300;

/// The error with its place. `render` renders a part with the context of the whole.
pub fn locate(
    template: &Value,
    render: &mut dyn FnMut(Value) -> Result<Value, String>,
    message: String,
) -> TemplateError {
    let mut budget = MAX_RENDERS;
    let mut error = TemplateError::new(message);
    let mut path = "task".to_owned();
    search(template, &mut |part| part, render, &mut budget, &mut path, &mut error);
    error.path = path;
    error
}

fn search(
    part: &Value,
    surround: &mut dyn FnMut(Value) -> Value,
    render: &mut dyn FnMut(Value) -> Result<Value, String>,
    budget: &mut usize,
    path: &mut String,
    error: &mut TemplateError,
) {
    for (step, inner, mut wrap) in children(part) {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let mut surround = |part: Value| surround(wrap(part));
        if let Err(message) = render(surround(inner.clone())) {
            error.message = message;
            match step {
                Step::Key(key) => *path = child(path, &key),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
            return search(inner, &mut surround, render, budget, path, error);
        }
    }
}

enum Step {
    Key(String),
    Index(usize),
}

type Wrap<'a> = Box<dyn FnMut(Value) -> Value + 'a>;

/// The parts of a template that can be rendered by themselves, each with what has to stand around it.
fn children(part: &Value) -> Vec<(Step, &Value, Wrap<'_>)> {
    let plain = || -> Wrap<'_> { Box::new(|part| part) };
    match part {
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (Step::Index(index), item, plain())).collect()
        }
        Value::Object(map) => {
            match map.keys().find(|key| OPERATORS.contains(&key.as_str())).map(String::as_str) {
                None => map.iter().map(|(key, value)| (Step::Key(key.clone()), value, plain())).collect(),
                Some("$let") => {
                    let mut parts = Vec::new();
                    if let Some(value) = map.get("$let") {
                        parts.push((Step::Key("$let".to_owned()), value, plain()));
                    }
                    if let (Some(lets), Some(value)) = (map.get("$let"), map.get("in")) {
                        parts.push((
                            Step::Key("in".to_owned()),
                            value,
                            Box::new(move |part| json!({ "$let": lets, "in": part })) as Wrap<'_>,
                        ));
                    }
                    parts
                }
                Some("$if") => {
                    let branch = |key: &'static str| {
                        let value = map.get(key)?;
                        let condition = map.get("$if")?;
                        let wrap: Wrap<'_> = Box::new(move |part| {
                            let mut wrapped = json!({ "$if": condition, "then": null, "else": null });
                            wrapped[key] = part;
                            wrapped
                        });
                        Some((Step::Key(key.to_owned()), value, wrap))
                    };
                    ["then", "else"].into_iter().filter_map(branch).collect()
                }
                Some(
                    operator @ ("$merge" | "$mergeDeep" | "$flatten" | "$flattenDeep" | "$reverse" | "$json"),
                ) => {
                    vec![(Step::Key(operator.to_owned()), &map[operator], plain())]
                }
                Some(_) => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}
