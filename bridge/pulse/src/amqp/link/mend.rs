//! Message headers (`content header` frames) that amqprs can read, whatever the publisher put into them.
//!
//! A message that had to be changed carries the header [`MENDED`], so that whoever consumes it knows.

use bytes::BufMut;

use super::table::{self, Verdict};
use crate::amqp::flags::{
    APP_ID, CLUSTER_ID, CONTENT_ENCODING, CONTENT_TYPE, CORRELATION_ID, DELIVERY_MODE, EXPIRATION, HEADERS,
    MESSAGE_ID, PRIORITY, REPLY_TO, TIMESTAMP, TYPE, USER_ID,
};

/// Set to true on a delivered message of which some text had to be replaced because it was not UTF-8, or whose headers
/// could not be decoded at all and are left out.
pub(in crate::amqp) const MENDED: &str = "x-pulsehook-mended";

/// Class, weight and body size precede the flags and properties.
const PREFIX: usize = 12;

/// Mends the payload of a content header in place as far as that goes. Returns another payload to send in its place if
/// something was changed, here or (`already`) in the method before it.
pub(super) fn content_header(payload: &mut [u8], already: bool) -> Option<Vec<u8>> {
    let flags = payload.get(PREFIX..PREFIX + 2).map(|flags| u16::from_be_bytes([flags[0], flags[1]]))?;
    let mut at = PREFIX + 2;
    let mut headers = 0..0;
    let mut verdict = Verdict::Sound;
    let walked = walk(payload, flags, &mut at, &mut headers, &mut verdict);
    if walked.is_none() || at != payload.len() {
        // Not even the lengths fit: nothing is left but the body.
        return Some(with_marker(&payload[..PREFIX], HEADERS, &[], &[], &[]));
    }
    if verdict == Verdict::Sound && !already {
        return None;
    }
    let kept: &[u8] = match verdict {
        Verdict::Unreadable => &[],
        _ => payload.get(headers.start + 4..headers.end).unwrap_or_default(),
    };
    let (before, after) = (&payload[PREFIX + 2..headers.start], &payload[headers.end..]);
    Some(with_marker(&payload[..PREFIX], flags | HEADERS, before, kept, after))
}

/// Walks all properties; `headers` becomes the place of the header table, empty if there is none.
fn walk(
    payload: &mut [u8],
    flags: u16,
    at: &mut usize,
    headers: &mut std::ops::Range<usize>,
    verdict: &mut Verdict,
) -> Option<()> {
    for flag in [CONTENT_TYPE, CONTENT_ENCODING] {
        if flags & flag != 0 {
            *verdict = (*verdict).max(table::mend_short(payload, at)?);
        }
    }
    *headers = *at..*at;
    if flags & HEADERS != 0 {
        *verdict = (*verdict).max(table::mend(payload, at)?);
        headers.end = *at;
    }
    for flag in [DELIVERY_MODE, PRIORITY] {
        if flags & flag != 0 {
            *at += 1;
        }
    }
    for flag in [CORRELATION_ID, REPLY_TO, EXPIRATION, MESSAGE_ID] {
        if flags & flag != 0 {
            *verdict = (*verdict).max(table::mend_short(payload, at)?);
        }
    }
    if flags & TIMESTAMP != 0 {
        *at += 8;
    }
    for flag in [TYPE, USER_ID, APP_ID, CLUSTER_ID] {
        if flags & flag != 0 {
            *verdict = (*verdict).max(table::mend_short(payload, at)?);
        }
    }
    Some(())
}

fn with_marker(prefix: &[u8], flags: u16, before: &[u8], kept: &[u8], after: &[u8]) -> Vec<u8> {
    let mut payload = prefix.to_vec();
    payload.put_u16(flags);
    payload.extend_from_slice(before);
    // Last, as amqprs keeps the last of two headers with one name: a publisher cannot hide ours.
    payload.put_u32((kept.len() + 1 + MENDED.len() + 2) as u32);
    payload.extend_from_slice(kept);
    payload.put_u8(MENDED.len() as u8);
    payload.extend_from_slice(MENDED.as_bytes());
    payload.extend_from_slice(b"t\x01");
    payload.extend_from_slice(after);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(flags: u16, properties: &[u8]) -> Vec<u8> {
        let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
        payload.put_u16(flags);
        payload.extend_from_slice(properties);
        payload
    }

    /// After mending, a second look finds nothing more to do.
    fn sound(mut payload: Vec<u8>) -> Vec<u8> {
        assert_eq!(content_header(&mut payload, false), None);
        payload
    }

    #[test]
    fn sound_properties_are_left_alone() {
        let all = b"\x01a\x01b\x00\x00\x00\x05\x01kt\x01V\x02\x05\x01c\x01d\x01e\x01f\x00\x00\x00\x00\x00\x00\x00\x09\x01g\x01h\x01i\x01j";
        let mut header = payload(0xFFFC, all);
        // `V` stands where a name should: the table is unreadable, and yet everything behind it is kept.
        let mended = content_header(&mut header, false).unwrap();
        let mended = sound(mended);
        assert!(mended.ends_with(b"\x01g\x01h\x01i\x01j"));
        sound(payload(0, b""));
        sound(payload(HEADERS, b"\x00\x00\x00\x04\x01kt\x01"));
        sound(payload(MESSAGE_ID | TIMESTAMP, b"\x02id\x00\x00\x00\x00\x00\x00\x00\x09"));
    }

    #[test]
    fn mended_headers_are_marked() {
        let mut header = payload(HEADERS | MESSAGE_ID, b"\x00\x00\x00\x08\x01kS\x00\x00\x00\x01\xFF\x02id");
        let mended = sound(content_header(&mut header, false).unwrap());
        let text = String::from_utf8_lossy(&mended).into_owned();
        assert!(text.contains("\u{1}kS\0\0\0\u{1}?") && text.contains(MENDED) && text.ends_with("\u{2}id"));

        let mut without_headers = payload(MESSAGE_ID, b"\x02\xFFd");
        let mended = sound(content_header(&mut without_headers, false).unwrap());
        assert!(mended.ends_with(b"\x02?d"));
        let mut routing_key_was_mended = payload(0, b"");
        sound(content_header(&mut routing_key_was_mended, true).unwrap());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_sound_afterwards(flags in any::<u16>(), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut header = payload(flags & 0xFFFC, &bytes);
            match content_header(&mut header, false) {
                Some(mended) => { sound(mended); }
                None => { sound(header); }
            }
        }
    }
}
