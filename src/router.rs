//! (in the making)

pub mod decide;
