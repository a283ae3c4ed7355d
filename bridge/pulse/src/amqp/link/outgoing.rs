//! amqprs's frames on their way to the broker.
//!
//! When the broker closes a channel, amqprs agrees (`channel.close-ok`) while whoever publishes or acknowledges on it may
//! not know yet. A frame that follows on that channel would make the broker close the whole connection, so it is dropped
//! here: its message is unconfirmed, its acknowledgement void, as they would be anyway.

use std::collections::HashSet;

use bytes::{Buf, Bytes, BytesMut};

use super::frames::{HEADER, METHOD};

/// Class and method follow a method frame's header.
const METHOD_ID: usize = 4;

const CHANNEL_OPEN: [u8; 4] = [0, 20, 0, 10];
const CHANNEL_CLOSE_OK: [u8; 4] = [0, 20, 0, 41];

/// Looks at the beginning of every frame to the broker.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Bytes of the current frame that are still to come.
    left: usize,
    /// Whether the current frame is dropped.
    dropping: bool,
    /// Channels that the broker has closed. At most as many as there are numbers.
    closed: HashSet<u16>,
}

impl Outgoing {
    /// Takes what can be judged out of `received` and puts what may go out into `forward`, without a copy.
    pub fn pass(&mut self, received: &mut BytesMut, forward: &mut Vec<Bytes>) {
        let mut passed = 0;
        loop {
            if self.left == 0 {
                let Some((size, dropping)) = self.judge(&received[passed..]) else { break };
                (self.left, self.dropping) = (size, dropping);
            }
            let here = self.left.min(received.len() - passed);
            if here == 0 {
                break;
            }
            self.left -= here;
            if self.dropping {
                if passed > 0 {
                    forward.push(received.split_to(passed).freeze());
                    passed = 0;
                }
                received.advance(here);
            } else {
                passed += here;
            }
        }
        if passed > 0 {
            forward.push(received.split_to(passed).freeze());
        }
    }

    /// Whether other frames may go out now.
    pub fn is_between_frames(&self) -> bool {
        self.left == 0
    }

    /// Whether the broker has closed the channel, and amqprs has agreed.
    pub fn is_closed(&self, channel: u16) -> bool {
        self.closed.contains(&channel)
    }

    /// The size of the frame that begins here and whether it is to be dropped; `None` until enough of it is there.
    fn judge(&mut self, bytes: &[u8]) -> Option<(usize, bool)> {
        let header = bytes.first_chunk::<HEADER>()?;
        let channel = u16::from_be_bytes([header[1], header[2]]);
        let payload = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
        let size = HEADER + payload + 1;
        let was_closed = self.closed.contains(&channel);
        if header[0] != METHOD || payload < METHOD_ID {
            return Some((size, was_closed));
        }
        let method = bytes.get(HEADER..HEADER + METHOD_ID)?;
        if method == CHANNEL_CLOSE_OK {
            self.closed.insert(channel);
        } else if method == CHANNEL_OPEN {
            self.closed.remove(&channel);
            return Some((size, false));
        }
        Some((size, was_closed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use proptest::prelude::*;

    fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind];
        frame.put_u16(channel);
        frame.put_u32(payload.len() as u32);
        frame.extend_from_slice(payload);
        frame.put_u8(0xCE);
        frame
    }

    const PUBLISH: &[u8] = &[0, 60, 0, 40, 1, 2, 3];

    #[test]
    fn nothing_follows_on_a_closed_channel() {
        let sent = [
            frame(1, 1, PUBLISH),
            frame(1, 1, &CHANNEL_CLOSE_OK),
            frame(1, 1, PUBLISH),
            frame(2, 1, b"header"),
            frame(3, 1, b"body"),
            frame(1, 2, PUBLISH),
            frame(8, 0, b""),
            frame(1, 1, &CHANNEL_OPEN),
            frame(1, 1, PUBLISH),
        ];
        let wanted: Vec<u8> = [0, 1, 5, 6, 7, 8].iter().flat_map(|n| sent[*n].clone()).collect();
        let mut forward = Vec::new();
        Outgoing::default().pass(&mut BytesMut::from(&sent.concat()[..]), &mut forward);
        assert_eq!(forward.concat(), wanted);
    }

    #[test]
    fn the_usual_case_is_one_piece() {
        let sent = [frame(1, 1, PUBLISH), frame(2, 1, b"header"), frame(3, 1, &[0; 1000])].concat();
        let mut forward = Vec::new();
        Outgoing::default().pass(&mut BytesMut::from(&sent[..]), &mut forward);
        assert_eq!(forward, [Bytes::from(sent)]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_arrive(
            frames in prop::collection::vec((1..4_u8, 0..3_u16, prop::sample::select(vec![0, 1, 2, 3])), 0..12),
            piece in 1..40_usize,
        ) {
            let payloads: [&[u8]; 4] = [PUBLISH, &CHANNEL_CLOSE_OK, &CHANNEL_OPEN, b"x"];
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, channel, n)| frame(*kind, *channel, payloads[*n])).collect();
            let mut whole = Vec::new();
            Outgoing::default().pass(&mut BytesMut::from(&bytes[..]), &mut whole);
            let (mut outgoing, mut received, mut forward) = (Outgoing::default(), BytesMut::new(), Vec::new());
            for piece in bytes.chunks(piece) {
                received.extend_from_slice(piece);
                outgoing.pass(&mut received, &mut forward);
            }
            prop_assert_eq!(forward.concat(), whole.concat());
        }
    }
}
