#![no_main]

#[path = "../entry/rtmp_chunk.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
