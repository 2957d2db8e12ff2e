//! Streams as they come: late, twice, with holes, and beginning anew.

use super::*;
use crate::media::samples;

struct Stream {
    incoming: Incoming,
    now: Instant,
    timestamp: u32,
}

impl Stream {
    fn new() -> Self {
        Self {
            incoming: Incoming::new(90_000),
            now: samples::now(),
            timestamp: 0,
        }
    }

    fn put(&mut self, sequence: u16, is_empty: bool, is_retransmission: bool) -> Received {
        let arrival = Arrival {
            sequence,
            timestamp: self.timestamp,
            is_empty,
            is_retransmission,
        };
        self.incoming.receive(self.now, arrival)
    }

    fn packet(&mut self, sequence: u16) -> Received {
        self.put(sequence, false, false)
    }

    fn nacks(&mut self) -> Vec<u16> {
        let rtt = Duration::from_millis(50);
        self.incoming.poll_nacks(self.now, rtt).collect()
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }
}

fn new(number: u64) -> Received {
    Received::New {
        number,
        is_late: false,
        is_restart: false,
    }
}

fn late(number: u64) -> Received {
    Received::New {
        number,
        is_late: true,
        is_restart: false,
    }
}

#[test]
fn numbers_go_on_where_sequence_numbers_wrap() {
    let mut stream = Stream::new();
    assert_eq!(stream.packet(65_534), new(65_536 + 65_534));
    assert_eq!(stream.packet(65_535), new(65_536 + 65_535));
    assert_eq!(stream.packet(1), new(131_072 + 1));
    assert_eq!(stream.packet(0), late(131_072));
    assert_eq!(
        stream.packet(65_533),
        late(65_536 + 65_533),
        "before the first"
    );
    assert_eq!(stream.packet(0), Received::Duplicate);
    assert_eq!(stream.packet(65_533), Received::Duplicate);
    let report = stream.incoming.report(stream.now).unwrap();
    assert_eq!(report.highest_sequence, 65_536 + 1);
}

#[test]
fn many_turns_are_counted() {
    let mut stream = Stream::new();
    for number in 0..200_000u64 {
        assert_eq!(stream.packet(number as u16), new(65_536 + number));
    }
    let report = stream.incoming.report(stream.now).unwrap();
    assert_eq!(report.highest_sequence, 199_999);
    assert_eq!(report.cumulative_lost, 0);
}

#[test]
fn packets_beyond_the_window_are_too_old() {
    let mut stream = Stream::new();
    stream.packet(0);
    stream.packet(2);
    stream.packet(2500);
    assert_eq!(stream.packet(2500 - 2048), Received::TooOld);
    assert_eq!(stream.packet(2500 - 2047), late(65_536 + 2500 - 2047));
    stream.packet(2501);
    assert_eq!(stream.packet(2500 - 2047), Received::TooOld);
}

/// Quirk 19: Chromium probes for bandwidth with packets of padding.
#[test]
fn empty_packets_take_no_number() {
    let mut stream = Stream::new();
    stream.packet(10);
    assert_eq!(stream.put(11, true, false), Received::Empty { hole: None });
    assert_eq!(stream.put(12, true, false), Received::Empty { hole: None });
    assert_eq!(stream.put(12, true, false), Received::Duplicate);
    assert_eq!(stream.packet(13), new(65_536 + 11));
    assert!(stream.nacks().is_empty());
}

#[test]
fn late_packets_before_an_empty_one_have_the_right_number() {
    let mut stream = Stream::new();
    stream.packet(10);
    // 11 and 12 are late; 13 is empty.
    stream.put(13, true, false);
    assert_eq!(stream.packet(14), new(65_536 + 13));
    assert_eq!(stream.packet(12), late(65_536 + 12));
    assert_eq!(stream.put(11, false, true), late(65_536 + 11));
}

#[test]
fn a_late_empty_packet_leaves_a_hole() {
    let mut stream = Stream::new();
    stream.packet(10);
    assert_eq!(stream.packet(12), new(65_536 + 12));
    let hole = Some(65_536 + 11);
    assert_eq!(stream.put(11, true, false), Received::Empty { hole });
    assert_eq!(stream.packet(13), new(65_536 + 13));
    stream.wait(20);
    assert!(stream.nacks().is_empty());
}

#[test]
fn a_jump_ahead_begins_anew() {
    let mut stream = Stream::new();
    stream.packet(100);
    let restarted = Received::New {
        number: 65_536 + 102,
        is_late: false,
        is_restart: true,
    };
    assert_eq!(stream.packet(100 + 3001), restarted);
    assert_eq!(stream.packet(100 + 3002), new(65_536 + 103));
    stream.wait(20);
    assert!(stream.nacks().is_empty());
    let report = stream.incoming.report(stream.now).unwrap();
    assert_eq!(report.cumulative_lost, 0);
    assert_eq!(report.highest_sequence, 65_536 + 3102);
}

#[test]
fn a_jump_back_begins_anew_with_the_second_packet() {
    let mut stream = Stream::new();
    stream.packet(50_000);
    assert_eq!(stream.packet(30_000), Received::TooOld);
    assert_eq!(stream.packet(50_001), new(65_536 + 50_001));
    // Firefox probes with old packets (quirk 22): repetitions never begin anew.
    assert_eq!(stream.put(30_001, false, true), Received::TooOld);
    assert_eq!(stream.put(30_002, false, true), Received::TooOld);
    assert_eq!(stream.packet(30_003), Received::TooOld);
    let restarted = Received::New {
        number: 65_536 + 50_003,
        is_late: false,
        is_restart: true,
    };
    assert_eq!(stream.packet(30_004), restarted);
    assert_eq!(stream.packet(30_005), new(65_536 + 50_004));
}

#[test]
fn what_is_missing_is_asked_for_until_it_comes() {
    let mut stream = Stream::new();
    stream.packet(65_533);
    stream.packet(2);
    assert!(stream.nacks().is_empty(), "it may be out of order");
    stream.wait(10);
    assert_eq!(stream.nacks(), [65_534, 65_535, 0, 1]);
    assert_eq!(stream.put(65_535, false, true), late(65_536 + 65_535));
    stream.wait(49);
    assert!(stream.nacks().is_empty());
    stream.wait(1);
    assert_eq!(stream.nacks(), [65_534, 0, 1]);
    let rtt = Duration::from_millis(50);
    let again = stream.now + rtt;
    assert_eq!(stream.incoming.poll_timeout(rtt), Some(again));
}

#[test]
fn a_gap_of_hundreds_needs_a_keyframe() {
    let mut stream = Stream::new();
    stream.packet(0);
    stream.packet(600);
    stream.wait(20);
    assert!(stream.nacks().is_empty());
    assert!(stream.incoming.take_keyframe_needed());
}

#[test]
fn a_retransmission_may_be_the_newest_but_not_the_first() {
    let mut stream = Stream::new();
    assert_eq!(stream.put(9, false, true), Received::TooOld);
    stream.packet(10);
    assert_eq!(stream.put(12, false, true), new(65_536 + 12));
    assert_eq!(stream.put(12 + 2049, false, true), Received::TooOld);
    assert_eq!(stream.packet(12), Received::Duplicate);
}

#[test]
fn losses_are_reported_for_the_interval_and_the_whole() {
    let mut stream = Stream::new();
    assert_eq!(stream.incoming.report(stream.now), None);
    for sequence in (0..100).filter(|sequence| sequence % 4 != 1) {
        stream.packet(sequence);
    }
    let report = stream.incoming.report(stream.now).unwrap();
    assert_eq!((report.fraction_lost, report.cumulative_lost), (64, 25));
    for sequence in 100..200 {
        stream.packet(sequence);
    }
    let report = stream.incoming.report(stream.now).unwrap();
    assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 25));
    let report = stream.incoming.report(stream.now).unwrap();
    assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 25));
}

#[test]
fn jitter_is_that_of_the_appendix() {
    let mut stream = Stream::new();
    stream.packet(0);
    // Each second packet comes 10 ms (900 ticks) early, and the next as late.
    for pair in 0..200u16 {
        stream.timestamp = stream.timestamp.wrapping_add(1800);
        stream.wait(10);
        stream.packet(2 * pair + 1);
        stream.timestamp = stream.timestamp.wrapping_add(1800);
        stream.wait(30);
        stream.packet(2 * pair + 2);
    }
    let jitter = stream.incoming.report(stream.now).unwrap().jitter;
    assert!((890..=900).contains(&jitter), "{jitter}");
    // Packets at the pace of their timestamps take it away.
    for sequence in 401..601 {
        stream.timestamp = stream.timestamp.wrapping_add(1800);
        stream.wait(20);
        stream.packet(sequence);
    }
    let jitter = stream.incoming.report(stream.now).unwrap().jitter;
    assert!(jitter < 2, "{jitter}");
}

#[test]
fn reports_say_when_the_last_sender_report_came() {
    let mut stream = Stream::new();
    stream.packet(0);
    stream.incoming.sender_report(stream.now, 0xb705_2000);
    stream.wait(5250);
    let report = stream.incoming.report(stream.now).unwrap();
    assert_eq!(report.last_sender_report, 0xb705_2000);
    assert_eq!(report.delay, 0x0005_4000);
}
