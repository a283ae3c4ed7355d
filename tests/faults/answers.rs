//! A queue service that answers what nobody wants to hear, or nothing.

use harness::Rabbit;
use serde_json::{Value, json};

use super::account::Row;
use super::deployment::hold;
use super::lane::Lane;

/// Each rule for a while. The events of the second group may end as dead letters, whose reason is on record.
pub async fn all(rabbit: &Rabbit, vhost: &str) -> anyhow::Result<Vec<Row>> {
    let mut lane = Lane::start(rabbit, vhost).await?;
    let status = |status: u16, probability: f64| json!({ "do": "status", "status": status, "probability": probability });
    let retried: [(&str, Value); 11] = [
        ("500 to all", status(500, 1.0)),
        ("503 to a fifth", status(503, 0.2)),
        ("503 to all", status(503, 1.0)),
        (
            "429 with Retry-After to half",
            json!({ "do": "status", "status": 429, "retryAfter": 1, "probability": 0.5 }),
        ),
        ("401 to all", status(401, 1.0)),
        (
            "409 to half, after it was stored",
            json!({ "do": "status", "status": 409, "probability": 0.5, "stored": true }),
        ),
        (
            "500 to half, after it was stored",
            json!({ "do": "status", "status": 500, "probability": 0.5, "stored": true }),
        ),
        ("a login page to half", json!({ "do": "garbage", "probability": 0.5 })),
        ("no answer to a third", json!({ "do": "hang", "probability": 0.3 })),
        ("half a second late", json!({ "do": "slow", "milliseconds": 500 })),
        ("stored, and the connection closed", json!({ "do": "close", "probability": 0.5, "stored": true })),
    ];
    for (what, rule) in retried {
        lane.row(&format!("queue service: {what}"), async |all, time| {
            all.provoke(rule.clone()).await?;
            hold(time).await;
            all.heal().await
        })
        .await?;
    }
    for (what, rule) in
        [("409 to a fifth, nothing stored", status(409, 0.2)), ("403 to a fifth", status(403, 0.2))]
    {
        lane.row(&format!("queue service: {what}"), async |all, time| {
            all.provoke(rule.clone()).await?;
            hold(time).await;
            all.heal().await
        })
        .await?;
    }
    lane.row("queue service: away for a while", async |all, time| {
        all.queue.stop().await?;
        hold(time * 2).await;
        all.queue.start().await.map(drop)
    })
    .await?;
    lane.finish().await
}
