//! Scopes: strings of printable ASCII, where a final `*` stands for every scope with that prefix. There is no
//! other wildcard; a `*` elsewhere is itself.

use std::collections::BTreeSet;

/// Scopes listed in one refusal; a client with thousands needs no list of them all.
const MAX_LISTED: usize = 100;

/// Longest scope that is looked at, in bytes.
pub const MAX_SCOPE: usize = 4096;

/// Whether a scope is well formed.
pub fn valid(scope: &str) -> bool {
    scope.len() <= MAX_SCOPE && scope.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// Whether having `have` is enough where `need` is needed. A needed pattern is satisfied when everything that it
/// stands for is; this is stricter than comparing text for scopes that end in `**`, which Taskcluster discourages.
pub fn satisfies(have: &str, need: &str) -> bool {
    match have.strip_suffix('*') {
        Some(prefix) => need.strip_suffix('*').unwrap_or(need).starts_with(prefix),
        None => have == need,
    }
}

/// A set of scopes without redundancy, sorted: none is satisfied by another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeSet(Vec<String>);

impl ScopeSet {
    /// The set that satisfies exactly what these scopes satisfy.
    pub fn new<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> Self {
        let sorted: BTreeSet<String> = scopes.into_iter().map(Into::into).collect();
        let patterns: Vec<String> = sorted.iter().filter(|scope| scope.ends_with('*')).cloned().collect();
        let covered =
            |scope: &String| patterns.iter().any(|pattern| pattern != scope && satisfies(pattern, scope));
        Self(sorted.into_iter().filter(|scope| !covered(scope)).collect())
    }

    /// The scopes, sorted.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Whether the set is enough where `need` is needed.
    pub fn satisfies(&self, need: &str) -> bool {
        self.0.iter().any(|have| satisfies(have, need))
    }

    /// Whether the set is enough where all of these are needed; the error names `client_id` and lists what is missing.
    pub fn require(&self, client_id: &str, needed: &[String]) -> Result<(), Insufficient> {
        let missing: Vec<String> = needed.iter().filter(|need| !self.satisfies(need)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Insufficient { client_id: client_id.to_owned(), missing, have: self.0.clone() })
    }
}

/// A refusal for want of scopes. Its text is the message of a 403 `InsufficientScopes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insufficient {
    /// Who was refused.
    pub client_id: String,
    /// What is missing.
    pub missing: Vec<String>,
    /// What the client has.
    pub have: Vec<String>,
}

impl std::error::Error for Insufficient {}

impl std::fmt::Display for Insufficient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "Client ID {} does not have sufficient scopes and is missing the following scopes:\n",
            self.client_id
        )?;
        list(f, &self.missing)?;
        write!(f, "\nThe client has the following scopes:\n\n")?;
        list(f, &self.have)
    }
}

fn list(f: &mut std::fmt::Formatter<'_>, scopes: &[String]) -> std::fmt::Result {
    writeln!(f, "```")?;
    for scope in scopes.iter().take(MAX_LISTED) {
        writeln!(f, "{scope}")?;
    }
    if scopes.len() > MAX_LISTED {
        writeln!(f, "… and {} more", scopes.len() - MAX_LISTED)?;
    }
    writeln!(f, "```")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_final_star_is_a_pattern() {
        assert!(satisfies("a:*", "a:b"));
        assert!(satisfies("a:*", "a:"));
        assert!(satisfies("*", "anything"));
        assert!(satisfies("a:*", "a:b*"));
        assert!(satisfies("a*", "a*"));
        assert!(!satisfies("a:*", "a"));
        assert!(!satisfies("a:b", "a:b*"));
        assert!(!satisfies("a*b", "axb"));
        assert!(!satisfies("a", "ab"));
        assert!(!satisfies("", "a"));
        // `a**` has only what begins with `a*`.
        assert!(satisfies("a**", "a*b") && satisfies("a*", "a**") && !satisfies("a**", "a*"));
    }

    #[test]
    fn a_refusal_lists_what_is_missing_and_what_there_is() {
        let set = ScopeSet::new(["b", "a*"]);
        set.require("me", &["ax".into(), "b".into()]).unwrap();
        let refusal = set.require("me", &["ax".into(), "c".into()]).unwrap_err();
        assert_eq!(refusal.missing, ["c"]);
        let text = refusal.to_string();
        assert!(
            text.contains("Client ID me") && text.contains("```\nc\n```") && text.contains("```\na*\nb\n```")
        );
        let many = ScopeSet::new((0..200).map(|n| n.to_string()));
        assert!(many.require("me", &["x".into()]).unwrap_err().to_string().contains("… and 100 more"));
    }

    fn scope() -> impl Strategy<Value = String> {
        "[ab:*]{0,4}"
    }

    proptest! {
        #[test]
        fn satisfaction_is_reflexive_and_transitive(a in scope(), b in scope(), c in scope()) {
            prop_assert!(satisfies(&a, &a));
            if satisfies(&a, &b) && satisfies(&b, &c) {
                prop_assert!(satisfies(&a, &c));
            }
        }

        #[test]
        fn a_set_means_what_its_scopes_mean(scopes in prop::collection::vec(scope(), 0..8), need in scope()) {
            let set = ScopeSet::new(scopes.clone());
            prop_assert_eq!(set.satisfies(&need), scopes.iter().any(|have| satisfies(have, &need)));
            for one in set.as_slice() {
                prop_assert_eq!(set.as_slice().iter().filter(|have| satisfies(have, one)).count(), 1);
            }
        }
    }
}
