//! The scheduler dies between its triggers and its note of them: each moment is one task all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::eventually;
use serde_json::json;

use super::deployment::Deployment;
use super::system::{SOON, hook, shared_rabbit};

/// A tick, which comes each minute, begins it.
const NEXT_TICK: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread")]
async fn triggers_are_out_and_the_next_time_is_not_moved_on() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("scheduler").await.unwrap();
    let mut all = Deployment::start(&rabbit, "scheduler", &[]).await.unwrap();
    let mut definition = hook(&[]);
    definition["schedule"] = json!(["*/2 * * * * *"]);
    definition["catchUp"] = json!("all");
    definition["task"]["payload"] = json!({ "scheduledFor": "{{ scheduledFor }}" });
    all.create_hook("time/two", &definition).await;
    all.router.stop().await.unwrap();
    all.router.set_env(pulse::crash::VARIABLE, Some("scheduler.published"));
    all.router.start().await.unwrap();
    all.router.ended(NEXT_TICK).await.unwrap();
    all.router.set_env(pulse::crash::VARIABLE, None);
    all.router.start().await.unwrap();
    let crashed = chrono::Utc::now();
    let moments = eventually(SOON, async || {
        let mut moments: BTreeMap<chrono::DateTime<chrono::Utc>, usize> = BTreeMap::new();
        for task in all.tasks().await.ok()? {
            let moment = task["task"]["payload"]["scheduledFor"].as_str()?.parse().ok()?;
            *moments.entry(moment).or_default() += 1;
        }
        (*moments.keys().next_back()? > crashed).then_some(moments)
    })
    .await;
    assert!(moments.values().all(|tasks| *tasks == 1), "{moments:?}");
    let moments: Vec<_> = moments.into_keys().collect();
    assert!(moments.len() > 1 && moments[0] < crashed, "{moments:?}");
    assert!(moments.windows(2).all(|pair| (pair[1] - pair[0]).num_seconds() == 2), "{moments:?}");
}
