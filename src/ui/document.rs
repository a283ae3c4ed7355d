//! A hook's definition as the text that people edit: YAML, in the order in which one reads a hook, and back.

use std::time::Duration;

use serde_json::{Map, Value, json};
use similar::{ChangeTag, TextDiff};

use crate::hook::{HookFile, HookName, Located, Problem, ReadError};

/// The order of the parts.
const ORDER: [&str; 11] = [
    "hookGroupId",
    "hookId",
    "metadata",
    "bindings",
    "schedule",
    "catchUp",
    "paused",
    "filter",
    "triggerSchema",
    "templateEngine",
    "task",
];

const METADATA: [&str; 4] = ["name", "description", "owner", "emailOnError"];

/// Lines around a change.
const CONTEXT: usize = 3;

/// Two texts that are very different are compared for so long; then the diff is coarser.
const DIFF_TIME: Duration = Duration::from_millis(300);

/// The definition as a file that `pulsehook apply` takes.
pub(super) fn to_file(definition: &Value) -> String {
    let Some(fields) = definition.as_object() else { return format!("{definition:#}\n") };
    let others = fields.keys().map(String::as_str).filter(|key| !ORDER.contains(key));
    let mut text = String::new();
    for key in ORDER.into_iter().chain(others) {
        let Some(value) = fields.get(key) else { continue };
        let value = if key == "metadata" { ordered(value) } else { one(key, value) };
        text.push_str(&value);
    }
    text
}

/// The same without the name, which a hook that is there cannot change.
pub(super) fn to_text(definition: &Value) -> String {
    let mut definition = definition.clone();
    if let Some(fields) = definition.as_object_mut() {
        fields.remove("hookGroupId");
        fields.remove("hookId");
    }
    to_file(&definition)
}

/// What people are made to read first stands first.
fn ordered(metadata: &Value) -> String {
    let Some(fields) = metadata.as_object() else { return one("metadata", metadata) };
    let others = fields.keys().map(String::as_str).filter(|key| !METADATA.contains(key));
    let mut text = "metadata:\n".to_owned();
    for key in METADATA.into_iter().chain(others) {
        let Some(value) = fields.get(key) else { continue };
        for line in one(key, value).lines() {
            text.push_str("  ");
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn one(key: &str, value: &Value) -> String {
    let map = Map::from_iter([(key.to_owned(), value.clone())]);
    let yaml = serde_saphyr::to_string(&map).ok();
    // Whatever the serializer makes of odd strings, the text must mean the same; JSON always does, and is YAML, too.
    let same = |text: &String| {
        crate::hook::parse_document(text).is_ok_and(|read| read == Value::Object(map.clone()))
    };
    match yaml.filter(same) {
        Some(yaml) => yaml,
        None => format!("{}: {value}\n", Value::from(key)),
    }
}

/// A text that somebody has typed, read as a definition.
pub(super) struct Typed {
    file: Option<HookFile>,
    /// The definition, complete: what is absent is as a new hook has it.
    pub definition: Value,
}

impl Typed {
    /// Reads a text; a fault of its syntax has its line.
    pub fn read(text: &str) -> Result<Self, Vec<Located>> {
        let file = HookFile::parse(text).map_err(|error| vec![syntax(&error)])?;
        let mut definition = file.value().clone();
        let Some(fields) = definition.as_object_mut() else {
            let problem = Problem::new("", "a hook is a mapping with metadata, bindings, task …");
            return Err(vec![Located { line: 1, problem }]);
        };
        // An update without bindings would keep the former ones; who deleted the lines means none.
        fields.entry("bindings").or_insert(json!([]));
        Ok(Self { file: Some(file), definition })
    }

    /// The name that the text gives its hook, if it gives any.
    pub fn name(&self) -> Option<Result<HookName, Problem>> {
        let has = |key: &str| self.definition.get(key).is_some();
        (has("hookGroupId") || has("hookId")).then(|| match &self.file {
            Some(file) => file.name(),
            None => Err(Problem::new("hookId", "is not known")),
        })
    }

    /// Faults with the lines on which they stand.
    pub fn locate(&self, problems: &[Problem]) -> Vec<Located> {
        match &self.file {
            Some(file) => file.locate(problems),
            None => problems.iter().map(|problem| Located { line: 1, problem: problem.clone() }).collect(),
        }
    }
}

fn syntax(error: &ReadError) -> Located {
    let (line, message) = match error {
        ReadError::Syntax { line, column, message } => (*line, format!("column {column}: {message}")),
        other => (1, other.to_string()),
    };
    Located { line, problem: Problem::new("", message) }
}

/// What differs, line by line: `[{tone, sign, text}]`, with a gap where lines are left out; empty if nothing does.
pub(super) fn diff(old: &str, new: &str) -> Vec<Value> {
    let diff = TextDiff::configure().timeout(DIFF_TIME).diff_lines(old, new);
    let mut lines = Vec::new();
    for (index, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if index > 0 {
            lines.push(json!({ "tone": "gap", "sign": "", "text": "…" }));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (tone, sign) = match change.tag() {
                ChangeTag::Delete => ("removed", "−"),
                ChangeTag::Insert => ("added", "+"),
                ChangeTag::Equal => ("same", " "),
            };
            let text = change.value().trim_end_matches('\n');
            lines.push(json!({ "tone": tone, "sign": sign, "text": text }));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_becomes_text_and_back_unchanged() {
        let definition = json!({
            "hookGroupId": "g", "hookId": "h",
            "metadata": {"name": "push", "description": "two\nlines: yes", "owner": "a@b", "emailOnError": true},
            "bindings": [{"exchange": "exchange/a", "routingKeyPattern": "#"}],
            "schedule": [], "triggerSchema": {"type": "object"},
            "filter": "payload.ref == \"refs/heads/main\"",
            "task": {
                "odd": ["{{ a }}", "no", "yes", "1.0", "0x10", "~", "null", "", " x ", "a: b", "- a", "#", "é\u{7}", "1e3", "!x", "&a", "*b"],
                "n": [1, 1.5, -3, 1e300, true, null, {}, []],
                "{% if x %}": {"deep": [[1], [{"a": []}]]},
            },
        });
        let text = to_file(&definition);
        assert!(text.starts_with("hookGroupId: g\nhookId: h\nmetadata:\n  name: push\n"), "{text}");
        assert_eq!(crate::hook::parse_document(&text).unwrap(), definition, "{text}");
        let typed = Typed::read(&to_text(&definition)).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert!(typed.name().is_none());
        assert_eq!(typed.definition["task"], definition["task"]);
    }

    #[test]
    fn faults_have_lines() {
        let faults = Typed::read("metadata: {\n  a: [1\n").err().unwrap();
        assert!(faults[0].line >= 1 && !faults[0].problem.message.is_empty());
        let typed = Typed::read("metadata:\n  name: n\ntask:\n  x: 1\n").unwrap_or_else(|_| panic!());
        assert_eq!(typed.locate(&[Problem::new("task.x", "no")])[0].line, 4);
        assert_eq!(typed.definition["bindings"], json!([]));
        assert!(Typed::read("just text").is_err());
    }

    #[test]
    fn a_diff_shows_what_changed_with_a_little_around_it() {
        let old: String = (0..30).map(|n| format!("line {n}\n")).collect();
        let new = old.replace("line 3\n", "line three\n").replace("line 28\n", "");
        let lines = diff(&old, &new);
        let of = |tone: &str| lines.iter().filter(|line| line["tone"] == tone).count();
        assert_eq!((of("removed"), of("added"), of("gap")), (2, 1, 1));
        assert!(lines.len() < 20);
        assert!(diff(&old, &old).is_empty());
    }
}
