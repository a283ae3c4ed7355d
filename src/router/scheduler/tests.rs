//! The scheduler on a real store and the embedded transport, with a clock that the test moves.

mod scale;
mod silence;
mod year;

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::hook::HookName;
use crate::store::{Config as StoreConfig, HookRow, NewHook, Saved};

/// Longer than anything should take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A deployment that can be stopped at any point and started again on the same files.
struct World {
    folder: TempDir,
    time: Arc<Mutex<DateTime<Utc>>>,
    config: schedule::Config,
    parts: Option<(Store, Arc<dyn Transport>, Arc<Scheduler>)>,
}

impl World {
    async fn new(start: &str) -> Self {
        let config =
            schedule::Config { on_time_seconds: 150, missed_max_age_seconds: 7 * 24 * 3600, catch_up_cap: 3 };
        let mut world = Self {
            folder: tempfile::tempdir().unwrap(),
            time: Arc::new(Mutex::new(at(start))),
            config,
            parts: None,
        };
        world.start().await;
        world
    }

    async fn start(&mut self) {
        // The store's lock and the transport's file are free when their threads have ended.
        if let Some((store, transport, scheduler)) = self.parts.take() {
            transport.close().await;
            drop((transport, scheduler));
            tokio::task::spawn_blocking(move || store.close()).await.unwrap();
        }
        let store = Store::open(&StoreConfig { path: self.folder.path().join("store.db") }, || ()).unwrap();
        let transport: Arc<dyn Transport> =
            Arc::new(pulse::Embedded::open(&self.folder.path().join("pulse.db")).unwrap());
        transport.declare_exchange("exchange/pulsehook/v1/trigger").await.unwrap();
        let time = self.time.clone();
        let scheduler = Scheduler::new(Parts {
            store: store.clone(),
            transport: transport.clone(),
            key: key(),
            user: "pulsehook".into(),
            queue_kind: QueueKind::Classic,
            config: self.config.clone(),
            decisions_kept: 100,
            delivery_limit: 50,
            now: Arc::new(move || *time.lock().unwrap()),
        });
        self.parts = Some((store, transport, Arc::new(scheduler)));
    }

    fn store(&self) -> &Store {
        &self.parts.as_ref().unwrap().0
    }

    fn transport(&self) -> &Arc<dyn Transport> {
        &self.parts.as_ref().unwrap().1
    }

    fn scheduler(&self) -> &Arc<Scheduler> {
        &self.parts.as_ref().unwrap().2
    }

    fn now(&self) -> DateTime<Utc> {
        *self.time.lock().unwrap()
    }

    fn set(&self, time: DateTime<Utc>) {
        *self.time.lock().unwrap() = time;
    }

    /// Moves the clock and looks at what is due.
    async fn tick(&self, time: &str) -> Swept {
        self.set(at(time));
        self.scheduler().sweep().await.unwrap()
    }

    /// One queue for the triggers of all hooks, in which they stay in order.
    async fn declare_queue(&self) {
        let binding = Binding { exchange: "exchange/pulsehook/v1/trigger".into(), pattern: "#".into() };
        let spec = QueueSpec {
            name: "triggers".into(),
            kind: QueueKind::Classic,
            delivery_limit: None,
            dead_letter_exchange: None,
            max_length: None,
            bindings: vec![binding],
            unbind: Vec::new(),
        };
        self.transport().declare_queue(spec).await.unwrap();
    }

    fn document(schedule: &[&str], catch_up: &str, paused: bool) -> String {
        json!({
            "metadata": { "name": "n", "description": "d", "owner": "a@example.com" },
            "task": {}, "schedule": schedule, "catchUp": catch_up, "paused": paused,
        })
        .to_string()
    }

    async fn create(&self, name: &str, schedule: &[&str], catch_up: &str) -> HookRow {
        let document = Self::document(schedule, catch_up, false);
        let new = NewHook { name: name.parse().unwrap(), document, stale_bindings: Vec::new() };
        let saved = self.store().create_hook(new, self.now().timestamp_millis()).await.unwrap();
        let Saved::Changed(row) = saved else { panic!("{name} exists") };
        self.scheduler().saved(&row).await.unwrap();
        row
    }

    async fn update(&self, row: &HookRow, document: String) -> HookRow {
        let new = NewHook { name: row.name.clone(), document, stale_bindings: Vec::new() };
        let now = self.now().timestamp_millis();
        let saved = self.store().update_hook(new, row.version, now).await.unwrap();
        let Saved::Changed(row) = saved else { panic!("changed meanwhile") };
        self.scheduler().saved(&row).await.unwrap();
        row
    }

    /// Takes all triggers out of the queue: what each hook was triggered for, in order, each message id once.
    async fn triggers(&self) -> BTreeMap<String, Vec<DateTime<Utc>>> {
        let (sink, mut arriving) = mpsc::channel(1_000);
        self.declare_queue().await;
        // A last message, behind all others.
        let mut end = pulse::Message::default();
        (end.exchange, end.routing_key) = ("exchange/pulsehook/v1/trigger".into(), "end".into());
        assert!(self.transport().publish(&end, true).await.unwrap().routed);
        self.transport().consume("triggers", 1_000, sink).await.unwrap();
        let mut ids = std::collections::HashSet::new();
        let mut triggers: BTreeMap<String, Vec<_>> = BTreeMap::new();
        loop {
            let delivery = tokio::time::timeout(DEADLINE, arriving.recv()).await.unwrap().unwrap();
            let message = delivery.message.clone();
            delivery.ack();
            if message.routing_key == "end" {
                break;
            }
            let name: HookName = message.routing_key.replace('.', "/").parse().unwrap();
            let trigger = key().verify("pulsehook", &name, &message).unwrap();
            assert_eq!(trigger.fired_by, crate::router::decide::FiredBy::Schedule);
            if ids.insert(message.properties.message_id.clone()) {
                triggers.entry(name.to_string()).or_default().push(trigger.scheduled_for.unwrap());
            }
        }
        self.transport().cancel("triggers").await.unwrap();
        triggers
    }

    async fn fired(&self, hook: &str) -> Vec<String> {
        let triggers = self.triggers().await;
        triggers.get(hook).into_iter().flatten().map(|time| time.format("%d %H:%M:%S").to_string()).collect()
    }
}

fn key() -> TriggerKey {
    TriggerKey::new(b"a key of the tests")
}

#[tokio::test]
async fn each_moment_is_published_once_however_often_one_looks() {
    let world = World::new("2026-11-22T10:00:30Z").await;
    world.declare_queue().await;
    world.create("g/h", &["*/5 * * * *", "0 10 10 * * *"], "latest").await;
    assert_eq!(world.tick("2026-11-22T10:04:59Z").await.published, 0);
    let swept = world.tick("2026-11-22T10:05:00Z").await;
    assert_eq!((swept.published, swept.next), (1, Some(at("2026-11-22T10:10:00Z"))));
    assert_eq!(world.tick("2026-11-22T10:05:01Z").await.published, 0);
    assert_eq!(world.tick("2026-11-22T10:11:00Z").await.published, 1);
    assert_eq!(world.fired("g/h").await, ["22 10:05:00", "22 10:10:00"]);
}

#[tokio::test]
async fn a_hook_whose_queue_does_not_stand_stays_due() {
    let world = World::new("2026-11-22T10:00:30Z").await;
    world.create("g/h", &["5 * * * *"], "latest").await;
    let swept = world.tick("2026-11-22T10:05:00Z").await;
    assert_eq!((swept.published, swept.unrouted), (0, 1));
    world.declare_queue().await;
    let swept = world.tick("2026-11-22T10:05:10Z").await;
    assert_eq!((swept.published, swept.unrouted), (1, 0));
    assert_eq!(world.fired("g/h").await, ["22 10:05:00"]);
}

#[tokio::test]
async fn after_an_interruption_each_policy_does_its_own_and_says_what_was_missed() {
    let world = World::new("2026-11-22T10:00:30Z").await;
    world.declare_queue().await;
    let mut rows = Vec::new();
    for catch_up in ["latest", "all", "none"] {
        rows.push(world.create(&format!("g/{catch_up}"), &["0 * * * *"], catch_up).await);
    }
    world.tick("2026-11-22T19:30:00Z").await;
    let triggers = world.triggers().await;
    let count = |name: &str| triggers.get(name).map_or(0, Vec::len);
    assert_eq!((count("g/latest"), count("g/all"), count("g/none")), (1, 3, 0));
    assert_eq!(triggers["g/all"], [17, 18, 19].map(|hour| at(&format!("2026-11-22T{hour}:00:00Z"))));
    for (row, missed) in rows.iter().zip([8, 6, 9]) {
        let decisions = world.store().decision_entries(row.incarnation, None, 10).await.unwrap();
        assert_eq!(decisions.len(), 1);
        assert_eq!(decisions[0].row.outcome, "missed-schedule");
        assert!(
            decisions[0].row.reason.starts_with(&format!("{missed} scheduled times were missed")),
            "{decisions:?}"
        );
    }
    assert_eq!(world.tick("2026-11-22T19:31:00Z").await.published, 0);
}

#[tokio::test]
async fn a_changed_schedule_never_fires_the_past_and_a_pause_is_caught_up() {
    let world = World::new("2026-11-22T10:00:30Z").await;
    world.declare_queue().await;
    let row = world.create("g/h", &["0 * * * *"], "latest").await;
    // No tick came at eleven; the schedule is changed before the next one does.
    world.set(at("2026-11-22T11:30:00Z"));
    let row = world.update(&row, World::document(&["15 * * * *"], "latest", false)).await;
    assert_eq!(world.tick("2026-11-22T11:31:00Z").await.published, 0);
    // Paused over three moments, then not.
    let row = world.update(&row, World::document(&["15 * * * *"], "latest", true)).await;
    assert_eq!(world.tick("2026-11-22T14:20:00Z").await.published, 0);
    let row = world.update(&row, World::document(&["15 * * * *"], "latest", false)).await;
    assert_eq!(world.tick("2026-11-22T14:20:01Z").await.published, 1);
    // Without a schedule, and with one again.
    let row = world.update(&row, World::document(&[], "latest", false)).await;
    assert_eq!(world.tick("2026-11-22T15:15:00Z").await, Swept::default());
    let row = world.update(&row, World::document(&["15 * * * *"], "latest", false)).await;
    assert_eq!(world.tick("2026-11-22T15:16:00Z").await.published, 0);
    world.store().delete_hook(row.name, 0).await.unwrap();
    assert_eq!(world.tick("2026-11-22T16:15:00Z").await, Swept::default());
    assert_eq!(world.fired("g/h").await, ["22 14:15:00"]);
}

#[tokio::test]
async fn a_hook_that_was_saved_before_a_crash_is_scheduled_after_it() {
    let mut world = World::new("2026-11-22T10:00:30Z").await;
    world.declare_queue().await;
    let document = World::document(&["30 * * * * *"], "latest", false);
    let new = NewHook { name: "g/h".parse().unwrap(), document, stale_bindings: Vec::new() };
    // In the future of the table's making, or it would not count from the hook's own moment.
    let later = Utc::now() + TimeDelta::days(1);
    world.set(later);
    world.store().create_hook(new, later.timestamp_millis()).await.unwrap();
    world.start().await;
    world.set(later + TimeDelta::seconds(60));
    assert_eq!(world.scheduler().sweep().await.unwrap().published, 1);
}

#[tokio::test]
async fn a_clock_that_was_wrong_and_is_set_right_silences_nobody() {
    let world = World::new("2026-11-22T10:00:30Z").await;
    world.declare_queue().await;
    world.create("g/h", &["0 * * * *"], "latest").await;
    world.tick("2026-11-22T11:00:00Z").await;
    // A year ahead for a moment, then right again.
    world.tick("2027-11-22T12:00:00Z").await;
    world.tick("2026-11-22T11:02:00Z").await;
    assert_eq!(world.tick("2026-11-22T12:00:00Z").await.published, 1);
    assert_eq!(world.tick("2026-11-22T13:00:00Z").await.published, 1);
    // A minute of correction is none.
    world.tick("2026-11-22T12:59:30Z").await;
    assert_eq!(world.tick("2026-11-22T13:00:00Z").await.published, 0);
    assert_eq!(world.fired("g/h").await, ["22 11:00:00", "22 12:00:00", "22 12:00:00", "22 13:00:00"]);
}

#[tokio::test]
async fn ticks_of_the_clock_make_it_look_and_seconds_within_a_minute_are_kept() {
    let world = World::new("2026-11-22T10:00:30Z").await;
    world.declare_queue().await;
    world.create("g/h", &["0 5 * * * *", "1 5 * * * *"], "latest").await;
    let running = tokio::spawn(world.scheduler().clone().run());
    let tick = pulse::Message {
        exchange: "exchange/pulsehook/v1/clock".into(),
        routing_key: "time.2026.11.22.sun.10.05".into(),
        body: bytes::Bytes::from_static(b"{\"time\": \"2026-11-22T10:05:00Z\"}"),
        ..Default::default()
    };
    world.set(at("2026-11-22T10:05:00Z"));
    let all = async {
        // The queue stands when a tick is routed.
        while !world.transport().publish(&tick, true).await.is_ok_and(|published| published.routed) {
            tokio::task::yield_now().await;
        }
        while world.store().schedules_handled().await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        world.set(at("2026-11-22T10:05:01Z"));
        while world.store().next_scheduled(0).await.unwrap()
            < Some(at("2026-11-22T11:05:00Z").timestamp_millis())
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, all).await.unwrap();
    assert_eq!(world.scheduler().last_tick(), Some(at("2026-11-22T10:05:00Z")));
    running.abort();
    assert_eq!(world.fired("g/h").await, ["22 10:05:00", "22 10:05:01"]);
}
