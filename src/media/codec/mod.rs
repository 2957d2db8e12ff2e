//! Codecs and what their bytes mean.
//!
//! A file for each codec reads its configuration and frame headers; none of them decodes. The
//! functions here pick the right one for a track.

use std::fmt::Write;

use bytes::Bytes;

use crate::base::bytes::Short;
use crate::media::{AudioFormat, MediaTime, Track, VideoFormat};

pub mod aac;
pub mod ac3;
pub mod av1;
mod bits;
pub mod flac;
pub mod g7xx;
pub mod h264;
pub mod hevc;
pub mod mp3;
pub mod nal;
pub mod opus;
pub mod vp9;

/// Why codec bytes could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The bytes end before the value does.
    #[error("input ends early")]
    Short,
    /// A value that the codec does not allow, or that nothing here can use.
    #[error("not valid for this codec")]
    Malformed,
}

impl From<Short> for Error {
    fn from(Short: Short) -> Self {
        Self::Short
    }
}

/// A codec that a stream may carry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    Hevc,
    /// AV1.
    Av1,
    /// VP8.
    Vp8,
    /// VP9.
    Vp9,
    /// MPEG-4 AAC.
    Aac,
    /// MPEG-1/2 layer III.
    Mp3,
    /// Opus.
    Opus,
    /// FLAC.
    Flac,
    /// AC-3.
    Ac3,
    /// Enhanced AC-3.
    Eac3,
    /// ITU-T G.711, mu-law.
    Ulaw,
    /// ITU-T G.711, A-law.
    Alaw,
    /// ITU-T G.722.
    G722,
}

/// Video or audio.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

impl Codec {
    /// Video or audio.
    pub fn kind(self) -> Kind {
        match self {
            Self::H264 | Self::Hevc | Self::Av1 | Self::Vp8 | Self::Vp9 => Kind::Video,
            Self::Aac
            | Self::Mp3
            | Self::Opus
            | Self::Flac
            | Self::Ac3
            | Self::Eac3
            | Self::Ulaw
            | Self::Alaw
            | Self::G722 => Kind::Audio,
        }
    }

    /// The name MistServer's API and track selectors use.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Hevc => "HEVC",
            Self::Av1 => "AV1",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Aac => "AAC",
            Self::Mp3 => "MP3",
            Self::Opus => "opus",
            Self::Flac => "FLAC",
            Self::Ac3 => "AC3",
            Self::Eac3 => "EAC-3",
            Self::Ulaw => "ULAW",
            Self::Alaw => "ALAW",
            Self::G722 => "G722",
        }
    }
}

/// The widest or tallest picture that is believed. The highest level of any codec here stays
/// below it.
const DIMENSION_MAX: u64 = 65_536;

/// Width or height, if it can be one.
fn dimension(pixels: u64) -> Result<u32, Error> {
    if (1..=DIMENSION_MAX).contains(&pixels) {
        Ok(pixels as u32)
    } else {
        Err(Error::Malformed)
    }
}

/// Fills in `video` or `audio` from `init`. What `init` does not tell stays as it was.
pub fn describe(track: &mut Track) {
    match track.codec.kind() {
        Kind::Video => {
            if let Ok(found) = video_format(track.codec, &track.init) {
                let known = track.video.unwrap_or_default();
                track.video = Some(VideoFormat {
                    frames_per_1000_s: match found.frames_per_1000_s {
                        0 => known.frames_per_1000_s,
                        told => told,
                    },
                    ..found
                });
            }
        }
        Kind::Audio => {
            if let Ok(found) = audio_format(track.codec, &track.init) {
                let known = track.audio.unwrap_or_default();
                track.audio = Some(AudioFormat {
                    rate: found.rate,
                    channels: if found.channels == 0 {
                        known.channels
                    } else {
                        found.channels
                    },
                    bits: if found.bits == 0 {
                        known.bits
                    } else {
                        found.bits
                    },
                });
            }
        }
    }
}

fn video_format(codec: Codec, init: &[u8]) -> Result<VideoFormat, Error> {
    let (width, height, frames_per_1000_s) = match codec {
        Codec::H264 => {
            let config = h264::parse_config(init)?;
            let sps = h264::parse_sps(config.sps.first().ok_or(Error::Malformed)?)?;
            (sps.width, sps.height, sps.frames_per_1000_s)
        }
        Codec::Hevc => {
            let config = hevc::parse_config(init)?;
            let sps = hevc::parse_sps(config.sps.first().ok_or(Error::Malformed)?)?;
            (sps.width, sps.height, sps.frames_per_1000_s)
        }
        Codec::Av1 => {
            let header = av1::parse_config(init)?;
            (header.width, header.height, header.frames_per_1000_s)
        }
        Codec::Vp8
        | Codec::Vp9
        | Codec::Aac
        | Codec::Mp3
        | Codec::Opus
        | Codec::Flac
        | Codec::Ac3
        | Codec::Eac3
        | Codec::Ulaw
        | Codec::Alaw
        | Codec::G722 => return Err(Error::Malformed),
    };
    Ok(VideoFormat {
        width,
        height,
        frames_per_1000_s,
    })
}

fn audio_format(codec: Codec, init: &[u8]) -> Result<AudioFormat, Error> {
    let (rate, channels, bits) = match codec {
        Codec::Aac => {
            let config = aac::parse_config(init)?;
            (config.rate, config.channels, 0)
        }
        Codec::Opus => (opus::RATE, opus::parse_head(init)?.channels, 0),
        Codec::Flac => {
            let info = flac::parse_streaminfo(init)?;
            (info.rate, info.channels, info.bits)
        }
        Codec::Ac3 => {
            let config = ac3::parse_dac3(init)?;
            (config.rate(), config.channels(), 0)
        }
        Codec::Eac3 => {
            let config = ac3::parse_dec3(init)?;
            (config.rate(), config.channels(), 0)
        }
        Codec::Mp3
        | Codec::Ulaw
        | Codec::Alaw
        | Codec::G722
        | Codec::H264
        | Codec::Hevc
        | Codec::Av1
        | Codec::Vp8
        | Codec::Vp9 => return Err(Error::Malformed),
    };
    Ok(AudioFormat {
        rate,
        channels,
        bits,
    })
}

/// Fills in what a publisher did not tell but its frame shows: the configuration of a codec
/// whose frames carry it, and the format. True if the track changed.
///
/// Meant for the first keyframe of a track; cheap enough to be tried on every keyframe until
/// `init` is set.
pub fn learn(track: &mut Track, frame: &[u8]) -> bool {
    let before = (track.init.clone(), track.video, track.audio);
    // Some av1C have no sequence header, which is of no use to a viewer.
    let lacking = track.init.is_empty()
        || track.codec == Codec::Av1 && av1::parse_config(&track.init).is_err();
    if lacking && let Some(init) = config_in_frame(track.codec, frame) {
        track.init = Bytes::from(init);
        describe(track);
    }
    match track.codec {
        Codec::Vp8 => {
            if let Ok(size) = vp9::parse_vp8_size(frame) {
                set_size(track, size);
            }
        }
        Codec::Vp9 => {
            if let Ok(key) = vp9::parse_key_frame(frame) {
                set_size(track, (key.width, key.height));
            }
        }
        Codec::Mp3 => {
            if let Ok(header) = mp3::parse_header(frame) {
                track.audio = Some(AudioFormat {
                    rate: header.rate,
                    channels: header.channels,
                    bits: 0,
                });
            }
        }
        Codec::Ulaw | Codec::Alaw | Codec::G722 => {
            track.audio = track.audio.or_else(|| g7xx::usual_format(track.codec));
        }
        Codec::H264
        | Codec::Hevc
        | Codec::Av1
        | Codec::Aac
        | Codec::Opus
        | Codec::Flac
        | Codec::Ac3
        | Codec::Eac3 => {}
    }
    before != (track.init.clone(), track.video, track.audio)
}

fn set_size(track: &mut Track, (width, height): (u32, u32)) {
    let known = track.video.unwrap_or_default();
    track.video = Some(VideoFormat {
        width,
        height,
        ..known
    });
}

/// The configuration a frame carries, in the form of `Track::init`. An ingest whose protocol has
/// no configuration of its own compares it with the track's at each keyframe.
pub fn config_in_frame(codec: Codec, frame: &[u8]) -> Option<Vec<u8>> {
    match codec {
        Codec::H264 => {
            let (mut sps, mut pps) = (Vec::new(), Vec::new());
            for unit in nal::units(frame).map_while(Result::ok) {
                match h264::nal_type(unit) {
                    h264::NAL_SPS => sps.push(unit),
                    h264::NAL_PPS => pps.push(unit),
                    _ => {}
                }
            }
            h264::build_config(&sps, &pps)
        }
        Codec::Hevc => {
            let (mut vps, mut sps, mut pps) = (Vec::new(), Vec::new(), Vec::new());
            for unit in nal::units(frame).map_while(Result::ok) {
                match hevc::nal_type(unit) {
                    hevc::NAL_VPS => vps.push(unit),
                    hevc::NAL_SPS => sps.push(unit),
                    hevc::NAL_PPS => pps.push(unit),
                    _ => {}
                }
            }
            hevc::build_config(&vps, &sps, &pps)
        }
        Codec::Av1 => av1::build_config(frame),
        Codec::Vp9 => {
            let key = vp9::parse_key_frame(frame).ok()?;
            Some(vp9::build_config(&key.config))
        }
        Codec::Ac3 => {
            let config = ac3::parse_ac3_frame(frame).ok()?;
            Some(ac3::build_dac3(&config).to_vec())
        }
        Codec::Eac3 => {
            let config = ac3::parse_eac3_frame(frame).ok()?;
            Some(ac3::build_dec3(&config).to_vec())
        }
        Codec::Vp8
        | Codec::Aac
        | Codec::Mp3
        | Codec::Opus
        | Codec::Flac
        | Codec::Ulaw
        | Codec::Alaw
        | Codec::G722 => None,
    }
}

/// True if decoding can start at this frame. Always true for audio.
pub fn is_keyframe(codec: Codec, frame: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264::is_keyframe(frame),
        Codec::Hevc => hevc::is_keyframe(frame),
        Codec::Av1 => av1::is_keyframe(frame),
        Codec::Vp8 => vp9::is_vp8_keyframe(frame),
        Codec::Vp9 => vp9::is_keyframe(frame),
        Codec::Aac
        | Codec::Mp3
        | Codec::Opus
        | Codec::Flac
        | Codec::Ac3
        | Codec::Eac3
        | Codec::Ulaw
        | Codec::Alaw
        | Codec::G722 => true,
    }
}

/// How many samples an audio frame decodes to, at which rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Samples {
    /// Samples of one channel.
    pub count: u32,
    /// Samples a second.
    pub rate: u32,
}

/// Samples of an audio frame; nothing for video and for frames that cannot be read.
pub fn frame_samples(track: &Track, frame: &[u8]) -> Option<Samples> {
    let rate = track.audio.map_or(0, |audio| audio.rate);
    let samples = match track.codec {
        Codec::Aac => match aac::parse_config(&track.init) {
            Ok(config) => Samples {
                count: config.samples(),
                rate: config.rate,
            },
            Err(_) => Samples { count: 1024, rate },
        },
        Codec::Mp3 => {
            let header = mp3::parse_header(frame).ok()?;
            Samples {
                count: header.samples,
                rate: header.rate,
            }
        }
        Codec::Opus => Samples {
            count: opus::packet_samples(frame).ok()?,
            rate: opus::RATE,
        },
        Codec::Flac => Samples {
            count: flac::frame_samples(frame).ok()?,
            rate,
        },
        Codec::Ac3 => Samples {
            count: ac3::AC3_SAMPLES,
            rate: ac3::parse_ac3_frame(frame).ok()?.rate(),
        },
        Codec::Eac3 => Samples {
            count: ac3::eac3_samples(frame).ok()?,
            rate: ac3::parse_eac3_frame(frame).ok()?.rate(),
        },
        Codec::Ulaw | Codec::Alaw | Codec::G722 => g7xx::frame_samples(track, frame)?,
        Codec::H264 | Codec::Hevc | Codec::Av1 | Codec::Vp8 | Codec::Vp9 => return None,
    };
    (samples.count > 0 && samples.rate > 0).then_some(samples)
}

/// How long an audio frame plays; nothing for video and for frames that cannot be read.
pub fn frame_duration(track: &Track, frame: &[u8]) -> Option<MediaTime> {
    let samples = frame_samples(track, frame)?;
    Some(MediaTime::from_ticks(samples.count.into(), samples.rate))
}

/// The codec string of RFC 6381 for HLS `CODECS`, DASH `codecs` and `isTypeSupported`. Without a
/// readable configuration it is the codec's bare sample entry name, or its commonest profile
/// where browsers refuse a bare name.
pub fn rfc6381(track: &Track) -> String {
    let init = &track.init;
    match track.codec {
        Codec::H264 => match h264::parse_config(init) {
            Ok(config) => format!(
                "avc1.{:02x}{:02x}{:02x}",
                config.profile, config.compatibility, config.level
            ),
            Err(_) => "avc1".into(),
        },
        Codec::Hevc => match hevc::parse_config(init) {
            Ok(config) => hevc_name(&config.profile),
            Err(_) => "hvc1".into(),
        },
        Codec::Av1 => match av1::parse_config(init) {
            Ok(header) => format!(
                "av01.{}.{:02}{}.{:02}",
                header.profile,
                header.level,
                if header.high_tier { 'H' } else { 'M' },
                header.bits
            ),
            Err(_) => "av01".into(),
        },
        Codec::Vp8 => "vp8".into(),
        Codec::Vp9 => match vp9::parse_config(init) {
            Ok(config) => format!(
                "vp09.{:02}.{:02}.{:02}",
                config.profile, config.level, config.bits
            ),
            Err(_) => "vp09.00.10.08".into(),
        },
        Codec::Aac => {
            let object = aac::parse_config(init).map_or(2, |config| config.named_object());
            format!("mp4a.40.{object}")
        }
        // The object type indication: 69 are the lower rates of MPEG-2, 6B is MPEG-1. Chromium
        // plays this from a URL and refuses MP3 in MP4 for Media Source Extensions by any name;
        // Firefox accepts it there as "mp3" only.
        Codec::Mp3 => match track.audio {
            Some(audio) if audio.rate < mp3::MPEG1_RATE_MIN => "mp4a.69".into(),
            Some(_) | None => "mp4a.6B".into(),
        },
        Codec::Opus => "opus".into(),
        Codec::Flac => "fLaC".into(),
        Codec::Ac3 => "ac-3".into(),
        Codec::Eac3 => "ec-3".into(),
        // Names of QuickTime; no browser plays them outside of WebRTC.
        Codec::Ulaw => "ulaw".into(),
        Codec::Alaw => "alaw".into(),
        Codec::G722 => "g722".into(),
    }
}

/// ISO/IEC 14496-15 annex E.3.
fn hevc_name(profile: &hevc::ProfileTierLevel) -> String {
    let space = match profile.space {
        1 => "A",
        2 => "B",
        3 => "C",
        _ => "",
    };
    let mut name = format!(
        "hvc1.{space}{}.{:X}.{}{}",
        profile.profile,
        profile.compatibility.reverse_bits(),
        if profile.high_tier { 'H' } else { 'L' },
        profile.level
    );
    let used = profile
        .constraints
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    for byte in &profile.constraints[..used] {
        write!(name, ".{byte:X}").expect("a String takes all that is written to it");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TrackId;

    fn track(codec: Codec, init: &'static [u8]) -> Track {
        let mut track = Track {
            id: TrackId(0),
            codec,
            init: Bytes::from_static(init),
            video: None,
            audio: None,
            language: String::new(),
            rid: String::new(),
        };
        describe(&mut track);
        track
    }

    #[test]
    fn names_follow_the_configuration() {
        assert_eq!(rfc6381(&track(Codec::Aac, &[0x11, 0x90])), "mp4a.40.2");
        assert_eq!(
            rfc6381(&track(Codec::Aac, &[0x2b, 0x09, 0x88, 0])),
            "mp4a.40.5"
        );
        assert_eq!(
            rfc6381(&track(Codec::H264, &[1, 0x64, 0, 0x1f, 0xff, 0xe0, 0])),
            "avc1.64001f"
        );
        assert_eq!(rfc6381(&track(Codec::Vp9, &[])), "vp09.00.10.08");
        let main = hevc::ProfileTierLevel {
            profile: 1,
            compatibility: 0x6000_0000,
            constraints: [0xb0, 0, 0, 0, 0, 0],
            level: 93,
            ..hevc::ProfileTierLevel::default()
        };
        assert_eq!(hevc_name(&main), "hvc1.1.6.L93.B0");
    }

    #[test]
    fn a_frame_teaches_what_init_lacks() {
        let mut mp3 = track(Codec::Mp3, &[]);
        assert!(learn(&mut mp3, &[0xff, 0xfb, 0x90, 0x64]));
        assert_eq!(mp3.audio.unwrap().rate, 44_100);
        assert!(!learn(&mut mp3, &[0xff, 0xfb, 0x90, 0x64]), "nothing new");
        let mut vp9 = track(Codec::Vp9, &[]);
        let key = [0x82, 0x49, 0x83, 0x42, 0x20, 0x09, 0xf0, 0x07, 0x70];
        assert!(learn(&mut vp9, &key));
        assert_eq!(vp9.video.unwrap().width, 160);
        assert_eq!(rfc6381(&vp9), "vp09.00.10.08");
    }

    #[test]
    fn durations_of_audio_frames() {
        let aac = track(Codec::Aac, &[0x2b, 0x09, 0x88, 0]);
        let samples = frame_samples(&aac, &[]).unwrap();
        assert_eq!((samples.count, samples.rate), (2048, 48_000));
        let opus = track(Codec::Opus, &[]);
        assert_eq!(
            frame_duration(&opus, &[0xfc]),
            Some(MediaTime::from_millis(20))
        );
        for codec in [Codec::Ulaw, Codec::Alaw, Codec::G722] {
            assert_eq!(
                frame_duration(&track(codec, &[]), &[0; 160]),
                Some(MediaTime::from_millis(20))
            );
        }
        assert_eq!(frame_duration(&track(Codec::H264, &[]), &[]), None);
    }
}
