//! What a 200 to a saved hook means: it listens.

use futures_util::future::join_all;

use super::super::system::{SOON, System, hook, shared_rabbit};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_published_a_moment_after_the_answer_fires_the_hook() {
    const HOOKS: usize = 30;
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("moment").await.unwrap();
    let system = System::start(&rabbit.url("moment")).await;
    // Several at a time, as a tool that applies a folder does it; each with a message of its own, at once and unrepeated.
    join_all((0..HOOKS).map(async |number| {
        let url = format!("{}/hooks/moment/hook-{number}", system.api_url);
        let pattern = format!("github.event{number}.#");
        let definition = hook(&[("exchange/pulsehook/v1/webhook", &pattern)]);
        let saved = system.http.json("PUT", &url, &definition).await.unwrap();
        assert_eq!(saved.status, 200, "{}", saved.json());
        let sent = system.send(&format!("event{number}"), &format!("d{number}"), b"{}").await.unwrap().json();
        assert_eq!(sent["routed"], true, "{sent}");
    }))
    .await;
    system.wait_for_tasks(HOOKS, SOON).await;
}
