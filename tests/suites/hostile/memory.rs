//! Modules that make the host hold memory for them.
