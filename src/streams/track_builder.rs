//! Frames of one track, built from its packets while somebody needs frames.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::media::{Codec, Frame, MediaTime, Packet, Start, Track};
use crate::proto::rtp::payload::{Depacketizer, PacketView};

/// How long a packet that is missing is waited for: two round trips of a publisher that is far
/// away, which is asked for it again.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// Packets that may wait for a missing one: [`WAIT_MAX`] of 20 Mbit/s.
const WAITING_MAX: usize = 512;

/// The least time between two frames of a track.
const STEP: MediaTime = MediaTime::from_millis(1);

/// The furthest that a picture may be shown after it is decoded: 16 pictures at 25 a second.
const REORDER_MAX: MediaTime = MediaTime::from_millis(640);

/// A frame that was built.
#[derive(Debug)]
pub(super) struct BuiltFrame {
    pub(super) frame: Frame,
    /// A keyframe's configuration, if it is another than that of the one before.
    pub(super) config: Option<Bytes>,
}

/// Puts packets in order, and frames together.
#[derive(Debug)]
pub(super) struct TrackBuilder {
    /// Packets behind a missing one, by number.
    waiting: BTreeMap<u64, Packet>,
    /// The number of the next packet; `None` before the first frame begins.
    next: Option<u64>,
    /// Since when the next one is missing.
    missing_since: Option<Instant>,
    depacketizer: Depacketizer,
}

/// Decoding times of one track's frames, whoever publishes them and however often it is begun to
/// build them.
#[derive(Debug, Default)]
pub(super) struct DecodingTimes {
    last: Option<MediaTime>,
    /// How much earlier than they are shown frames are decoded.
    reorder: MediaTime,
}

impl TrackBuilder {
    /// Begins with the next frame, for pictures with the next keyframe. `None` for a codec that RTP
    /// does not carry.
    pub(super) fn new(codec: Codec) -> Option<Self> {
        Some(Self {
            waiting: BTreeMap::new(),
            next: None,
            missing_since: None,
            depacketizer: Depacketizer::new(codec)?,
        })
    }

    /// A packet of the track. Frames that are whole by now are added to `out`. True if nothing can
    /// be built before the next keyframe, and this is not its beginning.
    pub(super) fn push(
        &mut self,
        now: Instant,
        track: &Track,
        packet: &Packet,
        times: &mut DecodingTimes,
        out: &mut Vec<BuiltFrame>,
    ) -> bool {
        let next = match self.next {
            Some(next) => next,
            None if packet.start == Start::No => {
                // The beginning of its frame may be just behind it.
                self.waiting.clear();
                self.waiting.insert(packet.number, packet.clone());
                return false;
            }
            None => {
                self.waiting = self.waiting.split_off(&packet.number);
                packet.number
            }
        };
        self.next = Some(next);
        if packet.number < next {
            return false;
        }
        self.waiting.insert(packet.number, packet.clone());
        self.drain(track, times, out);
        while let Some((first, _)) = self.waiting.first_key_value() {
            let since = *self.missing_since.get_or_insert(now);
            let is_late = now.saturating_duration_since(since) >= WAIT_MAX;
            if !is_late && self.waiting.len() <= WAITING_MAX {
                break;
            }
            self.next = Some(*first);
            self.missing_since = None;
            self.drain(track, times, out);
        }
        packet.start == Start::Frame && self.depacketizer.needs_keyframe()
    }

    /// Takes what is in order.
    fn drain(&mut self, track: &Track, times: &mut DecodingTimes, out: &mut Vec<BuiltFrame>) {
        while let Some(next) = self.next
            && let Some(packet) = self.waiting.remove(&next)
        {
            self.next = Some(next + 1);
            self.missing_since = None;
            let view = PacketView {
                number: packet.number,
                time: packet.time,
                marker: packet.marker,
                payload: &packet.payload,
            };
            if let Err(error) = self.depacketizer.push(view) {
                tracing::trace!(%error, "a packet could not be read");
            }
            while let Some(unit) = self.depacketizer.poll() {
                let (dts, pts) = times.place(unit.time);
                let frame = Frame {
                    track: track.id,
                    dts,
                    pts,
                    keyframe: unit.keyframe,
                    data: unit.data,
                    received: packet.received,
                };
                let config = unit.config;
                out.push(BuiltFrame { frame, config });
            }
        }
    }
}

impl DecodingTimes {
    /// Another publisher begins. Returns the time of the last one's newest frame, which the next
    /// one's times are to be behind.
    pub(super) fn rejoin(&mut self) -> Option<MediaTime> {
        self.reorder = MediaTime::ZERO;
        self.last.take()
    }

    /// A frame's decoding and presentation time. A publisher says only when a frame is shown. Once
    /// one is shown before another that came earlier, all are decoded earlier by as much.
    fn place(&mut self, shown: MediaTime) -> (MediaTime, MediaTime) {
        let mut dts = shown - self.reorder;
        if let Some(last) = self.last {
            dts = dts.max(last + STEP);
        }
        if dts > shown {
            self.reorder = (self.reorder + (dts - shown)).min(REORDER_MAX);
        }
        self.last = Some(dts);
        (dts, shown.max(dts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;
    use crate::streams::packets::tests::video;

    /// Pictures of two packets each, 40 ms apart; every tenth is a keyframe.
    fn packet(number: u64) -> Packet {
        let start = match (number % 2, number % 20) {
            (1, _) => Start::No,
            (_, 0) => Start::Keyframe,
            (_, _) => Start::Frame,
        };
        let mut packet = samples::packet(0, number, number as i64 / 2 * 40, start, 50);
        packet.marker = number % 2 == 1;
        // The first and the last part of a unit that is cut in two (RFC 6184 section 5.8).
        let flags = if packet.marker { 0x40 } else { 0x80 };
        let kind = if number % 20 < 2 { 5 } else { 1 };
        packet.payload = [&[0x7c, flags | kind][..], &[0x95; 48]].concat().into();
        packet
    }

    fn build(numbers: &[u64], after: Duration) -> (Vec<i64>, bool) {
        let (mut builder, mut out) = (TrackBuilder::new(Codec::H264).unwrap(), Vec::new());
        let mut times = DecodingTimes::default();
        let mut now = samples::now();
        let mut asks = false;
        for number in numbers {
            asks |= builder.push(now, &video(), &packet(*number), &mut times, &mut out);
            now += after;
        }
        let times = out.iter().map(|built| built.frame.dts.as_millis());
        (times.collect(), asks)
    }

    #[test]
    fn it_begins_with_a_keyframe_and_puts_packets_in_order() {
        let (times, asks) = build(&[15, 18, 19, 21, 20, 23, 24, 22, 25], Duration::ZERO);
        assert_eq!(times, [400, 440, 480], "whole pictures from 400 ms on");
        assert!(asks, "18 begins a picture that is of no use");
    }

    #[test]
    fn a_missing_packet_is_waited_for_and_then_costs_the_pictures_up_to_the_next_keyframe() {
        let numbers: Vec<u64> = (20..46).filter(|number| *number != 23).collect();
        assert_eq!(build(&numbers, Duration::ZERO), (vec![400], false));
        let (times, asks) = build(&numbers, Duration::from_millis(50));
        assert_eq!(times, [400, 800, 840, 880]);
        assert!(asks);
    }

    #[test]
    fn the_first_two_packets_may_change_places() {
        let numbers = [21, 20, 22, 23];
        assert_eq!(build(&numbers, Duration::ZERO), (vec![400, 440], false));
        let (times, _) = build(&[19, 20, 21], Duration::ZERO);
        assert_eq!(
            times,
            [400],
            "what is older than the beginning is let go of"
        );
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut builder, mut out) = (TrackBuilder::new(Codec::H264).unwrap(), Vec::new());
        let mut times = DecodingTimes::default();
        let now = samples::now();
        builder.push(now, &video(), &packet(20), &mut times, &mut out);
        for number in 0..2 * WAITING_MAX as u64 {
            builder.push(now, &video(), &packet(22 + number), &mut times, &mut out);
            assert!(builder.waiting.len() <= WAITING_MAX);
        }
    }

    #[test]
    fn pictures_out_of_order_get_decoding_times_that_do_not_fall() {
        let mut times = DecodingTimes::default();
        let shown = [0, 120, 40, 80, 240, 160, 200, 360, 280, 320];
        let mut last = None;
        for (index, shown) in shown.into_iter().enumerate() {
            let shown = MediaTime::from_millis(shown);
            let (dts, pts) = times.place(shown);
            assert!(Some(dts) > last && dts <= pts);
            assert!(index < 5 || pts == shown, "it has been learned");
            last = Some(dts);
        }
    }

    #[test]
    fn without_reordering_frames_are_decoded_when_they_are_shown() {
        let mut times = DecodingTimes::default();
        for millis in (0..1000).step_by(20) {
            let time = MediaTime::from_millis(millis);
            assert_eq!(times.place(time), (time, time));
        }
    }
}
