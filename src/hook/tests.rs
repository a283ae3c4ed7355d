use super::*;

fn name() -> HookName {
    "proj-demo/on-push".parse().unwrap()
}

fn minimal() -> Value {
    json!({"metadata": {"name": "n", "description": "d", "owner": "a@example.com"}, "task": {}})
}

fn faults(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut document = minimal();
    change(&mut document);
    Hook::from_json(&name(), &document).unwrap_err().iter().map(Problem::to_string).collect()
}

#[test]
fn a_definition_always_shows_what_clients_index() {
    let shown = Hook::from_json(&name(), &minimal()).unwrap().to_json();
    assert_eq!(
        shown,
        json!({
            "hookGroupId": "proj-demo", "hookId": "on-push",
            "metadata": {"name": "n", "description": "d", "owner": "a@example.com", "emailOnError": true},
            "bindings": [], "schedule": [], "task": {},
            "triggerSchema": {"type": "object", "additionalProperties": false},
        })
    );
}

#[test]
fn a_shown_definition_reads_back_unchanged() {
    let document = json!({
        "metadata": {"name": "n", "description": "d", "owner": "a@example.com", "emailOnError": false},
        "bindings": [{"exchange": "exchange/x/v1/y", "routingKeyPattern": "#.a.*"}],
        "schedule": ["0 0 * * * *"], "task": {"payload": {"id": 12345678901234567890u64}},
        "templateEngine": "json-e", "filter": "true", "catchUp": "all", "paused": false,
    });
    let hook = Hook::from_json(&name(), &document).unwrap();
    assert_eq!(hook.trigger_schema, json!({"type": "object"}));
    assert_eq!(Hook::from_json(&name(), &hook.to_json()).unwrap(), hook);
}

#[test]
fn faults_are_reported_together_with_their_places() {
    let faults = faults(|document| {
        document["metadata"]["owner"] = json!("nobody");
        document["metadata"].as_object_mut().unwrap().remove("name");
        document["bindings"] = json!([{"exchange": "e", "routingKey": "#"}]);
        document["unknown"] = json!(1);
        document["task"] = json!([]);
    });
    for expected in [
        "metadata.owner: must be an e-mail address",
        "metadata.name: is required",
        "bindings[0].routingKeyPattern: is required",
        "bindings[0].routingKey: is not a known property",
        "unknown: is not a known property",
        "task: must be of type object, is array",
    ] {
        assert!(faults.iter().any(|fault| fault == expected), "{expected:?} is not in {faults:#?}");
    }
}

#[test]
fn a_schedule_has_a_hundred_expressions_at_most() {
    let with = |count: u32| {
        let expressions: Vec<_> = (0..count).map(|n| format!("{} {} * * *", n % 60, n / 60)).collect();
        let mut document = minimal();
        document["schedule"] = json!(expressions);
        Hook::from_json(&name(), &document)
    };
    assert!(with(100).is_ok());
    let faults = with(101).unwrap_err();
    assert_eq!((faults.len(), faults[0].path.as_str()), (1, "schedule"), "{faults:?}");
}

#[test]
fn names_in_the_document_must_agree_and_loops_are_refused() {
    let faults = faults(|document| {
        document["hookGroupId"] = json!("other");
        document["bindings"] = json!([
            {"exchange": "exchange/taskcluster-hooks/v1/hook-created", "routingKeyPattern": "#"},
            {"exchange": "exchange/taskcluster-queue/v1/task-created", "routingKeyPattern": "#"},
        ]);
    });
    assert_eq!(faults.len(), 3, "{faults:#?}");
    assert!(faults[0].starts_with("hookGroupId: must be \"proj-demo\""), "{faults:#?}");
    assert!(faults[1].starts_with("bindings[0].exchange: may not be bound"), "{faults:#?}");
}

#[test]
fn files_are_yaml_or_json_and_faults_have_lines() {
    let text = "# a hook\nhookGroupId: proj-demo\nhookId: on-push\nmetadata:\n  name: n\n  description: |\n    long\n  \
                owner: nobody\nbindings:\n  - exchange: e\n    routingKey: '#'\ntask: {}\n";
    let file = HookFile::parse(text).unwrap();
    assert_eq!(file.name().unwrap(), name());
    let located = file.locate(&file.hook(None).unwrap_err());
    let texts: Vec<_> = located.iter().map(Located::to_string).collect();
    assert!(texts.contains(&"line 8: metadata.owner: must be an e-mail address".to_owned()), "{texts:#?}");
    assert!(
        texts.contains(&"line 11: bindings[0].routingKey: is not a known property".to_owned()),
        "{texts:#?}"
    );

    let json = HookFile::parse(&minimal().to_string()).unwrap();
    assert_eq!(json.name().unwrap_err().to_string(), "hookGroupId: is required in a hook file");
    assert!(json.hook(Some(&name())).is_ok());

    let error = HookFile::parse("a: 1\nb: [1,\nc: {").unwrap_err().to_string();
    assert!(error.starts_with("line "), "{error}");
    assert!(matches!(HookFile::parse("a: 1\na: 2\n"), Err(ReadError::Syntax { line: 2, .. })));
}

#[test]
fn yaml_numbers_and_words_are_those_of_json() {
    let value =
        parse_document("{a: 12345678901234567890, b: yes, c: 1.5, d: null, e: 0x10, f: 012, g: -3}").unwrap();
    assert_eq!(value["a"], json!(12345678901234567890u64));
    assert_eq!(value["c"], json!(1.5));
    assert_eq!(value["d"], Value::Null);
    assert_eq!(value["g"], json!(-3));
}
