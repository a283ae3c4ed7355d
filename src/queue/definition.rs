//! Task definitions as the queue service sees them: its schema, its rules, its defaults, and when two are the same.
//!
//! The service stores a definition completed with defaults and with dates in one format, and calls a second
//! createTask a repeat if that form is equal. Both sides of pulsehook need the same notion: the client to settle
//! a 409, the local queue to behave as the real one. Facts from Taskcluster v106, `services/queue`.

use chrono::{DateTime, Datelike, Duration, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

/// The schema of createTask's body.
pub const SCHEMA: &str = include_str!("../../schemas/create-task.json");

/// How far `created` may be from the service's clock.
pub const CREATED_DRIFT: Duration = Duration::minutes(15);

/// How far ahead `deadline` may be, drift not included.
pub const MAX_DEADLINE: Duration = Duration::days(5);

const DATES: [&str; 3] = ["created", "deadline", "expires"];

/// The compiled [`SCHEMA`] (draft 7, formats checked).
pub fn validator() -> Result<jsonschema::Validator, String> {
    let schema: Value = serde_json::from_str(SCHEMA).map_err(|error| error.to_string())?;
    jsonschema::draft7::options()
        .should_validate_formats(true)
        .build(&schema)
        .map_err(|error| error.to_string())
}

/// Brings a definition that satisfies the schema into the form in which the service stores it, and checks the
/// rules that a schema cannot express but for those about the clock. The error is the service's message.
pub fn complete(task_id: &str, definition: &mut Map<String, Value>) -> Result<(), String> {
    complete_queue_id(definition)?;
    for (name, default) in [
        ("projectId", json!("none")),
        ("schedulerId", json!("-")),
        ("taskGroupId", json!(task_id)),
        ("dependencies", json!([])),
        ("requires", json!("all-completed")),
        ("routes", json!([])),
        ("priority", json!("lowest")),
        ("retries", json!(5)),
        ("scopes", json!([])),
        ("tags", json!({})),
        ("extra", json!({})),
    ] {
        definition.entry(name).or_insert(default);
    }
    if definition.get("priority").is_some_and(|priority| priority == "normal") {
        definition.insert("priority".to_owned(), json!("lowest"));
    }
    if !definition.contains_key("expires")
        && let Some(deadline) = date(definition, "deadline")
    {
        definition.insert("expires".to_owned(), json!(text(a_year_after(deadline))));
    }
    for name in DATES {
        if let Some(moment) = date(definition, name) {
            definition.insert(name.to_owned(), json!(text(moment)));
        }
    }
    Ok(())
}

/// The rules about the clock, for a completed definition. The error is the service's message.
pub fn check_dates(definition: &Map<String, Value>, now: DateTime<Utc>) -> Result<(), String> {
    let [Some(created), Some(deadline), Some(expires)] = DATES.map(|name| date(definition, name)) else {
        return Err("`created`, `deadline` and `expires` must be dates".to_owned());
    };
    let refuse = |what: &str| Err(what.to_owned());
    if created < now - CREATED_DRIFT {
        return refuse("`created` cannot be in the past (max 15min drift)");
    }
    if created > now + CREATED_DRIFT {
        return refuse("`created` cannot be in the future (max 15min drift)");
    }
    if created > deadline {
        return refuse("`deadline` cannot be earlier than `created`");
    }
    if deadline < now {
        return refuse("`deadline` cannot be in the past");
    }
    if deadline > now + MAX_DEADLINE + CREATED_DRIFT {
        return refuse("`deadline` cannot be more than 5 days into the future");
    }
    if deadline > expires {
        return refuse("`expires` cannot be before `deadline`");
    }
    Ok(())
}

/// Whether the task that the service keeps under `task_id` (`theirs`, from GET) is the one that `ours` defines.
/// Dates are compared as moments, defaults count as written out, numbers as JavaScript keeps them.
pub fn same_definition(task_id: &str, ours: &[u8], theirs: &Value) -> bool {
    let (Ok(Value::Object(mut ours)), Value::Object(theirs)) = (serde_json::from_slice(ours), theirs) else {
        return false;
    };
    let mut theirs = theirs.clone();
    if complete(task_id, &mut ours).is_err() || complete(task_id, &mut theirs).is_err() {
        return false;
    }
    same_objects(&ours, &theirs)
}

/// Deep equality with numbers as JavaScript has them: 1 is 1.0, integers beyond 2^53 are rounded.
pub fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b))
        }
        (Value::Object(a), Value::Object(b)) => same_objects(a, b),
        _ => a == b,
    }
}

fn same_objects(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same_json(a, b)))
}

/// Fills in whichever of `taskQueueId` and `provisionerId` + `workerType` is absent.
fn complete_queue_id(definition: &mut Map<String, Value>) -> Result<(), String> {
    let string = |name| definition.get(name).and_then(Value::as_str).map(str::to_owned);
    let split = string("provisionerId").zip(string("workerType"));
    match (string("taskQueueId"), split) {
        (Some(queue), Some((provisioner, worker))) => {
            if queue != format!("{provisioner}/{worker}") {
                return Err("taskQueueId must match \"provisionerId/workerType\"".to_owned());
            }
        }
        (None, Some((provisioner, worker))) => {
            definition.insert("taskQueueId".to_owned(), json!(format!("{provisioner}/{worker}")));
        }
        (Some(queue), None) => {
            let (provisioner, worker) =
                queue.split_once('/').ok_or("taskQueueId must be \"provisionerId/workerType\"")?;
            definition.insert("provisionerId".to_owned(), json!(provisioner));
            definition.insert("workerType".to_owned(), json!(worker));
        }
        (None, None) => {
            return Err(
                "at least a provisionerId and a workerType or a taskQueueId must be provided".to_owned()
            );
        }
    }
    Ok(())
}

fn date(definition: &Map<String, Value>, name: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(definition.get(name)?.as_str()?).ok().map(|date| date.to_utc())
}

/// As JavaScript's `Date.toJSON` writes it; finer digits are cut off there too.
fn text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The same day next year; 29 February becomes 1 March, as JavaScript's `setFullYear` has it.
fn a_year_after(moment: DateTime<Utc>) -> DateTime<Utc> {
    let year = moment.year() + 1;
    moment
        .with_year(year)
        .or_else(|| moment.with_day(28)?.with_year(year).map(|day| day + Duration::days(1)))
        .unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "fN1SbArXTPSVFNUvaOlinQ";

    fn definition() -> Value {
        json!({
            "provisionerId": "proj-ci", "workerType": "linux",
            "created": "2026-11-22T10:00:00Z", "deadline": "2026-11-23T10:00:00+00:00",
            "payload": {"n": 1.0, "big": 9_007_199_254_740_993_u64}, "metadata": {
                "name": "n", "description": "d", "owner": "o@example.com", "source": "https://example.com"
            }
        })
    }

    #[test]
    fn the_form_that_the_service_keeps_is_the_same_definition() {
        let ours = definition().to_string();
        let mut theirs = definition();
        theirs["payload"] = json!({"n": 1, "big": 9_007_199_254_740_992_u64});
        complete(ID, theirs.as_object_mut().unwrap()).unwrap();
        assert_eq!(theirs["created"], "2026-11-22T10:00:00.000Z");
        assert_eq!(theirs["expires"], "2027-11-23T10:00:00.000Z");
        assert_eq!(theirs["taskQueueId"], "proj-ci/linux");
        assert!(same_definition(ID, ours.as_bytes(), &theirs));
    }

    #[test]
    fn any_other_definition_is_not() {
        let ours = definition().to_string();
        for (pointer, value) in [
            ("/created", json!("2026-11-22T10:00:01Z")),
            ("/payload/n", json!(2)),
            ("/payload", json!({})),
            ("/metadata/name", json!("other")),
            ("/workerType", json!("windows")),
        ] {
            let mut theirs = definition();
            *theirs.pointer_mut(pointer).unwrap() = value;
            complete(ID, theirs.as_object_mut().unwrap()).unwrap();
            assert!(!same_definition(ID, ours.as_bytes(), &theirs), "{pointer}");
        }
        let mut theirs = definition();
        theirs["taskGroupId"] = json!("AAAAAAAAQACAAAAAAAAAAA");
        assert!(!same_definition(ID, ours.as_bytes(), &theirs));
        assert!(!same_definition(ID, b"not JSON", &theirs));
    }

    #[test]
    fn a_task_queue_id_and_its_parts_are_one() {
        let mut theirs = definition();
        complete(ID, theirs.as_object_mut().unwrap()).unwrap();
        let mut ours = definition();
        let map = ours.as_object_mut().unwrap();
        map.remove("provisionerId");
        map.remove("workerType");
        map.insert("taskQueueId".into(), json!("proj-ci/linux"));
        assert!(same_definition(ID, ours.to_string().as_bytes(), &theirs));
        let mut wrong = definition();
        wrong["taskQueueId"] = json!("other/linux");
        assert!(complete(ID, wrong.as_object_mut().unwrap()).is_err());
    }

    #[test]
    fn dates_obey_the_services_clock() {
        let now: DateTime<Utc> = "2026-11-22T10:00:00Z".parse().unwrap();
        let at = |created: &str, deadline: &str, expires: &str| {
            let map = json!({"created": created, "deadline": deadline, "expires": expires});
            check_dates(map.as_object().unwrap(), now)
        };
        let (soon, later) = ("2026-11-23T10:00:00Z", "2026-12-22T10:00:00Z");
        assert_eq!(at("2026-11-22T09:45:00Z", soon, later), Ok(()));
        assert_eq!(at("2026-11-22T10:15:00Z", "2026-11-27T10:15:00Z", later), Ok(()));
        assert!(at("2026-11-22T09:44:59Z", soon, later).unwrap_err().contains("past"));
        assert!(at("2026-11-22T10:15:01Z", soon, later).unwrap_err().contains("future"));
        assert!(at("2026-11-22T10:10:00Z", "2026-11-22T10:05:00Z", later).unwrap_err().contains("`created`"));
        assert!(at("2026-11-22T09:50:00Z", "2026-11-22T09:59:00Z", later).unwrap_err().contains("past"));
        assert!(at("2026-11-22T10:00:00Z", "2026-11-27T10:15:01Z", later).unwrap_err().contains("5 days"));
        assert!(at("2026-11-22T10:00:00Z", soon, "2026-11-23T09:00:00Z").unwrap_err().contains("`expires`"));
    }

    #[test]
    fn a_leap_day_has_a_next_year() {
        let day: DateTime<Utc> = "2028-02-29T12:00:00Z".parse().unwrap();
        assert_eq!(text(a_year_after(day)), "2029-03-01T12:00:00.000Z");
    }

    #[test]
    fn the_schema_compiles_and_names_what_is_wrong() {
        let validator = validator().unwrap();
        assert!(validator.is_valid(&definition()));
        for (name, value) in [
            ("scopes", json!(["a**"])),
            ("scopes", json!(["ü"])),
            ("surprise", json!(1)),
            ("retries", json!(50)),
            ("created", json!("yesterday")),
            ("taskGroupId", json!("short")),
            ("workerType", json!("Linux")),
            ("routes", json!([""])),
            ("tags", json!({"a": 1})),
        ] {
            let mut task = definition();
            task[name] = value;
            assert!(!validator.is_valid(&task), "{name}");
        }
        for scope in ["*", "queue:a*", "a", "a*b", "", "assume:hook-id:a/b", "+", ")"] {
            let mut task = definition();
            task["scopes"] = json!([scope]);
            assert!(validator.is_valid(&task), "{scope:?}");
        }
        let mut task = definition();
        task.as_object_mut().unwrap().remove("workerType");
        assert!(!validator.is_valid(&task));
    }
}
