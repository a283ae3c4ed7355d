//! Who calls, and what they may do: Hawk signatures and Taskcluster's scopes.

pub mod hawk;
pub mod signer;
