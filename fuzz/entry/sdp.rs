//! Any text is an offer that is answered in both ways, or a fault that can be said; an answer is a
//! description of as many sections.

use bytes::Bytes;
use ringside::base::ids::TrackId;
use ringside::media::{AudioFormat, Codec, Track};
use ringside::proto::ice::Credentials;
use ringside::proto::sdp::{Description, Fragment, Limits};
use ringside::proto::webrtc::{
    Facts, Fingerprint, Offer, Preferences, answer_play, answer_publish,
};

pub(crate) fn run(data: &[u8]) {
    let limits = Limits::default();
    let _ = Fragment::parse(data, &limits);
    let offer = match Offer::parse(data, &limits) {
        Ok(offer) => offer,
        Err(problem) => {
            assert!(problem.to_string().len() < 1024);
            return;
        }
    };
    let sections = Description::parse(data, &limits)
        .expect("an offer is a description")
        .media
        .len();
    let credentials = Credentials {
        ufrag: "ours".to_owned(),
        password: "0123456789abcdef01234567".to_owned(),
    };
    let fingerprint = Fingerprint {
        algorithm: "sha-256".to_owned(),
        bytes: vec![0; 32],
    };
    let facts = Facts {
        credentials: &credentials,
        fingerprint: &fingerprint,
        candidates: &["1 1 udp 1 192.0.2.1 1 typ host".to_owned()],
        session: 1,
        seed: data.len() as u64,
        name: "live",
    };
    let preferences = Preferences::default();
    let codecs = [
        Codec::H264,
        Codec::Vp8,
        Codec::Hevc,
        Codec::Av1,
        Codec::Opus,
        Codec::Ulaw,
    ];
    let tracks: Vec<Track> = (0..)
        .zip(codecs)
        .map(|(id, codec)| Track {
            id: TrackId(id),
            codec,
            init: Bytes::new(),
            video: None,
            audio: (codec == Codec::Opus).then_some(AudioFormat {
                rate: 48_000,
                channels: 2,
                bits: 0,
            }),
            language: String::new(),
            rid: Default::default(),
        })
        .collect();
    let check = |answer: String| {
        // An answer repeats parts of the offer, which may be longer in it than they were.
        let limits = Limits {
            bytes_max: usize::MAX,
            line_bytes_max: usize::MAX,
            lines_max: usize::MAX,
            ..limits
        };
        let read = Description::parse(answer.as_bytes(), &limits).expect("our own description");
        assert_eq!(read.media.len(), sections);
        for (line, byte) in answer.split("\r\n").zip(1..) {
            assert!(!line.contains(['\r', '\n']), "line {byte}");
        }
    };
    if let Ok(answer) = answer_publish(&offer, &preferences, &facts) {
        check(answer.text);
    }
    match answer_play(&offer, &tracks, &preferences, &facts) {
        Ok(answer) => {
            let told = answer.left_out.len() + answer.negotiated.outgoing.len();
            assert_eq!(told, tracks.len());
            check(answer.text);
        }
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
}
