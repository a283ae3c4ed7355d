//! Ten thousand hooks due in one minute, beside as many that are not. The figures are printed: `cargo test --release -- --nocapture ten_thousand`.

use std::time::Instant;

use super::*;
use crate::store::NewSchedule;

const HOOKS: usize = 20_000;

/// Far more than it takes, also without optimisation and beside other work.
const ENOUGH: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_hooks_of_one_minute_are_triggered_and_idle_ones_cost_nothing() {
    let world = World::new("2026-11-22T10:00:30Z").await;
    world.declare_queue().await;
    let mut schedules = Vec::new();
    for number in 0..HOOKS {
        // Half of them only next year.
        let document =
            World::document(&[if number % 2 == 0 { "5 10 * * *" } else { "@yearly" }], "latest", false);
        let new =
            NewHook { name: format!("g/h{number}").parse().unwrap(), document, stale_bindings: Vec::new() };
        schedules.push(world.store().create_hook(new, world.now().timestamp_millis()));
    }
    let rows: Vec<HookRow> = futures_util::future::join_all(schedules)
        .await
        .into_iter()
        .map(|saved| match saved.unwrap() {
            Saved::Changed(row) => row,
            other => panic!("{other:?}"),
        })
        .collect();
    let news = rows.iter().filter_map(|row| super::super::keep::new_schedule(row, row.updated_at));
    world.store().save_schedules(news.collect::<Vec<NewSchedule>>()).await.unwrap();
    world.tick("2026-11-22T10:04:00Z").await;

    let started = Instant::now();
    let swept = world.tick("2026-11-22T10:05:00Z").await;
    let took = started.elapsed();
    assert_eq!(swept.published, HOOKS / 2);
    println!("{} triggers published and confirmed in {took:?}", swept.published);
    assert!(took < ENOUGH, "{took:?}");

    let started = Instant::now();
    assert_eq!(world.tick("2026-11-22T10:06:00Z").await.published, 0);
    println!("a tick with nothing due, among {HOOKS} scheduled hooks: {:?}", started.elapsed());
}
