//! Version 1, a line of text (section 2.1):
//!
//! ```text
//! PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n
//!       |    source    destination  |     destination's port
//!       TCP6 or UNKNOWN             source's port
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Preface, ProxyError};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// With its line break (section 2.1).
pub(super) const LINE_BYTES_MAX: usize = 107;

pub(super) fn read(bytes: &[u8]) -> Result<Preface, ProxyError> {
    let seen = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < LINE_BYTES_MAX {
            true => Ok(Preface::Incomplete),
            false => Err(ProxyError::LineTooLong),
        };
    };
    let line = str::from_utf8(&seen[..end]).map_err(|_| ProxyError::Line)?;
    let fields = line.strip_prefix("PROXY ").ok_or(ProxyError::Line)?;
    Ok(Preface::Header {
        bytes: end + 2,
        client: client(fields)?,
    })
}

fn client(fields: &str) -> Result<Option<SocketAddr>, ProxyError> {
    let mut fields = fields.split(' ');
    let family = fields.next().unwrap_or("");
    // Whatever follows UNKNOWN is to be ignored.
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let mut field = || fields.next().ok_or(ProxyError::Line);
    let (source, destination) = (field()?, field()?);
    let (source_port, destination_port) = (port(field()?)?, port(field()?)?);
    if fields.next().is_some() {
        return Err(ProxyError::Line);
    }
    let address = |text: &str| -> Result<IpAddr, ProxyError> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
            _ => None,
        }
        .ok_or(ProxyError::Line)
    };
    let _ = (address(destination)?, destination_port);
    Ok(Some(SocketAddr::new(address(source)?, source_port)))
}

/// Digits alone, without leading zeros.
fn port(text: &str) -> Result<u16, ProxyError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    match is_plain {
        true => text.parse().map_err(|_| ProxyError::Line),
        false => Err(ProxyError::Line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<Preface, ProxyError> {
        read(text.as_bytes())
    }

    #[test]
    fn addresses_are_read() {
        for (line, client) in [
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
                Some("192.0.2.7:56324"),
            ),
            (
                "PROXY TCP6 2001:db8::7 ::1 1 65535\r\n",
                Some("[2001:db8::7]:1"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 whatever 1 2\r\n", None),
        ] {
            let expected = Preface::Header {
                bytes: line.len(),
                client: client.map(|client| client.parse().unwrap()),
            };
            assert_eq!(
                header(&format!("{line}GET / HTTP/1.1")),
                Ok(expected),
                "{line}"
            );
        }
    }

    #[test]
    fn a_line_in_pieces_is_waited_for() {
        let line = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
        for length in 0..line.len() {
            assert_eq!(header(&line[..length]), Ok(Preface::Incomplete), "{length}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP5 192.0.2.7 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 01 443\r\n",
            "PROXY TCP4 192.0.2.7  198.51.100.1 1 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 443\n\r\n",
        ] {
            assert_eq!(header(line), Err(ProxyError::Line), "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "a".repeat(107));
        assert_eq!(header(&long), Err(ProxyError::LineTooLong));
    }
}
