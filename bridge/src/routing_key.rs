//! Routing keys of webhook events: `<source>.<event>` and the provider's fixed words, so that a pattern such as
//! `github.push._.mozilla.*` always means the same positions.

/// What stands for a word that an event does not have.
pub const NO_WORD: &str = "_";

/// Longest routing key in AMQP 0-9-1, in bytes.
pub const MAX_BYTES: usize = 255;

/// The routing key of these words, each escaped; a word that would not fit is cut and carries a hash.
pub fn routing_key<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    naming::routing_key(&words)
}

/// In place of `pulse::naming` until it is there.
mod naming {
    use sha2::{Digest, Sha256};

    use super::{MAX_BYTES, NO_WORD};

    /// Bytes of a cut word's mark: `~` and 16 hexadecimal digits.
    const MARK_BYTES: usize = 17;

    pub fn routing_key(words: &[&str]) -> String {
        let escaped: Vec<String> = words.iter().map(|word| escape(word)).collect();
        let dots = escaped.len().saturating_sub(1);
        if escaped.iter().map(String::len).sum::<usize>() + dots <= MAX_BYTES {
            return escaped.join(".");
        }
        // Each word gets its share of the room; what short words leave over goes to the long ones.
        let mut order: Vec<usize> = (0..escaped.len()).collect();
        order.sort_by_key(|&index| escaped[index].len());
        let mut left = MAX_BYTES - dots;
        let mut result = escaped.clone();
        for (done, index) in order.into_iter().enumerate() {
            let share = left / (escaped.len() - done);
            if result[index].len() > share {
                result[index] = cut(&escaped[index], share);
            }
            left -= result[index].len();
        }
        result.join(".")
    }

    fn escape(word: &str) -> String {
        if word.is_empty() {
            return NO_WORD.to_owned();
        }
        let mut escaped = String::with_capacity(word.len());
        for byte in word.bytes() {
            match byte {
                b'.' | b'%' | b'*' | b'#' | 0..=0x20 | 0x7f.. => escaped.push_str(&format!("%{byte:02X}")),
                plain => escaped.push(char::from(plain)),
            }
        }
        escaped
    }

    fn cut(word: &str, share: usize) -> String {
        let digest = hex::encode(&Sha256::digest(word.as_bytes())[..8]);
        let mut end = share.saturating_sub(MARK_BYTES).min(word.len());
        // Never in the middle of an escape.
        if let Some(escape) = word[..end].rfind('%')
            && end - escape < 3
        {
            end = escape;
        }
        format!("{}~{digest}", &word[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_positions_and_keys_their_bound() {
        assert_eq!(
            routing_key(["github", "push", "_", "mozilla", "gecko-dev"]),
            "github.push._.mozilla.gecko-dev"
        );
        assert_eq!(routing_key(["s", "a.b", "", "*#%", "ü x"]), "s.a%2Eb._.%2A%23%25.%C3%BC%20x");
        let long = ".".repeat(300);
        let key = routing_key(["s", "event", &long, &"x".repeat(300)]);
        assert!(key.len() <= MAX_BYTES && key.split('.').count() == 4, "{key}");
        assert_ne!(key, routing_key(["s", "event", &long, &"x".repeat(301)]));
    }
}
