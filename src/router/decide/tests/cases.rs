//! Templates as files: `tests/cases/templates/*.yml`, each a list of cases.
//!
//! `template` stands at `task.payload.t` (with `engine` for another language than minijinja); `payload` is the message (or `text`, its
//! JSON text).
//! Expected is the value (`expect`), its `length`, how it `begins`, that all items of a list are the `same` (or two words `different`), a
//! part of the `error`, or a part of the fault for which the hook is `refused`.

use std::path::Path;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    template: Value,
    engine: Option<String>,
    #[serde(default)]
    payload: Option<Value>,
    text: Option<String>,
    #[serde(default, deserialize_with = "present")]
    expect: Option<Value>,
    length: Option<usize>,
    begins: Option<String>,
    #[serde(default)]
    same: bool,
    #[serde(default)]
    different: bool,
    error: Option<String>,
    refused: Option<String>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn fault(case: &Case) -> Option<String> {
    let hook = hook(|hook| {
        hook["task"]["payload"] = json!({ "t": case.template });
        if let Some(engine) = &case.engine {
            hook["templateEngine"] = json!(engine);
        }
    });
    let rules = match (Rules::compile(&hook, &Limits::default()), &case.refused) {
        (Ok(rules), None) => rules,
        (Ok(_), Some(_)) => return Some("is not refused".into()),
        (Err(problems), refused) => {
            let text = crate::hook::problem::join(&problems);
            return (!refused.as_ref().is_some_and(|part| text.contains(part)))
                .then(|| format!("is refused: {text}"));
        }
    };
    let body = case.payload.as_ref().unwrap_or(&json!({})).to_string();
    let mut message = message(case.text.as_deref().unwrap_or(&body));
    message.properties.message_id = Some("m-1".into());
    message.properties.headers.insert("h".into(), json!(1));
    let value = match rules.decide(&event(&message)) {
        Decision::Fire { task } => serde_json::from_slice::<Value>(&task).unwrap()["payload"]["t"].clone(),
        other => {
            let reason = other.reason();
            return (!case.error.as_ref().is_some_and(|part| reason.contains(part))).then_some(reason);
        }
    };
    let text = value.as_str().unwrap_or_default();
    let words: Vec<&str> = text.split(" is not ").collect();
    let right = case.error.is_none()
        && case.expect.as_ref().is_none_or(|expected| *expected == value)
        && case.length.is_none_or(|length| text.chars().count() >= length)
        && case.begins.as_ref().is_none_or(|start| text.starts_with(start))
        && (!case.same || value.as_array().is_some_and(|items| items.iter().all(|item| *item == items[0])))
        && (!case.different || words.len() == 2 && words[0] != words[1]);
    (!right).then(|| value.to_string())
}

#[test]
fn templates_mean_what_the_cases_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/templates");
    let mut faults = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let document = crate::hook::parse_document(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let cases: Vec<Case> =
            serde_json::from_value(document).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for case in cases {
            count += 1;
            if let Some(fault) = fault(&case) {
                faults.push(format!("{}: {}: {fault}", path.file_stem().unwrap().display(), case.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 50, "only {count} cases were found");
}

/// Blocks of `src/template/README.md` that start with `# example` are cases.
#[test]
fn the_examples_of_the_documentation_are_true() {
    let text = include_str!("../../../../src/template/README.md");
    let mut count = 0;
    for block in text.split("```yaml\n# example\n").skip(1) {
        let document = crate::hook::parse_document(block.split("```").next().unwrap()).unwrap();
        for case in serde_json::from_value::<Vec<Case>>(document).unwrap() {
            count += 1;
            assert_eq!(fault(&case), None, "{}", case.name);
        }
    }
    assert!(count >= 6, "{count}");
}
