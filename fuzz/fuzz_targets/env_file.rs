//! See `thrum_fuzz::env_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thrum_fuzz::env_file(bytes));
