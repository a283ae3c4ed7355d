//! JSON-e templates: what compiles renders to JSON or fails with a reason, within its limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;

#[path = "../shared/decide.rs"]
mod decide;

fuzz_target!(|input: (&str, &str)| {
    let (template, payload) = input;
    let payload =
        serde_json::from_str(payload).unwrap_or_else(|_| json!({ "ref": payload, "list": [1, "a", null] }));
    // A whole template, or an expression in one.
    let task = serde_json::from_str(template).unwrap_or_else(
        |_| json!({ "payload": { "eval": { "$eval": template }, "text": format!("${{{template}}}") } }),
    );
    decide::decide(json!({ "task": { "payload": task }, "templateEngine": "json-e" }), &payload);
});
