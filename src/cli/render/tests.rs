use super::diff::differences;
use super::*;

const DEMO: &str = include_str!("../../../config/hooks/demo.yml");

fn options() -> Options {
    Options { now: Some("2026-11-22T10:05:00Z".parse().unwrap()), ..Options::default() }
}

#[test]
fn the_example_hook_fires_on_its_event() {
    let event = r#"{"exchange": "exchange/pulsehook/v1/webhook", "routingKey": "demo.push", "payload": {"name": "Ann", "ref": "refs/heads/main"}}"#;
    let report = render(Path::new("hook.yml"), DEMO, event, &options()).unwrap();
    let task = report.task().unwrap();
    let expected = json!({
        "taskQueueId": "proj-demo/ci", "deadline": "2026-11-22T12:05:00.000Z", "taskGroupId": TASK_ID,
        "metadata": {"name": "Hello Ann"},
        "payload": {"env": {"NAME": "Ann", "BRANCH": "main"}},
    });
    assert_eq!(differences("task", &expected, &task, true), []);
    assert!(task.get("priority").is_none());
    assert_eq!(report.to_json()["outcome"], "fire");
    assert!(report.to_string().starts_with("proj-demo/on-webhook: fire\nThe hook fires.\n{"), "{report}");
}

#[test]
fn a_bare_payload_takes_its_place_from_the_options() {
    let placed = Options {
        exchange: Some("exchange/pulsehook/v1/webhook".into()),
        routing_key: Some("demo.push".into()),
        ..options()
    };
    assert_eq!(
        render(Path::new("hook.yml"), DEMO, "{name: Ann}", &placed).unwrap().decision.outcome(),
        "fire"
    );
    assert_eq!(
        render(Path::new("hook.yml"), DEMO, "{ref: refs/heads/try}", &placed).unwrap().decision.outcome(),
        "filtered"
    );
    let elsewhere = Options { routing_key: Some("other.push".into()), ..placed };
    assert_eq!(
        render(Path::new("hook.yml"), DEMO, "{name: Ann}", &elsewhere).unwrap().decision.outcome(),
        "not-bound"
    );
    let error = render(Path::new("hook.yml"), DEMO, "{name: Ann}", &options()).unwrap_err().to_string();
    assert!(error.contains("by option"), "{error}");
    let triggered = Options { fired_by: Some(FiredBy::TriggerHook), ..options() };
    assert_eq!(
        render(Path::new("hook.yml"), DEMO, "{name: Ann}", &triggered).unwrap().decision.outcome(),
        "fire"
    );
}

#[test]
fn faults_of_a_hook_file_have_their_lines() {
    let broken = DEMO
        .replace("| from-now }}", "| from-now")
        .replace("payload.name }}\"\n    description", "payload.name | nope }}\"\n    description");
    let faults = validate(&broken, &Limits::default()).unwrap_err();
    let texts: Vec<_> = faults.iter().map(Located::to_string).collect();
    let line = |key: &str| DEMO.lines().position(|line| line.trim_start().starts_with(key)).unwrap() + 1;
    let expected = format!("line {}: task.metadata.name: there is no filter nope", line("name: \"Hello"));
    assert!(texts.iter().any(|text| text.starts_with(&expected)), "{texts:#?}");
    let expected = format!("line {}: task.deadline: ", line("deadline:"));
    assert!(texts.iter().any(|text| text.starts_with(&expected)), "{texts:#?}");
    assert_eq!(validate(DEMO, &Limits::default()).unwrap().to_string(), "proj-demo/on-webhook");
    assert_eq!(validate("a: [", &Limits::default()).unwrap_err().len(), 1);
}

#[test]
fn all_example_hooks_are_valid_and_have_cases() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(root.join("config/hooks")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = validate(&text, &Limits::default());
        assert!(name.is_ok(), "{}: {name:?}", path.display());
        assert!(
            root.join("tests/cases/hooks").join(path.file_name().unwrap()).exists(),
            "{}",
            path.display()
        );
        count += 1;
    }
    assert!(count >= 3);
}
