//! See `thrum_fuzz::peer_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thrum_fuzz::peer_request(bytes));
