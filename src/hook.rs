//! The hook document: what it may say, how it is read, how it is shown. No I/O.
//!
//! A document is the Taskcluster Hooks definition plus a few optional additions. It is checked against
//! `schemas/hook.json`, which is compiled in, so that the published schema and the check can't drift apart; what a
//! schema can't say (names that must agree, exchanges that may not be bound) is checked here. Whether template and
//! filter compile is for [`crate::router::decide::Rules::compile`] to say.

mod name;
pub mod problem;
mod read;
pub mod schema;

use std::sync::LazyLock;

use pulse::Binding;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use name::{HookName, InvalidName};
pub use problem::Problem;
pub use read::{HookFile, Located, ReadError, parse_document};
pub use schema::Schema;

/// The text of `schemas/hook.json`.
pub const HOOK_SCHEMA: &str = include_str!("../schemas/hook.json");

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(HOOK_SCHEMA).expect("schemas/hook.json is JSON");
    Schema::compile(&schema).expect("schemas/hook.json is a draft 7 schema")
});

/// The language of a task template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// minijinja expressions in strings, with types kept and the older `{{2 days | from-now}}` syntax.
    Minijinja,
    /// JSON-e.
    #[serde(rename = "json-e")]
    JsonE,
}

/// What to do about scheduled times that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// Fire once, for the newest of them.
    Latest,
    /// Fire for each of them, up to a cap.
    All,
    /// Skip them.
    None,
}

/// `metadata` of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Human-readable name, at most 255 characters.
    pub name: String,
    /// Longer description, at most 32768 characters.
    pub description: String,
    /// The owner's e-mail address.
    pub owner: String,
    /// Whether the owner gets mail about errors; true unless the document says otherwise.
    #[serde(default = "yes")]
    pub email_on_error: bool,
}

fn yes() -> bool {
    true
}

/// A checked hook document.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// Group and id.
    pub name: HookName,
    /// Name, description, owner.
    pub metadata: Metadata,
    /// Topic bindings.
    pub bindings: Vec<Binding>,
    /// Cron patterns, UTC.
    pub schedule: Vec<String>,
    /// The task template: a JSON object.
    pub task: Value,
    /// JSON Schema for payloads; the default is filled in.
    pub trigger_schema: Value,
    /// The template language, where the document names one.
    pub template_engine: Option<Engine>,
    /// A minijinja expression that must be true for the hook to fire.
    pub filter: Option<String>,
    /// What to do about missed scheduled times; `None`: the default, [`CatchUp::Latest`].
    pub catch_up: Option<CatchUp>,
    /// True: messages wait in the queue.
    pub paused: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    hook_group_id: Option<String>,
    hook_id: Option<String>,
    metadata: Metadata,
    #[serde(default)]
    bindings: Vec<DocumentBinding>,
    #[serde(default)]
    schedule: Vec<String>,
    task: Value,
    trigger_schema: Option<Value>,
    template_engine: Option<Engine>,
    filter: Option<String>,
    catch_up: Option<CatchUp>,
    paused: Option<bool>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct DocumentBinding {
    exchange: String,
    routing_key_pattern: String,
}

impl Hook {
    /// Reads a document under the name it is (to be) registered with. All faults are reported at once.
    pub fn from_json(name: &HookName, value: &Value) -> Result<Hook, Vec<Problem>> {
        if schema::depth(value) > MAX_DEPTH {
            return Err(vec![Problem::new(
                "",
                format!("the document is nested deeper than {MAX_DEPTH} levels"),
            )]);
        }
        let mut problems = SCHEMA.problems(value, "");
        if !problems.is_empty() {
            return Err(problems);
        }
        let document: Document = serde_json::from_value(value.clone())
            .map_err(|error| vec![Problem::new("", error.to_string())])?;
        for (key, given, wanted) in
            [("hookGroupId", &document.hook_group_id, &name.group), ("hookId", &document.hook_id, &name.id)]
        {
            if given.as_ref().is_some_and(|given| given != wanted) {
                problems
                    .push(Problem::new(key, format!("must be {wanted:?}, the name of the hook, or absent")));
            }
        }
        for (index, binding) in document.bindings.iter().enumerate() {
            if let Some(why) = refused_exchange(&binding.exchange) {
                problems.push(Problem::new(format!("bindings[{index}].exchange"), why));
            }
            if binding.routing_key_pattern.len() > MAX_PATTERN_BYTES {
                problems.push(Problem::new(
                    format!("bindings[{index}].routingKeyPattern"),
                    format!("must be at most {MAX_PATTERN_BYTES} bytes"),
                ));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let trigger_schema =
            document.trigger_schema.unwrap_or_else(|| default_trigger_schema(!document.bindings.is_empty()));
        Ok(Hook {
            name: name.clone(),
            metadata: document.metadata,
            bindings: document
                .bindings
                .into_iter()
                .map(|binding| Binding { exchange: binding.exchange, pattern: binding.routing_key_pattern })
                .collect(),
            schedule: document.schedule,
            task: document.task,
            trigger_schema,
            template_engine: document.template_engine,
            filter: document.filter,
            catch_up: document.catch_up,
            paused: document.paused,
        })
    }

    /// The Taskcluster definition: `bindings`, `schedule`, `triggerSchema` and `metadata.emailOnError` always there,
    /// pulsehook's own additions only where set. [`Hook::from_json`] reads it back unchanged.
    pub fn to_json(&self) -> Value {
        let bindings: Vec<_> = self
            .bindings
            .iter()
            .map(|binding| json!({"exchange": binding.exchange, "routingKeyPattern": binding.pattern}))
            .collect();
        let mut map = Map::new();
        map.insert("hookGroupId".into(), self.name.group.clone().into());
        map.insert("hookId".into(), self.name.id.clone().into());
        map.insert("metadata".into(), json!(self.metadata));
        map.insert("bindings".into(), bindings.into());
        map.insert("schedule".into(), json!(self.schedule));
        map.insert("task".into(), self.task.clone());
        map.insert("triggerSchema".into(), self.trigger_schema.clone());
        let additions = [
            ("templateEngine", self.template_engine.map(|engine| json!(engine))),
            ("filter", self.filter.as_ref().map(|filter| json!(filter))),
            ("catchUp", self.catch_up.map(|catch_up| json!(catch_up))),
            ("paused", self.paused.map(Value::Bool)),
        ];
        for (key, value) in additions {
            if let Some(value) = value {
                map.insert(key.into(), value);
            }
        }
        Value::Object(map)
    }
}

/// Levels of nesting of a document: JSON parsers commonly stop at 128, and whoever walks a document recurses.
const MAX_DEPTH: usize = 100;
/// Longest routing-key pattern in bytes: an AMQP short string.
const MAX_PATTERN_BYTES: usize = 255;

/// The triggerSchema of a hook that names none. Taskcluster's default (`{}` only) would keep every pulse message from
/// firing, so a hook with bindings takes any object.
pub fn default_trigger_schema(has_bindings: bool) -> Value {
    if has_bindings {
        json!({"type": "object"})
    } else {
        json!({"type": "object", "additionalProperties": false})
    }
}

/// Why an exchange may not be bound: a hook that fires on its own tasks or on its own changes never ends.
/// The list is that of Taskcluster Hooks.
fn refused_exchange(exchange: &str) -> Option<&'static str> {
    if exchange == "exchange/taskcluster-queue/v1/task-created" {
        Some("may not be bound: the hook would fire on the tasks that it creates, without end")
    } else if exchange.starts_with("exchange/taskcluster-hooks/") {
        Some("may not be bound: the hook would fire on changes of hooks, without end")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
