//! What a player is told of a stream: `/json_NAME.js` and `/info_NAME.js`, in MistServer's form.
//!
//! Of MistServer's members only `player_url` is missing (it names a Flash player), and `left_out`
//! is new: the tracks that a format cannot carry.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::name::StreamName;
use crate::base::ids::TrackId;
use crate::config::Protocols;
use crate::media::{Kind, MediaTime, Track};

/// A live stream as its players see it.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// Its name.
    pub name: StreamName,
    /// Its tracks.
    pub tracks: Vec<TrackInfo>,
    /// Pictures are not shown in the order they are decoded.
    pub bframes: bool,
    /// The wall clock at media time 0, in milliseconds since 1970.
    pub unix_zero_ms: i64,
    /// The furthest that a player may be told to stay behind the live edge.
    pub keep_away: Duration,
    /// What the stream can be had as.
    pub outputs: Vec<Output>,
}

/// One track of a [`StreamInfo`].
#[derive(Clone, Debug)]
pub struct TrackInfo {
    /// Codec, format and language.
    pub track: Track,
    /// The codec string of RFC 6381, such as `avc1.4d401f`; empty when there is none.
    pub codecs: String,
    /// The oldest frame that is kept.
    pub first: MediaTime,
    /// The newest frame.
    pub last: MediaTime,
    /// The mean rate, in bytes a second.
    pub bytes_per_second: u64,
    /// The highest rate, in bytes a second.
    pub bytes_per_second_max: u64,
    /// How unevenly frames arrive.
    pub jitter: Duration,
}

/// A way to play a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// The format.
    pub format: Format,
    /// The tracks that this format cannot carry.
    pub left_out: Vec<TrackId>,
}

/// A format that streams are served in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Format {
    /// RTMP.
    Rtmp,
    /// FLV over HTTP.
    Flv,
    /// MPEG-TS over HTTP.
    Ts,
    /// Fragmented MP4 over HTTP.
    Mp4,
    /// HLS with MPEG-TS segments.
    Hls,
    /// HLS with fragmented MP4 segments.
    Cmaf,
    /// DASH, of the same segments.
    Dash,
    /// WebRTC, with signalling over WebSocket.
    WebRtc,
    /// WebRTC, with signalling by WHEP.
    Whep,
    /// The player page.
    Page,
}

/// Where the server is reached, as far as the asking player is concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// `HOST:PORT` of HTTP.
    pub http: String,
    /// `HOST` or `HOST:PORT` of RTMP; None when it is not served to players.
    pub rtmp: Option<String>,
    /// Formats whose connectors are not on.
    pub off: Vec<Format>,
}

/// Why there is nothing to play.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Unavailable {
    /// Not configured, or nobody publishes. One text for both, so that names cannot be probed.
    Offline,
    /// A publisher is connected, and has not sent enough to begin with.
    Waiting,
}

impl Addresses {
    /// From the Host of a request; a `pubaddr` of the configuration goes before it.
    pub fn of(protocols: &Protocols, host: &str) -> Self {
        let public = protocols
            .http
            .iter()
            .flat_map(|http| &http.public_addresses)
            .next();
        let http = match public {
            Some(address) => {
                let bare = address
                    .split_once("://")
                    .map_or(&**address, |(_, rest)| rest);
                bare.split('/').next().unwrap_or("").to_owned()
            }
            None => host.to_owned(),
        };
        let name = without_port(&http);
        let rtmp = protocols.rtmp.iter().find(|rtmp| rtmp.play);
        Self {
            rtmp: rtmp.map(|rtmp| match rtmp.listen.port() {
                1935 => name.to_owned(),
                port => format!("{name}:{port}"),
            }),
            http,
            off: [
                (protocols.flv, Format::Flv),
                (protocols.ts, Format::Ts),
                (protocols.mp4, Format::Mp4),
                (protocols.hls, Format::Hls),
                (protocols.cmaf, Format::Cmaf),
                (protocols.cmaf, Format::Dash),
                (protocols.webrtc, Format::WebRtc),
                (protocols.webrtc, Format::Whep),
            ]
            .into_iter()
            .filter(|(is_on, _)| !is_on)
            .map(|(_, format)| format)
            .collect(),
        }
    }
}

/// `[::1]:8080` without its port is `[::1]`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

/// The answer to `/json_NAME.js`.
pub fn json(info: Result<&StreamInfo, Unavailable>, addresses: &Addresses) -> Value {
    match info {
        Ok(info) => info.to_json(addresses),
        Err(unavailable) => json!({"error": unavailable.text()}),
    }
}

/// The answer to `/info_NAME.js`: a script that leaves the same in `mistvideo['NAME']`.
pub fn script(name: &StreamName, json: &Value) -> String {
    let name = escape_script(name.as_str());
    format!(
        "// Generating info code for stream {name}\n\n\
         if (!mistvideo){{var mistvideo ={{}};}}\nmistvideo['{name}'] = {json};\n"
    )
}

/// Leaves nothing in a name that could end a comment, a string or a script element.
fn escape_script(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for unit in name.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii_alphanumeric() || b"_.-+ ".contains(&byte) => {
                out.push(char::from(byte));
            }
            Ok(_) | Err(_) => out.push_str(&format!("\\u{unit:04X}")),
        }
    }
    out
}

impl Unavailable {
    /// MistServer's words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Offline => "Stream is offline",
            Self::Waiting => "Stream is waiting for data",
        }
    }
}

impl StreamInfo {
    /// Members are in alphabetical order, as MistServer writes them.
    fn to_json(&self, addresses: &Addresses) -> Value {
        let mut tracks: Map<_, _> = self
            .tracks
            .iter()
            .map(|track| (track.name(), track.to_json()))
            .collect();
        tracks.sort_keys();
        let video = self
            .tracks
            .iter()
            .filter_map(|track| track.track.video)
            .max_by_key(|video| u64::from(video.width) * u64::from(video.height))
            .unwrap_or_default();
        let first = self.tracks.iter().map(|track| track.first).min();
        let last = self.tracks.iter().map(|track| track.last).max();
        let window = last.unwrap_or_default().since(first.unwrap_or_default());
        let jitter = self.tracks.iter().map(|track| track.jitter).max();
        let sources: Vec<_> = self
            .outputs
            .iter()
            .filter_map(|output| self.source(output, addresses))
            .collect();
        json!({
            "capa": {"datachannels": true, "selver": 2, "ssl": false},
            "height": video.height,
            "meta": {
                "bframes": u8::from(self.bframes),
                "buffer_window": millis(window),
                "jitter": millis(jitter.unwrap_or_default()),
                "live": 1,
                "maxkeepaway": millis(self.keep_away),
                "tracks": tracks,
                "version": 4,
            },
            "selver": 2,
            "source": sources,
            "type": "live",
            "unixoffset": self.unix_zero_ms,
            "width": video.width,
        })
    }

    /// None where a format carries no track, or its port is closed.
    fn source(&self, output: &Output, addresses: &Addresses) -> Option<Value> {
        if addresses.off.contains(&output.format) {
            return None;
        }
        let carried = |track: &&TrackInfo| !output.left_out.contains(&track.track.id);
        let carried_tracks = self.tracks.iter().filter(carried).count();
        let kinds = [Kind::Video, Kind::Audio].into_iter().filter(|kind| {
            let mut tracks = self.tracks.iter().filter(carried);
            tracks.any(|track| track.track.kind() == *kind)
        });
        let kinds = kinds.count();
        if kinds == 0 {
            return None;
        }
        let left_out: Vec<_> = self
            .tracks
            .iter()
            .filter(|track| !carried(track))
            .map(TrackInfo::name)
            .collect();
        let path = output.format.path(&self.name);
        let root = match (output.format, &addresses.rtmp) {
            (Format::Rtmp, None) => return None,
            (Format::Rtmp, Some(rtmp)) => format!("rtmp://{rtmp}/"),
            (Format::WebRtc, _) => format!("ws://{}/", addresses.http),
            (
                Format::Flv
                | Format::Ts
                | Format::Mp4
                | Format::Hls
                | Format::Cmaf
                | Format::Dash
                | Format::Whep
                | Format::Page,
                _,
            ) => {
                format!("http://{}/", addresses.http)
            }
        };
        let mut source = json!({
            "hrn": output.format.title(),
            "left_out": left_out,
            "priority": output.format.priority(),
            "relurl": path,
            "simul_tracks": kinds,
            "total_matches": carried_tracks,
            "type": output.format.player_type(),
            "url": format!("{root}{path}"),
        });
        if let (true, Value::Object(members)) = (left_out.is_empty(), &mut source) {
            members.shift_remove("left_out");
        }
        Some(source)
    }
}

/// What may stand in a path segment as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

impl Format {
    fn path(self, name: &StreamName) -> String {
        let name = utf8_percent_encode(name.as_str(), SEGMENT);
        match self {
            Self::Rtmp => format!("play/{name}"),
            Self::Flv => format!("{name}.flv"),
            Self::Ts => format!("{name}.ts"),
            Self::Mp4 => format!("{name}.mp4"),
            Self::Hls => format!("hls/{name}/index.m3u8"),
            Self::Cmaf => format!("cmaf/{name}/index.m3u8"),
            Self::Dash => format!("cmaf/{name}/index.mpd"),
            Self::WebRtc => format!("webrtc/{name}"),
            Self::Whep => format!("whep/{name}"),
            Self::Page => format!("{name}.html"),
        }
    }

    /// MistServer's names, which players show.
    fn title(self) -> &'static str {
        match self {
            Self::Rtmp => "RTMP",
            Self::Flv => "FLV progressive",
            Self::Ts => "TS HTTP progressive",
            Self::Mp4 => "MP4 progressive",
            Self::Hls => "HLS (TS)",
            Self::Cmaf => "HLS (CMAF)",
            Self::Dash => "DASH",
            Self::WebRtc => "WebRTC with WebSocket signalling",
            Self::Whep => "WebRTC with WHEP signalling",
            Self::Page => "Player page",
        }
    }

    /// MistServer's types, by which players choose what they can play.
    fn player_type(self) -> &'static str {
        match self {
            Self::Rtmp => "flash/10",
            Self::Flv => "flash/7",
            Self::Ts => "html5/video/mpeg",
            Self::Mp4 => "html5/video/mp4",
            Self::Hls => "html5/application/vnd.apple.mpegurl",
            Self::Cmaf => "html5/application/vnd.apple.mpegurl;version=7",
            Self::Dash => "dash/video/mp4",
            Self::WebRtc => "webrtc",
            Self::Whep => "whep",
            Self::Page => "html5/text/html",
        }
    }

    /// MistServer's order of preference, apart from WebRTC, which it puts behind most others.
    fn priority(self) -> u8 {
        match self {
            Self::Rtmp => 7,
            Self::Flv => 5,
            Self::Ts => 1,
            Self::Mp4 | Self::Hls => 9,
            Self::Cmaf | Self::Dash => 8,
            Self::WebRtc => 11,
            Self::Whep => 12,
            Self::Page => 0,
        }
    }
}

/// MistServer's name of a track, such as `video_H264_1280x720_30fps_1`.
pub(super) fn track_name(track: &Track) -> String {
    let Track { id, codec, .. } = track;
    let format = match (&track.video, &track.audio) {
        (Some(video), _) => format!(
            "{}x{}_{}fps_",
            video.width,
            video.height,
            frames_per_second(video.frames_per_1000_s)
        ),
        (None, Some(audio)) => format!("{}ch_{}hz_", audio.channels, audio.rate),
        (None, None) => "_".to_owned(),
    };
    format!("{}_{}_{format}{id}", kind_name(track), codec.name())
}

fn kind_name(track: &Track) -> &'static str {
    match track.kind() {
        Kind::Video => "video",
        Kind::Audio => "audio",
    }
}

impl TrackInfo {
    fn name(&self) -> String {
        track_name(&self.track)
    }

    fn to_json(&self) -> Value {
        // MistServer puts bytes into a text one by one.
        let init: String = self
            .track
            .init
            .iter()
            .map(|&byte| char::from(byte))
            .collect();
        let mut members = Map::new();
        let mut put = |name: &str, value: Value| {
            members.insert(name.to_owned(), value);
        };
        put("bps", self.bytes_per_second.into());
        put("codec", self.track.codec.name().into());
        put("codecstring", self.codecs.as_str().into());
        put("firstms", self.first.as_millis().into());
        put("idx", self.track.id.0.into());
        put("init", init.into());
        put("jitter", millis(self.jitter).into());
        if !self.track.language.is_empty() {
            put("lang", self.track.language.as_str().into());
        }
        put("lastms", self.last.as_millis().into());
        put("maxbps", self.bytes_per_second_max.into());
        put("nowms", self.last.as_millis().into());
        put("trackid", (u32::from(self.track.id.0) + 1).into());
        put("type", kind_name(&self.track).into());
        if let Some(audio) = self.track.audio {
            put("channels", audio.channels.into());
            put("rate", audio.rate.into());
            put("size", audio.bits.into());
        }
        if let Some(video) = self.track.video {
            let rate = video.frames_per_1000_s;
            put("efpks", rate.into());
            put("efps", frames_per_second(rate));
            put("fpks", rate.into());
            put("fps", frames_per_second(rate));
            put("height", video.height.into());
            put("width", video.width.into());
        }
        if let Some((profile, level)) = h264_profile(&self.codecs) {
            put("h264_level", level.into());
            put("h264_profile", profile.into());
        }
        members.sort_keys();
        Value::Object(members)
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// A whole number of frames where it is one: `30`, but `29.97`.
fn frames_per_second(frames_per_1000_s: u32) -> Value {
    match frames_per_1000_s % 1000 {
        0 => (frames_per_1000_s / 1000).into(),
        _ => (f64::from(frames_per_1000_s) / 1000.0).into(),
    }
}

/// Profile and level from `avc1.PPCCLL` (RFC 6381 section 3.3).
fn h264_profile(codecs: &str) -> Option<(&'static str, String)> {
    let digits = codecs
        .strip_prefix("avc1.")
        .filter(|digits| digits.len() == 6)?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    let profile = match number >> 16 {
        66 => "Baseline",
        77 => "Main",
        88 => "Extended",
        100 => "High",
        110 => "High 10",
        122 => "High 4:2:2",
        244 => "High 4:4:4",
        _ => "Unknown",
    };
    let level = number & 0xff;
    Some((profile, format!("{}.{}", level / 10, level % 10)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::config::parse;
    use crate::media::{AudioFormat, Codec, VideoFormat};

    use super::*;

    const JSON: &str = include_str!("../../tests/data/mistserver/json_live.js");
    const SCRIPT: &str = include_str!("../../tests/data/mistserver/info_live.js");

    fn golden() -> Value {
        serde_json::from_str(JSON).unwrap()
    }

    fn bytes_of(track: &Value) -> Bytes {
        track["init"]
            .as_str()
            .unwrap()
            .chars()
            .map(|c| c as u8)
            .collect()
    }

    /// The stream that the golden data shows.
    fn live() -> StreamInfo {
        let golden = golden();
        let tracks = &golden["meta"]["tracks"];
        let video = TrackInfo {
            track: Track {
                id: TrackId(1),
                codec: Codec::H264,
                init: bytes_of(&tracks["video_H264_1280x720_30fps_1"]),
                video: Some(VideoFormat {
                    width: 1280,
                    height: 720,
                    frames_per_1000_s: 30_000,
                }),
                audio: None,
                language: String::new(),
                rid: String::new(),
            },
            codecs: "avc1.4d401f".to_owned(),
            first: MediaTime::from_millis(21),
            last: MediaTime::from_millis(11_021),
            bytes_per_second: 237_462,
            bytes_per_second_max: 251_425,
            jitter: Duration::from_millis(34),
        };
        let audio = TrackInfo {
            track: Track {
                id: TrackId(2),
                codec: Codec::Aac,
                init: bytes_of(&tracks["audio_AAC_2ch_48000hz_2"]),
                video: None,
                audio: Some(AudioFormat {
                    rate: 48_000,
                    channels: 2,
                    bits: 16,
                }),
                language: String::new(),
                rid: String::new(),
            },
            codecs: "mp4a.40.2".to_owned(),
            first: MediaTime::ZERO,
            last: MediaTime::from_millis(11_008),
            bytes_per_second: 15_997,
            bytes_per_second_max: 16_019,
            jitter: Duration::from_millis(30),
        };
        let output = |format| Output {
            format,
            left_out: Vec::new(),
        };
        StreamInfo {
            name: StreamName::parse("live").unwrap(),
            tracks: vec![video, audio],
            bframes: false,
            unix_zero_ms: 1_795_191_841_558,
            keep_away: Duration::from_millis(45_000),
            outputs: [Format::Rtmp, Format::Ts, Format::Flv].map(output).to_vec(),
        }
    }

    fn addresses() -> Addresses {
        Addresses::of(&Protocols::default(), "127.0.0.1:8080")
    }

    /// What this server writes, with what only MistServer has put in, or left out on both sides.
    fn comparable(mut json: Value) -> Value {
        let members = json.as_object_mut().unwrap();
        members.remove("capa");
        let meta = members["meta"].as_object_mut().unwrap();
        // A track that MistServer adds and that never has a frame; its jitter is the stream's.
        let tracks = meta["tracks"].as_object_mut().unwrap();
        tracks.remove("meta_JSON__0");
        // The publisher's own numbering there, `idx` + 1 here.
        for track in tracks.values_mut() {
            track.as_object_mut().unwrap().remove("trackid");
        }
        meta.remove("jitter");
        meta.remove("buffer_window");
        let sources = members["source"].as_array_mut().unwrap();
        sources.retain(|source| {
            let title = source["hrn"].as_str().unwrap();
            ["RTMP", "TS HTTP progressive", "FLV progressive"].contains(&title)
        });
        for source in sources {
            let source = source.as_object_mut().unwrap();
            for name in ["player_url", "simul_tracks", "total_matches"] {
                source.remove(name);
            }
            for name in ["url", "relurl"] {
                let url = source[name].as_str().unwrap();
                source[name] = url.split('?').next().unwrap().into();
            }
        }
        json
    }

    #[test]
    fn a_stream_is_described_as_mistserver_does() {
        let ours = json(Ok(&live()), &addresses());
        assert_eq!(comparable(ours), comparable(golden()));
    }

    #[test]
    fn members_are_in_mistservers_order() {
        fn assert_sorted(value: &Value) {
            match value {
                Value::Object(members) => {
                    assert!(members.keys().is_sorted_by(|a, b| a < b), "{members:?}");
                    members.values().for_each(assert_sorted);
                }
                Value::Array(items) => items.iter().for_each(assert_sorted),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        assert_sorted(&json(Ok(&live()), &addresses()));
    }

    #[test]
    fn the_script_leaves_the_same_value() {
        let golden = golden();
        let script = script(&live().name, &golden);
        let (ours, theirs) = (script.find('{').unwrap(), SCRIPT.find('{').unwrap());
        assert_eq!(script[..ours], SCRIPT[..theirs]);
        assert!(script.contains("mistvideo['live'] = {\"capa\":"));
        assert!(script.ends_with("};\n"));
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_script() {
        let name = StreamName::parse("a+'];alert(1)//\u{2028}</script>é").err();
        assert!(name.is_some(), "a slash is in it");
        let name = StreamName::parse("a+'];alert(1)\u{2028}<b>é").unwrap();
        let script = script(&name, &Value::Null);
        assert!(script.contains("mistvideo['a+\\u0027\\u005D\\u003Balert\\u00281\\u0029\\u2028"));
        assert!(script.is_ascii());
        assert!(!script.contains('<'));
    }

    #[test]
    fn what_a_format_cannot_carry_is_named() {
        let mut info = live();
        info.outputs[0].left_out = vec![TrackId(2)];
        info.outputs[1].left_out = vec![TrackId(1), TrackId(2)];
        let json = json(Ok(&info), &addresses());
        let sources = json["source"].as_array().unwrap();
        assert_eq!(
            sources.len(),
            2,
            "a format that carries nothing is not offered"
        );
        assert_eq!(sources[0]["left_out"], json!(["audio_AAC_2ch_48000hz_2"]));
        assert_eq!(sources[0]["simul_tracks"], 1);
        assert_eq!(sources[1].get("left_out"), None);
    }

    #[test]
    fn an_unavailable_stream_has_an_error() {
        let offline = json(Err(Unavailable::Offline), &addresses());
        assert_eq!(offline, json!({"error": "Stream is offline"}));
        let waiting = json(Err(Unavailable::Waiting), &addresses());
        assert_eq!(waiting["error"], "Stream is waiting for data");
    }

    #[test]
    fn wildcards_are_encoded_in_urls() {
        let mut info = live();
        info.name = StreamName::parse("live+a b").unwrap();
        let json = json(Ok(&info), &addresses());
        assert_eq!(json["source"][1]["relurl"], "live%2Ba%20b.ts");
    }

    #[test]
    fn addresses_follow_host_ports_and_configuration() {
        let of = |protocols: &str, host: &str| {
            let text = format!(r#"{{"config":{{"protocols":{protocols}}}}}"#);
            Addresses::of(&parse(&text, "c").unwrap().config.protocols, host)
        };
        let both = r#"[{"connector":"HTTP"},{"connector":"RTMP","port":1936}]"#;
        assert_eq!(of(both, "[::1]:8080").rtmp.as_deref(), Some("[::1]:1936"));
        assert_eq!(of(both, "[::1]").rtmp.as_deref(), Some("[::1]:1936"));
        let public = r#"[{"connector":"HTTP","pubaddr":"http://example.org:80/x"}]"#;
        let addresses = of(public, "10.0.0.1:8080");
        assert_eq!(addresses.http, "example.org:80");
        assert_eq!(addresses.rtmp, None);
    }
}
