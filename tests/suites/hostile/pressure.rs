//! Modules that send faster than anybody reads.
