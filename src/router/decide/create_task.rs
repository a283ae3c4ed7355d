//! The rendered task, looked at as the queue service's createTask looks at it.
//!
//! `schemas/create-task.json` holds what a schema can say; the dates and the two forms of the queue id are checked
//! here. Rules read from Taskcluster Queue v106.

use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

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

/// Checks a rendered task with its defaults.
pub fn check(task: &[u8], now: DateTime<Utc>) -> Result<(), Vec<Problem>> {
    let task: Value =
        serde_json::from_slice(task).map_err(|error| vec![Problem::new("task", error.to_string())])?;
    let mut problems = if SCHEMA.is_valid(&task) { Vec::new() } else { SCHEMA.problems(&task, "task") };
    queue_id(&task, &mut problems);
    dates(&task, now, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
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
