//! The client's greeting (`connection.start-ok`), with the capabilities that amqprs does not ask for.
//!
//! `connection.blocked` has the broker say when it takes no publishes; `authentication_failure_close` has it say why it
//! refuses a login instead of just closing. Both are answered by the link, so that amqprs need not know them.

use bytes::{BufMut, BytesMut};

use super::frames::{FRAME_END, HEADER, METHOD, frame_at};

/// `AMQP` 0 0 9 1, which every client sends first.
const PROTOCOL_HEADER: usize = 8;

/// Class and method of `connection.start-ok`.
const START_OK: [u8; 4] = [0, 10, 0, 11];

const CAPABILITIES: [&str; 5] = [
    "consumer_cancel_notify",
    "connection.blocked",
    "authentication_failure_close",
    "publisher_confirms",
    "basic.nack",
];

/// How much of what precedes a complete greeting may go out: the protocol header, if that is all there is.
pub(super) fn sendable(sent: &BytesMut) -> usize {
    if sent.starts_with(b"AMQP") && sent.len() == PROTOCOL_HEADER { PROTOCOL_HEADER } else { 0 }
}

/// Puts our client properties into the greeting. False while it is not complete; a client that greets otherwise is
/// left alone.
pub(super) fn complete(sent: &mut BytesMut, name: &str) -> bool {
    let start = if sent.starts_with(b"AMQP") { PROTOCOL_HEADER } else { 0 };
    let Some(frame) = frame_at(sent.get(start..).unwrap_or_default()) else { return false };
    let payload = &sent[start + HEADER..start + HEADER + frame.payload];
    if frame.kind == METHOD && payload.starts_with(&START_OK) {
        let properties_end =
            payload.get(4..8).map(|b| 8 + u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
        if let Some(rest) = properties_end.and_then(|end| payload.get(end..)) {
            let mut method = START_OK.to_vec();
            put_table(&mut method, &client_properties(name));
            method.extend_from_slice(rest);
            let mut greeting = sent[..start].to_vec();
            greeting.put_u8(METHOD);
            greeting.put_u16(frame.channel);
            greeting.put_u32(method.len() as u32);
            greeting.extend_from_slice(&method);
            greeting.put_u8(FRAME_END);
            greeting.extend_from_slice(&sent[start + frame.total()..]);
            *sent = BytesMut::from(&greeting[..]);
        }
    }
    true
}

fn client_properties(name: &str) -> Vec<u8> {
    let mut capabilities = Vec::new();
    for capability in CAPABILITIES {
        put_name(&mut capabilities, capability);
        capabilities.extend_from_slice(b"t\x01");
    }
    let mut properties = Vec::new();
    put_name(&mut properties, "capabilities");
    properties.push(b'F');
    put_table(&mut properties, &capabilities);
    for (key, value) in [
        ("product", "pulsehook"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", "Rust"),
        ("connection_name", name),
    ] {
        put_name(&mut properties, key);
        properties.push(b'S');
        properties.put_u32(value.len() as u32);
        properties.extend_from_slice(value.as_bytes());
    }
    properties
}

fn put_name(table: &mut Vec<u8>, name: &str) {
    table.push(name.len() as u8);
    table.extend_from_slice(name.as_bytes());
}

fn put_table(into: &mut Vec<u8>, table: &[u8]) {
    into.put_u32(table.len() as u32);
    into.extend_from_slice(table);
}

#[cfg(test)]
mod tests {
    use super::super::table::{self, Verdict};
    use super::*;

    /// `start-ok` with the given properties, mechanism PLAIN, a response and a locale.
    fn greeting(properties: &[u8]) -> BytesMut {
        let mut method = START_OK.to_vec();
        put_table(&mut method, properties);
        method.extend_from_slice(b"\x05PLAIN\x00\x00\x00\x04\x00a\x00b\x05en_US");
        let mut sent = BytesMut::from(&b"\x01\x00\x00"[..]);
        sent.put_u32(method.len() as u32);
        sent.extend_from_slice(&method);
        sent.put_u8(FRAME_END);
        sent
    }

    #[test]
    fn the_greeting_gets_our_properties_and_keeps_the_credentials() {
        let mut sent = greeting(b"\x01aS\x00\x00\x00\x01b");
        sent.extend_from_slice(b"more");
        assert!(complete(&mut sent, "a name"));
        let frame = frame_at(&sent).unwrap();
        assert_eq!(&sent[frame.total()..], b"more");
        let text = String::from_utf8_lossy(&sent).into_owned();
        assert!(text.contains("connection.blocked") && text.contains("a name"));
        assert!(text.contains("\u{5}PLAIN\0\0\0\u{4}\0a\0b\u{5}en_US"));
        let mut table = sent[HEADER + 4..].to_vec();
        let mut at = 0;
        assert_eq!(table::mend(&mut table, &mut at), Some(Verdict::Sound));
        assert_eq!(&table[at..at + 6], b"\x05PLAIN");
    }

    #[test]
    fn nothing_goes_out_before_it_is_complete() {
        let whole = greeting(b"");
        for length in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..length]);
            assert!(!complete(&mut part, "n"), "{length}");
            assert_eq!(sendable(&part), 0);
        }
        assert_eq!(sendable(&BytesMut::from(&b"AMQP\x00\x00\x09\x01"[..])), 8);
    }
}
