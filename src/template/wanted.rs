//! Which parts of the context a hook reads.
//!
//! A payload has tens of kilobytes, a template names a handful of its values. What nobody names is checked to be JSON
//! and not kept: that is most of the work of deciding about a message. Only a plain `a.b.c` narrows what is needed; `a[…]`,
//! `a` by itself or an operator on it needs all of `a`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// A key that no payload has: who reads it of a value, reads nothing but that the value is there.
pub const NO_KEY: &str = "\u{0}";

/// For each key everything, or only parts.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    all: bool,
    parts: BTreeMap<Box<str>, Wanted>,
}

impl Wanted {
    /// From dotted names; an empty one stands for everything.
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Wanted {
        let mut root = Wanted::default();
        for name in names {
            let mut at = &mut root;
            for part in name.as_ref().split('.').filter(|part| !part.is_empty()) {
                at = at.parts.entry(part.into()).or_default();
            }
            at.all = true;
        }
        root
    }

    /// All of a value.
    pub fn whole() -> Wanted {
        Wanted { all: true, parts: BTreeMap::new() }
    }

    /// Whether the whole value is read.
    pub fn all(&self) -> bool {
        self.all
    }

    /// Whether nothing of the value is read.
    pub fn nothing(&self) -> bool {
        !self.all && self.parts.is_empty()
    }

    /// What is read of the value under a key.
    pub fn part(&self, key: &str) -> Option<&Wanted> {
        self.parts.get(key)
    }

    /// The parts that are read, by key.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &Wanted)> {
        self.parts.iter().map(|(key, wanted)| (&**key, wanted))
    }

    /// Whether all that the other reads is read here, too.
    pub fn covers(&self, other: &Wanted) -> bool {
        let covered = |(key, wanted): (&str, &Wanted)| match self.part(key) {
            Some(own) => own.covers(wanted),
            // The value itself is there.
            None => key == NO_KEY,
        };
        self.all || (!other.all && other.parts().all(covered))
    }

    /// A context without what isn't named. The names at the top stay, because JSON-e's `defined("headers")` asks for them.
    pub fn prune(&self, context: Map<String, Value>) -> Map<String, Value> {
        context
            .into_iter()
            .map(|(key, value)| {
                let value = match self.part(&key) {
                    Some(wanted) => wanted.value(value),
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
                    let wanted = self.part(&key)?;
                    Some((key, wanted.value(value)))
                })
                .collect::<Map<_, _>>()
                .into(),
            other => other,
        }
    }
}

/// The dotted names that a plain look at a minijinja template with statements can't tell: all of the context that it may
/// mention.
pub fn mentioned(source: &str, names: &mut BTreeSet<String>) {
    for name in super::context::NAMES {
        if source.contains(name) {
            names.insert(name.to_owned());
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
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let context = json!({
            "payload": {"a": {"b": {"all": 1}, "other": 2}, "c": {"d": 1, "e": 2}, "text": "t", "big": [1, 2, 3]},
            "headers": {"h": 1}, "taskId": "t",
        });
        let payload = json!({"a": {"b": {"all": 1}}, "c": {"d": 1, "e": 2}, "text": "t"});
        assert_eq!(
            Value::Object(Wanted::new(&names).prune(context.as_object().unwrap().clone())),
            json!({"payload": payload, "headers": {}, "taskId": "t"})
        );
        let bytes = context["payload"].to_string();
        let wanted = Wanted::new(&names);
        let parsed: Value =
            super::super::payload::parse(bytes.as_bytes(), wanted.part("payload").unwrap()).unwrap();
        assert_eq!(parsed, payload);
    }
}
