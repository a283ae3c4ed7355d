//! The form in which a message goes to a dead-letter exchange: RabbitMQ's `x-death` headers.
//!
//! <https://www.rabbitmq.com/docs/dlx#effects>

use serde_json::{Value, json};

use crate::Message;

/// Why a message left its queue, in RabbitMQ's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Rejected,
    DeliveryLimit,
    MaxLength,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::DeliveryLimit => "delivery_limit",
            Self::MaxLength => "maxlen",
        }
    }
}

/// The message as it is published to `exchange` after it left `queue` at `now` (seconds since the epoch). `None` if a
/// full queue would dead-letter it into itself for ever.
pub(super) fn dead_letter(
    message: &Message,
    queue: &str,
    exchange: &str,
    reason: Reason,
    now: i64,
) -> Option<Message> {
    let mut dead = message.clone();
    let headers = &mut dead.properties.headers;
    let mut deaths = match headers.remove("x-death") {
        Some(Value::Array(deaths)) => deaths,
        _ => Vec::new(),
    };
    let same = |death: &Value| death["queue"] == queue && death["reason"] == reason.as_str();
    if reason == Reason::MaxLength && deaths.iter().any(same) {
        return None;
    }
    let count = match deaths.iter().position(same) {
        Some(at) => deaths.remove(at)["count"].as_u64().unwrap_or(1) + 1,
        None => 1,
    };
    let death = json!({
        "count": count,
        "exchange": message.exchange,
        "queue": queue,
        "reason": reason.as_str(),
        "routing-keys": [message.routing_key],
        "time": now,
    });
    deaths.insert(0, death);
    headers.insert("x-death".into(), Value::Array(deaths));
    headers.remove("x-delivery-count");
    for (name, value) in [
        ("x-first-death-exchange", message.exchange.as_str()),
        ("x-first-death-queue", queue),
        ("x-first-death-reason", reason.as_str()),
    ] {
        headers.entry(name.into()).or_insert_with(|| value.into());
    }
    dead.exchange = exchange.to_owned();
    Some(dead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_death_is_counted_and_the_first_remembered() {
        let message = Message { exchange: "e".into(), routing_key: "k".into(), ..Message::default() };
        let once = dead_letter(&message, "q", "dlx", Reason::Rejected, 7).unwrap();
        assert_eq!(once.exchange, "dlx");
        let twice = dead_letter(&once, "q", "dlx", Reason::Rejected, 8).unwrap();
        let headers = &twice.properties.headers;
        assert_eq!(headers["x-death"].as_array().unwrap().len(), 1);
        assert_eq!(headers["x-death"][0]["count"], 2);
        assert_eq!(headers["x-first-death-exchange"], "e");
        assert_eq!(headers["x-first-death-queue"], "q");
    }
}
