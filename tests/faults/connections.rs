//! Connections that break, go silent and are slow.

use std::time::Duration;

use harness::{Proxy, Rabbit};

use super::account::Row;
use super::deployment::{Deployment, hold};
use super::lane::Lane;

/// A packet takes so long, each way.
const SLOW: Duration = Duration::from_millis(150);

type Place = (&'static str, fn(&Deployment) -> &Proxy);

const PLACES: [Place; 3] = [
    ("bridge to broker", |all| &all.bridge_to_broker),
    ("router to broker", |all| &all.router_to_broker),
    ("router to queue service", |all| &all.router_to_queue),
];

/// Each kind of trouble at each place.
pub async fn all(rabbit: &Rabbit, vhost: &str) -> anyhow::Result<Vec<Row>> {
    let mut lane = Lane::start(rabbit, vhost).await?;
    for (place, proxy) in PLACES {
        lane.row(&format!("{place}: connections cut, thrice"), async |all, time| {
            for _ in 0..3 {
                proxy(all).cut();
                hold(time / 4).await;
            }
            Ok(())
        })
        .await?;
        lane.row(&format!("{place}: cut and refused"), async |all, time| {
            proxy(all).refuse(true);
            proxy(all).cut();
            hold(time).await;
            proxy(all).refuse(false);
            Ok(())
        })
        .await?;
        lane.row(&format!("{place}: silent, then cut"), async |all, time| {
            proxy(all).stall(true);
            hold(time).await;
            proxy(all).cut();
            proxy(all).stall(false);
            Ok(())
        })
        .await?;
        lane.row(&format!("{place}: answers kept back, then cut"), async |all, time| {
            proxy(all).mute(true);
            hold(time).await;
            proxy(all).cut();
            proxy(all).mute(false);
            Ok(())
        })
        .await?;
        lane.row(&format!("{place}: slow"), async |all, time| {
            proxy(all).delay(SLOW);
            hold(time).await;
            proxy(all).delay(Duration::ZERO);
            Ok(())
        })
        .await?;
    }
    lane.row("bridge to broker: cut and refused; bridge: kill -9 with a full spool", async |all, time| {
        all.bridge_to_broker.refuse(true);
        all.bridge_to_broker.cut();
        hold(time).await;
        all.bridge.kill9()?;
        all.bridge.start().await?;
        hold(time / 2).await;
        all.bridge_to_broker.refuse(false);
        Ok(())
    })
    .await?;
    lane.finish().await
}
