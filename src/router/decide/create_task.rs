//! The rendered task, looked at as the queue service's createTask looks at it.
//!
//! `schemas/create-task.json` holds what a schema can say; the dates and the two forms of the queue id are checked
//! here. Rules read from Taskcluster Queue v106.

use std::fmt;
use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::hook::{Problem, Schema};

/// The text of `schemas/create-task.json`.
pub const CREATE_TASK_SCHEMA: &str = include_str!("../../../schemas/create-task.json");

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(CREATE_TASK_SCHEMA).expect("schemas/create-task.json is JSON");
    Schema::compile(&schema).expect("schemas/create-task.json is a draft 7 schema")
});

/// How far `created` may be from the queue service's clock, and how much later than allowed a deadline may be.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(15);
/// How far ahead a deadline may be.
const MAX_DEADLINE: TimeDelta = TimeDelta::days(5);

/// Properties of a task of which the schema says that they are objects and no more.
const OPAQUE: [&str; 2] = ["payload", "extra"];

/// Checks a rendered task with its defaults.
pub fn check(task: &[u8], now: DateTime<Utc>) -> Result<(), Vec<Problem>> {
    let refused = |error: serde_json::Error| vec![Problem::new("task", error.to_string())];
    let mut deserializer = serde_json::Deserializer::from_slice(task);
    let task = Shell(Level::Task).deserialize(&mut deserializer).map_err(refused)?;
    deserializer.end().map_err(refused)?;
    let mut problems = if SCHEMA.is_valid(&task) { Vec::new() } else { SCHEMA.problems(&task, "task") };
    queue_id(&task, &mut problems);
    dates(&task, now, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Reads a task without what is in its opaque properties: most of a task is there, and nobody looks at it here.
struct Shell(Level);

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Task,
    Opaque,
}

impl<'de> DeserializeSeed<'de> for Shell {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shell {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        if self.0 == Level::Opaque {
            while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Object(map));
        }
        while let Some(key) = entries.next_key::<String>()? {
            let value = if OPAQUE.contains(&key.as_str()) {
                entries.next_value_seed(Shell(Level::Opaque))?
            } else {
                entries.next_value()?
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(Vec::new()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }
}

fn queue_id(task: &Value, problems: &mut Vec<Problem>) {
    let text = |key: &str| task.get(key).and_then(Value::as_str);
    match (text("taskQueueId"), text("provisionerId"), text("workerType")) {
        (None, None, None) if task.get("taskQueueId").is_none() => {
            problems.push(Problem::new("task.taskQueueId", "is required (or provisionerId and workerType)"));
        }
        (None, Some(_), None) if task.get("workerType").is_none() => {
            problems.push(Problem::new("task.workerType", "is required, because provisionerId is given"));
        }
        (None, None, Some(_)) if task.get("provisionerId").is_none() => {
            problems.push(Problem::new("task.provisionerId", "is required, because workerType is given"));
        }
        (Some(id), provisioner, worker) => {
            let (wanted_provisioner, wanted_worker) = id.split_once('/').unwrap_or((id, ""));
            if provisioner.is_some_and(|given| given != wanted_provisioner)
                || worker.is_some_and(|given| given != wanted_worker)
            {
                problems
                    .push(Problem::new("task.taskQueueId", "disagrees with provisionerId and workerType"));
            }
        }
        _ => {}
    }
}

fn dates(task: &Value, now: DateTime<Utc>, problems: &mut Vec<Problem>) {
    let date = |key: &str| {
        let text = task.get(key)?.as_str()?;
        DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc))
    };
    let (created, deadline, expires) = (date("created"), date("deadline"), date("expires"));
    if let Some(created) = created
        && (created - now).abs() > CLOCK_TOLERANCE
    {
        problems.push(Problem::new(
            "task.created",
            "must be within 15 minutes of now; leave it out to have it so",
        ));
    }
    if let Some(deadline) = deadline {
        if deadline < now || created.is_some_and(|created| deadline < created) {
            problems.push(Problem::new("task.deadline", "must not be in the past or before created"));
        }
        if deadline > now + MAX_DEADLINE + CLOCK_TOLERANCE {
            problems.push(Problem::new("task.deadline", "must be at most 5 days ahead"));
        }
        if expires.is_some_and(|expires| expires < deadline) {
            problems.push(Problem::new("task.expires", "must not be before deadline"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_says_no_more_of_opaque_properties_than_that_they_are_objects() {
        let schema: Value = serde_json::from_str(CREATE_TASK_SCHEMA).unwrap();
        for name in OPAQUE {
            let keywords = schema["properties"][name].as_object().unwrap();
            let said = |key: &&String| !["title", "description", "default"].contains(&key.as_str());
            assert_eq!(keywords.keys().filter(said).collect::<Vec<_>>(), ["type"], "{name}");
            assert_eq!(keywords["type"], "object");
        }
    }

    #[test]
    fn an_opaque_property_must_be_an_object_and_the_text_json_to_its_end() {
        let problem = |task: &str| check(task.as_bytes(), Utc::now()).unwrap_err()[0].to_string();
        for wrong in ["[{}]", "1", "-1", "0.5", "true", "null", "\"x\""] {
            let problems = check(format!("{{\"payload\": {wrong}}}").as_bytes(), Utc::now()).unwrap_err();
            assert!(problems.iter().any(|problem| problem.path == "task.payload"), "{wrong}: {problems:?}");
        }
        assert!(problem("{\"payload\": {\"a\": [1, 2}}}").contains("line 1"));
        assert!(problem("{} x").contains("trailing"));
        assert!(problem("[1]").contains("object"));
    }
}
