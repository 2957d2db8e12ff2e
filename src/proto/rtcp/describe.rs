//! Names of sources, farewells and applications' packets (RFC 3550 sections 6.5 to 6.7).

use crate::base::bytes::Reader;

use super::error::Error;
use super::packet::{DESCRIPTION, GOODBYE, Ssrcs, begin, end, put};

const CNAME: u8 = 1;
/// An item's length is one byte.
const TEXT_BYTES_MAX: usize = 255;
/// A packet's count has 5 bits.
const SOURCES_MAX: usize = 31;

/// Iterates over the sources of a description: SSRC and canonical name, which is empty if it is
/// not among the items.
#[derive(Clone, Copy, Debug)]
pub struct Descriptions<'a> {
    count: u8,
    rest: &'a [u8],
}

impl<'a> Descriptions<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, Error> {
        let whole = Self { count, rest: body };
        let mut checked = whole;
        for _ in 0..count {
            checked.chunk()?;
        }
        Ok(whole)
    }

    fn chunk(&mut self) -> Result<(u32, &'a [u8]), Error> {
        let mut reader = Reader::new(self.rest);
        let ssrc = reader.u32()?;
        let mut name: &[u8] = &[];
        loop {
            let kind = reader.u8()?;
            if kind == 0 {
                break;
            }
            let length = reader.u8()?;
            let text = reader.take(usize::from(length))?;
            if kind == CNAME {
                name = text;
            }
        }
        // Zeros end the items and fill up the word.
        let used = self.rest.len() - reader.remaining();
        reader.take(used.next_multiple_of(4) - used)?;
        self.rest = reader.rest();
        Ok((ssrc, name))
    }
}

impl<'a> Iterator for Descriptions<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        self.chunk().ok()
    }
}

/// Sources that leave.
#[derive(Clone, Copy, Debug)]
pub struct Goodbye<'a> {
    ssrcs: &'a [u8],
    /// Text for people; it may be empty.
    pub reason: &'a [u8],
}

impl<'a> Goodbye<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let ssrcs = reader.take(4 * usize::from(count))?;
        let reason = match reader.u8() {
            Ok(length) => reader.take(usize::from(length))?,
            Err(_) => &[],
        };
        Ok(Self { ssrcs, reason })
    }

    /// The sources.
    pub fn ssrcs(&self) -> Ssrcs<'a> {
        Ssrcs::new(self.ssrcs)
    }
}

/// A packet of an application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Application<'a> {
    /// Who sent it.
    pub ssrc: u32,
    /// 0 to 31, as the application likes.
    pub subtype: u8,
    /// Of the application.
    pub name: [u8; 4],
    /// As the application likes.
    pub data: &'a [u8],
}

impl<'a> Application<'a> {
    pub(super) fn parse(subtype: u8, body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        Ok(Self {
            ssrc: reader.u32()?,
            subtype,
            name: reader.array()?,
            data: reader.rest(),
        })
    }
}

/// Appends a description of one source with its canonical name, cut after 255 bytes.
pub fn write_description(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let name = cname.as_bytes();
    let name = &name[..name.len().min(TEXT_BYTES_MAX)];
    let start = begin(out, 1, DESCRIPTION);
    put(out, ssrc);
    out.extend_from_slice(&[CNAME, name.len() as u8]);
    out.extend_from_slice(name);
    // At least one zero ends the items.
    let zeros = 4 - (out.len() - start) % 4;
    out.extend_from_slice(&[0; 4][..zeros]);
    end(out, start);
}

/// Appends a farewell. Sources after the 31st are left out.
pub fn write_goodbye(out: &mut Vec<u8>, ssrcs: &[u32]) {
    let ssrcs = &ssrcs[..ssrcs.len().min(SOURCES_MAX)];
    let start = begin(out, ssrcs.len() as u8, GOODBYE);
    ssrcs.iter().for_each(|ssrc| put(out, *ssrc));
    end(out, start);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rtcp::{Packet, packets};

    #[test]
    fn descriptions_are_read_as_written() {
        for name in ["", "a", "ab", "abc", "abcd", "abcdefgh"] {
            let mut out = Vec::new();
            write_description(&mut out, 9, name);
            write_goodbye(&mut out, &[1]);
            let mut found = packets(&out);
            let Some(Ok(Packet::Descriptions(chunks))) = found.next() else {
                panic!("{out:?}");
            };
            assert_eq!(chunks.collect::<Vec<_>>(), [(9, name.as_bytes())]);
            assert!(matches!(found.next(), Some(Ok(Packet::Goodbye(_)))));
        }
    }

    #[test]
    fn other_items_are_passed_over() {
        let body = [
            0, 0, 0, 1, 2, 1, b'n', 1, 1, b'c', 0, 0, // NAME, CNAME
            0, 0, 0, 2, 0, 0, 0, 0, // nothing
        ];
        let chunks = Descriptions::parse(2, &body).unwrap();
        assert_eq!(chunks.collect::<Vec<_>>(), [(1, &b"c"[..]), (2, &[])]);
        assert_eq!(Descriptions::parse(3, &body).err(), Some(Error::Short));
        for cut in 0..body.len() {
            let error = Descriptions::parse(2, &body[..cut]).err();
            assert_eq!(error, Some(Error::Short), "{cut}");
        }
    }

    #[test]
    fn farewells_may_have_a_reason() {
        let mut out = Vec::new();
        write_goodbye(&mut out, &[1, 2]);
        let Some(Ok(Packet::Goodbye(goodbye))) = packets(&out).next() else {
            panic!("{out:?}");
        };
        assert_eq!(goodbye.ssrcs().collect::<Vec<_>>(), [1, 2]);
        assert!(goodbye.reason.is_empty());
        let body = [0, 0, 0, 1, 3, b'e', b'n', b'd'];
        assert_eq!(Goodbye::parse(1, &body).unwrap().reason, b"end");
        assert_eq!(Goodbye::parse(1, &body[..7]).err(), Some(Error::Short));
        assert_eq!(Goodbye::parse(3, &body).err(), Some(Error::Short));
    }

    #[test]
    fn applications_have_a_name() {
        let body = [0, 0, 0, 1, b'q', b't', b's', b'i', 1, 2, 3, 4];
        let packet = Application::parse(3, &body).unwrap();
        assert_eq!((packet.ssrc, packet.subtype), (1, 3));
        assert_eq!((&packet.name, packet.data), (b"qtsi", &[1, 2, 3, 4][..]));
        assert_eq!(Application::parse(3, &body[..7]).err(), Some(Error::Short));
    }
}
