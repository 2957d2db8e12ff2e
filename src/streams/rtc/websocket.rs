//! MistServer's signalling for WebRTC: JSON messages on a WebSocket of `/webrtc/NAME`, or on a data
//! channel named `MistControl`.
//!
//! The members and their names are those that MistServer's own players send and read. An answer on
//! the data channel has the name of its command and its members in `data`; on the WebSocket it has
//! a name of its own and its members beside `type`.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::base::ids::TrackId;
use crate::media::{Codec, Kind, Track};
use crate::streams::output::Choice;

/// Bytes of a message other than an offer. The longest real one has two track selectors.
pub const COMMAND_BYTES_MAX: usize = 1024;

/// Bytes of a track selector.
const SELECTOR_BYTES_MAX: usize = 64;

/// Bytes of a message's type that are repeated in an answer.
const TYPE_BYTES_MAX: usize = 32;

/// MistServer takes no less.
const KEYFRAME_INTERVAL_MIN: Duration = Duration::from_millis(500);
const KEYFRAME_INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// Messages of one client that are looked at: as many at once, and as many in a second. A player
/// sends a handful when its window changes its size.
const AT_ONCE_MAX: u32 = 20;
const PER_SECOND: u32 = 10;

/// What a client asks for.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// `offer_sdp`: an offer. One that sends publishes.
    Offer(String),
    /// `tracks`: other tracks; what is `None` stays.
    Tracks {
        /// The selector of the picture.
        video: Option<String>,
        /// The selector of the sound.
        audio: Option<String>,
    },
    /// `play`.
    Play,
    /// `hold`: nothing is sent until `play`.
    Hold,
    /// `seek`.
    Seek(Point),
    /// `set_speed`.
    SetSpeed(Speed),
    /// `stop`.
    Stop,
    /// `video_bitrate`: what a publisher should send at most, in bits a second.
    VideoBitrate(u64),
    /// `keyframe_interval`: how often a publisher should send a keyframe.
    KeyframeInterval(Duration),
    /// `rtp_props`.
    RtpProperties,
    /// `request_codec_data`.
    CodecData,
}

/// A point of the stream.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Point {
    /// The newest.
    Live,
    /// In milliseconds of the stream's timeline.
    At(f64),
}

/// How fast to play.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Speed {
    /// As the server likes.
    Auto,
    /// So many times as fast as it was taken.
    Times(f64),
}

/// Why a message cannot be obeyed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// Beyond [`COMMAND_BYTES_MAX`].
    #[error("the message has more than {COMMAND_BYTES_MAX} bytes")]
    TooLong,
    /// It is no JSON object.
    #[error("the message is not a JSON object")]
    NotObject,
    /// It has no `type`.
    #[error("the message has no type")]
    NoType,
    /// Its `type` is none of these; the beginning of it.
    #[error("there is no command of this type")]
    Unknown(String),
    /// A member is missing, or is not what it has to be.
    #[error("{member} is missing, or is not {expected}")]
    Member {
        /// The command.
        command: &'static str,
        /// The member.
        member: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
}

impl Fault {
    /// The command that it is about, as far as that is known.
    pub fn command(&self) -> &str {
        match self {
            Self::TooLong | Self::NotObject | Self::NoType => "",
            Self::Unknown(kind) => kind,
            Self::Member { command, .. } => command,
        }
    }
}

/// The members that are looked at; others are passed over and not kept.
#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: Option<Value>,
    offer_sdp: Option<Value>,
    video: Option<Value>,
    audio: Option<Value>,
    seek_time: Option<Value>,
    play_rate: Option<Value>,
    video_bitrate: Option<Value>,
    keyframe_interval_millis: Option<Value>,
}

/// Reads a message.
///
/// # Errors
///
/// If it is not a command, or one whose members are not what they have to be.
pub fn read(text: &str) -> Result<Command, Fault> {
    let raw: Raw = serde_json::from_str(text).map_err(|_| Fault::NotObject)?;
    let Some(Value::String(kind)) = &raw.kind else {
        return Err(Fault::NoType);
    };
    if kind != "offer_sdp" && text.len() > COMMAND_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    let member = |command, member, expected| Fault::Member {
        command,
        member,
        expected,
    };
    Ok(match kind.as_str() {
        "offer_sdp" => match raw.offer_sdp {
            Some(Value::String(offer)) if !offer.is_empty() => Command::Offer(offer),
            Some(_) | None => return Err(member("offer_sdp", "offer_sdp", "an offer")),
        },
        "tracks" => Command::Tracks {
            video: selector("video", raw.video)?,
            audio: selector("audio", raw.audio)?,
        },
        "play" => Command::Play,
        "hold" => Command::Hold,
        "stop" => Command::Stop,
        "rtp_props" => Command::RtpProperties,
        "request_codec_data" => Command::CodecData,
        "seek" => Command::Seek(match raw.seek_time {
            Some(Value::String(text)) if text == "live" => Point::Live,
            value => Point::At(number(value.as_ref()).ok_or_else(|| {
                member("seek", "seek_time", "a time in milliseconds or \"live\"")
            })?),
        }),
        "set_speed" => Command::SetSpeed(match raw.play_rate {
            Some(Value::String(text)) if text == "auto" => Speed::Auto,
            value => Speed::Times(
                number(value.as_ref())
                    .filter(|times| *times > 0.0)
                    .ok_or_else(|| member("set_speed", "play_rate", "a number or \"auto\""))?,
            ),
        }),
        "video_bitrate" => {
            let bits = number(raw.video_bitrate.as_ref()).filter(|bits| *bits >= 1.0);
            let expected = "a number of bits per second";
            let bits = bits.ok_or_else(|| member("video_bitrate", "video_bitrate", expected))?;
            Command::VideoBitrate(bits as u64)
        }
        "keyframe_interval" => {
            let (command, name) = ("keyframe_interval", "keyframe_interval_millis");
            let millis = number(raw.keyframe_interval_millis.as_ref()).filter(|it| *it >= 1.0);
            let millis = millis.ok_or_else(|| member(command, name, "a number"))?;
            let every = Duration::from_millis(millis as u64);
            Command::KeyframeInterval(every.clamp(KEYFRAME_INTERVAL_MIN, KEYFRAME_INTERVAL_MAX))
        }
        other => {
            let end = other.floor_char_boundary(TYPE_BYTES_MAX);
            return Err(Fault::Unknown(other[..end].to_owned()));
        }
    })
}

/// A number, also in quotes, as players have it from forms.
fn number(value: Option<&Value>) -> Option<f64> {
    let number = match value? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    number.is_finite().then_some(number)
}

fn selector(kind: &'static str, value: Option<Value>) -> Result<Option<String>, Fault> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => String::from("?"),
    };
    let fits = text.len() <= SELECTOR_BYTES_MAX && text != "?";
    fits.then_some(Some(text)).ok_or(Fault::Member {
        command: "tracks",
        member: kind,
        expected: "a track selector",
    })
}

/// What a selector means for one kind of an answered session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// Whatever is sent, or was before it was switched off.
    Any,
    /// Nothing of this kind.
    Nothing,
    /// This track.
    Track(TrackId),
}

/// Why a selector gives no track.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoTrack {
    #[error(
        "the selector is not understood: none, all, a track's number, a layer's name, a codec or ~WIDTHxHEIGHT are"
    )]
    Malformed,
    #[error("the stream has no such track")]
    None,
    #[error("the track is of another codec than the session was answered with")]
    OtherCodec,
}

/// Reads a track selector: `none`, `all`, a track's number, the name of a simulcast layer, a
/// codec's name, or `~WIDTHxHEIGHT` for the picture whose size is nearest. The codec that a session
/// was answered with stays.
pub(super) fn choose(
    selector: &str,
    kind: Kind,
    codec: Codec,
    tracks: &[Track],
) -> Result<Wish, NoTrack> {
    let of_kind = || tracks.iter().filter(|track| track.kind() == kind);
    let fitting = || of_kind().filter(|track| track.codec == codec);
    if let Some(size) = selector.strip_prefix('~') {
        let (width, height) = size.split_once('x').ok_or(NoTrack::Malformed)?;
        let side = |text: &str| text.parse::<u32>().map_err(|_| NoTrack::Malformed);
        let wanted = u64::from(side(width)?) * u64::from(side(height)?);
        let distance = |track: &&Track| {
            let format = track.video.unwrap_or_default();
            wanted.abs_diff(u64::from(format.width) * u64::from(format.height))
        };
        let nearest = fitting().min_by_key(distance).ok_or(NoTrack::None)?;
        return Ok(Wish::Track(nearest.id));
    }
    if let Some(layer) = of_kind().find(|track| !track.rid.is_empty() && track.rid == selector) {
        return one(layer, codec);
    }
    match Choice::parse(selector).ok_or(NoTrack::Malformed)? {
        Choice::First | Choice::All => Ok(Wish::Any),
        Choice::Nothing => Ok(Wish::Nothing),
        Choice::Track(number) => {
            let track = of_kind().find(|track| track.id.0 == number);
            one(track.ok_or(NoTrack::None)?, codec)
        }
        Choice::Codec(name) => {
            let has_name = |track: &&Track| track.codec.name().eq_ignore_ascii_case(&name);
            one(of_kind().find(has_name).ok_or(NoTrack::None)?, codec)
        }
    }
}

fn one(track: &Track, codec: Codec) -> Result<Wish, NoTrack> {
    match track.codec == codec {
        true => Ok(Wish::Track(track.id)),
        false => Err(NoTrack::OtherCodec),
    }
}

/// Where a reply goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// To the WebSocket.
    Socket,
    /// To the data channel.
    Channel,
}

/// What a viewer is told about once a second.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// The newest that was sent, in milliseconds of the stream's timeline.
    pub current: i64,
    /// The oldest that the server has.
    pub begin: i64,
    /// The newest that it has.
    pub end: i64,
    /// The tracks that are sent.
    pub tracks: Vec<u16>,
    /// Nothing is sent until `play`.
    pub is_paused: bool,
}

/// What is said to a client.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply<'a> {
    /// The answer to an offer.
    Answer(&'a str),
    /// The offer is refused.
    NoAnswer,
    /// `on_time`.
    Time(&'a Times),
    /// `on_media_receive`, to a publisher: milliseconds since it began, and its codecs.
    Media(u64, &'a [&'static str]),
    /// The live point was sought.
    Live,
    /// The speed is what it always is.
    Speed(Speed),
    /// After `hold` and `play`.
    Paused(bool),
    /// A publisher has been told what to send at most.
    Bitrate(u64),
    /// A publisher will be asked for keyframes this often.
    KeyframeInterval(Duration),
    /// Something cannot be done, of a command of this type.
    Error(&'a str, &'a str),
    /// The stream, or the session, is over.
    Stop,
}

impl Reply<'_> {
    /// As it is sent.
    pub fn write(&self, dialect: Dialect) -> String {
        let rate = |speed: &Speed| match speed {
            Speed::Auto => json!("auto"),
            Speed::Times(times) => json!(times),
        };
        let (socket, channel, members) = match self {
            Self::Answer(answer) => (
                "on_answer_sdp",
                "on_answer_sdp",
                json!({"result": true, "answer_sdp": answer}),
            ),
            Self::NoAnswer => ("on_answer_sdp", "on_answer_sdp", json!({"result": false})),
            Self::Time(times) => (
                "on_time",
                "on_time",
                json!({
                    "current": times.current,
                    "begin": times.begin,
                    "end": times.end,
                    "tracks": times.tracks,
                    "paused": times.is_paused,
                    "live": true,
                    "live_point": !times.is_paused,
                    "play_rate_curr": "auto",
                }),
            ),
            Self::Media(millis, codecs) => (
                "on_media_receive",
                "on_media_receive",
                json!({"millis": millis, "tracks": codecs}),
            ),
            Self::Live => (
                "on_seek",
                "seek",
                json!({"result": true, "live_point": true, "play_rate_curr": "auto"}),
            ),
            Self::Speed(speed) => (
                "on_speed",
                "set_speed",
                json!({"play_rate": rate(speed), "play_rate_curr": rate(speed)}),
            ),
            Self::Paused(is_paused) => ("pause", "pause", json!({"paused": is_paused})),
            Self::Bitrate(bits) => (
                "on_video_bitrate",
                "on_video_bitrate",
                json!({"result": true, "video_bitrate": bits, "video_bitrate_constraint": bits}),
            ),
            Self::KeyframeInterval(every) => (
                "on_keyframe_interval",
                "on_keyframe_interval",
                json!({"result": every.as_millis() as u64}),
            ),
            Self::Error(command, message) => {
                return json!({"type": "on_error", "command": command, "message": message})
                    .to_string();
            }
            Self::Stop => return json!({"type": "on_stop"}).to_string(),
        };
        let mut message = Map::new();
        match (dialect, members) {
            (Dialect::Socket, Value::Object(members)) => {
                message.insert("type".to_owned(), socket.into());
                message.extend(members);
            }
            (Dialect::Socket | Dialect::Channel, members) => {
                message.insert("type".to_owned(), channel.into());
                message.insert("data".to_owned(), members);
            }
        }
        Value::Object(message).to_string()
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// It is looked at.
    Granted,
    /// It is not, which is to be said.
    Refused,
    /// It is not, which has been said.
    Ignored,
}

/// Bounds the messages of one client by their rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    left: u32,
    filled: Instant,
    has_told: bool,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: AT_ONCE_MAX,
            filled: now,
            has_told: false,
        }
    }

    /// A message has come.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        let elapsed = now.saturating_duration_since(self.filled);
        let gained = elapsed.as_millis() * u128::from(PER_SECOND) / 1000;
        if gained > 0 {
            self.filled = now;
            let gained = u32::try_from(gained).unwrap_or(AT_ONCE_MAX);
            self.left = self.left.saturating_add(gained).min(AT_ONCE_MAX);
        }
        if self.left > 0 {
            self.left -= 1;
            self.has_told = false;
            return Admission::Granted;
        }
        match std::mem::replace(&mut self.has_told, true) {
            true => Admission::Ignored,
            false => Admission::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant as Clock;

    use bytes::Bytes;

    use crate::media::VideoFormat;

    use super::*;

    #[test]
    fn what_players_send_is_understood() {
        let cases = [
            (
                r#"{"type":"offer_sdp","offer_sdp":"v=0\r\n"}"#,
                Command::Offer("v=0\r\n".to_owned()),
            ),
            (
                r#"{"video":2,"audio":"none","type":"tracks","new":[1]}"#,
                Command::Tracks {
                    video: Some("2".to_owned()),
                    audio: Some("none".to_owned()),
                },
            ),
            (
                r#"{"type":"tracks","video":null}"#,
                Command::Tracks {
                    video: None,
                    audio: None,
                },
            ),
            (r#"{"type":"play"}"#, Command::Play),
            (r#"{"type":"hold"}"#, Command::Hold),
            (r#"{"type":"stop"}"#, Command::Stop),
            (
                r#"{"type":"seek","seek_time":"live"}"#,
                Command::Seek(Point::Live),
            ),
            (
                r#"{"type":"seek","seek_time":1500.5}"#,
                Command::Seek(Point::At(1500.5)),
            ),
            (
                r#"{"type":"set_speed","play_rate":"auto"}"#,
                Command::SetSpeed(Speed::Auto),
            ),
            (
                r#"{"type":"set_speed","play_rate":2}"#,
                Command::SetSpeed(Speed::Times(2.0)),
            ),
            (
                r#"{"type":"video_bitrate","video_bitrate":"600000"}"#,
                Command::VideoBitrate(600_000),
            ),
            (
                r#"{"type":"keyframe_interval","keyframe_interval_millis":10}"#,
                Command::KeyframeInterval(Duration::from_millis(500)),
            ),
            (
                r#"{"type":"rtp_props","nack":1,"drop":2}"#,
                Command::RtpProperties,
            ),
            (r#"{"type":"request_codec_data"}"#, Command::CodecData),
        ];
        for (text, command) in cases {
            assert_eq!(read(text), Ok(command), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_command_is_refused_with_its_reason() {
        let cases = [
            ("", ""),
            ("[]", ""),
            ("7", ""),
            (r#"{"type":7}"#, ""),
            (r#"{"type":"dance"}"#, "dance"),
            (r#"{"type":"offer_sdp"}"#, "offer_sdp"),
            (r#"{"type":"offer_sdp","offer_sdp":""}"#, "offer_sdp"),
            (r#"{"type":"tracks","video":[1]}"#, "tracks"),
            (r#"{"type":"seek","seek_time":"soon"}"#, "seek"),
            (r#"{"type":"set_speed","play_rate":0}"#, "set_speed"),
            (r#"{"type":"video_bitrate"}"#, "video_bitrate"),
            (r#"{"type":"keyframe_interval"}"#, "keyframe_interval"),
        ];
        for (text, command) in cases {
            let fault = read(text).expect_err(text);
            assert_eq!(fault.command(), command, "{text}: {fault}");
        }
        let long = format!(r#"{{"type":"play","x":"{}"}}"#, "x".repeat(2000));
        assert_eq!(read(&long), Err(Fault::TooLong));
        let unknown = format!(r#"{{"type":"{}"}}"#, "ü".repeat(100));
        let fault = read(&unknown).expect_err("no command");
        assert_eq!(fault.command(), "ü".repeat(16));
    }

    fn track(id: u16, codec: Codec, rid: &str, width: u32) -> Track {
        Track {
            id: TrackId(id),
            codec,
            init: Bytes::new(),
            video: (width > 0).then(|| VideoFormat {
                width,
                height: width / 2,
                ..VideoFormat::default()
            }),
            audio: None,
            language: String::new(),
            rid: rid.to_owned(),
        }
    }

    #[test]
    fn selectors_choose_among_tracks_of_the_same_codec() {
        let tracks = [
            track(0, Codec::H264, "l", 320),
            track(1, Codec::H264, "h", 1280),
            track(2, Codec::Vp8, "", 640),
            track(3, Codec::Opus, "", 0),
        ];
        let video = |selector| choose(selector, Kind::Video, Codec::H264, &tracks);
        let chosen = |id| Ok(Wish::Track(TrackId(id)));
        assert_eq!(video("1"), chosen(1));
        assert_eq!(video("l"), chosen(0));
        assert_eq!(video("h264"), chosen(0));
        assert_eq!(video("~1000x600"), chosen(1));
        assert_eq!(video("~1x1"), chosen(0));
        assert_eq!(video("none"), Ok(Wish::Nothing));
        assert_eq!(video("all"), Ok(Wish::Any));
        assert_eq!(video("2"), Err(NoTrack::OtherCodec));
        assert_eq!(video("vp8"), Err(NoTrack::OtherCodec));
        assert_eq!(video("3"), Err(NoTrack::None), "that is sound");
        assert_eq!(video("9"), Err(NoTrack::None));
        assert_eq!(video("<800kbps"), Err(NoTrack::Malformed));
        assert_eq!(video("~big"), Err(NoTrack::Malformed));
        let audio = choose("3", Kind::Audio, Codec::Opus, &tracks);
        assert_eq!(audio, chosen(3));
    }

    #[test]
    fn replies_have_the_form_that_their_reader_knows() {
        let parse = |text: String| serde_json::from_str::<Value>(&text).expect("JSON");
        let times = Times {
            current: 1000,
            begin: 0,
            end: 1040,
            tracks: vec![0, 3],
            is_paused: true,
        };
        let said = parse(Reply::Time(&times).write(Dialect::Socket));
        assert_eq!(said["type"], "on_time");
        assert_eq!(said["tracks"], json!([0, 3]));
        assert_eq!(said["paused"], true);
        let said = parse(Reply::Time(&times).write(Dialect::Channel));
        assert_eq!(said["data"]["end"], 1040);
        assert_eq!(parse(Reply::Live.write(Dialect::Socket))["type"], "on_seek");
        assert_eq!(parse(Reply::Live.write(Dialect::Channel))["type"], "seek");
        for dialect in [Dialect::Socket, Dialect::Channel] {
            let said = parse(Reply::Error("seek", "no").write(dialect));
            assert_eq!(
                said,
                json!({"type": "on_error", "command": "seek", "message": "no"})
            );
        }
        let said = parse(Reply::Answer("v=0\r\n").write(Dialect::Socket));
        assert_eq!(
            said,
            json!({"type": "on_answer_sdp", "result": true, "answer_sdp": "v=0\r\n"})
        );
    }

    #[test]
    fn a_flood_is_told_once() {
        let now = crate::media::samples::now();
        let mut allowance = Allowance::new(now);
        for _ in 0..AT_ONCE_MAX {
            assert_eq!(allowance.admit(now), Admission::Granted);
        }
        assert_eq!(allowance.admit(now), Admission::Refused);
        assert_eq!(allowance.admit(now), Admission::Ignored);
        let later = now + Duration::from_millis(100);
        assert_eq!(allowance.admit(later), Admission::Granted);
        assert_eq!(allowance.admit(later), Admission::Refused);
        let much_later = later + Duration::from_secs(60);
        for _ in 0..AT_ONCE_MAX {
            assert_eq!(allowance.admit(much_later), Admission::Granted);
        }
        assert_ne!(allowance.admit(much_later), Admission::Granted);
    }
}
