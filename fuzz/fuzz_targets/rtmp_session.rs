#![no_main]

#[path = "../entry/rtmp_session.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
