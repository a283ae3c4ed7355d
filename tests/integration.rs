//! The integration tests: the real binary, real processes, a real broker, through the front door.

#![allow(clippy::unwrap_used)]

#[path = "integration/api.rs"]
mod api;
#[path = "integration/cli.rs"]
mod cli;
#[path = "integration/cron_dialect.rs"]
mod cron_dialect;
#[path = "integration/dead_letters.rs"]
mod dead_letters;
#[path = "integration/dev.rs"]
mod dev;
#[path = "integration/open_router.rs"]
mod open_router;
#[path = "integration/publishers.rs"]
mod publishers;
#[path = "integration/render_worker.rs"]
mod render_worker;
#[path = "integration/road.rs"]
mod road;
#[path = "integration/schedule.rs"]
mod schedule;
#[path = "integration/system.rs"]
mod system;
#[path = "integration/ui.rs"]
mod ui;
