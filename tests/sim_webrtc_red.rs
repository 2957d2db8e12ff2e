//! Redundant sound (RFC 2198) from a publisher to viewers who want it, and to those who do not.

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

use ring::Ring;
use ringside::media::Packet;
use ringside::proto::rtp::{Header, red};
use rtc_client::{AUDIO_SSRC, OPUS};
use webrtc_sim::AUDIO;

const RED: u8 = 63;
/// 20 ms.
const TICKS: u32 = 960;

/// As Chromium offers it, listed before Opus where it is wanted more.
fn with_red(offer: &str, is_preferred: bool) -> String {
    let numbers = if is_preferred { "63 111" } else { "111 63" };
    let own = "a=rtpmap:111 opus/48000/2\r\n";
    let red = "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n";
    offer
        .replace("SAVPF 111", &format!("SAVPF {numbers}"))
        .replace(own, &format!("{own}{red}"))
}

/// A block and the one before it.
fn payload(at: u8) -> Vec<u8> {
    let offset = (TICKS << 10 | 5).to_be_bytes();
    let mut payload = vec![0x80 | OPUS, offset[1], offset[2], offset[3], OPUS];
    payload.extend([0xfc, at - 1, 1, 1, 1]);
    payload.extend([0xfc, at, 2, 2]);
    payload
}

fn published() -> Vec<Packet> {
    let mut ring = Ring::new(true, |offer| with_red(&offer, true), true);
    ring.connect();
    for at in 1..=5_u8 {
        let time = (u64::from(at), u32::from(at) * TICKS);
        let packet = match at {
            // Nothing keeps a publisher from sending the plain form in between.
            3 => ring
                .client
                .packet_at(AUDIO_SSRC, OPUS, time, &[0xfc, 3, 2, 2]),
            _ => ring.client.packet_at(AUDIO_SSRC, RED, time, &payload(at)),
        };
        ring.arrive(webrtc_sim::path(), &packet);
    }
    // Blocks that end early, and of a type that was not agreed on.
    for (at, bad) in [&[0x80 | OPUS, 0, 0, 9, OPUS, 1][..], &[0, 1, 2], &[0x80]]
        .into_iter()
        .enumerate()
    {
        ring.send(AUDIO_SSRC, RED, 10 + at as u64, bad);
    }
    assert_eq!(ring.statistics().refused, 3);
    ring.packets
}

#[test]
fn frames_are_made_of_the_packets_own_sound() {
    let packets = published();
    assert_eq!(packets.len(), 5);
    for (at, packet) in (1..).zip(&packets) {
        assert_eq!(packet.payload[..], [0xfc, at, 2, 2]);
        let expected = if at == 3 { Vec::new() } else { payload(at) };
        assert_eq!(packet.extras.redundant, expected);
    }
}

/// What a viewer gets of these packets: payload type and payload.
fn played(mut ring: Ring, packets: &[Packet], is_backlog: bool) -> Vec<(u8, Vec<u8>)> {
    ring.connect();
    let mut packets = packets.to_vec();
    packets.iter_mut().for_each(|packet| packet.track = AUDIO);
    let mut bursts = Vec::new();
    let arena = &mut ring.arena;
    ring.peer
        .forward(ring.now, &packets, is_backlog, arena, &mut bursts);
    ring.give(bursts);
    let parts = ring.client.rtp.iter().map(|packet| {
        let header = Header::parse(packet).unwrap();
        (header.payload_type, header.payload().to_vec())
    });
    parts.collect()
}

#[test]
fn who_wants_older_sound_gets_it_as_it_came() {
    let packets = published();
    let ring = Ring::new(false, |offer| with_red(&offer, true), true);
    let got = played(ring, &packets, false);
    let expected: Vec<_> = (1..=5)
        .map(|at| match at {
            3 => (OPUS, vec![0xfc, 3, 2, 2]),
            _ => (RED, payload(at)),
        })
        .collect();
    assert_eq!(got, expected);
    let (_, first) = &got[0];
    assert_eq!(first[red::primary(first).unwrap().range], [0xfc, 1, 2, 2]);
}

/// Nobody pays for it who did not put it first, or did not offer it; and in an entry that is shown
/// faster than it was taken, its distances would be wrong.
#[test]
fn others_get_the_plain_form() {
    let packets = published();
    let plain: Vec<_> = (1..=5).map(|at| (OPUS, vec![0xfc, at, 2, 2])).collect();
    let unasked = Ring::new(false, |offer| offer, true);
    assert_eq!(played(unasked, &packets, false), plain);
    let second = Ring::new(false, |offer| with_red(&offer, false), true);
    assert_eq!(played(second, &packets, false), plain);
    let entering = Ring::new(false, |offer| with_red(&offer, true), true);
    assert_eq!(played(entering, &packets, true), plain);
}
