//! Each point between two steps of a message's way, provoked: the process dies at that very place, under traffic.

use std::time::Duration;

use harness::Rabbit;

use super::account::Row;
use super::deployment::{Deployment, hold};
use super::events::FireEvents;
use super::lane::Lane;
use super::system::SOON;

/// Which process passes the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Bridge,
    Router,
}

/// The table's words for what is left, and the name of the point (see `pulse::crash`).
const POINTS: [(&str, Role, &str); 8] = [
    ("bridge: verified, not published", Role::Bridge, "bridge.verified"),
    ("bridge: confirmed, 2xx not sent", Role::Bridge, "bridge.confirmed"),
    ("router: delivered, not recorded", Role::Router, "router.delivered"),
    ("router: recorded, ack not sent", Role::Router, "router.recorded"),
    ("router: submitted, answer lost", Role::Router, "router.submitted"),
    ("router: outcome known, not committed", Role::Router, "router.ended"),
    ("router: outcome committed, event not out", Role::Router, "router.committed"),
    ("router: event out, watermark behind", Role::Router, "router.published"),
];

/// Each point, met at its third pass, when there is something under way everywhere.
pub async fn all(rabbit: &Rabbit, vhost: &str) -> anyhow::Result<Vec<Row>> {
    let mut lane = Lane::start(rabbit, vhost).await?;
    let mut events = FireEvents::subscribe(&lane.senders.publisher).await?;
    for (what, role, point) in POINTS {
        lane.row(&format!("crash: {what}"), async |all, _| crash(all, role, point).await).await?;
    }
    // The broker has a message whose confirm never comes; the sender hears nothing and repeats it.
    lane.row("crash: bridge: published, no confirm yet", async |all, time| {
        all.bridge_to_broker.mute(true);
        hold(time / 2).await;
        all.bridge.kill9()?;
        all.bridge_to_broker.cut();
        all.bridge_to_broker.mute(false);
        all.bridge.start().await.map(drop)
    })
    .await?;
    // The tasks are made and their acks never reach the broker.
    lane.row("crash: router: recorded and submitted, acks lost", async |all, time| {
        all.router_to_broker.stall(true);
        hold(time / 2).await;
        all.router.kill9()?;
        all.router_to_broker.cut();
        all.router_to_broker.stall(false);
        all.router.start().await.map(drop)
    })
    .await?;
    // Wherever it died, each task was told of.
    let tasks = lane.deployment.tasks().await?;
    let tasks = tasks.iter().filter_map(|task| task["taskId"].as_str().map(ToOwned::to_owned)).collect();
    events.all_told(tasks).await?;
    lane.finish().await
}

async fn crash(all: &mut Deployment, role: Role, point: &str) -> anyhow::Result<()> {
    let process = match role {
        Role::Bridge => &mut all.bridge,
        Role::Router => &mut all.router,
    };
    process.stop().await?;
    process.set_env(pulse::crash::VARIABLE, Some(&format!("{point}:3")));
    process.start().await?;
    process.ended(SOON).await?;
    process.set_env(pulse::crash::VARIABLE, None);
    process.start().await?;
    // Long enough for whatever was left behind to come up again under traffic.
    hold(Duration::from_millis(100)).await;
    Ok(())
}
