//! The JSON Schemas of requests and answers: the files of `schemas/`, compiled in, so that what is served as the API's
//! description is what requests are held to.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::error::{ApiError, Code};
use crate::hook::{HOOK_SCHEMA, Problem, Schema};

/// The files, by name.
const FILES: &[(&str, &str)] = &[
    ("hook", HOOK_SCHEMA),
    ("empty-response", include_str!("../../schemas/api/empty-response.json")),
    ("fire", include_str!("../../schemas/api/fire.json")),
    ("fire-response", include_str!("../../schemas/api/fire-response.json")),
    ("hook-definition", include_str!("../../schemas/api/hook-definition.json")),
    ("hook-schedule-response", include_str!("../../schemas/api/hook-schedule-response.json")),
    ("hook-status", include_str!("../../schemas/api/hook-status.json")),
    ("list-audit-response", include_str!("../../schemas/api/list-audit-response.json")),
    ("list-bindings-response", include_str!("../../schemas/api/list-bindings-response.json")),
    ("list-dead-letters-response", include_str!("../../schemas/api/list-dead-letters-response.json")),
    ("list-decisions-response", include_str!("../../schemas/api/list-decisions-response.json")),
    ("list-hook-groups-response", include_str!("../../schemas/api/list-hook-groups-response.json")),
    ("list-hooks-response", include_str!("../../schemas/api/list-hooks-response.json")),
    ("list-last-fires-response", include_str!("../../schemas/api/list-last-fires-response.json")),
    ("ping-response", include_str!("../../schemas/api/ping-response.json")),
    ("replay-fire-request", include_str!("../../schemas/api/replay-fire-request.json")),
    ("trigger-hook-request", include_str!("../../schemas/api/trigger-hook-request.json")),
    ("trigger-hook-response", include_str!("../../schemas/api/trigger-hook-response.json")),
    ("trigger-token-response", include_str!("../../schemas/api/trigger-token-response.json")),
    ("version-response", include_str!("../../schemas/api/version-response.json")),
];

struct Loaded {
    document: Value,
    compiled: Schema,
}

static SCHEMAS: LazyLock<BTreeMap<&'static str, Loaded>> = LazyLock::new(|| {
    let documents: BTreeMap<&str, Value> = FILES
        .iter()
        .map(|(name, text)| (*name, serde_json::from_str(text).expect("the files of schemas/ are JSON")))
        .collect();
    let load = |name: &'static str| {
        let document = documents[name].clone();
        let whole = replace_refs(&document, &|target| bare(&replace_all(&documents, target)));
        let compiled = Schema::compile(&whole).expect("the files of schemas/ are draft 7 schemas");
        (name, Loaded { document, compiled })
    };
    FILES.iter().map(|(name, _)| load(name)).collect()
});

/// A file whose references to other files are replaced by what they stand for.
fn replace_all(documents: &BTreeMap<&str, Value>, name: &str) -> Value {
    replace_refs(&documents[name], &|target| bare(&replace_all(documents, target)))
}

/// Without what only the top of a schema may say.
fn bare(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(map) = schema.as_object_mut() {
        map.remove("$schema");
        map.remove("$id");
    }
    schema
}

/// The schema with each `{"$ref": "<name>.json#"}` replaced by `with(name)`.
pub(super) fn replace_refs(schema: &Value, with: &dyn Fn(&str) -> Value) -> Value {
    match schema {
        Value::Object(map) => {
            let target =
                map.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_suffix(".json#"));
            if let Some(name) = target {
                return with(name);
            }
            let replaced = map.iter().map(|(key, value)| (key.clone(), replace_refs(value, with)));
            Value::Object(replaced.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|item| replace_refs(item, with)).collect(),
        other => other.clone(),
    }
}

/// What is wrong with a document; nothing if there is no schema by that name.
pub(super) fn problems(name: &str, document: &Value) -> Vec<Problem> {
    SCHEMAS.get(name).map(|schema| schema.compiled.problems(document, "")).unwrap_or_default()
}

/// Refuses a request's body that is not of its schema, with all that is wrong with it.
pub(super) fn check_input(name: &str, body: &Value) -> Result<(), ApiError> {
    match problems(name, body) {
        none if none.is_empty() => Ok(()),
        some => Err(ApiError::problems(Code::InputValidationError, "the request is not valid", &some)),
    }
}

/// The file by that name.
pub(super) fn document(name: &str) -> Option<&'static Value> {
    SCHEMAS.get(name).map(|schema| &schema.document)
}

/// The names of all files.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SCHEMAS.keys().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_compiled_in_and_its_references_lead_somewhere() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/api");
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            let name = file.strip_suffix(".json").unwrap();
            assert!(document(name).is_some(), "{file} is not compiled in");
        }
        assert_eq!(names().count(), FILES.len());
        assert!(problems("list-hooks-response", &serde_json::json!({ "hooks": [] })).is_empty());
        let hookless = serde_json::json!({ "hooks": [{ "hookGroupId": "g" }] });
        assert!(
            problems("list-hooks-response", &hookless)
                .iter()
                .any(|problem| problem.path.starts_with("hooks[0]"))
        );
    }
}
