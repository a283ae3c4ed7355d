//! Nothing lost, nothing twice: events go in through every entrance while processes, connections, the disk and the queue
//! service fail, and afterwards each of them is accounted for. `tests/faults/run` prints the table; see `tests/README.md`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "faults/account.rs"]
mod account;
#[path = "faults/answers.rs"]
mod answers;
#[path = "faults/connections.rs"]
mod connections;
#[path = "faults/crash_points.rs"]
mod crash_points;
#[path = "faults/deletions.rs"]
mod deletions;
#[path = "faults/delivery_limit.rs"]
mod delivery_limit;
#[path = "faults/deployment.rs"]
mod deployment;
#[path = "faults/events.rs"]
mod events;
#[path = "faults/fairness.rs"]
mod fairness;
#[path = "faults/lane.rs"]
mod lane;
#[path = "faults/outages.rs"]
mod outages;
#[path = "faults/processes.rs"]
mod processes;
#[path = "faults/schedule.rs"]
mod schedule;
#[path = "faults/storm.rs"]
mod storm;
#[allow(dead_code, reason = "the integration tests need more of it")]
#[path = "integration/system.rs"]
mod system;
#[path = "faults/traffic.rs"]
mod traffic;
#[path = "faults/traps.rs"]
mod traps;
