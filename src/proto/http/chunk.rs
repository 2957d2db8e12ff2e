//! Writing the chunked coding once for all viewers of a stream.

use bytes::Bytes;

/// Ends a chunked body.
pub const CHUNK_END: &[u8] = b"0\r\n\r\n";

/// `SSSSSSSS\r\n`: the size always takes eight digits, so that it can be filled in after the data
/// and found again without parsing. RFC 9112 section 7.1 allows leading zeros.
const SIZE_DIGITS: usize = 8;
const HEAD_BYTES: usize = SIZE_DIGITS + 2;
const TAIL: &[u8] = b"\r\n";

/// Appends what `write` appends as one chunk; nothing if it appends nothing, since an empty chunk
/// would end the body.
///
/// # Panics
///
/// If `write` appends 4 GiB or more, or shortens `out`.
pub fn chunk(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(b"00000000\r\n");
    write(out);
    let size = out.len() - start - HEAD_BYTES;
    if size == 0 {
        out.truncate(start);
        return;
    }
    let mut left = u32::try_from(size).expect("a chunk is one muxed frame, far below 4 GiB");
    for digit in out[start..start + SIZE_DIGITS].iter_mut().rev() {
        *digit = b"0123456789abcdef"[left as usize & 15];
        left >>= 4;
    }
    out.extend_from_slice(TAIL);
}

/// The data inside `framed`, one chunk written by [`chunk`], for a receiver whose response ends
/// with the connection. Empty if `framed` is shorter than an empty chunk.
pub fn chunk_payload(framed: &Bytes) -> Bytes {
    match framed.len().checked_sub(TAIL.len()) {
        Some(end) if end >= HEAD_BYTES => framed.slice(HEAD_BYTES..end),
        Some(_) | None => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_sized_after_it_is_written() {
        let mut out = b"before".to_vec();
        chunk(&mut out, |out| out.extend_from_slice(&[b'x'; 300]));
        assert!(out.starts_with(b"before0000012c\r\nxxx"));
        assert!(out.ends_with(b"xx\r\n"));
        assert_eq!(out.len(), 6 + HEAD_BYTES + 300 + 2);
    }

    #[test]
    fn nothing_written_is_no_chunk() {
        let mut out = Vec::new();
        chunk(&mut out, |_| {});
        assert!(out.is_empty());
    }

    #[test]
    fn the_payload_is_the_data() {
        let mut out = Vec::new();
        chunk(&mut out, |out| out.extend_from_slice(b"frame"));
        assert_eq!(chunk_payload(&Bytes::from(out)), "frame");
        assert_eq!(chunk_payload(&Bytes::from_static(b"0\r\n")), "");
    }
}
