//! URLs and hosts: see `fuzzing.rs` of the daemon for what the bytes mean.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgdibs_server::fuzzing::urls(data, |url| pgdibs::connection_url::libpq_variables(url).expect("our own URL")));
