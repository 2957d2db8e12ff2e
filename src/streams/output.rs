//! Containers: which codecs each carries, and the muxer that writes it.

use crate::media::{Codec, Frame, Kind, Track};
use crate::proto::{cmaf, flv, http, mpegts, rtmp};

/// Bytes of an FLV file header with the first back pointer (FLV 10.1 annex E.2 and E.3): a viewer
/// gets them once, and not again when the tracks change.
const FLV_FILE_HEADER_BYTES: usize = 13;

/// The form in which a viewer gets a stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Container {
    /// RTMP messages.
    Rtmp,
    /// HTTP-FLV.
    Flv,
    /// MPEG transport stream over HTTP.
    Ts,
    /// Fragmented MP4 over HTTP.
    Mp4,
    /// RTP packets, in a WebRTC session.
    WebRtc,
}

impl Container {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Rtmp, Self::Flv, Self::Ts, Self::Mp4, Self::WebRtc];

    /// The container's name in logs, metrics and `json_NAME.js`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Flv => "flv",
            Self::Ts => "ts",
            Self::Mp4 => "mp4",
            Self::WebRtc => "webrtc",
        }
    }

    /// MistServer's name of what serves it.
    pub fn connector(self) -> &'static str {
        match self {
            Self::Rtmp => "RTMP",
            Self::Flv => "FLV",
            Self::Ts => "HTTPTS",
            Self::Mp4 => "MP4",
            Self::WebRtc => "WebRTC",
        }
    }

    /// The media type of the HTTP response, if it is one.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Rtmp | Self::Flv => "video/x-flv",
            Self::Ts => "video/mp2t",
            Self::Mp4 => "video/mp4",
            Self::WebRtc => "application/octet-stream",
        }
    }

    /// Whether a track of this codec can be carried.
    pub fn carries(self, codec: Codec) -> bool {
        match self {
            Self::Rtmp | Self::Flv => flv::carries(codec),
            Self::Ts => match codec {
                Codec::H264
                | Codec::Hevc
                | Codec::Aac
                | Codec::Mp3
                | Codec::Opus
                | Codec::Ac3
                | Codec::Eac3 => true,
                Codec::Av1
                | Codec::Vp8
                | Codec::Vp9
                | Codec::Flac
                | Codec::Ulaw
                | Codec::Alaw
                | Codec::G722 => false,
            },
            Self::Mp4 => match codec {
                Codec::H264
                | Codec::Hevc
                | Codec::Av1
                | Codec::Vp9
                | Codec::Aac
                | Codec::Mp3
                | Codec::Opus
                | Codec::Flac
                | Codec::Ac3
                | Codec::Eac3 => true,
                Codec::Vp8 | Codec::Ulaw | Codec::Alaw | Codec::G722 => false,
            },
            Self::WebRtc => match codec {
                Codec::H264
                | Codec::Hevc
                | Codec::Av1
                | Codec::Vp8
                | Codec::Vp9
                | Codec::Opus
                | Codec::Ulaw
                | Codec::Alaw
                | Codec::G722 => true,
                Codec::Aac | Codec::Mp3 | Codec::Flac | Codec::Ac3 | Codec::Eac3 => false,
            },
        }
    }
}

/// Which tracks a viewer wants. The default is the first video and the first audio track that the
/// container carries.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Selection {
    /// For video.
    pub video: Choice,
    /// For audio.
    pub audio: Choice,
}

/// Which tracks of one kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Choice {
    /// The first that fits.
    #[default]
    First,
    /// None.
    Nothing,
    /// All that fit.
    All,
    /// The one with this number in the stream.
    Track(u16),
    /// The first of the codec with this name, in lower case.
    Codec(String),
}

impl Choice {
    /// Reads a track selector of MistServer: `none` or `-1`, `all` or `*`, a track number, a
    /// codec's name. `None` for what is not understood.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "" => Some(Self::First),
            "none" | "-1" => Some(Self::Nothing),
            "all" | "*" => Some(Self::All),
            _ => match text.parse() {
                Ok(number) => Some(Self::Track(number)),
                Err(_)
                    if text.len() <= 8
                        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') =>
                {
                    Some(Self::Codec(text))
                }
                Err(_) => None,
            },
        }
    }

    pub(super) fn takes(&self, track: &Track, taken: usize) -> bool {
        match self {
            Self::First => taken == 0,
            Self::Nothing => false,
            Self::All => true,
            Self::Track(number) => track.id.0 == *number,
            Self::Codec(name) => taken == 0 && track.codec.name().eq_ignore_ascii_case(name),
        }
    }
}

impl Selection {
    /// The tracks that a viewer gets in a container, in the stream's order.
    pub fn of(&self, tracks: &[Track], container: Container) -> Vec<Track> {
        let mut taken = [0usize; 2];
        tracks
            .iter()
            .filter(|track| {
                let (choice, count) = match track.kind() {
                    Kind::Video => (&self.video, &mut taken[0]),
                    Kind::Audio => (&self.audio, &mut taken[1]),
                };
                let is_taken = container.carries(track.codec) && choice.takes(track, *count);
                *count += usize::from(is_taken);
                is_taken
            })
            .cloned()
            .collect()
    }
}

/// Writes frames in one container.
#[derive(Debug)]
pub(super) enum Muxer {
    /// RTMP messages.
    Rtmp(rtmp::Muxer),
    /// FLV tags.
    Flv(flv::Muxer),
    /// Transport packets.
    Ts(mpegts::Muxer),
    /// MP4 fragments.
    Mp4(cmaf::Muxer),
}

impl Muxer {
    /// A muxer for these tracks.
    pub(super) fn new(container: Container, tracks: &[Track]) -> Self {
        match container {
            Container::Rtmp => Self::Rtmp(rtmp::Muxer::new(tracks)),
            Container::Flv => Self::Flv(flv::Muxer::new(tracks)),
            Container::Ts => Self::Ts(mpegts::Muxer::new(tracks)),
            Container::Mp4 => Self::Mp4(cmaf::Muxer::new(tracks)),
            Container::WebRtc => unreachable!("its viewers get packets, which are not muxed"),
        }
    }

    /// What a viewer gets first.
    pub(super) fn header(&self, out: &mut Vec<u8>) {
        match self {
            Self::Rtmp(muxer) => muxer.header(out),
            Self::Flv(muxer) => muxer.header(out),
            Self::Ts(muxer) => muxer.header(out),
            Self::Mp4(muxer) => muxer.header(out),
        }
    }

    /// The header again, for viewers in the middle of the stream.
    pub(super) fn inline_header(&self, out: &mut Vec<u8>) {
        match self {
            Self::Flv(muxer) => {
                let mut header = Vec::new();
                muxer.header(&mut header);
                out.extend_from_slice(header.get(FLV_FILE_HEADER_BYTES..).unwrap_or_default());
            }
            Self::Rtmp(_) | Self::Ts(_) | Self::Mp4(_) => self.header(out),
        }
    }

    /// Takes other tracks, and writes what viewers in the middle of the stream need to go on.
    pub(super) fn set_tracks(&mut self, container: Container, tracks: &[Track], out: &mut Vec<u8>) {
        match self {
            // Its packets are counted, and its map has a version.
            Self::Ts(muxer) => muxer.set_tracks(tracks, out),
            Self::Rtmp(_) | Self::Flv(_) | Self::Mp4(_) => {
                *self = Self::new(container, tracks);
                self.inline_header(out);
            }
        }
    }

    /// Writes a frame.
    pub(super) fn write(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        match self {
            Self::Rtmp(muxer) => muxer.write(frame, out),
            Self::Flv(muxer) => muxer.write(frame, out),
            Self::Ts(muxer) => muxer.write(frame, out),
            Self::Mp4(muxer) => muxer.write(frame, out),
        }
    }

    /// Writes what tells viewers that a track's configuration has changed.
    pub(super) fn track_changed(&mut self, track: &Track, out: &mut Vec<u8>) {
        match self {
            Self::Rtmp(muxer) => muxer.track_changed(track, out),
            Self::Flv(muxer) => muxer.track_changed(track, out),
            Self::Ts(muxer) => muxer.track_changed(track, out),
            Self::Mp4(muxer) => muxer.track_changed(track, out),
        }
    }
}

/// Writes `write`'s bytes to `out`, as one HTTP chunk if `is_chunked`.
pub(super) fn framed(out: &mut Vec<u8>, is_chunked: bool, write: impl FnOnce(&mut Vec<u8>)) {
    if is_chunked {
        http::chunk(out, write);
    } else {
        write(out);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::base::ids::TrackId;

    use super::*;

    fn track(id: u16, codec: Codec) -> Track {
        Track {
            id: TrackId(id),
            codec,
            init: Bytes::new(),
            video: None,
            audio: None,
            language: String::new(),
            rid: String::new(),
        }
    }

    fn ids(selection: &Selection, container: Container) -> Vec<u16> {
        let tracks = [
            track(0, Codec::Av1),
            track(1, Codec::H264),
            track(2, Codec::Aac),
            track(3, Codec::Opus),
        ];
        selection
            .of(&tracks, container)
            .iter()
            .map(|track| track.id.0)
            .collect()
    }

    #[test]
    fn the_first_track_that_the_container_carries_is_taken() {
        let selection = Selection::default();
        assert_eq!(ids(&selection, Container::Mp4), [0, 2]);
        assert_eq!(ids(&selection, Container::Ts), [1, 2]);
        for container in Container::ALL {
            let is_packets = container == Container::WebRtc;
            assert_eq!(container.carries(Codec::G722), is_packets);
        }
    }

    #[test]
    fn selectors_choose_by_number_codec_and_kind() {
        let of = |video: &str, audio: &str| Selection {
            video: Choice::parse(video).expect("understood"),
            audio: Choice::parse(audio).expect("understood"),
        };
        assert_eq!(ids(&of("none", "opus"), Container::Mp4), [3]);
        assert_eq!(ids(&of("1", "all"), Container::Mp4), [1, 2, 3]);
        assert_eq!(ids(&of("h264", "-1"), Container::Flv), [1]);
        assert_eq!(Choice::parse("<800kbps"), None);
    }
}
