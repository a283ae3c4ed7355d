//! The OpenAPI 3.1 document, whose schemas are JSON Schemas as they are.

use serde_json::{Map, Value, json};

use crate::api::endpoint::{Endpoint, Parameter};
use crate::api::schemas;
use crate::api::table::TABLE;

/// Errors that any call may have, by status.
const ERRORS: [(u16, &str); 8] = [
    (400, "The request is not valid: the code says in what."),
    (401, "The credentials are not good."),
    (403, "The scopes are not sufficient."),
    (404, "No such hook, group, fire or path."),
    (409, "Something else stands under the name."),
    (413, "The body is too large."),
    (500, "A fault of the service."),
    (503, "Something that is needed does not answer; try again."),
];

/// The document at `/api/hooks/v1/openapi.json`.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in TABLE {
        let path = paths.entry(endpoint.axum_route()).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation(endpoint);
    }
    let mut components: Map<String, Value> = schemas::names()
        .filter_map(|name| Some((name.to_owned(), component(schemas::document(name)?))))
        .collect();
    components.insert("error".into(), error());
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "http://json-schema.org/draft-07/schema#",
        "info": {
            "title": "pulsehook",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Taskcluster Hooks v1, and what pulsehook adds to it. Every error has a code and a message.",
        },
        "servers": [{ "url": "/api/hooks/v1" }],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "hawk": {
                    "type": "http",
                    "scheme": "hawk",
                    "description": "Hawk with Taskcluster's `ext`: certificate and authorizedScopes; or a bewit in the query of a GET.",
                },
            },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let in_route = endpoint
        .route_params()
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": route_schema(name) }));
    let parameter = |place: &'static str| {
        move |parameter: &Parameter| {
            json!({
                "name": parameter.name,
                "in": place,
                // The token in a header is what the call is about; everything else may be left out.
                "required": parameter.name == "X-Hook-Token",
                "description": parameter.description,
                "schema": parameter_schema(parameter.name),
            })
        }
    };
    let parameters: Vec<Value> = in_route
        .chain(endpoint.query.iter().map(parameter("query")))
        .chain(endpoint.headers.iter().map(parameter("header")))
        .collect();
    let mut responses = Map::new();
    responses.insert("200".into(), response("Done.", endpoint.output));
    for (status, description) in ERRORS {
        responses.insert(status.to_string(), response(description, "error"));
    }
    let description = match endpoint.scopes {
        Some(scopes) => format!("{}\n\nNeeds the scopes: `{}`.", endpoint.description, scopes.join("`, `")),
        None => endpoint.description.to_owned(),
    };
    let mut operation = json!({
        "operationId": endpoint.name,
        "tags": [endpoint.category],
        "summary": endpoint.title,
        "description": description,
        "parameters": parameters,
        "responses": responses,
    });
    if endpoint.stability == "deprecated" {
        operation["deprecated"] = json!(true);
    }
    if let Some(input) = endpoint.input {
        operation["requestBody"] = json!({ "required": true, "content": content(input) });
    }
    if endpoint.scopes.is_some() {
        // Or nothing, where the anonymous scopes are enough.
        operation["security"] = json!([{ "hawk": [] }, {}]);
    }
    operation
}

fn response(description: &str, schema: &str) -> Value {
    json!({ "description": description, "content": content(schema) })
}

fn content(schema: &str) -> Value {
    json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
}

/// A file of `schemas/` with its references led to its neighbours here.
fn component(schema: &Value) -> Value {
    let mut schema =
        schemas::replace_refs(schema, &|name| json!({ "$ref": format!("#/components/schemas/{name}") }));
    if let Some(map) = schema.as_object_mut() {
        map.remove("$schema");
    }
    schema
}

fn route_schema(name: &str) -> Value {
    match name {
        "hookGroupId" => json!({ "type": "string", "pattern": "^[a-zA-Z0-9_-]{1,1000}$" }),
        "hookId" => json!({ "type": "string", "pattern": "^[a-zA-Z0-9_/-]{1,1000}$" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

fn parameter_schema(name: &str) -> Value {
    match name {
        "limit" => json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
        "count" => json!({ "type": "integer", "minimum": 1, "maximum": 1_000 }),
        "wait" => json!({ "type": "integer", "minimum": 0, "maximum": 60 }),
        "continuationToken" => json!({ "type": "string", "pattern": "^[0-9]{1,18}$" }),
        _ => json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
    }
}

fn error() -> Value {
    json!({
        "type": "object",
        "properties": {
            "code": { "type": "string", "description": "For programs, e.g. InputValidationError." },
            "message": { "type": "string", "description": "For people." },
            "requestInfo": { "type": "object", "description": "What was asked, without secrets." },
        },
        "required": ["code", "message", "requestInfo"],
    })
}
