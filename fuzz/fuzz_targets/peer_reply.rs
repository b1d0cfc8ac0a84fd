//! See `thrum_fuzz::peer_reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thrum_fuzz::peer_reply(bytes));
