//! The broker: may this user declare, bind, publish and consume under its name?

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pulse::{Binding, Message, Properties, QueueSpec, Status, Transport, naming};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Finding;
use crate::config::Config;

/// A broker that does not answer within this time does not work.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    if config.pulse.is_embedded() {
        return vec![Finding::skipped("broker", "pulse.url = \"embedded\" has none")];
    }
    let transport = match config.pulse.open(Path::new("."), "pulsehook doctor") {
        Ok(transport) => transport,
        Err(error) => {
            return vec![Finding::failed("broker", error.to_string(), "correct [pulse]")];
        }
    };
    let findings = examine(config, &*transport).await;
    transport.close().await;
    findings
}

async fn examine(config: &Config, transport: &dyn Transport) -> Vec<Finding> {
    let mut status = transport.status();
    if timeout(PATIENCE, status.wait_for(|status| *status == Status::Up)).await.is_err() {
        let reason = match &*transport.status().borrow() {
            Status::Down { reason } => reason.clone(),
            Status::Up => "no answer".to_owned(),
        };
        let advice = "check pulse.url: host, port, TLS (amqps), user, password, virtual host (percent-encoded); is the broker up, and \
                      is it short of memory or disk?";
        return vec![Finding::failed("broker connection", reason, advice)];
    }
    let mut findings = vec![Finding::ok("broker connection", "connected: publishing, consuming, declaring")];
    let user = &config.pulse.user;
    let exchange = naming::exchange(user, "doctor");
    let id = uuid::Uuid::new_v4().simple().to_string();
    let queue: Arc<str> = format!("queue/{user}/doctor/{id}").into();
    let steps = permissions(config, transport, &exchange, &queue, &id).await;
    findings.extend(steps);
    // It may not have come to be.
    let deleted = timeout(PATIENCE, transport.delete_queue(&queue)).await;
    if !matches!(deleted, Ok(Ok(_))) {
        let advice = format!("delete the queue {queue} by hand if it is there");
        findings.push(Finding::warning("broker: delete a queue", "the broker did not let us", advice));
    }
    findings
}

/// The rights that RabbitMQ has: configure (declare), write (publish, bind), read (consume, bind).
async fn permissions(
    config: &Config,
    transport: &dyn Transport,
    exchange: &str,
    queue: &Arc<str>,
    id: &str,
) -> Vec<Finding> {
    let user = &config.pulse.user;
    let grant = |what: &str| {
        format!(
            "give the broker's user the right to {what} ^(queue/{user}/.*|exchange/{user}/.*) \
             (rabbitmqctl set_permissions); pulse.user must be the name under which it has rights"
        )
    };
    let refused = |check, error: String, what: &str| vec![Finding::failed(check, error, grant(what))];
    match timeout(PATIENCE, transport.declare_exchange(exchange)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return refused("broker: declare", error.to_string(), "configure"),
        Err(_) => return refused("broker: declare", "no answer".to_owned(), "configure"),
    }
    let spec = QueueSpec {
        name: queue.clone(),
        kind: config.pulse.queue_type,
        delivery_limit: Some(config.router.delivery_limit),
        dead_letter_exchange: None,
        max_length: None,
        bindings: vec![Binding { exchange: exchange.to_owned(), pattern: format!("doctor.{id}") }],
        unbind: Vec::new(),
    };
    match timeout(PATIENCE, transport.declare_queue(spec)).await {
        Ok(Ok(health)) => {
            if let Some(error) = health.into_iter().find_map(|binding| binding.error) {
                return refused("broker: bind", error, "write to and read from");
            }
        }
        Ok(Err(error)) => return refused("broker: declare", error.to_string(), "configure"),
        Err(_) => return refused("broker: declare", "no answer".to_owned(), "configure"),
    }
    let message = Message {
        exchange: exchange.to_owned(),
        routing_key: format!("doctor.{id}"),
        properties: Properties {
            message_id: Some(id.to_owned()),
            content_type: Some("application/json".to_owned()),
            ..Properties::default()
        },
        body: Bytes::from_static(b"{}"),
    };
    match transport.publish(&message, true).await {
        Ok(published) if published.routed => {}
        Ok(_) => {
            return refused("broker: publish", "the message reached no queue".to_owned(), "write to");
        }
        Err(error) => return refused("broker: publish", error.to_string(), "write to"),
    }
    let (sink, mut deliveries) = mpsc::channel(1);
    if let Err(error) = transport.consume(queue, 1, sink).await {
        return refused("broker: consume", error.to_string(), "read from");
    }
    match timeout(PATIENCE, deliveries.recv()).await {
        Ok(Some(delivery)) => delivery.ack(),
        _ => return refused("broker: consume", "the message did not come back".to_owned(), "read from"),
    }
    vec![Finding::ok(
        "broker permissions",
        format!("may declare, bind, publish and consume under exchange/{user}/… and queue/{user}/…"),
    )]
}
