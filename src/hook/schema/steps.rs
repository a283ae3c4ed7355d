//! How much work a document is for a schema.
//!
//! Schema and document are walked through side by side as the validator does it, but without anything that is kept:
//! cycles are followed as deep as the document goes. Neither is bounded well by its size alone: most of a large schema is
//! about other values than most of a large document.

use serde_json::Value;

use super::references::{SAME, SAME_LISTS, Target, follow};

/// Text costs more than a number: so many bytes count like a step.
const BYTES_OF_A_STEP: usize = 64;
/// A property that is not there costs little.
const LOOK_UPS_OF_A_STEP: usize = 16;
/// What the schema of schemas has to say about each value in a schema.
const META_SCHEMA_STEPS: usize = 30;

/// Whether no more steps than these are needed.
pub fn suffice(steps: usize, schema: &Value, document: &Value) -> bool {
    Walk { schema, left: steps }.node(schema, document).is_some()
}

/// The steps for the values in a document, each taken once; counting ends at `most`.
pub fn values(document: &Value, most: usize) -> usize {
    let mut count = of(document);
    let mut add = |value: &Value| {
        count += values(value, most.saturating_sub(count));
        count < most
    };
    match document {
        Value::Array(items) => _ = items.iter().all(&mut add),
        Value::Object(members) => _ = members.values().all(&mut add),
        _ => {}
    }
    count
}

fn of(value: &Value) -> usize {
    1 + value.as_str().map_or(0, |text| text.len() / BYTES_OF_A_STEP)
}

/// Walks through a schema and a document side by side. `None`: it is too much.
struct Walk<'a> {
    /// All of it, plain.
    schema: &'a Value,
    left: usize,
}

impl<'a> Walk<'a> {
    fn node(&mut self, at: &'a Value, value: &Value) -> Option<()> {
        self.spend(of(value))?;
        let Value::Object(map) = at else { return Some(()) };
        if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
            return match follow(self.schema, reference) {
                Target::Found(target) => self.node(target, value),
                Target::MetaSchema => self.meta_schema(value),
                Target::Missing => None,
            };
        }
        for (key, schema) in map {
            match (key.as_str(), schema) {
                // These say what they were told in each fault.
                ("enum" | "const" | "pattern" | "format" | "required" | "errorMessage", _) => {
                    self.text(schema)?
                }
                ("not", _) => {
                    self.text(schema)?;
                    self.node(schema, value)?;
                }
                (key, _) if SAME.contains(&key) => self.node(schema, value)?,
                (key, Value::Array(schemas)) if SAME_LISTS.contains(&key) => {
                    schemas.iter().try_for_each(|schema| self.node(schema, value))?;
                }
                ("dependencies", Value::Object(schemas)) => {
                    for schema in schemas.values() {
                        match schema {
                            Value::Array(_) => self.text(schema)?,
                            _ => self.node(schema, value)?,
                        }
                    }
                }
                _ => self.inner(key, schema, value)?,
            }
        }
        Some(())
    }

    /// What one keyword says about what is in the value.
    fn inner(&mut self, keyword: &str, at: &'a Value, value: &Value) -> Option<()> {
        match (keyword, value) {
            ("properties", Value::Object(members)) => {
                let schemas = at.as_object()?;
                // Each is looked for.
                self.spend(schemas.len() / LOOK_UPS_OF_A_STEP)?;
                let mut both = members.iter().filter_map(|(key, member)| Some((schemas.get(key)?, member)));
                both.try_for_each(|(schema, member)| self.node(schema, member))
            }
            ("patternProperties", Value::Object(members)) => at
                .as_object()?
                .values()
                .try_for_each(|schema| members.values().try_for_each(|member| self.node(schema, member))),
            ("additionalProperties", Value::Object(members)) => {
                members.values().try_for_each(|member| self.node(at, member))
            }
            ("propertyNames", Value::Object(members)) => {
                members.keys().try_for_each(|key| self.node(at, &Value::String(key.clone())))
            }
            ("items", Value::Array(items)) => match at {
                Value::Array(schemas) => {
                    schemas.iter().zip(items).try_for_each(|(schema, item)| self.node(schema, item))
                }
                _ => items.iter().try_for_each(|item| self.node(at, item)),
            },
            ("additionalItems" | "contains", Value::Array(items)) => {
                items.iter().try_for_each(|item| self.node(at, item))
            }
            _ => Some(()),
        }
    }

    /// The value is a schema itself.
    fn meta_schema(&mut self, value: &Value) -> Option<()> {
        self.spend(META_SCHEMA_STEPS)?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.meta_schema(item)),
            Value::Object(members) => members.values().try_for_each(|member| self.meta_schema(member)),
            _ => Some(()),
        }
    }

    fn text(&mut self, value: &Value) -> Option<()> {
        match value {
            Value::String(text) => self.spend(1 + text.len() / BYTES_OF_A_STEP),
            Value::Array(items) => {
                self.spend(1)?;
                items.iter().try_for_each(|item| self.text(item))
            }
            Value::Object(members) => {
                self.spend(1)?;
                members.iter().try_for_each(|(key, value)| {
                    self.spend(key.len() / BYTES_OF_A_STEP)?;
                    self.text(value)
                })
            }
            _ => self.spend(1),
        }
    }

    fn spend(&mut self, steps: usize) -> Option<()> {
        self.left = self.left.checked_sub(steps)?;
        Some(())
    }
}
