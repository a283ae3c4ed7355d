//! Real parts for tests: private RabbitMQ nodes, a TCP proxy that misbehaves on request, waiting under a deadline.

pub mod proxy;
pub mod rabbit;
pub mod raw;
pub mod wait;

pub use proxy::Proxy;
pub use rabbit::Rabbit;
pub use raw::{RawMessage, RawPublisher};
pub use wait::eventually;
