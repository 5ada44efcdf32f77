//! Bodies of requests: see `fuzzing.rs` of the daemon for what the bytes mean.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgdibs_server::fuzzing::request(data));
