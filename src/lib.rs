//! The event router.
