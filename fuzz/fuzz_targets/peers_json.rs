//! See `thrum_fuzz::peers_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thrum_fuzz::peers_json(bytes));
