//! Making a hook, guided: from nothing, from an example, from a message that was just seen, or from another hook.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::document;
use super::edit::{PART, check, typed_message};
use super::explorer::{self, path};
use super::page::{Answer, merged};
use super::preview;
use super::refusal::Refusal;
use super::visit::Visit;
use crate::api::inside::{Inside, of_hook};
use crate::hook::{HookName, Located, Problem};

/// Examples: name, what it shows, the file.
const EXAMPLES: [(&str, &str, &str); 3] = [
    ("webhook", "A webhook becomes a task (minijinja)", include_str!("../../config/hooks/demo.yml")),
    (
        "json-e",
        "A push on GitHub becomes a task (JSON-e)",
        include_str!("../../config/hooks/github-json-e.yml"),
    ),
    ("schedule", "A task each night", include_str!("../../config/hooks/nightly.yml")),
];

/// Fields of a message that the skeleton of a hook takes up.
const FIELDS: usize = 6;

const NOTHING: &str = r##"metadata:
  name: …
  description: …
  owner: you@example.com
  emailOnError: true

# Which messages: exchange and routing-key pattern (* is one word, # any number of words).
bindings: []

# When: cron expressions, UTC. Five fields, or six with the second in front.
schedule: []

# Which of the messages: an expression, e.g. payload.ref == "refs/heads/main"
# filter: true

triggerSchema: {type: object}

task:
  taskQueueId: proj-demo/ci
  deadline: "{{ 2 hours | from-now }}"
  metadata:
    name: …
    description: "Fired by {{ firedBy }}"
    owner: you@example.com
    source: https://example.com/
  payload: {}
"##;

/// Where a new hook begins: its text, and the names that are proposed.
struct Start {
    text: String,
    group: String,
    id: String,
    chosen: Option<String>,
}

/// May they make any hook at all? Which ones, is for the name to say.
fn may_make_any(visit: &Visit) -> Result<(), Refusal> {
    let scopes = visit.visitor.identity.scopes.as_slice();
    let any = scopes.iter().any(|scope| {
        scope.starts_with("hooks:modify-hook:") || crate::auth::scope::satisfies(scope, "hooks:modify-hook:")
    });
    if any { Ok(()) } else { Ok(visit.need("hooks:modify-hook:*")?) }
}

/// `/new`.
pub(super) async fn form(visit: Visit) -> Result<Answer, Refusal> {
    may_make_any(&visit)?;
    let Some(start) = start(&visit).await? else {
        return page(&visit, None, json!({})).await;
    };
    page(&visit, Some(start), json!({})).await
}

async fn start(visit: &Visit) -> Result<Option<Start>, Refusal> {
    let Some(from) = visit.asked("from") else { return Ok(None) };
    let group = visit.asked("group").unwrap_or_default().to_owned();
    let (kind, which) = from.split_once(':').unwrap_or((from, ""));
    let start = match kind {
        "nothing" => Start { text: NOTHING.into(), group, id: String::new(), chosen: None },
        "example" => {
            let example = EXAMPLES.iter().find(|(name, ..)| *name == which);
            let (name, _, text) = example.ok_or_else(|| Refusal::not_found("There is no such example."))?;
            let text = text.replace("exchange/pulsehook/", &format!("exchange/{}/", visit.ui.inner.user));
            let named = |line: &&str| !line.starts_with("hookGroupId:") && !line.starts_with("hookId:");
            let text: Vec<&str> = text.lines().filter(named).collect();
            Start { text: text.join("\n") + "\n", group, id: (*name).to_owned(), chosen: None }
        }
        "message" => {
            let seq = which.parse().unwrap_or(0);
            let Some(message) = preview::remembered(visit, seq).await? else {
                return Err(Refusal::not_found("This message is no longer remembered; choose another."));
            };
            Start {
                text: from_message(&message),
                group,
                id: String::new(),
                chosen: Some(format!("seen:{seq}")),
            }
        }
        "hook" => {
            let name: HookName = which
                .parse()
                .map_err(|error| Refusal::not_found(format!("There is no such hook: {error}.")))?;
            visit.permitted("hook", &of_hook(&name))?;
            let Some(row) = visit.ui.inner.store.hook(name.clone()).await? else {
                return Err(Refusal::not_found(format!("There is no hook {name}.")));
            };
            let definition: Value = serde_json::from_str(&row.document).unwrap_or_default();
            let id = format!("{}-copy", name.id);
            Start { text: document::to_text(&definition), group: name.group, id, chosen: None }
        }
        _ => return Err(Refusal::not_found("A hook cannot begin like that.")),
    };
    Ok(Some(start))
}

/// A hook for messages like this one: its binding, and an environment from its topmost fields.
fn from_message(message: &pulse::Message) -> String {
    let payload: Value = serde_json::from_slice(&message.body).unwrap_or_default();
    let word = |key: &str| {
        let mut chars = key.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let scalars: Vec<(&String, &Value)> = payload
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| {
            word(key) && matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_))
        })
        .take(FIELDS)
        .collect();
    let env: serde_json::Map<String, Value> = scalars
        .iter()
        .map(|(key, _)| (key.to_uppercase(), Value::from(format!("{{{{ payload.{key} }}}}"))))
        .collect();
    let filter = scalars.iter().find_map(|(key, value)| {
        let text = value.as_str().filter(|text| text.len() < 80 && !text.contains(['"', '\\', '\n']))?;
        Some(format!("payload.{key} == {text:?}"))
    });
    let mut definition = json!({
        "metadata": { "name": "…", "description": "…", "owner": "you@example.com", "emailOnError": true },
        "bindings": [{ "exchange": message.exchange, "routingKeyPattern": message.routing_key }],
        "triggerSchema": { "type": "object" },
        "task": {
            "taskQueueId": "proj-demo/ci",
            "deadline": "{{ 2 hours | from-now }}",
            "metadata": {
                "name": "{{ routingKey }}",
                "description": "Fired by {{ firedBy }}",
                "owner": "you@example.com",
                "source": "https://example.com/",
            },
            "payload": { "env": env },
        },
    });
    if let Some(filter) = filter {
        definition["filter"] = json!(filter);
    }
    document::to_file(&definition)
}

/// What was typed, sent: tried out, or made into a hook.
pub(super) async fn act(visit: Visit) -> Result<Answer, Refusal> {
    may_make_any(&visit)?;
    let text = visit.field("document").replace("\r\n", "\n");
    let what = visit.field("do").to_owned();
    let part = what == "preview" && visit.headers.contains_key(PART);
    let faulty = |faults: Vec<Located>| json!({ "faults": faults });
    let again = || Start {
        text: text.clone(),
        group: visit.field("group").to_owned(),
        id: visit.field("id").to_owned(),
        chosen: visit.given("message").map(ToOwned::to_owned),
    };
    let name = match HookName::new(visit.field("group").trim(), visit.field("id").trim()) {
        Ok(name) => name,
        // A preview needs a name that nothing depends on.
        Err(_) if part => HookName { group: "group".into(), id: "hook".into() },
        Err(error) => {
            return page(&visit, Some(again()), json!({ "name_fault": error.to_string() })).await;
        }
    };
    if !part {
        visit.permitted("createHook", &of_hook(&name))?;
    }
    let checked = match check(&visit, &name, &text).await {
        Ok(checked) => checked,
        Err(faults) if part => {
            return Ok(Answer::Part {
                template: "preview.html",
                values: json!({ "faults": faults, "preview": null }),
            });
        }
        Err(faults) => return page(&visit, Some(again()), faulty(faults)).await,
    };
    if what == "preview" {
        let preview = preview::preview(&visit, None, &checked.hook).await?;
        let values = json!({ "preview": preview, "faults": [] });
        return match part {
            true => Ok(Answer::Part { template: "preview.html", values }),
            false => page(&visit, Some(again()), values).await,
        };
    }
    let inside = Inside {
        method: "createHook",
        params: &of_hook(&name),
        body: Some(checked.definition.to_string().into()),
        ..Inside::default()
    };
    match visit.ui.inner.api.call(&visit.visitor.identity, inside).await {
        Ok(_) if visit.may("hook", &name) => Ok(Answer::done(&path(&name), "created")),
        Ok(_) => Ok(Answer::done("/hooks", "created")),
        Err(error) => {
            let problem = Problem::new("", error.message());
            page(&visit, Some(again()), faulty(vec![Located { line: 1, problem }])).await
        }
    }
}

async fn page(visit: &Visit, start: Option<Start>, more: Value) -> Result<Answer, Refusal> {
    let is_faulty =
        more["faults"].as_array().is_some_and(|faults| !faults.is_empty()) || !more["name_fault"].is_null();
    let examples: Vec<Value> =
        EXAMPLES.iter().map(|(name, title, _)| json!({ "name": name, "title": title })).collect();
    let messages = preview::of_all(visit).await?;
    let mut values = json!({
        "explorer": explorer::explorer(visit, None).await?,
        "examples": examples,
        "messages": messages,
        "started": start.is_some(),
        "action": "/new",
        "is_new": true,
        "version": 0,
        "faults": [],
        "preview": null,
        "name_fault": null,
    });
    if let Some(start) = start {
        values["document"] = json!(start.text);
        values["group"] = json!(start.group);
        values["id"] = json!(start.id);
        values["chosen"] = json!(start.chosen.unwrap_or_default());
    }
    let values = merged(merged(more, values), typed_message(visit));
    let status = if is_faulty { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(Answer::Page { status, template: "new.html", values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::HookFile;
    use crate::router::decide::Rules;

    #[test]
    fn whatever_a_hook_begins_with_can_be_saved_as_it_is() {
        let message = pulse::Message {
            exchange: "exchange/me/v1/webhook".into(),
            routing_key: "github.push._.o.r".into(),
            body: r#"{"ref": "refs/heads/main", "n": 1, "odd-key": "x", "deep": {}, "quote": "\"'"}"#.into(),
            ..pulse::Message::default()
        };
        let started = from_message(&message);
        assert!(started.contains("payload.ref") && !started.contains("odd"), "{started}");
        let texts = EXAMPLES.iter().map(|(_, _, text)| *text).chain([NOTHING, &started]);
        for text in texts {
            let file = HookFile::parse(text).unwrap();
            let name = HookName::new("proj-demo", file.value()["hookId"].as_str().unwrap_or("h")).unwrap();
            let hook = file.hook(Some(&name)).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
            Rules::compile(&hook, &Default::default())
                .unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
        }
    }
}
