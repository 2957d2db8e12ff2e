//! Our WebRTC peer against `str0m` over a lossy link in virtual time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for the events that it is about"
)]

mod webrtc_sim;

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use ringside::media::{Kind, Packet};
use ringside::proto::sctp;
use ringside::proto::webrtc::{Event, Gone, Pace};
use str0m::media::KeyframeRequestKind;
use str0m::rtp::RtpWrite;
use webrtc_sim::{CLEAN, LAYER, LOSSY, Link, Role, VIDEO, World, number_of};

const SEEDS: [u64; 4] = [1, 2, 3, 4];
const PICTURE: Duration = Duration::from_millis(33);

/// Pictures of seven packets, a keyframe every second, and sound; returns the next number.
fn play(world: &mut World, first: u64, pictures: u64) -> u64 {
    for at in 0..pictures {
        let number = first + 7 * at;
        let picture = world.picture(VIDEO, number, 7, at % 30 == 0);
        world.forward(&picture, false);
        let sound = world.sound(first + at);
        world.forward(&[sound], false);
        world.run(PICTURE);
    }
    first + 7 * pictures
}

#[test]
fn a_browser_plays_all_of_it_over_a_clean_link() {
    let mut world = World::new(1, Role::Play, CLEAN);
    world.connect();
    play(&mut world, 100, 60);
    world.run(Duration::from_secs(1));
    let video = world.played(Kind::Video);
    assert_eq!(video.len(), 420);
    let numbers: Vec<u64> = video
        .values()
        .map(|packet| number_of(&packet.payload))
        .collect();
    assert_eq!(numbers, (100..520).collect::<Vec<_>>());
    assert_eq!(world.played(Kind::Audio).len(), 60);
    assert_eq!(world.peer.statistics().asked, 0);
}

#[test]
fn what_is_lost_is_sent_again() {
    for seed in SEEDS {
        let mut world = World::new(seed, Role::Play, LOSSY);
        world.connect();
        play(&mut world, 100, 150);
        world.run(Duration::from_secs(2));
        let video = world.played(Kind::Video);
        let statistics = *world.peer.statistics();
        assert!(statistics.sent_again >= 30, "seed {seed}: {statistics:?}");
        assert!(video.len() >= 1040, "seed {seed}: {} of 1050", video.len());
        for (sequence, packet) in &video {
            let number = number_of(&packet.payload);
            let first = *video.keys().next().unwrap();
            assert!(number - 100 >= sequence - first, "seed {seed}");
        }
    }
}

/// Packets that are gone from the cache leave a hole; the browser asks for a keyframe, however
/// often, and is heard twice a second.
#[test]
fn who_cannot_be_helped_gets_a_keyframe() {
    let mut world = World::new(5, Role::Play, LOSSY);
    world.connect();
    world.answers_nacks = false;
    let next = play(&mut world, 0, 30);
    let before = world.played(Kind::Video).len();
    assert!(before < 210, "some are lost");
    let mid = world.mids["video"];
    for _ in 0..200 {
        let mut api = world.rtc.direct_api();
        let stream = api.stream_rx_by_mid(mid, None).unwrap();
        stream.request_keyframe(KeyframeRequestKind::Pli);
        world.run(Duration::from_millis(10));
    }
    let wanted = world.events.iter();
    let wanted = wanted.filter(|event| matches!(event, Event::KeyframeWanted(VIDEO)));
    let wanted = wanted.count();
    assert!((2..=5).contains(&wanted), "{wanted} in two seconds");
    assert!(world.peer.statistics().keyframes_wanted > wanted as u64);
    world.answers_nacks = true;
    let end = play(&mut world, next, 30);
    world.run(Duration::from_secs(1));
    let numbers: Vec<u64> = world
        .played(Kind::Video)
        .values()
        .map(|packet| number_of(&packet.payload))
        .filter(|number| *number >= next)
        .collect();
    assert!(numbers.len() as u64 >= end - next - 2, "{}", numbers.len());
}

fn write(world: &mut World, name: &'static str, sequence: u64, time: u32, picture: &[Packet]) {
    let mid = world.mids[name];
    let codec = match name {
        "video" => str0m::format::Codec::Vp8,
        _ => str0m::format::Codec::Opus,
    };
    let params = world.rtc.codec_config().find(|it| it.spec().codec == codec);
    let pt = params.unwrap().pt();
    let now = world.now;
    let mut api = world.rtc.direct_api();
    let stream = api.stream_tx_by_mid(mid, None).unwrap();
    for (at, packet) in picture.iter().enumerate() {
        let sequence = (sequence + at as u64).into();
        let payload: &[u8] = &packet.payload;
        let write = RtpWrite::new(pt, sequence, time, now, payload);
        stream.write_rtp(write.marker(packet.marker).nackable(true));
    }
    world.settle();
}

/// The sequence and the timestamps wrap, packets are lost and reordered: every packet arrives once,
/// with numbers and times that go on.
#[test]
fn a_browser_publishes_over_a_lossy_link() {
    for seed in SEEDS {
        let mut world = World::new(seed, Role::Publish, LOSSY);
        world.connect();
        let first = 65_000_u64;
        let begin = u32::MAX - 90_000;
        for at in 0..150_u64 {
            let number = 7 * at;
            let picture = world.picture(VIDEO, number, 7, at % 30 == 0);
            let time = begin.wrapping_add(3000 * at as u32);
            write(&mut world, "video", first + number, time, &picture);
            let sound = world.sound(at);
            let time = 0_u32.wrapping_sub(48_000).wrapping_add(1584 * at as u32);
            write(&mut world, "audio", 100 + at, time, &[sound]);
            world.run(PICTURE);
        }
        world.run(Duration::from_secs(2));
        let track = world
            .tracks
            .iter()
            .find(|track| track.kind() == Kind::Video);
        let track = track.unwrap().id;
        let video = world.packets.iter().filter(|packet| packet.track == track);
        let video: BTreeMap<u64, &Packet> = video.map(|it| (it.number, it)).collect();
        let (offset, _) = video.first_key_value().unwrap();
        let offset = offset - number_of(&video[offset].payload);
        for (number, packet) in &video {
            assert_eq!(number - offset, number_of(&packet.payload), "seed {seed}");
        }
        let times: Vec<_> = video.values().map(|packet| packet.time).collect();
        assert!(times.is_sorted(), "seed {seed}");
        let statistics = world.peer.statistics();
        assert!(statistics.nacks_sent >= 30, "seed {seed}: {statistics:?}");
        assert!(video.len() >= 1043, "seed {seed}: {} of 1050", video.len());
        assert_eq!(world.tracks.len(), 2, "seed {seed}");
    }
}

#[test]
fn a_publisher_is_asked_for_keyframes() {
    let mut world = World::new(7, Role::Publish, CLEAN);
    world.connect();
    let picture = world.picture(VIDEO, 0, 7, true);
    write(&mut world, "video", 10, 0, &picture);
    world.run(Duration::from_millis(100));
    let track = world.tracks[0].id;
    for _ in 0..100 {
        world.peer.request_keyframe(world.now, track);
        world.run(Duration::from_millis(10));
    }
    let asked = world.browser.iter();
    let asked = asked.filter(|event| matches!(event, str0m::Event::KeyframeRequest(_)));
    let asked = asked.count();
    assert!((2..=5).contains(&asked), "{asked} in a second");
}

#[test]
fn another_layer_takes_over_at_its_keyframe() {
    let mut world = World::new(8, Role::Play, CLEAN);
    world.connect();
    let mut asked = false;
    for at in 0..60_u64 {
        if at == 20 {
            assert_eq!(world.peer.replace(Kind::Video, LAYER), Some(VIDEO));
            asked = true;
        }
        let picture = world.picture(VIDEO, 7 * at, 7, at % 30 == 0);
        world.forward(&picture, false);
        if asked {
            let picture = world.picture(LAYER, 90_000 + 3 * at, 3, at == 35);
            world.forward(&picture, false);
        }
        world.run(PICTURE);
    }
    world.run(Duration::from_millis(200));
    let switched = world.events.iter();
    let switched = switched.filter(
        |event| matches!(event, Event::Switched { from, to } if (*from, *to) == (VIDEO, LAYER)),
    );
    assert_eq!(switched.count(), 1);
    let video = world.played(Kind::Video);
    let (first, last) = (*video.keys().next().unwrap(), *video.keys().last().unwrap());
    assert_eq!(last - first + 1, video.len() as u64, "no gap");
    // The old layer's picture of that moment came first, so the new one has the same time.
    assert_eq!(video.len(), 36 * 7 + 25 * 3);
    let is_new = |packet: &&str0m::rtp::RtpPacket| number_of(&packet.payload) >= 90_000;
    let old = video.values().rev().find(|packet| !is_new(packet)).unwrap();
    let new = video.values().find(|packet| is_new(packet)).unwrap();
    assert_eq!(number_of(&new.payload), 90_000 + 3 * 35);
    assert_eq!(new.header.timestamp, old.header.timestamp);
    let times: Vec<u64> = video.values().map(|packet| packet.time.numer()).collect();
    assert!(times.is_sorted());
}

/// A layer that was chosen and given up before its keyframe is told to be of no use.
#[test]
fn a_layer_that_never_came_is_given_up() {
    let mut world = World::new(9, Role::Play, CLEAN);
    world.connect();
    play(&mut world, 0, 10);
    assert_eq!(world.peer.replace(Kind::Video, LAYER), Some(VIDEO));
    world.run(PICTURE);
    assert!(
        world
            .events
            .iter()
            .all(|event| !matches!(event, Event::Switched { .. }))
    );
    assert_eq!(world.peer.replace(Kind::Video, VIDEO), None);
    world.run(PICTURE);
    let given_up = world.events.iter().filter(
        |event| matches!(event, Event::Switched { from, to } if (*from, *to) == (LAYER, VIDEO)),
    );
    assert_eq!(given_up.count(), 1);
}

#[test]
fn a_late_joiner_sees_the_newest_picture_at_once() {
    // In order: str0m takes nothing that comes after and was sent before the first packet it had.
    let link = Link {
        delay: LOSSY.delay,
        ..CLEAN
    };
    let mut world = World::new(10, Role::Play, link);
    let mut backlog = Vec::new();
    for at in 0..60_u64 {
        backlog.extend(world.picture(VIDEO, 7 * at, 7, at == 0));
        world.now += PICTURE;
    }
    world.connect();
    world.forward(&backlog, true);
    for at in 60..120_u64 {
        let picture = world.picture(VIDEO, 7 * at, 7, false);
        world.forward(&picture, false);
        world.run(PICTURE);
    }
    world.run(Duration::from_secs(2));
    let video = world.played(Kind::Video);
    assert_eq!(video.len(), 840);
    let time = |number: u64| {
        let packet = video
            .values()
            .find(|packet| number_of(&packet.payload) == number);
        packet.map(|packet| packet.time.numer() as i64)
    };
    let of = |picture: u64| (0..7).find_map(|at| time(7 * picture + at)).unwrap();
    // Two seconds in a 32nd of them.
    assert!(of(59) - of(0) <= 2 * 90_000 / 32 + 1, "{}", of(59) - of(0));
    assert!((of(119) - of(61) - 58 * 2970).abs() < 20);
    let mut all: Vec<i64> = (0..120).map(of).collect();
    all.dedup();
    assert!(all.is_sorted() && all.len() == 120);
}

/// A keyframe of 300 packets for a slow line leaves at the pace that was set, whole.
#[test]
fn a_keyframe_is_paced() {
    let pace = Pace {
        burst_bytes: 32 * 1024,
        bits_per_second: 10_000_000,
    };
    let mut world = World::with(11, Role::Play, CLEAN, pace);
    world.connect();
    let picture = world.picture(VIDEO, 0, 300, true);
    let begin = world.now;
    world.forward(&picture, false);
    let at_once: usize = world.bursts.iter().map(|(_, _, bytes)| bytes).sum();
    // Headers and tags come on top of what is counted ahead.
    assert!(at_once <= 32 * 1024 + 2600, "{at_once} bytes at once");
    world.run(Duration::from_secs(1));
    assert_eq!(world.played(Kind::Video).len(), 300);
    for (at, _, _) in &world.bursts {
        let until: usize = world
            .bursts
            .iter()
            .filter(|(other, ..)| other <= at)
            .map(|(_, _, bytes)| bytes)
            .sum();
        let allowed = 32_768 + (*at - begin).as_micros() as usize * 10 / 8 + 2600;
        assert!(until <= allowed, "{until} of {allowed} bytes");
    }
    assert!(world.bursts.iter().any(|(_, segments, _)| *segments == 16));
}

/// Who is too far behind goes on with a keyframe, without a gap in the sequence.
#[test]
fn an_overfull_queue_skips_to_a_keyframe() {
    let pace = Pace {
        burst_bytes: 32 * 1024,
        bits_per_second: 5_000_000,
    };
    let mut world = World::with(12, Role::Play, CLEAN, pace);
    world.connect();
    for at in 0..30_u64 {
        let picture = world.picture(VIDEO, 100 * at, 100, at == 0);
        world.forward(&picture, false);
    }
    assert_eq!(world.peer.statistics().skips, 1);
    world.run(Duration::from_secs(1));
    let before = world.played(Kind::Video).len();
    let picture = world.picture(VIDEO, 9000, 20, true);
    world.forward(&picture, false);
    world.run(Duration::from_secs(1));
    let video = world.played(Kind::Video);
    assert_eq!(video.len(), before + 20);
    let (first, last) = (*video.keys().next().unwrap(), *video.keys().last().unwrap());
    assert_eq!(last - first + 1, video.len() as u64);
    let asks = world.events.iter();
    let asks = asks.filter(|event| matches!(event, Event::KeyframeWanted(VIDEO)));
    assert_eq!(asks.count(), 1);
    assert_eq!(world.peer.statistics().asked, 0, "nothing is missing");

    // A backlog that is longer than all that may wait is not kept.
    let backlog = world.picture(VIDEO, 20_000, 3000, true);
    world.forward(&backlog, true);
    assert_eq!(world.peer.statistics().skips, 2);
    world.run(Duration::from_secs(2));
    assert_eq!(world.played(Kind::Video).len(), before + 20);
}

/// Sound and picture taken at one moment have one wall-clock time by our reports, which is when
/// they were taken.
#[test]
fn reports_bring_sound_and_picture_into_step() {
    let mut world = World::new(13, Role::Play, LOSSY);
    world.connect();
    play(&mut world, 0, 120);
    world.run(Duration::from_secs(1));
    let wall = |kind: Kind, rate: f64| -> BTreeMap<u64, f64> {
        let packets = world.played(kind);
        let times = packets.values().filter_map(|packet| {
            let info = packet.last_sender_info.as_ref()?;
            let ntp = info.ntp_time.duration_since(UNIX_EPOCH).unwrap();
            let ticks = packet
                .header
                .timestamp
                .wrapping_sub(info.rtp_time.numer() as u32);
            let seconds = ntp.as_secs_f64() + f64::from(ticks as i32) / rate;
            let number = match kind {
                Kind::Video => number_of(&packet.payload) / 7,
                _ => u64::from_be_bytes(packet.payload[1..9].try_into().unwrap()),
            };
            Some((number, seconds))
        });
        times.collect()
    };
    let (video, audio) = (wall(Kind::Video, 90_000.0), wall(Kind::Audio, 48_000.0));
    let mut count = 0;
    for (at, picture) in &video {
        if let Some(sound) = audio.get(at) {
            count += 1;
            let apart = (picture - sound).abs();
            assert!(apart < 0.001, "{at}: {apart} s");
        }
    }
    assert!(count > 50, "{count} moments compared");
    let round_trip = world.peer.statistics().round_trip.as_millis();
    assert!((90..=150).contains(&round_trip), "{round_trip} ms");
}

/// A publisher's reports bring its tracks into step on our timeline.
#[test]
fn a_publishers_reports_are_followed() {
    let mut world = World::new(14, Role::Publish, CLEAN);
    world.connect();
    for at in 0..300_u64 {
        let picture = world.picture(VIDEO, at, 1, at == 0);
        write(
            &mut world,
            "video",
            10 + at,
            777 + 2970 * at as u32,
            &picture,
        );
        let sound = world.sound(at);
        write(
            &mut world,
            "audio",
            10 + at,
            4242 + 1584 * at as u32,
            &[sound],
        );
        world.run(PICTURE);
    }
    world.run(Duration::from_millis(100));
    let id = |kind| {
        world
            .tracks
            .iter()
            .find(|track| track.kind() == kind)
            .unwrap()
            .id
    };
    let last = |kind| {
        let track = id(kind);
        let packets = world.packets.iter().rev();
        packets
            .clone()
            .find(|packet| packet.track == track)
            .unwrap()
            .time
    };
    let apart = (last(Kind::Video) - last(Kind::Audio)).as_micros();
    assert!(apart.abs() <= 1000, "{apart} us apart");
}

#[test]
fn data_channels_go_both_ways() {
    for seed in SEEDS {
        let mut world = World::new(seed, Role::Publish, LOSSY);
        world.connect();
        world.run(Duration::from_secs(10));
        let opened = world.events.iter().find_map(|event| match event {
            Event::Data(sctp::Event::Opened { channel, label, .. }) => {
                assert_eq!(label, "from the browser");
                Some(*channel)
            }
            _ => None,
        });
        let theirs = opened.unwrap();
        let now = world.now;
        let ours = world
            .peer
            .data()
            .unwrap()
            .open(
                now,
                "from the server",
                "",
                sctp::Reliability::Reliable,
                true,
            )
            .unwrap();
        world.peer.flush_data(now);
        world.run(Duration::from_secs(10));
        let id = world.browser.iter().find_map(|event| match event {
            str0m::Event::ChannelOpen(id, label) if label == "from the server" => Some(*id),
            _ => None,
        });
        let id = id.unwrap();
        for at in 0..200_u32 {
            let bytes = at.to_be_bytes().repeat(500);
            world.rtc.channel(id).unwrap().write(true, &bytes).unwrap();
            let now = world.now;
            let data = world.peer.data().unwrap();
            data.send(now, theirs, false, &bytes).unwrap();
            world.peer.flush_data(now);
            world.run(Duration::from_millis(50));
        }
        world.run(Duration::from_secs(20));
        let to_us: Vec<u32> = world
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Data(sctp::Event::Message { channel, bytes, .. }) => {
                    assert_eq!(*channel, ours);
                    Some(u32::from_be_bytes(bytes[..4].try_into().unwrap()))
                }
                _ => None,
            })
            .collect();
        assert_eq!(to_us, (0..200).collect::<Vec<_>>(), "seed {seed}");
        let to_them = world.browser.iter().filter(
            |event| matches!(event, str0m::Event::ChannelData(data) if data.data.len() == 2000),
        );
        assert_eq!(to_them.count(), 200, "seed {seed}");
    }
}

/// The browser goes without a word: consent runs out within 30 s of its last check.
#[test]
fn silence_ends_a_peer() {
    let mut world = World::new(15, Role::Play, CLEAN);
    world.connect();
    world.link.loss_percent = 100;
    let begin = world.now;
    while !world
        .events
        .iter()
        .any(|event| matches!(event, Event::Gone(_)))
    {
        assert!(world.now <= begin + Duration::from_secs(30));
        world.run(Duration::from_millis(100));
    }
    assert!(matches!(
        world.events.last(),
        Some(Event::Gone(Gone::Silent))
    ));
    assert!(world.peer.poll_timeout().is_none());
}
