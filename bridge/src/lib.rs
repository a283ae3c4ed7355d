//! Turns outside events into pulse messages.
