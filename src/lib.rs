//! pulsehook: the event router that starts Taskcluster tasks when something happens.
//!
//! Every trigger source is first a message on pulse; the [`router`] consumes one queue per hook, decides,
//! renders a task and submits it to the queue service. Imports run one way:
//! `main → cli → app → {router, api, ui, bridge} → {template, filter, schedule, store, queue, auth} → hook`.

pub mod api;
pub mod app;
pub mod auth;
pub mod causes;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod filter;
pub mod health;
pub mod hook;
pub mod notify;
pub mod queue;
pub mod router;
pub mod schedule;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod template;
pub mod ui;
