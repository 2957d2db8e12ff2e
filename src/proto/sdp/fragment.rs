//! The body of a PATCH: `application/trickle-ice-sdpfrag` (RFC 8840 section 9).

use super::description::{lines, sections};
use super::{Error, Limits};

/// Candidates, or new credentials for an ICE restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fragment<'a> {
    /// The peer's user name fragment; empty if the fragment has none.
    pub ufrag: &'a str,
    /// Its password; empty if the fragment has none.
    pub password: &'a str,
    /// How many candidates there are.
    pub candidates: usize,
    /// The last candidate was sent.
    pub ended: bool,
}

impl<'a> Fragment<'a> {
    /// Reads a fragment. Candidates are counted only: an ICE-lite agent finds out a peer's
    /// addresses from its checks.
    pub fn parse(text: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        let description = sections(lines(text, limits)?, limits)?;
        let mut fragment = Self::default();
        let media = description.media.iter().map(|media| &media.attributes);
        let all = std::iter::once(&description.attributes).chain(media);
        for attribute in all.flat_map(|attributes| attributes.iter()) {
            match attribute.name {
                "ice-ufrag" => fragment.ufrag = attribute.value,
                "ice-pwd" => fragment.password = attribute.value,
                "candidate" => fragment.candidates += 1,
                "end-of-candidates" => fragment.ended = true,
                _ => {}
            }
        }
        Ok(fragment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_and_restarts_are_told_apart() {
        let trickled = b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
            m=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
            a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
            a=end-of-candidates\r\n";
        let fragment = Fragment::parse(trickled, &Limits::default()).expect("a fragment");
        assert_eq!(fragment.ufrag, "EsAw");
        assert_eq!(fragment.password, "P2uYro0UCOQ4zxjKXaWCBui1");
        assert_eq!((fragment.candidates, fragment.ended), (1, true));
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        let parse = |text: &'static [u8]| Fragment::parse(text, &Limits::default());
        assert_eq!(parse(b"{}"), Err(Error::Line(1)));
        assert_eq!(parse(b""), Ok(Fragment::default()));
    }
}
