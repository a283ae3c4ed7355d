//! The pulsehook binary.
fn main() {}
