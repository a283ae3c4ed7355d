//! Real parts for tests: private RabbitMQ nodes, programs as processes, an HTTP client, a TCP proxy that misbehaves on
//! request, waiting under a deadline.

pub mod http;
mod ports;
pub mod process;
pub mod proxy;
pub mod rabbit;
pub mod raw;
pub mod wait;

pub use http::Http;
pub use ports::free_port;
pub use process::Process;
pub use proxy::Proxy;
pub use rabbit::Rabbit;
pub use raw::{RawMessage, RawPublisher};
pub use wait::eventually;
