//! Where two JSON documents differ: for `--expect` and for cases.

use std::fmt;

use serde_json::Value;

use crate::hook::problem::child;

/// One place where the documents differ.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Difference {
    /// The place, e.g. `task.payload.env.REV`.
    pub path: String,
    /// What was expected there; `None`: nothing.
    pub expected: Option<Value>,
    /// What is there; `None`: nothing.
    pub actual: Option<Value>,
}

/// Lines as in a unified diff, after the place.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path)?;
        if let Some(expected) = &self.expected {
            writeln!(f, "- {expected}")?;
        }
        if let Some(actual) = &self.actual {
            writeln!(f, "+ {actual}")?;
        }
        Ok(())
    }
}

/// All differences, in the order of the keys. With `subset`, keys that are only in `actual` don't count.
pub fn differences(path: &str, expected: &Value, actual: &Value, subset: bool) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(path, Some(expected), Some(actual), subset, &mut found);
    found
}

fn compare(
    path: &str,
    expected: Option<&Value>,
    actual: Option<&Value>,
    subset: bool,
    found: &mut Vec<Difference>,
) {
    match (expected, actual) {
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            let only_right = right.keys().filter(|key| !subset && !left.contains_key(*key));
            for key in left.keys().chain(only_right) {
                compare(&child(path, key), left.get(key), right.get(key), subset, found);
            }
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) => {
            for index in 0..left.len().max(right.len()) {
                compare(&format!("{path}[{index}]"), left.get(index), right.get(index), subset, found);
            }
        }
        (left, right) if left == right => {}
        (left, right) => {
            found.push(Difference { path: path.to_owned(), expected: left.cloned(), actual: right.cloned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_found_with_their_places() {
        let expected = json!({"a": 1, "b": [1, 2], "c": {"d": null}, "same": true});
        let actual = json!({"a": 2, "b": [1], "c": {"d": null, "e": 1}, "same": true});
        let texts = |subset| {
            differences("task", &expected, &actual, subset)
                .iter()
                .map(Difference::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(texts(false), ["task.a\n- 1\n+ 2\n", "task.b[1]\n- 2\n", "task.c.e\n+ 1\n"]);
        assert_eq!(texts(true), ["task.a\n- 1\n+ 2\n", "task.b[1]\n- 2\n"]);
        assert!(differences("task", &expected, &expected, false).is_empty());
    }
}
