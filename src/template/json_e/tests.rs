use super::*;

fn render(template: Value, context: Value) -> Result<Rendered, String> {
    let template =
        JsonE::compile(&template, "task").map_err(|problems| crate::hook::problem::join(&problems))?;
    let context = template.prune(context.as_object().cloned().unwrap_or_default());
    template
        .render(&context, "2026-11-22T10:05:00.000Z", "DryRunDrRySRunDryRun0Q", &Limits::default())
        .map_err(|error| error.to_string())
}

fn value(template: Value, context: Value) -> Value {
    match render(template, context) {
        Ok(Rendered::Value(value)) => value,
        other => panic!("{other:?}"),
    }
}

/// The specification of JSON-e (MPL-2.0, https://github.com/json-e/json-e), as the crate ships it.
#[test]
fn the_whole_specification_passes_through_our_entrance() {
    let text = include_str!("../../../tests/cases/json-e/specification.yml");
    let (mut count, mut faults, mut section) = (0, Vec::new(), String::new());
    for document in text.split("\n---\n").skip(1) {
        let case: Value =
            serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{document}: {error}"));
        if let Some(name) = case["section"].as_str() {
            section = name.to_owned();
            continue;
        }
        count += 1;
        let context = case["context"].as_object().cloned().unwrap_or_default();
        let now = context.get("now").and_then(Value::as_str).unwrap_or("2017-01-19T16:27:20.974Z").to_owned();
        let rendered = JsonE::compile(&case["template"], "task")
            .map_err(|problems| crate::hook::problem::join(&problems))
            .and_then(|template| {
                let wrong_context = !case["context"].is_object()
                    || context.keys().any(|key| !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
                if wrong_context && case.get("panic").is_some() {
                    return Err("a context that can't be".into());
                }
                let context = template.prune(context);
                template.render(&context, &now, "t", &Limits::default()).map_err(|error| error.to_string())
            });
        let title = format!("{section}: {}", case["title"]);
        let expects_error = case.get("error").is_some() || case.get("panic").is_some();
        match rendered {
            Err(_) if expects_error => {}
            Ok(_) if expects_error => faults.push(format!("{title}: no error")),
            Err(error) => faults.push(format!("{title}: {error}")),
            Ok(Rendered::Declined) => {
                let result = &case["result"];
                let falsy = [json!(null), json!(0), json!(""), json!(false)].contains(result)
                    || result.as_f64() == Some(0.0);
                if !falsy {
                    faults.push(format!("{title}: declined, expected {result}"));
                }
            }
            Ok(Rendered::Value(value)) => {
                if !same(&value, &case["result"]) {
                    faults.push(format!("{title}: {value}, expected {}", case["result"]));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} of {count}:\n{}", faults.len(), faults.join("\n"));
    assert!(count > 1000, "{count}");
}

/// Equal as JSON, where 1 and 1.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn now_is_frozen() {
    let template = json!({"a": {"$fromNow": "1 day"}, "b": "${fromNow('1 hour')}", "c": {"$eval": "now"}});
    assert_eq!(
        value(template, json!({"now": "2000-01-01T00:00:00Z"})),
        json!({"a": "2026-11-23T10:05:00.000Z", "b": "2026-11-22T11:05:00.000Z", "c": "2026-11-22T10:05:00.000Z"})
    );
}

#[test]
fn integers_reach_the_task_unchanged() {
    for number in [4294967296u64, 5000000000, 9007199254740992, 9007199254740993, u64::MAX] {
        let template = json!({
            "a": {"$eval": "payload.id"}, "b": "id ${payload.id}", "c": number, "d": {"$json": {"$eval": "payload.small"}},
            "e": {"$eval": "payload"},
        });
        let payload = json!({"id": number, "small": 5000000000u64});
        let rendered = value(template, json!({"payload": payload}));
        assert_eq!(rendered["a"], json!(number));
        assert_eq!(rendered["b"], json!(format!("id {number}")));
        assert_eq!(rendered["c"], json!(number));
        assert_eq!(rendered["e"], payload);
    }
    assert_eq!(
        value(json!({"a": {"$eval": "payload.id"}}), json!({"payload": {"id": i64::MIN}})),
        json!({"a": i64::MIN})
    );
    assert_eq!(
        value(json!({"a": {"$eval": "payload.id + 1"}}), json!({"payload": {"id": 5000000000u64}})),
        json!({"a": 5000000001u64})
    );
    assert_eq!(value(json!([1.5, 2.0, -3]), json!({})), json!([1.5, 2, -3]));
}

#[test]
fn slugids_by_label() {
    let template = json!({
        "a": "${as_slugid('x')}", "b": {"$eval": "as_slugid('x')"}, "c": {"$eval": "as_slugid('x' + payload.y)"},
        "d": "${as_slugid(payload.y)} and ${as_slugid('x')}", "${as_slugid('k')}": 1,
        "e": {"$map": {"$eval": "['x', 'z']"}, "each(l)": {"$eval": "as_slugid(l)"}},
    });
    let rendered = value(template, json!({"payload": {"y": "y"}}));
    let slug = |label: &str| crate::template::slugid("DryRunDrRySRunDryRun0Q", label);
    assert_eq!(rendered["a"], slug("x"));
    assert_eq!(rendered["b"], slug("x"));
    assert_eq!(rendered["c"], slug("xy"));
    assert_eq!(rendered["d"], format!("{} and {}", slug("y"), slug("x")));
    assert_eq!(rendered[slug("k")], 1);
    assert_eq!(rendered["e"], json!([slug("x"), slug("z")]));
}

#[test]
fn falsy_declines() {
    for template in [
        json!({"$eval": "null"}),
        json!({"$eval": "0"}),
        json!({"$eval": "''"}),
        json!({"$if": "false", "then": {}}),
    ] {
        assert_eq!(render(template, json!({})), Ok(Rendered::Declined));
    }
    assert_eq!(render(json!({}), json!({})), Ok(Rendered::Value(json!({}))));
}

#[test]
fn errors_say_where() {
    for (template, expected) in [
        (json!({"payload": {"env": [{"REV": "${payload.nope}"}]}}), "task.payload.env[0].REV: "),
        (json!({"$let": {"x": 1}, "in": {"a": {"$eval": "x + y"}}}), "task.in.a: "),
        (json!({"$if": "payload.ok", "then": {"a": {"$eval": "nope"}}}), "task.then.a: "),
        (json!({"$merge": [{}, {"a": {"$eval": "nope"}}]}), "task.$merge[1].a: "),
        (json!({"a": {"$fromNow": "99999999999 years"}}), "task.a: a number or a date is too large"),
    ] {
        let error = render(template.clone(), json!({"payload": {"ok": true}})).unwrap_err();
        assert!(error.starts_with(expected), "{template}: {error}");
    }
    for (template, expected) in [
        (json!({"a": {"$eval": "1 +"}}), "task.a.$eval: "),
        (json!({"a": ["x ${payload.}"]}), "task.a[0]: "),
        (json!({"$switch": {"a ==": 1}}), "task.$switch[\"a ==\"]: "),
        (json!({"a": {"$nope": 1}}), "task.a.$nope: is not an operator"),
    ] {
        let error = render(template.clone(), json!({})).unwrap_err();
        assert!(error.starts_with(expected), "{template}: {error}");
    }
}

#[test]
fn hostile_templates_are_refused_before_the_crate_sees_them() {
    let started = std::time::Instant::now();
    let mut deep = json!({"$eval": "1"});
    for _ in 0..100 {
        deep = json!({ "a": deep });
    }
    for template in [
        json!({"$eval": format!("{}1{}", "(".repeat(24), ")".repeat(24))}),
        json!({"$eval": format!("{}1{}", "[".repeat(24), "]".repeat(24))}),
        json!({"$eval": format!("1{}", "+1".repeat(20_000))}),
        json!({"$eval": format!("1{}", "+1".repeat(300))}),
        json!(format!("${{{}1}}", "-".repeat(20_000))),
        json!({"$eval": "x".repeat(100_000)}),
        deep,
    ] {
        assert!(JsonE::compile(&template, "task").is_err());
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn what_cannot_be_bounded_needs_a_worker() {
    let small = json!({"payload": {"list": vec![1; 20], "text": "x".repeat(5000)}});
    let needs =
        |template: Value| JsonE::compile(&template, "task").unwrap().needs_worker(small.as_object().unwrap());
    assert!(!needs(json!({"a": {"$map": {"$eval": "payload.list"}, "each(x)": "${x} ${payload.text}"}})));
    assert!(!needs(
        json!({"$let": {"a": "${payload.text}"}, "in": {"b": "${a}", "c": "${join(payload.list, ',')}"}})
    ));
    assert!(!needs(json!({"a": "${split(payload.text, '/')[0]}"})));
    assert!(needs(json!({"$eval": "range(0, 1000000000)"})));
    assert!(needs(json!({"$eval": "join(split(payload.text, ''), payload.text)"})));
    assert!(needs(
        json!({"$reduce": {"$eval": "payload.list"}, "each(acc, x)": "${acc}${acc}", "initial": "x"})
    ));
    let maps = |inner: Value| json!({"$map": {"$eval": "payload.list"}, "each(x)": inner});
    assert!(needs(maps(maps(maps(maps(maps(json!("${payload.text}"))))))));
    let doubling = |times: usize| {
        (0..times)
            .fold(json!({"$eval": "a"}), |inner, _| json!({"$let": {"a": {"$eval": "a + a"}}, "in": inner}))
    };
    assert!(needs(json!({"$let": {"a": "${payload.text}"}, "in": doubling(20)})));
    assert!(!needs(json!({"$let": {"a": "${payload.text}"}, "in": doubling(4)})));
    assert!(needs(
        json!({"$let": {"$eval": "payload"}, "in": {"$let": {"a": "${text}"}, "in": doubling(20)}})
    ));
}

/// As in the task templates of real projects: `$let` in `$let` in `$let`, each for many values.
#[test]
fn usual_templates_stay_in_the_process() {
    let values = |from: &str| -> Value {
        (0..10).map(|n| (format!("v{n}"), json!({"$if": format!("{from} == 'x'"), "then": format!("${{{from}}}"), "else": format!("a ${{{from}}}")}))).collect::<Map<_, _>>().into()
    };
    let template = json!({
        "$let": values("payload.text"),
        "in": {"$let": {"w": {"$switch": {"v0 == 'a'": "${v1}", "$default": "${v2}"}}}, "in": {
            "$let": {"z": "${w} ${v3}"}, "in": {"a": "${z} ${w}", "b": {"$flatten": ["x", {"$if": "z == w", "then": ["${z}"], "else": []}]}},
        }},
    });
    let context = json!({"payload": {"text": "x".repeat(10_000)}});
    assert!(!JsonE::compile(&template, "task").unwrap().needs_worker(context.as_object().unwrap()));
}

/// The expectations are the reference implementation's, see `tests/tools/json-e-oracle.mjs`.
#[test]
fn templates_in_use_render_as_the_reference_renders_them() {
    let corpus = crate::hook::parse_document(include_str!("../../../tests/cases/json-e/corpus.yml")).unwrap();
    let expected: Value =
        serde_json::from_str(include_str!("../../../tests/cases/json-e/corpus.expected.json")).unwrap();
    let (mut count, mut faults) = (0, Vec::new());
    for (case, expected) in corpus.as_array().unwrap().iter().zip(expected.as_array().unwrap()) {
        assert_eq!(case["name"], expected["name"]);
        let (contexts, results) =
            (case["contexts"].as_array().unwrap(), expected["results"].as_array().unwrap());
        assert_eq!(contexts.len(), results.len());
        for (context, result) in contexts.iter().zip(results) {
            count += 1;
            let rendered = render(case["template"].clone(), context.clone());
            let right = match (&rendered, result.get("value")) {
                (Ok(Rendered::Value(value)), Some(expected)) => same(value, expected),
                (Ok(Rendered::Declined), Some(expected)) => {
                    [json!(null), json!(0), json!(""), json!(false)].contains(expected)
                }
                (Err(_), None) => true,
                _ => false,
            };
            if !right {
                faults.push(format!("{} {context}: {rendered:?}, expected {result}", case["name"]));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count >= 30, "{count}");
}
