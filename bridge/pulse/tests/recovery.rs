//! What a session survives, each provoked on a real broker.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "recovery/bench.rs"]
mod bench;
#[path = "recovery/losses.rs"]
mod losses;
#[path = "recovery/refusals.rs"]
mod refusals;
#[path = "recovery/traps.rs"]
mod traps;

use std::sync::Arc;

use harness::Rabbit;

macro_rules! run_all {
    ($($case:path),+ $(,)?; $rabbit:expr) => {{
        let rabbit = Arc::new($rabbit);
        let running = vec![$((stringify!($case), tokio::spawn($case(rabbit.clone())))),+];
        let mut failed = Vec::new();
        for (name, case) in running {
            if case.await.is_err() {
                failed.push(name);
            }
        }
        assert!(failed.is_empty(), "failed: {failed:?}");
    }};
}

/// These leave the broker itself alone and share it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_broker_that_stays() {
    bench::watch_logs();
    run_all!(
        losses::connections_closed_by_an_operator, losses::topology_connection_closed, losses::cut_while_publishing, losses::cut_while_publishing_together, losses::silent_peer,
        traps::queue_deleted_under_a_consumer, traps::text_that_is_not_utf8, traps::exchange_deleted,
        traps::foreign_exchange_made_again,
        traps::a_full_queue_beside_ours, traps::late_confirms, traps::tls_with_prompt_confirms,
        refusals::wrong_password, refusals::vhost_with_a_slash, refusals::no_such_vhost, refusals::nobody_there, refusals::not_a_broker,
        refusals::many_refused_bindings, refusals::consuming_is_forbidden, refusals::publishing_is_forbidden, refusals::group_beside_refusals,
        refusals::queue_with_other_arguments;
        Rabbit::start_with_tls().await.unwrap()
    );
    bench::no_secret_was_logged();
}

/// These stop, kill, freeze and starve the broker, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_broker_that_suffers() {
    let mut rabbit = Rabbit::start().await.unwrap();
    losses::broker_stopped_and_killed(&mut rabbit).await;
    traps::memory_alarm(&rabbit).await;
    traps::channel_closed_by_the_broker(&rabbit).await;
    losses::broker_frozen(&rabbit).await;
}
