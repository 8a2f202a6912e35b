//! See `fuzz/src/frame.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pomelo_fuzz::frame::run(input));
