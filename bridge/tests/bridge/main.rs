//! The bridge through its front door: HTTP in, pulse messages out.

// Helpers of tests may panic; the lint's own exception covers only test functions.
#![allow(clippy::unwrap_used)]

mod clock;
mod guides;
mod health;
mod hostile;
mod once;
mod presets;
mod refused;
mod spool;
mod start;
mod storm;
mod support;
mod trial;
mod webhook;
