//! Pausing a hook, its trigger token, and deleting it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::explorer::path;
use super::hook::frame;
use super::page::{Answer, merged};
use super::refusal::Refusal;
use super::visit::Visit;
use crate::api::inside::{Inside, of_hook};

const METHODS: [&str; 4] = ["updateHook", "removeHook", "getTriggerToken", "resetTriggerToken"];

/// `/hooks/{group}/{hook}/manage`.
pub(super) async fn show(visit: Visit) -> Result<Answer, Refusal> {
    page(&visit, json!({})).await
}

async fn page(visit: &Visit, more: Value) -> Result<Answer, Refusal> {
    let name = visit.name()?;
    if !METHODS.iter().any(|method| visit.may(method, &name)) {
        visit.permitted(METHODS[0], &of_hook(&name))?;
    }
    let Some(row) = visit.ui.inner.store.hook(name.clone()).await? else {
        return Err(Refusal::not_found(format!("There is no hook {name}.")));
    };
    let values = json!({
        "can": {
            "pause": visit.may("updateHook", &name),
            "delete": visit.may("removeHook", &name),
            "show_token": visit.may("getTriggerToken", &name),
            "reset_token": visit.may("resetTriggerToken", &name),
        },
        "trigger_path": format!("/api/hooks/v1{}/trigger-with-token", path(&name)),
    });
    let frame = frame(visit, &row, "manage").await?;
    let faulty = more.get("fault").is_some();
    let values = merged(more, merged(values, frame));
    let status = if faulty { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(Answer::Page { status, template: "manage.html", values })
}

/// What the forms of that page do.
pub(super) async fn act(visit: Visit) -> Result<Answer, Refusal> {
    let name = visit.name()?;
    let base = path(&name);
    let api = &visit.ui.inner.api;
    let identity = &visit.visitor.identity;
    let params = of_hook(&name);
    match visit.field("do") {
        "token" => {
            visit.permitted("getTriggerToken", &params)?;
            let inside = Inside { method: "getTriggerToken", params: &params, ..Inside::default() };
            let token = api.call(identity, inside).await?;
            page(&visit, json!({ "shown_token": token["token"] })).await
        }
        "reset-token" => {
            visit.permitted("resetTriggerToken", &params)?;
            let inside = Inside { method: "resetTriggerToken", params: &params, ..Inside::default() };
            let token = api.call(identity, inside).await?;
            page(&visit, json!({ "shown_token": token["token"], "was_reset": true })).await
        }
        "pause" | "resume" => {
            let paused = visit.field("do") == "pause";
            let row = visit.hook("updateHook").await?;
            let mut definition: Value = serde_json::from_str(&row.document).unwrap_or_default();
            if let Some(fields) = definition.as_object_mut() {
                match paused {
                    true => drop(fields.insert("paused".into(), true.into())),
                    false => drop(fields.remove("paused")),
                }
            }
            let inside = Inside {
                method: "updateHook",
                params: &params,
                body: Some(definition.to_string().into()),
                expected_version: Some(row.version),
                ..Inside::default()
            };
            api.call(identity, inside).await?;
            Ok(Answer::done(&base, if paused { "paused" } else { "resumed" }))
        }
        "delete" => {
            visit.permitted("removeHook", &params)?;
            if visit.field("name").trim() != name.to_string() {
                let fault = format!("Nothing was deleted: type the hook's full name, {name}, to delete it.");
                return page(&visit, json!({ "fault": fault })).await;
            }
            let inside = Inside { method: "removeHook", params: &params, ..Inside::default() };
            api.call(identity, inside).await?;
            Ok(Answer::done("/hooks", "deleted"))
        }
        _ => Err(Refusal::bad("There is no such action.")),
    }
}
