//! A datagram of RTCP as a sequence of packets (RFC 3550 section 6.4).
//!
//! ```text
//! +---+-+---------+---------------+-------------------------------+
//! |V=2|P| count   |     type      |      words that follow        |
//! +---+-+---------+---------------+-------------------------------+
//! ```

use crate::base::bytes::Reader;

use super::describe::{Application, Descriptions, Goodbye};
use super::error::Error;
use super::feedback::{Fir, Nack, Pli, Remb};
use super::report::{ReceiverReport, SenderReport};
use super::twcc;

pub(super) const SENDER_REPORT: u8 = 200;
pub(super) const RECEIVER_REPORT: u8 = 201;
pub(super) const DESCRIPTION: u8 = 202;
pub(super) const GOODBYE: u8 = 203;
pub(super) const APPLICATION: u8 = 204;
pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
pub(super) const PAYLOAD_FEEDBACK: u8 = 206;

pub(super) const NACK: u8 = 1;
pub(super) const TRANSPORT_CC: u8 = 15;
pub(super) const PLI: u8 = 1;
pub(super) const FIR: u8 = 4;
pub(super) const APPLICATION_LAYER: u8 = 15;

const VERSION: u8 = 2;
const PADDING: u8 = 0x20;
const COUNT_MASK: u8 = 0x1f;
const HEAD_BYTES: usize = 4;

/// One packet.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// What a sender sent, and what it received.
    SenderReport(SenderReport<'a>),
    /// What a receiver received.
    ReceiverReport(ReceiverReport<'a>),
    /// Names of sources.
    Descriptions(Descriptions<'a>),
    /// Sources that leave.
    Goodbye(Goodbye<'a>),
    /// Of an application.
    Application(Application<'a>),
    /// Packets that are asked for again.
    Nack(Nack<'a>),
    /// When packets arrived, for all streams of a transport.
    TransportCc(twcc::Feedback<'a>),
    /// A picture is asked for that needs no other.
    Pli(Pli),
    /// The same, as a command.
    Fir(Fir<'a>),
    /// The most that a receiver wants to be sent.
    Remb(Remb<'a>),
}

/// The packets of a datagram. Types that are not known are passed over. A packet that is
/// malformed inside is an error and the next one follows; after an error in the framing there is
/// nothing more.
pub fn packets(datagram: &[u8]) -> Packets<'_> {
    Packets { rest: datagram }
}

/// Iterates over the packets of a datagram.
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.step() {
                Ok((count, kind, body)) => {
                    if let Some(packet) = parse(count, kind, body).transpose() {
                        return Some(packet);
                    }
                }
                Err(error) => {
                    self.rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl<'a> Packets<'a> {
    /// The next packet's count, type and body without padding.
    fn step(&mut self) -> Result<(u8, u8, &'a [u8]), Error> {
        let mut reader = Reader::new(self.rest);
        let (first, kind) = (reader.u8()?, reader.u8()?);
        if first >> 6 != VERSION {
            return Err(Error::Version);
        }
        let words = usize::from(reader.u16()?);
        let mut body = reader.take(4 * words)?;
        self.rest = reader.rest();
        if first & PADDING != 0 {
            let count = usize::from(body.last().copied().unwrap_or_default());
            let end = body.len().checked_sub(count).filter(|_| count != 0);
            body = &body[..end.ok_or(Error::Padding)?];
        }
        Ok((first & COUNT_MASK, kind, body))
    }
}

/// None if the type is passed over.
fn parse(count: u8, kind: u8, body: &[u8]) -> Result<Option<Packet<'_>>, Error> {
    Ok(Some(match (kind, count) {
        (SENDER_REPORT, _) => Packet::SenderReport(SenderReport::parse(count, body)?),
        (RECEIVER_REPORT, _) => Packet::ReceiverReport(ReceiverReport::parse(count, body)?),
        (DESCRIPTION, _) => Packet::Descriptions(Descriptions::parse(count, body)?),
        (GOODBYE, _) => Packet::Goodbye(Goodbye::parse(count, body)?),
        (APPLICATION, _) => Packet::Application(Application::parse(count, body)?),
        (TRANSPORT_FEEDBACK, NACK) => Packet::Nack(Nack::parse(body)?),
        (TRANSPORT_FEEDBACK, TRANSPORT_CC) => Packet::TransportCc(twcc::Feedback::parse(body)?),
        (PAYLOAD_FEEDBACK, PLI) => Packet::Pli(Pli::parse(body)?),
        (PAYLOAD_FEEDBACK, FIR) => Packet::Fir(Fir::parse(body)?),
        (PAYLOAD_FEEDBACK, APPLICATION_LAYER) => {
            return Ok(Remb::parse(body)?.map(Packet::Remb));
        }
        _ => return Ok(None),
    }))
}

/// A list of sources.
#[derive(Clone, Debug)]
pub struct Ssrcs<'a> {
    words: &'a [[u8; 4]],
}

impl<'a> Ssrcs<'a> {
    /// The words of `bytes`; a rest of less than a word is left out.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let (words, _) = bytes.as_chunks();
        Self { words }
    }
}

impl Iterator for Ssrcs<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(u32::from_be_bytes(*first))
    }
}

/// Begins a packet and returns where; [`end`] fills in its length.
pub(super) fn begin(out: &mut Vec<u8>, count: u8, kind: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[VERSION << 6 | (count & COUNT_MASK), kind, 0, 0]);
    start
}

/// Ends a packet that began at `start`. Its body is a multiple of 4 bytes.
pub(super) fn end(out: &mut [u8], start: usize) {
    let body = out.len() - start - HEAD_BYTES;
    debug_assert!(body.is_multiple_of(4) && body / 4 <= usize::from(u16::MAX));
    let words = ((body / 4) as u16).to_be_bytes();
    out[start + 2..start + 4].copy_from_slice(&words);
}

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rtcp::{write_pli, write_receiver_report};

    #[test]
    fn unknown_types_are_passed_over() {
        let mut datagram = Vec::new();
        write_receiver_report(&mut datagram, 1, &[]);
        datagram.extend([0x80, 207, 0, 1, 0, 0, 0, 1]); // XR
        datagram.extend([0x83, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]); // TMMBR
        datagram.extend([0x80, 195, 0, 0]);
        write_pli(&mut datagram, 1, 2);
        let kinds: Vec<_> = packets(&datagram).map(Result::unwrap).collect();
        assert!(matches!(
            kinds[..],
            [Packet::ReceiverReport(_), Packet::Pli(_)]
        ));
    }

    #[test]
    fn a_malformed_packet_does_not_hide_the_next_one() {
        let mut datagram = vec![0x81, 206, 0, 1, 0, 0, 0, 1]; // a PLI without a media source
        write_pli(&mut datagram, 1, 2);
        let found: Vec<_> = packets(&datagram).collect();
        assert!(matches!(found[..], [Err(Error::Short), Ok(Packet::Pli(_))]));
    }

    #[test]
    fn malformed_framing_ends_the_datagram() {
        for (bytes, error) in [
            (&[0x81, 206, 0][..], Error::Short),
            (&[0x81, 206, 0, 3, 0, 0, 0, 1], Error::Short),
            (&[0x41, 206, 0, 0], Error::Version),
            (&[0xa1, 206, 0, 0], Error::Padding),
            (&[0xa1, 206, 0, 1, 0, 0, 0, 5], Error::Padding),
            (&[0xa1, 206, 0, 1, 0, 0, 0, 0], Error::Padding),
        ] {
            let found: Vec<_> = packets(bytes).map(|packet| packet.err()).collect();
            assert_eq!(found, [Some(error)], "{bytes:x?}");
        }
        assert_eq!(packets(&[]).count(), 0);
    }

    #[test]
    fn padding_is_not_part_of_a_packet() {
        let datagram = [0xa1, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4];
        let found = packets(&datagram).next().unwrap().unwrap();
        let Packet::Pli(pli) = found else {
            panic!("{found:?}");
        };
        assert_eq!((pli.sender, pli.media), (1, 2));
    }
}
