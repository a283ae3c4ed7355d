//! Who a message is: what makes two deliveries the same event, and the task id that follows from it.
//!
//! Task ids are HMACs with a key of the deployment: the same event of the same hook has the same id in every process
//! and after every crash, and nobody without the key can foresee it (who could, might create the task first).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pulse::Message;
use ring::digest::{Context, SHA256};
use ring::hmac;

/// What two deliveries of one event have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Goes into the task id.
    pub id: [u8; 16],
    /// What to do when the identity is known already.
    pub repeat: Repeat,
    /// For a message without an id: what its redelivery is found by.
    pub digest: Option<[u8; 16]>,
}

/// What an equal identity means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The same event, whenever it comes: message ids of our own exchanges are made to be unique.
    Never,
    /// The same event within the window, a new occurrence after it: other publishers reuse ids.
    AfterWindow,
    /// No id: each first delivery is an event of its own.
    Always,
}

/// The kinds of our own exchanges on which the bridge or the router gives every message its id.
const OWN: [&str; 3] = ["webhook", "clock", "trigger"];

/// The identity of a message. `random` is used for messages without an id.
pub fn identify(message: &Message, user: &str, random: impl FnOnce() -> [u8; 16]) -> Identity {
    let own = message
        .exchange
        .strip_prefix("exchange/")
        .and_then(|rest| rest.strip_prefix(user))
        .and_then(|rest| rest.strip_prefix("/v1/"))
        .is_some_and(|kind| OWN.contains(&kind));
    match (&message.properties.message_id, own) {
        (Some(id), true) => Identity {
            id: digest(&[b"own", message.exchange.as_bytes(), id.as_bytes()]),
            repeat: Repeat::Never,
            digest: None,
        },
        (Some(id), false) => Identity {
            id: digest(&[
                b"foreign",
                id.as_bytes(),
                message.exchange.as_bytes(),
                message.routing_key.as_bytes(),
                &message.body,
            ]),
            repeat: Repeat::AfterWindow,
            digest: None,
        },
        (None, _) => Identity {
            id: random(),
            repeat: Repeat::Always,
            digest: Some(digest(&[
                message.exchange.as_bytes(),
                message.routing_key.as_bytes(),
                &message.body,
                &message.properties.timestamp.unwrap_or(0).to_be_bytes(),
            ])),
        },
    }
}

/// SHA-256 over the parts, each with its length in front so that no two lists of parts meet; the first 16 bytes.
fn digest(parts: &[&[u8]]) -> [u8; 16] {
    // Over whole bodies, where ring is several times as fast as sha2 on processors without SHA instructions.
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut out = [0; 16];
    out.copy_from_slice(&hash.finish().as_ref()[..16]);
    out
}

/// Makes task ids. Holds the deployment's key, ready for use.
#[derive(Clone)]
pub struct TaskIds {
    keyed: hmac::Context,
}

impl TaskIds {
    /// `key` is the secret of the deployment; `store_id` keeps a store that was made anew apart from its former self.
    pub fn new(key: &[u8], store_id: &str) -> Self {
        let mut keyed = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        keyed.update(b"pulsehook task id 1\0");
        keyed.update(store_id.as_bytes());
        keyed.update(b"\0");
        Self { keyed }
    }

    /// The task id, a slugid: 22 characters of URL-safe base64 over a version 4 UUID that does not begin with `-`.
    pub fn task_id(&self, incarnation: i64, identity: &[u8; 16], occurrence: i64) -> String {
        let mut mac = self.keyed.clone();
        mac.update(&incarnation.to_be_bytes());
        mac.update(&occurrence.to_be_bytes());
        mac.update(identity);
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&mac.sign().as_ref()[..16]);
        uuid[0] &= 0x7f;
        uuid[6] = (uuid[6] & 0x0f) | 0x40;
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        URL_SAFE_NO_PAD.encode(uuid)
    }
}

impl std::fmt::Debug for TaskIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TaskIds(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(exchange: &str, id: Option<&str>, body: &'static [u8]) -> Message {
        Message {
            exchange: exchange.into(),
            routing_key: "a.b".into(),
            properties: pulse::Properties { message_id: id.map(Into::into), ..Default::default() },
            body: bytes::Bytes::from_static(body),
        }
    }

    fn identity(exchange: &str, id: Option<&str>, body: &'static [u8]) -> Identity {
        identify(&message(exchange, id, body), "pulsehook", || [7; 16])
    }

    #[test]
    fn our_own_ids_count_alone_and_foreign_ones_with_what_they_came_with() {
        let own = "exchange/pulsehook/v1/webhook";
        assert_eq!(identity(own, Some("x"), b"1"), identity(own, Some("x"), b"2"));
        assert_eq!(identity(own, Some("x"), b"1").repeat, Repeat::Never);
        let foreign = "exchange/other/v1/webhook";
        assert_ne!(identity(foreign, Some("x"), b"1").id, identity(foreign, Some("x"), b"2").id);
        assert_eq!(identity(foreign, Some("x"), b"1").repeat, Repeat::AfterWindow);
        assert_ne!(identity(foreign, Some("x"), b"1").id, identity(own, Some("x"), b"1").id);
    }

    #[test]
    fn without_an_id_each_delivery_is_its_own_event_and_has_a_digest() {
        let one = identity("exchange/other/x", None, b"1");
        assert_eq!((one.id, one.repeat), ([7; 16], Repeat::Always));
        assert_ne!(one.digest, identity("exchange/other/x", None, b"2").digest);
    }

    #[test]
    fn task_ids_are_slugids_and_depend_on_everything() {
        let ids = TaskIds::new(b"key", "store");
        let id = ids.task_id(1, &[0; 16], 0);
        assert_eq!(id.len(), 22);
        assert!(("Q".."U").contains(&&id[8..9]), "{id}");
        assert_eq!(id, "YdC3uFQ3QhS6BXqSWuBr0A", "a change would make tasks twice");
        assert_eq!(id, TaskIds::new(b"key", "store").task_id(1, &[0; 16], 0));
        for other in [
            ids.task_id(2, &[0; 16], 0),
            ids.task_id(1, &[1; 16], 0),
            ids.task_id(1, &[0; 16], 1),
            TaskIds::new(b"key2", "store").task_id(1, &[0; 16], 0),
            TaskIds::new(b"key", "store2").task_id(1, &[0; 16], 0),
        ] {
            assert_ne!(id, other);
        }
    }
}
