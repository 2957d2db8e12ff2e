//! Offers of real clients and of bad ones, and our answers to them. The `sdp` crate reads every
//! answer as a judge that shares no code with the writer; str0m takes one as its peer's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test outside of the server has no clock of its own"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::base::ids::TrackId;
use ringside::media::codec::h264;
use ringside::media::{AudioFormat, Codec, Kind, Track};
use ringside::proto::ice::Credentials;
use ringside::proto::rtp::Extension;
use ringside::proto::sdp::Limits;
use ringside::proto::webrtc::{
    Facts, Fingerprint, LeftOut, Offer, PlayAnswer, Preferences, Problem, PublishAnswer, Setup,
    answer_play, answer_publish,
};
use sdp::SessionDescription;

const FOLDER: &str = "tests/data/sdp";
const CANDIDATE: &str = "1 1 udp 2130706431 192.0.2.1 18203 typ host";

fn recorded(name: &str) -> String {
    fs::read_to_string(format!("{FOLDER}/{name}.sdp")).unwrap()
}

fn all_recorded() -> BTreeMap<String, String> {
    let files = fs::read_dir(FOLDER).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let offers: BTreeMap<_, _> = paths
        .filter(|path| path.extension().is_some_and(|ext| ext == "sdp"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    assert!(offers.len() >= 20, "{} offers", offers.len());
    offers
}

fn parse(text: &str) -> Result<Offer, Problem> {
    Offer::parse(text.as_bytes(), &Limits::default())
}

fn with_facts<T>(run: impl FnOnce(&Facts<'_>) -> T) -> T {
    let credentials = Credentials {
        ufrag: "ours".to_owned(),
        password: "0123456789abcdef01234567".to_owned(),
    };
    let fingerprint = Fingerprint {
        algorithm: "sha-256".to_owned(),
        bytes: (0..32).collect(),
    };
    run(&Facts {
        credentials: &credentials,
        fingerprint: &fingerprint,
        candidates: &[CANDIDATE.to_owned()],
        session: 77,
        seed: 1,
        name: "live+cam 1",
    })
}

fn publish_with(text: &str, preferences: &Preferences) -> Result<PublishAnswer, Problem> {
    let offer = parse(text)?;
    let answer = with_facts(|facts| answer_publish(&offer, preferences, facts))?;
    judge(text, &answer.text);
    Ok(answer)
}

fn publish(text: &str) -> Result<PublishAnswer, Problem> {
    publish_with(text, &Preferences::default())
}

fn play(text: &str, tracks: &[Track]) -> Result<PlayAnswer, Problem> {
    let offer = parse(text)?;
    let preferences = Preferences::default();
    let answer = with_facts(|facts| answer_play(&offer, tracks, &preferences, facts))?;
    judge(text, &answer.text);
    Ok(answer)
}

fn track(id: u16, codec: Codec) -> Track {
    Track {
        id: TrackId(id),
        codec,
        init: Bytes::new(),
        video: None,
        audio: (codec.kind() == Kind::Audio).then_some(AudioFormat {
            rate: 48_000,
            channels: 2,
            bits: 0,
        }),
        language: String::new(),
        rid: Default::default(),
    }
}

/// H.264 with the profile, constraints and level given.
fn h264_track(profile_level: [u8; 3]) -> Track {
    let [profile, compatibility, level] = profile_level;
    let mut init = vec![1, profile, compatibility, level, 0xff, 0xe1, 0, 6];
    init.extend([0x67, profile, compatibility, level, 0xac, 0xd9]);
    init.extend([1, 0, 4, 0x68, 0xee, 0x3c, 0x80]);
    assert!(h264::parse_config(&init).is_ok());
    Track {
        init: init.into(),
        ..track(0, Codec::H264)
    }
}

fn value<'a>(media: &'a sdp::MediaDescription, name: &str) -> Option<&'a str> {
    media.attribute(name).flatten()
}

fn direction(media: &sdp::MediaDescription) -> &'static str {
    ["sendrecv", "sendonly", "recvonly", "inactive"]
        .into_iter()
        .find(|name| media.attribute(name).is_some())
        .unwrap_or("sendrecv")
}

/// What RFC 3264, RFC 8829 and RFC 9143 ask of every answer.
fn judge(offer: &str, answer: &str) {
    let read = |text: &str| SessionDescription::unmarshal(&mut Cursor::new(text)).unwrap();
    let (asked, given) = (read(offer), read(answer));
    assert!(given.has_attribute("ice-lite"), "{answer}");
    assert!(given.connection_information.is_none());
    assert_eq!(
        asked.media_descriptions.len(),
        given.media_descriptions.len()
    );
    let group = |of: &SessionDescription| {
        let groups = of.attributes.iter().filter(|a| a.key == "group");
        let mut bundles =
            groups.filter_map(|a| a.value.clone()?.strip_prefix("BUNDLE").map(str::to_owned));
        bundles.next()
    };
    assert_eq!(group(&asked).is_some(), group(&given).is_some(), "{answer}");
    let bundle = group(&given).unwrap_or_default();
    let mut candidates = 0;
    for (asked, given) in asked
        .media_descriptions
        .iter()
        .zip(&given.media_descriptions)
    {
        assert_eq!(asked.media_name.media, given.media_name.media);
        assert_eq!(asked.media_name.protos, given.media_name.protos);
        assert_eq!(value(asked, "mid"), value(given, "mid"));
        for format in &given.media_name.formats {
            assert!(
                asked.media_name.formats.contains(format),
                "{format} in {answer}"
            );
        }
        assert!(!given.media_name.formats.is_empty());
        let mid = value(given, "mid").unwrap_or("-");
        let in_bundle = bundle.split(' ').any(|bundled| bundled == mid);
        let accepted = given.media_name.port.value != 0;
        assert!(
            !in_bundle || accepted,
            "a rejected section is in the bundle: {answer}"
        );
        assert!(given.connection_information.is_some());
        if !accepted {
            continue;
        }
        assert_eq!(value(given, "ice-ufrag"), Some("ours"));
        assert!(given.attribute("fingerprint").is_some());
        let setup = value(given, "setup").unwrap();
        assert!(["active", "passive"].contains(&setup));
        candidates += usize::from(value(given, "candidate") == Some(CANDIDATE));
        if given.media_name.media == "application" {
            continue;
        }
        assert!(given.attribute("rtcp-mux").is_some());
        let legal: &[&str] = match direction(asked) {
            "sendonly" => &["recvonly", "inactive"],
            "recvonly" => &["sendonly", "inactive"],
            "inactive" => &["inactive"],
            _ => &["sendrecv", "sendonly", "recvonly", "inactive"],
        };
        assert!(legal.contains(&direction(given)), "{answer}");
        let extensions = |of: &sdp::MediaDescription| -> Vec<String> {
            let all = of.attributes.iter().filter(|a| a.key == "extmap");
            let id = |a: &sdp::description::common::Attribute| {
                let text = a.value.clone().unwrap();
                let (id, uri) = text.split_once(' ').unwrap();
                format!("{} {uri}", id.split('/').next().unwrap())
            };
            all.map(id).collect()
        };
        let asked_for = extensions(asked);
        assert!(
            extensions(given).iter().all(|e| asked_for.contains(e)),
            "{answer}"
        );
    }
    assert!(candidates > 0, "{answer}");
}

#[test]
fn every_recorded_offer_is_answered() {
    let tracks = [
        track(0, Codec::H264),
        track(1, Codec::Vp8),
        track(2, Codec::Aac),
        track(3, Codec::Opus),
    ];
    for (name, text) in all_recorded() {
        let sends = ["whip", "simulcast", "spaces"]
            .iter()
            .any(|part| name.contains(part));
        let receives = ["whep", "spaces"].iter().any(|part| name.contains(part));
        if sends {
            let answer = publish(&text).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            assert!(!answer.negotiated.incoming.is_empty(), "{name}");
            assert!(answer.negotiated.outgoing.is_empty());
        }
        if receives {
            let answer = play(&text, &tracks).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            assert!(!answer.negotiated.outgoing.is_empty(), "{name}");
            assert!(
                answer
                    .left_out
                    .contains(&(TrackId(2), LeftOut::NotByRtp(Codec::Aac)))
            );
        }
        if !sends && !receives {
            assert!(publish(&text).is_err() || name.contains("old"), "{name}");
        }
    }
}

#[test]
fn a_browser_that_publishes_is_received() {
    let answer = publish(&recorded("chromium_whip")).unwrap();
    let negotiated = &answer.negotiated;
    assert_eq!(negotiated.setup, Setup::Passive);
    assert!(negotiated.rtcp_reduced_size);
    let [audio, video] = &negotiated.incoming[..] else {
        panic!("two sections");
    };
    assert_eq!((audio.mid.as_str(), video.mid.as_str()), ("0", "1"));
    let codecs: Vec<_> = audio.formats.iter().map(|f| f.codec).collect();
    assert_eq!(codecs, [Codec::Opus, Codec::G722, Codec::Ulaw, Codec::Alaw]);
    assert_eq!(
        audio.formats[0].parameters,
        "minptime=10;useinbandfec=1;stereo=1"
    );
    let vp8 = &video.formats[0];
    assert_eq!(
        (vp8.codec, vp8.payload_type, vp8.rtx),
        (Codec::Vp8, 96, Some(97))
    );
    assert!(vp8.nack && vp8.pli && vp8.fir && vp8.transport_cc && vp8.remb);
    assert_eq!(video.streams.len(), 1);
    assert!(video.streams[0].rtx_ssrc.is_some());
    assert_eq!(video.extensions.id(Extension::Mid), Some(4));
    assert_eq!(video.extensions.id(Extension::TransportCc), Some(3));
    assert_eq!(video.extensions.id(Extension::VideoOrientation), None);
    // Forward error correction covers what differs between receivers, so it is not passed on.
    assert!(!answer.text.contains("red/90000") && !answer.text.contains("ulpfec"));
}

/// RFC 2198: a publisher may send it in any case, a viewer gets it who lists it first.
#[test]
fn redundant_sound_is_agreed_on() {
    let offer = recorded("chromium_whip");
    let first = offer.replacen("SAVPF 111 63 ", "SAVPF 63 111 ", 1);
    assert_ne!(offer, first);
    for (offer, is_preferred) in [(&offer, false), (&first, true)] {
        let answer = publish(offer).unwrap();
        let opus = &answer.negotiated.incoming[0].formats[0];
        let red = opus.red.expect("it is offered");
        assert_eq!((red.payload_type, red.is_preferred), (63, is_preferred));
        assert!(opus.carries(63) && opus.carries(111) && !opus.carries(0));
        let line = if is_preferred {
            "SAVPF 63 111"
        } else {
            "SAVPF 111 63"
        };
        for part in [line, "a=rtpmap:63 red/48000/2\r\n", "a=fmtp:63 111/111\r\n"] {
            assert!(answer.text.contains(part), "{part} in {}", answer.text);
        }
        judge(offer, &answer.text);
    }
    let offer = recorded("chromium_whep");
    let first = offer.replacen("SAVPF 111 63 ", "SAVPF 63 111 ", 1);
    assert_ne!(offer, first);
    let tracks = [track(0, Codec::Opus)];
    let answer = play(&offer, &tracks).unwrap();
    assert_eq!(answer.negotiated.outgoing[0].format.red, None);
    assert!(!answer.text.contains("red/48000"));
    let answer = play(&first, &tracks).unwrap();
    let red = answer.negotiated.outgoing[0].format.red;
    assert_eq!(red.map(|red| red.payload_type), Some(63));
    assert!(answer.text.contains("SAVPF 63 111"));
    judge(&first, &answer.text);
    // Blocks of another format are not passed on.
    let mixed = first.replace("a=fmtp:63 111/111", "a=fmtp:63 111/0");
    let answer = play(&mixed, &tracks).unwrap();
    assert_eq!(answer.negotiated.outgoing[0].format.red, None);
}

#[test]
fn preferred_codecs_come_first() {
    let preferences = Preferences {
        codecs: vec![Codec::H264],
        ..Preferences::default()
    };
    let answer = publish_with(&recorded("chromium_whip"), &preferences).unwrap();
    let video = &answer.negotiated.incoming[1];
    assert_eq!(video.formats[0].codec, Codec::H264);
    assert!(
        video
            .formats
            .iter()
            .any(|format| format.codec == Codec::Vp8)
    );
    let first = format!(
        "m=video 9 UDP/TLS/RTP/SAVPF {} ",
        video.formats[0].payload_type
    );
    assert!(answer.text.contains(&first), "{}", answer.text);
}

#[test]
fn layers_are_taken() {
    for name in ["chromium_simulcast", "firefox_simulcast"] {
        let answer = publish(&recorded(name)).unwrap();
        assert_eq!(
            answer.negotiated.incoming[0].rids,
            ["h", "m", "l"],
            "{name}"
        );
        assert!(answer.text.contains("a=simulcast:recv h;m;l\r\n"));
        assert!(answer.text.contains("a=rid:m recv\r\n"));
    }
    // By SSRC, in the order of their group and each with its repair stream.
    let answer = publish(&recorded("safari_whip_thin")).unwrap();
    let streams = &answer.negotiated.incoming[0].streams;
    let ssrcs: Vec<_> = streams.iter().map(|s| (s.ssrc, s.rtx_ssrc)).collect();
    assert_eq!(
        ssrcs,
        [(1111, Some(1112)), (2222, Some(2223)), (3333, Some(3334))]
    );
    assert!(answer.text.contains("a=x-google-flag:conference\r\n"));
}

/// Quirks 12 and 13: transport at session level, a second group, no candidates.
#[test]
fn obs_is_answered() {
    let answer = publish(&recorded("obs_whip")).unwrap();
    assert_eq!(answer.negotiated.remote.ufrag, "tGrj");
    assert_eq!(answer.negotiated.fingerprints.len(), 1);
    assert!(answer.text.contains("a=group:BUNDLE 0 1\r\n"));
    assert!(!answer.text.contains("group:LS"));
}

/// Quirk 16: FFmpeg says which side it is; ours is the other one.
#[test]
fn the_dtls_role_is_the_other_one() {
    let text = recorded("ffmpeg9_whip");
    for (offered, ours, setup) in [
        ("passive", "active", Setup::Active),
        ("active", "passive", Setup::Passive),
        ("actpass", "passive", Setup::Passive),
    ] {
        let text = text.replace("a=setup:passive", &format!("a=setup:{offered}"));
        let answer = publish(&text).unwrap();
        assert_eq!(answer.negotiated.setup, setup);
        assert!(answer.text.contains(&format!("a=setup:{ours}\r\n")));
    }
}

#[test]
fn each_receiving_section_gets_a_track() {
    let text = recorded("chromium_whep");
    let tracks = [
        track(0, Codec::Aac),
        track(1, Codec::Opus),
        track(2, Codec::H264),
        track(3, Codec::Vp8),
    ];
    let answer = play(&text, &tracks).unwrap();
    let [video, audio] = &answer.negotiated.outgoing[..] else {
        panic!("two tracks");
    };
    assert_eq!((video.track, video.mid.as_str()), (TrackId(2), "0"));
    assert_eq!((audio.track, audio.mid.as_str()), (TrackId(1), "1"));
    assert!(video.stream.rtx_ssrc.is_some() && audio.stream.rtx_ssrc.is_none());
    let ssrc = video.stream.ssrc;
    assert!(
        answer
            .text
            .contains(&format!("a=ssrc:{ssrc} cname:live+cam1\r\n"))
    );
    assert!(answer.text.contains("a=msid:live+cam1 video2\r\n"));
    assert!(audio.format.parameters.contains("sprop-stereo=1"));
    assert_eq!(
        answer.left_out,
        [
            (TrackId(0), LeftOut::NotByRtp(Codec::Aac)),
            (TrackId(3), LeftOut::NoSection(Codec::Vp8)),
        ]
    );
    // Two sections of a kind carry two tracks.
    let second = text
        .split_once("m=video")
        .unwrap()
        .1
        .split_once("m=audio")
        .unwrap()
        .0;
    let second = format!("m=video{}", second.replace("a=mid:0", "a=mid:2"));
    let text = text.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + &second;
    let answer = play(&text, &tracks).unwrap();
    let sent: Vec<_> = answer
        .negotiated
        .outgoing
        .iter()
        .map(|out| out.track.0)
        .collect();
    assert_eq!(sent, [2, 1, 3]);
}

/// Quirk 18: a section without a track stays where it is, in the bundle.
#[test]
fn a_section_without_a_track_stays() {
    let answer = play(&recorded("chromium_whep"), &[track(0, Codec::Vp8)]).unwrap();
    assert!(answer.text.contains("a=group:BUNDLE 0 1\r\n"));
    assert_eq!(answer.text.matches("a=inactive\r\n").count(), 1);
    assert!(!answer.text.contains("m=audio 0"));
}

#[test]
fn the_nearest_h264_profile_is_chosen() {
    let chosen = |name: &str, profile_level| {
        let answer = play(&recorded(name), &[h264_track(profile_level)]).unwrap();
        let format = &answer.negotiated.outgoing[0].format;
        assert!(format.parameters.contains("packetization-mode=1"));
        let at = format.parameters.find("profile-level-id=").unwrap() + 17;
        format.parameters[at..at + 6].to_owned()
    };
    // Quirk 26: Chromium offers no High, and plays it.
    assert_eq!(chosen("chromium_whep", [0x64, 0x00, 0x28]), "4d001f");
    assert_eq!(chosen("chromium_whep", [0x4d, 0x40, 0x1f]), "4d001f");
    assert_eq!(chosen("chromium_whep", [0x42, 0xc0, 0x1e]), "42e01f");
    assert_eq!(chosen("chromium_whep", [0x42, 0x00, 0x1e]), "42001f");
    assert_eq!(chosen("chromium_whep", [0xf4, 0x00, 0x1e]), "f4001f");
    assert_eq!(chosen("safari_whep", [0x64, 0x00, 0x1f]), "640c1f");
    assert_eq!(chosen("safari_whep", [0x4d, 0x00, 0x1f]), "640c1f");
    assert_eq!(chosen("safari_whep", [0x42, 0xe0, 0x1f]), "42e01f");
    // Ten bits are not played by who does not say so.
    let problem = play(&recorded("safari_whep"), &[h264_track([0x6e, 0, 0x1f])]);
    let reasons = vec![(TrackId(0), LeftOut::Profile(Codec::H264))];
    assert_eq!(problem.unwrap_err(), Problem::NothingToSend(reasons));
}

#[test]
fn what_a_receiver_cannot_take_is_said() {
    let problem = play(
        &recorded("firefox_whep"),
        &[track(0, Codec::Hevc), track(4, Codec::Aac)],
    );
    assert_eq!(
        problem.unwrap_err().to_string(),
        "nothing of the stream can be sent: track 0: HEVC is not in the offer; \
         track 4: AAC cannot be sent by WebRTC"
    );
    let hevc = play(&recorded("safari_whep"), &[track(0, Codec::Hevc)]).unwrap();
    assert_eq!(hevc.negotiated.outgoing[0].format.payload_type, 100);
    assert_eq!(
        play(&recorded("safari_whep"), &[]).unwrap_err().to_string(),
        "nothing of the stream can be sent: it has no tracks"
    );
}

#[test]
fn data_channels_are_taken_in_both_forms() {
    let answer = publish(&recorded("chromium_spaces")).unwrap();
    let data = answer.negotiated.data.unwrap();
    assert_eq!((data.port, data.message_bytes_max), (5000, 262_144));
    assert!(
        answer
            .text
            .contains("a=sctp-port:5000\r\na=max-message-size:262144\r\n")
    );
    let answer = publish(&recorded("gstreamer_data_old")).unwrap();
    assert!(answer.negotiated.data.is_some());
    assert!(answer.text.contains("m=application 9 DTLS/SCTP 5000\r\n"));
    assert!(answer.text.contains("m=text 0 UDP/TLS/RTP/SAVPF 98\r\n"));
}

#[test]
fn faults_are_named() {
    let text = recorded("chromium_whip");
    let without = |line: &str| {
        let lines = text
            .split_inclusive("\r\n")
            .filter(|l| !l.starts_with(line));
        publish(&lines.collect::<String>()).unwrap_err().to_string()
    };
    assert_eq!(
        without("a=ice-ufrag"),
        "m-line 1 (audio, mid 0): a=ice-ufrag is missing"
    );
    assert_eq!(
        without("a=ice-pwd"),
        "m-line 1 (audio, mid 0): a=ice-pwd is missing"
    );
    assert_eq!(
        without("a=fingerprint"),
        "m-line 1 (audio, mid 0): a=fingerprint is missing"
    );
    assert_eq!(
        without("a=rtcp-mux"),
        "m-line 1 (audio, mid 0): a=rtcp-mux is missing"
    );
    assert_eq!(without("m="), "the offer has no m-line");
    assert_eq!(without("v="), "the description does not begin with \"v=0\"");
    let problem = |from: &str, to: &str| publish(&text.replace(from, to)).unwrap_err().to_string();
    assert_eq!(
        problem("a=mid:1", "a=mid:0"),
        "m-line 2 (video, mid 0): a=mid is the same as an earlier m-line's"
    );
    assert_eq!(
        problem("sha-256", "sha-1"),
        "m-line 1 (audio, mid 0): a=fingerprint is malformed or not supported"
    );
    assert_eq!(
        problem("actpass", "holdconn"),
        "m-line 1 (audio, mid 0): a=setup is malformed or not supported"
    );
    assert_eq!(
        problem("sendonly", "recvonly"),
        "no m-line of the offer sends audio or video"
    );
    let odd = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 96\r\na=ice-ufrag:abcd\r\n\
        a=ice-pwd:0123456789012345678901\r\na=rtcp-mux\r\na=rtpmap:96 speex/16000\r\n";
    let odd = odd.to_owned()
        + text
            .split_inclusive("\r\n")
            .find(|l| l.starts_with("a=fingerprint"))
            .unwrap();
    let offer = parse(&odd).unwrap();
    let problem = with_facts(|facts| answer_publish(&offer, &Preferences::default(), facts));
    assert_eq!(
        problem.unwrap_err().to_string(),
        "m-line 1 (audio): none of its codecs is supported: speex"
    );
}

/// A second transport would be needed for it: not taken, and the rest is.
#[test]
fn a_section_with_a_transport_of_its_own_is_rejected() {
    let text = recorded("ffmpeg9_whip").replace("a=group:BUNDLE 0 1\r\n", "");
    let (first, second) = text.split_once("m=video").unwrap();
    let text = format!("{first}m=video{}", second.replace("057f47b8", "other123"));
    let answer = publish(&text).unwrap();
    assert_eq!(answer.negotiated.incoming.len(), 1);
    assert!(answer.text.contains("m=video 0 "));
}

#[test]
fn large_offers_are_refused_at_once() {
    let head = recorded("chromium_whip");
    let section = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
    let many = head.clone() + &section.repeat(1000);
    let megabyte = head.clone() + &"a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n".repeat(25_000);
    let begin = Instant::now();
    assert_eq!(
        publish(&many).unwrap_err().to_string(),
        "the description has more than 128 m-lines"
    );
    assert_eq!(
        publish(&megabyte).unwrap_err().to_string(),
        "the description has more than 131072 bytes"
    );
    // The worst that is let through: as many sections and lines as there may be.
    let line = "a=ssrc:4000000000 c:x\r\na=rtcp-fb:* nack\r\n";
    let worst = head + &(section.to_owned() + "a=rtcp-mux\r\n" + &line.repeat(20)).repeat(120);
    assert!(worst.len() > 100_000, "{}", worst.len());
    let _ = parse(&worst);
    assert!(
        begin.elapsed() < Duration::from_millis(500),
        "{:?}",
        begin.elapsed()
    );
}

/// str0m offers, and takes our answer.
#[test]
fn str0m_takes_the_answer() {
    use str0m::media::{Direction, MediaKind};
    let mut peer = str0m::Rtc::builder().build(Instant::now());
    peer.add_local_candidate(
        str0m::Candidate::host("192.0.2.7:5000".parse().unwrap(), "udp").unwrap(),
    );
    let mut changes = peer.sdp_api();
    changes.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
    changes.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
    changes.add_channel("chat".to_owned());
    let (offer, pending) = changes.apply().unwrap();
    let text = offer.to_sdp_string();
    if let Some(path) = std::env::var_os("RINGSIDE_RECORD_OFFER") {
        fs::write(path, &text).unwrap();
    }
    let answer = publish(&text).unwrap();
    assert!(answer.negotiated.data.is_some());
    let answer = str0m::change::SdpAnswer::from_sdp_string(&answer.text).unwrap();
    peer.sdp_api().accept_answer(pending, answer).unwrap();
}
