//! Dead letters and replay, in one process.

use harness::eventually;
use serde_json::{Value, json};

use super::local::Dev;
use super::system::{SOON, hook, sign_with};

/// What these tests do with a server.
trait Actions {
    async fn send(&self, delivery: &str, body: &Value);
    async fn put(&self, method: &str, definition: &Value);
    async fn last_fire(&self, wanted: impl Fn(&Value) -> bool) -> Value;
    fn cli(&self, arguments: &[&str]) -> (bool, String);
}

impl Actions for Dev {
    async fn send(&self, delivery: &str, body: &Value) {
        let body = body.to_string();
        let signature = format!("sha256={}", sign_with(&self.secret(), body.as_bytes()));
        let headers = [
            ("content-type", "application/json"),
            ("x-github-event", "push"),
            ("x-github-delivery", delivery),
            ("x-hub-signature-256", &signature),
        ];
        let answer =
            self.http.call("POST", &format!("{}/webhooks/demo", self.url), &headers, body).await.unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    async fn put(&self, method: &str, definition: &Value) {
        let url = format!("{}/api/hooks/v1/hooks/ci/x", self.url);
        let answer = self.http.json(method, &url, definition).await.unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    async fn last_fire(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(SOON, || async {
            let url = format!("{}/api/hooks/v1/hooks/ci/x/last-fires", self.url);
            let fires = self.http.get(&url).await.ok()?.json();
            let last = fires["lastFires"].get(0)?.clone();
            wanted(&last).then_some(last)
        })
        .await
    }

    /// Whether the command succeeded, and what it printed.
    fn cli(&self, arguments: &[&str]) -> (bool, String) {
        let (code, text) = self.run(arguments);
        (code == 0, text)
    }
}

fn definition(rev: &str) -> Value {
    let mut definition = hook(&[("exchange/pulsehook/v1/webhook", "demo.#")]);
    definition["task"]["payload"]["rev"] = json!(rev);
    definition
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_succeed_is_kept_and_succeeds_once_the_hook_is_mended() {
    let dev = Dev::start().await;
    dev.put("PUT", &definition("{{ payload.commit.id }}")).await;
    dev.send("1", &json!({ "after": "abc" })).await;
    let dead = dev.last_fire(|fire| fire["result"] == "error").await;
    let task_id = dead["taskId"].as_str().unwrap();

    let (_, listed) = dev.cli(&["dead", "list"]);
    assert!(listed.contains(task_id) && listed.contains("template-error"), "{listed}");
    let (_, shown) = dev.cli(&["dead", "show", "ci/x", task_id]);
    assert!(shown.contains("\"after\": \"abc\"") && shown.contains("task.payload.rev"), "{shown}");

    // Not before the hook is mended.
    let (ok, refused) = dev.cli(&["dead", "requeue", "ci/x", task_id]);
    assert!(!ok && refused.contains("task.payload.rev"), "{refused}");
    dev.put("POST", &definition("{{ payload.after }}")).await;
    let (ok, requeued) = dev.cli(&["dead", "requeue", "ci/x", "--all"]);
    assert!(ok && requeued.contains(task_id), "{requeued}");
    let fire = dev.last_fire(|fire| fire["taskState"] == "unscheduled").await;
    assert_eq!(fire["taskId"], task_id, "the identity stays");
    let task = dev.http.get(&format!("{}/api/queue/v1/task/{task_id}", dev.url)).await.unwrap().json();
    assert_eq!(task["payload"]["rev"], "abc");
    assert_eq!(dev.cli(&["dead", "list", "ci/x"]).1, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_dead_letter_is_no_success() {
    let dev = Dev::start().await;
    dev.put("PUT", &definition("{{ payload.commit.id }}")).await;
    dev.send("1", &json!({ "after": "abc" })).await;
    let dead = dev.last_fire(|fire| fire["taskState"] == "dead").await;
    let (ok, text) = dev.cli(&["dead", "drop", "ci/x", dead["taskId"].as_str().unwrap()]);
    assert!(ok, "{text}");
    let dropped = dev.last_fire(|fire| fire["taskState"] == "dropped").await;
    assert_eq!((&dropped["result"], &dropped["error"]), (&json!("error"), &dead["error"]));
    let url = format!("{}/api/hooks/v1/hooks/ci/x/status", dev.url);
    let status = dev.http.get(&url).await.unwrap().json();
    assert_eq!(status["lastFire"]["result"], "error", "{status}");
    assert!(status["lastFire"].get("taskId").is_none(), "there is no such task: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_message_is_replayed_as_the_same_task_or_as_a_new_one() {
    let dev = Dev::start().await;
    dev.put("PUT", &definition("{{ payload.after }}")).await;
    dev.send("1", &json!({ "after": "abc" })).await;
    let fire = dev.last_fire(|fire| fire["taskState"] == "unscheduled").await;
    let task_id = fire["taskId"].as_str().unwrap();
    let total = async || {
        dev.http.get(&format!("{}/api/queue/v1/tasks", dev.url)).await.unwrap().json()["total"]
            .as_u64()
            .unwrap()
    };
    let before = total().await;

    let (ok, text) = dev.cli(&["replay", "ci/x", "--fire", task_id]);
    assert!(ok && text.contains(task_id), "{text}");
    dev.last_fire(|fire| fire["taskState"] == "unscheduled").await;
    assert_eq!(total().await, before, "the same task is not made twice");

    let (ok, text) = dev.cli(&["replay", "ci/x", "--fire", task_id, "--as-new"]);
    assert!(ok && !text.contains(task_id), "{text}");
    eventually(SOON, async || (total().await == before + 1).then_some(())).await;

    let (ok, text) = dev.cli(&["replay", "ci/x", "--fire", "no-such-fire"]);
    assert!(!ok && text.contains("no fire with the task id no-such-fire"), "{text}");
}
