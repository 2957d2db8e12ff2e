//! What nobody sends who means well, against our WebRTC peer, in virtual time.

#![allow(
    clippy::disallowed_methods,
    reason = "a simulation has to begin at some time"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for the events that it is about"
)]

#[path = "webrtc_sim/ring.rs"]
mod ring;
#[path = "support/rtc_client.rs"]
mod rtc_client;
mod webrtc_sim;

use std::time::Duration;

use ring::{Ring, elsewhere};
use ringside::base::prng::Prng;
use ringside::media::{MediaTime, Packet, Start};
use ringside::proto::rtcp;
use ringside::proto::webrtc::Event;
use rtc_client::{
    AUDIO_SSRC, Answer, Client, Identity, OPUS, RTX, RTX_SSRC, VIDEO_SSRC, VP8, picture,
};
use webrtc_sim::{path, server_address};

/// CVE-2023-51443 and its kin: whoever was not authenticated by ICE can neither begin a handshake
/// nor end one.
#[test]
fn dtls_before_ice_is_not_looked_at() {
    let mut ring = Ring::new(true, |offer| offer, true);
    let hello = ring.client.dtls.poll_transmit().unwrap();
    ring.arrive(path(), &hello);
    assert!(ring.sent.is_empty(), "no answer at all");
    assert_eq!(ring.statistics().refused, 1);
    ring.connect();
}

#[test]
fn a_handshake_outlives_hellos_and_alerts_from_elsewhere() {
    let mut ring = Ring::new(true, |offer| offer, true);
    let stranger = Identity::new(2);
    let answer = Answer {
        credentials: stranger.credentials.clone(),
        fingerprint: vec![7; 32],
        video_ssrc: None,
    };
    let mut other = Client::new(ring.now, &stranger, &answer, server_address(), 9);
    let hello = other.dtls.poll_transmit().unwrap();
    // Fatal, handshake failure; and close_notify, both of DTLS 1.2 and epoch 0.
    let alerts = [[2, 40], [1, 0]].map(|alert| {
        let mut record = vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2];
        record.extend(alert);
        record
    });
    let mut count = 0;
    while !ring.peer.is_connected() {
        ring.arrive(elsewhere(), &hello);
        for alert in &alerts {
            ring.arrive(elsewhere(), alert);
        }
        ring.step();
        count += 1;
        assert!(count < 100, "the handshake goes on");
    }
    for _ in 0..10 {
        ring.arrive(elsewhere(), &hello);
        ring.arrive(elsewhere(), &alerts[0]);
        // Of the victim's own address, but not sealed.
        ring.arrive(path(), &alerts[0]);
        ring.arrive(path(), &alerts[1]);
        ring.step();
    }
    assert!(ring.peer.is_connected());
    assert!(ring.sent.iter().all(|(to, _)| *to == path()));
    let gone = |event: &Event| matches!(event, Event::Gone(_));
    assert!(!ring.events.iter().any(gone));
    ring.send(VIDEO_SSRC, VP8, 1, &picture(true));
    assert_eq!(ring.packets.len(), 1);
}

#[test]
fn replayed_and_forged_packets_are_counted_apart() {
    let mut ring = Ring::publisher();
    let first = ring.client.packet(VIDEO_SSRC, VP8, 100, &picture(true));
    ring.arrive(path(), &first);
    ring.arrive(path(), &first);
    ring.send(VIDEO_SSRC, VP8, 2000, &picture(false));
    ring.arrive(path(), &first);
    let statistics = ring.statistics();
    assert_eq!((statistics.replayed, statistics.refused), (2, 0));
    let mut forged = ring.client.packet(VIDEO_SSRC, VP8, 2001, &picture(false));
    *forged.last_mut().unwrap() ^= 1;
    ring.arrive(path(), &forged);
    let good = ring.client.packet(VIDEO_SSRC, VP8, 2001, &picture(false));
    ring.arrive(elsewhere(), &good);
    let statistics = ring.statistics();
    assert_eq!((statistics.replayed, statistics.refused), (2, 2));
    ring.arrive(path(), &good);
    assert_eq!(ring.packets.len(), 3);
}

#[test]
fn packets_of_unknown_sources_and_types_are_bounded() {
    let mut ring = Ring::publisher();
    ring.send(VIDEO_SSRC, VP8, 1, &picture(true));
    ring.send(AUDIO_SSRC, OPUS, 1, &[0xfc; 20]);
    for at in 0..2000 {
        ring.send(10_000 + at, 77, 1, &[1; 50]);
    }
    assert_eq!(ring.statistics().refused, 2000);
    assert_eq!(ring.packets.len(), 2);
    // Each of a type that is known takes the track over; its numbers go on.
    let before = ring.packets[0].number;
    for at in 0..2000 {
        ring.send(
            20_000 + at,
            VP8,
            65_000 - u64::from(at) * 20,
            &picture(false),
        );
    }
    let numbers: Vec<u64> = ring.packets[2..].iter().map(|it| it.number).collect();
    assert_eq!(numbers.len(), 2000);
    assert!(numbers[0] > before && numbers.is_sorted_by(|a, b| a + 2 == *b));
    for at in 0..2000 {
        ring.send(30_000 + at, RTX, 1, &[0, 1, 2, 3]);
    }
    assert_eq!(ring.packets.len(), 2002);
}

/// Two sections that claim one source: one of them has it, and nothing else goes wrong.
#[test]
fn one_source_in_two_sections() {
    let collide = |offer: String| offer.replace(&AUDIO_SSRC.to_string(), &VIDEO_SSRC.to_string());
    let mut ring = Ring::new(true, collide, true);
    ring.connect();
    ring.send(VIDEO_SSRC, VP8, 1, &picture(true));
    ring.send(VIDEO_SSRC, OPUS, 2, &[0xfc; 20]);
    ring.send(VIDEO_SSRC, VP8, 3, &picture(false));
    assert_eq!(ring.packets.len(), 2);
    assert_eq!(ring.statistics().refused, 1);
}

#[test]
fn retransmissions_of_nothing_say_nothing() {
    let mut ring = Ring::publisher();
    ring.send(RTX_SSRC, RTX, 1, &[0, 9, 1, 2]);
    ring.send(VIDEO_SSRC, VP8, 1000, &picture(true));
    for (at, original) in [999_u16, 1000, 40_000, 62_000].into_iter().enumerate() {
        let mut payload = original.to_be_bytes().to_vec();
        payload.extend(picture(false));
        ring.send(RTX_SSRC, RTX, 10 + at as u64, &payload);
    }
    ring.send(RTX_SSRC, RTX, 20, &[1]);
    ring.send(RTX_SSRC, RTX, 21, &[]);
    let numbers: Vec<u64> = ring.packets.iter().map(|it| it.number).collect();
    assert_eq!(
        numbers,
        [65_536 + 1000, 65_536 + 999],
        "one that was missing"
    );
}

#[test]
fn malformed_reports_change_nothing() {
    let mut ring = Ring::publisher();
    ring.send(VIDEO_SSRC, VP8, 1, &picture(true));
    let mut prng = Prng::new(3);
    for _ in 0..3000 {
        let mut packet = vec![0; 8 + prng.below(200) as usize];
        prng.fill(&mut packet);
        packet[0] = 0x80 | packet[0] & 0x3f;
        packet[1] = 200 + (prng.below(8) as u8);
        ring.control(packet);
    }
    ring.send(VIDEO_SSRC, VP8, 2, &picture(false));
    assert_eq!(ring.packets.len(), 2);
    assert!(ring.statistics().refused > 100);
    assert!(ring.peer.is_connected());
}

fn play_ahead(ring: &mut Ring, count: u64) -> Vec<Packet> {
    let mut all = Vec::new();
    for number in 0..count {
        let mut packet = Packet {
            track: webrtc_sim::VIDEO,
            number,
            time: MediaTime::from_millis(number as i64 * 10),
            marker: true,
            start: Start::Frame,
            payload: vec![0x10; 1000].into(),
            extras: Default::default(),
            received: ring.now,
        };
        if number == 0 {
            packet.start = Start::Keyframe;
        }
        let mut bursts = Vec::new();
        let one = std::slice::from_ref(&packet);
        ring.peer
            .forward(ring.now, one, false, &mut ring.arena, &mut bursts);
        ring.give(bursts);
        ring.step();
        all.push(packet);
    }
    all
}

/// Whoever asks for everything all the time gets no more than the pace, and asks for keyframes in
/// vain.
#[test]
fn floods_of_requests_cost_no_more_than_the_pace() {
    let mut ring = Ring::player();
    let packets = play_ahead(&mut ring, 300);
    let ssrc = ring.ssrc.unwrap();
    let last = ring.client.rtp.last().unwrap();
    let highest = u16::from_be_bytes([last[2], last[3]]);
    let before = ring.bursts_bytes;
    let begin = ring.now;
    while ring.now < begin + Duration::from_secs(1) {
        for _ in 0..20 {
            let mut packet = Vec::new();
            let numbers = (0..290).map(|at| highest.wrapping_sub(290 - at));
            rtcp::write_nack(&mut packet, 1, ssrc, numbers);
            rtcp::write_pli(&mut packet, 1, ssrc);
            ring.control(packet);
            let is_lost = |event: &mut Event| matches!(event, Event::Lost(_));
            let lost: Vec<Event> = ring.events.extract_if(.., is_lost).collect();
            for event in lost {
                let Event::Lost(asked) = event else { continue };
                let packet = &packets[asked.number as usize];
                let mut bursts = Vec::new();
                let arena = &mut ring.arena;
                ring.peer
                    .send_again(ring.now, packet, asked, arena, &mut bursts);
                ring.give(bursts);
            }
        }
        ring.step();
    }
    let statistics = ring.statistics();
    assert!(statistics.asked >= 1_000_000, "{statistics:?}");
    // 40 Mbit/s and what may go at once.
    let sent = ring.bursts_bytes - before;
    assert!(sent <= 5_000_000 + 98_304 + 2000, "{sent} bytes");
    let wanted = |event: &&Event| matches!(event, Event::KeyframeWanted(_));
    assert!(ring.events.iter().filter(wanted).count() <= 3);
    assert_eq!(statistics.keyframes_wanted, statistics.asked / 290);
}

/// Without a stream for retransmissions the packet itself is sent again, the same to the bit: else
/// two packets under one number would give the key away.
#[test]
fn the_same_packet_is_sent_again_without_rtx() {
    let mut ring = Ring::new(false, |offer| offer, false);
    ring.connect();
    let packets = play_ahead(&mut ring, 10);
    let sealed = ring.sealed.clone();
    assert_eq!(sealed.len(), 10);
    for first in sealed {
        let sequence = u16::from_be_bytes([first[2], first[3]]);
        let mut packet = Vec::new();
        rtcp::write_nack(&mut packet, 1, ring.ssrc.unwrap(), [sequence]);
        ring.control(packet);
        let Some(Event::Lost(asked)) = ring.events.pop() else {
            panic!("nothing is asked for");
        };
        let (mut bursts, arena) = (Vec::new(), &mut ring.arena);
        let packet = &packets[asked.number as usize];
        ring.peer
            .send_again(ring.now, packet, asked, arena, &mut bursts);
        ring.give(bursts);
        assert_eq!(ring.sealed.pop(), Some(first));
    }
}

/// A peer that keeps up its checks and never shakes hands holds its place for 30 s.
#[test]
fn checks_alone_keep_no_place() {
    let mut ring = Ring::new(true, |offer| offer, true);
    let begin = ring.now;
    while ring.events.iter().all(|it| !matches!(it, Event::Gone(_))) {
        assert!(ring.now <= begin + Duration::from_secs(31));
        ring.now += Duration::from_millis(500);
        ring.client.checker.handle_timeout(ring.now);
        if let Some((_, bytes)) = ring.client.checker.poll_transmit() {
            ring.arrive(path(), &bytes);
        }
        let mut bursts = Vec::new();
        let arena = &mut ring.arena;
        ring.peer.handle_timeout(ring.now, arena, &mut bursts);
        ring.take();
    }
    assert!(ring.peer.poll_timeout().is_none());
}

/// Silence from the first check on: nothing is sent to whoever does not know the password.
#[test]
fn wrong_integrity_gets_no_answer() {
    let mut ring = Ring::new(true, |offer| offer, true);
    let check = ring.client.out[0].clone();
    // FINGERPRINT comes behind what is signed.
    for at in 0..check.len() - 8 {
        let mut wrong = check.clone();
        wrong[at] ^= 1;
        ring.arrive(path(), &wrong);
    }
    assert!(ring.sent.is_empty(), "{:?}", ring.sent);
    ring.arrive(path(), &check);
    assert_eq!(ring.sent.len(), 1);
    assert!(ring.sent[0].1 <= check.len(), "an answer is no larger");
}

/// Numbers of 16 bits and times of 32 end within a minute and within 14 hours: what comes after is
/// the next packet, not an old one.
#[test]
fn a_publishers_numbers_and_times_wrap() {
    let mut ring = Ring::publisher();
    let (first, begin) = (65_500_u64, u32::MAX - 100_000);
    let mut count = 0;
    for at in 0..100_u64 {
        let time = begin.wrapping_add(at as u32 * 3000);
        // One comes late, from before the wrap.
        let sequence = match at {
            35 => first + 38,
            38 => first + 35,
            _ => first + at,
        };
        let time = match at {
            35 | 38 => begin.wrapping_add((sequence - first) as u32 * 3000),
            _ => time,
        };
        let client = &ring.client;
        let packet = client.packet_at(VIDEO_SSRC, VP8, (sequence, time), &picture(at == 0));
        ring.arrive(path(), &packet);
        // 3000 ticks are 33 ms.
        for _ in 0..6 + u64::from(at % 3 == 0) * 2 {
            ring.step();
        }
        count += 1;
    }
    let packets = &mut ring.packets;
    packets.sort_by_key(|packet| packet.number);
    assert_eq!(packets.len(), count);
    assert!(packets.is_sorted_by(|a, b| a.number + 1 == b.number));
    for pair in packets.windows(2) {
        let step = (pair[1].time - pair[0].time).as_micros();
        assert!((33_000..=33_700).contains(&step), "{step}");
    }
    // Those that the early one seemed to leave out, and nothing else.
    assert_eq!(ring.statistics().nacks_sent, 3);
    assert_eq!(ring.statistics().refused, 0);
}

/// The same towards a viewer: it can open all of 200 000 packets, has them in order over 15 hours,
/// and what it asks for again from before a wrap is what it gets.
#[test]
fn a_viewers_numbers_and_times_wrap() {
    const COUNT: u64 = 200_000;
    let mut ring = Ring::player();
    let ssrc = ring.ssrc.unwrap();
    let mut before: Option<(u16, u32)> = None;
    let (mut wraps, mut time_wraps) = (0, 0);
    for number in 0..COUNT {
        let one = [Packet {
            track: webrtc_sim::VIDEO,
            number,
            time: MediaTime::from_millis(number as i64 * 300),
            marker: true,
            start: if number == 0 {
                Start::Keyframe
            } else {
                Start::Frame
            },
            payload: number.to_be_bytes().to_vec().into(),
            extras: Default::default(),
            received: ring.now,
        }];
        let mut bursts = Vec::new();
        let arena = &mut ring.arena;
        ring.peer.forward(ring.now, &one, false, arena, &mut bursts);
        ring.give(bursts);
        ring.sealed.clear();
        if number % 10 == 0 {
            ring.step();
        }
        let got = ring.client.rtp.pop().expect("each can be opened");
        assert_eq!(got[got.len() - 8..], number.to_be_bytes());
        let sequence = u16::from_be_bytes([got[2], got[3]]);
        let time = u32::from_be_bytes([got[4], got[5], got[6], got[7]]);
        if let Some((sequence_before, time_before)) = before {
            assert_eq!(sequence, sequence_before.wrapping_add(1));
            assert_eq!(time, time_before.wrapping_add(27_000));
            wraps += u32::from(sequence < sequence_before);
            time_wraps += u32::from(time < time_before);
        }
        before = Some((sequence, time));
        if sequence == 5 && wraps > 0 {
            let mut nack = Vec::new();
            rtcp::write_nack(&mut nack, 1, ssrc, [65_530]);
            ring.control(nack);
            let asked = ring.events.iter().find_map(|event| match event {
                Event::Lost(asked) => Some(asked.number),
                _ => None,
            });
            assert_eq!(asked, Some(number - 11));
            ring.events.clear();
        }
    }
    assert_eq!((wraps, time_wraps), (3, 1));
}
