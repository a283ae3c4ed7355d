//! Routing keys: any words make a key that the broker takes, of as many words, each of which can be read back unless cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pulse::naming::{escape_word, routing_key, unescape_word};

fuzz_target!(|words: Vec<&str>| {
    for word in &words {
        let escaped = escape_word(word);
        assert!(
            escaped.bytes().all(|byte| byte.is_ascii_graphic() && !b".*#".contains(&byte)),
            "{escaped:?}"
        );
        assert_eq!(unescape_word(&escaped).as_deref(), Some(*word));
    }
    // More words than this do not fit, however short.
    if words.is_empty() || words.len() > 8 {
        return;
    }
    let key = routing_key(words.iter().copied());
    assert!(key.len() <= 255, "{} bytes", key.len());
    assert_eq!(key.split('.').count(), words.len());
});
