//! Frames through packets and back, for all codecs.

use bytes::Bytes;

use super::*;
use crate::base::ids::TrackId;
use crate::base::prng::Prng;
use crate::media::samples::frame as sample;
use crate::media::{AudioFormat, Codec, Frame, Kind, MediaTime, Packet, Start, Track, codec};

const CODECS: [Codec; 9] = [
    Codec::H264,
    Codec::Hevc,
    Codec::Vp8,
    Codec::Vp9,
    Codec::Av1,
    Codec::Opus,
    Codec::Ulaw,
    Codec::Alaw,
    Codec::G722,
];

/// 1280x720, High, level 3.1, as x264 writes it.
const SPS: [u8; 27] = [
    0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00,
    0x10, 0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x83, 0x19, 0x60, 0x00,
];
const PPS: [u8; 4] = [0x68, 0xeb, 0xe3, 0xcb];

fn track(codec: Codec) -> Track {
    Track {
        id: TrackId(1),
        codec,
        init: match codec {
            Codec::H264 => codec::h264::build_config(&[&SPS], &[&PPS]).unwrap().into(),
            _ => Bytes::new(),
        },
        video: None,
        audio: (codec.kind() == Kind::Audio).then_some(AudioFormat {
            rate: if codec == Codec::G722 { 16_000 } else { 8000 },
            channels: 1,
            bits: 0,
        }),
        language: String::new(),
        rid: String::new(),
    }
}

fn units(units: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    units
        .iter()
        .for_each(|unit| codec::nal::push_unit(unit, &mut out));
    out
}

fn frame(millis: i64, keyframe: bool, data: impl Into<Bytes>) -> Frame {
    Frame {
        data: data.into(),
        ..sample(1, millis, keyframe, 0)
    }
}

/// A frame of about `size` bytes that is what the codec allows, as far as anything here looks.
fn random_frame(codec: Codec, keyframe: bool, size: usize, millis: i64, prng: &mut Prng) -> Frame {
    let mut content = vec![0; size.max(1)];
    prng.fill(&mut content);
    let data = match codec {
        Codec::H264 => {
            let kind = if keyframe { 0x65 } else { 0x41 };
            let cut = prng.below(size as u64) as usize;
            let first = [&[kind, 0x80][..], &content[..cut]].concat();
            let second = [&[kind, 0x40][..], &content[cut..]].concat();
            let sei = [6, 5, 1, 9, 0x80];
            if keyframe {
                units(&[&SPS, &PPS, &sei, &first, &second])
            } else {
                units(&[&first, &second])
            }
        }
        Codec::Hevc => {
            let kind = if keyframe { 19 } else { 1 };
            let first = [&[kind << 1, 1, 0x80][..], &content].concat();
            if keyframe {
                units(&[&[64, 1, 7], &[66, 1, 8, 8], &[68, 1, 9], &first])
            } else {
                units(&[&first])
            }
        }
        Codec::Vp8 => {
            content[0] = content[0] & 0xfe | u8::from(!keyframe);
            content
        }
        Codec::Vp9 => {
            content[0] = if keyframe { 0x82 } else { 0x86 };
            content
        }
        Codec::Av1 => {
            let mut out = Vec::new();
            if keyframe {
                codec::av1::push_obu(codec::av1::OBU_SEQUENCE_HEADER, &[0, 1, 2], &mut out);
            }
            content[0] = if keyframe { 0x10 } else { 0x30 };
            let cut = 1 + prng.below(content.len() as u64) as usize;
            codec::av1::push_obu(codec::av1::OBU_FRAME_HEADER, &content[..cut], &mut out);
            // With an extension, and tiles as a group of their own.
            out.extend_from_slice(&[4 << 3 | 4 | 2, 0x28]);
            codec::av1::push_leb128(content.len() - cut, &mut out);
            out.extend_from_slice(&content[cut..]);
            out
        }
        _ => {
            content.truncate(PAYLOAD_BYTES_MAX);
            content[0] = 0xfc;
            content
        }
    };
    frame(millis, keyframe || codec.kind() == Kind::Audio, data)
}

fn packets(codec: Codec, options: Options, frames: &[Frame]) -> Vec<Packet> {
    let mut packetizer = Packetizer::new(codec, options).unwrap();
    let track = track(codec);
    let mut out = Vec::new();
    for frame in frames {
        packetizer.packetize(&track, frame, &mut out);
    }
    assert_eq!(packetizer.dropped(), 0);
    out
}

fn view(packet: &Packet) -> PacketView<'_> {
    PacketView {
        number: packet.number,
        time: packet.time,
        marker: packet.marker,
        payload: &packet.payload,
    }
}

fn read<'a>(codec: Codec, packets: impl IntoIterator<Item = &'a Packet>) -> Vec<Unit> {
    let mut depacketizer = Depacketizer::new(codec).unwrap();
    let mut units = Vec::new();
    for packet in packets {
        let _ = depacketizer.push(view(packet));
        units.extend(std::iter::from_fn(|| depacketizer.poll()));
    }
    units
}

fn assert_same(frames: &[Frame], units: &[Unit], what: &str) {
    assert_eq!(frames.len(), units.len(), "{what}");
    for (frame, unit) in frames.iter().zip(units) {
        assert_eq!(frame.pts, unit.time, "{what}");
        assert_eq!(frame.keyframe, unit.keyframe, "{what}");
        assert!(
            frame.data == unit.data,
            "{what}: {} bytes",
            frame.data.len()
        );
    }
}

/// Every fourth is a keyframe. No audio among them plays until the next one begins.
fn stream(codec: Codec, seed: u64, sizes: &[usize]) -> Vec<Frame> {
    let mut prng = Prng::new(seed);
    sizes
        .iter()
        .enumerate()
        .map(|(index, size)| {
            random_frame(codec, index % 4 == 0, *size, index as i64 * 200, &mut prng)
        })
        .collect()
}

#[test]
fn frames_of_all_sizes_survive() {
    for codec in CODECS {
        let mut prng = Prng::new(codec as u64);
        for seed in 0..60 {
            let mut sizes: Vec<usize> = (0..6)
                .map(|_| {
                    let bits = prng.below(13);
                    1 + prng.below(1 << bits) as usize
                })
                .collect();
            sizes.extend([1, 2, 3]);
            if seed < 3 {
                sizes.push(300_000);
            }
            let frames = stream(codec, seed, &sizes);
            let options = Options {
                payload_bytes_max: match codec.kind() {
                    Kind::Video => PAYLOAD_BYTES_MIN + prng.below(1500) as usize,
                    Kind::Audio => PAYLOAD_BYTES_MAX,
                },
                first_number: u64::from(u16::MAX) - 5,
                ..Options::default()
            };
            let packets = packets(codec, options, &frames);
            for (index, packet) in packets.iter().enumerate() {
                assert!(
                    packet.payload.len() <= options.payload_bytes_max,
                    "{codec:?}"
                );
                assert!(!packet.payload.is_empty());
                assert_eq!(packet.number, options.first_number + index as u64);
            }
            assert_same(
                &frames,
                &read(codec, &packets),
                &format!("{codec:?} {seed}"),
            );
        }
    }
}

#[test]
fn markers_starts_and_the_finder_agree() {
    for codec in CODECS {
        let frames = stream(codec, 7, &[5000, 90, 1, 4000, 2600, 700]);
        let packets = packets(codec, Options::default(), &frames);
        let mut finder = StartFinder::new(codec);
        for (index, packet) in packets.iter().enumerate() {
            let next = packets.get(index + 1);
            if codec.kind() == Kind::Video {
                let ends = next.is_none_or(|next| next.time != packet.time);
                assert_eq!(packet.marker, ends, "{codec:?}");
            }
            let found = finder.look(packet.time, &packet.payload);
            assert_eq!(found, packet.start, "{codec:?} {index}");
        }
        let starts = packets.iter().filter(|packet| packet.start != Start::No);
        assert!(starts.count() >= frames.len());
    }
}

#[test]
fn packets_of_a_frame_are_even() {
    for codec in [Codec::H264, Codec::Hevc, Codec::Vp8, Codec::Vp9, Codec::Av1] {
        let mut prng = Prng::new(3);
        let mut frame = random_frame(codec, false, 30_000, 0, &mut prng);
        if codec == Codec::H264 {
            frame.data = units(&[&[&[0x41, 0x80][..], &[7; 30_000]].concat()]).into();
        }
        let packets = packets(codec, Options::default(), &[frame]);
        let sizes: Vec<_> = packets.iter().map(|packet| packet.payload.len()).collect();
        let (last, equal) = sizes.split_last().unwrap();
        assert_eq!(sizes.len(), 27, "{codec:?} {sizes:?}");
        let (low, high) = (equal.iter().min().unwrap(), equal.iter().max().unwrap());
        assert!(high - low <= 4, "{codec:?} {sizes:?}");
        assert!(
            *last <= high + 2 && *last + 100 > *high,
            "{codec:?} {sizes:?}"
        );
    }
}

#[test]
fn frames_end_with_the_time_where_no_marker_is_set() {
    for codec in CODECS {
        let frames = stream(codec, 11, &[3000, 10, 2000, 1, 1500, 1]);
        let mut packets = packets(codec, Options::default(), &frames);
        packets.iter_mut().for_each(|packet| packet.marker = false);
        let last = match codec.kind() {
            Kind::Video => frames.len() - 1,
            Kind::Audio => frames.len(),
        };
        assert_same(
            &frames[..last],
            &read(codec, &packets),
            &format!("{codec:?}"),
        );
    }
}

/// Whatever is lost, what comes out was sent, and of video nothing between a loss and the next
/// keyframe.
#[test]
fn loss_drops_frames_up_to_the_next_keyframe() {
    for codec in CODECS {
        for seed in 0..150 {
            let mut prng = Prng::new(seed);
            let sizes: Vec<usize> = (0..24).map(|_| 1 + prng.below(4000) as usize).collect();
            let frames = stream(codec, seed, &sizes);
            let packets = packets(codec, Options::default(), &frames);
            let mut kept = Vec::new();
            let mut lost_times = Vec::new();
            for packet in &packets {
                if prng.chance(6) {
                    lost_times.push(packet.time);
                } else {
                    kept.push(packet);
                }
            }
            let units = read(codec, kept);
            for unit in &units {
                let frame = frames
                    .iter()
                    .find(|frame| frame.pts == unit.time)
                    .expect("a time that was sent");
                let expected = &frame.data;
                // A lost packet with nothing but parameter sets leaves a keyframe that decodes.
                let is_whole = *expected == unit.data;
                let is_tail = codec::is_keyframe(codec, &unit.data)
                    && expected.ends_with(&unit.data)
                    && lost_times.contains(&unit.time);
                assert!(is_whole || is_tail, "{codec:?} {seed}");
            }
            if codec.kind() == Kind::Video {
                for (index, frame) in frames.iter().enumerate() {
                    let since_keyframe = &frames[index / 4 * 4..=index];
                    let intact = since_keyframe
                        .iter()
                        .all(|frame| !lost_times.contains(&frame.pts));
                    let came = units.iter().any(|unit| unit.time == frame.pts);
                    assert!(came || !intact, "{codec:?} {seed} {index}");
                }
            }
        }
    }
}

#[test]
fn numbers_that_do_not_rise_are_refused() {
    let frames = stream(Codec::Vp8, 1, &[3000, 3000]);
    let packets = packets(Codec::Vp8, Options::default(), &frames);
    let mut depacketizer = Depacketizer::new(Codec::Vp8).unwrap();
    let mut units = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        assert_eq!(depacketizer.push(view(packet)), Ok(()));
        for late in &packets[..=index] {
            assert_eq!(depacketizer.push(view(late)), Err(Error::Order));
        }
        units.extend(depacketizer.poll());
    }
    assert_same(&frames, &units, "what was refused did no harm");
}

#[test]
fn a_gap_that_is_told_counts_as_one_that_is_seen() {
    let frames = stream(Codec::Vp8, 1, &[3000, 3000]);
    let packets = packets(Codec::Vp8, Options::default(), &frames);
    let mut depacketizer = Depacketizer::new(Codec::Vp8).unwrap();
    assert!(depacketizer.needs_keyframe());
    for packet in &packets {
        depacketizer.push(view(packet)).unwrap();
        depacketizer.gap();
    }
    assert!(depacketizer.needs_keyframe());
    assert_eq!(depacketizer.poll(), None);
    assert_eq!(depacketizer.dropped(), 2);
}

#[test]
fn a_frame_that_grows_too_large_is_dropped() {
    let payload = Bytes::from(vec![0x10; 60_000]);
    let mut depacketizer = Depacketizer::new(Codec::Vp8).unwrap();
    let mut refused = 0;
    for number in 0..200 {
        let first = Bytes::from_static(&[0x10, 0, 0, 0]);
        let rest = Bytes::from([&[0][..], &payload].concat());
        let result = depacketizer.push(PacketView {
            number,
            time: MediaTime::ZERO,
            marker: false,
            payload: if number == 0 { &first } else { &rest },
        });
        refused += usize::from(result == Err(Error::TooLarge));
    }
    assert_eq!(refused, 1, "the rest of the frame is not looked at");
    assert!(depacketizer.needs_keyframe());
}

#[test]
fn unread_frames_are_bounded() {
    let mut depacketizer = Depacketizer::new(Codec::Ulaw).unwrap();
    let payload = Bytes::from_static(&[1; 160]);
    for number in 0..100 {
        let view = PacketView {
            number,
            time: MediaTime::from_millis(number as i64 * 20),
            marker: false,
            payload: &payload,
        };
        depacketizer.push(view).unwrap();
    }
    assert_eq!(depacketizer.dropped(), 92);
    assert_eq!(
        depacketizer.poll().unwrap().time,
        MediaTime::from_millis(92 * 20)
    );
}

mod golden {
    //! Packets written by hand from the specifications.

    use super::*;

    fn push(depacketizer: &mut Depacketizer, number: u64, millis: i64, marker: bool, bytes: &[u8]) {
        let payload = Bytes::copy_from_slice(bytes);
        let view = PacketView {
            number,
            time: MediaTime::from_millis(millis),
            marker,
            payload: &payload,
        };
        depacketizer.push(view).unwrap();
    }

    fn payloads(codec: Codec, max: usize, frame: Frame) -> Vec<Vec<u8>> {
        let options = Options {
            payload_bytes_max: max,
            ..Options::default()
        };
        let packets = packets(codec, options, &[frame]);
        packets
            .iter()
            .map(|packet| packet.payload.to_vec())
            .collect()
    }

    #[test]
    fn h264_aggregates_and_cuts() {
        let slice: Vec<u8> = [0x65, 0x88].into_iter().chain(0..58).collect();
        let aud = [9, 0xf0];
        let filler = [12, 0xff, 0x80];
        let data = units(&[&aud, &slice, &filler]);
        let got = payloads(Codec::H264, 40, frame(0, true, data));
        let sets = [&[0x78, 0, 27][..], &SPS, &[0, 4], &PPS].concat();
        assert_eq!(got.len(), 3);
        assert_eq!(got[0], sets, "in front of a keyframe that lacks them");
        assert_eq!(got[1][..4], [0x7c, 0x85, 0x88, 0]);
        assert_eq!(got[1].len(), 2 + 30);
        assert_eq!(got[2][..2], [0x7c, 0x45]);
        assert_eq!(got[2].len(), 2 + 29);
    }

    #[test]
    fn h264_single_units_only() {
        let options = Options {
            h264_mode: H264Mode::SingleUnit,
            ..Options::default()
        };
        let mut packetizer = Packetizer::new(Codec::H264, options).unwrap();
        let mut out = Vec::new();
        let idr = [0x65, 0x88, 1];
        packetizer.packetize(
            &track(Codec::H264),
            &frame(0, true, units(&[&idr])),
            &mut out,
        );
        let got: Vec<_> = out.iter().map(|packet| &packet.payload[..]).collect();
        assert_eq!(got, [&SPS[..], &PPS, &idr]);
        let large = [&[0x41, 0x80][..], &[1; 2000]].concat();
        packetizer.packetize(
            &track(Codec::H264),
            &frame(20, false, units(&[&large])),
            &mut out,
        );
        assert_eq!((out.len(), packetizer.dropped()), (3, 1));
    }

    /// OBS sends parameter sets as packets of their own, which makes them look like pictures.
    #[test]
    fn quirk_12_parameter_sets_as_packets_of_their_own() {
        for (set_time, set_marker) in [(40, false), (40, true), (39, false), (39, true)] {
            let mut depacketizer = Depacketizer::new(Codec::H264).unwrap();
            push(&mut depacketizer, 1, set_time, set_marker, &SPS);
            push(&mut depacketizer, 2, set_time, set_marker, &PPS);
            push(&mut depacketizer, 3, 40, false, &[0x7c, 0x85, 0x88, 1]);
            push(&mut depacketizer, 4, 40, true, &[0x7c, 0x45, 2]);
            let unit = depacketizer.poll().unwrap();
            assert_eq!(unit.data, units(&[&SPS, &PPS, &[0x65, 0x88, 1, 2]]));
            assert_eq!(unit.time, MediaTime::from_millis(40));
            assert!(unit.keyframe);
            let mut learnt = Track {
                init: Bytes::new(),
                ..track(Codec::H264)
            };
            assert!(codec::learn(&mut learnt, &unit.data));
            assert_eq!(learnt.video.unwrap().width, 1280);
            assert_eq!(unit.config, Some(learnt.init.clone()));
            assert_eq!(profile_level_id(&learnt), Some([0x64, 0, 0x1f]));
        }
        let mut finder = StartFinder::new(Codec::H264);
        let time = MediaTime::ZERO;
        assert_eq!(finder.look(time, &SPS), Start::Keyframe);
        assert_eq!(finder.look(time, &PPS), Start::No);
        assert_eq!(finder.look(time, &[0x7c, 0x85, 0x88]), Start::No);
        let next = MediaTime::from_millis(20);
        assert_eq!(finder.look(next, &[0x41, 0x9a]), Start::Frame);
    }

    #[test]
    fn a_configuration_is_told_when_it_changes() {
        let mut depacketizer = Depacketizer::new(Codec::H264).unwrap();
        let sets = [&[0x78, 0, 27][..], &SPS, &[0, 4], &PPS].concat();
        let mut told = Vec::new();
        let mut number = 0;
        for (index, last) in [0xcb, 0xcb, 0xca].into_iter().enumerate() {
            let mut sets = sets.clone();
            *sets.last_mut().unwrap() = last;
            let millis = index as i64 * 40;
            push(&mut depacketizer, number, millis, false, &sets);
            push(&mut depacketizer, number + 1, millis, true, &[0x65, 0x88]);
            number += 2;
            told.push(depacketizer.poll().unwrap().config.is_some());
        }
        assert_eq!(told, [true, false, true]);
    }

    #[test]
    fn a_picture_without_its_first_slice_is_dropped() {
        let mut depacketizer = Depacketizer::new(Codec::H264).unwrap();
        let payload = Bytes::from_static(&[0x65, 0x40, 1]);
        let view = PacketView {
            number: 9,
            time: MediaTime::ZERO,
            marker: true,
            payload: &payload,
        };
        assert_eq!(depacketizer.push(view), Err(Error::Fragment));
        assert_eq!(depacketizer.poll(), None);
    }

    #[test]
    fn h265_aggregates_and_cuts() {
        let slice: Vec<u8> = [0x26, 1, 0x80].into_iter().chain(0..57).collect();
        let (vps, sps, pps) = ([0x40, 1, 0xa], [0x42, 1, 0xb], [0x44, 1, 0xc]);
        let data = units(&[&vps, &sps, &pps, &slice]);
        let got = payloads(Codec::Hevc, 40, frame(0, true, data));
        assert_eq!(
            got[0],
            [
                0x60, 1, 0, 3, 0x40, 1, 0xa, 0, 3, 0x42, 1, 0xb, 0, 3, 0x44, 1, 0xc
            ]
        );
        assert_eq!(got[1][..5], [0x62, 1, 0x93, 0x80, 0]);
        assert_eq!(got[2][..3], [0x62, 1, 0x53]);
        assert_eq!((got.len(), got[1].len(), got[2].len()), (3, 32, 32));
    }

    #[test]
    fn vp8_descriptors() {
        let got = payloads(Codec::Vp8, 32, frame(0, true, vec![0x10; 50]));
        assert_eq!(got[0][..5], [0x90, 0x80, 0x80, 0, 0x10]);
        assert_eq!(got[1][..4], [0x80, 0x80, 0x80, 0]);
        // With everything that a descriptor may hold, and with nothing.
        let mut depacketizer = Depacketizer::new(Codec::Vp8).unwrap();
        push(
            &mut depacketizer,
            1,
            0,
            false,
            &[0x90, 0xf0, 0x81, 2, 3, 4, 0x10, 7],
        );
        push(&mut depacketizer, 2, 0, true, &[0x01, 8]);
        assert_eq!(depacketizer.poll().unwrap().data, &[0x10, 7, 8][..]);
        let mut finder = StartFinder::new(Codec::Vp8);
        let look = |finder: &mut StartFinder, millis, payload: &[u8]| {
            finder.look(MediaTime::from_millis(millis), payload)
        };
        assert_eq!(look(&mut finder, 0, &[0x10, 0x10]), Start::Keyframe);
        assert_eq!(
            look(&mut finder, 0, &[0x11, 0x10]),
            Start::No,
            "a partition"
        );
        assert_eq!(look(&mut finder, 20, &[0x10, 0x11]), Start::Frame);
    }

    #[test]
    fn vp9_descriptors() {
        let got = payloads(Codec::Vp9, 32, frame(0, false, vec![0x86; 50]));
        assert_eq!(got[0][..4], [0xc8, 0x80, 0, 0x86]);
        assert_eq!(got[1][..4], [0xc4, 0x80, 0, 0x86]);
        // Two spatial layers in flexible mode, with a structure of two sizes and one picture.
        let mut depacketizer = Depacketizer::new(Codec::Vp9).unwrap();
        let mut first = vec![0xbe, 0x81, 5, 0x00, 0x38];
        first.extend_from_slice(&[1, 64, 0, 180, 2, 128, 1, 104, 1, 0x04, 1]);
        first.extend_from_slice(&[0x82, 7]);
        push(&mut depacketizer, 1, 0, false, &first);
        // The second layer refers to two pictures.
        push(
            &mut depacketizer,
            2,
            0,
            true,
            &[0xfc, 0x81, 5, 0x02, 3, 2, 0x86, 8, 9],
        );
        let data = depacketizer.poll().unwrap().data;
        assert_eq!(data[..5], [0x82, 7, 0x86, 8, 9]);
        assert_eq!(data[5..], [0xd9, 2, 0, 0, 0, 3, 0, 0, 0, 0xd9]);
        let mut finder = StartFinder::new(Codec::Vp9);
        assert_eq!(finder.look(MediaTime::ZERO, &first), Start::Keyframe);
        let second = [0xfc, 0x81, 5, 0x02, 3, 2, 0x86];
        assert_eq!(finder.look(MediaTime::ZERO, &second), Start::No);
    }

    #[test]
    fn av1_elements() {
        let mut data = Vec::new();
        codec::av1::push_obu(codec::av1::OBU_TEMPORAL_DELIMITER, &[], &mut data);
        codec::av1::push_obu(codec::av1::OBU_SEQUENCE_HEADER, &[0, 1], &mut data);
        codec::av1::push_obu(codec::av1::OBU_FRAME, &[0x10; 40], &mut data);
        let got = payloads(Codec::Av1, 34, frame(0, true, data.clone()));
        assert_eq!(got.len(), 2, "{got:x?}");
        // Goes on, two elements, a new sequence.
        assert_eq!(got[0][..6], [0x68, 3, 0x08, 0, 1, 0x30]);
        assert_eq!(got[1][..2], [0x90, 0x10], "goes on with one element");
        let mut depacketizer = Depacketizer::new(Codec::Av1).unwrap();
        push(&mut depacketizer, 1, 0, false, &got[0]);
        push(&mut depacketizer, 2, 0, true, &got[1]);
        assert_eq!(depacketizer.poll().unwrap().data, data[2..]);
        // All sizes told, and an OBU that kept its own against the rule.
        let sized = [0x08, 3, 0x08, 0, 1, 4, 0x32, 2, 0x10, 9];
        push(&mut depacketizer, 3, 20, true, &sized);
        let unit = depacketizer.poll().unwrap();
        assert_eq!(unit.data, &[0x0a, 2, 0, 1, 0x32, 2, 0x10, 9][..]);
        assert!(unit.keyframe);
    }

    #[test]
    fn g722_counts_samples_and_its_clock_does_not() {
        assert_eq!(clock_rate(Codec::G722), Some(8000));
        let mut frames = vec![frame(0, true, vec![1; 160])];
        frames.push(frame(20, true, vec![1; 160]));
        let packets = packets(Codec::G722, Options::default(), &frames);
        let markers: Vec<_> = packets.iter().map(|packet| packet.marker).collect();
        assert_eq!(markers, [true, false], "the second follows on the first");
        assert_eq!(packets[1].time.as_ticks(8000), 160);
    }

    #[test]
    fn long_g711_frames_are_cut_at_20_ms() {
        let frames = [frame(0, true, vec![1; 2500])];
        let packets = packets(Codec::Ulaw, Options::default(), &frames);
        let of = |packet: &Packet| (packet.time.as_millis(), packet.payload.len());
        let got: Vec<_> = packets.iter().map(of).collect();
        assert_eq!(got, [(0, 1120), (140, 1120), (280, 260)]);
    }

    /// Chrome plays Opus with audible glitches whose times jitter, as those of ffmpeg do.
    #[test]
    fn quirk_20_opus_steps_by_its_samples() {
        let times = [0, 23, 41, 57, 80, 500, 520];
        let frames: Vec<_> = times
            .iter()
            .map(|millis| frame(*millis, true, vec![0xfc, 1, 2]))
            .collect();
        let packets = packets(Codec::Opus, Options::default(), &frames);
        let of = |packet: &Packet| (packet.time.as_millis(), packet.marker);
        let got: Vec<_> = packets.iter().map(of).collect();
        assert_eq!(
            got,
            [
                (0, true),
                (20, false),
                (40, false),
                (60, false),
                (80, false),
                (500, true),
                (520, false)
            ]
        );
    }
}
