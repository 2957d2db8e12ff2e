//! Requests for packets and pictures (RFC 4585 section 6, RFC 5104 section 4.3.1), and the most
//! that a receiver wants (draft-alvestrand-rmcat-remb-03 section 2.2).

use crate::base::bytes::Reader;

use super::error::Error;
use super::packet::{
    APPLICATION_LAYER, FIR, NACK, PAYLOAD_FEEDBACK, PLI, Ssrcs, TRANSPORT_FEEDBACK, begin, end, put,
};

const REMB: [u8; 4] = *b"REMB";
const MANTISSA_BITS: u32 = 18;

/// Packets that are asked for again.
#[derive(Clone, Copy, Debug)]
pub struct Nack<'a> {
    /// Who asks.
    pub sender: u32,
    /// The stream that has them.
    pub media: u32,
    pairs: &'a [[u8; 4]],
}

impl<'a> Nack<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let (sender, media) = (reader.u32()?, reader.u32()?);
        let (pairs, _) = reader.rest().as_chunks();
        Ok(Self {
            sender,
            media,
            pairs,
        })
    }

    /// Their sequence numbers, in the order of the packet: at most 17 for each 4 bytes.
    pub fn numbers(&self) -> Numbers<'a> {
        Numbers {
            pairs: self.pairs,
            base: 0,
            mask: 0,
        }
    }
}

/// Iterates over sequence numbers that are asked for.
#[derive(Clone, Debug)]
pub struct Numbers<'a> {
    pairs: &'a [[u8; 4]],
    base: u16,
    /// Bit `n` stands for `base + 1 + n`.
    mask: u16,
}

impl Iterator for Numbers<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.mask != 0 {
            let bit = self.mask.trailing_zeros() as u16;
            self.mask &= self.mask - 1;
            return Some(self.base.wrapping_add(bit + 1));
        }
        let (&[p0, p1, m0, m1], rest) = self.pairs.split_first()?;
        self.pairs = rest;
        self.base = u16::from_be_bytes([p0, p1]);
        self.mask = u16::from_be_bytes([m0, m1]);
        Some(self.base)
    }
}

/// Appends a request for packets: 12 bytes and 4 for each pair of a number and the 16 behind it.
/// Numbers in ascending order (modulo 2^16) are packed best. Nothing is written without numbers.
pub fn write_nack(
    out: &mut Vec<u8>,
    sender: u32,
    media: u32,
    numbers: impl IntoIterator<Item = u16>,
) {
    let mut numbers = numbers.into_iter();
    let Some(mut base) = numbers.next() else {
        return;
    };
    let start = begin(out, NACK, TRANSPORT_FEEDBACK);
    put(out, sender);
    put(out, media);
    let mut mask = 0u16;
    for number in numbers {
        match number.wrapping_sub(base) {
            0 => {}
            distance @ 1..=16 => mask |= 1 << (distance - 1),
            17.. => {
                put(out, u32::from(base) << 16 | u32::from(mask));
                (base, mask) = (number, 0);
            }
        }
    }
    put(out, u32::from(base) << 16 | u32::from(mask));
    end(out, start);
}

/// A picture is asked for that needs no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pli {
    /// Who asks.
    pub sender: u32,
    /// The stream.
    pub media: u32,
}

impl Pli {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let (sender, media) = (reader.u32()?, reader.u32()?);
        Ok(Self { sender, media })
    }
}

/// Appends a request for a picture: 12 bytes.
pub fn write_pli(out: &mut Vec<u8>, sender: u32, media: u32) {
    let start = begin(out, PLI, PAYLOAD_FEEDBACK);
    put(out, sender);
    put(out, media);
    end(out, start);
}

/// Pictures are asked for, each with a number that tells a repetition from a new request.
#[derive(Clone, Copy, Debug)]
pub struct Fir<'a> {
    /// Who asks.
    pub sender: u32,
    entries: &'a [[u8; 8]],
}

/// One request for a picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refresh {
    /// The stream.
    pub media: u32,
    /// Another number than the last one, modulo 256: another request.
    pub number: u8,
}

impl<'a> Fir<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let sender = reader.u32()?;
        // RFC 5104 section 4.3.1.2: the media source of the head is not used.
        reader.u32()?;
        let (entries, _) = reader.rest().as_chunks();
        Ok(Self { sender, entries })
    }

    /// The requests.
    pub fn refreshes(&self) -> Refreshes<'a> {
        Refreshes {
            entries: self.entries,
        }
    }
}

/// Iterates over requests for pictures.
#[derive(Clone, Debug)]
pub struct Refreshes<'a> {
    entries: &'a [[u8; 8]],
}

impl Iterator for Refreshes<'_> {
    type Item = Refresh;

    fn next(&mut self) -> Option<Refresh> {
        let (&[a, b, c, d, number, ..], rest) = self.entries.split_first()?;
        self.entries = rest;
        let media = u32::from_be_bytes([a, b, c, d]);
        Some(Refresh { media, number })
    }
}

/// Appends a request for a picture: 20 bytes.
pub fn write_fir(out: &mut Vec<u8>, sender: u32, refresh: Refresh) {
    let start = begin(out, FIR, PAYLOAD_FEEDBACK);
    put(out, sender);
    put(out, 0);
    put(out, refresh.media);
    put(out, u32::from(refresh.number) << 24);
    end(out, start);
}

/// The most that a receiver wants to be sent, all streams together.
#[derive(Clone, Copy, Debug)]
pub struct Remb<'a> {
    /// Who wants it.
    pub sender: u32,
    /// In bits per second; beyond 64 bits it is the most of them.
    pub bitrate: u64,
    ssrcs: &'a [u8],
}

impl<'a> Remb<'a> {
    /// None if it is another application's feedback.
    pub(super) fn parse(body: &'a [u8]) -> Result<Option<Self>, Error> {
        let mut reader = Reader::new(body);
        let sender = reader.u32()?;
        reader.u32()?;
        if reader.array() != Ok(REMB) {
            return Ok(None);
        }
        let count = reader.u8()?;
        let bits = reader.u24()?;
        let (exponent, mantissa) = (bits >> MANTISSA_BITS, u64::from(bits & 0x3_ffff));
        let bitrate = if mantissa.leading_zeros() >= exponent {
            mantissa << exponent
        } else {
            u64::MAX
        };
        Ok(Some(Self {
            sender,
            bitrate,
            ssrcs: reader.take(4 * usize::from(count))?,
        }))
    }

    /// The streams that it is about.
    pub fn ssrcs(&self) -> Ssrcs<'a> {
        Ssrcs::new(self.ssrcs)
    }
}

/// Appends a limit in bits per second, rounded down to 18 digits: 20 bytes and 4 for each stream.
/// Streams after the 255th are left out.
pub fn write_remb(out: &mut Vec<u8>, sender: u32, bitrate: u64, ssrcs: &[u32]) {
    let ssrcs = &ssrcs[..ssrcs.len().min(usize::from(u8::MAX))];
    let exponent = (u64::BITS - bitrate.leading_zeros()).saturating_sub(MANTISSA_BITS);
    let mantissa = (bitrate >> exponent) as u32;
    let start = begin(out, APPLICATION_LAYER, PAYLOAD_FEEDBACK);
    put(out, sender);
    put(out, 0);
    out.extend_from_slice(&REMB);
    put(
        out,
        (ssrcs.len() as u32) << 24 | exponent << MANTISSA_BITS | mantissa,
    );
    ssrcs.iter().for_each(|ssrc| put(out, *ssrc));
    end(out, start);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rtcp::{Packet, packets};

    fn nack(numbers: &[u16]) -> Vec<u8> {
        let mut out = Vec::new();
        write_nack(&mut out, 1, 2, numbers.iter().copied());
        out
    }

    #[test]
    fn lost_packets_are_packed_in_pairs() {
        // 10, 11 and 26 are one pair (bits 0 and 15); 27 is one too far.
        let out = nack(&[10, 11, 26, 27]);
        assert_eq!(
            out,
            [
                0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 10, 0x80, 0x01, 0, 27, 0, 0
            ]
        );
        assert!(nack(&[]).is_empty());
    }

    #[test]
    fn lost_packets_are_read_as_written() {
        for numbers in [
            &[0][..],
            &[65_534, 65_535, 0, 1, 14],
            &[1, 3, 5, 100, 101, 117, 118],
            &[5, 4, 3],
        ] {
            let out = nack(numbers);
            let Some(Ok(Packet::Nack(nack))) = packets(&out).next() else {
                panic!("{out:?}");
            };
            assert_eq!((nack.sender, nack.media), (1, 2));
            assert_eq!(nack.numbers().collect::<Vec<_>>(), numbers);
        }
        let all: Vec<u16> = (65_000..=65_535).chain(0..500).collect();
        let out = nack(&all);
        assert_eq!(out.len(), 12 + 4 * all.len().div_ceil(17));
    }

    #[test]
    fn picture_requests_are_read_as_written() {
        let refresh = Refresh {
            media: 0xdead_beef,
            number: 200,
        };
        let mut out = Vec::new();
        write_pli(&mut out, 1, 2);
        write_fir(&mut out, 3, refresh);
        let mut found = packets(&out);
        let Some(Ok(Packet::Pli(pli))) = found.next() else {
            panic!("{out:?}");
        };
        assert_eq!((pli.sender, pli.media), (1, 2));
        let Some(Ok(Packet::Fir(fir))) = found.next() else {
            panic!("{out:?}");
        };
        assert_eq!(fir.sender, 3);
        assert_eq!(fir.refreshes().collect::<Vec<_>>(), [refresh]);
    }

    #[test]
    fn limits_are_read_as_written() {
        for (bitrate, read) in [
            (0, 0),
            (262_143, 262_143),
            (262_145, 262_144),
            (1_000_000, 1_000_000),
            (u64::MAX, 0x3_ffff << 46),
        ] {
            let mut out = Vec::new();
            write_remb(&mut out, 1, bitrate, &[7, 8]);
            let Some(Ok(Packet::Remb(remb))) = packets(&out).next() else {
                panic!("{out:?}");
            };
            assert_eq!((remb.sender, remb.bitrate), (1, read));
            assert_eq!(remb.ssrcs().collect::<Vec<_>>(), [7, 8]);
        }
    }

    #[test]
    fn limits_may_be_malformed() {
        let mut body = [0; 16];
        assert!(Remb::parse(&body).unwrap().is_none(), "another application");
        body[8..12].copy_from_slice(b"REMB");
        body[12..16].copy_from_slice(&[0, 0xff, 0xff, 0xff]);
        assert_eq!(Remb::parse(&body).unwrap().unwrap().bitrate, u64::MAX);
        body[12] = 1;
        assert_eq!(Remb::parse(&body).err(), Some(Error::Short));
    }
}
