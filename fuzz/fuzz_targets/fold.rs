//! See `thrum_fuzz::fold`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thrum_fuzz::fold(bytes));
