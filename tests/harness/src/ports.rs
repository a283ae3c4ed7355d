//! Ports for parts under test, each for one of them as long as its test process lives.
//!
//! A part that is stopped and started again needs its port again, and a part that is about to start needs one that nobody
//! takes meanwhile, in this test process or in another beside it. So whoever has a port holds a name that the system gives once, an
//! abstract socket's, until its end.

use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

use anyhow::bail;

/// All are below the range from which the system gives out ports, or a connection of anybody's could have one of them when
/// a part starts (again).
const PROCESSES: Range<u16> = 5_000..11_000;

/// Brokers' ports for AMQP; Erlang's distribution ports are [`DISTRIBUTION_OFFSET`] above.
const BROKERS: Range<u16> = 11_000..21_000;

/// From a broker's port to its distribution port.
pub(crate) const DISTRIBUTION_OFFSET: u16 = 10_000;

/// The names of this process's ports.
static HELD: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port of the loopback interface that is nobody else's, for a process.
pub fn free_port() -> anyhow::Result<u16> {
    take(PROCESSES, is_free)
}

/// The same for a broker, whose distribution port is free too.
pub(crate) fn free_broker_port() -> anyhow::Result<u16> {
    take(BROKERS, |port| is_free(port) && is_free(port + DISTRIBUTION_OFFSET))
}

fn take(range: Range<u16>, free: impl Fn(u16) -> bool) -> anyhow::Result<u16> {
    let count = range.end - range.start;
    for _ in 0..1_000 {
        // What the system gives out next is as good as random.
        let port = range.start + TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port() % count;
        let name = SocketAddr::from_abstract_name(format!("pulsehook-test-port-{port}"))?;
        if let Ok(name) = UnixListener::bind_addr(&name)
            && free(port)
        {
            HELD.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            return Ok(port);
        }
    }
    bail!("no free port in {range:?}")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let port = free_port().unwrap();
        assert!(take(port..port + 1, |_| true).is_err());
    }
}
