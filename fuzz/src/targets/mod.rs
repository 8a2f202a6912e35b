//! Targets that need the whole host. Each takes any bytes and panics where something does not hold. The fuzzer runs them with instrumentation
//! (`fuzz_targets`), and the suite `fuzz` runs them on a stable toolchain, over the seeds and over changed seeds.

pub mod component;
pub mod config;
pub mod descriptor;
pub mod socket_io;
