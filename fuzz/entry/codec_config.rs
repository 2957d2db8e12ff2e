//! Every codec's configuration parser, on any bytes. The first byte picks the codec.

use bytes::Bytes;
use ringside::base::ids::TrackId;
use ringside::media::{Codec, Track, codec};
use ringside::proto::{cmaf, mpegts};

const CODECS: [Codec; 14] = [
    Codec::H264,
    Codec::Hevc,
    Codec::Av1,
    Codec::Vp8,
    Codec::Vp9,
    Codec::Aac,
    Codec::Mp3,
    Codec::Opus,
    Codec::Flac,
    Codec::Ac3,
    Codec::Eac3,
    Codec::Ulaw,
    Codec::Alaw,
    Codec::G722,
];

/// Reads `data` as a configuration, names the codec, and writes the headers that embed it.
pub(crate) fn run(data: &[u8]) {
    let Some((first, init)) = data.split_first() else {
        return;
    };
    let mut track = Track {
        id: TrackId(0),
        codec: CODECS[usize::from(*first) % CODECS.len()],
        init: Bytes::copy_from_slice(init),
        video: None,
        audio: None,
        language: "eng".into(),
        rid: String::new(),
    };
    codec::describe(&mut track);
    let name = codec::rfc6381(&track);
    assert!(name.is_ascii() && !name.is_empty());

    let mut out = Vec::new();
    let tracks = [track];
    mpegts::Muxer::new(&tracks).header(&mut out);
    assert_eq!(out.len() % mpegts::PACKET_SIZE, 0);
    cmaf::Muxer::new(&tracks).header(&mut out);
    rebuild(&tracks[0]);
}

/// A configuration built from the parameter sets of one that reads must read as well.
fn rebuild(track: &Track) {
    match track.codec {
        Codec::H264 => {
            if let Ok(config) = codec::h264::parse_config(&track.init)
                && let Some(built) = codec::h264::build_config(&config.sps, &config.pps)
            {
                let again = codec::h264::parse_config(&built).expect("what was built reads");
                assert_eq!((again.sps, again.pps), (config.sps, config.pps));
            }
        }
        Codec::Hevc => {
            if let Ok(config) = codec::hevc::parse_config(&track.init)
                && let Some(built) =
                    codec::hevc::build_config(&config.vps, &config.sps, &config.pps)
            {
                let again = codec::hevc::parse_config(&built).expect("what was built reads");
                assert_eq!((again.sps, again.pps), (config.sps, config.pps));
            }
        }
        Codec::Ac3 => {
            if let Ok(config) = codec::ac3::parse_dac3(&track.init) {
                let built = codec::ac3::build_dac3(&config);
                assert_eq!(codec::ac3::parse_dac3(&built), Ok(config));
            }
        }
        Codec::Eac3 => {
            if let Ok(config) = codec::ac3::parse_dec3(&track.init) {
                let built = codec::ac3::build_dec3(&config);
                assert_eq!(codec::ac3::parse_dec3(&built), Ok(config));
            }
        }
        Codec::Vp9 => {
            if let Ok(config) = codec::vp9::parse_config(&track.init) {
                let built = codec::vp9::build_config(&config);
                assert_eq!(codec::vp9::parse_config(&built), Ok(config));
            }
        }
        Codec::Av1
        | Codec::Vp8
        | Codec::Aac
        | Codec::Mp3
        | Codec::Opus
        | Codec::Flac
        | Codec::Ulaw
        | Codec::Alaw
        | Codec::G722 => {}
    }
}
