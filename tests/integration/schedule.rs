//! Schedules through the front door: real processes on a real broker, the clock of the bridge, the API and the command line.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use harness::{Http, Process, eventually};
use pulse::amqp::{Amqp, AmqpConfig};
use pulse::{Status, Transport as _};
use pulsehook::router::decide::FiredBy;
use pulsehook::router::trigger::{Trigger, TriggerKey};
use serde_json::{Value, json};

use super::system::{BINARY, SOON, System, hook, shared_rabbit};

/// A tick comes each minute.
const NEXT_TICK: Duration = Duration::from_secs(150);

/// A hook that is due every five seconds, and shows for when.
fn every_five_seconds() -> Value {
    let mut hook = hook(&[]);
    hook["schedule"] = json!(["*/5 * * * * *", "*/10 * * * * *"]);
    hook["task"]["payload"] =
        json!({ "scheduledFor": "{{ scheduledFor }}", "firedBy": "{{ firedBy }}", "now": "{{ now }}" });
    hook
}

fn moments(tasks: &[Value]) -> Vec<DateTime<Utc>> {
    let mut moments: Vec<DateTime<Utc>> = tasks
        .iter()
        .filter_map(|task| task["task"]["payload"]["scheduledFor"].as_str()?.parse().ok())
        .collect();
    moments.sort();
    moments
}

/// None is left out. To be waited for: tasks of one tick are created side by side, so that a later moment may be there first.
fn without_a_gap(moments: &[DateTime<Utc>]) -> bool {
    moments.windows(2).all(|pair| pair[1] - pair[0] <= TimeDelta::seconds(5))
}

/// Each moment once, and none left out.
fn assert_complete(moments: &[DateTime<Utc>]) {
    for pair in moments.windows(2) {
        assert_eq!(pair[1] - pair[0], TimeDelta::seconds(5), "{moments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scheduled_moment_becomes_one_task_while_router_and_bridge_are_killed() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("schedule").await.unwrap();
    let system = System::start(&rabbit.url("schedule")).await;
    system.create_hook("time/five", &every_five_seconds()).await;
    system.create_hook("time/tick", &hook(&[("exchange/pulsehook/v1/clock", "time.#")])).await;

    let scheduled = async |count: usize| {
        eventually(NEXT_TICK, || async {
            let tasks = system.tasks().await;
            let moments = moments(&tasks);
            (moments.len() >= count && without_a_gap(&moments)).then_some((tasks, moments))
        })
        .await
    };
    let (_, first) = scheduled(3).await;
    system.router.lock().await.kill9().unwrap();
    system.bridge.lock().await.kill9().unwrap();
    system.router.lock().await.start().await.unwrap();
    system.bridge.lock().await.start().await.unwrap();
    let (tasks, both) = scheduled(first.len() + 8).await;
    assert_complete(&both);
    let five: Vec<&Value> =
        tasks.iter().filter(|task| task["task"]["payload"]["firedBy"] == "schedule").collect();
    assert_eq!(five.len(), both.len());

    // The clock itself: no minute twice, though two bridges ticked in it.
    let minutes: Vec<&Value> = tasks
        .iter()
        .map(|task| &task["task"]["payload"]["seen"]["time"])
        .filter(|time| time.is_string())
        .collect();
    assert!(!minutes.is_empty());
    assert_eq!(minutes.iter().map(|time| time.to_string()).collect::<BTreeSet<_>>().len(), minutes.len());

    // Shown where people look.
    let url = format!("{}/hooks/time/five", system.api_url);
    let upcoming = system.http.get(&format!("{url}/schedule?count=3")).await.unwrap().json();
    assert_eq!(upcoming["next"].as_array().unwrap().len(), 3);
    assert_eq!(upcoming["catchUp"], "latest");
    assert!(upcoming["last"].is_string(), "{upcoming}");
    let status = system.http.get(&format!("{url}/status")).await.unwrap().json();
    assert!(status["nextScheduledDate"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap() > both[0]);
    let refused = system.http.get(&format!("{url}/schedule?count=0")).await.unwrap();
    assert_eq!(refused.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_has_a_clock_and_refuses_what_is_no_schedule() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::new("dev", BINARY)
        .arg("dev")
        .arg("--listen")
        .arg("127.0.0.1:0")
        .arg("--data")
        .arg(folder.path().display().to_string());
    let address = process.start().await.unwrap();
    let (http, url) = (Http::default(), format!("http://{address}/api/hooks/v1/hooks/time/five"));
    let mut wrong = every_five_seconds();
    wrong["schedule"] = json!(["0 0 * * *", "0 0 32 * *"]);
    let refused = http.json("PUT", &url, &wrong).await.unwrap();
    assert_eq!(refused.status, 400);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("schedule[1]: the day-of-month field"), "{message}");

    assert_eq!(http.json("PUT", &url, &every_five_seconds()).await.unwrap().status, 200);
    let seen = eventually(NEXT_TICK, || async {
        let listed = http.get(&format!("http://{address}/api/queue/v1/tasks")).await.ok()?.json();
        let moments = moments(listed["tasks"].as_array()?);
        (moments.len() >= 3 && without_a_gap(&moments)).then_some(moments)
    })
    .await;
    assert_complete(&seen);

    let shown = Command::new(BINARY)
        .args(["hook", "schedule", "time/five", "--count", "2", "--root-url", &format!("http://{address}")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(shown.stdout).unwrap().lines().count(), 2);
    process.stop().await.unwrap();
}

#[test]
fn the_command_line_shows_the_times_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hook.yml");
    let show = |schedule: &str| {
        let mut hook = hook(&[]);
        hook["schedule"] = json!([schedule]);
        std::fs::write(&file, hook.to_string()).unwrap();
        let shown = Command::new(BINARY)
            .args(["hook", "schedule", &file.display().to_string()])
            .args(["--count", "3", "--from", "2026-11-22T10:05:00Z"])
            .output()
            .unwrap();
        (
            shown.status.success(),
            String::from_utf8(shown.stdout).unwrap(),
            String::from_utf8(shown.stderr).unwrap(),
        )
    };
    let (done, out, _) = show("0 4 * * MON");
    assert!(done);
    assert_eq!(out, "2026-11-23T04:00:00Z\n2026-11-30T04:00:00Z\n2026-12-07T04:00:00Z\n");
    let (done, out, err) = show("0 4 * *");
    assert!(!done && out.is_empty());
    assert!(err.contains("schedule[0]: has 4 fields"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bridge_schedules_wait_and_are_made_good() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("schedule-away").await.unwrap();
    let system = System::start(&rabbit.url("schedule-away")).await;
    system.create_hook("time/five", &every_five_seconds()).await;
    let count = async || moments(&system.tasks().await).len();
    eventually(NEXT_TICK, || async { (count().await >= 1).then_some(()) }).await;
    // No tick without a bridge: what is due waits in the store.
    system.bridge.lock().await.kill9().unwrap();
    let url = format!("{}/hooks/time/five/schedule", system.api_url);
    eventually(NEXT_TICK, || async {
        let upcoming = system.http.get(&url).await.ok()?.json();
        let since: DateTime<Utc> = upcoming["overdueSince"].as_str()?.parse().ok()?;
        (Utc::now() - since > TimeDelta::seconds(8)).then_some(())
    })
    .await;
    let before = count().await;
    system.bridge.lock().await.start().await.unwrap();
    let made_good = eventually(SOON, || async {
        let moments = moments(&system.tasks().await);
        (moments.len() > before + 1 && without_a_gap(&moments)).then_some(moments)
    })
    .await;
    assert_complete(&made_good);
}

/// Triggers that lay in the hooks' queues for long, as after an outage: made here with the deployment's own key.
#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_waited_are_judged_again_by_catch_up() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("schedule-waited").await.unwrap();
    let url = rabbit.url("schedule-waited");
    let system = System::start(&url).await;
    const POLICIES: [&str; 3] = ["latest", "all", "none"];
    for policy in POLICIES {
        let mut hook = every_five_seconds();
        hook["catchUp"] = policy.into();
        system.create_hook(&format!("time/{policy}"), &hook).await;
    }
    let get = async |hook: &str, what: &str| {
        system.http.get(&format!("{}/hooks/time/{hook}/{what}", system.api_url)).await.unwrap().json()
    };
    for policy in POLICIES {
        eventually(NEXT_TICK, || async { get(policy, "schedule").await["last"].as_str().map(drop) }).await;
    }

    let config = AmqpConfig { url: &url, ca_file: None, name: "test", publish_timeout: SOON };
    let transport = Amqp::connect(config).unwrap();
    let mut status = transport.status();
    tokio::time::timeout(SOON, status.wait_for(|status| *status == Status::Up)).await.unwrap().unwrap();
    let key = TriggerKey::new(b"0123456789abcdef0123456789abcdef");
    let five = DateTime::from_timestamp(Utc::now().timestamp() / 5 * 5, 0).unwrap();
    // Every five seconds: in the first time fewer than the cap of 100 have come since, in the second more.
    let waited = [five - TimeDelta::minutes(5), five - TimeDelta::minutes(20)];
    for (policy, moment) in POLICIES.iter().flat_map(|policy| waited.map(|moment| (policy, moment))) {
        let name = format!("time/{policy}").parse().unwrap();
        let trigger = Trigger {
            fired_by: FiredBy::Schedule,
            client_id: None,
            scheduled_for: Some(moment),
            task_id: None,
        };
        let message =
            key.message("pulsehook", &name, format!("waited-{moment}"), &trigger, b"{}".as_slice().into());
        assert!(transport.publish(&message, true).await.unwrap().routed);
    }

    for (policy, wanted) in POLICIES.iter().zip([2, 1, 2]) {
        eventually(SOON, || async {
            let decisions = get(policy, "decisions").await;
            let stale = decisions["decisions"]
                .as_array()?
                .iter()
                .filter(|decision| decision["outcome"] == "stale-schedule")
                .inspect(|decision| {
                    assert!(decision["reason"].as_str().unwrap().contains("catchUp"), "{decision}")
                });
            (stale.count() == wanted).then_some(())
        })
        .await;
    }
    eventually(SOON, || async { moments(&system.tasks().await).contains(&waited[0]).then_some(()) }).await;
    let fired = moments(&system.tasks().await);
    assert_eq!(fired.iter().filter(|moment| **moment < five - TimeDelta::minutes(4)).count(), 1, "{fired:?}");
    transport.close().await;
}
