//! What a sender counts for its reports (RFC 3550 section 6.4.1).

use crate::media::{MediaTime, NtpTime};

use super::report::SenderInfo;

/// One stream that is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outgoing {
    packets: u32,
    octets: u32,
    last: Option<Moment>,
}

/// A packet's timestamp, and when that was by the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Moment {
    timestamp: u32,
    time: MediaTime,
}

impl Outgoing {
    /// Counts a packet. `timestamp` is what its header says and `time` the instant on the
    /// stream's timeline that it stands for; repetitions (RFC 4588) are of another stream.
    #[inline]
    pub fn sent(&mut self, payload_bytes: usize, timestamp: u32, time: MediaTime) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload_bytes as u32);
        self.last = Some(Moment { timestamp, time });
    }

    /// Packets so far, modulo 2^32.
    pub fn packets(&self) -> u32 {
        self.packets
    }

    /// What a report says; None before the first packet.
    ///
    /// `ntp` is the wall clock at the moment of the report, and `time` where the stream's
    /// timeline is at that moment. All tracks of a stream are given the same pair, which is what
    /// a receiver brings them into step by. `rate` is that of the stream's timestamps, in Hz.
    pub fn report(&self, ntp: NtpTime, time: MediaTime, rate: u32) -> Option<SenderInfo> {
        let last = self.last?;
        let ticks = (time - last.time).as_ticks(rate);
        Some(SenderInfo {
            ntp,
            rtp_time: last.timestamp.wrapping_add(ticks as u32),
            packets: self.packets,
            octets: self.octets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_goes_on_from_the_last_packet() {
        let mut outgoing = Outgoing::default();
        let at = MediaTime::from_millis;
        assert_eq!(outgoing.report(NtpTime(1), at(0), 90_000), None);
        outgoing.sent(1000, 0, at(1000));
        outgoing.sent(200, 0xffff_ff00, at(2000));
        let info = outgoing.report(NtpTime(5), at(2010), 90_000).unwrap();
        let expected = SenderInfo {
            ntp: NtpTime(5),
            rtp_time: 900 - 0x100,
            packets: 2,
            octets: 1200,
        };
        assert_eq!(info, expected);
        // The timeline may be behind the last packet: pictures are sent before they are due.
        let info = outgoing.report(NtpTime(5), at(1990), 90_000).unwrap();
        assert_eq!(info.rtp_time, 0xffff_ff00 - 900);
    }
}
