//! What people do with hooks, in the browser: make, try, change, trigger, watch, mend, delete.

use harness::eventually;
use serde_json::json;

use super::super::system::SOON;
use super::browser::Browser;
use super::deployment::{TOKEN, base, call, create, deployment, last_fire, on_push, populated, push};

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_made_from_a_message_tried_and_changed_beside_somebody_else() {
    let system = populated("ui-editing").await;
    let browser = Browser::start(&base(&system)).await;
    browser.sign_in("admin", TOKEN).await;
    browser.until("Overview").await;
    // Guided, from a message that was just seen.
    browser.open("/new").await;
    browser.press("github.push._.o.r").await;
    browser.until("Create the hook").await;
    browser.fill("#group", "ci").await;
    browser.fill("#id", "made/here").await;
    let draft = browser.value("#document").await;
    assert!(
        draft.contains("routingKeyPattern: github.push._.o.r") && draft.contains("payload.ref"),
        "{draft}"
    );
    // The preview follows what is typed: first with a fault at its line, then the filter's no, then the task.
    browser.paste("#document", &draft.replace("{{ payload.ref }}", "{{ payload.ref")).await;
    browser.until("task.payload.env.REF").await;
    assert!(browser.has(".preview [data-line]").await && browser.has(".lines .at").await);
    browser.paste("#document", &draft.replace("payload.after == ", "payload.after != ")).await;
    browser.until("The filter says no").await;
    let good: String =
        draft.lines().filter(|line| !line.starts_with("filter:")).map(|line| format!("{line}\n")).collect();
    browser.paste("#document", &good).await;
    browser.until("The hook fires.").await;
    browser.until("Rendered task").await;
    browser.look_over("preview").await;
    assert_eq!(call(&system, "GET", "/hooks/ci/made%2Fhere", None).await.status, 404, "trying saves nothing");
    browser.press("Create the hook").await;
    browser.until("The hook has been created").await;
    assert_eq!(browser.path().await, "/hooks/ci/made%2Fhere");

    // A change: faults, the diff, a save that somebody else came before, and the save.
    browser.press("Edit").await;
    let text = browser.value("#document").await;
    browser.paste("#document", &text.replace("bindings:", "bindigns:")).await;
    browser.press("Review the changes").await;
    browser.until("cannot be saved as it is").await;
    browser.until("is not a known property").await;
    assert!(browser.value("#document").await.contains("bindigns"), "what was typed is still there");
    browser.paste("#document", &text.replace("owner: you@example.com", "owner: me@example.com")).await;
    browser.press("Review the changes").await;
    browser.until("What would change").await;
    let added =
        browser.client.find(fantoccini::Locator::Css("tr.added .line")).await.unwrap().text().await.unwrap();
    assert!(added.contains("me@example.com"), "{added}");
    browser.look_over("review").await;
    let mut theirs = call(&system, "GET", "/hooks/ci/made%2Fhere", None).await.json();
    theirs["metadata"]["description"] = json!("changed by somebody else");
    assert_eq!(call(&system, "POST", "/hooks/ci/made%2Fhere", Some(&theirs)).await.status, 200);
    browser.press("Save").await;
    browser.until("Somebody else has saved this hook meanwhile").await;
    browser.until("What they changed").await;
    browser.until("changed by somebody else").await;
    browser.look_over("conflict").await;
    browser.press("Save").await;
    browser.until("The hook has been saved").await;
    let saved = call(&system, "GET", "/hooks/ci/made%2Fhere", None).await.json();
    assert_eq!(saved["metadata"]["owner"], "me@example.com");

    // Its token, shown and reset; pause; delete, with the name typed.
    browser.press("Manage").await;
    browser.press("Show the token").await;
    let token = browser.value("#shown").await;
    browser.press("Reset the token").await;
    browser.until("The token has been reset").await;
    let reset = browser.value("#shown").await;
    assert!(token.len() == 43 && reset.len() == 43 && token != reset);
    browser.press("Pause").await;
    browser.until("The hook is paused").await;
    browser.press("Manage").await;
    browser.press("Resume").await;
    browser.until("The hook goes on").await;
    browser.press("Manage").await;
    browser.fill("#name", "ci/made").await;
    browser.press("Delete the hook").await;
    browser.until("Nothing was deleted").await;
    browser.fill("#name", "ci/made/here").await;
    browser.press("Delete the hook").await;
    browser.until("The hook has been deleted").await;
    assert_eq!(call(&system, "GET", "/hooks/ci/made%2Fhere", None).await.status, 404);
    // All of it is in the audit, under the name of who did it.
    let audit = call(&system, "GET", "/hooks/ci/made%2Fhere/audit", None).await.json();
    let mut actions: Vec<&str> =
        audit["audit"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    // What the router did about it.
    actions.retain(|action| *action != "delete-queue");
    let wanted = [
        "delete-hook",
        "update-hook",
        "update-hook",
        "reset-token",
        "update-hook",
        "update-hook",
        "create-hook",
    ];
    assert_eq!(actions, wanted);
    assert!(!audit.to_string().contains(&reset), "no token is in the audit");
    browser.content().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_mended_and_requeued_and_a_fire_is_replayed() {
    let system = populated("ui-again").await;
    let dead = last_fire(&system, "ci/broken").await;
    let browser = Browser::start(&base(&system)).await;
    browser.sign_in("admin", TOKEN).await;
    browser.open("/dead-letters").await;
    browser.press(&dead).await;
    browser.until("payload.missing").await;
    browser.press("Requeue").await;
    browser.until("payload.missing").await;
    assert!(browser.has(".error[role=alert]").await, "it is said why that does not help yet");
    // Mended, from the message itself: the change is tried on it first.
    browser.press("Try with changes").await;
    browser.until("The template failed").await;
    let text = browser.value("#document").await;
    browser.paste("#document", &text.replace("payload.missing.there", "payload.after")).await;
    browser.until("\"rev\": \"abc\"").await;
    browser.press("Review the changes").await;
    browser.press("Save").await;
    browser.until("The hook has been saved").await;
    browser.open(&format!("/hooks/ci/broken/fires/{dead}")).await;
    browser.press("Requeue").await;
    browser.until("The dead letter was rendered anew").await;
    let fire = format!("/hooks/ci/broken/fires/{dead}");
    eventually(SOON, async || {
        browser.open(&fire).await;
        browser.text().await.contains("task created").then_some(())
    })
    .await;
    let link = browser.client.find(fantoccini::Locator::LinkText("Open the task")).await.unwrap();
    assert!(link.attr("href").await.unwrap().unwrap().ends_with(&format!("/tasks/{dead}")));
    browser.press("Replay as a new task").await;
    browser.until("fired again as a new task").await;
    assert_ne!(browser.path().await, fire);
    // The message as a test event, for `pulsehook hook render`.
    let mut forms = super::access::Forms::new(&system);
    forms.sign_in("admin").await;
    let (status, event) = forms.get(&format!("{fire}/event")).await;
    let event: serde_json::Value = serde_json::from_str(&event).unwrap();
    assert_eq!(
        (status, &event["routingKey"], &event["payload"]["after"]),
        (200, &json!("github.push._.o.r"), &json!("abc"))
    );
    let (status, task) = forms.get(&format!("{fire}/task")).await;
    assert!(status == 200 && task.contains("\"rev\""), "{task}");
    browser.content().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_form_follows_the_schema() {
    let system = populated("ui-trigger").await;
    let browser = Browser::start(&base(&system)).await;
    browser.sign_in("admin", TOKEN).await;
    browser.open("/hooks/ci/nightly%2Fclean/trigger").await;
    assert_eq!(browser.value("[name='field.days']").await, "30");
    browser.fill("[name='field.days']", "0").await;
    browser.choose("[name='field.kind']", "quick").await;
    browser.fill("[name='field.list']", "[1, 2").await;
    browser.press("Trigger").await;
    browser.until("list: this is not JSON").await;
    browser.fill("[name='field.list']", "[1, 2]").await;
    browser.fill("[name='field.days']", "0").await;
    browser.press("Trigger").await;
    browser.until("does not satisfy the hook's triggerSchema").await;
    browser.until("payload.days").await;
    assert_eq!(browser.value("[name='field.days']").await, "0", "what was typed is still there");
    browser.look_over("trigger-refused").await;
    browser.fill("[name='field.days']", "7").await;
    browser.choose("[name='field.kind']", "quick").await;
    browser.press("Trigger").await;
    browser.until("The hook has been triggered").await;
    browser.until("\"days\": 7").await;
    browser.until("triggerHook").await;
    let fires = call(&system, "GET", "/hooks/ci/nightly%2Fclean/last-fires", None).await.json();
    assert_eq!(fires["lastFires"][0]["firedBy"], "triggerHook");
    browser.content().await;
    let audit = call(&system, "GET", "/hooks/ci/nightly%2Fclean/audit", None).await.json();
    assert_eq!(
        (&audit["audit"][0]["action"], &audit["audit"][0]["clientId"]),
        (&json!("trigger-hook"), &json!("admin"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_watched_as_they_come() {
    let system = deployment("ui-live").await;
    create(&system, "ci/on-push", &on_push()).await;
    let payload = |branch: &str| json!({ "ref": format!("refs/heads/{branch}"), "repository": { "name": "r", "owner": { "login": "o" } } });
    push(&system, "ci/on-push", "before", &payload("before")).await;
    let browser = Browser::start(&base(&system)).await;
    browser.sign_in("admin", TOKEN).await;
    browser.open("/hooks/ci/on-push/live").await;
    browser.until("refs/heads/before").await;
    push(&system, "ci/on-push", "after", &payload("after")).await;
    browser.until("refs/heads/after").await;
    push(&system, "ci/on-push", "main", &payload("main")).await;
    browser.until("The hook fires.").await;
    assert!(browser.has(".timeline li.good a[href^='/hooks/ci/on-push/fires/']").await);
    browser.look_over("live-with-messages").await;
    browser.press("Pause").await;
    push(&system, "ci/on-push", "paused", &payload("paused")).await;
    browser.until("Go on (1 new)").await;
    browser.press("Go on (1 new)").await;
    browser.until("refs/heads/paused").await;
    // Of a message that did not fire, too, the message is there: to be looked at, tried and kept.
    browser
        .client
        .find(fantoccini::Locator::LinkText("try with changes"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser.until("The filter says no").await;
    browser.open("/hooks/ci/on-push/history?only=decisions").await;
    browser.client.find(fantoccini::Locator::Css(".timeline .entry")).await.unwrap().click().await.unwrap();
    browser.until("The term of the filter that said no").await;
    browser.until("Save as test event").await;
    browser.until("refs/heads/paused").await;
    browser.look_over("decision").await;
    browser.content().await;
    // The tail ends with the session.
    let mut forms = super::access::Forms::new(&system);
    forms.sign_in("admin").await;
    let tail = format!("{}/hooks/ci/on-push/live/events", base(&system));
    let anonymous = system.http.get(&tail).await.unwrap();
    assert_eq!(anonymous.status, 303);
    let cookie = forms.cookie.clone();
    let headers = [("cookie", cookie.as_str())];
    let watched = system.http.call("GET", &tail, &headers, "");
    let ending = async {
        let answer = forms.send("/hooks", "/sign-out", &[]).await;
        assert_eq!(answer.status, 303);
    };
    let (watched, ()) = tokio::join!(watched, ending);
    let heard = String::from_utf8_lossy(&watched.unwrap().body).into_owned();
    assert!(heard.contains("event: seen") && heard.contains("event: ended"), "{heard}");
}
