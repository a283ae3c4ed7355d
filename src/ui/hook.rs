//! A hook's own page: what it is, what it listens to and how that is, when it is due, what it did last. And the frame that
//! all pages about one hook share.

use serde_json::{Value, json};

use super::explorer::{self, path};
use super::page::{Answer, merged};
use super::refusal::Refusal;
use super::visit::Visit;
use super::{code, document, timeline};
use crate::hook::{CatchUp, HookName};
use crate::router::registry;
use crate::store::HookRow;

/// Next moments that are shown.
const UPCOMING: usize = 10;

/// Entries of the time line on the hook's own page.
const RECENT: usize = 15;

/// The tabs: the end of the address, the word, and the method of the API that one must be allowed.
const TABS: [(&str, &str, &str); 8] = [
    ("", "Hook", "hook"),
    ("history", "History", "listLastFires"),
    ("live", "Live", "listLastFires"),
    ("definition", "Definition", "hook"),
    ("edit", "Edit", "updateHook"),
    ("trigger", "Trigger", "triggerHook"),
    ("manage", "Manage", ""),
    ("audit", "Audit", "listAudit"),
];

/// What all pages about a hook share: the explorer, the head, the tabs.
pub(super) async fn frame(visit: &Visit, row: &HookRow, tab: &str) -> Result<Value, Refusal> {
    let inner = &visit.ui.inner;
    let name = &row.name;
    let definition: Value = serde_json::from_str(&row.document).unwrap_or_default();
    let mut mark = None;
    if visit.may("listLastFires", name) || visit.may("getHookStatus", name) {
        let last = inner.store.last_outcomes(vec![row.incarnation]).await?;
        let found = explorer::mark(inner.router.glance(name).as_ref(), last.first());
        mark = Some(json!({ "tone": found.tone, "state": found.text }));
    }
    let base = path(name);
    let may_manage = ["updateHook", "removeHook", "getTriggerToken", "resetTriggerToken"];
    let offered = |method: &str| match method {
        "" => may_manage.iter().any(|method| visit.may(method, name)),
        method => visit.may(method, name),
    };
    let tabs: Vec<Value> = TABS
        .iter()
        .filter(|(_, _, method)| offered(method))
        .map(|(end, word, _)| {
            let href = if end.is_empty() { base.clone() } else { format!("{base}/{end}") };
            json!({ "href": href, "word": word, "current": *end == tab })
        })
        .collect();
    Ok(json!({
        "explorer": explorer::explorer(visit, Some(name)).await?,
        "hook": {
            "group": name.group,
            "id": name.id,
            "name": name.to_string(),
            "base": base,
            "version": row.version,
            "updated_at": row.updated_at,
            "metadata": if visit.may("hook", name) { definition["metadata"].clone() } else { json!({}) },
            "paused": definition["paused"] == true,
            "mark": mark,
        },
        "offers": {
            "get": visit.may("hook", name),
            "read": visit.may("listLastFires", name),
            "trigger": visit.may("triggerHook", name),
            "modify": visit.may("updateHook", name),
            "status": visit.may("getHookStatus", name),
        },
        "tabs": tabs,
    }))
}

/// `/hooks` and `/hooks/{group}`.
pub(super) async fn list(visit: Visit) -> Result<Answer, Refusal> {
    let of_group = visit.params.get("group").cloned();
    let group = of_group.clone().unwrap_or_default();
    let nothing = visit.permitted("listHookGroups", &[]).is_err();
    let params = [("hookGroupId", group.as_str())];
    let any =
        visit.visitor.identity.scopes.as_slice().iter().any(|scope| scope.starts_with("hooks:list-hooks:"));
    match of_group {
        Some(_) => visit.permitted("listHooks", &params)?,
        None if nothing && !any => visit.permitted("listHookGroups", &[])?,
        None => {}
    }
    let values = json!({ "explorer": explorer::explorer(&visit, None).await? });
    if of_group_is_empty(&values, &group) {
        return Err(Refusal::not_found(format!("There is no hook group {group}.")));
    }
    Ok(Answer::page("hooks.html", values))
}

fn of_group_is_empty(values: &Value, group: &str) -> bool {
    !group.is_empty() && values["explorer"]["total"] == 0 && values["explorer"]["query"] == ""
}

/// `/hooks/{group}/{hook}`.
pub(super) async fn show(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("hook").await?;
    let name = &row.name;
    let inner = &visit.ui.inner;
    let parsed = registry::parse(name, &row.document);
    let invalid = parsed.as_ref().err().cloned();
    let definition: Value = serde_json::from_str(&row.document).unwrap_or_default();
    let reads = visit.may("listLastFires", name);
    let glance = inner.router.glance(name).filter(|_| reads);
    let health = inner.router.health(name);
    let bindings: Vec<Value> = definition["bindings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|binding| {
            let of_binding = health.bindings.iter().find(|health| {
                binding["exchange"] == health.binding.exchange.as_str()
                    && binding["routingKeyPattern"] == health.binding.pattern.as_str()
            });
            let state = of_binding.filter(|_| reads).map(|health| match &health.error {
                None => json!({ "tone": "good", "text": "bound" }),
                Some(error) => json!({ "tone": "warn", "text": "refused", "reason": error }),
            });
            json!({ "exchange": binding["exchange"], "pattern": binding["routingKeyPattern"], "state": state })
        })
        .collect();
    let mut values = json!({
        "bindings": bindings,
        "schedule": schedule(&visit, &row, &definition).await?,
        "filter": definition["filter"],
        "invalid": invalid,
        "recent": Value::Null,
        "engine": parsed.ok().and_then(|hook| hook.template_engine),
    });
    if let Some(glance) = glance {
        values["trouble"] = json!({
            "queue": glance.queue_error,
            "held_seconds": glance.held_for.map(|held| held.as_secs()),
            "pending": glance.pending,
        });
    }
    if reads {
        values["recent"] = timeline::entries(&visit, &row, RECENT, timeline::Cursor::default()).await?;
    }
    let frame = frame(&visit, &row, "").await?;
    Ok(Answer::page("hook.html", merged(values, frame)))
}

async fn schedule(visit: &Visit, row: &HookRow, definition: &Value) -> Result<Value, Refusal> {
    let expressions = definition["schedule"].as_array().cloned().unwrap_or_default();
    if expressions.is_empty() || !visit.may("hookSchedule", &row.name) {
        return Ok(json!({ "expressions": expressions, "next": [] }));
    }
    let upcoming = visit.ui.inner.router.upcoming(row, UPCOMING).await?;
    let catch_up = match upcoming.catch_up {
        CatchUp::Latest => "fires once, for the newest missed time",
        CatchUp::All => "fires for each missed time",
        CatchUp::None => "skips missed times",
    };
    Ok(json!({
        "expressions": expressions,
        "next": upcoming.next.iter().map(|moment| moment.timestamp_millis()).collect::<Vec<_>>(),
        "last": upcoming.last.map(|moment| moment.timestamp_millis()),
        "overdue": upcoming.overdue.map(|moment| moment.timestamp_millis()),
        "catch_up": catch_up,
        "no_ticks": visit.ui.inner.router.last_tick().is_none(),
    }))
}

/// `/hooks/{group}/{hook}/definition`, as a page, or as a file with `?as=yaml` or `?as=json`.
pub(super) async fn definition(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("hook").await?;
    let definition: Value = serde_json::from_str(&row.document).unwrap_or_default();
    let file = |ending: &str| format!("{}-{}.{ending}", row.name.group, row.name.id);
    match visit.asked("as") {
        Some("yaml") => {
            return Ok(Answer::download(
                &file("yml"),
                "application/yaml; charset=utf-8",
                document::to_file(&definition),
            ));
        }
        Some("json") => {
            return Ok(Answer::download(&file("json"), "application/json", format!("{definition:#}\n")));
        }
        _ => {}
    }
    let values = json!({ "document": code::shown(&document::to_file(&definition), "yaml") });
    let frame = frame(&visit, &row, "definition").await?;
    Ok(Answer::page("definition.html", merged(values, frame)))
}

/// The name of a hook as a value for pages.
pub(super) fn named(name: &HookName) -> Value {
    json!({ "name": name.to_string(), "group": name.group, "id": name.id, "href": path(name) })
}
