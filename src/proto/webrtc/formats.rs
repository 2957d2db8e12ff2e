//! Payload types of a media section, and how well one suits a track.

use std::fmt::Write;

use crate::media::codec::{av1, h264, hevc, vp9};
use crate::media::{Codec, Kind, Track};
use crate::proto::sdp::Media;

use super::{Format, Red};

const PAYLOAD_TYPES: usize = 128;

/// Formats that are known here, in the offer's order, each with its repair format and feedback.
pub(super) fn offered_formats(media: &Media<'_>, kind: Kind) -> Vec<Format> {
    let mut maps = [const { None }; PAYLOAD_TYPES];
    for value in media.attributes.values("rtpmap") {
        if let Some((payload_type, map)) = numbered(value) {
            maps[payload_type] = maps[payload_type].or(Some(map));
        }
    }
    // RFC 3551 section 6: these need no `rtpmap`.
    for (payload_type, map) in [(0, "PCMU/8000"), (8, "PCMA/8000"), (9, "G722/8000")] {
        maps[payload_type] = maps[payload_type].or(Some(map));
    }
    let mut parameters = [""; PAYLOAD_TYPES];
    for value in media.attributes.values("fmtp") {
        if let Some((payload_type, text)) = numbered(value) {
            parameters[payload_type] = text;
        }
    }
    let mut seen = [false; PAYLOAD_TYPES];
    let listed: Vec<usize> = media
        .formats
        .iter()
        .filter_map(|format| format.parse().ok())
        .filter(|&format| format < PAYLOAD_TYPES && !std::mem::replace(&mut seen[format], true))
        .collect();
    let mut formats: Vec<Format> = listed
        .iter()
        .filter_map(|&payload_type| {
            known_format(
                payload_type as u8,
                maps[payload_type]?,
                parameters[payload_type],
            )
        })
        .filter(|format| format.codec.kind() == kind)
        .collect();
    for &payload_type in &listed {
        let is_rtx = maps[payload_type].is_some_and(|map| name_of(map).eq_ignore_ascii_case("rtx"));
        let repaired = parameter(parameters[payload_type], "apt").and_then(|apt| apt.parse().ok());
        let format = formats
            .iter_mut()
            .find(|format| is_rtx && Some(format.payload_type) == repaired);
        if let Some(format) = format {
            format.rtx = format.rtx.or(Some(payload_type as u8));
        }
    }
    for (at, &payload_type) in listed.iter().enumerate() {
        if let Some(format) = redundant(&mut formats, maps[payload_type], parameters[payload_type])
        {
            let red = Red {
                payload_type: payload_type as u8,
                is_preferred: listed[at..].contains(&usize::from(format.payload_type)),
            };
            format.red.get_or_insert(red);
        }
    }
    for value in media.attributes.values("rtcp-fb") {
        let (payload_type, feedback) = value.split_once(' ').unwrap_or((value, ""));
        let number: Option<u8> = payload_type.parse().ok();
        for format in &mut formats {
            if payload_type == "*" || number == Some(format.payload_type) {
                add_feedback(format, feedback.trim());
            }
        }
    }
    formats
}

/// The sound that a `red` payload type repeats: `a=rtpmap:63 red/48000/2`, `a=fmtp:63 111/111`.
/// Blocks of several formats are not taken. For video it carries forward error correction, which
/// covers what each receiver has in its own way: timestamps, extensions, padding (RFC 5109).
fn redundant<'f>(
    formats: &'f mut [Format],
    map: Option<&str>,
    blocks: &str,
) -> Option<&'f mut Format> {
    let mut parts = map?.split('/').map(str::trim);
    parts
        .next()
        .filter(|name| name.eq_ignore_ascii_case("red"))?;
    let clock: u32 = parts.next()?.parse().ok()?;
    let mut blocks = blocks.split('/').map(|block| block.trim().parse::<u8>());
    let own = blocks.next()?.ok()?;
    blocks.all(|block| block == Ok(own)).then_some(())?;
    formats.iter_mut().find(|format| {
        format.payload_type == own
            && format.clock_rate == clock
            && format.codec.kind() == Kind::Audio
    })
}

/// The codecs of a section as it names them, for a problem's text.
pub(super) fn offered_names(media: &Media<'_>) -> String {
    let names: Vec<_> = media
        .attributes
        .values("rtpmap")
        .filter_map(numbered)
        .map(|(_, map)| name_of(map))
        .collect();
    match names.is_empty() {
        true => media.formats.join(" "),
        false => names.join(", "),
    }
}

fn add_feedback(format: &mut Format, feedback: &str) {
    match feedback {
        "nack" => format.nack = true,
        "nack pli" => format.pli = true,
        "ccm fir" => format.fir = true,
        "transport-cc" => format.transport_cc = true,
        "goog-remb" => format.remb = true,
        _ => {}
    }
}

/// `NUMBER TEXT`.
fn numbered(value: &str) -> Option<(usize, &str)> {
    let (number, text) = value.split_once(' ')?;
    let number = number.parse().ok().filter(|n| *n < PAYLOAD_TYPES)?;
    Some((number, text.trim()))
}

fn name_of(map: &str) -> &str {
    map.split('/').next().unwrap_or("")
}

/// Video, then audio, as `rtpmap` names them, with clock and channels.
const CODECS: [(&str, Codec, u32, u8); 9] = [
    ("H264", Codec::H264, 90_000, 0),
    ("H265", Codec::Hevc, 90_000, 0),
    ("VP8", Codec::Vp8, 90_000, 0),
    ("VP9", Codec::Vp9, 90_000, 0),
    ("AV1", Codec::Av1, 90_000, 0),
    ("opus", Codec::Opus, 48_000, 2),
    ("PCMU", Codec::Ulaw, 8_000, 1),
    ("PCMA", Codec::Alaw, 8_000, 1),
    // RFC 3551 section 4.5.2: its clock is 8000 for historic reasons.
    ("G722", Codec::G722, 8_000, 1),
];

fn known_format(payload_type: u8, map: &str, parameters: &str) -> Option<Format> {
    let mut parts = map.split('/');
    let name = parts.next()?;
    let clock: u32 = parts.next()?.trim().parse().ok()?;
    let channels: Option<u8> = match parts.next() {
        Some(channels) => Some(channels.trim().parse().ok()?),
        None => None,
    };
    let (_, codec, clock_rate, own) = CODECS
        .into_iter()
        .find(|(known, ..)| name.eq_ignore_ascii_case(known))?;
    let fits = match codec.kind() {
        Kind::Video => true,
        Kind::Audio => channels.unwrap_or(1) == own,
    };
    (clock == clock_rate && fits).then(|| Format {
        parameters: parameters.to_owned(),
        ..Format::plain(payload_type, codec, clock_rate, own)
    })
}

/// Whether a codec can be sent by RTP here.
pub(super) fn is_sent(codec: Codec) -> bool {
    CODECS.iter().any(|(_, known, ..)| *known == codec)
}

/// Writes the lines of a format and of its repair format.
pub(super) fn write_format(out: &mut String, format: &Format) {
    let number = format.payload_type;
    let known = CODECS.iter().find(|(_, codec, ..)| *codec == format.codec);
    let name = known.map_or("", |(name, ..)| name);
    let clock = format.clock_rate;
    let channels = if format.channels > 1 { "/2" } else { "" };
    let _ = write!(out, "a=rtpmap:{number} {name}/{clock}{channels}\r\n");
    for (taken, feedback) in [
        (format.remb, "goog-remb"),
        (format.transport_cc, "transport-cc"),
        (format.fir, "ccm fir"),
        (format.nack, "nack"),
        (format.pli, "nack pli"),
    ] {
        if taken {
            let _ = write!(out, "a=rtcp-fb:{number} {feedback}\r\n");
        }
    }
    if !format.parameters.is_empty() {
        let _ = write!(out, "a=fmtp:{number} {}\r\n", format.parameters);
    }
    if let Some(rtx) = format.rtx {
        let _ = write!(
            out,
            "a=rtpmap:{rtx} rtx/{clock}\r\na=fmtp:{rtx} apt={number}\r\n"
        );
    }
    if let Some(red) = format.red {
        let red = red.payload_type;
        let _ = write!(
            out,
            "a=rtpmap:{red} red/{clock}{channels}\r\na=fmtp:{red} {number}/{number}\r\n"
        );
    }
}

/// One of the `;`-separated parameters of an `fmtp` line.
pub(super) fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// How badly a format of the track's own codec suits it: 0 is best, `None` is not at all.
pub(super) fn misfit(track: &Track, format: &Format) -> Option<u32> {
    match track.codec {
        Codec::H264 => h264_misfit(track, &format.parameters),
        Codec::Hevc => hevc_misfit(track, &format.parameters),
        Codec::Vp9 => {
            let profile = vp9::parse_config(&track.init).ok().map(|c| c.profile);
            profile_misfit(profile, &format.parameters, "profile-id")
        }
        Codec::Av1 => {
            let profile = av1::parse_config(&track.init).ok().map(|c| c.profile);
            profile_misfit(profile, &format.parameters, "profile")
        }
        Codec::Vp8
        | Codec::Aac
        | Codec::Mp3
        | Codec::Opus
        | Codec::Flac
        | Codec::Ac3
        | Codec::Eac3
        | Codec::Ulaw
        | Codec::Alaw
        | Codec::G722 => Some(0),
    }
}

/// RFC 9628 section 6 and the AV1 RTP format's section 7.2: no parameter means profile 0.
fn profile_misfit(track: Option<u8>, parameters: &str, name: &str) -> Option<u32> {
    let offered: u8 = parameter(parameters, name).map_or(Some(0), |p| p.parse().ok())?;
    match track {
        // Nearly all streams are of profile 0.
        None => Some(u32::from(offered)),
        Some(profile) => (profile == offered).then_some(0),
    }
}

/// H.264 profiles, where a decoder of one can read those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Family {
    ConstrainedBaseline,
    Baseline,
    Main,
    High,
    High10,
    High422,
    High444,
}

fn h264_family(profile: u8, compatibility: u8) -> Family {
    match profile {
        66 if compatibility & 0x40 != 0 => Family::ConstrainedBaseline,
        66 => Family::Baseline,
        77 if compatibility & 0x80 != 0 => Family::ConstrainedBaseline,
        77 | 88 => Family::Main,
        110 => Family::High10,
        122 => Family::High422,
        244 => Family::High444,
        _ => Family::High,
    }
}

/// Without `packetization-mode=1` a unit may not be cut into packets (RFC 6184 section 6.2).
const ONE_UNIT_A_PACKET: u32 = 1000;
const OTHER_BITS: u32 = 200;
const TOO_LOW: u32 = 20;
const LEVEL_TOO_LOW: u32 = 1;

/// Browsers decode High although their offers stop at Main or at Constrained Baseline (quirk 26),
/// so the nearest profile will do. More bits or colour than offered will not.
fn h264_misfit(track: &Track, parameters: &str) -> Option<u32> {
    let (profile, compatibility, level) = parameter(parameters, "profile-level-id")
        .and_then(h264_profile)
        // RFC 6184 section 8.1: Baseline at level 1.
        .unwrap_or((66, 0, 10));
    let offered = h264_family(profile, compatibility);
    let mode = match parameter(parameters, "packetization-mode") {
        Some("1") => 0,
        None | Some("0") => ONE_UNIT_A_PACKET,
        // Interleaved units are not sent by anybody.
        Some(_) => return None,
    };
    let (family, lacking) = match h264::parse_config(&track.init) {
        Ok(config) => (
            h264_family(config.profile, config.compatibility),
            if level < config.level {
                LEVEL_TOO_LOW
            } else {
                0
            },
        ),
        Err(_) => (Family::ConstrainedBaseline, 0),
    };
    if family > Family::High && family > offered {
        return None;
    }
    let steps = 2 * (offered as u32).abs_diff(family as u32);
    let direction = match offered.cmp(&family) {
        _ if offered > Family::High && family <= Family::High => OTHER_BITS,
        std::cmp::Ordering::Less => TOO_LOW * steps / 2,
        std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => 0,
    };
    Some(mode + direction + steps + lacking)
}

fn h264_profile(text: &str) -> Option<(u8, u8, u8)> {
    let number = u32::from_str_radix(text, 16)
        .ok()
        .filter(|_| text.len() == 6)?;
    let [_, profile, compatibility, level] = number.to_be_bytes();
    Some((profile, compatibility, level))
}

/// RFC 7798 section 7.1: Main, main tier and level 3.1 where nothing is said.
fn hevc_misfit(track: &Track, parameters: &str) -> Option<u32> {
    let number = |name, default| match parameter(parameters, name) {
        Some(text) => text.parse::<u8>().ok(),
        None => Some(default),
    };
    let (profile, tier, level) = (
        number("profile-id", 1)?,
        number("tier-flag", 0)?,
        number("level-id", 93)?,
    );
    let Ok(config) = hevc::parse_config(&track.init) else {
        return Some(profile.abs_diff(1).into());
    };
    let wanted = config.profile;
    // Main 10 decoders read Main.
    let readable = profile == wanted.profile || (profile == 2 && wanted.profile == 1);
    let lacking = u32::from(level < wanted.level) + u32::from(tier == 0 && wanted.high_tier);
    readable.then(|| u32::from(profile != wanted.profile) * 2 + lacking)
}
