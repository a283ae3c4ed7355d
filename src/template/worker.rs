//! Render workers: processes of our own that can be stopped.
//!
//! A thread cannot be killed, and neither fuel nor a look at the template bounds everything that a template can do. So
//! what can't be bounded beforehand renders in `pulsehook render-worker`: a process with a memory limit and an empty
//! environment (it has no use for secrets), which is killed when a render takes too long. Workers are kept for the next
//! render; one that was killed or died is replaced.

mod pool;
mod protocol;
mod serve;

pub use pool::Workers;
pub use protocol::Source;
pub use serve::serve;
