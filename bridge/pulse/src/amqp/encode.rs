//! Messages as the frames of `basic.publish`.
//!
//! amqprs would send each message by itself, through two tasks and a system call over loopback. What is published together
//! sets out together from here, in one piece: the broker spends several times as much on messages that come one by one.
//! The layout is that of <https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf> (2.3.5, 4.2), types of fields as RabbitMQ has them:
//! <https://www.rabbitmq.com/amqp-0-9-1-errata#section_3>.

use amqprs::DELIVERY_MODE_PERSISTENT;
use bytes::BufMut;
use serde_json::Value;

use super::flags::{CONTENT_TYPE, DELIVERY_MODE, HEADERS, MESSAGE_ID, TIMESTAMP};
use super::link::{BODY, CONTENT_HEADER, FRAME_END, HEADER, METHOD};
use crate::{Message, Properties};

/// Class and method of `basic.publish`.
const PUBLISH: [u8; 4] = [0, 60, 0, 40];
/// The class alone, in a content header.
const BASIC: u16 = 60;

/// The mandatory bit of `basic.publish`.
const MANDATORY: u8 = 1;

/// Puts the frames that publish `message` on `channel` behind what is in `into`. No frame is larger than `frame_max` bytes. Messages are
/// always persistent. On an error, which says what AMQP has no room for, `into` is as it was.
pub(super) fn publish(
    message: &Message,
    mandatory: bool,
    channel: u16,
    frame_max: usize,
    into: &mut Vec<u8>,
) -> Result<(), String> {
    let start = into.len();
    let put = put(message, mandatory, channel, frame_max, into);
    if put.is_err() {
        into.truncate(start);
    }
    put
}

fn put(
    message: &Message,
    mandatory: bool,
    channel: u16,
    frame_max: usize,
    into: &mut Vec<u8>,
) -> Result<(), String> {
    frame(METHOD, channel, into, |into| {
        into.put_slice(&PUBLISH);
        into.put_u16(0);
        short(&message.exchange, into)?;
        short(&message.routing_key, into)?;
        into.put_u8(if mandatory { MANDATORY } else { 0 });
        Ok(())
    })?;
    let header = into.len();
    frame(CONTENT_HEADER, channel, into, |into| {
        into.put_u16(BASIC);
        into.put_u16(0);
        into.put_u64(message.body.len() as u64);
        properties(&message.properties, into)
    })?;
    if into.len() - header > frame_max {
        return Err(format!("its properties do not fit a frame of {frame_max} bytes"));
    }
    for piece in message.body.chunks(frame_max.saturating_sub(HEADER + 1).max(1)) {
        frame(BODY, channel, into, |into| {
            into.put_slice(piece);
            Ok(())
        })?;
    }
    Ok(())
}

fn properties(properties: &Properties, into: &mut Vec<u8>) -> Result<(), String> {
    let Properties { message_id, timestamp, content_type, headers } = properties;
    let mut flags = DELIVERY_MODE;
    for (has, flag) in [
        (content_type.is_some(), CONTENT_TYPE),
        (!headers.is_empty(), HEADERS),
        (message_id.is_some(), MESSAGE_ID),
        (timestamp.is_some(), TIMESTAMP),
    ] {
        flags |= if has { flag } else { 0 };
    }
    into.put_u16(flags);
    if let Some(content_type) = content_type {
        short(content_type, into)?;
    }
    if !headers.is_empty() {
        table(headers.iter(), into)?;
    }
    into.put_u8(DELIVERY_MODE_PERSISTENT);
    if let Some(id) = message_id {
        short(id, into)?;
    }
    if let Some(timestamp) = timestamp {
        into.put_u64(*timestamp);
    }
    Ok(())
}

/// A frame with what `payload` puts into it.
fn frame(
    kind: u8,
    channel: u16,
    into: &mut Vec<u8>,
    payload: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    into.put_u8(kind);
    into.put_u16(channel);
    sized(into, payload)?;
    into.put_u8(FRAME_END);
    Ok(())
}

/// What `put` puts, after its length in four bytes.
fn sized(into: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) -> Result<(), String> {
    let at = into.len();
    into.put_u32(0);
    put(into)?;
    let length = u32::try_from(into.len() - at - 4).map_err(|_| "it is too long for AMQP".to_owned())?;
    into[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// A short string: its length is one byte.
fn short(text: &str, into: &mut Vec<u8>) -> Result<(), String> {
    let length = u8::try_from(text.len()).map_err(|_| format!("{text:.60}… is too long for a name"))?;
    into.put_u8(length);
    into.put_slice(text.as_bytes());
    Ok(())
}

fn table<'a>(
    mut fields: impl Iterator<Item = (&'a String, &'a Value)>,
    into: &mut Vec<u8>,
) -> Result<(), String> {
    sized(into, |into| {
        fields.try_for_each(|(name, value)| {
            short(name, into)?;
            field(value, into)
        })
    })
}

fn field(value: &Value, into: &mut Vec<u8>) -> Result<(), String> {
    match value {
        Value::Null => into.put_u8(b'V'),
        Value::Bool(flag) => into.put_slice(&[b't', u8::from(*flag)]),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => {
                into.put_u8(b'l');
                into.put_i64(integer);
            }
            None => {
                into.put_u8(b'd');
                into.put_f64(number.as_f64().unwrap_or_default());
            }
        },
        Value::String(text) => {
            into.put_u8(b'S');
            return sized(into, |into| {
                into.put_slice(text.as_bytes());
                Ok(())
            });
        }
        Value::Array(values) => {
            into.put_u8(b'A');
            return sized(into, |into| values.iter().try_for_each(|value| field(value, into)));
        }
        Value::Object(fields) => {
            into.put_u8(b'F');
            return table(fields.iter(), into);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(properties: Properties, body: &'static [u8]) -> Message {
        Message { exchange: "e".into(), routing_key: "a.b".into(), properties, body: body.into() }
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[kind, 1, 2][..], &(payload.len() as u32).to_be_bytes(), payload, &[0xCE]].concat()
    }

    #[test]
    fn a_message_is_a_method_a_header_and_bodies_that_fit() {
        let headers = json!({
            "a": [1, null], "f": 0.5, "n": -2, "o": {"t": true}, "s": "x",
        });
        let properties = Properties {
            message_id: Some("id".into()),
            timestamp: Some(7),
            content_type: Some("t/j".into()),
            headers: serde_json::from_value(headers).unwrap(),
        };
        let table = [
            &b"\x01aA\0\0\0\x0al\0\0\0\0\0\0\0\x01V"[..],
            b"\x01fd\x3f\xe0\0\0\0\0\0\0",
            b"\x01nl\xff\xff\xff\xff\xff\xff\xff\xfe",
            b"\x01oF\0\0\0\x04\x01tt\x01",
            b"\x01sS\0\0\0\x01x",
        ]
        .concat();
        let header = [
            &b"\0\x3c\0\0\0\0\0\0\0\0\0\x96\xb0\xc0\x03t/j"[..],
            &(table.len() as u32).to_be_bytes(),
            &table,
            b"\x02\x02id\0\0\0\0\0\0\0\x07",
        ]
        .concat();
        let mut sent = b"before".to_vec();
        publish(&message(properties, &[b'x'; 150]), true, 0x0102, 136, &mut sent).unwrap();
        let wanted = [
            b"before".to_vec(),
            frame(1, b"\0\x3c\0\x28\0\0\x01e\x03a.b\x01"),
            frame(2, &header),
            frame(3, &[b'x'; 128]),
            frame(3, &[b'x'; 22]),
        ];
        assert_eq!(sent, wanted.concat());
    }

    #[test]
    fn an_empty_message_has_no_body_frame() {
        let mut sent = Vec::new();
        publish(&message(Properties::default(), b""), false, 0x0102, 4096, &mut sent).unwrap();
        let wanted =
            [frame(1, b"\0\x3c\0\x28\0\0\x01e\x03a.b\0"), frame(2, b"\0\x3c\0\0\0\0\0\0\0\0\0\0\x10\0\x02")];
        assert_eq!(sent, wanted.concat());
    }

    #[test]
    fn what_has_no_room_leaves_nothing_behind() {
        let long = "x".repeat(300);
        for properties in [
            Properties { message_id: Some(long.clone()), ..Default::default() },
            Properties { headers: [("o".into(), json!({ long.clone(): 1 }))].into(), ..Default::default() },
            Properties { headers: [("s".into(), json!(long.repeat(20)))].into(), ..Default::default() },
        ] {
            let mut sent = b"before".to_vec();
            assert!(publish(&message(properties, b"b"), false, 1, 4096, &mut sent).is_err());
            assert_eq!(sent, b"before");
        }
    }
}
