//! Peers that are many, and peers that look alike.

use ringside::proto::rtp::Header;
use ringside::proto::sctp;

use super::*;

/// A peer that offers, checks its address, begins a handshake and is never heard again.
fn leave_half_open(rtc: &mut Rtc) {
    let joined = rtc.try_join("whep").unwrap();
    begin_handshake(joined);
}

fn begin_handshake(mut joined: Joined) {
    let mut bytes = [0; 2048];
    let wait = Some(Duration::from_millis(100));
    joined.socket.set_read_timeout(wait).unwrap();
    // Until the server has said something of its own in the handshake.
    for _ in 0..100 {
        joined.flush();
        match joined.socket.recv_from(&mut bytes) {
            Ok(_) if bytes[0] == 22 => return,
            Ok((length, _)) => joined.client.handle(Instant::now(), &bytes[..length]),
            Err(_) => joined.client.timeout(Instant::now()),
        }
    }
    panic!("no handshake");
}

/// Handshakes that stop half-way: some 30 kB each, let go as soon as the handshake gives up, and no
/// more of them than there may be sessions. Those who are connected notice nothing, and who comes
/// while it lasts gets in.
#[test]
fn half_open_handshakes_are_bounded() {
    let count = std::env::var("RINGSIDE_HALF_OPEN").ok();
    let count: u64 = count.map_or(500, |text| text.parse().unwrap());
    let mut rtc = start(1, &json!({}));
    let mut publisher = rtc.publish();
    let mut viewer = rtc.join("whep");
    expect_media(&mut publisher, &mut viewer);
    let (begin, descriptors) = (rtc.server.resident_bytes(), rtc.descriptors());
    let mut most = 0;
    for at in 0..count {
        leave_half_open(&mut rtc);
        if at % 20 == 0 {
            most = most.max(rtc.metric("peers") - rtc.metric("connected_peers"));
            publisher.publish();
            publisher.run(Duration::from_millis(1));
            viewer.run(Duration::from_millis(1));
        }
    }
    assert!(most >= 20, "{most} at a time");
    let grown = rtc.server.resident_bytes().saturating_sub(begin);
    assert!(
        grown < 4_000_000 + most * 40_000,
        "{grown} bytes for {most}"
    );
    let mut late = rtc.join("whep");
    expect_media(&mut publisher, &mut late);
    expect_media(&mut publisher, &mut viewer);
    let start = Instant::now();
    while rtc.metric("peers") > 3 {
        assert!(start.elapsed() < CONSENT_MAX, "they are let go");
        publisher.publish();
        for joined in [&mut publisher, &mut viewer, &mut late] {
            joined.run(Duration::from_millis(20));
        }
    }
    assert_eq!(rtc.metric("sessions"), 3);
    wait_for("descriptors", Duration::from_secs(10), || {
        (rtc.descriptors() <= descriptors).then_some(())
    });
    expect_media(&mut publisher, &mut viewer);
}

/// No more handshakes that stop half-way than `bound` lets through; they are let go of, and who plays
/// meanwhile notices nothing.
fn expect_bounded(bound: &Value, peers_max: u64) {
    let mut rtc = start(1, bound);
    let mut publisher = rtc.publish();
    let mut viewer = rtc.join("whep");
    let mut refused = 0;
    for _ in 0..30 {
        match rtc.try_join("whep") {
            Ok(joined) => begin_handshake(joined),
            Err(status) => {
                assert_eq!(status, 503);
                refused += 1;
            }
        }
        assert!(rtc.metric("peers") <= peers_max);
    }
    assert!(refused > 0);
    expect_media(&mut publisher, &mut viewer);
    let start = Instant::now();
    while rtc.metric("peers") > 2 {
        assert!(start.elapsed() < CONSENT_MAX, "they are let go");
        publisher.publish();
        publisher.run(Duration::from_millis(50));
        viewer.run(Duration::from_millis(1));
    }
    assert_eq!(rtc.metric("half_open_sessions"), 0);
    let mut viewer = rtc.join("whep");
    expect_media(&mut publisher, &mut viewer);
}

#[test]
fn half_open_handshakes_count_as_sessions() {
    expect_bounded(&json!({ "sessions_max": 12 }), 12);
}

#[test]
fn half_open_handshakes_have_a_bound_of_their_own() {
    expect_bounded(&json!({ "half_open_max": 10 }), 12);
}

/// Two publishers and their viewers with the same sources, on one shard: each viewer has what its
/// own publisher sends.
#[test]
fn publishers_with_one_source_stay_apart() {
    const MARK: usize = 100;
    let mut rtc = start(1, &json!({}));
    let paths = ["cam+one", "cam+two"];
    let join = |rtc: &mut Rtc, path: String| {
        let mut joined = rtc.try_join_with(&path, |offer| offer).unwrap();
        joined.connect();
        joined
    };
    let mut publishers = paths.map(|name| join(&mut rtc, format!("/whip/{name}")));
    let send = |publishers: &mut [Joined; 2]| {
        for (publisher, mark) in publishers.iter_mut().zip([0xa1, 0xb2]) {
            let at = publisher.sequence;
            publisher.sequence += 1;
            let mut video = picture(at % 10 == 1);
            video[MARK] = mark;
            let mut audio = [0xfc; 160];
            audio[MARK] = mark;
            for packet in [
                publisher.client.packet(VIDEO_SSRC, VP8, at, &video),
                publisher.client.packet(AUDIO_SSRC, OPUS, at, &audio),
            ] {
                publisher.socket.send_to(&packet, publisher.server).unwrap();
            }
            publisher.run(Duration::from_millis(5));
        }
    };
    for _ in 0..100 {
        send(&mut publishers);
    }
    let mut viewers = paths.map(|name| join(&mut rtc, format!("/whep/{name}")));
    let start = Instant::now();
    while viewers.iter().any(|viewer| viewer.client.rtp.len() < 100) {
        assert!(start.elapsed() < Duration::from_secs(20), "media");
        send(&mut publishers);
        viewers
            .iter_mut()
            .for_each(|viewer| viewer.run(Duration::from_millis(5)));
    }
    for (viewer, mark) in viewers.iter().zip([0xa1, 0xb2]) {
        for packet in &viewer.client.rtp {
            let payload = Header::parse(packet).unwrap().payload();
            assert!(payload.is_empty() || payload[MARK] == mark);
        }
    }
    assert_eq!(rtc.metrics()["ringside_publishers"], 2);
}

/// A viewer that sends on its data channels as fast as they take it: what it sends is dropped and
/// counted, nothing piles up, and its neighbour notices nothing.
#[test]
fn a_flood_of_messages_is_dropped() {
    let mut rtc = start(1, &json!({}));
    let mut publisher = rtc.publish();
    let mut neighbour = rtc.join("whep");
    expect_media(&mut publisher, &mut neighbour);
    let with_data = |offer: String| {
        let section = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
                       c=IN IP4 0.0.0.0\r\na=mid:2\r\na=sctp-port:5000\r\n";
        offer.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + section
    };
    let mut flooder = rtc.try_join_with("/whep/cam", with_data).unwrap();
    flooder.connect();
    let association = sctp::Association::new(Instant::now(), true, sctp::Options::default());
    flooder.client.association = Some(association);
    let start = Instant::now();
    while !flooder
        .client
        .association
        .as_ref()
        .unwrap()
        .is_established()
    {
        assert!(start.elapsed() < Duration::from_secs(10), "associated");
        flooder.run(Duration::from_millis(5));
    }
    let open = |flooder: &mut Joined, label: &str| {
        let association = flooder.client.association.as_mut().unwrap();
        let reliable = sctp::Reliability::Reliable;
        association
            .open(Instant::now(), label, "", reliable, true)
            .unwrap()
    };
    let channels = [
        open(&mut flooder, "MistControl"),
        open(&mut flooder, "other"),
    ];
    flooder.run(Duration::from_millis(100));
    let (begin, ignored) = (
        rtc.server.resident_bytes(),
        rtc.metric("data_ignored_total"),
    );
    let (mut sent, start) = (0_u64, Instant::now());
    while start.elapsed() < Duration::from_secs(5) {
        for channel in channels {
            let association = flooder.client.association.as_mut().unwrap();
            while association
                .send(Instant::now(), channel, true, &[b'{'; 500])
                .is_ok()
            {
                sent += 1;
            }
            while association.poll_event().is_some() {}
        }
        flooder.run(Duration::from_millis(1));
        publisher.publish();
        publisher.run(Duration::from_millis(1));
        neighbour.run(Duration::from_millis(1));
        neighbour.client.rtp.truncate(0);
        flooder.client.rtp.truncate(0);
    }
    assert!(sent > 2000, "{sent} messages");
    let dropped = rtc.metric("data_ignored_total") - ignored;
    assert!(dropped > sent / 2, "{dropped} of {sent} dropped");
    let grown = rtc.server.resident_bytes().saturating_sub(begin);
    // One of the allocator's blocks may be among it.
    assert!(grown < 8_000_000, "{grown} bytes of {sent} messages");
    expect_media(&mut publisher, &mut neighbour);
    flooder.goodbye();
    neighbour.goodbye();
    publisher.goodbye();
    rtc.expect_empty(Duration::from_secs(10));
}

/// A publisher and a viewer whose machines lose their power: nothing of theirs is left after the
/// time that consent lasts, a viewer that stayed plays on with the next publisher.
#[test]
fn who_vanishes_is_let_go() {
    let mut rtc = start(2, &json!({}));
    let mut publisher = rtc.publish();
    let (mut stays, mut goes) = (rtc.join("whep"), rtc.join("whep"));
    expect_media(&mut publisher, &mut stays);
    expect_media(&mut publisher, &mut goes);
    drop(goes);
    let start = Instant::now();
    while rtc.metric("peers") > 2 {
        assert!(start.elapsed() < CONSENT_MAX, "the viewer is gone");
        publisher.publish();
        publisher.run(Duration::from_millis(50));
        stays.run(Duration::from_millis(50));
    }
    drop(publisher);
    let start = Instant::now();
    while rtc.metric("peers") > 1 || rtc.metric("sessions") > 1 {
        assert!(start.elapsed() < CONSENT_MAX, "the publisher is gone");
        stays.run(Duration::from_millis(50));
    }
    let mut next = rtc.publish();
    expect_media(&mut next, &mut stays);
    drop((next, stays));
    rtc.expect_empty(CONSENT_MAX);
}
