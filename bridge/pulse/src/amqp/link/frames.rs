//! The broker's frames on their way to amqprs.

use std::collections::HashSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::mend::content_header;
use super::table::{Verdict, mend_short, mend_text};

/// Type, channel and payload size.
pub(in crate::amqp) const HEADER: usize = 7;
/// Ends every frame.
pub(in crate::amqp) const FRAME_END: u8 = 0xCE;
pub(in crate::amqp) const METHOD: u8 = 1;
pub(in crate::amqp) const CONTENT_HEADER: u8 = 2;
pub(in crate::amqp) const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// Brokers use 128 KiB; one that announces more than this is none.
const MAX_PAYLOAD: usize = 16 << 20;

/// What the broker says about the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    Blocked(String),
    Unblocked,
    /// `connection.close`, with code and text.
    Closed(String),
}

/// A complete frame at the start of some bytes.
pub(super) struct Frame {
    pub kind: u8,
    pub channel: u16,
    /// Bytes of payload.
    pub payload: usize,
}

impl Frame {
    pub fn total(&self) -> usize {
        HEADER + self.payload + 1
    }
}

/// The frame at the start, if all of it is there.
pub(super) fn frame_at(bytes: &[u8]) -> Option<Frame> {
    let header = bytes.get(..HEADER)?;
    let frame = Frame {
        kind: header[0],
        channel: u16::from_be_bytes([header[1], header[2]]),
        payload: u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize,
    };
    (bytes.len() >= frame.total()).then_some(frame)
}

/// Looks at every frame from the broker, once.
#[derive(Default)]
pub(super) struct Scanner {
    /// Channels on which a delivery's method was mended, so that its content header, which comes next, must say so.
    mended: HashSet<u16>,
}

/// What becomes of a frame.
enum Fate {
    Pass,
    Swallow,
    Replace(Vec<u8>),
}

impl Scanner {
    /// Takes the complete frames out of `received` and puts what amqprs shall read into `forward`: as few pieces as there are
    /// changes, so that the usual case is one piece without a copy. On an error what came before it is in `forward`.
    pub fn scan(
        &mut self,
        received: &mut BytesMut,
        forward: &mut Vec<Bytes>,
        notes: &mut Vec<Note>,
    ) -> Result<(), &'static str> {
        let mut passed = 0;
        let result = loop {
            let rest = &mut received[passed..];
            if rest.len() >= HEADER && !matches!(rest[0], METHOD | CONTENT_HEADER | BODY | HEARTBEAT) {
                break Err("an unknown type of frame");
            }
            if rest.get(3..HEADER).is_some_and(|size| size > &(MAX_PAYLOAD as u32).to_be_bytes()[..]) {
                break Err("a frame is too large");
            }
            let Some(frame) = frame_at(rest) else { break Ok(()) };
            if rest[frame.total() - 1] != FRAME_END {
                break Err("a frame does not end where it should");
            }
            let payload = &mut rest[HEADER..HEADER + frame.payload];
            let fate = match frame.kind {
                METHOD => self.method(frame.channel, payload, notes),
                CONTENT_HEADER => {
                    let already = !self.mended.is_empty() && self.mended.remove(&frame.channel);
                    content_header(payload, already).map_or(Fate::Pass, Fate::Replace)
                }
                _ => Fate::Pass,
            };
            if let Fate::Pass = fate {
                passed += frame.total();
                continue;
            }
            if passed > 0 {
                forward.push(received.split_to(passed).freeze());
                passed = 0;
            }
            received.advance(frame.total());
            if let Fate::Replace(payload) = fate {
                let mut replaced = BytesMut::with_capacity(HEADER + payload.len() + 1);
                replaced.put_u8(frame.kind);
                replaced.put_u16(frame.channel);
                replaced.put_u32(payload.len() as u32);
                replaced.extend_from_slice(&payload);
                replaced.put_u8(FRAME_END);
                forward.push(replaced.freeze());
            }
        };
        if passed > 0 {
            forward.push(received.split_to(passed).freeze());
        }
        result
    }

    fn method(&mut self, channel: u16, payload: &mut [u8], notes: &mut Vec<Note>) -> Fate {
        let Some(&[c1, c2, m1, m2]) = payload.first_chunk::<4>() else { return Fate::Pass };
        match (u16::from_be_bytes([c1, c2]), u16::from_be_bytes([m1, m2])) {
            // connection.close and channel.close: the broker cuts long texts without regard for characters.
            (10, 50) => {
                let code = payload.get(4..6).map_or(0, |code| u16::from_be_bytes([code[0], code[1]]));
                let text = short_at(payload, 6);
                notes.push(Note::Closed(if code == 200 { text } else { format!("{text} ({code})") }));
            }
            (20, 40) => drop(short_at(payload, 6)),
            // connection.blocked and connection.unblocked, which the link asked for and amqprs did not.
            (10, 60) => {
                notes.push(Note::Blocked(short_at(payload, 4)));
                return Fate::Swallow;
            }
            (10, 61) => {
                notes.push(Note::Unblocked);
                return Fate::Swallow;
            }
            // basic.return: code, text, exchange, routing key.
            (60, 50) => drop(mend_shorts(payload, 6, &[0, 0, 0])),
            // basic.deliver: consumer tag, delivery tag and flag (nine bytes), exchange, routing key.
            (60, 60) if mend_shorts(payload, 4, &[9, 0, 0]) == Some(Verdict::Mended) => {
                self.mended.insert(channel);
            }
            _ => {}
        }
        Fate::Pass
    }
}

/// Mends short strings that follow each other from `at`, with so many bytes of something else behind each.
fn mend_shorts(payload: &mut [u8], mut at: usize, gaps: &[usize]) -> Option<Verdict> {
    let mut verdict = Verdict::Sound;
    for gap in gaps {
        verdict = verdict.max(mend_short(payload, &mut at)?);
        at += gap;
    }
    Some(verdict)
}

/// Mends the short string at `at` and returns it.
fn short_at(payload: &mut [u8], at: usize) -> String {
    let length = payload.get(at).copied().unwrap_or_default().into();
    let Some(text) = payload.get_mut(at + 1..).and_then(|rest| rest.get_mut(..length)) else {
        return String::new();
    };
    mend_text(text);
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0, 7];
        frame.put_u32(payload.len() as u32);
        frame.extend_from_slice(payload);
        frame.put_u8(FRAME_END);
        frame
    }

    fn scan(bytes: &[u8]) -> (Vec<Bytes>, Vec<Note>) {
        let (mut forward, mut notes) = (Vec::new(), Vec::new());
        Scanner::default().scan(&mut BytesMut::from(bytes), &mut forward, &mut notes).unwrap();
        (forward, notes)
    }

    const SOUND_HEADER: &[u8] = &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];

    #[test]
    fn what_is_sound_passes_in_one_piece() {
        let deliver = b"\x00\x3C\x00\x3C\x03tag\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01e\x01k";
        let mut bytes = frame(METHOD, deliver);
        bytes.extend(frame(CONTENT_HEADER, SOUND_HEADER));
        bytes.extend(frame(BODY, b"\xFF"));
        bytes.extend(frame(HEARTBEAT, b""));
        assert_eq!(scan(&bytes).0, [Bytes::from(bytes)]);
    }

    #[test]
    fn a_mended_routing_key_marks_the_message() {
        let deliver = b"\x00\x3C\x00\x3C\x03tag\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01e\x01\xFF";
        let mut bytes = frame(METHOD, deliver);
        bytes.extend(frame(CONTENT_HEADER, SOUND_HEADER));
        bytes.extend(frame(CONTENT_HEADER, SOUND_HEADER));
        let forwarded = scan(&bytes).0.concat();
        let marks = String::from_utf8_lossy(&forwarded).matches("x-pulsehook-mended").count();
        assert_eq!(marks, 1);
    }

    #[test]
    fn blocked_is_noted_and_swallowed_closed_is_noted_and_passed() {
        let mut bytes = frame(METHOD, b"\x00\x0A\x00\x3C\x06memory");
        bytes.extend(frame(METHOD, b"\x00\x0A\x00\x3D"));
        let (forward, notes) = scan(&bytes);
        assert!(forward.is_empty());
        assert_eq!(notes, [Note::Blocked("memory".into()), Note::Unblocked]);
        let close = frame(METHOD, b"\x00\x0A\x00\x32\x01\x93\x03no\xC3\x00\x00\x00\x00");
        let (forward, notes) = scan(&close);
        assert_eq!(forward.concat().len(), close.len());
        assert_eq!(notes, [Note::Closed("no? (403)".into())]);
    }

    proptest! {
        #[test]
        fn anything_can_be_scanned_in_any_pieces(
            frames in prop::collection::vec((prop::sample::select(vec![1_u8, 2, 3, 8]), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            let whole = scan(&bytes);
            let at = cut.index(bytes.len() + 1);
            let (mut forward, mut notes, mut scanner) = (Vec::new(), Vec::new(), Scanner::default());
            let mut received = BytesMut::from(&bytes[..at]);
            scanner.scan(&mut received, &mut forward, &mut notes).unwrap();
            received.extend_from_slice(&bytes[at..]);
            scanner.scan(&mut received, &mut forward, &mut notes).unwrap();
            prop_assert_eq!((forward.concat(), notes), (whole.0.concat(), whole.1));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Scanner::default().scan(&mut BytesMut::from(&bytes[..]), &mut Vec::new(), &mut Vec::new());
        }
    }
}
