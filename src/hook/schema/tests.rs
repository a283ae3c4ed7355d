use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

#[test]
fn formats_are_those_of_ajv() {
    for (format, good, bad) in [
        ("date-time", "2026-11-22T10:05:00Z", "2026-11-22"),
        ("date", "2026-11-22", "22.11.2026"),
        ("time", "10:05:00Z", "25:00:00Z"),
        ("email", "a@example.com", "a"),
        ("hostname", "a.example.com", "-a-"),
        ("ipv4", "127.0.0.1", "127.0.0.256"),
        ("ipv6", "::1", "1"),
        ("uri", "https://example.com/x", "//x"),
        ("uri-reference", "/x", "\\"),
        ("regex", "^a+$", "("),
        ("json-pointer", "/a/b", "a"),
        ("uuid", "c9bf9e57-1685-4c89-bafb-ff5af830be8a", "c9bf9e57"),
        ("url", "https://example.com", "x:y"),
        ("duration", "P1DT2H", "1 day"),
        ("byte", "aGk=", "?"),
        ("iso-date-time", "2026-11-22T10:05:00", "now"),
        ("iso-time", "10:05:00", "10"),
    ] {
        let schema = Schema::compile(&json!({ "format": format })).unwrap();
        assert!(schema.is_valid(&json!(good)), "{format}: {good}");
        assert!(!schema.is_valid(&json!(bad)), "{format}: {bad}");
        assert!(schema.is_valid(&json!(1)), "{format} is for strings");
    }
    let problem = Schema::compile(&json!({"properties": {"a": {"format": "datetime"}}})).unwrap_err();
    assert!(problem.to_string().contains("datetime"), "{problem}");
}

#[test]
fn draft_7_is_what_is_meant() {
    let schema = Schema::compile(&json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "items": [{"type": "string"}, {"type": "integer"}], "additionalItems": false,
    }))
    .unwrap();
    assert!(schema.is_valid(&json!(["a", 1])));
    assert!(!schema.is_valid(&json!(["a", 1, 2])));
    assert!(Schema::compile(&json!({"definitions": {"x": {"$ref": "#/definitions/y"}, "y": {}}})).is_ok());
    assert!(Schema::compile(&json!({"$ref": "other.json"})).is_err());
}

/// Definitions of which each refers to the next so many times, and the last one to what is said.
fn fan(levels: usize, times: usize, last: Value) -> Value {
    let mut definitions = serde_json::Map::new();
    for level in 1..=levels {
        let next = json!({ "$ref": format!("#/definitions/d{}", level + 1) });
        definitions.insert(format!("d{level}"), json!({ "allOf": vec![next; times] }));
    }
    definitions.insert(format!("d{}", levels + 1), last);
    json!({ "allOf": vec![json!({ "$ref": "#/definitions/d1" }); times], "definitions": definitions })
}

/// Refused, and at once.
fn refused(schema: &Value) -> String {
    let started = Instant::now();
    let problem = Schema::compile(schema).unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(2), "{problem} took {:?}", started.elapsed());
    problem
}

#[test]
fn what_references_repeat_is_counted() {
    for levels in [3, 7, 40] {
        let problem = refused(&fan(levels, 20, json!({ "type": "object" })));
        assert!(problem.contains("references followed"), "{problem}");
    }
    let usual = Schema::compile(&fan(1, 20, json!({ "type": "object" }))).unwrap();
    assert!(usual.is_valid(&json!({})) && !usual.is_valid(&json!([])));
    // Anchors, and references that count from an inner schema's own name, hide nothing.
    let mut hidden = fan(3, 20, json!({ "type": "object" }));
    hidden["$id"] = json!("https://example.com/hidden");
    let problem = refused(
        &json!({ "allOf": [{ "$ref": "#inner" }], "definitions": { "x": { "$id": "#inner", "items": hidden } } }),
    );
    assert!(problem.contains("references followed"), "{problem}");
    let long: serde_json::Map<String, Value> = (0..5_000)
        .map(|n| (format!("d{n}"), json!({ "$ref": format!("#/definitions/d{}", n + 1) })))
        .chain([("d5000".to_owned(), json!({}))])
        .collect();
    let problem = refused(&json!({ "$ref": "#/definitions/d0", "definitions": long }));
    assert!(problem.contains("nested deeper"), "{problem}");
}

#[test]
fn cycles_that_lead_nowhere_or_too_far_are_refused() {
    let definitions: serde_json::Map<String, Value> = (0..12)
        .map(|n| {
            let all = (0..12).map(|other| json!({ "$ref": format!("#/definitions/d{other}") }));
            (format!("d{n}"), json!({ "anyOf": all.collect::<Vec<_>>() }))
        })
        .collect();
    let problem = refused(&json!({ "$ref": "#/definitions/d0", "definitions": definitions }));
    assert!(problem.contains("without going deeper"), "{problem}");
    assert!(refused(&json!({ "not": { "$ref": "#" } })).contains("without going deeper"));

    let round = (0..30).map(|n| {
        let next = json!({ "$ref": format!("#/definitions/d{}", (n + 1) % 30) });
        let inner = json!({ "properties": { "a": { "allOf": [next, next] } } });
        (format!("d{n}"), inner)
    });
    let problem = refused(&json!({
        "$ref": "#/definitions/d0", "definitions": round.collect::<serde_json::Map<_, _>>(),
    }));
    assert!(problem.contains("references followed"), "{problem}");
}

#[test]
fn usual_recursive_schemas_work() {
    let tree = Schema::compile(&json!({
        "type": "object", "required": ["name"], "properties": {
            "name": { "type": "string" }, "children": { "type": "array", "items": { "$ref": "#" } },
        },
    }))
    .unwrap();
    let document =
        json!({ "name": "a", "children": [{ "name": "b" }, { "name": "c", "children": [{ "name": 1 }] }] });
    let problems = tree.problems(&document, "payload");
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "payload.children[1].children[0].name: must be of type string, is integer"
    );

    // What looks like many ways is one where what was found is kept.
    let expression = Schema::compile(&json!({
        "definitions": { "expression": { "oneOf": [
            { "type": "string" },
            { "type": "object", "required": ["op"], "properties": { "op": { "const": "and" }, "args": { "$ref": "#/definitions/list" } } },
            { "type": "object", "required": ["op"], "properties": { "op": { "const": "or" }, "args": { "$ref": "#/definitions/list" } } },
        ] }, "list": { "type": "array", "items": { "$ref": "#/definitions/expression" } } },
        "$ref": "#/definitions/expression",
    }))
    .unwrap();
    let nested = |last: Value| {
        (0..50).fold(last, |inner, n| json!({ "op": if n % 2 == 0 { "and" } else { "or" }, "args": [inner] }))
    };
    let started = Instant::now();
    assert!(expression.is_valid(&nested(json!("x"))));
    let problems = expression.problems(&nested(json!({ "op": "xor" })), "payload");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("does not satisfy"), "{problems:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

    let of_schemas = Schema::compile(&json!({ "$ref": "http://json-schema.org/draft-07/schema#" })).unwrap();
    assert!(of_schemas.is_valid(&json!({ "items": {} })));
    assert!(!of_schemas.problems(&json!({ "items": { "type": 1 } }), "").is_empty());
}

#[test]
fn the_deepest_cycle_that_is_allowed_fits_the_stack() {
    let ring: serde_json::Map<String, Value> = (0..7)
        .map(|n| (format!("d{n}"), json!({ "allOf": [{ "$ref": format!("#/definitions/d{}", n + 1) }] })))
        .chain([("d7".to_owned(), json!({ "items": { "$ref": "#/definitions/d0" } }))])
        .collect();
    let schema = Schema::compile(&json!({ "$ref": "#/definitions/d0", "definitions": ring })).unwrap();
    let deep = (0..127).fold(json!([]), |inner, _| json!([inner]));
    assert!(schema.is_valid(&deep));
}

#[test]
fn a_document_that_is_too_much_for_its_schema_is_not_checked() {
    let within = |schema: &Value, document: &Value, can_check: bool| {
        let schema = Schema::compile(schema).unwrap();
        let started = Instant::now();
        assert_eq!(schema.can_check(document), can_check);
        if can_check {
            assert!(schema.is_valid(document));
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    };
    // Each of many items, looked at by each of many schemas.
    let many = json!({ "items": { "allOf": vec![json!({ "type": "integer" }); 5_000] } });
    within(&many, &json!(vec![1; 100]), true);
    within(&many, &json!(vec![1; 1_000_000]), false);
    // The validator forgets what it finds out about small values, and finds it out again for each reference.
    let forgetful = json!({
        "allOf": vec![json!({ "minItems": 0 }); 4_000],
        "items": { "allOf": vec![json!({ "$ref": "#" }); 4_000] },
    });
    within(&forgetful, &json!([]), true);
    within(&forgetful, &json!(vec![json!([]); 100_000]), false);
    // Large, and still little work: most of the schema is about other values.
    let properties: serde_json::Map<String, Value> =
        (0..300).map(|n| (format!("p{n}"), json!({ "type": "integer" }))).collect();
    let wide = json!({ "items": { "type": "object", "properties": properties } });
    within(&wide, &json!(vec![json!({ "p1": 1, "p2": 2 }); 20_000]), true);
    let tree = json!({ "properties": { "children": { "items": { "$ref": "#" } } } });
    within(&tree, &json!({ "children": vec![json!({ "children": [{}, {}] }); 300_000] }), true);
    // Long text against many patterns.
    let patterns = json!({ "allOf": vec![json!({ "pattern": "a+b|c" }); 5_000] });
    within(&patterns, &json!("c".repeat(10 << 20)), false);
}

#[test]
fn the_list_of_faults_is_bounded() {
    let started = Instant::now();
    let schema =
        Schema::compile(&json!({ "properties": { "l": { "items": { "type": "string" } } } })).unwrap();
    let few = schema.problems(&json!({ "l": vec![1; 1_000] }), "payload");
    assert_eq!(few.len(), MAX_PROBLEMS + 1);
    assert_eq!(few[0].path, "payload.l[0]");
    // Also of what is one fault to the validator.
    let closed =
        Schema::compile(&json!({ "properties": { "a": {} }, "additionalProperties": false })).unwrap();
    for (keys, listed) in
        [(MAX_PROBLEMS, MAX_PROBLEMS), (MAX_PROBLEMS + 1, MAX_PROBLEMS + 1), (80, MAX_PROBLEMS + 1)]
    {
        let document: serde_json::Map<String, Value> = (0..keys).map(|n| (n.to_string(), json!(n))).collect();
        let problems = closed.problems(&document.into(), "payload");
        assert_eq!(problems.len(), listed, "{keys}");
        assert_eq!(problems[listed - 1].message.contains("more faults"), keys > MAX_PROBLEMS, "{problems:?}");
    }
    let many = schema.problems(&json!({ "l": vec![1; 5_000_000] }), "payload");
    assert_eq!(many.len(), 1);
    assert_eq!(many[0].path, "payload");
    assert!(schema.problems(&json!({ "l": vec!["x"; 200_000] }), "payload").is_empty());

    // What a fault repeats counts, too.
    let long = Schema::compile(&json!({ "items": { "enum": ["x".repeat(1 << 20)] } })).unwrap();
    assert_eq!(long.problems(&json!(vec![1; 1_000]), "").len(), 1);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[test]
fn two_ways_to_read_a_name_are_one() {
    // A heavy schema, and a light one that another reading of the same names leads to.
    let heavy = |name: &str| {
        let mut heavy = json!({ "allOf": vec![json!({ "$ref": "#/definitions/d1" }); 20] });
        heavy["$id"] = name.into();
        heavy
    };
    let with = |reference: &str, mut more: Value| {
        let mut schema = fan(5, 20, json!({ "type": "object" }));
        schema["allOf"] = json!([{ "$ref": reference }]);
        schema["definitions"].as_object_mut().unwrap().append(more.as_object_mut().unwrap());
        schema
    };
    let both = |light: &str, heavily: &str| json!({ "light": { "$id": light }, "weight": heavy(heavily) });
    // Either is refused for what it says, or what is checked is the light one.
    for (case, schema) in [
        ("the same name twice", with("#x", both("#x", "#x"))),
        ("escaped", with("#a%62", both("#ab", "#a%62"))),
        ("empty", with("#x", json!({ "e": { "$id": "", "items": heavy("#x") }, "light": { "$id": "#x" } }))),
        (
            "two of one base",
            with(
                "#/definitions/one",
                json!({
                    "one": { "$id": "https://example.com/x", "allOf": [{ "$ref": "#/a" }], "a": {} },
                    "two": { "$id": "https://example.com/x", "a": heavy("#x") },
                }),
            ),
        ),
        (
            "as an older draft would",
            with(
                "#/definitions/old",
                json!({
                    "old": { "$schema": "http://json-schema.org/draft-04/schema#", "id": "https://example.com/x",
                             "$id": "https://example.com/y", "allOf": [{ "$ref": "#/definitions/d1" }],
                             "definitions": { "d1": {} } },
                }),
            ),
        ),
        (
            "a name in data",
            with("#x", json!({ "data": { "const": { "$id": "#x" } }, "weight": heavy("#x") })),
        ),
        ("by its place in a map", with("#/definitions", json!({ "allOf": [heavy("#x")] }))),
    ] {
        let started = Instant::now();
        if let Ok(schema) = Schema::compile(&schema) {
            assert!(schema.is_valid(&json!({})), "{case}");
        }
        assert!(started.elapsed() < Duration::from_secs(2), "{case}: {:?}", started.elapsed());
    }
}

#[test]
fn names_work_as_draft_7_says() {
    let schema = Schema::compile(&json!({
        "$id": "https://example.com/top",
        "properties": {
            "named": { "$ref": "#text" },
            "a/b~c d%": { "type": "integer" },
            "same": { "$ref": "#/properties/a~1b~0c%20d%25" },
            "inner": { "$id": "https://example.com/inner", "properties": { "x": { "$ref": "#/definitions/n" } },
                       "definitions": { "n": { "type": "null" } } },
            "const": { "$ref": "#/definitions/n" },
            "$ref": { "type": "string" },
            "unknown": { "$ref": "#/x-more/0" },
            "data": { "const": { "$id": "#text", "$ref": "#/nowhere" } },
        },
        "definitions": { "t": { "$id": "#text", "type": "string" }, "n": { "type": "boolean" } },
        "x-more": [{ "type": "array" }],
    }))
    .unwrap();
    let good = json!({
        "named": "", "a/b~c d%": 1, "same": 2, "inner": { "x": null }, "const": true, "$ref": "", "unknown": [],
        "data": { "$id": "#text", "$ref": "#/nowhere" },
    });
    assert_eq!(schema.problems(&good, "").len(), 0, "{:?}", schema.problems(&good, ""));
    for name in good.as_object().unwrap().keys() {
        let mut bad = good.clone();
        bad[name] = json!({ "x": 1 });
        assert!(!schema.is_valid(&bad), "{name}");
    }
    for nowhere in
        ["#gone", "#/gone", "#/properties", "#/properties/data/const", "#/x-more/1", "#/x-more/00", "#/%FF"]
    {
        let problem = refused(&json!({
            "items": { "$ref": nowhere }, "properties": { "data": { "const": {} } }, "x-more": [{}],
        }));
        assert!(problem.contains("leads nowhere"), "{nowhere}: {problem}");
    }
}

#[test]
fn a_schema_of_another_draft_is_read_as_draft_7() {
    let of_2020 = "https://json-schema.org/draft/2020-12/schema";
    let schema = Schema::compile(&json!({ "$schema": of_2020, "type": "object" })).unwrap();
    assert!(schema.is_valid(&json!({})));
    let inner =
        json!({ "$schema": of_2020, "$id": "https://example.com/x", "prefixItems": [{ "type": "null" }] });
    assert!(Schema::compile(&json!({ "items": inner })).unwrap().is_valid(&json!([[1]])));
}
