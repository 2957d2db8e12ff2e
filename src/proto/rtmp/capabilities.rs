//! Which codecs a client says it can decode: Enhanced RTMP, "Enhancing NetConnection connect
//! Command".

use crate::media::Codec;
use crate::proto::amf::Value;

const VIDEO: [(&str, Codec); 5] = [
    ("avc1", Codec::H264),
    ("hvc1", Codec::Hevc),
    ("av01", Codec::Av1),
    ("vp08", Codec::Vp8),
    ("vp09", Codec::Vp9),
];
const AUDIO: [(&str, Codec); 6] = [
    ("mp4a", Codec::Aac),
    (".mp3", Codec::Mp3),
    ("Opus", Codec::Opus),
    ("fLaC", Codec::Flac),
    ("ac-3", Codec::Ac3),
    ("ec-3", Codec::Eac3),
];
/// Stands for every codec.
const ANY: &str = "*";
/// `CanDecode` of the masks in the info maps.
const CAN_DECODE: u32 = 1;
/// `CanForward`: what a server can do with a codec.
const CAN_FORWARD: f64 = 4.0;
/// `Multitrack` and `ModEx` with its nanoseconds in `capsEx`.
const CAPS_EX: f64 = 14.0;

/// The codecs of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    enhanced: bool,
    /// One bit for each codec.
    codecs: u16,
}

impl Capabilities {
    /// From the command object of `connect`.
    pub(super) fn read(connect: &Value) -> Self {
        let mut capabilities = Self::default();
        if let Some(Value::StrictArray(names)) = connect.property("fourCcList") {
            capabilities.enhanced = true;
            names.iter().filter_map(Value::as_str).for_each(|name| {
                capabilities.add(name, &VIDEO);
                capabilities.add(name, &AUDIO);
            });
        }
        for (map, codecs) in [
            ("videoFourCcInfoMap", &VIDEO[..]),
            ("audioFourCcInfoMap", &AUDIO[..]),
        ] {
            let Some(map) = connect.property(map) else {
                continue;
            };
            capabilities.enhanced = true;
            for (name, mask) in map.properties() {
                if mask
                    .as_f64()
                    .is_some_and(|mask| mask as u32 & CAN_DECODE != 0)
                {
                    capabilities.add(name, codecs);
                }
            }
        }
        capabilities.enhanced |= connect.property("capsEx").is_some();
        capabilities
    }

    /// True if the client spoke of Enhanced RTMP at all. ffmpeg and VLC decode some FourCC codecs
    /// also without saying so.
    pub fn enhanced(self) -> bool {
        self.enhanced
    }

    /// True for the codecs of plain RTMP and those the client named.
    pub fn can_decode(self, codec: Codec) -> bool {
        let plain = matches!(codec, Codec::H264 | Codec::Aac | Codec::Mp3);
        plain || self.codecs & bit(codec) != 0
    }

    fn add(&mut self, name: &str, codecs: &[(&str, Codec)]) {
        for (known, codec) in codecs {
            if name == ANY || name == *known {
                self.codecs |= bit(*codec);
            }
        }
    }

    /// What a server answers to a client that spoke of Enhanced RTMP: it passes everything on.
    pub(super) fn of_server() -> Vec<(String, Value)> {
        let names = VIDEO
            .iter()
            .chain(&AUDIO)
            .map(|(name, _)| Value::from(*name));
        let any = || Value::Object(vec![(ANY.to_owned(), Value::Number(CAN_FORWARD))]);
        vec![
            ("fourCcList".to_owned(), Value::StrictArray(names.collect())),
            ("videoFourCcInfoMap".to_owned(), any()),
            ("audioFourCcInfoMap".to_owned(), any()),
            ("capsEx".to_owned(), Value::Number(CAPS_EX)),
        ]
    }

    /// What a client offers that takes every codec.
    pub(super) fn of_client() -> (String, Value) {
        (
            "fourCcList".to_owned(),
            Value::StrictArray(vec![Value::from(ANY)]),
        )
    }
}

fn bit(codec: Codec) -> u16 {
    1 << codec as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(properties: Vec<(&str, Value)>) -> Capabilities {
        let own = |(name, value): (&str, Value)| (name.to_owned(), value);
        Capabilities::read(&Value::Object(properties.into_iter().map(own).collect()))
    }

    #[test]
    fn quirk_10_a_star_means_all_codecs() {
        let list = Value::StrictArray(vec![Value::from("*")]);
        let all = read(vec![("fourCcList", list)]);
        assert!(all.enhanced());
        assert!(
            VIDEO
                .iter()
                .chain(&AUDIO)
                .all(|(_, codec)| all.can_decode(*codec))
        );
        let map = Value::Object(vec![("*".to_owned(), Value::Number(7.0))]);
        let video = read(vec![("videoFourCcInfoMap", map)]);
        assert!(video.can_decode(Codec::Av1));
        assert!(!video.can_decode(Codec::Opus));
    }

    #[test]
    fn named_codecs_and_plain_codecs() {
        let list = Value::StrictArray(vec![Value::from("hvc1"), Value::Null]);
        let some = read(vec![("fourCcList", list)]);
        assert!(some.can_decode(Codec::Hevc) && some.can_decode(Codec::H264));
        assert!(!some.can_decode(Codec::Av1));
        let none = read(vec![("app", Value::from("live"))]);
        assert!(!none.enhanced() && !none.can_decode(Codec::Hevc) && none.can_decode(Codec::Aac));
        let map = Value::Object(vec![("av01".to_owned(), Value::Number(2.0))]);
        assert!(!read(vec![("videoFourCcInfoMap", map)]).can_decode(Codec::Av1));
    }
}
