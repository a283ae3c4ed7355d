//! From dead fires and refused bindings to notices.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::failure::{Example, Kind};
use super::{Notifier, ms};
use crate::hook::HookName;
use crate::router::{RefusedBinding, Router, now_ms};
use crate::store::{Failure, NewNotice, Store, StoreError};

/// How often new failures are looked for: a question that an index answers, so often that nobody waits for the mail.
const LOOK: Duration = Duration::from_secs(2);

/// How often bindings are looked at. Those that are refused for a moment only, as at a start, are nobody's business.
const LOOK_AT_BINDINGS: u32 = 5;

/// Failures that are read and noted at a time.
const AT_ONCE: u32 = 500;

/// Looks for failures until dropped.
pub(super) async fn run(notifier: Arc<Notifier>, store: Store, router: Router) {
    let mut noted = None;
    let mut round = 0_u32;
    let mut refused_before = Vec::new();
    loop {
        match dead_fires(&notifier, &store, &mut noted).await {
            // There may be more.
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "cannot note which hooks failed; trying again"),
        }
        round = round.wrapping_add(1);
        if round.is_multiple_of(LOOK_AT_BINDINGS) {
            let refused = router.refused_bindings();
            let lasting: Vec<_> =
                refused.iter().filter(|binding| refused_before.contains(*binding)).cloned().collect();
            if let Err(error) = bindings(&notifier, &store, lasting).await {
                tracing::error!(%error, "cannot note which bindings are refused; trying again");
            }
            refused_before = refused;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Notes the next dead fires. Answers true if there may be more.
async fn dead_fires(notifier: &Notifier, store: &Store, noted: &mut Option<i64>) -> Result<bool, StoreError> {
    let after = match *noted {
        Some(seq) => seq,
        None => store.noted_watermark().await?,
    };
    *noted = Some(after);
    let failures = store.failures(after, AT_ONCE).await?;
    let Some(last) = failures.last().map(|failure| failure.ended_seq) else { return Ok(false) };
    let more = failures.len() == AT_ONCE as usize;
    let oldest = now_ms() - ms(Duration::from_secs(notifier.config.max_age_seconds));
    let mut notices: HashMap<(String, HookName, &'static str), NewNotice> = HashMap::new();
    for failure in failures {
        let Some(owner) = failure.owner.clone() else { continue };
        if failure.at < oldest || !notifier.may_write_to(&owner) {
            continue;
        }
        let error: Value =
            failure.error.as_deref().and_then(|error| serde_json::from_str(error).ok()).unwrap_or_default();
        let kind = Kind::of(&error).as_str();
        let key = (owner.clone(), failure.hook.clone(), kind);
        match notices.get_mut(&key) {
            Some(notice) => {
                notice.failures += 1;
                notice.last_at = failure.at;
            }
            None => {
                let example = example(store, &failure, &error).await?;
                let notice = NewNotice {
                    address: owner,
                    hook: failure.hook,
                    kind,
                    failures: 1,
                    first_at: failure.at,
                    last_at: failure.at,
                    example: serde_json::to_string(&example).unwrap_or_default(),
                };
                notices.insert(key, notice);
            }
        }
    }
    notifier.note(store, notices.into_values().collect(), Some(last)).await?;
    *noted = Some(last);
    Ok(more)
}

async fn example(store: &Store, failure: &Failure, error: &Value) -> Result<Example, StoreError> {
    let message = store.message(failure.fire).await?;
    let body = message.as_ref().map(|stored| &stored.message.body);
    Ok(Example {
        message: error["message"].as_str().unwrap_or("no reason is on record").to_owned(),
        code: error["code"].as_str().unwrap_or_default().to_owned(),
        task_id: Some(failure.task_id.clone()),
        fired_by: Some(failure.fired_by.clone()),
        exchange: failure.exchange.clone(),
        routing_key: failure.routing_key.clone(),
        message_id: failure.message_id.clone(),
        digest: body.map(|body| hex::encode(Sha256::digest(body))),
        size: body.map(|body| body.len()),
    })
}

/// Notes bindings that are refused and were not before.
async fn bindings(
    notifier: &Notifier,
    store: &Store,
    refused: Vec<RefusedBinding>,
) -> Result<(), StoreError> {
    let rows = refused.iter().map(|binding| binding.row.clone()).collect();
    let news = store.refused_bindings(rows).await?;
    let now = now_ms();
    let notices = refused
        .into_iter()
        .filter(|binding| news.contains(&binding.row))
        .filter_map(|binding| {
            let owner = binding.owner.filter(|owner| notifier.may_write_to(owner))?;
            let example = Example {
                message: binding.error,
                code: "binding-refused".to_owned(),
                exchange: binding.row.exchange,
                routing_key: binding.row.pattern,
                ..Example::default()
            };
            Some(NewNotice {
                address: owner,
                hook: binding.hook,
                kind: Kind::BindingRefused.as_str(),
                failures: 1,
                first_at: now,
                last_at: now,
                example: serde_json::to_string(&example).unwrap_or_default(),
            })
        })
        .collect();
    notifier.note(store, notices, None).await
}

impl Notifier {
    fn may_write_to(&self, address: &str) -> bool {
        let denied = self.deny.denies(address);
        if denied {
            metrics::counter!("pulsehook_mail_total", "outcome" => "denied").increment(1);
        }
        !denied
    }

    /// Notes failures by address. Case makes no other address: whoever owns `Ann@x.org` reads what comes to `ann@x.org`.
    pub(super) async fn note(
        &self,
        store: &Store,
        mut notices: Vec<NewNotice>,
        noted: Option<i64>,
    ) -> Result<(), StoreError> {
        if notices.is_empty() && noted.is_none() {
            return Ok(());
        }
        for notice in &mut notices {
            notice.address = notice.address.to_lowercase();
            metrics::counter!("pulsehook_notices_total", "kind" => notice.kind)
                .increment(u64::from(notice.failures));
        }
        let left_out = store.note(notices, noted, self.config.max_notices).await?;
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "more failures wait to be told than notify.max_notices; owners will not be told of these"
            );
        }
        Ok(())
    }
}
