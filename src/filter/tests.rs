use super::*;

fn message() -> Value {
    Value::from(minijinja::value::Serde(&serde_json::json!({
        "payload": {"ref": "refs/heads/try", "forced": false, "draft": "", "commits": [1, 2], "user": {"name": "a"}},
        "routingKey": "github.push",
    })))
}

fn verdict(source: &str) -> Result<Verdict, String> {
    Filter::compile(source, &Limits::default())
        .map_err(|problems| crate::hook::problem::join(&problems))?
        .decide(&message())
        .map_err(|error| error.message)
}

fn no(source: &str) -> (String, Vec<String>) {
    match verdict(source) {
        Ok(Verdict::No { term, saw }) => {
            (term, saw.into_iter().map(|saw| format!("{} = {}", saw.name, saw.value)).collect())
        }
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn a_no_tells_the_term_and_what_it_saw() {
    let (term, saw) =
        no("routingKey == \"github.push\" and payload.ref == \"refs/heads/main\" and nope == 1");
    assert_eq!(term, "payload.ref == \"refs/heads/main\"");
    assert_eq!(saw, ["payload.ref = \"refs/heads/try\""]);
    let (term, saw) = no("payload.forced or payload.ref in [\"and\", \"x\"]");
    assert_eq!(term, "payload.forced or payload.ref in [\"and\", \"x\"]");
    assert_eq!(saw, ["payload.forced = false", "payload.ref = \"refs/heads/try\""]);
    assert_eq!(no("payload.nope is defined and true").1, ["payload.nope = undefined"]);
    assert_eq!(no("payload.draft and payload.forced").0, "payload.draft");
    assert_eq!(no("payload.ref is matching(\"^refs/tags/\")").1, ["payload.ref = \"refs/heads/try\""]);
}

#[test]
fn a_yes_is_a_yes() {
    for source in [
        "true",
        "payload.ref == \"refs/heads/try\"",
        "payload.ref | basename == 'try' and payload.commits | length > 1",
        "not payload.forced",
        "(payload.forced and payload.nope) or routingKey is startingwith(\"github.\")",
        "payload.user.name == 'a' if payload.commits else false",
    ] {
        assert_eq!(verdict(source), Ok(Verdict::Yes), "{source}");
    }
}

#[test]
fn an_error_is_no_no() {
    for (source, message) in [
        ("payload.reff == \"x\"", "'payload.reff' is undefined in {{ payload.reff == \"x\" }}"),
        ("payload.user.mail.domain == \"x\"", "'payload.user.mail' is undefined"),
        ("payload.ref", "payload.ref gives string, must be true or false"),
        ("payload.nope", "'payload.nope' is undefined"),
        ("payload.commits | length", "payload.commits | length gives number, must be true or false"),
        ("range(99999) | map('string') | join | length > 1", "costs more than the limit"),
    ] {
        let error = verdict(source).unwrap_err();
        assert!(error.contains(message), "{source}: {error}");
    }
}

#[test]
fn what_does_not_compile_is_refused_with_the_reason() {
    for (source, message) in [
        ("payload.ref ==", "filter: syntax error"),
        ("payload.ref | basenam == 'x'", "filter: there is no filter basenam; did you mean basename?"),
        ("payload.ref is matchin('x')", "there is no test matchin; did you mean matching?"),
        ("nope(1)", "there is no function nope"),
        ("'yes'", "filter: must be true or false, is always string"),
        ("1 + 1", "filter: must be true or false, is always number"),
        ("[[[1] * 1000] * 1000] * 1000 == payload.commits", "must not have both * and ["),
    ] {
        let error = verdict(source).unwrap_err();
        assert!(error.contains(message), "{source}: {error}");
    }
    assert!(
        verdict(&format!("1 {}== 1", "+ 1 ".repeat(20_000)))
            .unwrap_err()
            .contains("more than 1000 operators")
    );
    assert!(verdict(&format!("{}1{}", "(".repeat(5000), ")".repeat(5000))).unwrap_err().contains("brackets"));
}
