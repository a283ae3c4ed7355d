//! One suite, run against every transport: what callers may rely on, whichever they were given.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "conformance/bench.rs"]
mod bench;
#[path = "conformance/consuming.rs"]
mod consuming;
#[path = "conformance/publishing.rs"]
mod publishing;
#[path = "conformance/topology.rs"]
mod topology;

use bench::{Bench, Place};

macro_rules! run_all {
    ($place:expr; $($module:ident: $($case:ident),+;)+) => {{
        let place: Place = $place;
        let mut running = Vec::new();
        $($(
            let bench = Bench::new(place.clone(), stringify!($case));
            running.push((stringify!($case), tokio::spawn($module::$case(bench))));
        )+)+
        let mut failed = Vec::new();
        for (name, case) in running {
            if case.await.is_err() {
                failed.push(name);
            }
        }
        assert!(failed.is_empty(), "failed: {failed:?}");
    }};
}

async fn whole_suite(place: Place) {
    run_all!(place;
        publishing: routing, mandatory, missing_exchange, properties, too_long, large_body, many_at_once, default_exchange;
        consuming: order, ack_retry_reject, dropped_is_retried, prefetch, full_sink, cancel, consume_again, sink_gone,
                   redelivered_after_reopening, delivery_limit;
        topology: exchange_stands, bindings_changed, refused_binding_heals, waiting, delete_counts, max_length, wrong_arguments, many_queues, topics_match, all_at_once;
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    let folder = tempfile::tempdir().unwrap();
    whole_suite(Place::Embedded(folder.path().to_owned())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq() {
    let rabbit = harness::Rabbit::start().await.unwrap();
    whole_suite(Place::Amqp(rabbit.url("/"))).await;
}
