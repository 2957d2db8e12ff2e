//! Version 2, binary (section 2.2):
//!
//! ```text
//! 0            12               13                14       16
//! | signature | version, command | family, protocol | length | addresses, extensions ...
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{HEADER_BYTES_MAX, Preface, ProxyError};
use crate::base::bytes::Reader;

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, two bytes of kinds, two of length.
const FIXED_BYTES: usize = 16;

const LOCAL: u8 = 0;
const PROXY: u8 = 1;

const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

pub(super) fn read(bytes: &[u8]) -> Result<Preface, ProxyError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(Preface::Incomplete);
    };
    let [.., kind, family, high, low] = *fixed;
    if kind >> 4 != 2 {
        return Err(ProxyError::Version);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(payload) = rest.get(..length) else {
        return Ok(Preface::Incomplete);
    };
    let client = match kind & 0x0f {
        LOCAL => None,
        PROXY => client(family, Reader::new(payload)).map_err(|_| ProxyError::Short)?,
        _ => return Err(ProxyError::Command),
    };
    Ok(Preface::Header {
        bytes: FIXED_BYTES + length,
        client,
    })
}

/// Both addresses, then both ports. Families and protocols other than these are to be treated as if
/// nothing were said.
fn client(
    family: u8,
    mut payload: Reader<'_>,
) -> Result<Option<SocketAddr>, crate::base::bytes::Short> {
    let source = match family {
        TCP_OVER_IPV4 => {
            let (source, _destination) = (payload.array::<4>()?, payload.array::<4>()?);
            Ipv4Addr::from(source).into()
        }
        TCP_OVER_IPV6 => {
            let (source, _destination) = (payload.array::<16>()?, payload.array::<16>()?);
            Ipv6Addr::from(source).into()
        }
        _ => return Ok(None),
    };
    let (port, _destination_port) = (payload.u16()?, payload.u16()?);
    Ok(Some(SocketAddr::new(source, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([kind, family]);
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    const IPV4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];

    #[test]
    fn addresses_are_read_and_extensions_skipped() {
        let mut ipv6 = vec![0; 36];
        (ipv6[0], ipv6[1], ipv6[15], ipv6[33]) = (0x20, 1, 9, 80);
        let mut extended = IPV4.to_vec();
        extended.extend([3, 0, 4, 1, 2, 3, 4]); // PP2_TYPE_CRC32C
        for (payload, family, client) in [
            (IPV4.to_vec(), 0x11, Some("192.0.2.7:56324")),
            (extended, 0x11, Some("192.0.2.7:56324")),
            (ipv6, 0x21, Some("[2001::9]:80")),
            (vec![0; 216], 0x31, None), // AF_UNIX
            (Vec::new(), 0, None),
        ] {
            let bytes = header(0x21, family, &payload);
            let expected = Preface::Header {
                bytes: bytes.len(),
                client: client.map(|client| client.parse().unwrap()),
            };
            assert_eq!(read(&bytes), Ok(expected));
            for length in 0..bytes.len() {
                assert_eq!(read(&bytes[..length]), Ok(Preface::Incomplete), "{length}");
            }
        }
    }

    #[test]
    fn a_proxy_may_speak_for_itself() {
        let bytes = header(0x20, 0x11, IPV4);
        let expected = Preface::Header {
            bytes: bytes.len(),
            client: None,
        };
        assert_eq!(read(&bytes), Ok(expected));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (bytes, error) in [
            (header(0x11, 0x11, IPV4), ProxyError::Version),
            (header(0x22, 0x11, IPV4), ProxyError::Command),
            (header(0x21, 0x11, &IPV4[..11]), ProxyError::Short),
            (header(0x21, 0x21, IPV4), ProxyError::Short),
            (header(0x21, 0x11, &[0; 5000]), ProxyError::TooLong),
        ] {
            assert_eq!(read(&bytes), Err(error));
        }
    }
}
