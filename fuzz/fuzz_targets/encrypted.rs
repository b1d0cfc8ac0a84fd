//! See `thrum_fuzz::encrypted`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thrum_fuzz::encrypted(bytes));
