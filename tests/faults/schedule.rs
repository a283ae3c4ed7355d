//! The scheduler dies between its triggers and its note of them: each moment is one task all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
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
    let crashed = Utc::now();
    let moments = eventually(SOON, async || {
        let mut moments: BTreeMap<DateTime<Utc>, usize> = BTreeMap::new();
        for task in all.tasks().await.ok()? {
            let moment = task["task"]["payload"]["scheduledFor"].as_str()?.parse().ok()?;
            *moments.entry(moment).or_default() += 1;
        }
        let of_the_crash = moments.first_key_value().is_some_and(|(first, _)| *first < crashed);
        let after_it = moments.last_key_value().is_some_and(|(last, _)| *last > crashed);
        // Tasks of one tick are created side by side, so that a later moment may be there first.
        (of_the_crash && after_it && without_a_gap(&moments)).then_some(moments)
    })
    .await;
    assert!(moments.values().all(|tasks| *tasks == 1), "{moments:?}");
}

fn without_a_gap(moments: &BTreeMap<DateTime<Utc>, usize>) -> bool {
    moments.keys().zip(moments.keys().skip(1)).all(|(moment, next)| (*next - *moment).num_seconds() == 2)
}
