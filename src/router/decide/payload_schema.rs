//! triggerSchema, compiled once.
//!
//! The two default schemas, which most hooks have, are recognised and cost nothing; any other needs the payload in
//! another representation and is put to the validator. Most of those look at some properties only, and only these are read
//! to be checked; where filter and template read them, too, the text is not read again.

use std::collections::BTreeMap;

use minijinja::Value;
use minijinja::value::ValueKind;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::hook::{Problem, Schema, default_trigger_schema};
use crate::template::payload;
use crate::template::wanted::{NO_KEY, Wanted};

/// Keywords of an object's schema that say nothing about properties which it does not name.
const PLAIN: [&str; 11] = [
    "$comment",
    "$id",
    "$schema",
    "default",
    "description",
    "errorMessage",
    "examples",
    "properties",
    "required",
    "title",
    "type",
];

/// A compiled triggerSchema.
pub enum PayloadSchema {
    /// `{}`: anything.
    Anything,
    /// `{type: object}`
    AnyObject,
    /// `{type: object, additionalProperties: false}`
    EmptyObject,
    /// Any other.
    Schema(Box<Rule>),
}

/// A schema that has to be asked.
pub struct Rule {
    schema: Schema,
    looks_at: Wanted,
    /// The payload is parsed with all that it looks at.
    covered: bool,
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
            let looks_at = || {
                let mut names = Vec::new();
                reads(schema, "", &mut names);
                Wanted::new(names)
            };
            let compiled = Schema::compile(schema);
            let rule = |schema| Box::new(Rule { schema, looks_at: looks_at(), covered: false });
            compiled.map(|schema| PayloadSchema::Schema(rule(schema))).map_err(|problem| {
                let dot = if problem.path.is_empty() || problem.path.starts_with('[') { "" } else { "." };
                Problem::new(format!("triggerSchema{dot}{}", problem.path), problem.message)
            })
        }
    }

    /// Tells it what of a payload is there when it is checked.
    pub fn reading(mut self, reads: &Wanted) -> PayloadSchema {
        if let PayloadSchema::Schema(rule) = &mut self {
            rule.covered = reads.covers(&rule.looks_at);
        }
        self
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
            PayloadSchema::Schema(rule) => {
                let Rule { schema, looks_at, covered } = &**rule;
                let refused = |error: serde_json::Error| vec![Problem::new("payload", error.to_string())];
                let there = covered.then(|| payload::to_json(payload, looks_at)).flatten();
                let part = match there {
                    Some(part) => part,
                    None => payload::parse(body, looks_at).map_err(refused)?,
                };
                if !schema.can_check(&part) {
                    let why =
                        "is too large for what triggerSchema says about it: checking it would take too long";
                    return Err(vec![Problem::new("payload", why)]);
                }
                if schema.is_valid(&part) {
                    return Ok(());
                }
                // All of it, for the whole truth about what is wrong.
                let document: serde_json::Value = serde_json::from_slice(body).map_err(refused)?;
                Err(schema.problems(&document, "payload"))
            }
        }
    }
}

/// Adds the dotted names of what a schema looks at below `place`; an empty one stands for everything.
fn reads(schema: &serde_json::Value, place: &str, names: &mut Vec<String>) {
    let keywords = schema.as_object();
    let plain = keywords.filter(|keywords| keywords.keys().all(|key| PLAIN.contains(&key.as_str())));
    let Some(plain) = plain else { return names.push(place.to_owned()) };
    let properties = plain.get("properties").and_then(serde_json::Value::as_object);
    let required = plain.get("required").and_then(serde_json::Value::as_array);
    let keys = properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str));
    let keys = keys.chain(required.into_iter().flatten().filter_map(serde_json::Value::as_str));
    for key in keys {
        if key.is_empty() || key.contains('.') {
            return names.push(place.to_owned());
        }
        let below = if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        match properties.and_then(|properties| properties.get(key)) {
            // Of a list nothing is left out.
            Some(schema) if schema["type"] == "object" => {
                names.push(format!("{below}.{NO_KEY}"));
                reads(schema, &below, names);
            }
            _ => names.push(below),
        }
    }
}

fn is_empty(body: &[u8]) -> bool {
    serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(body).is_ok_and(|map| map.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn looks_at(schema: serde_json::Value) -> Vec<String> {
        let mut names = Vec::new();
        reads(&schema, "", &mut names);
        names.retain(|name| !name.ends_with(NO_KEY));
        names
    }

    #[test]
    fn a_schema_looks_at_what_it_names() {
        let schema = json!({
            "type": "object", "required": ["ref", "after"],
            "properties": { "ref": { "type": "string" }, "repository": { "type": "object", "properties": { "name": { "type": "string" } } } }
        });
        assert_eq!(looks_at(schema), ["ref", "repository.name", "ref", "after"]);
        for whole in [
            json!({ "type": "object", "properties": { "a": {} }, "additionalProperties": false }),
            json!({ "type": "object", "minProperties": 1 }),
            json!({ "anyOf": [{ "required": ["a"] }] }),
            json!({ "type": "array", "items": { "type": "string" } }),
            json!(true),
        ] {
            assert_eq!(looks_at(whole.clone()), [""], "{whole}");
        }
        assert_eq!(
            looks_at(json!({ "properties": { "a": { "type": "object", "properties": { "x.y": {} } } } })),
            ["a"]
        );
    }

    /// Small schemas and documents over few names, so that they meet.
    fn documents() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            Just(json!(1)),
            Just(json!(-1.0)),
            Just(json!(u64::MAX)),
            Just(json!(i64::MIN)),
            Just(json!("x")),
            Just(json!([{ "a": 1 }]))
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop::collection::btree_map("[abc]", inner, 0..3).prop_map(|map| json!(map))
        })
    }

    fn schemas() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!({})),
            Just(json!({ "type": "string" })),
            Just(json!({ "type": "object" })),
            Just(json!({ "type": "array", "items": { "required": ["a"] } })),
            Just(json!({ "maxProperties": 1 })),
            Just(json!({ "enum": [1, {}] })),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let properties = prop::collection::btree_map("[abc]", inner, 0..3);
            (properties, prop::collection::vec("[abc]", 0..2), any::<bool>(), any::<bool>()).prop_map(
                |(properties, required, typed, closed)| {
                    let mut schema = json!({ "properties": properties, "required": required });
                    if typed {
                        schema["type"] = json!("object");
                    }
                    if closed {
                        schema["additionalProperties"] = json!(false);
                    }
                    schema
                },
            )
        })
    }

    proptest! {
        #[test]
        fn a_part_is_judged_as_the_whole(schema in schemas(), document in documents()) {
            if let Ok(PayloadSchema::Schema(rule)) = PayloadSchema::compile(&schema) {
                let body = document.to_string();
                let part: serde_json::Value = payload::parse(body.as_bytes(), &rule.looks_at).unwrap();
                let (of_part, of_all) = (rule.schema.is_valid(&part), rule.schema.is_valid(&document));
                prop_assert_eq!(of_part, of_all, "{} {}", schema, document);
            }
        }

        #[test]
        fn what_is_read_anyway_is_not_read_twice(
            schema in schemas(),
            document in documents(),
            reads in prop::collection::vec("([abc](\\.[abc])?)?", 0..4),
        ) {
            let reads = Wanted::new(&reads);
            if let Ok(PayloadSchema::Schema(rule)) = PayloadSchema::compile(&schema).map(|schema| schema.reading(&reads))
                && rule.covered
            {
                let body = document.to_string();
                let payload: Value = payload::parse(body.as_bytes(), &reads).unwrap();
                let part: serde_json::Value = payload::parse(body.as_bytes(), &rule.looks_at).unwrap();
                prop_assert_eq!(payload::to_json(&payload, &rule.looks_at), Some(part), "{} {}", schema, document);
            }
        }
    }
}
