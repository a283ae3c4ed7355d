//! Who did what: of one hook, and of all.

use serde_json::{Value, json};

use super::hook::{frame, named};
use super::page::{Answer, merged};
use super::refusal::Refusal;
use super::visit::Visit;
use crate::store::AuditRow;

/// Entries of a page.
const PAGE: u32 = 100;

fn entry(row: &AuditRow) -> Value {
    let detail: Value =
        row.detail.as_deref().and_then(|detail| serde_json::from_str(detail).ok()).unwrap_or_default();
    let details: Vec<Value> = detail
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Array(items) => items
                    .iter()
                    .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                    .collect::<Vec<_>>()
                    .join(", "),
                other => other.to_string(),
            };
            json!([key, text])
        })
        .collect();
    json!({
        "at": row.at, "who": row.client_id, "action": row.action, "hook": named(&row.hook), "details": details,
    })
}

fn page(rows: &[AuditRow], path: &str, is_first: bool) -> Value {
    let shown = &rows[..rows.len().min(PAGE as usize)];
    let more = rows.len() > shown.len();
    json!({
        "entries": shown.iter().map(entry).collect::<Vec<_>>(),
        "next": shown.last().filter(|_| more).map(|last| format!("{path}?before={}", last.id)),
        "is_first": is_first,
    })
}

/// `/hooks/{group}/{hook}/audit`. The trail goes on over a hook that was deleted and made again.
pub(super) async fn of_hook(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("listAudit").await?;
    let before = visit.asked("before").and_then(|id| id.parse().ok());
    let rows = visit.ui.inner.store.audit(row.name.clone(), before, PAGE + 1).await?;
    let path = format!("{}/audit", super::explorer::path(&row.name));
    let values = json!({ "audit": page(&rows, &path, before.is_none()), "of_hook": true });
    let frame = frame(&visit, &row, "audit").await?;
    Ok(Answer::page("audit.html", merged(values, frame)))
}

/// `/audit`.
pub(super) async fn of_all(visit: Visit) -> Result<Answer, Refusal> {
    visit.need("hooks:audit:*")?;
    let before = visit.asked("before").and_then(|id| id.parse().ok());
    let rows = visit.ui.inner.store.audit_of_all(before, PAGE + 1).await?;
    let values = json!({ "audit": page(&rows, "/audit", before.is_none()), "of_hook": false });
    Ok(Answer::page("audit.html", values))
}
