//! Changing a hook: text, live preview, the diff of what would change, and a save that never overwrites what somebody else saved
//! meanwhile.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::document::{self, Typed};
use super::explorer::path;
use super::hook::frame;
use super::page::{Answer, merged};
use super::preview;
use super::refusal::Refusal;
use super::visit::Visit;
use crate::api::inside::{Inside, of_hook};
use crate::api::{ApiError, Code};
use crate::hook::{Hook, HookName, Located, Problem};
use crate::store::HookRow;

/// Header with which our script asks for the preview alone.
pub(super) const PART: &str = "x-pulsehook-part";

/// A definition that was typed, checked as saving it checks it.
pub(super) struct Checked {
    pub definition: Value,
    pub hook: Hook,
}

/// Checks what was typed, as a hook by this name. The faults have their lines.
pub(super) async fn check(visit: &Visit, name: &HookName, text: &str) -> Result<Checked, Vec<Located>> {
    let typed = Typed::read(text)?;
    match typed.name() {
        Some(Ok(given)) if given != *name => {
            let message = format!("names the hook {given}; this one is {name}");
            return Err(typed.locate(&[Problem::new("hookId", message)]));
        }
        Some(Err(problem)) => return Err(typed.locate(&[problem])),
        _ => {}
    }
    match visit.ui.inner.api.check(name, &typed.definition).await {
        Ok(hook) => Ok(Checked { definition: typed.definition, hook }),
        Err(error) => Err(located(&typed, &error)),
    }
}

fn located(typed: &Typed, error: &ApiError) -> Vec<Located> {
    match error.faults() {
        [] => vec![Located { line: 1, problem: Problem::new("", error.message()) }],
        faults => typed.locate(faults),
    }
}

/// `/hooks/{group}/{hook}/edit`.
pub(super) async fn form(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("updateHook").await?;
    visit.permitted("hook", &of_hook(&row.name))?;
    let definition: Value = serde_json::from_str(&row.document).unwrap_or_default();
    let text = document::to_text(&definition);
    let mut preview = Value::Null;
    if let Some(message) = visit.asked("message").map(ToOwned::to_owned) {
        if let Ok(checked) = check(&visit, &row.name, &text).await {
            preview = preview::preview(&visit, Some(&row), &checked.hook).await?;
        }
        return page(&visit, &row, &text, json!({ "preview": preview, "chosen": message })).await;
    }
    page(&visit, &row, &text, json!({ "preview": preview })).await
}

/// What was typed, sent: tried out, looked over, or saved.
pub(super) async fn act(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("updateHook").await?;
    visit.permitted("hook", &of_hook(&row.name))?;
    let text = visit.field("document").replace("\r\n", "\n");
    let what = visit.field("do").to_owned();
    let part = what == "preview" && visit.headers.contains_key(PART);
    let checked = match check(&visit, &row.name, &text).await {
        Ok(checked) => checked,
        Err(faults) if part => {
            return Ok(Answer::Part {
                template: "preview.html",
                values: json!({ "faults": faults, "preview": null }),
            });
        }
        Err(faults) => return page(&visit, &row, &text, json!({ "faults": faults })).await,
    };
    match what.as_str() {
        "preview" => {
            let preview = preview::preview(&visit, Some(&row), &checked.hook).await?;
            let values = json!({ "preview": preview, "faults": [] });
            if part {
                return Ok(Answer::Part { template: "preview.html", values });
            }
            page(&visit, &row, &text, values).await
        }
        "review" => review(&visit, &row, &text, &checked).await,
        "save" => save(&visit, &row, &text, &checked).await,
        _ => page(&visit, &row, &text, json!({})).await,
    }
}

/// The version of the hook that was changed.
fn seen_version(visit: &Visit, row: &HookRow) -> i64 {
    visit.field("version").parse().unwrap_or(row.version)
}

async fn page(visit: &Visit, row: &HookRow, text: &str, more: Value) -> Result<Answer, Refusal> {
    let faulty = more["faults"].as_array().is_some_and(|faults| !faults.is_empty());
    let values = json!({
        "document": text,
        "version": seen_version(visit, row),
        "action": format!("{}/edit", path(&row.name)),
        "is_new": false,
        "messages": preview::of_hook(visit, row).await?,
        "faults": [],
        "preview": null,
    });
    let values = merged(merged(more, values), typed_message(visit));
    let frame = frame(visit, row, "edit").await?;
    let status = if faulty { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(Answer::Page { status, template: "edit.html", values: merged(values, frame) })
}

/// What the form says about the message to try the hook on.
pub(super) fn typed_message(visit: &Visit) -> Value {
    json!({
        "chosen": visit.field("message"),
        "pasted": visit.field("pasted"),
        "exchange": visit.field("exchange"),
        "key": visit.field("key"),
        "fired_by": visit.field("fired_by"),
    })
}

/// What would change, before it is saved.
async fn review(visit: &Visit, row: &HookRow, text: &str, checked: &Checked) -> Result<Answer, Refusal> {
    let now: Value = serde_json::from_str(&row.document).unwrap_or_default();
    let saved = document::to_text(&now);
    let seen = seen_version(visit, row);
    let mut values = json!({
        "document": text,
        "version": row.version,
        "action": format!("{}/edit", path(&row.name)),
        "diff": document::diff(&saved, &document::to_text(&checked.hook.to_json())),
    });
    if seen != row.version {
        let base = visit.ui.inner.store.hook_version(row.incarnation, seen).await?;
        let base: Value = base.and_then(|base| serde_json::from_str(&base).ok()).unwrap_or_default();
        values["conflict"] = json!({
            "seen": seen,
            "version": row.version,
            "diff": if base.is_null() { Vec::new() } else { document::diff(&document::to_text(&base), &saved) },
        });
    }
    let status = if values["conflict"].is_null() { StatusCode::OK } else { StatusCode::CONFLICT };
    let frame = frame(visit, row, "edit").await?;
    Ok(Answer::Page { status, template: "review.html", values: merged(values, frame) })
}

async fn save(visit: &Visit, row: &HookRow, text: &str, checked: &Checked) -> Result<Answer, Refusal> {
    let version = seen_version(visit, row);
    let base = path(&row.name);
    let inside = Inside {
        method: "updateHook",
        params: &of_hook(&row.name),
        body: Some(checked.definition.to_string().into()),
        expected_version: Some(version),
        ..Inside::default()
    };
    match visit.ui.inner.api.call(&visit.visitor.identity, inside).await {
        Ok(saved) => {
            let former: Value = serde_json::from_str(&row.document).unwrap_or_default();
            Ok(Answer::done(&base, if saved == former { "unchanged" } else { "saved" }))
        }
        Err(error) if error.code() == Code::RequestConflict => {
            let row = visit.hook("updateHook").await?;
            review(visit, &row, text, checked).await
        }
        Err(error) => {
            let typed = Typed::read(text);
            let faults = match &typed {
                Ok(typed) => located(typed, &error),
                Err(_) => return Err(error.into()),
            };
            page(visit, row, text, json!({ "faults": faults })).await
        }
    }
}
