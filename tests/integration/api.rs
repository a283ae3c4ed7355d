//! The API as its callers meet it: who may what, triggers, what is on record.

#[path = "api/access.rs"]
mod access;
#[path = "api/client.rs"]
pub mod client;
#[path = "api/triggers.rs"]
mod triggers;
