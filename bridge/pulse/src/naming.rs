//! Names on pulse: exchanges, queues, and routing keys made of arbitrary text.
//!
//! Mozilla's rule is that a pulse user may declare only what begins with `exchange/<user>/` and `queue/<user>/`, and AMQP
//! allows 255 bytes for any name or routing key. Text from outside (repository names, event names) meets both limits
//! here: words are escaped so that a dot in a branch name cannot shift the words behind it, and whatever would be too
//! long is cut and carries a hash, so that two long names never become one.

use sha2::{Digest, Sha256};

/// The longest name or routing key that AMQP can carry (a "short string"), in bytes.
pub const MAX_NAME: usize = 255;

/// The shortest length to which a word of a routing key is cut; room for the mark, the hash and a recognisable beginning.
const SHORTEST_CUT: usize = 24;

/// So many words of [`SHORTEST_CUT`] bytes, with their dots, always fit into a key.
const MOST_WORDS: usize = 10;

/// Stands between what is left of a cut word or name and its hash.
const CUT_MARK: char = '~';

/// Hex digits of the hash on a cut name: 128 bits, beyond accident and beyond making one deliberately.
const NAME_HASH_DIGITS: usize = 32;

/// Hex digits of the hash on a cut word: short, as it shares 255 bytes with the other words.
const WORD_HASH_DIGITS: usize = 16;

/// The exchange of a pulse user: `exchange/<user>/v1/<what>`, cut with a hash beyond [`MAX_NAME`] bytes.
pub fn exchange(user: &str, what: &str) -> String {
    fit_name(format!("exchange/{user}/v1/{what}"))
}

/// The queue of one hook: `queue/<user>/<group>/<hook>`, cut with a hash beyond [`MAX_NAME`] bytes.
///
/// Hook group ids hold no slash, so that two hooks never share a name, even though hook ids may hold one.
pub fn queue(user: &str, group: &str, hook: &str) -> String {
    fit_name(format!("queue/{user}/{group}/{hook}"))
}

/// A queue that belongs to no hook, such as `queue/<user>/undeliverable`.
pub fn own_queue(user: &str, what: &str) -> String {
    fit_name(format!("queue/{user}/{what}"))
}

/// Whether AMQP can carry the name; the error calls it `what`.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.len() > MAX_NAME {
        return Err(format!("{what} has {} bytes, {MAX_NAME} are allowed: {name:.60}…", name.len()));
    }
    Ok(())
}

fn fit_name(name: String) -> String {
    if name.len() <= MAX_NAME {
        return name;
    }
    let mut keep = MAX_NAME - NAME_HASH_DIGITS - CUT_MARK.len_utf8();
    while !name.is_char_boundary(keep) {
        keep -= 1;
    }
    format!("{}{CUT_MARK}{}", &name[..keep], hash(&name, NAME_HASH_DIGITS))
}

/// One word of a routing key: `.`, `%`, `*`, `#` and every byte outside printable ASCII (the space too) become `%XX`.
///
/// ```
/// assert_eq!(pulse::naming::escape_word("v1.2 β"), "v1%2E2%20%CE%B2");
/// ```
pub fn escape_word(word: &str) -> String {
    let mut escaped = String::with_capacity(word.len());
    for byte in word.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'.' | b'%' | b'*' | b'#') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The text that [`escape_word`] was given. `None` for what it never makes: an incomplete escape, or bytes that are not
/// UTF-8. A word that was cut comes back as it is, with its hash.
pub fn unescape_word(word: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = tail.get(..2).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// A routing key of these words, each escaped, at most [`MAX_NAME`] bytes.
///
/// When it would be longer, the longest words are cut, all to the same length, and each cut word ends in `~` and a hash
/// of the whole word; words that fit stay as they are, so that patterns on them go on matching. More than ten
/// words are then made ten, the last being all the rest.
///
/// ```
/// assert_eq!(pulse::naming::routing_key(["github", "push", "_", "mozilla", "gecko.dev"]),
///            "github.push._.mozilla.gecko%2Edev");
/// ```
pub fn routing_key<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut escaped: Vec<String> = words.into_iter().map(escape_word).collect();
    let key = escaped.join(".");
    if key.len() <= MAX_NAME {
        return key;
    }
    if escaped.len() > MOST_WORDS {
        // The dots between the merged words are escaped too, or they would still count as words.
        let rest = escaped.split_off(MOST_WORDS - 1).join("%2E");
        escaped.push(rest);
    }
    let room = MAX_NAME - (escaped.len() - 1);
    let longest = (SHORTEST_CUT..=MAX_NAME)
        .rev()
        .find(|limit| escaped.iter().map(|word| word.len().min(*limit)).sum::<usize>() <= room)
        .unwrap_or(SHORTEST_CUT);
    let fitted: Vec<String> = escaped.into_iter().map(|word| cut_word(word, longest)).collect();
    fitted.join(".")
}

fn cut_word(word: String, longest: usize) -> String {
    if word.len() <= longest {
        return word;
    }
    let mut keep = longest - WORD_HASH_DIGITS - CUT_MARK.len_utf8();
    // Half an escape would not be one: `%2` and then the mark.
    if let Some(percent) = word[..keep].rfind('%')
        && percent + 3 > keep
    {
        keep = percent;
    }
    format!("{}{CUT_MARK}{}", &word[..keep], hash(&word, WORD_HASH_DIGITS))
}

fn hash(text: &str, digits: usize) -> String {
    let mut hex = hex::encode(Sha256::digest(text));
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_follow_the_rules_of_pulse() {
        assert_eq!(exchange("pulsehook", "webhook"), "exchange/pulsehook/v1/webhook");
        assert_eq!(queue("pulsehook", "releng", "nightly/linux"), "queue/pulsehook/releng/nightly/linux");
        assert_eq!(own_queue("pulsehook", "scheduler"), "queue/pulsehook/scheduler");
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let one = queue("u", &"g".repeat(200), &format!("{}1", "h".repeat(200)));
        let two = queue("u", &"g".repeat(200), &format!("{}2", "h".repeat(200)));
        assert_eq!((one.len(), two.len()), (MAX_NAME, MAX_NAME));
        assert_ne!(one, two);
        assert!(one.starts_with("queue/u/ggg"));
    }

    #[test]
    fn only_words_that_do_not_fit_are_cut() {
        let long = "x.".repeat(200);
        let key = routing_key(["github", "push", &long]);
        assert!(key.starts_with("github.push.x%2Ex%2E"), "{key}");
        assert!(key.len() <= MAX_NAME && key.len() > MAX_NAME - 4, "{}", key.len());
        assert_ne!(key, routing_key(["github", "push", &format!("{long}y")]));
    }

    #[test]
    fn many_words_still_fit() {
        let words: Vec<String> = (0..200).map(|n| format!("word{n}")).collect();
        let key = routing_key(words.iter().map(String::as_str));
        assert!(key.len() <= MAX_NAME);
        assert!(key.starts_with("word0.word1.word2."));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for broken in ["%", "%2", "%zz", "a%+1", "%FF"] {
            assert_eq!(unescape_word(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn escaping_is_reversible_and_harmless(word in any::<String>()) {
            let escaped = escape_word(&word);
            prop_assert!(escaped.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'.' | b'*' | b'#')));
            prop_assert_eq!(unescape_word(&escaped), Some(word));
        }

        #[test]
        fn unescaping_never_panics(word in any::<String>()) {
            let _ = unescape_word(&word);
        }

        #[test]
        fn keys_fit_and_are_exact_where_nothing_was_cut(words in prop::collection::vec(any::<String>(), 1..15)) {
            let key = routing_key(words.iter().map(String::as_str));
            prop_assert!(key.len() <= MAX_NAME);
            if !key.contains('~') {
                let back: Vec<_> = key.split('.').map(|w| unescape_word(w).unwrap()).collect();
                prop_assert_eq!(back, words);
            }
        }
    }
}
