use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::template::context::{Context, Fire};
use crate::template::{environment, json};

fn fire() -> Fire {
    Fire {
        hook: Arc::new("proj-demo/on-push".parse().unwrap()),
        exchange: "exchange/x/v1/y".into(),
        routing_key: "a.b".into(),
        headers: Default::default(),
        message_id: None,
        fired_by: "pulseMessage".into(),
        client_id: None,
        scheduled_for: None,
        task_id: "AAAAAAAAQAAAAAAAAAAAAA".into(),
        now: "2026-11-22T10:05:00Z".parse().unwrap(),
    }
}

#[test]
fn every_entry_works_as_its_example_says() {
    let environment = environment::shared(100_000);
    let context = Context::value(Arc::new(fire()), Value::from_pairs([("ref", "refs/heads/main")]));
    for function in all() {
        let (source, expected) = function.example;
        crate::template::guard::check(source, 1000, &|_| false)
            .unwrap_or_else(|error| panic!("{source}: {error}"));
        let value = environment
            .compile_expression(source)
            .and_then(|expression| expression.eval(context.clone()))
            .unwrap_or_else(|error| panic!("{source}: {error:#}"));
        assert_eq!(
            json::text(&value)
                .map(|text| if value.as_str().is_some() { serde_json::json!(text).to_string() } else { text })
                .unwrap(),
            expected,
            "{source}"
        );
        let written = match function.kind {
            Kind::Filter => format!("| {}", function.name),
            Kind::Test => format!("is {}", function.name),
            Kind::Function => function.name.to_owned(),
        };
        assert!(function.usage.contains(&written), "{:?} doesn't show {written:?}", function.usage);
        assert!(source.contains(function.name), "{source} is no example of {}", function.name);
    }
}

/// minijinja doesn't list its filters and tests, but prints their names.
#[test]
fn there_is_nothing_that_the_table_does_not_tell() {
    let environment = environment::shared(100_000);
    let printed = format!("{environment:?}");
    for (section, kind) in [("filters: [", Kind::Filter), ("tests: [", Kind::Test)] {
        let start = printed.find(section).unwrap() + section.len();
        let list = &printed[start..start + printed[start..].find(']').unwrap()];
        let there: BTreeSet<&str> = list
            .split(',')
            .map(|name| name.trim().trim_matches('"'))
            .filter(|name| name.starts_with(|c: char| c.is_alphabetic()))
            .collect();
        let told: BTreeSet<&str> =
            all().filter(|function| function.kind == kind).map(|function| function.name).collect();
        assert_eq!(there, told);
    }
    let there: BTreeSet<&str> = environment.globals().map(|(name, _)| name).collect();
    let told: BTreeSet<&str> =
        all().filter(|function| function.kind == Kind::Function).map(|function| function.name).collect();
    assert_eq!(there, told);
}

/// `UPDATE_DOCS=1 cargo test` writes the table anew.
#[test]
fn the_documentation_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/template/README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (head, rest) = text.split_once("<!-- functions -->\n").unwrap();
    let (_, tail) = rest.split_once("<!-- /functions -->").unwrap();
    let wanted = format!("{head}<!-- functions -->\n{}<!-- /functions -->{tail}", markdown());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    } else {
        assert!(text == wanted, "src/template/README.md is behind the table; run with UPDATE_DOCS=1");
    }
}
