//! triggerSchema, compiled once.
//!
//! The two default schemas, which most hooks have, are recognised and cost nothing; any other needs the payload in
//! another representation and is put to the validator.

use std::collections::BTreeMap;

use minijinja::Value;
use minijinja::value::ValueKind;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::hook::{Problem, Schema, default_trigger_schema};

/// A compiled triggerSchema.
pub enum PayloadSchema {
    /// `{}`: anything.
    Anything,
    /// `{type: object}`
    AnyObject,
    /// `{type: object, additionalProperties: false}`
    EmptyObject,
    /// Any other.
    Schema(Box<Schema>),
}

impl PayloadSchema {
    /// Compiles one.
    pub fn compile(schema: &serde_json::Value) -> Result<PayloadSchema, Problem> {
        if *schema == json!({}) {
            Ok(PayloadSchema::Anything)
        } else if *schema == default_trigger_schema(true) {
            Ok(PayloadSchema::AnyObject)
        } else if *schema == default_trigger_schema(false) {
            Ok(PayloadSchema::EmptyObject)
        } else {
            Schema::compile(schema).map(|schema| PayloadSchema::Schema(Box::new(schema))).map_err(|problem| {
                let dot = if problem.path.is_empty() || problem.path.starts_with('[') { "" } else { "." };
                Problem::new(format!("triggerSchema{dot}{}", problem.path), problem.message)
            })
        }
    }

    /// Checks a payload, which is given parsed (perhaps without what nobody reads) and as it came.
    pub fn check(&self, payload: &Value, body: &[u8]) -> Result<(), Vec<Problem>> {
        match self {
            PayloadSchema::Anything => Ok(()),
            PayloadSchema::AnyObject if payload.kind() == ValueKind::Map => Ok(()),
            PayloadSchema::EmptyObject if payload.kind() == ValueKind::Map && is_empty(body) => Ok(()),
            PayloadSchema::EmptyObject if payload.kind() == ValueKind::Map => Err(vec![Problem::new(
                "payload",
                "must be empty ({}), because the hook has no triggerSchema and no bindings",
            )]),
            PayloadSchema::AnyObject | PayloadSchema::EmptyObject => {
                Err(vec![Problem::new("payload", format!("must be of type object, is {}", payload.kind()))])
            }
            PayloadSchema::Schema(schema) => {
                let document: serde_json::Value = serde_json::from_slice(body)
                    .map_err(|error| vec![Problem::new("payload", error.to_string())])?;
                if schema.is_valid(&document) {
                    return Ok(());
                }
                Err(schema.problems(&document, "payload"))
            }
        }
    }
}

fn is_empty(body: &[u8]) -> bool {
    serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(body).is_ok_and(|map| map.is_empty())
}
