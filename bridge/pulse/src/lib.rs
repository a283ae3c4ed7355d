//! Pulse: RabbitMQ topic exchanges with Mozilla's naming rules, as the rest of pulsehook sees them.
//!
//! The ground floor. It knows messages, names, topic patterns and how to move a message safely between a
//! publisher and a queue; it knows nothing of hooks or webhooks. Two transports stand behind one trait:
//! [`amqp`](transport) sessions on a RabbitMQ broker that recover by themselves, and an embedded one that keeps its queues
//! in SQLite for a machine without a broker.

pub mod amqp;
pub mod config;
pub mod embedded;
pub mod message;
pub mod naming;
pub mod secret;
pub mod topic;
pub mod transport;

pub use amqp::Amqp;
pub use config::{Config, ConfigError};
pub use embedded::Embedded;
pub use message::{Headers, Message, Properties};
pub use secret::Secret;
pub use transport::{
    Binding, BindingHealth, Delivery, Event, PublishError, Published, QueueKind, QueueSpec, Settle,
    Settlement, Status, TopologyError, Transport,
};
