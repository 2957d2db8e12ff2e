//! A header that arrives in pieces is the same header, and its length is within its bounds.

use ringside::proto::proxy_protocol::{HEADER_BYTES_MAX, Preface, read};

pub(crate) fn run(data: &[u8]) {
    let whole = read(data);
    for length in 0..data.len().min(HEADER_BYTES_MAX + 1) {
        let part = read(&data[..length]);
        assert!(
            part == Ok(Preface::Incomplete) || part == whole,
            "{part:?} of {length} bytes, {whole:?} of all"
        );
    }
    if let Ok(Preface::Header { bytes, .. }) = whole {
        assert!(bytes <= HEADER_BYTES_MAX && bytes <= data.len());
        assert_eq!(read(&data[..bytes]), whole);
        assert_eq!(read(&data[..bytes - 1]), Ok(Preface::Incomplete));
    }
    if data.len() >= HEADER_BYTES_MAX {
        assert_ne!(whole, Ok(Preface::Incomplete));
    }
}
