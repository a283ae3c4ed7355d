//! Turns outside events into pulse messages.
//!
//! The one part of pulsehook that strangers reach. It proves who sent an event, gives it a routing key and an id that a
//! sender's retry gets again, and answers 2xx only once the message is safe. It holds webhook secrets and the right to
//! publish, and nothing else: no database, no queue credentials.

pub mod body;
pub mod bridge;
pub mod config;
pub mod event;
pub mod place;
pub mod provider;
pub mod publisher;
pub mod refusal;
pub mod signature;
pub mod source;
mod webhook;

pub use bridge::{Bridge, Now, Outside};
pub use config::{Config, SourceConfig};
