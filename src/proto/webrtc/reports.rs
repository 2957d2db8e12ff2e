//! Reports of what is sent and received (RFC 3550 section 6.4).

use std::time::{Duration, Instant};

use super::receivers::Receivers;
use super::sender::Sender;
use crate::base::prng::Prng;
use crate::media::{MediaTime, NtpTime};
use crate::proto::rtcp::{
    self, SenderInfo, write_description, write_goodbye, write_receiver_report, write_sender_report,
};

/// Between two reports. Players bring sound and picture into step by them, so the first ones come
/// soon; RFC 3550 section 6.2 allows more than one in 5 s of the session bandwidth that video has.
const EVERY: Duration = Duration::from_secs(1);
const FIRST: Duration = Duration::from_millis(50);

/// How far the stream's timeline may drift from the wall clock before their relation is taken
/// anew. Drift is a few ms an hour; a timeline that jumps has jumped by more.
const DRIFT_MAX: i64 = 500_000;

/// When reports go, and by which clock.
#[derive(Debug)]
pub(super) struct Reports {
    /// The wall clock since 1970 at an instant.
    unix: (Instant, Duration),
    due: Instant,
    canonical_name: String,
    ssrc: u32,
    /// A point of the stream's timeline, and when it was sent.
    anchor: Option<(MediaTime, Instant)>,
}

impl Reports {
    pub(super) fn new(now: Instant, unix: Duration, seed: u64) -> Self {
        let mut random = Prng::new(seed);
        Self {
            unix: (now, unix),
            due: now,
            canonical_name: format!("{:016x}", random.next_u64()),
            ssrc: random.next_u64() as u32,
            anchor: None,
        }
    }

    /// Keys are there.
    pub(super) fn begin(&mut self, now: Instant) {
        self.due = now + FIRST;
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The wall clock as reports show it.
    pub(super) fn ntp(&self, now: Instant) -> NtpTime {
        let (then, unix) = self.unix;
        NtpTime::from_unix(unix + now.saturating_duration_since(then))
    }

    /// A report, if there is anything to say.
    pub(super) fn write(
        &mut self,
        now: Instant,
        senders: &mut [Sender],
        receivers: &mut Receivers,
    ) -> Option<Vec<u8>> {
        self.due = now + EVERY;
        let mut packet = Vec::new();
        let time = self.time(now, senders);
        let ntp = self.ntp(now);
        for sender in senders.iter_mut().filter(|sender| sender.packets > 0) {
            let Some(time) = time else { continue };
            let info = SenderInfo {
                ntp,
                rtp_time: sender.numbering.timestamp_at(time),
                packets: sender.packets,
                octets: sender.octets,
            };
            write_sender_report(&mut packet, sender.outgoing.stream.ssrc, &info, &[]);
            write_description(
                &mut packet,
                sender.outgoing.stream.ssrc,
                &self.canonical_name,
            );
        }
        let blocks = receivers.report_blocks(now);
        if !blocks.is_empty() {
            write_receiver_report(&mut packet, self.ssrc, &blocks);
        }
        (!packet.is_empty()).then_some(packet)
    }

    /// Where the stream's timeline is now. The same for all tracks, so that they are in step.
    fn time(&mut self, now: Instant, senders: &[Sender]) -> Option<MediaTime> {
        let (newest, received) = senders
            .iter()
            .filter_map(|sender| sender.newest)
            .max_by_key(|(_, received)| *received)?;
        let since = |then: Instant| {
            let elapsed = now.saturating_duration_since(then).as_micros();
            MediaTime::from_micros(i64::try_from(elapsed).unwrap_or(i64::MAX))
        };
        let by_newest = newest + since(received);
        let (time, then) = *self.anchor.get_or_insert((newest, received));
        let by_anchor = time + since(then);
        if (by_newest - by_anchor).as_micros().abs() > DRIFT_MAX {
            self.anchor = Some((newest, received));
            return Some(by_newest);
        }
        Some(by_anchor)
    }

    /// What says that our streams end.
    pub(super) fn goodbye(&self, senders: &[Sender]) -> Option<Vec<u8>> {
        let sources: Vec<u32> = senders
            .iter()
            .filter(|sender| sender.packets > 0)
            .map(|sender| sender.outgoing.stream.ssrc)
            .collect();
        if sources.is_empty() {
            return None;
        }
        let mut packet = Vec::new();
        write_receiver_report(&mut packet, self.ssrc, &[]);
        write_goodbye(&mut packet, &sources);
        Some(packet)
    }

    /// The round-trip time that a peer's report shows.
    pub(super) fn round_trip(
        &self,
        now: Instant,
        blocks: rtcp::ReportBlocks<'_>,
    ) -> Option<Duration> {
        let received = self.ntp(now);
        blocks.filter_map(|block| block.round_trip(received)).max()
    }
}
