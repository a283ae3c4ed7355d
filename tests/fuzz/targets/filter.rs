//! Filters: what compiles says yes or no, with what it saw, or fails with a reason, within its limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;

#[path = "../shared/decide.rs"]
mod decide;

fuzz_target!(|input: (&str, &str)| {
    let (filter, payload) = input;
    let payload =
        serde_json::from_str(payload).unwrap_or_else(|_| json!({ "ref": payload, "list": [1, "a", null] }));
    decide::decide(json!({ "filter": filter, "task": { "payload": {} } }), &payload);
});
