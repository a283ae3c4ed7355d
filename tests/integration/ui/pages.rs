//! Every page, looked over: nothing keeps people out, nothing is wider than a telephone, the browser has nothing to complain about.

use serde_json::json;

use super::browser::Browser;
use super::deployment::{TOKEN, base, last_fire, populated};

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_usable_and_keeps_to_its_policy() {
    let system = populated("ui-pages").await;
    // Something refused, for the source's page.
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", "push"),
        ("x-hub-signature-256", "sha256=00"),
    ];
    let refused =
        system.http.call("POST", &format!("{}/webhooks/github", system.bridge_url), &headers, "{}").await;
    assert_eq!(refused.unwrap().status, 403);
    let fire = last_fire(&system, "ci/on-push").await;
    let dead = last_fire(&system, "ci/broken").await;
    let browser = Browser::start(&base(&system)).await;
    browser.open("/").await;
    browser.until("Access token").await;
    browser.look_over("sign-in").await;
    browser.sign_in("admin", TOKEN).await;
    browser.until("Overview").await;
    let pages = [
        ("overview", "/".to_owned(), "no exchange 'exchange/not/there'"),
        ("hooks", "/hooks".to_owned(), "ops"),
        ("group", "/hooks/ci".to_owned(), "nightly/clean"),
        ("search", "/hooks?q=PUSH".to_owned(), "1 hooks with “push”"),
        ("hook", "/hooks/ci/on-push".to_owned(), "payload.ref is \"refs/heads/try\""),
        ("hook-schedule", "/hooks/ci/nightly%2Fclean".to_owned(), "0 30 2 * * *"),
        ("hook-refused", "/hooks/ops/foreign".to_owned(), "refused"),
        ("history", "/hooks/ci/on-push/history".to_owned(), "task created"),
        ("fires", "/hooks/ci/on-push/history?only=fires".to_owned(), "task created"),
        ("fire", format!("/hooks/ci/on-push/fires/{fire}"), "refs/heads/main"),
        ("dead-fire", format!("/hooks/ci/broken/fires/{dead}"), "task.payload.rev"),
        ("live", "/hooks/ci/on-push/live".to_owned(), "watching"),
        ("definition", "/hooks/ci/on-push/definition".to_owned(), "routingKeyPattern"),
        ("edit", "/hooks/ci/on-push/edit".to_owned(), "Review the changes"),
        ("trigger", "/hooks/ci/nightly%2Fclean/trigger".to_owned(), "How many."),
        ("trigger-json", "/hooks/ci/on-push/trigger".to_owned(), "Payload, as JSON"),
        ("manage", "/hooks/ci/on-push/manage".to_owned(), "Delete the hook"),
        ("audit-of-hook", "/hooks/ci/on-push/audit".to_owned(), "create-hook"),
        ("new", "/new".to_owned(), "github.push._.o.r"),
        ("new-from-example", "/new?from=example:webhook".to_owned(), "Create the hook"),
        ("dead-letters", "/dead-letters".to_owned(), "ci/broken"),
        ("sources", "/sources".to_owned(), "https://hooks.example.com/webhooks/github"),
        ("source", "/sources/github".to_owned(), "SignatureWrong"),
        ("audit", "/audit".to_owned(), "create-hook"),
        ("not-found", "/nowhere".to_owned(), "There is no page at this address"),
    ];
    for (name, path, wanted) in pages {
        browser.open(&path).await;
        browser.until(wanted).await;
        browser.look_over(name).await;
    }
    // By keyboard: the first thing that is reached leads past the navigation.
    browser.open("/hooks/ci/on-push").await;
    let focused = "return [document.activeElement.className, getComputedStyle(document.activeElement).outlineStyle].join(' ')";
    let body = browser.client.find(fantoccini::Locator::Css("body")).await.unwrap();
    body.send_keys("\u{e004}").await.unwrap();
    let reached = browser.client.execute(focused, Vec::new()).await.unwrap();
    assert_eq!(reached, json!("skip solid"));
    browser.content().await;
}
