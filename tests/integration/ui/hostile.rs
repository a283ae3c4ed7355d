//! What strangers write stays text, on every page and in every field.

use serde_json::json;

use super::super::system::hook;
use super::browser::Browser;
use super::deployment::{TOKEN, WEBHOOKS, base, create, deployment, last_fire, push};

/// Markup, script, a template, an end of everything that text could stand in.
const HOSTILE: &str = "</title></textarea></script><script>window.hacked=1</script><img src=x onerror=\"window.hacked=2\">'\"{{ 7*7 }}${7*7}</code>";

#[tokio::test(flavor = "multi_thread")]
async fn no_text_of_strangers_becomes_markup_or_script() {
    let system = deployment("ui-hostile").await;
    let mut definition = hook(&[(WEBHOOKS, "github.#")]);
    definition["metadata"]["name"] = json!(HOSTILE[..200.min(HOSTILE.len())].to_owned());
    definition["metadata"]["description"] = json!(HOSTILE);
    definition["triggerSchema"] = json!({
        "type": "object",
        "properties": {
            HOSTILE: { "type": "string", "title": HOSTILE, "description": HOSTILE, "default": HOSTILE, "pattern": "<script>" },
            "choice": { "enum": [HOSTILE, "b"] },
        },
    });
    definition["filter"] = json!("payload.ref != \"<script>window.hacked=3</script>\"");
    create(&system, "ci/hostile", &definition).await;
    let mut refused = hook(&[("exchange/<img src=x onerror=window.hacked=4>", "#")]);
    refused["task"]["payload"] = json!({ "<script>window.hacked=5</script>": "{{ payload.nothing.here }}" });
    refused["bindings"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "exchange": WEBHOOKS, "routingKeyPattern": "github.#" }));
    create(&system, "ci/refused", &refused).await;
    let payload = |branch: &str| json!({ "ref": branch, HOSTILE: HOSTILE, "action": HOSTILE, "repository": { "name": HOSTILE, "owner": { "login": HOSTILE } } });
    push(
        &system,
        "ci/hostile",
        HOSTILE.replace(|c: char| !c.is_ascii_graphic(), "").as_str(),
        &payload(HOSTILE),
    )
    .await;
    push(&system, "ci/hostile", "no", &payload("<script>window.hacked=3</script>")).await;
    let fire = last_fire(&system, "ci/hostile").await;
    let dead = last_fire(&system, "ci/refused").await;
    let browser = Browser::start(&base(&system)).await;
    browser.sign_in(HOSTILE, HOSTILE).await;
    browser.until("Access token").await;
    browser.sign_in("admin", TOKEN).await;
    browser.until("Overview").await;
    let query = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect::<String>();
    let pages = [
        "/".to_owned(),
        "/hooks/ci".to_owned(),
        format!("/hooks?q={query}"),
        format!("/hooks/{query}"),
        format!("/{query}"),
        "/hooks/ci/hostile".to_owned(),
        "/hooks/ci/refused".to_owned(),
        "/hooks/ci/hostile/history".to_owned(),
        "/hooks/ci/refused/history".to_owned(),
        format!("/hooks/ci/hostile/fires/{fire}"),
        format!("/hooks/ci/refused/fires/{dead}"),
        format!("/hooks/ci/hostile/fires/{query}"),
        "/hooks/ci/hostile/live".to_owned(),
        "/hooks/ci/hostile/definition".to_owned(),
        "/hooks/ci/hostile/edit".to_owned(),
        format!("/hooks/ci/hostile/edit?message=fire:{fire}"),
        "/hooks/ci/hostile/trigger".to_owned(),
        "/hooks/ci/hostile/manage".to_owned(),
        "/hooks/ci/hostile/audit".to_owned(),
        "/new".to_owned(),
        format!("/new?from={query}"),
        format!("/new?from=nothing&group={query}"),
        "/dead-letters".to_owned(),
        "/sources/github".to_owned(),
        "/audit".to_owned(),
        format!("/sign-in?next={query}&done={query}"),
    ];
    for page in pages {
        browser.open(&page).await;
        if page.ends_with("/live") {
            browser.until("github.").await;
        }
        let script = "return [window.hacked || 0, document.querySelectorAll('script:not([src]), img, [onerror]').length]";
        let found = browser.client.execute(script, Vec::new()).await.unwrap();
        assert_eq!(found, json!([0, 0]), "{page}");
        let complaints = browser.complaints().await;
        assert!(complaints.is_empty(), "{page}: {complaints:#?}");
    }
    // A definition that is typed, and a message that is pasted.
    browser.open("/hooks/ci/hostile/edit").await;
    browser.choose("#message", "pasted").await;
    browser.paste("#pasted", &json!({ HOSTILE: HOSTILE, "ref": HOSTILE }).to_string()).await;
    browser.until("Rendered task").await;
    browser
        .paste(
            "#document",
            &format!(
                "metadata: {{name: {HOSTILE:?}}}\nfilter: \"</p><img src=x onerror=window.hacked=6>\"\n"
            ),
        )
        .await;
    browser.until("The definition has faults").await;
    browser.press("Review the changes").await;
    browser.until("cannot be saved").await;
    let hacked = browser
        .client
        .execute("return [window.hacked || 0, document.querySelectorAll('img').length]", Vec::new())
        .await;
    assert_eq!(hacked.unwrap(), json!([0, 0]));
    browser.content().await;
}
