//! Which language a task template is in, where its hook doesn't say.

use crate::hook::{Engine, Problem};

/// The language that the markers in a task speak.
pub fn detect(task: &serde_json::Value) -> Result<Engine, Problem> {
    let mut found = Markers::default();
    found.look(task);
    match found {
        Markers { json_e: true, minijinja: true } => Err(Problem::new(
            "templateEngine",
            "must be given (minijinja or json-e), because the task has the markers of both: {{…}} or {%…%}, and ${…} or $operators",
        )),
        Markers { json_e: true, .. } => Ok(Engine::JsonE),
        _ => Ok(Engine::Minijinja),
    }
}

#[derive(Default)]
struct Markers {
    json_e: bool,
    minijinja: bool,
}

/// JSON-e's operators.
pub const OPERATORS: [&str; 16] = [
    "$eval",
    "$flatten",
    "$flattenDeep",
    "$fromNow",
    "$if",
    "$json",
    "$let",
    "$map",
    "$reduce",
    "$find",
    "$match",
    "$switch",
    "$merge",
    "$mergeDeep",
    "$reverse",
    "$sort",
];

impl Markers {
    fn look(&mut self, value: &serde_json::Value) {
        match value {
            serde_json::Value::String(text) => self.text(text),
            serde_json::Value::Array(items) => items.iter().for_each(|item| self.look(item)),
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    self.json_e |= OPERATORS.contains(&key.as_str());
                    self.text(key);
                    self.look(value);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        self.json_e |= text.contains("${");
        self.minijinja |= text.contains("{{") || text.contains("{%");
    }
}
