//! See `thrum_fuzz::event`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thrum_fuzz::event(bytes));
