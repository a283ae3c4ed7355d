//! The audit trail: who did what to which hook.

use serde_json::{Value, json};

use super::endpoint::Call;
use super::record::time;
use super::{Api, ApiError};
use crate::hook::HookName;
use crate::store::AuditRow;

/// Entries of a page, by default and at most.
const PAGE: u32 = 1_000;

const DAY: i64 = 24 * 3600 * 1000;

impl Api {
    /// From before this moment nothing is kept.
    pub(super) fn audit_horizon(&self) -> i64 {
        crate::router::now_ms() - i64::from(self.inner.audit_kept_days) * DAY
    }
}

impl Call {
    /// The entry for something that this caller does to a hook.
    pub(super) fn entry(&self, hook: &HookName, action: &str, detail: Value) -> AuditRow {
        AuditRow {
            id: 0,
            at: crate::router::now_ms(),
            client_id: self.identity.as_ref().map(|identity| identity.client_id.clone()),
            action: action.to_owned(),
            hook: hook.clone(),
            detail: (!detail.is_null()).then(|| detail.to_string()),
        }
    }

    /// Notes something that was done.
    pub(super) async fn note(&self, hook: &HookName, action: &str, detail: Value) -> Result<(), ApiError> {
        let (entry, horizon) = (self.entry(hook, action, detail), self.api.audit_horizon());
        tracing::info!(%hook, client_id = self.client_id(), action, "done by API");
        self.api.inner.store.write(move |w| w.audit(&entry, horizon)).await.map_err(Into::into)
    }
}

pub(super) async fn list(call: Call) -> Result<Value, ApiError> {
    let (name, limit) = (call.name()?, call.limit(PAGE));
    let found = call.api.inner.store.audit(name, call.before(), limit + 1).await?;
    Ok(Call::page("audit", &found, limit, entry, |row| row.id))
}

fn entry(row: &AuditRow) -> Value {
    let mut shown = json!({
        "time": time(row.at),
        "clientId": row.client_id,
        "action": row.action,
        "hookGroupId": row.hook.group,
        "hookId": row.hook.id,
    });
    if let Some(detail) = row.detail.as_deref().and_then(|detail| serde_json::from_str::<Value>(detail).ok())
    {
        shown["detail"] = detail;
    }
    shown
}
