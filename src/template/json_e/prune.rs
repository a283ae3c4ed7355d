//! The part of a context that a template names.
//!
//! Only a plain `a.b.c` narrows what is needed; `a[…]`, `a` by itself or an operator on it needs all of `a`. The names at
//! the top always stay, because `defined("payload")` asks for them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// What a template names: for each key everything, or only parts.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    all: bool,
    parts: BTreeMap<String, Wanted>,
}

impl Wanted {
    /// From dotted names.
    pub fn new(names: &BTreeSet<String>) -> Wanted {
        let mut root = Wanted::default();
        for name in names {
            let mut at = &mut root;
            for part in name.split('.') {
                at = at.parts.entry(part.to_owned()).or_default();
            }
            at.all = true;
        }
        root
    }

    /// The context without what isn't named.
    pub fn prune(&self, context: Map<String, Value>) -> Map<String, Value> {
        context
            .into_iter()
            .map(|(key, value)| {
                let value = match self.parts.get(&key) {
                    Some(wanted) => wanted.value(value),
                    // The crate's own look-ups need to find it there, whatever it is.
                    None if value.is_object() => Value::Object(Map::new()),
                    None if value.is_array() => Value::Array(Vec::new()),
                    None => value,
                };
                (key, value)
            })
            .collect()
    }

    fn value(&self, value: Value) -> Value {
        match value {
            Value::Object(map) if !self.all => map
                .into_iter()
                .filter_map(|(key, value)| {
                    let wanted = self.parts.get(&key)?;
                    Some((key, wanted.value(value)))
                })
                .collect::<Map<_, _>>()
                .into(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_named_stays() {
        let names = ["payload.a.b", "payload.c", "payload.c.d", "payload.missing.x", "payload.text.x"];
        let wanted = Wanted::new(&names.iter().map(|name| (*name).to_owned()).collect());
        let context = json!({
            "payload": {"a": {"b": {"all": 1}, "other": 2}, "c": {"d": 1, "e": 2}, "text": "t", "big": [1, 2, 3]},
            "headers": {"h": 1}, "taskId": "t",
        });
        assert_eq!(
            Value::Object(wanted.prune(context.as_object().unwrap().clone())),
            json!({"payload": {"a": {"b": {"all": 1}}, "c": {"d": 1, "e": 2}, "text": "t"}, "headers": {}, "taskId": "t"})
        );
    }
}
