//! Pulse: RabbitMQ topic exchanges with Mozilla's naming rules, as the rest of pulsehook sees them.
//!
//! The ground floor. It knows messages, names, topic patterns and how to move a message safely between a
//! publisher and a queue; it knows nothing of hooks or webhooks. Two transports stand behind one trait,
//! [`Transport`]: [`Amqp`], sessions on a RabbitMQ broker that recover by themselves, and [`Embedded`], which keeps its
//! queues in SQLite for a machine without a broker. [`Config`] chooses. One suite of tests (`tests/conformance.rs`) runs
//! against both.
//!
//! # What callers may rely on
//!
//! - **Published means kept.** [`Transport::publish`] returns `Ok` only after the broker's confirm: the message is in every
//!   queue that was bound for it, and survives the broker; only a queue that keeps refusing what the others take (full, with the
//!   overflow `reject-publish`) goes without, after 30 seconds of repeating and with a warning in the log. If the connection breaks, everybody whose message is not
//!   confirmed is told so. The error says whether a repeat can help: [`PublishError`].
//! - **Delivered until settled.** A [`Delivery`] is ended by exactly one of ack, retry and reject; dropped, it is
//!   retried. What was not ended when a connection or a process died is delivered again, marked as redelivered.
//! - **Declared means wanted.** Exchanges, queues, bindings and consumers are made again after every loss, without
//!   anybody being restarted: broker stopped, killed, frozen or closed by an operator; a channel closed, a queue or an
//!   exchange deleted. `tests/recovery.rs` provokes each.
//! - **One's trouble is not another's.** A refused binding, an unreadable message, a forbidden queue, a full sink or a missing
//!   exchange is reported for what it concerns ([`BindingHealth`], [`Event::Queue`], [`PublishError::Refused`]) and retried
//!   with backoff, while the rest goes on.
//! - **Everything is bounded**, in memory and in time, and no secret is in an error or a log.
//!
//! # Example
//!
//! ```
//! use pulse::{Binding, Config, Message, QueueSpec};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let folder = tempfile::tempdir()?;
//! let config = Config::default(); // url = "embedded"
//! let transport = config.open(folder.path(), "example")?;
//! transport.declare_exchange(&config.exchange("webhook")).await?;
//! let health = transport
//!     .declare_queue(QueueSpec {
//!         name: pulse::naming::queue(&config.user, "releng", "nightly").into(),
//!         kind: config.queue_type,
//!         delivery_limit: Some(50),
//!         dead_letter_exchange: None,
//!         max_length: None,
//!         bindings: vec![Binding { exchange: config.exchange("webhook"), pattern: "github.push.#".into() }],
//!         unbind: vec![],
//!     })
//!     .await?;
//! assert!(health[0].error.is_none());
//!
//! let (sink, mut deliveries) = tokio::sync::mpsc::channel(100);
//! transport.consume("queue/pulsehook/releng/nightly", 10, sink).await?;
//! let published = transport
//!     .publish(
//!         &Message {
//!             exchange: config.exchange("webhook"),
//!             routing_key: pulse::naming::routing_key(["github", "push", "_", "mozilla", "gecko-dev"]),
//!             body: r#"{"ref": "refs/heads/main"}"#.into(),
//!             ..Message::default()
//!         },
//!         true,
//!     )
//!     .await?;
//! assert!(published.routed);
//!
//! let delivery = deliveries.recv().await.expect("the transport is open");
//! assert_eq!(delivery.message.routing_key, "github.push._.mozilla.gecko-dev");
//! delivery.ack();
//! transport.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod amqp;
pub mod config;
pub mod crash;
pub mod embedded;
pub mod message;
pub mod naming;
pub mod secret;
pub mod topic;
pub mod trace;
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
