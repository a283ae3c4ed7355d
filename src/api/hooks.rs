//! Hooks: list, show, create, update, delete.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};

use super::error::RequestInfo;
use super::{Api, ApiError, Code};
use crate::hook::{Hook, HookName};
use crate::router::decide::Rules;
use crate::router::registry;
use crate::store::{HookRow, NewHook, Saved};

type Answer = Result<Json<Value>, ApiError>;

/// How often an update starts over because another one came between.
const UPDATE_ATTEMPTS: usize = 8;

pub(super) async fn list_groups(State(api): State<Api>) -> Answer {
    Ok(Json(json!({ "groups": api.inner.store.hook_groups().await? })))
}

pub(super) async fn list(State(api): State<Api>, Path(group): Path<String>) -> Answer {
    let rows = api.inner.store.hooks(Some(group.clone())).await?;
    if rows.is_empty() {
        return Err(ApiError::new(Code::ResourceNotFound, format!("no hook group {group}")));
    }
    let hooks: Vec<Value> = rows.iter().map(definition).collect::<Result<_, _>>()?;
    Ok(Json(json!({ "hooks": hooks })))
}

pub(super) async fn show(State(api): State<Api>, Path(path): Path<(String, String)>) -> Answer {
    let (name, info) = named("hook", path)?;
    let row = find(&api, &name, &info).await?;
    Ok(Json(definition(&row)?))
}

pub(super) async fn create(
    State(api): State<Api>,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (name, mut info) = named("createHook", path)?;
    info.payload = json_body(&headers, body).map_err(|error| error.of(&info))?;
    let hook = checked(&api, &name, &info)?;
    let document = hook.to_json();
    let new = NewHook { name: name.clone(), document: document.to_string(), stale_bindings: Vec::new() };
    match api.inner.store.create_hook(new, crate::router::now_ms()).await? {
        Saved::Changed(row) => {
            saved(&api, &row, "hook-created").await;
            Ok(Json(document))
        }
        Saved::Conflict(Some(row)) if definition(&row)? == document => Ok(Json(document)),
        Saved::Conflict(_) => Err(ApiError::new(
            Code::RequestConflict,
            format!("hook {name} exists already with another definition; update it instead"),
        )
        .of(&info)),
    }
}

pub(super) async fn update(
    State(api): State<Api>,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (name, mut info) = named("updateHook", path)?;
    info.payload = json_body(&headers, body).map_err(|error| error.of(&info))?;
    for _ in 0..UPDATE_ATTEMPTS {
        let row = find(&api, &name, &info).await?;
        let former = parse(&row)?;
        let mut request = info.clone();
        // Absent bindings keep the old ones.
        if let (Some(fields), false) =
            (request.payload.as_object_mut(), info.payload.get("bindings").is_some())
            && let Some(bindings) = former.to_json().get("bindings")
        {
            fields.insert("bindings".into(), bindings.clone());
        }
        let hook = checked(&api, &name, &request)?;
        let document = hook.to_json();
        if document == former.to_json() {
            return Ok(Json(document));
        }
        let stale_bindings = former
            .bindings
            .iter()
            .filter(|binding| !hook.bindings.contains(binding))
            .map(|binding| (binding.exchange.clone(), binding.pattern.clone()))
            .collect();
        let new = NewHook { name: name.clone(), document: document.to_string(), stale_bindings };
        if let Saved::Changed(row) =
            api.inner.store.update_hook(new, row.version, crate::router::now_ms()).await?
        {
            saved(&api, &row, "hook-updated").await;
            return Ok(Json(document));
        }
    }
    Err(ApiError::new(Code::RequestConflict, format!("hook {name} is being changed by others; try again"))
        .of(&info))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Path(path): Path<(String, String)>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (name, _) = named("removeHook", path)?;
    if api.inner.store.delete_hook(name.clone(), crate::router::now_ms()).await?.is_some() {
        if let Err(error) = api.inner.router.hook_deleted(&name).await {
            tracing::warn!(hook = %name, %error, "the deleted hook's queue will be deleted when the broker is back");
        }
        tracing::info!(hook = %name, "hook deleted");
        api.inner.router.publish_change("hook-deleted", &name).await;
    }
    Ok((StatusCode::OK, Json(json!({}))))
}

/// Takes up what was saved: its queue and bindings have been tried once before the caller is answered.
async fn saved(api: &Api, row: &HookRow, what: &str) {
    match api.inner.router.hook_saved(row).await {
        Ok(bindings) => {
            let refused = bindings.iter().filter(|health| health.error.is_some()).count();
            tracing::info!(hook = %row.name, version = row.version, refused_bindings = refused, "{what}");
        }
        Err(error) => {
            tracing::warn!(hook = %row.name, %error, "{what}, but its queue does not stand yet; trying again")
        }
    }
    api.inner.router.publish_change(what, &row.name).await;
}

/// The name from the path, and what was asked.
pub(super) fn named(
    method: &'static str,
    path: (String, String),
) -> Result<(HookName, RequestInfo), ApiError> {
    let mut params = Map::new();
    params.insert("hookGroupId".into(), path.0.clone().into());
    params.insert("hookId".into(), path.1.clone().into());
    let info = RequestInfo { method, params, payload: Value::Null };
    match HookName::new(path.0, path.1) {
        Ok(name) => Ok((name, info)),
        Err(error) => Err(ApiError::new(Code::InvalidRequestArguments, error.to_string()).of(&info)),
    }
}

pub(super) async fn find(api: &Api, name: &HookName, info: &RequestInfo) -> Result<HookRow, ApiError> {
    match api.inner.store.hook(name.clone()).await? {
        Some(row) => Ok(row),
        None => Err(ApiError::new(Code::ResourceNotFound, format!("no hook {name}")).of(info)),
    }
}

fn parse(row: &HookRow) -> Result<Hook, ApiError> {
    registry::parse(&row.name, &row.document).map_err(|error| {
        tracing::error!(hook = %row.name, error, "the stored hook is not valid for this version of pulsehook");
        ApiError::new(Code::InternalServerError, format!("the stored hook {} is not valid: {error}", row.name))
    })
}

fn definition(row: &HookRow) -> Result<Value, ApiError> {
    parse(row).map(|hook| hook.to_json())
}

/// The hook of a request, checked as a document and compiled.
fn checked(api: &Api, name: &HookName, info: &RequestInfo) -> Result<Hook, ApiError> {
    let hook = Hook::from_json(name, &info.payload).map_err(|problems| {
        ApiError::problems(Code::InputValidationError, "the hook is not valid", &problems).of(info)
    })?;
    Rules::compile(&hook, api.inner.router.limits()).map_err(|problems| {
        ApiError::problems(Code::InputError, "the hook cannot work as it is", &problems).of(info)
    })?;
    Ok(hook)
}

/// The JSON of a request.
pub(super) fn json_body(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Value, ApiError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(Code::InputTooLarge, "the request body is too large"),
        _ => ApiError::new(Code::MalformedPayload, "the request body could not be read"),
    })?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(ApiError::new(Code::MalformedPayload, "the content-type must be application/json"));
    }
    serde_json::from_slice(&body).map_err(|error| {
        ApiError::new(Code::MalformedPayload, format!("the request body is not JSON: {error}"))
    })
}
