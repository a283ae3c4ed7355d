//! Hooks: list, show, create, update, delete.

use pulse::Binding;
use serde_json::{Value, json};

use super::endpoint::Call;
use super::{Api, ApiError, Code, rules};
use crate::hook::HookName;
use crate::router::registry;
use crate::store::{HookRow, NewHook, Saved};

type Answer = Result<Value, ApiError>;

/// How often an update starts over because another one came between.
const UPDATE_ATTEMPTS: usize = 8;

pub(super) async fn list_groups(call: Call) -> Answer {
    Ok(json!({ "groups": call.api.inner.store.hook_groups().await? }))
}

pub(super) async fn list(call: Call) -> Answer {
    let group = call.param("hookGroupId");
    let rows = call.api.inner.store.hooks(Some(group.clone())).await?;
    if rows.is_empty() {
        return Err(ApiError::new(Code::ResourceNotFound, format!("no hook group {group}")));
    }
    let hooks: Vec<Value> = rows.iter().map(definition).collect::<Result<_, _>>()?;
    Ok(json!({ "hooks": hooks }))
}

pub(super) async fn show(call: Call) -> Answer {
    definition(&find(&call.api, &call.name()?).await?)
}

pub(super) async fn create(call: Call) -> Answer {
    let name = call.name()?;
    let hook = rules::checked(&call.api, &name, &call.body).await?;
    let document = hook.to_json();
    let new = NewHook { name: name.clone(), document: document.to_string(), stale_bindings: Vec::new() };
    let (entry, horizon) = (call.entry(&name, "create-hook", Value::Null), call.api.audit_horizon());
    let created = call.api.inner.store.write(move |w| {
        let created = w.create_hook(&new, entry.at)?;
        if matches!(created, Saved::Changed(_)) {
            w.audit(&entry, horizon)?;
        }
        Ok(created)
    });
    match created.await? {
        Saved::Changed(row) => {
            saved(&call, &row, "hook-created").await;
            Ok(document)
        }
        Saved::Conflict(Some(row)) if definition(&row)? == document => Ok(document),
        Saved::Conflict(_) => Err(ApiError::new(
            Code::RequestConflict,
            format!("hook {name} exists already with another definition; update it instead"),
        )),
    }
}

pub(super) async fn update(call: Call) -> Answer {
    let name = call.name()?;
    for _ in 0..UPDATE_ATTEMPTS {
        let row = find(&call.api, &name).await?;
        if call.expected_version.is_some_and(|seen| seen != row.version) {
            let message = format!("hook {name} was changed meanwhile: it has version {} now", row.version);
            return Err(ApiError::new(Code::RequestConflict, message));
        }
        let former = definition(&row)?;
        let mut request = call.body.clone();
        // Absent bindings keep the old ones.
        if let (Some(fields), false) = (request.as_object_mut(), call.body.get("bindings").is_some())
            && let Some(bindings) = former.get("bindings")
        {
            fields.insert("bindings".into(), bindings.clone());
        }
        let hook = rules::checked(&call.api, &name, &request).await?;
        let document = hook.to_json();
        if document == former {
            return Ok(document);
        }
        let stale_bindings = bindings(&former)
            .filter(|binding| !hook.bindings.contains(binding))
            .map(|binding| (binding.exchange, binding.pattern))
            .collect();
        let new = NewHook { name: name.clone(), document: document.to_string(), stale_bindings };
        let detail = json!({ "version": row.version + 1, "changed": changed(&former, &document) });
        let (entry, horizon) = (call.entry(&name, "update-hook", detail), call.api.audit_horizon());
        let updated = call.api.inner.store.write(move |w| {
            let updated = w.update_hook(&new, row.version, entry.at)?;
            if matches!(updated, Saved::Changed(_)) {
                w.audit(&entry, horizon)?;
            }
            Ok(updated)
        });
        if let Saved::Changed(row) = updated.await? {
            saved(&call, &row, "hook-updated").await;
            return Ok(document);
        }
    }
    Err(ApiError::new(Code::RequestConflict, format!("hook {name} is being changed by others; try again")))
}

/// The fields that differ.
fn changed(former: &Value, new: &Value) -> Vec<String> {
    let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    let (mut all, more): (Vec<String>, Vec<String>) = (keys(former), keys(new));
    all.extend(more);
    all.sort();
    all.dedup();
    all.retain(|key| former.get(key) != new.get(key));
    all
}

pub(super) async fn remove(call: Call) -> Answer {
    let (name, api) = (call.name()?, &call.api);
    let (entry, horizon) = (call.entry(&name, "delete-hook", Value::Null), api.audit_horizon());
    let deleted = api.inner.store.write(move |w| {
        let deleted = w.delete_hook(&entry.hook, entry.at)?;
        if deleted.is_some() {
            w.audit(&entry, horizon)?;
        }
        Ok(deleted)
    });
    if let Some(row) = deleted.await? {
        if let Err(error) = api.inner.router.hook_deleted(&row).await {
            tracing::warn!(hook = %name, %error, "the deleted hook's queue will be deleted when the broker is back");
        }
        tracing::info!(hook = %name, client_id = call.client_id(), "hook deleted");
        api.inner.router.publish_change("hook-deleted", &name).await;
    }
    Ok(json!({}))
}

/// Takes up what was saved: its queue and bindings have been tried once before the caller is answered.
async fn saved(call: &Call, row: &HookRow, what: &str) {
    let router = &call.api.inner.router;
    match router.hook_saved(row).await {
        Ok(bindings) => {
            let refused = bindings.iter().filter(|health| health.error.is_some()).count();
            tracing::info!(hook = %row.name, client_id = call.client_id(), version = row.version, refused_bindings = refused, "{what}");
        }
        Err(error) => {
            tracing::warn!(hook = %row.name, %error, "{what}, but its queue does not stand yet; trying again")
        }
    }
    router.publish_change(what, &row.name).await;
}

/// The hook by that name.
pub(super) async fn find(api: &Api, name: &HookName) -> Result<HookRow, ApiError> {
    match api.inner.store.hook(name.clone()).await? {
        Some(row) => Ok(row),
        None => Err(ApiError::new(Code::ResourceNotFound, format!("no hook {name}"))),
    }
}

/// The hook's definition. One that an earlier version took and this one would not is shown as it is stored, so that its owner
/// can see and correct it.
fn definition(row: &HookRow) -> Result<Value, ApiError> {
    let error = match registry::parse(&row.name, &row.document) {
        Ok(hook) => return Ok(hook.to_json()),
        Err(error) => error,
    };
    tracing::warn!(hook = %row.name, error, "the stored hook is not valid for this version of pulsehook");
    serde_json::from_str(&row.document).map_err(|_| {
        ApiError::new(
            Code::InternalServerError,
            format!("the stored hook {} is not valid: {error}", row.name),
        )
    })
}

/// The bindings of a definition, whatever else is in it.
fn bindings(definition: &Value) -> impl Iterator<Item = Binding> {
    let entries = definition.get("bindings").and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(|entry| {
        let text = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
        Some(Binding { exchange: text("exchange")?, pattern: text("routingKeyPattern")? })
    })
}
