//! Turns outside events into pulse messages.
//!
//! The one part of pulsehook that strangers reach. It proves who sent an event, gives it a routing key and an id that a
//! sender's retry gets again, and answers 2xx only once the message is safe: confirmed by the broker, or fsynced in the
//! bridge's own spool. It also publishes the clock's ticks. It holds webhook secrets and the right to publish, and
//! nothing else: no hooks, no queue credentials.

pub mod accept;
pub mod body;
pub mod bridge;
pub mod clock;
pub mod config;
mod drain;
pub mod event;
mod health;
pub mod limits;
pub mod once;
pub mod peer;
pub mod place;
pub mod provider;
pub mod publisher;
pub mod refusal;
pub mod signature;
pub mod source;
pub mod spool;
pub mod status;
pub mod trial;
mod unbroken;
mod webhook;
pub mod window;

pub use bridge::{Bridge, Now, Outside, check};
pub use config::{Config, SourceConfig};
pub use source::{CompileFilter, Filter};
