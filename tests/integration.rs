//! The integration tests: the real binary, real processes, a real broker, through the front door.

#![allow(clippy::unwrap_used)]

#[path = "integration/api.rs"]
mod api;
#[path = "integration/backup.rs"]
mod backup;
#[path = "integration/cli.rs"]
mod cli;
#[path = "integration/clients.rs"]
mod clients;
#[path = "integration/closed_router.rs"]
mod closed_router;
#[path = "integration/cron_dialect.rs"]
mod cron_dialect;
#[path = "integration/dead_letters.rs"]
mod dead_letters;
#[path = "integration/deployment.rs"]
mod deployment;
#[path = "integration/described.rs"]
mod described;
#[path = "integration/dev.rs"]
mod dev;
#[path = "integration/doctor.rs"]
mod doctor;
#[path = "integration/events.rs"]
mod events;
#[path = "integration/health.rs"]
mod health;
#[path = "integration/import.rs"]
mod import;
#[path = "integration/limits.rs"]
mod limits;
#[path = "integration/listener.rs"]
mod listener;
#[path = "integration/local.rs"]
mod local;
#[path = "integration/mail.rs"]
mod mail;
#[path = "integration/metrics.rs"]
mod metrics;
#[path = "integration/packages.rs"]
mod packages;
#[path = "integration/publishers.rs"]
mod publishers;
#[path = "integration/python.rs"]
mod python;
#[path = "integration/render_worker.rs"]
mod render_worker;
#[path = "integration/road.rs"]
mod road;
#[path = "integration/schedule.rs"]
mod schedule;
#[path = "integration/system.rs"]
mod system;
#[path = "integration/tracing.rs"]
mod tracing;
#[path = "integration/ui.rs"]
mod ui;
#[path = "integration/waiting.rs"]
mod waiting;
