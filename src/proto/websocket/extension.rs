//! Agreeing on `permessage-deflate` (RFC 7692 section 7). Other extensions are declined by not
//! being answered; one more would be one more variant of what is negotiated.

use std::fmt;

use super::error::HandshakeError;
use super::options::DeflateOptions;

const NAME: &str = "permessage-deflate";
/// A compressor's smallest window: zlib cannot make one of 2^8.
const COMPRESS_BITS_MIN: u8 = 9;
const BITS_MAX: u8 = 15;

/// What both sides agreed on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Deflate {
    /// The server starts each message afresh.
    pub server_no_context_takeover: bool,
    /// The client does.
    pub client_no_context_takeover: bool,
    /// The server's window, 9 to 15.
    pub server_max_window_bits: u8,
    /// The client's window, 8 to 15; stated only if the client knows the parameter.
    pub client_max_window_bits: Option<u8>,
}

impl fmt::Display for Deflate {
    /// As it stands in the answer of a server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_context_takeover {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if self.server_max_window_bits < BITS_MAX {
            write!(
                f,
                "; server_max_window_bits={}",
                self.server_max_window_bits
            )?;
        }
        match self.client_max_window_bits {
            Some(bits) if bits < BITS_MAX => write!(f, "; client_max_window_bits={bits}"),
            Some(_) | None => Ok(()),
        }
    }
}

/// The parameters of an offer or an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// `Some(None)`: named without a value, which only an offer may do.
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// None if a parameter is unknown, repeated or malformed (RFC 7692 section 7.1).
    fn parse(text: &str) -> Option<Self> {
        let mut found = Self::default();
        for item in text.split(';') {
            let (name, value) = match item.split_once('=') {
                Some((name, value)) => (name.trim(), Some(unquote(value.trim()))),
                None => (item.trim(), None),
            };
            let is_new = match (name.to_ascii_lowercase().as_str(), value) {
                ("server_no_context_takeover", None) => {
                    !std::mem::replace(&mut found.server_no_context_takeover, true)
                }
                ("client_no_context_takeover", None) => {
                    !std::mem::replace(&mut found.client_no_context_takeover, true)
                }
                ("server_max_window_bits", Some(value)) => {
                    found.server_max_window_bits.replace(bits(value)?).is_none()
                }
                ("client_max_window_bits", None) => {
                    found.client_max_window_bits.replace(None).is_none()
                }
                ("client_max_window_bits", Some(value)) => {
                    let value = Some(bits(value)?);
                    found.client_max_window_bits.replace(value).is_none()
                }
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        Some(found)
    }
}

fn unquote(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

/// 8 to 15, without a leading zero.
fn bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        "10" | "11" | "12" | "13" | "14" | "15" => value.parse().ok(),
        _ => None,
    }
}

/// The entries of a Sec-WebSocket-Extensions field: name and parameters.
fn entries(field: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    field.split(',').map(|entry| match entry.split_once(';') {
        Some((name, parameters)) => (name.trim(), Some(parameters)),
        None => (entry.trim(), None),
    })
}

/// Takes the first offer that can be met, in the client's order of preference.
pub(super) fn negotiate<'a>(
    fields: impl Iterator<Item = &'a str>,
    options: &DeflateOptions,
) -> Option<Deflate> {
    fields
        .flat_map(entries)
        .filter(|(name, _)| name.eq_ignore_ascii_case(NAME))
        .find_map(|(_, parameters)| {
            let offer =
                parameters.map_or_else(|| Some(Parameters::default()), Parameters::parse)?;
            let own = options.window_bits.clamp(COMPRESS_BITS_MIN, BITS_MAX);
            let server_max_window_bits = offer.server_max_window_bits.unwrap_or(BITS_MAX).min(own);
            if server_max_window_bits < COMPRESS_BITS_MIN {
                return None;
            }
            Some(Deflate {
                // RFC 7692 section 7.1.1: a server may state both although they were not offered.
                server_no_context_takeover: offer.server_no_context_takeover
                    || !options.context_takeover,
                client_no_context_takeover: offer.client_no_context_takeover
                    || !options.context_takeover,
                server_max_window_bits,
                client_max_window_bits: offer
                    .client_max_window_bits
                    .map(|bits| bits.unwrap_or(BITS_MAX).min(own)),
            })
        })
}

/// What a client asks for.
pub(super) const OFFER: &str = "permessage-deflate; client_max_window_bits";

/// A server's answer to [`OFFER`].
pub(super) fn answered<'a>(
    fields: impl Iterator<Item = &'a str>,
) -> Result<Option<Deflate>, HandshakeError> {
    let mut found = None;
    for (name, parameters) in fields.flat_map(entries) {
        let answer = parameters
            .map_or_else(|| Some(Parameters::default()), Parameters::parse)
            .filter(|_| name.eq_ignore_ascii_case(NAME) && found.is_none())
            .ok_or(HandshakeError::Answer)?;
        let client_max_window_bits = match answer.client_max_window_bits {
            Some(Some(COMPRESS_BITS_MIN..)) | None => answer.client_max_window_bits.flatten(),
            Some(_) => return Err(HandshakeError::Answer),
        };
        found = Some(Deflate {
            server_no_context_takeover: answer.server_no_context_takeover,
            client_no_context_takeover: answer.client_no_context_takeover,
            server_max_window_bits: answer.server_max_window_bits.unwrap_or(BITS_MAX),
            client_max_window_bits,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(offers: &[&str], options: &DeflateOptions) -> Option<String> {
        negotiate(offers.iter().copied(), options).map(|deflate| deflate.to_string())
    }

    #[test]
    fn offers_are_met() {
        let plain = DeflateOptions {
            context_takeover: true,
            ..DeflateOptions::default()
        };
        let small = DeflateOptions {
            window_bits: 10,
            ..DeflateOptions::default()
        };
        let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for (offer, options, answer) in [
            (NAME, &plain, NAME.to_owned()),
            (NAME, &DeflateOptions::default(), both.to_owned()),
            (OFFER, &plain, NAME.to_owned()),
            (
                OFFER,
                &small,
                format!("{both}; server_max_window_bits=10; client_max_window_bits=10"),
            ),
            (
                "PerMessage-Deflate; server_max_window_bits=\"9\"; Client_No_Context_Takeover",
                &plain,
                format!("{NAME}; client_no_context_takeover; server_max_window_bits=9"),
            ),
            (
                "permessage-deflate; client_max_window_bits=8",
                &plain,
                format!("{NAME}; client_max_window_bits=8"),
            ),
            (
                "x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=8, permessage-deflate",
                &plain,
                NAME.to_owned(),
            ),
        ] {
            assert_eq!(agreed(&[offer], options), Some(answer), "{offer}");
        }
        assert_eq!(agreed(&["other", NAME], &plain), Some(NAME.to_owned()));
    }

    #[test]
    fn offers_that_cannot_be_met_are_declined() {
        for offer in [
            "",
            "deflate",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; unknown",
            "permessage-deflate;",
        ] {
            assert_eq!(
                agreed(&[offer], &DeflateOptions::default()),
                None,
                "{offer}"
            );
        }
    }

    #[test]
    fn answers_are_read() {
        let read = |field: &'static str| answered([field].into_iter());
        let all = Deflate {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: 10,
            client_max_window_bits: Some(11),
        };
        assert_eq!(
            answered([all.to_string().as_str()].into_iter()),
            Ok(Some(all))
        );
        assert_eq!(answered([].into_iter()), Ok(None));
        for field in [
            "other",
            "permessage-deflate, permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=8",
        ] {
            assert_eq!(read(field), Err(HandshakeError::Answer), "{field}");
        }
    }
}
