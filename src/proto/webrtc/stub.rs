use crate::media::{MediaTime, NtpTime};
use crate::proto::rtcp::{ReportBlock, SenderInfo};
use std::time::{Duration, Instant};
#[derive(Debug)]
pub(super) struct Origin(Instant);
impl Origin {
    pub(super) fn new(now: Instant) -> Self {
        Self(now)
    }
}
#[derive(Debug)]
pub(super) struct Clock {
    rate: u32,
    first: Option<(u32, Instant)>,
}
impl Clock {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, first: None }
    }
    pub(super) fn time(&mut self, now: Instant, timestamp: u32, origin: &mut Origin) -> MediaTime {
        let (first, at) = *self.first.get_or_insert((timestamp, now));
        let base =
            MediaTime::from_micros(at.saturating_duration_since(origin.0).as_micros() as i64);
        base + MediaTime::from_ticks(i64::from(timestamp.wrapping_sub(first) as i32), self.rate)
    }
    pub(super) fn sender_report(
        &mut self,
        _now: Instant,
        _info: &SenderInfo,
        _origin: &mut Origin,
    ) {
    }
}
pub(super) enum Received {
    New { number: u64 },
    Duplicate,
    Empty,
    TooOld,
}
#[derive(Debug)]
pub(super) struct Incoming {
    highest: Option<u64>,
}
impl Incoming {
    pub(super) fn new(_rate: u32) -> Self {
        Self { highest: None }
    }
    pub(super) fn receive(
        &mut self,
        _now: Instant,
        sequence: u16,
        _timestamp: u32,
        bytes: usize,
        _is_repair: bool,
    ) -> Received {
        if bytes == 0 {
            return Received::Empty;
        }
        let highest = self.highest.unwrap_or(65536 + u64::from(sequence));
        let number =
            highest.wrapping_add_signed(i64::from(sequence.wrapping_sub(highest as u16) as i16));
        self.highest = Some(highest.max(number));
        Received::New { number }
    }
    pub(super) fn has_gaps(&self) -> bool {
        false
    }
    pub(super) fn sender_report(&mut self, _now: Instant, _ntp: NtpTime) {}
    pub(super) fn report_block(&mut self, _now: Instant, ssrc: u32) -> ReportBlock {
        ReportBlock {
            ssrc,
            ..ReportBlock::default()
        }
    }
    pub(super) fn poll_nacks(&mut self, _now: Instant, _rtt: Duration) -> Vec<u16> {
        Vec::new()
    }
    pub(super) fn take_keyframe_needed(&mut self) -> bool {
        false
    }
}
pub mod sctp {
    use bytes::Bytes;
    use std::time::Instant;
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Options {
        pub remote_port: u16,
        pub peer_message_bytes_max: u64,
    }
    #[derive(Debug)]
    pub enum Event {
        Gone,
    }
    #[derive(Debug)]
    pub struct Association;
    impl Association {
        pub fn new(_now: Instant, _is_client: bool, _options: Options) -> Self {
            Self
        }
        pub fn handle_input(&mut self, _now: Instant, _bytes: Bytes) {}
        pub fn handle_timeout(&mut self, _now: Instant) {}
        pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
            None
        }
        pub fn poll_event(&mut self) -> Option<Event> {
            None
        }
        pub fn poll_transmit(&mut self, _now: Instant) -> Option<Bytes> {
            None
        }
    }
}
