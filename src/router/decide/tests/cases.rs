//! Whole cases as files: `tests/cases/**/*.yml`, each a hook and messages with what becomes of them.

#[test]
fn none() {}
