//! Which minijinja templates may render in the process itself.
//!
//! Fuel bounds instructions and bytes made, but not comparisons: two values that share their parts (`[x, x]` again and
//! again) take time exponential in their size to compare, and no fuel. Such values come from repeating lists (`*`) and
//! from variables, so a template that has them renders in a worker process, which can be stopped. Loops in strings
//! compare what the payload holds, again and again: with a large payload they go there, too.

/// Payloads up to this size, in bytes, can be compared some ten thousand times in well under a second.
pub const SMALL_PAYLOAD: usize = 64 << 10;

/// How far a template can be trusted to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// Fuel bounds it.
    None,
    /// Fuel bounds it as long as the payload is small.
    LargePayload,
    /// Only a process that can be killed bounds it.
    Always,
}

impl Isolation {
    /// What a string of a template needs.
    pub fn of(source: &str) -> Isolation {
        let statements = source.contains("{%");
        // Without braces it is the bare expression of a key.
        let repeats = source.contains('*') && (repeats(source) || !source.contains("{{") && !statements);
        let defines = ["set", "with", "macro", "call", "filter", "import", "include", "recursive"];
        if repeats || (statements && defines.iter().any(|word| source.contains(word))) {
            return Isolation::Always;
        }
        if statements || ["select", "reject", "map", "unique"].iter().any(|word| source.contains(word)) {
            return Isolation::LargePayload;
        }
        Isolation::None
    }

    /// Whether a render with a payload of so many bytes needs a worker.
    pub fn needs_worker(self, payload: usize) -> bool {
        match self {
            Isolation::None => false,
            Isolation::LargePayload => payload > SMALL_PAYLOAD,
            Isolation::Always => true,
        }
    }
}

/// Whether there is a `*` inside braces; one in the text around them is just text.
fn repeats(source: &str) -> bool {
    let mut rest = source;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let inner = &rest[start + 2..];
        let end = inner.find("}}").into_iter().chain(inner.find("%}")).min().unwrap_or(inner.len());
        if inner[..end].contains('*') {
            return true;
        }
        rest = &inner[end..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_templates_stay_and_others_go() {
        for (source, expected) in [
            ("{{ payload.ref }} and {{ now }}", Isolation::None),
            ("* {{ payload.ref | basename }} *", Isolation::None),
            ("{% if payload.a == payload.b %}x{% endif %}", Isolation::LargePayload),
            ("{{ payload.l | map('upper') | join }}", Isolation::LargePayload),
            ("{{ [1] * 1000 }}", Isolation::Always),
            ("[payload.x] * 1000 == 1", Isolation::Always),
            ("{% set x = 1 %}{{ x }}", Isolation::Always),
        ] {
            assert_eq!(Isolation::of(source), expected, "{source}");
        }
        assert!(Isolation::LargePayload.needs_worker(SMALL_PAYLOAD + 1));
        assert!(!Isolation::LargePayload.needs_worker(SMALL_PAYLOAD));
    }
}
