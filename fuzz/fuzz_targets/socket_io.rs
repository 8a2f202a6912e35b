//! See `fuzz/src/targets/socket_io.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pomelo_fuzz::targets::socket_io::run(input));
