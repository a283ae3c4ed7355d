//! Templates that mean harm: each ends within its limits, as an error.

use std::time::{Duration, Instant};

use super::*;

fn outcome(payload_template: Value) -> Result<Decision, Vec<Problem>> {
    let hook = hook(|hook| hook["task"]["payload"] = payload_template);
    let rules = Rules::compile(&hook, &Limits::default())?;
    let message = message(&json!({"text": "x".repeat(1000), "list": vec![0; 100]}).to_string());
    Ok(rules.decide(&event(&message)))
}

#[test]
fn minijinja_templates_end_within_their_limits() {
    let chain = |operator: &str, count: usize| format!("{{{{ 1{} }}}}", operator.repeat(count));
    for template in [
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}".to_owned(),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{{ range(1000000000) }}".to_owned(),
        "{{ 'x' * 10000000000 }}".to_owned(),
        "{{ [1] * 10000000000 }}".to_owned(),
        "{{ '%1000000000d' | format(1) }}".to_owned(),
        "{{ payload.text | replace('x', payload.text) | replace('x', payload.text) }}".to_owned(),
        "{{ payload.text | indent(1000000000) }}".to_owned(),
        format!(
            "{{% set x0 = payload.text %}}{}{{{{ x29 }}}}",
            (1..30).map(|n| format!("{{% set x{n} = x{0} ~ x{0} %}}", n - 1)).collect::<String>()
        ),
        format!(
            "{{% set x0 = [1] %}}{}{{{{ x29 }}}}",
            (1..30).map(|n| format!("{{% set x{n} = [x{0}, x{0}] %}}", n - 1)).collect::<String>()
        ),
        "{{ payload.text | regex_replace('', payload.text) | regex_replace('', payload.text) }}".to_owned(),
        "{{ (payload.text * 100) | regex_search('(x+x+)+y') }}".to_owned(),
        "{{ payload.list | map('string') | join(payload.text * 1000) }}".to_owned(),
        format!("{{% set x = [1] %}}{}{{{{ x }}}}", "{% set x = [x] %}".repeat(5000)),
        chain(" + 1", 20_000),
        chain(" | abs", 20_000),
        chain(" if 1 else 1", 20_000),
        chain(" == 1", 20_000),
        chain(".a", 20_000),
        chain("[0]", 20_000),
        chain("**2", 20_000),
        format!("{{{{ {}1 }}}}", "-".repeat(20_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(20_000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(20_000)),
        format!("{}{}", "{% if 1 %}".repeat(20_000), "{% endif %}".repeat(20_000)),
    ] {
        let shown: String = template.chars().take(60).collect();
        let started = Instant::now();
        match outcome(json!({"a": template})) {
            Ok(Decision::TemplateError { .. }) | Err(_) => {}
            Ok(other) => panic!("{shown}: {}", other.outcome()),
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{shown} took {:?}", started.elapsed());
    }
}

#[test]
fn statements_in_keys_end_within_their_limits() {
    let nested = json!({"{% for a in range(100000) %}": {"{% for b in range(100000) %}": {"{{ a }}.{{ b }}": "{{ payload.text }}"}}});
    assert!(matches!(outcome(nested), Ok(Decision::TemplateError { exceeded: true, .. })));
    let big = json!({"list": [{"{% for a in range(10000) %}": "{{ payload.text }}"}]});
    assert!(matches!(outcome(big), Ok(Decision::TemplateError { exceeded: true, .. })));
    let mut deep = json!("{{ 1 }}");
    for _ in 0..120 {
        deep = json!([deep]);
    }
    let mut document = hook(|_| {}).to_json();
    document["task"]["payload"] = json!({"a": deep});
    let problems = Hook::from_json(&"proj-demo/on-push".parse().unwrap(), &document).unwrap_err();
    assert!(problems[0].message.contains("nested deeper"), "{problems:?}");
}

#[test]
fn filters_end_within_their_limits() {
    for filter in [
        "range(100000) | map('string') | join | length == 1",
        "(payload.text * 1000000) == 'x'",
        "(payload.text * 60) is matching('(x+x+)+y')",
    ] {
        let rules = rules(|hook| hook["filter"] = json!(filter));
        let message = message(&json!({"text": "x".repeat(1000)}).to_string());
        let decision = rules.decide(&event(&message));
        assert_ne!(decision.outcome(), "fire", "{filter}");
    }
}

#[test]
fn schemas_end_within_their_limits() {
    let compile = |schema: Value| {
        let hook = hook(|hook| hook["triggerSchema"] = schema);
        Rules::compile(&hook, &Limits::default())
    };
    let rules =
        compile(json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(x+x+)+y$"}}}))
            .unwrap();
    let started = Instant::now();
    let message = message(&json!({"a": "x".repeat(100_000)}).to_string());
    assert_eq!(rules.decide(&event(&message)).outcome(), "schema-mismatch");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for schema in [
        json!({"properties": {"a": {"pattern": "(((a{1000}){1000}){1000})"}}}),
        json!({"$ref": "file:///etc/passwd"}),
        json!({"properties": {"a": {"$ref": "http://127.0.0.1:1/x.json"}}}),
        json!({"type": "nonsense"}),
        json!({"properties": {"a": {"pattern": "("}}}),
    ] {
        let problems = compile(schema.clone()).err().unwrap_or_else(|| panic!("{schema}"));
        assert!(problems[0].path.starts_with("triggerSchema"), "{problems:?}");
    }
}

#[test]
fn looking_for_items_in_lists_again_and_again_ends() {
    let list: Vec<u32> = (0..10_000).map(|n| n % 7 + 1).collect();
    let text =
        json!({ "list": list, "last": [9], "others": vec![9; 9000], "texts": vec!["x".repeat(3000); 6] })
            .to_string();
    let message = message(&text);
    for template in [
        "{{ payload.list | select('in', payload.list | reverse) | list | length }}",
        "{{ payload.list | select('in', payload.others) | list | length }}",
        "{{ payload.list | reject('in', payload.others | reverse) | list | length }}",
        "{% for x in payload.list %}{% if x in payload.others %}x{% endif %}{% endfor %}",
        "{{ payload.list | reject('in', payload.last) | select('in', payload.list) | list | length }}",
        "{% for x in payload.list %}{% if 9 in payload.list %}x{% endif %}{% endfor %}",
        "{% for x in payload.list %}{% if payload.list == payload.texts or payload.texts[0] == payload.texts[1] %}x{% endif %}{% endfor %}",
        "{{ payload.list | map('string') | unique | list | length }}",
        "{{ payload.list | groupby | length if false else payload.list | sort | length }}",
    ] {
        let rules = rules(|hook| hook["task"]["payload"] = json!({ "a": template }));
        let started = Instant::now();
        let decision = rules.decide(&event(&message));
        assert!(started.elapsed() < Duration::from_secs(5), "{template}: {}", decision.reason());
    }
}

#[test]
fn a_schema_that_means_harm_is_refused_with_its_hook() {
    let next =
        |level: usize| json!({ "allOf": vec![json!({ "$ref": format!("#/definitions/d{level}") }); 20] });
    let mut schema = next(1);
    for level in 1..8 {
        schema["definitions"][format!("d{level}")] = next(level + 1);
    }
    schema["definitions"]["d8"] = json!({ "type": "object" });
    let hook = hook(|hook| hook["triggerSchema"] = schema.clone());
    let started = Instant::now();
    let problems = Rules::compile(&hook, &Limits::default()).err().expect("it is refused");
    assert_eq!(problems[0].path, "triggerSchema", "{problems:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
