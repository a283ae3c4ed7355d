//! AMQP field tables, walked in place.
//!
//! Types and sizes as RabbitMQ has them: <https://www.rabbitmq.com/amqp-0-9-1-errata#section_3>. These are also just
//! the types that amqprs decodes.

/// Tables within tables deeper than this are not decoded: amqprs would recurse as deep.
const MAX_DEPTH: usize = 32;

/// Stands for a byte that is not UTF-8.
const REPLACEMENT: u8 = b'?';

/// What a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// amqprs reads it as it is.
    Sound,
    /// Text that was not UTF-8 has been made so, in place and at the same length.
    Mended,
    /// Of known length, but with something in it that nobody can decode.
    Unreadable,
}

/// Walks the table (its length first) at `at`, mends its text, and moves `at` behind it. `None` if it does not even end
/// within `bytes`.
pub(super) fn mend(bytes: &mut [u8], at: &mut usize) -> Option<Verdict> {
    let body = sized(bytes, at)?;
    Some(entries(body, 0, true).unwrap_or(Verdict::Unreadable))
}

/// Mends the short string (one byte of length) at `at` and moves behind it.
pub(super) fn mend_short(bytes: &mut [u8], at: &mut usize) -> Option<Verdict> {
    let length = usize::from(*bytes.get(*at)?);
    let text = bytes.get_mut(*at + 1..*at + 1 + length)?;
    *at += 1 + length;
    Some(mend_text(text))
}

/// The bytes of a value that begins with its length in four bytes.
fn sized<'a>(bytes: &'a mut [u8], at: &mut usize) -> Option<&'a mut [u8]> {
    let length = bytes.get(*at..*at + 4)?;
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let start = *at + 4;
    let end = start.checked_add(length)?;
    let body = bytes.get_mut(start..end)?;
    *at = end;
    Some(body)
}

/// The entries of a table (`named`) or array; `None` if something in it cannot be decoded.
fn entries(body: &mut [u8], depth: usize, named: bool) -> Option<Verdict> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut verdict = Verdict::Sound;
    let mut at = 0;
    while at < body.len() {
        if named {
            verdict = verdict.max(mend_short(body, &mut at)?);
        }
        verdict = verdict.max(value(body, &mut at, depth)?);
    }
    Some(verdict)
}

fn value(body: &mut [u8], at: &mut usize, depth: usize) -> Option<Verdict> {
    let kind = *body.get(*at)?;
    *at += 1;
    let size = match kind {
        b'S' => return Some(mend_text(sized(body, at)?)),
        b'F' => return entries(sized(body, at)?, depth + 1, true),
        b'A' => return entries(sized(body, at)?, depth + 1, false),
        b'x' => return sized(body, at).map(|_| Verdict::Sound),
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'd' | b'T' => 8,
        _ => return None,
    };
    body.get(*at..*at + size)?;
    *at += size;
    Some(Verdict::Sound)
}

/// Replaces, byte by byte, what is not UTF-8.
pub(super) fn mend_text(text: &mut [u8]) -> Verdict {
    let mut verdict = Verdict::Sound;
    let mut from = 0;
    while let Err(error) = std::str::from_utf8(&text[from..]) {
        let start = from + error.valid_up_to();
        let end = error.error_len().map_or(text.len(), |length| start + length);
        text[start..end].fill(REPLACEMENT);
        from = end;
        verdict = Verdict::Mended;
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(body: &[u8]) -> Vec<u8> {
        let mut table = (body.len() as u32).to_be_bytes().to_vec();
        table.extend_from_slice(body);
        table
    }

    fn walk(bytes: &mut [u8]) -> Option<Verdict> {
        let mut at = 0;
        let verdict = mend(bytes, &mut at);
        if verdict.is_some() {
            assert_eq!(at, bytes.len());
        }
        verdict
    }

    #[test]
    fn every_type_is_walked() {
        let mut body = Vec::new();
        for (kind, size) in [
            (b'V', 0),
            (b't', 1),
            (b'b', 1),
            (b'B', 1),
            (b's', 2),
            (b'u', 2),
            (b'I', 4),
            (b'i', 4),
            (b'f', 4),
            (b'D', 5),
            (b'l', 8),
            (b'd', 8),
            (b'T', 8),
        ] {
            body.extend_from_slice(&[1, b'k', kind]);
            body.extend(std::iter::repeat_n(0xFF, size));
        }
        body.extend_from_slice(b"\x01bx\x00\x00\x00\x02\xFF\xFE");
        assert_eq!(walk(&mut table(&body)), Some(Verdict::Sound));
    }

    #[test]
    fn text_is_mended_wherever_it_is() {
        let inner = table(b"\x02\xFFkS\x00\x00\x00\x03a\xC3b");
        let mut array = b"F".to_vec();
        array.extend_from_slice(&inner);
        let mut body = b"\x01aA".to_vec();
        body.extend_from_slice(&table(&array));
        let mut bytes = table(&body);
        assert_eq!(walk(&mut bytes), Some(Verdict::Mended));
        assert!(bytes.windows(3).any(|w| w == b"a?b") && bytes.windows(2).any(|w| w == b"?k"));
        assert_eq!(walk(&mut bytes), Some(Verdict::Sound));
    }

    #[test]
    fn what_nobody_decodes_is_unreadable_and_a_wrong_length_has_no_end() {
        assert_eq!(walk(&mut table(b"\x01aQ")), Some(Verdict::Unreadable));
        assert_eq!(walk(&mut table(b"\x01aS\x00\x00\x00\x09x")), Some(Verdict::Unreadable));
        assert_eq!(walk(&mut [0, 0, 0, 9, 1]), None);
        let mut deep = Vec::new();
        for _ in 0..100 {
            let inner = table(&deep);
            deep = b"\x01aF".to_vec();
            deep.extend_from_slice(&inner);
        }
        assert_eq!(walk(&mut table(&deep)), Some(Verdict::Unreadable));
    }

    proptest! {
        #[test]
        fn anything_can_be_walked_and_is_sound_afterwards(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = table(&body);
            if walk(&mut bytes) == Some(Verdict::Mended) {
                prop_assert_eq!(walk(&mut bytes), Some(Verdict::Sound));
            }
        }
    }
}
