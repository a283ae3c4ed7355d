//! JSON Schema draft 7, compiled once, with errors that people can act on.
//!
//! Used for the hook document, for the rendered task and for each hook's triggerSchema, so strangers' schemas pass
//! through here: nothing is ever fetched (a reference to elsewhere fails to compile), formats are checked as ajv
//! checks them by default in Taskcluster, patterns run on an engine whose time is linear in the input, and what a schema
//! says with its references followed is bounded, as is the list of faults.
//!
//! A schema may give its own sentence for a failed `pattern`, `format` … in a sibling `errorMessage`.

mod cost;
mod formats;
mod references;
mod steps;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::Problem;
use super::problem::child;
use cost::Cost;

/// Compiled size of one `pattern`, in bytes, beyond which a schema is refused: big repetitions cost memory per hook.
const PATTERN_SIZE: usize = 1 << 20;
/// Faults reported for one document; the rest is counted. One hostile payload shall not make an endless report.
const MAX_PROBLEMS: usize = 50;
/// Steps of checking a document; one that may need more is not checked. Up to a second of a thread that hooks share.
const MAX_STEPS: usize = 10_000_000;
/// Steps up to which all faults of a document are listed: 30 MB of faults, if each step finds one. The validator gathers all
/// of them before it shows one.
const MAX_STEPS_LISTED: usize = 100_000;
/// Levels that a schema may be nested; deeper ones could exhaust the stack of whoever compiles them.
const MAX_SCHEMA_DEPTH: usize = 64;

/// The schema of draft 7 schemas, the one other document that may be referred to.
const META_SCHEMA: &str = "http://json-schema.org/draft-07/schema";

/// A compiled schema.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    // Plain. Kept for its errorMessage annotations, and to tell what a list of faults would cost.
    schema: Value,
    cost: Cost,
}

impl Schema {
    /// Compiles a draft 7 schema. The fault's path is within the schema.
    pub fn compile(schema: &Value) -> Result<Schema, Problem> {
        if depth(schema) > MAX_SCHEMA_DEPTH {
            return Err(Problem::new("", format!("is nested deeper than {MAX_SCHEMA_DEPTH} levels")));
        }
        if let Some(problem) = remote_reference(schema, String::new()) {
            return Err(problem);
        }
        let schema = references::plain(schema);
        let cost = cost::check(&schema)?;
        let validator = formats::with_formats(jsonschema::draft7::options())
            .should_validate_formats(true)
            .with_pattern_options(
                PatternOptions::regex().size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE),
            )
            .offline()
            .build(&schema)
            .map_err(|error| {
                let path = dotted(&schema, error.instance_path().as_str());
                Problem::new(path, format!("is not a valid JSON Schema (draft 7): {}", error.masked()))
            })?;
        Ok(Schema { validator, schema, cost })
    }

    /// Whether the document can be checked in reasonable time.
    pub fn can_check(&self, document: &Value) -> bool {
        let most = MAX_STEPS / self.cost.of_a_value().max(1);
        steps::values(document, most) < most || steps::suffice(MAX_STEPS, &self.schema, document)
    }

    /// Whether the document satisfies the schema.
    pub fn is_valid(&self, document: &Value) -> bool {
        self.validator.is_valid(document)
    }

    /// The faults of a document, each with its path below `root` (empty for none), up to fifty and then one that says that
    /// there are more; of a document that is too large for that only one. Values are not repeated: they may be long, and what
    /// is in a payload is not for every log.
    pub fn problems(&self, document: &Value, root: &str) -> Vec<Problem> {
        if self.is_valid(document) {
            return Vec::new();
        }
        if !steps::suffice(MAX_STEPS_LISTED, &self.schema, document) {
            return vec![Problem::new(root, "does not satisfy the schema; it is too large to say where")];
        }
        let mut problems = Vec::new();
        for error in self.validator.iter_errors(document) {
            self.explain(&error, document, root, &mut problems);
            if problems.len() > MAX_PROBLEMS {
                problems.truncate(MAX_PROBLEMS);
                problems.push(Problem::new(root, "has more faults, which are not listed"));
                break;
            }
        }
        problems
    }

    fn explain(&self, error: &ValidationError<'_>, document: &Value, root: &str, into: &mut Vec<Problem>) {
        let inner = dotted(document, error.instance_path().as_str());
        let path = match (root.is_empty(), inner.is_empty()) {
            (true, _) => inner,
            (false, true) => root.to_owned(),
            (false, false) if inner.starts_with('[') => format!("{root}{inner}"),
            (false, false) => format!("{root}.{inner}"),
        };
        if let Some(message) = self.annotation(error) {
            into.push(Problem::new(path, message));
            return;
        }
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                into.push(Problem::new(child(&path, property.as_str().unwrap_or_default()), "is required"));
            }
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for key in unexpected.iter().take(MAX_PROBLEMS + 1) {
                    into.push(Problem::new(child(&path, key), "is not a known property"));
                }
            }
            ValidationErrorKind::Type { kind } => {
                let wanted = match kind {
                    TypeKind::Single(one) => one.to_string(),
                    TypeKind::Multiple(many) => {
                        many.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" or ")
                    }
                };
                into.push(Problem::new(
                    path,
                    format!("must be of type {wanted}, is {}", type_of(error.instance())),
                ));
            }
            ValidationErrorKind::Format { format } => {
                into.push(Problem::new(path, format!("must be a valid {format}")));
            }
            ValidationErrorKind::Pattern { pattern } => {
                into.push(Problem::new(path, format!("must match the pattern {pattern}")));
            }
            ValidationErrorKind::Enum { options } => {
                into.push(Problem::new(path, format!("must be one of {options}")));
            }
            ValidationErrorKind::Constant { expected_value } => {
                into.push(Problem::new(path, format!("must be {expected_value}")));
            }
            ValidationErrorKind::UniqueItems => {
                into.push(Problem::new(path, "must not contain the same item twice"));
            }
            _ => into.push(Problem::new(path, error.masked().to_string())),
        }
    }

    fn annotation(&self, error: &ValidationError<'_>) -> Option<String> {
        let (parent, _) = error.schema_path().as_str().rsplit_once('/')?;
        // A wrong type has a clearer sentence of its own than "must be a date …".
        if matches!(error.kind(), ValidationErrorKind::Type { .. }) {
            return None;
        }
        let message = self.schema.pointer(parent)?.get("errorMessage")?;
        message.as_str().map(str::to_owned)
    }
}

/// A JSON pointer into `document` as a dotted path.
fn dotted(document: &Value, pointer: &str) -> String {
    let mut path = String::new();
    let mut at = Some(document);
    for segment in pointer.split('/').skip(1) {
        let key = segment.replace("~1", "/").replace("~0", "~");
        match at {
            Some(Value::Array(items)) => {
                path.push_str(&format!("[{key}]"));
                at = key.parse::<usize>().ok().and_then(|index| items.get(index));
            }
            other => {
                path = child(&path, &key);
                at = other.and_then(|value| value.get(&key));
            }
        }
    }
    path
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Levels of nesting; 0 for a scalar.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn remote_reference(schema: &Value, path: String) -> Option<Problem> {
    match schema {
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            let here = child(&path, key);
            match value {
                Value::String(target)
                    if key == "$ref" && !target.starts_with('#') && !target.starts_with(META_SCHEMA) =>
                {
                    Some(Problem::new(
                        here,
                        "refers to another document; only references within the schema (#…) are allowed",
                    ))
                }
                // Data, not schemas: a "$ref" in there is an ordinary key.
                _ if matches!(key.as_str(), "enum" | "const" | "default" | "examples") => None,
                _ => remote_reference(value, here),
            }
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, value)| remote_reference(value, format!("{path}[{index}]"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
