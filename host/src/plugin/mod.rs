//! The module runtime.

pub mod capability;
