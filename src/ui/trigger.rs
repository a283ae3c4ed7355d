//! The trigger form, made from the hook's triggerSchema.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::code;
use super::explorer::path;
use super::fields;
use super::hook::frame;
use super::page::{Answer, merged, segment};
use super::refusal::Refusal;
use super::visit::Visit;
use crate::api::ApiError;
use crate::api::inside::{Inside, of_hook};
use crate::hook::parse_document;
use crate::router::registry;
use crate::store::HookRow;

/// For so long the page waits for what becomes of the trigger; people wait less patiently than programs.
const WAIT: Duration = Duration::from_secs(5);

/// What went wrong, for the form.
#[derive(Default)]
struct Fault {
    message: String,
    problems: Vec<Value>,
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Self {
        let problems: Vec<Value> = error.faults().iter().map(|problem| json!(problem)).collect();
        let message = match problems.is_empty() {
            true => error.message().to_owned(),
            false => "The payload does not satisfy the hook's triggerSchema.".to_owned(),
        };
        Self { message, problems }
    }
}

/// `/hooks/{group}/{hook}/trigger`.
pub(super) async fn form(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("triggerHook").await?;
    page(&visit, &row, None).await
}

async fn page(visit: &Visit, row: &HookRow, fault: Option<Fault>) -> Result<Answer, Refusal> {
    let hook = registry::parse(&row.name, &row.document).map_err(Refusal::bad)?;
    let typed = |name: &str| visit.field(name).to_owned();
    let was_typed: Option<&dyn Fn(&str) -> String> = if fault.is_some() { Some(&typed) } else { None };
    // Without the definition's scope one may trigger and not read it.
    let fields = match visit.may("hook", &row.name) {
        true => fields::form(&hook.trigger_schema, was_typed),
        false => Value::Null,
    };
    let payload = match visit.given("payload") {
        Some(payload) => payload.to_owned(),
        None => "{}".to_owned(),
    };
    let values = json!({
        "as_json": fields.is_null() || visit.field("as") == "json" || visit.asked("as") == Some("json"),
        "has_fields": !fields.is_null(),
        "fields": fields,
        "payload": payload,
        "schema": visit.may("hook", &row.name).then(|| code::value_text(&hook.trigger_schema)),
        "paused": hook.paused == Some(true),
        "fault": fault.as_ref().map(|fault| fault.message.clone()),
        "problems": fault.as_ref().map(|fault| fault.problems.clone()),
    });
    let frame = frame(visit, row, "trigger").await?;
    let status = if fault.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(Answer::Page { status, template: "trigger.html", values: merged(values, frame) })
}

/// Triggers it.
pub(super) async fn act(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("triggerHook").await?;
    let hook = registry::parse(&row.name, &row.document).map_err(Refusal::bad)?;
    let typed = |name: &str| visit.field(name).to_owned();
    let payload = match visit.field("as") {
        "json" => parse_document(visit.field("payload")).map_err(|error| error.to_string()),
        _ => fields::payload(&hook.trigger_schema, &typed),
    };
    let payload = match payload {
        Ok(payload) => payload,
        Err(message) => {
            return page(&visit, &row, Some(Fault { message, problems: Vec::new() })).await;
        }
    };
    let seconds = WAIT.as_secs().to_string();
    let inside = Inside {
        method: "triggerHook",
        params: &of_hook(&row.name),
        query: &[("wait", &seconds)],
        body: Some(payload.to_string().into()),
        ..Inside::default()
    };
    match visit.ui.inner.api.call(&visit.visitor.identity, inside).await {
        Ok(answer) => {
            let base = path(&row.name);
            let reads = visit.may("fire", &row.name);
            Ok(match answer["taskId"].as_str() {
                Some(task) if reads => Answer::done(&format!("{base}/fires/{}", segment(task)), "triggered"),
                Some(_) => Answer::done(&base, "triggered"),
                None => Answer::done(&base, "declined"),
            })
        }
        Err(error) => page(&visit, &row, Some(error.into())).await,
    }
}
