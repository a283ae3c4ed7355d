//! The local queue's HTTP interface: the routes of the Queue that pulsehook uses, and a listing of its own.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, FixedOffset, Utc};
use http::{Request, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::Problem;
use super::storage::{Created, Record, StorageError};
use super::{LocalQueue, faults};
use crate::queue::{MAX_TASK_BYTES, definition};

/// Schema errors that are listed in one answer.
const MAX_SCHEMA_ERRORS: usize = 20;

/// Tasks on one page of the listing, at most and by default.
const MAX_PAGE: usize = 1000;

pub(super) fn routes(queue: LocalQueue) -> Router {
    let router = Router::new()
        .route("/api/queue/v1/ping", get(ping))
        .route("/api/queue/v1/task/{task_id}", get(task).put(create))
        .route("/api/queue/v1/task/{task_id}/status", get(status))
        .route("/api/queue/v1/tasks", get(list));
    let router = if queue.0.faults.is_some() {
        router
            .layer(axum::middleware::from_fn_with_state(queue.clone(), faults::inject))
            .route("/__faults__", get(faults::show).post(faults::replace).delete(faults::clear))
    } else {
        router
    };
    router.with_state(queue)
}

async fn ping(State(queue): State<LocalQueue>) -> Response {
    axum::Json(json!({ "alive": true, "uptime": queue.0.started.elapsed().as_secs_f64() })).into_response()
}

async fn create(
    State(queue): State<LocalQueue>,
    Path(task_id): Path<String>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    accept(&queue, &task_id, &head, body).await.map_err(|problem| problem.of("createTask", &task_id))
}

async fn accept(
    queue: &LocalQueue,
    task_id: &str,
    head: &http::request::Parts,
    body: Body,
) -> Result<Response, Problem> {
    check_task_id(task_id)?;
    let body = match Limited::new(body, MAX_TASK_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(Problem::new(413, "InputTooLarge", "the task definition is over 10 MB"));
        }
        Err(_) => return Err(Problem::new(400, "MalformedPayload", "the request's body is incomplete")),
    };
    let (client_id, scopes) = queue.0.authorize(head, &body)?;
    let media_type =
        head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !media_type.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json") {
        let message = format!("Payload must be JSON with content-type: application/json, got {media_type:?}");
        return Err(Problem::new(400, "MalformedPayload", message));
    }
    let task: Value = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(400, "MalformedPayload", format!("the body is not JSON: {error}")))?;
    check_schema(&queue.0.schema, &task)?;
    let Value::Object(mut task) = task else { return Err(Problem::input("the task must be an object")) };
    definition::complete(task_id, &mut task).map_err(Problem::input)?;
    definition::check_dates(&task, Utc::now()).map_err(Problem::input)?;
    check_dependencies(queue, task_id, &task).await?;

    let answer = json!({ "status": state(task_id, &task) });
    let record = Record::new(task_id, &task, client_id, scopes).map_err(Problem::input)?;
    match queue.0.storage.create(record).await.map_err(internal)? {
        Created::New | Created::Same => Ok(axum::Json(answer).into_response()),
        Created::Different => Err(Problem::new(
            409,
            "RequestConflict",
            format!(
                "taskId `{task_id}` already used by another task.\nThis could be the result of faulty idempotency!"
            ),
        )),
    }
}

async fn task(
    State(queue): State<LocalQueue>,
    Path(task_id): Path<String>,
    head: http::request::Parts,
) -> Result<Response, Problem> {
    // Whoever signs has to sign well, as at the service itself.
    if head.headers.contains_key(header::AUTHORIZATION) {
        queue.0.authenticate(&head, &[]).map_err(|problem| problem.of("task", &task_id))?;
    }
    let record = find(&queue, &task_id).await.map_err(|problem| problem.of("task", &task_id))?;
    let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    Ok((headers, record.definition.to_string()).into_response())
}

async fn status(State(queue): State<LocalQueue>, Path(task_id): Path<String>) -> Result<Response, Problem> {
    let record = find(&queue, &task_id).await.map_err(|problem| problem.of("status", &task_id))?;
    let task: Map<String, Value> = serde_json::from_str(&record.definition).map_err(internal)?;
    Ok(axum::Json(json!({ "status": state(&task_id, &task) })).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    limit: Option<usize>,
    continuation_token: Option<u64>,
}

/// What a process of its own answers to anything else.
pub(super) async fn nothing_here() -> Problem {
    Problem::new(404, "ResourceNotFound", "this is pulsehook's local queue, which has no such route")
}

/// Not a route of the real Queue: everything that was recorded, in order of arrival.
async fn list(State(queue): State<LocalQueue>, Query(listing): Query<Listing>) -> Result<Response, Problem> {
    let limit = listing.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let after = listing.continuation_token.unwrap_or(0);
    let page = queue.0.storage.list(after, limit).await.map_err(internal)?;
    let total = queue.0.storage.count().await.map_err(internal)?;
    let tasks = page
        .records
        .into_iter()
        .map(|record| {
            let task: Value = serde_json::from_str(&record.definition).map_err(internal)?;
            Ok(json!({
                "taskId": record.task_id, "task": task, "clientId": record.client_id,
                "authorizedScopes": record.authorized_scopes, "received": record.received,
            }))
        })
        .collect::<Result<Vec<_>, Problem>>()?;
    let mut answer = json!({ "total": total, "tasks": tasks });
    if let Some(next) = page.next {
        answer["continuationToken"] = json!(next.to_string());
    }
    Ok(axum::Json(answer).into_response())
}

async fn find(queue: &LocalQueue, task_id: &str) -> Result<std::sync::Arc<Record>, Problem> {
    check_task_id(task_id)?;
    queue.0.storage.get(task_id).await.map_err(internal)?.ok_or_else(|| {
        let message = format!("`{task_id}` does not correspond to a task that exists.\nAre you sure this task has already been submitted?");
        Problem::new(404, "ResourceNotFound", message)
    })
}

fn check_task_id(task_id: &str) -> Result<(), Problem> {
    let bytes = task_id.as_bytes();
    let slugid = bytes.len() == 22
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && matches!(bytes[8], b'Q'..=b'T')
        && b"CGKOSWaeimquy26-".contains(&bytes[10])
        && b"AQgw".contains(&bytes[21]);
    if slugid {
        return Ok(());
    }
    let message =
        format!("Invalid URL patterns:\nURL parameter 'taskId' given as {task_id:?} must be a slugid");
    Err(Problem::new(400, "InvalidRequestArguments", message))
}

fn check_schema(schema: &jsonschema::Validator, task: &Value) -> Result<(), Problem> {
    if schema.is_valid(task) {
        return Ok(());
    }
    let errors: Vec<String> = schema
        .iter_errors(task)
        .take(MAX_SCHEMA_ERRORS)
        .map(|error| format!("  * data{} {error}", error.instance_path()))
        .collect();
    let message = format!(
        "Schema Validation Failed!\nRejecting Schema: create-task.json\nErrors:\n{}",
        errors.join("\n")
    );
    Err(Problem::new(400, "InputValidationError", message))
}

/// What a task depends on must be there, and not gone before the task's deadline. That a task depends on itself is allowed: it then
/// waits to be scheduled by hand.
async fn check_dependencies(
    queue: &LocalQueue,
    task_id: &str,
    task: &Map<String, Value>,
) -> Result<(), Problem> {
    let dependencies = task.get("dependencies").and_then(Value::as_array).into_iter().flatten();
    let (mut missing, mut expiring) = (Vec::new(), Vec::new());
    for dependency in dependencies.filter_map(Value::as_str).filter(|dependency| *dependency != task_id) {
        match queue.0.storage.get(dependency).await.map_err(internal)? {
            None => missing.push(dependency),
            Some(record) => {
                let known: Value = serde_json::from_str(&record.definition).map_err(internal)?;
                if moment(known.get("expires")) < moment(task.get("deadline")) {
                    expiring.push(dependency);
                }
            }
        }
    }
    for (which, what) in
        [(missing, "non-existing tasks"), (expiring, "tasks that expire before its deadline")]
    {
        if !which.is_empty() {
            let text = format!("task.dependencies references {what}: {}", which.join(", "));
            return Err(Problem::input(text));
        }
    }
    Ok(())
}

fn moment(text: Option<&Value>) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text?.as_str()?).ok()
}

/// The task's status: for ever waiting, since nothing runs here.
fn state(task_id: &str, task: &Map<String, Value>) -> Value {
    let get = |name: &str| task.get(name).cloned().unwrap_or(Value::Null);
    let waiting = task.get("dependencies").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let runs = match waiting {
        true => json!([]),
        false => json!([{
            "runId": 0, "state": "pending", "reasonCreated": "scheduled", "scheduled": get("created"),
        }]),
    };
    json!({
        "taskId": task_id, "provisionerId": get("provisionerId"), "workerType": get("workerType"),
        "taskQueueId": get("taskQueueId"), "schedulerId": get("schedulerId"), "projectId": get("projectId"),
        "taskGroupId": get("taskGroupId"), "deadline": get("deadline"), "expires": get("expires"),
        "retriesLeft": get("retries"), "state": if waiting { "unscheduled" } else { "pending" }, "runs": runs,
    })
}

fn internal(error: impl Into<InternalError>) -> Problem {
    let error: InternalError = error.into();
    tracing::error!(error = %error.0, "the local queue's storage failed");
    Problem::new(500, "InternalServerError", "Internal Server Error")
}

struct InternalError(String);

impl From<StorageError> for InternalError {
    fn from(error: StorageError) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for InternalError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}
