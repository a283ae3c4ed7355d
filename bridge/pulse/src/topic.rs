//! Topic patterns, matched exactly as RabbitMQ's topic exchanges match them.
//!
//! The embedded transport routes with it, and a router must know which of a hook's bindings a message met. Matching
//! takes time proportional to pattern times key at worst, whatever the pattern: `#.#.#.#` costs nothing special, so
//! that a hostile binding stops nobody. A test compares the answers with those of a real broker.

use std::fmt;

/// A compiled binding pattern: words between dots; `*` stands for one word (an empty one too), `#` for any number of
/// words, none included. Any text is a pattern; a `*` or `#` inside a longer word is an ordinary character.
///
/// ```
/// use pulse::topic::Pattern;
/// let pattern = Pattern::new("github.push.#");
/// assert!(pattern.matches("github.push") && pattern.matches("github.push._.mozilla.gecko-dev"));
/// assert!(!pattern.matches("github.pull_request.opened"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
    words: Vec<Word>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Word {
    Literal(Box<str>),
    One,
    Any,
}

impl Pattern {
    /// Compiles a pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        let text = pattern.into();
        let mut words = Vec::new();
        for word in words_of(&text) {
            match word {
                // `#.#` means the same as `#`.
                "#" if words.last() == Some(&Word::Any) => {}
                "#" => words.push(Word::Any),
                "*" => words.push(Word::One),
                literal => words.push(Word::Literal(literal.into())),
            }
        }
        Self { text, words }
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a queue bound with this pattern gets a message with this routing key.
    pub fn matches(&self, routing_key: &str) -> bool {
        let mut key = words_of(routing_key);
        let mut at = 0;
        // Where to go on when what follows the last `#` did not match: let the `#` take one word more. Earlier `#`s need no
        // second try, because what stands between two of them is best matched as early as possible.
        let mut retry = None;
        loop {
            if self.words.get(at) == Some(&Word::Any) {
                at += 1;
                if at == self.words.len() {
                    return true;
                }
                retry = Some((at, key.clone()));
                continue;
            }
            let mut ahead = key.clone();
            let met = match (self.words.get(at), ahead.next()) {
                (None, None) => return true,
                (Some(Word::One), Some(_)) => true,
                (Some(Word::Literal(wanted)), Some(word)) => **wanted == *word,
                _ => false,
            };
            if met {
                at += 1;
                key = ahead;
                continue;
            }
            let Some((after, from)) = retry.as_mut() else { return false };
            if from.next().is_none() {
                return false;
            }
            at = *after;
            key = from.clone();
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The words of a key. An empty key has none, as RabbitMQ sees it, while `.` is two empty ones.
fn words_of(key: &str) -> std::iter::Take<std::str::Split<'_, char>> {
    key.split('.').take(if key.is_empty() { 0 } else { usize::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, key: &str) -> bool {
        Pattern::new(pattern).matches(key)
    }

    #[test]
    fn patterns_match_as_on_the_broker() {
        for (pattern, yes, no) in [
            ("a.b", &["a.b"][..], &["a", "a.b.c", "", "a.B"][..]),
            ("*", &["a"], &["", "a.b"]),
            ("#", &["", "a", "a.b.c", ".", ".."], &[]),
            ("a.*.c", &["a.b.c", "a..c"], &["a.c", "a.b.b.c"]),
            ("a.#", &["a", "a.b", "a.b.c"], &["b", "ab"]),
            ("#.c", &["c", "a.c", "c.c"], &["c.a", ""]),
            ("a.#.c.#.e", &["a.c.e", "a.c.d.c.e"], &["a.e.c", "a.c"]),
            ("#.*", &["a", "a.b"], &[""]),
            ("", &[""], &["a", "."]),
            ("a*.b#", &["a*.b#"], &["ab.b", "a*.b"]),
        ] {
            for key in yes {
                assert!(matches(pattern, key), "{pattern} should match {key:?}");
            }
            for key in no {
                assert!(!matches(pattern, key), "{pattern} should not match {key:?}");
            }
        }
    }

    #[test]
    fn hostile_patterns_cost_nothing_special() {
        let pattern = Pattern::new("#.a.".repeat(60) + "b");
        let key = "a.".repeat(127);
        let started = std::time::Instant::now();
        assert!(!pattern.matches(&key));
        assert!(started.elapsed() < std::time::Duration::from_secs(1));
    }

    /// The definition, word for word, without a thought for cost.
    fn by_definition(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => {
                by_definition(rest, key) || key.split_first().is_some_and(|(_, k)| by_definition(pattern, k))
            }
            (Some((&"*", rest)), Some((_, k))) => by_definition(rest, k),
            (Some((word, rest)), Some((first, k))) => word == first && by_definition(rest, k),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_same_as_the_definition(
            pattern in prop::collection::vec(prop::sample::select(vec!["#", "*", "a", "b", ""]), 0..7),
            key in prop::collection::vec(prop::sample::select(vec!["a", "b", ""]), 0..8),
        ) {
            let (pattern_text, key_text) = (pattern.join("."), key.join("."));
            // One empty word alone cannot be told from no word at all.
            let pattern = if pattern_text.is_empty() { vec![] } else { pattern };
            let key = if key_text.is_empty() { vec![] } else { key };
            prop_assert_eq!(matches(&pattern_text, &key_text), by_definition(&pattern, &key));
        }
    }
}
