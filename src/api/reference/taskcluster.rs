//! The Taskcluster API reference: its format is that of Taskcluster's `api-reference-v0` (libraries/references).

use serde_json::{Value, json};

use crate::api::endpoint::Endpoint;
use crate::api::schemas;
use crate::api::table::TABLE;

/// The document at `/references/hooks/v1/api.json`.
pub(super) fn reference() -> Value {
    json!({
        "$schema": "/schemas/common/api-reference-v0.json#",
        "serviceName": "hooks",
        "apiVersion": "v1",
        "title": "Hooks API Documentation",
        "description": "The hooks of a Taskcluster deployment, kept by pulsehook: tasks that are created when something happens.",
        "entries": TABLE.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn entry(endpoint: &Endpoint) -> Value {
    let mut entry = json!({
        "type": "function",
        "name": endpoint.name,
        "method": endpoint.method.as_str().to_ascii_lowercase(),
        "route": endpoint.route,
        "args": endpoint.route_params().collect::<Vec<_>>(),
        "query": endpoint.query.iter().map(|parameter| parameter.name).collect::<Vec<_>>(),
        "stability": endpoint.stability,
        "category": endpoint.category,
        "title": endpoint.title,
        "description": endpoint.description,
        "output": format!("v1/{}.json#", endpoint.output),
    });
    match endpoint.scopes {
        None => {}
        Some([one]) => entry["scopes"] = json!(one),
        Some(all) => entry["scopes"] = json!({ "AllOf": all }),
    }
    if let Some(input) = endpoint.input {
        entry["input"] = json!(format!("v1/{input}.json#"));
    }
    entry
}

/// One schema, by the name of its file without the ending, with the id under which it is served.
pub(super) fn schema(name: &str) -> Option<Value> {
    let mut schema = schemas::document(name)?.clone();
    schema["$id"] = json!(format!("/schemas/hooks/v1/{name}.json#"));
    Some(schema)
}

/// The document at `/references/manifest.json`: where everything is.
pub(super) fn manifest() -> Value {
    let schemas = schemas::names().map(|name| format!("/schemas/hooks/v1/{name}.json"));
    let references = ["/references/hooks/v1/api.json".to_owned()].into_iter().chain(schemas);
    json!({ "$schema": "/schemas/common/manifest-v3.json#", "references": references.collect::<Vec<_>>() })
}
