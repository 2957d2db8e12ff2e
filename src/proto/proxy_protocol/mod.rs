//! The PROXY protocol, versions 1 and 2, as a receiver (HAProxy's proxy-protocol.txt of 2020): a
//! header before the first byte of a connection, by which a proxy says whom it speaks for.
//!
//! Whoever may send it may claim any address, so it is looked for on connections of trusted proxies
//! only. A trusted proxy may also speak for itself, without a header: what does not begin like one
//! is left as it is.
//!
//! Left out: all of version 2's extensions (the name that a client asked for by TLS, checksums and
//! others), which are skipped; UNIX sockets, which count as the proxy speaking for itself.

mod error;
mod v1;
mod v2;

use std::net::SocketAddr;

pub use error::ProxyError;

/// The longest header that is read. Version 1 has at most 107 bytes (section 2.1); an address of
/// version 2 at most 216, and its extensions are short but for a client's certificate.
pub const HEADER_BYTES_MAX: usize = 4096;

const _: () = assert!(v1::LINE_BYTES_MAX < HEADER_BYTES_MAX);

/// What the first bytes of a connection are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preface {
    /// The beginning of a header, or too little to tell.
    Incomplete,
    /// No header. All bytes belong to the connection.
    Absent,
    /// A header of `bytes` bytes; what follows belongs to the connection.
    Header {
        /// Its length.
        bytes: usize,
        /// Where the client is; None if the proxy speaks for itself or does not say.
        client: Option<SocketAddr>,
    },
}

/// Reads the first bytes of a connection, from its very beginning.
///
/// # Errors
///
/// What begins as a header and is none, or a longer one than [`HEADER_BYTES_MAX`].
pub fn read(bytes: &[u8]) -> Result<Preface, ProxyError> {
    if begins(bytes, v1::SIGNATURE) {
        return v1::read(bytes);
    }
    if begins(bytes, v2::SIGNATURE) {
        return v2::read(bytes);
    }
    Ok(Preface::Absent)
}

/// True if `bytes` begin with `signature`, or are a beginning of it.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_told_apart_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PUT / HTTP/1.1\r\n",
            b"PROPFIND / HTTP/1.1\r\n",
            b"\r\n\r\nGET / HTTP/1.1\r\n",
            b"\x16\x03\x01",
            b"\x03",
        ] {
            assert_eq!(read(bytes), Ok(Preface::Absent), "{bytes:?}");
        }
        for bytes in [&b""[..], b"P", b"PROXY", b"\r\n", b"\r\n\r\n\0\r\nQUIT"] {
            assert_eq!(read(bytes), Ok(Preface::Incomplete), "{bytes:?}");
        }
    }
}
