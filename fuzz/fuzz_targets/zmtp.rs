#![no_main]

#[path = "../entry/zmtp.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
