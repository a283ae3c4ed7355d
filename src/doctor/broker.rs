//! The broker: may this user declare, bind, publish and consume under its name?

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pulse::{Binding, Message, Properties, QueueSpec, Status, TopologyError, Transport, naming};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Finding, Roles};
use crate::config::Config;

/// A broker that does not answer within this time does not work.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn check(config: &Config, roles: Roles) -> Vec<Finding> {
    if config.pulse.is_embedded() {
        return vec![Finding::skipped("broker", "pulse.url = \"embedded\" has none")];
    }
    let transport = match config.pulse.open(Path::new("."), "pulsehook doctor") {
        Ok(transport) => transport,
        Err(error) => {
            return vec![Finding::failed("broker", error.to_string(), "correct [pulse]")];
        }
    };
    let findings = examine(config, roles, &*transport).await;
    transport.close().await;
    findings
}

async fn examine(config: &Config, roles: Roles, transport: &dyn Transport) -> Vec<Finding> {
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
    if !roles.router {
        findings.extend(publishing(config, transport, &exchange, &id).await);
        return findings;
    }
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

/// What a bridge does: declares exchanges, and publishes.
async fn publishing(config: &Config, transport: &dyn Transport, exchange: &str, id: &str) -> Vec<Finding> {
    let user = &config.pulse.user;
    let grant = |what: &str| {
        format!(
            "give the broker's user the right to {what} ^exchange/{user}/.* (rabbitmqctl set_permissions); pulse.user must be \
             the name under which it has rights"
        )
    };
    let mut findings = Vec::new();
    match timeout(PATIENCE, transport.declare_exchange(exchange)).await {
        Ok(Ok(())) => {}
        Ok(Err(error @ TopologyError::Refused(_))) => {
            let missing = missing(config, transport).await;
            if !missing.is_empty() {
                let found = format!("{error}; and there is no {}", missing.join(" and no "));
                let advice = format!(
                    "{}; or have somebody who may make durable topic exchanges of these names",
                    grant("configure")
                );
                return vec![Finding::failed("broker: declare", found, advice)];
            }
            // To try whether it may publish takes an exchange on which a message is no event.
            let can_try = stands(transport, exchange).await;
            let unknown =
                if can_try { "" } else { "; whether it may publish there shows with the first event" };
            let found = format!(
                "{error}; a bridge uses the exchanges that somebody else made, and they stand{unknown}"
            );
            findings.push(Finding::warning("broker: declare", found, grant("configure")));
            if !can_try {
                return findings;
            }
        }
        Ok(Err(error)) => {
            return vec![Finding::failed("broker: declare", error.to_string(), grant("configure"))];
        }
        Err(_) => return vec![Finding::failed("broker: declare", "no answer", grant("configure"))],
    }
    let may = if findings.is_empty() { "declare and publish" } else { "publish" };
    findings.push(match transport.publish(&probe(exchange, id), false).await {
        Ok(_) => {
            let found = format!("may {may} under exchange/{user}/…, all that a bridge does");
            Finding::ok("broker permissions", found)
        }
        Err(error) => Finding::failed("broker: publish", error.to_string(), grant("write to")),
    });
    findings
}

/// The exchanges that a bridge publishes to and that nobody has made.
async fn missing(config: &Config, transport: &dyn Transport) -> Vec<String> {
    let mut missing = Vec::new();
    let clock = config.bridge.clock.enabled.then_some("clock");
    for what in ["webhook"].into_iter().chain(clock) {
        let name = naming::exchange(&config.pulse.user, what);
        if !stands(transport, &name).await {
            missing.push(name);
        }
    }
    missing
}

async fn stands(transport: &dyn Transport, exchange: &str) -> bool {
    matches!(timeout(PATIENCE, transport.exchange_stands(exchange)).await, Ok(Ok(true)))
}

fn probe(exchange: &str, id: &str) -> Message {
    Message {
        exchange: exchange.to_owned(),
        routing_key: format!("doctor.{id}"),
        properties: Properties {
            message_id: Some(id.to_owned()),
            content_type: Some("application/json".to_owned()),
            ..Properties::default()
        },
        body: Bytes::from_static(b"{}"),
    }
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
    match transport.publish(&probe(exchange, id), true).await {
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
