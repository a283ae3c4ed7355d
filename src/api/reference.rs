//! The published descriptions of the API, made from the table of its methods: an OpenAPI document, and a Taskcluster API
//! reference with its schemas where a Taskcluster deployment has them, so that client generators of both kinds work.

mod openapi;
mod taskcluster;

use std::sync::LazyLock;

use axum::Json;
use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;

use super::{ApiError, Code};

static OPENAPI: LazyLock<Value> = LazyLock::new(openapi::document);
static REFERENCE: LazyLock<Value> = LazyLock::new(taskcluster::reference);
static MANIFEST: LazyLock<Value> = LazyLock::new(taskcluster::manifest);

/// The OpenAPI document.
pub fn openapi() -> &'static Value {
    &OPENAPI
}

/// The Taskcluster API reference.
pub fn taskcluster() -> &'static Value {
    &REFERENCE
}

/// The routes of the documents. They describe the API and are open to everybody, as the API's source is.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/api/hooks/v1/openapi.json", get(async || Json(&*OPENAPI)))
        // Where Taskcluster's tools look.
        .route("/references/manifest.json", get(async || Json(&*MANIFEST)))
        .route("/references/hooks/v1/api.json", get(async || Json(&*REFERENCE)))
        .route("/schemas/hooks/v1/{file}", get(schema))
}

async fn schema(Path(file): Path<String>) -> Response {
    match file.strip_suffix(".json").and_then(taskcluster::schema) {
        Some(schema) => Json(schema).into_response(),
        None => ApiError::new(Code::ResourceNotFound, "there is no such schema").into_response(),
    }
}

#[cfg(test)]
mod tests;
