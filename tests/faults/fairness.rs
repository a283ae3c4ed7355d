//! A hook with a backlog holds up nobody: the time from a quiet hook's message to its task, beside a long backlog of another.

use std::time::{Duration, Instant};

use serde_json::json;

use super::deployment::{Deployment, FOREIGN};
use super::events::FireEvents;
use super::lane::is_long;
use super::system::{hook, shared_rabbit};
use super::traffic::Senders;

/// Messages of the quiet hook, one after the other.
const QUIET: usize = 10;

/// Loose: a debug build, on a machine that does other things too, and the fire event's way back included.
const AT_MOST: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_hook_does_not_wait_for_the_backlog_of_another() {
    let backlog = if is_long() { 100_000 } else { 4_000 };
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("fairness").await.unwrap();
    let mut all = Deployment::start(&rabbit, "fairness", &[]).await.unwrap();
    let senders = Senders::new(&all).await.unwrap();
    let mut busy = hook(&[(FOREIGN, "busy.*")]);
    busy["paused"] = json!(true);
    all.create_hook("fair/busy", &busy).await;
    all.create_hook("fair/quiet", &hook(&[(FOREIGN, "quiet.*")])).await;
    let mut events = FireEvents::subscribe(&senders.publisher).await.unwrap();
    senders.burst("busy", "b", backlog, 500).await.unwrap();

    busy["paused"] = json!(false);
    let url = format!("{}/hooks/fair/busy", all.api_url());
    assert_eq!(all.http.json("POST", &url, &busy).await.unwrap().status, 200);
    events.next(|event| event["hookId"] == "busy").await.unwrap();
    let mut times = Vec::new();
    for number in 0..QUIET {
        let started = Instant::now();
        senders.burst("quiet", &format!("q{number}"), 1, 0).await.unwrap();
        events.next(|event| event["hookId"] == "quiet").await.unwrap();
        times.push(started.elapsed());
    }
    let waiting = backlog + QUIET - all.count_tasks().await.unwrap();
    times.sort_unstable();
    println!(
        "fairness: with a backlog of {backlog} (still {waiting} at the end) a quiet hook's message was a task after {:?} (median), {:?} (longest)",
        times[QUIET / 2],
        times[QUIET - 1]
    );
    assert!(waiting > 0, "the backlog was gone before the quiet hook had its turn: nothing was measured");
    assert!(times[QUIET - 1] < AT_MOST, "{times:?}");
}

/// Messages for a hook whose every render is stopped at its limit of time.
const HOSTILE: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_exceeds_its_limits_slows_only_itself() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("hostile").await.unwrap();
    let mut all = Deployment::start(&rabbit, "hostile", &[]).await.unwrap();
    let senders = Senders::new(&all).await.unwrap();
    // Comparing them takes time exponential in their depth, and no fuel.
    let grow = |name: &str| {
        format!("{{% set {name} = [1] %}}{}", format!("{{% set {name} = [{name}, {name}] %}}").repeat(40))
    };
    let mut hostile = hook(&[(FOREIGN, "hostile.*")]);
    hostile["task"]["payload"] = json!({ "never": format!("{}{}{{{{ x == y }}}}", grow("x"), grow("y")) });
    all.create_hook("fair/hostile", &hostile).await;
    let mut rendered = hook(&[(FOREIGN, "quiet.*")]);
    // It renders in a worker process, too.
    rendered["task"]["payload"]["line"] = json!("{{ '-' * 40 }}");
    all.create_hook("fair/quiet", &rendered).await;
    let mut events = FireEvents::subscribe(&senders.publisher).await.unwrap();
    senders.burst("hostile", "h", HOSTILE, 0).await.unwrap();
    events.next(|event| event["hookId"] == "hostile").await.unwrap();

    let mut times = Vec::new();
    for number in 0..QUIET {
        let started = Instant::now();
        senders.burst("quiet", &format!("q{number}"), 1, 0).await.unwrap();
        events.next(|event| event["hookId"] == "quiet").await.unwrap();
        times.push(started.elapsed());
    }
    times.sort_unstable();
    println!(
        "fairness: beside a hook whose every message exceeds its limits a quiet hook's message was a task after {:?} (median), {:?} (longest)",
        times[QUIET / 2],
        times[QUIET - 1]
    );
    assert!(times[QUIET - 1] < AT_MOST, "{times:?}");

    // The hook is mended: what has not been tried yet becomes tasks, at full speed again, and what failed is on record.
    let url = format!("{}/hooks/fair/hostile", all.api_url());
    assert_eq!(all.http.json("POST", &url, &hook(&[(FOREIGN, "hostile.*")])).await.unwrap().status, 200);
    harness::eventually(super::system::SOON, async || {
        (all.count_tasks().await.ok()? + all.count_dead_letters().await.ok()? == HOSTILE + QUIET)
            .then_some(())
    })
    .await;
    let letters = all.dead_letters().await.unwrap();
    assert!(!letters.is_empty());
    for letter in letters {
        let why = letter["error"]["message"].as_str().unwrap();
        assert!(why.contains("takes longer than"), "{why}");
    }
}

/// The bound on all pending fires is reached, and nothing else arrives that would wake anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_house_empties_by_itself() {
    const MESSAGES: usize = 300;
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("full").await.unwrap();
    let bounds =
        [("PULSEHOOK_ROUTER__PENDING_FIRES", "20"), ("PULSEHOOK_ROUTER__PENDING_FIRES_PER_HOOK", "1000")];
    let mut all = Deployment::start(&rabbit, "full", &bounds).await.unwrap();
    let senders = Senders::new(&all).await.unwrap();
    for name in ["a", "b", "c"] {
        all.create_hook(&format!("full/{name}"), &hook(&[(FOREIGN, &format!("{name}.*"))])).await;
    }
    all.provoke(json!({ "do": "slow", "milliseconds": 100 })).await.unwrap();
    for name in ["a", "b", "c"] {
        senders.burst(name, name, MESSAGES / 3, 0).await.unwrap();
    }
    harness::eventually(super::system::SOON, async || {
        (all.count_tasks().await.ok()? == MESSAGES).then_some(())
    })
    .await;
}
