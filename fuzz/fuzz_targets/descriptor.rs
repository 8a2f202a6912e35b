//! See `fuzz/src/targets/descriptor.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pomelo_fuzz::targets::descriptor::run(input));
