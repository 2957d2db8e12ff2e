//! Reports of senders and receivers (RFC 3550 sections 6.4.1 and 6.4.2).

use std::time::Duration;

use crate::base::bytes::Reader;
use crate::media::NtpTime;

use super::error::Error;
use super::packet::{RECEIVER_REPORT, SENDER_REPORT, begin, end, put};

const BLOCK_BYTES: usize = 24;
/// A packet's count has 5 bits.
const BLOCKS_MAX: usize = 31;

/// What a sender says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SenderInfo {
    /// The wall clock when the report was sent; zero if the sender has none.
    pub ntp: NtpTime,
    /// The same moment in ticks of the stream's clock.
    pub rtp_time: u32,
    /// Packets sent so far, modulo 2^32.
    pub packets: u32,
    /// Bytes of payload sent so far, modulo 2^32.
    pub octets: u32,
}

/// What a receiver says of one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: u32,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the beginning, -2^23 to 2^23 - 1. Negative if there were duplicates.
    pub cumulative_lost: i32,
    /// The highest sequence number with the count of its wraps above it.
    pub highest_sequence: u32,
    /// In ticks of the stream's clock.
    pub jitter: u32,
    /// The middle of the last sender report's time; zero if none came.
    pub last_sender_report: u32,
    /// Since that report came, in units of 1/65536 s.
    pub delay: u32,
}

impl ReportBlock {
    /// The round-trip time, if the receiver has had a sender report. `received` is the time of
    /// arrival by the clock that our sender reports show. Clocks that are read coarsely may give
    /// a little less than nothing, which is zero here; more than 2^15 s is taken for nonsense.
    pub fn round_trip(&self, received: NtpTime) -> Option<Duration> {
        if self.last_sender_report == 0 {
            return None;
        }
        let units = received
            .middle()
            .wrapping_sub(self.last_sender_report)
            .wrapping_sub(self.delay) as i32;
        match units {
            i32::MIN..-65_536 => None,
            -65_536..0 => Some(Duration::ZERO),
            0.. => Some(Duration::from_nanos(
                (u64::from(units.unsigned_abs()) * 1_000_000_000) >> 16,
            )),
        }
    }

    fn parse(bytes: &[u8; BLOCK_BYTES]) -> Self {
        let word = |index: usize| {
            let (words, _) = bytes.as_chunks::<4>();
            u32::from_be_bytes(words[index])
        };
        Self {
            ssrc: word(0),
            fraction_lost: (word(1) >> 24) as u8,
            // The shifts give the 24 bits their sign.
            cumulative_lost: (word(1) << 8) as i32 >> 8,
            highest_sequence: word(2),
            jitter: word(3),
            last_sender_report: word(4),
            delay: word(5),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let lost = self.cumulative_lost.clamp(-(1 << 23), (1 << 23) - 1) as u32 & 0xff_ffff;
        put(out, self.ssrc);
        put(out, u32::from(self.fraction_lost) << 24 | lost);
        put(out, self.highest_sequence);
        put(out, self.jitter);
        put(out, self.last_sender_report);
        put(out, self.delay);
    }
}

/// The blocks of a report, 31 at most.
#[derive(Clone, Copy, Debug)]
pub struct ReportBlocks<'a> {
    blocks: &'a [[u8; BLOCK_BYTES]],
}

impl<'a> ReportBlocks<'a> {
    /// Takes `count` blocks; what follows them is a profile's extension.
    fn parse(count: u8, reader: &mut Reader<'a>) -> Result<Self, Error> {
        let bytes = reader.take(usize::from(count) * BLOCK_BYTES)?;
        let (blocks, _) = bytes.as_chunks();
        Ok(Self { blocks })
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (first, rest) = self.blocks.split_first()?;
        self.blocks = rest;
        Some(ReportBlock::parse(first))
    }
}

/// A sender report.
#[derive(Clone, Copy, Debug)]
pub struct SenderReport<'a> {
    /// The sender's stream.
    pub ssrc: u32,
    /// What it says of it.
    pub info: SenderInfo,
    /// What it received.
    pub blocks: ReportBlocks<'a>,
}

impl<'a> SenderReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        Ok(Self {
            ssrc: reader.u32()?,
            info: SenderInfo {
                ntp: NtpTime(reader.u64()?),
                rtp_time: reader.u32()?,
                packets: reader.u32()?,
                octets: reader.u32()?,
            },
            blocks: ReportBlocks::parse(count, &mut reader)?,
        })
    }
}

/// A receiver report.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverReport<'a> {
    /// Who reports.
    pub ssrc: u32,
    /// What it received.
    pub blocks: ReportBlocks<'a>,
}

impl<'a> ReceiverReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        Ok(Self {
            ssrc: reader.u32()?,
            blocks: ReportBlocks::parse(count, &mut reader)?,
        })
    }
}

/// Appends a sender report: 28 bytes and 24 for each block. Blocks after the 31st are left out.
pub fn write_sender_report(
    out: &mut Vec<u8>,
    ssrc: u32,
    info: &SenderInfo,
    blocks: &[ReportBlock],
) {
    let blocks = &blocks[..blocks.len().min(BLOCKS_MAX)];
    let start = begin(out, blocks.len() as u8, SENDER_REPORT);
    put(out, ssrc);
    out.extend_from_slice(&info.ntp.0.to_be_bytes());
    put(out, info.rtp_time);
    put(out, info.packets);
    put(out, info.octets);
    blocks.iter().for_each(|block| block.write(out));
    end(out, start);
}

/// Appends a receiver report: 8 bytes and 24 for each block. Blocks after the 31st are left out.
pub fn write_receiver_report(out: &mut Vec<u8>, ssrc: u32, blocks: &[ReportBlock]) {
    let blocks = &blocks[..blocks.len().min(BLOCKS_MAX)];
    let start = begin(out, blocks.len() as u8, RECEIVER_REPORT);
    put(out, ssrc);
    blocks.iter().for_each(|block| block.write(out));
    end(out, start);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rtcp::{Packet, packets};

    const BLOCK: ReportBlock = ReportBlock {
        ssrc: 7,
        fraction_lost: 128,
        cumulative_lost: -2,
        highest_sequence: 0x0001_fffe,
        jitter: 33,
        last_sender_report: 0xb705_2000,
        delay: 0x0005_4000,
    };

    #[test]
    fn sender_reports_are_read_as_written() {
        let info = SenderInfo {
            ntp: NtpTime(0x0102_0304_0506_0708),
            rtp_time: 9,
            packets: 10,
            octets: 11,
        };
        let mut out = Vec::new();
        write_sender_report(&mut out, 5, &info, &[BLOCK, BLOCK]);
        assert_eq!(out[..4], [0x82, 200, 0, 18]);
        let Some(Ok(Packet::SenderReport(report))) = packets(&out).next() else {
            panic!("{out:?}");
        };
        assert_eq!((report.ssrc, report.info), (5, info));
        assert_eq!(report.blocks.collect::<Vec<_>>(), [BLOCK, BLOCK]);
    }

    #[test]
    fn receiver_reports_are_read_as_written() {
        let mut out = Vec::new();
        write_receiver_report(&mut out, 5, &[BLOCK; 40]);
        let Some(Ok(Packet::ReceiverReport(report))) = packets(&out).next() else {
            panic!("{out:?}");
        };
        assert_eq!(report.ssrc, 5);
        assert_eq!(report.blocks.collect::<Vec<_>>(), [BLOCK; 31]);
        out.truncate(out.len() - 4);
        out[3] -= 1;
        assert!(matches!(packets(&out).next(), Some(Err(Error::Short))));
    }

    #[test]
    fn losses_are_held_to_24_bits() {
        for (lost, read) in [(i32::MAX, 0x7f_ffff), (i32::MIN, -0x80_0000), (-1, -1)] {
            let mut out = Vec::new();
            let block = ReportBlock {
                cumulative_lost: lost,
                ..BLOCK
            };
            block.write(&mut out);
            let parsed = ReportBlock::parse(out.first_chunk().unwrap());
            assert_eq!(parsed.cumulative_lost, read);
        }
    }

    #[test]
    fn the_round_trip_of_rfc_3550_section_6_4_1() {
        // 10 Nov 1995 11:33:36.5 UTC; the answer in the text is 6.125 s.
        let received = NtpTime(0xb44d_b710_8000_0000);
        assert_eq!(
            BLOCK.round_trip(received),
            Some(Duration::from_millis(6125))
        );
        let block = |last_sender_report, delay| ReportBlock {
            last_sender_report,
            delay,
            ..BLOCK
        };
        assert_eq!(block(0, 0).round_trip(received), None);
        let early = block(0xb710_8001, 0).round_trip(received);
        assert_eq!(early, Some(Duration::ZERO));
        assert_eq!(block(0xb720_0000, 0).round_trip(received), None);
    }
}
