//! What holds for every template and payload.

use proptest::prelude::*;

use super::*;

/// Pieces that templates are made of, and pieces that they aren't.
fn fragment() -> impl Strategy<Value = String> {
    let pieces: &[&str] = &[
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "${",
        "}",
        "$${",
        "{{-",
        "-}}",
        " if ",
        " else ",
        " endif ",
        " for x in ",
        " endfor ",
        "payload",
        ".",
        "ref",
        "|",
        "from-now",
        "as-slugid",
        "upper",
        "2 days",
        "\"",
        "'",
        "\\",
        "(",
        ")",
        "[",
        "]",
        "{",
        ",",
        ":",
        "==",
        "+",
        "-",
        "*",
        "~",
        "not ",
        " and ",
        " is ",
        "1",
        "0x",
        "1.5e3",
        "é",
        "😀",
        "\u{0}",
        "\n",
        "\u{f8f1}",
        "as_slugid(",
        "$eval",
        "$if",
        "now",
        "set x = ",
        "raw",
        "endraw",
        "omit",
    ];
    prop_oneof![
        8 => proptest::sample::select(pieces).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(fragment(), 0..12).prop_map(|parts| parts.concat())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e15..1e15f64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_the_compiler_or_the_renderer_panic(
        value in text(), key in text(), filter in text(), engine in prop_oneof![Just("minijinja"), Just("json-e")],
    ) {
        let hook = hook(|hook| {
            hook["task"]["payload"] = json!({ "v": value, "x": [{ key.clone(): value.clone() }], "e": {"$eval": value} });
            hook["templateEngine"] = json!(engine);
            if !filter.is_empty() && filter.chars().count() < 4000 {
                hook["filter"] = json!(filter);
            }
        });
        if let Ok(rules) = Rules::compile(&hook, &Limits::default()) {
            rules.decide(&event(&message("{\"ref\": \"refs/heads/main\"}")));
        }
        let seeded = format!("{value} {{{{ 2 days | from-now }}}}");
        let _ = Rules::compile(&super::hook(|hook| hook["task"]["payload"] = json!({ "v": seeded })), &Limits::default());
    }

    #[test]
    fn a_payload_passes_through_unchanged(payload in json_value()) {
        let minijinja = rules(|hook| {
            hook["triggerSchema"] = json!({});
            hook["task"]["payload"] = json!({ "all": "{{ payload }}" });
        });
        let text = payload.to_string();
        prop_assert_eq!(&fired(&minijinja, &text)["payload"]["all"], &payload);
    }

    #[test]
    fn a_payload_passes_through_json_e_unchanged(payload in json_value()) {
        prop_assume!(!payload.to_string().contains(['\u{f8f0}', '\u{f8f1}', '\u{f8f4}']));
        let rules = rules(|hook| {
            hook["triggerSchema"] = json!({});
            hook["task"]["payload"] = json!({ "all": {"$eval": "payload"} });
        });
        let decision = rules.decide(&event(&message(&payload.to_string())));
        if let Decision::Fire { task } = decision {
            let task: Value = serde_json::from_slice(&task).unwrap();
            prop_assert!(same(&task["payload"]["all"], &payload), "{} {payload}", task["payload"]["all"]);
        } else {
            prop_assert!(false, "{}", decision.reason());
        }
    }
}

/// JSON-e has one kind of number: 1.0 is 1.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
