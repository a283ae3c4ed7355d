//! Triggers: messages on our own trigger exchange that fire one hook, and the proof that the router wrote them.
//!
//! Whoever shares the pulse user (a bridge, say) may publish to the trigger exchange, so what a trigger claims about who
//! fired it, when and as which task is believed only with a MAC that no process but the router can make.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use hmac::{Hmac, KeyInit, Mac};
use pulse::{Message, Properties, naming};
use serde_json::Value;
use sha2::Sha256;

use super::decide::FiredBy;
use crate::hook::HookName;

const FIRED_BY: &str = "x-pulsehook-fired-by";
const CLIENT_ID: &str = "x-pulsehook-client-id";
const SCHEDULED_FOR: &str = "x-pulsehook-scheduled-for";
const TASK_ID: &str = "x-pulsehook-task-id";
const MAC: &str = "x-pulsehook-mac";

/// A trigger of one hook.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// What fires it; never `PulseMessage`.
    pub fired_by: FiredBy,
    /// Who, for a trigger by API.
    pub client_id: Option<String>,
    /// The scheduled moment, for a schedule.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// The task id that the caller asked for.
    pub task_id: Option<String>,
}

/// Signs and checks triggers.
#[derive(Clone)]
pub struct TriggerKey {
    keyed: Hmac<Sha256>,
}

impl TriggerKey {
    /// From the deployment's secret for task ids.
    pub fn new(key: &[u8]) -> Self {
        let mut derive = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| unreachable!());
        derive.update(b"pulsehook trigger 1");
        let derived = derive.finalize().into_bytes();
        Self { keyed: <Hmac<Sha256> as KeyInit>::new_from_slice(&derived).unwrap_or_else(|_| unreachable!()) }
    }

    /// The message of a trigger. Equal ids are the same event.
    pub fn message(
        &self,
        user: &str,
        hook: &HookName,
        id: String,
        trigger: &Trigger,
        payload: Bytes,
    ) -> Message {
        let mut headers = BTreeMap::new();
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                headers.insert(name.to_owned(), Value::from(value));
            }
        };
        put(FIRED_BY, Some(trigger.fired_by.as_str().to_owned()));
        put(CLIENT_ID, trigger.client_id.clone());
        put(SCHEDULED_FOR, trigger.scheduled_for.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)));
        put(TASK_ID, trigger.task_id.clone());
        let mut message = Message {
            exchange: naming::exchange(user, "trigger"),
            routing_key: own_key(hook),
            properties: Properties {
                message_id: Some(id),
                timestamp: u64::try_from(Utc::now().timestamp()).ok(),
                content_type: Some("application/json".into()),
                headers,
            },
            body: payload,
        };
        let mac = hex::encode(self.mac(&message).finalize().into_bytes());
        message.properties.headers.insert(MAC.to_owned(), mac.into());
        message
    }

    /// What a message on the trigger exchange says, if it is for this hook and the router wrote it.
    pub fn verify(&self, user: &str, hook: &HookName, message: &Message) -> Option<Trigger> {
        if message.exchange != naming::exchange(user, "trigger") || message.routing_key != own_key(hook) {
            return None;
        }
        let header =
            |name: &str| message.properties.headers.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        let mac = hex::decode(header(MAC)?).ok()?;
        self.mac(message).verify_slice(&mac).ok()?;
        Some(Trigger {
            fired_by: serde_json::from_value(header(FIRED_BY)?.into()).ok()?,
            client_id: header(CLIENT_ID),
            scheduled_for: match header(SCHEDULED_FOR) {
                Some(text) => Some(DateTime::parse_from_rfc3339(&text).ok()?.to_utc()),
                None => None,
            },
            task_id: header(TASK_ID),
        })
    }

    /// Over everything that counts, each part with its length in front.
    fn mac(&self, message: &Message) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        let mut part = |bytes: &[u8]| {
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        };
        part(message.routing_key.as_bytes());
        part(message.properties.message_id.as_deref().unwrap_or("").as_bytes());
        for name in [FIRED_BY, CLIENT_ID, SCHEDULED_FOR, TASK_ID] {
            part(message.properties.headers.get(name).and_then(Value::as_str).unwrap_or("").as_bytes());
        }
        part(&message.body);
        mac
    }
}

impl std::fmt::Debug for TriggerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TriggerKey(…)")
    }
}

/// The scheduled moment that a message claims, believed or not.
pub(super) fn scheduled_for(message: &Message) -> Option<DateTime<Utc>> {
    let text = message.properties.headers.get(SCHEDULED_FOR)?.as_str()?;
    Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
}

/// The routing key of a hook's own triggers.
pub fn own_key(hook: &HookName) -> String {
    naming::routing_key([hook.group.as_str(), hook.id.as_str()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_router_wrote_is_believed() {
        let (key, hook) = (TriggerKey::new(b"key"), HookName::new("g", "h").unwrap());
        let trigger = Trigger {
            fired_by: FiredBy::Schedule,
            client_id: None,
            scheduled_for: DateTime::from_timestamp(1_795_341_900, 0),
            task_id: None,
        };
        let message = key.message("pulsehook", &hook, "id".into(), &trigger, Bytes::from_static(b"{}"));
        assert_eq!(key.verify("pulsehook", &hook, &message), Some(trigger));

        let falsify: [fn(&mut Message); 6] = [
            |message| message.body = Bytes::from_static(b"{ }"),
            |message| message.properties.message_id = Some("other".into()),
            |message| message.routing_key = "g.other".into(),
            |message| message.exchange = "exchange/pulsehook/v1/webhook".into(),
            |message| drop(message.properties.headers.insert(FIRED_BY.into(), "triggerHook".into())),
            |message| drop(message.properties.headers.remove(MAC)),
        ];
        for falsify in falsify {
            let mut forged = message.clone();
            falsify(&mut forged);
            assert_eq!(key.verify("pulsehook", &hook, &forged), None);
        }
        assert_eq!(TriggerKey::new(b"other").verify("pulsehook", &hook, &message), None);
        assert_eq!(key.verify("pulsehook", &HookName::new("g", "other").unwrap(), &message), None);
    }
}
