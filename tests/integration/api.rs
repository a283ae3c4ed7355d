//! The API as its callers meet it: who may what, triggers, what is on record.

#[path = "api/access.rs"]
mod access;
#[path = "api/client.rs"]
pub mod client;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/record.rs"]
mod record;
#[path = "api/remote.rs"]
mod remote;
#[path = "api/saved.rs"]
mod saved;
#[path = "api/triggers.rs"]
mod triggers;
