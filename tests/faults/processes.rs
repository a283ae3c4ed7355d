//! Processes that die and freeze, and a store whose disk is full.

use harness::{Rabbit, eventually};

use super::account::Row;
use super::deployment::hold;
use super::lane::Lane;
use super::system::SOON;

/// Everything but the broker.
pub async fn roles(rabbit: &Rabbit, vhost: &str) -> anyhow::Result<Vec<Row>> {
    let mut lane = Lane::start(rabbit, vhost).await?.with_schedule().await;
    lane.row("bridge: kill -9, restart", async |all, _| {
        all.bridge.kill9()?;
        all.bridge.start().await.map(drop)
    })
    .await?;
    lane.row("router: kill -9, restart", async |all, _| {
        all.router.kill9()?;
        all.router.start().await.map(drop)
    })
    .await?;
    lane.row("router: kill -9, a standby takes over, and back", async |all, time| {
        all.standby.start().await?;
        all.router.kill9()?;
        hold(time).await;
        all.router.start().await?;
        all.standby.kill9()
    })
    .await?;
    lane.row("router: stopped in order, restarted", async |all, _| {
        all.router.stop().await?;
        all.router.start().await.map(drop)
    })
    .await?;
    lane.row("queue service: kill -9, restart", async |all, _| {
        all.queue.kill9()?;
        all.queue.start().await.map(drop)
    })
    .await?;
    lane.row("bridge: SIGSTOP", async |all, time| {
        all.bridge.pause()?;
        hold(time).await;
        all.bridge.resume()
    })
    .await?;
    lane.row("router: SIGSTOP", async |all, time| {
        all.router.pause()?;
        hold(time).await;
        all.router.resume()
    })
    .await?;
    lane.row("queue service: SIGSTOP", async |all, time| {
        all.queue.pause()?;
        hold(time).await;
        all.queue.resume()
    })
    .await?;
    lane.row("store: the disk is full for a while", async |all, time| {
        all.router.limit_file_size(Some(1))?;
        hold(time).await;
        all.router.limit_file_size(None)
    })
    .await?;
    lane.row("store: the disk is full, connection to the broker cut", async |all, time| {
        all.router.limit_file_size(Some(1))?;
        hold(time).await;
        all.router_to_broker.cut();
        hold(time).await;
        all.router.limit_file_size(None)
    })
    .await?;
    lane.row("store: the disk is full, router: kill -9, restart", async |all, time| {
        all.router.limit_file_size(Some(1))?;
        hold(time).await;
        all.router.kill9()?;
        all.router.start().await.map(drop)
    })
    .await?;
    lane.finish().await
}

/// A broker of its own.
pub async fn broker() -> anyhow::Result<Vec<Row>> {
    // Between the faults, which need it to themselves, everybody looks at it.
    let rabbit = tokio::sync::Mutex::new(Rabbit::start().await?);
    let mut lane = Lane::start(&*rabbit.lock().await, "/").await?;
    lane.row("broker: stopped in order, restarted", async |_, _| {
        let mut rabbit = rabbit.lock().await;
        rabbit.stop().await?;
        rabbit.restart().await
    })
    .await?;
    lane.row("broker: SIGSTOP", async |_, time| {
        rabbit.lock().await.pause()?;
        hold(time).await;
        rabbit.lock().await.resume()
    })
    .await?;
    lane.row("broker: memory alarm", async |_, time| {
        let rabbit = rabbit.lock().await;
        rabbit.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await?;
        hold(time).await;
        rabbit.ctl(&["set_vm_memory_high_watermark", "0.4"]).await.map(drop)
    })
    .await?;
    // Not the first: a quorum queue that was declared less than a second before its only node is killed may stand there
    // without a leader afterwards, and confirm nothing for ever (RabbitMQ 3.10).
    lane.row("broker: kill -9, restart", async |_, _| {
        let mut rabbit = rabbit.lock().await;
        rabbit.kill9()?;
        rabbit.restart().await
    })
    .await?;
    // The broker looks once a second, and closes a channel on which a message waits longer than that for its ack.
    for (setting, milliseconds) in [("consumer_timeout", 1_000), ("channel_tick_interval", 1_000)] {
        let set = format!("application:set_env(rabbit, {setting}, {milliseconds}).");
        rabbit.lock().await.ctl(&["eval", &set]).await?;
    }
    lane.row("broker: consumer timeout, while the store is full", async |all, _| {
        // The settings hold for channels that are opened from now on.
        all.router.stop().await?;
        all.router.start().await?;
        // It does not start with a full disk: its service manager would try again.
        all.router_serves().await;
        all.router.limit_file_size(Some(1))?;
        let told = |line: &String| line.contains("delivery acknowledgement") && line.contains("timed out");
        eventually(SOON, async || all.router.lines().iter().any(told).then_some(())).await;
        all.router.limit_file_size(None)
    })
    .await?;
    lane.row("broker and router: kill -9 at once, restart", async |all, _| {
        let mut rabbit = rabbit.lock().await;
        rabbit.kill9()?;
        all.router.kill9()?;
        all.router.start().await?;
        rabbit.restart().await
    })
    .await?;
    lane.finish().await
}
