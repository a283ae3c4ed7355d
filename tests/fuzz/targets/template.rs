//! Templates of minijinja and the seed's syntax: what compiles renders to JSON or fails with a reason, within its limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

#[path = "../shared/decide.rs"]
mod decide;

fuzz_target!(|input: (&str, &str, &str)| {
    let (key, text, payload) = input;
    let payload =
        serde_json::from_str(payload).unwrap_or_else(|_| json!({ "ref": payload, "list": [1, "a", null] }));
    let task: Value = json!({ "payload": { "text": text, key: text, "list": [text] } });
    decide::decide(json!({ "task": task, "templateEngine": "minijinja" }), &payload);
});
