//! Topic patterns: what the matcher says is what the definition says (`*` one word, `#` any number of them).
//!
//! That the broker says the same is tested with a real one, in `bridge/pulse/tests/conformance`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pulse::topic::Pattern;

/// The definition, by recursion.
fn matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), None) => matches(rest, key),
        (Some((&"#", rest)), Some((_, later))) => matches(rest, key) || matches(pattern, later),
        (Some((&"*", rest)), Some((_, later))) => matches(rest, later),
        (Some((word, rest)), Some((same, later))) if word == same => matches(rest, later),
        _ => false,
    }
}

fuzz_target!(|input: (&[u8], &[u8])| {
    // Few letters and words, so that they meet; the recursion is exponential in the number of words.
    let text = |bytes: &[u8], letters: &[u8]| -> String {
        bytes.iter().take(12).map(|byte| char::from(letters[usize::from(*byte) % letters.len()])).collect()
    };
    let (pattern, key) = (text(input.0, b"a.*#b"), text(input.1, b"a.b"));
    let split = |text: &str| -> Vec<String> {
        if text.is_empty() { Vec::new() } else { text.split('.').map(str::to_owned).collect() }
    };
    let (words, keys) = (split(&pattern), split(&key));
    let expected = matches(
        &words.iter().map(String::as_str).collect::<Vec<_>>(),
        &keys.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    assert_eq!(Pattern::new(pattern.as_str()).matches(&key), expected, "{pattern:?} on {key:?}");
});
