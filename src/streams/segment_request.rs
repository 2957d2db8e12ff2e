//! What a request below `/hls/` and `/cmaf/` asks for.

use std::net::IpAddr;
use std::ops::Range;

use crate::media::{Codec, Kind, MediaTime, Track};
use crate::proto::hls;
use crate::proto::http::{Method, Request};
use crate::streams::output::{Choice, Selection};
use crate::streams::segments::listing::Listing;
use crate::streams::segments::playlists::{Clip, Facts};
use crate::streams::segments::{Form, Key};

/// A resource of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum File {
    /// `index.m3u8`
    Master,
    /// `index.mpd`
    Description,
    /// `TRACKS/index.m3u8`
    Playlist(Key),
    /// `TRACK/init_VERSION.m4s`
    Init(Key, u32),
    /// `TRACK/chunk_NUMBER.m4s`, `TRACKS/NUMBER.ts`
    Segment(Key, u64),
    /// `TRACK/chunk_NUMBER.PART.m4s`, `TRACKS/NUMBER.PART.ts`
    Part(Key, u64, u32),
}

impl File {
    /// Reads what stands behind the stream's name.
    pub(super) fn parse(form: Form, path: &str) -> Option<Self> {
        let Some((rendition, file)) = path.split_once('/') else {
            return match (form, path) {
                (_, "index.m3u8") => Some(Self::Master),
                (Form::Cmaf, "index.mpd") => Some(Self::Description),
                _ => None,
            };
        };
        let key = Key::parse(form, rendition)?;
        if file == "index.m3u8" {
            return Some(Self::Playlist(key));
        }
        let stem = match form {
            Form::Ts => file.strip_suffix(".ts")?,
            Form::Cmaf => {
                let stem = file.strip_suffix(".m4s")?;
                if let Some(version) = stem.strip_prefix("init_") {
                    return Some(Self::Init(key, number(version)?.try_into().ok()?));
                }
                stem.strip_prefix("chunk_")?
            }
        };
        match stem.split_once('.') {
            None => Some(Self::Segment(key, number(stem)?)),
            Some((segment, part)) => {
                let part = number(part)?.try_into().ok()?;
                Some(Self::Part(key, number(segment)?, part))
            }
        }
    }
}

/// Digits alone, and no more than a number has that is written once.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit())
        && text.len() <= 19
        && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// A span as a request names it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct AskedClip {
    /// Milliseconds of the stream; below zero from the live edge.
    start_ms: Option<i64>,
    stop_ms: Option<i64>,
    /// Unix seconds.
    start_unix: Option<f64>,
    stop_unix: Option<f64>,
    /// Seconds from the start.
    duration: Option<f64>,
}

impl AskedClip {
    pub(super) fn is_all(self) -> bool {
        self == Self::default()
    }

    /// Where it is on the stream's timeline, whose zero is at `zero_unix_ms` on the wall clock.
    pub(super) fn on_timeline(self, zero_unix_ms: i64, listing: &Listing) -> Clip {
        let newest = listing
            .segments()
            .next_back()
            .map_or(MediaTime::ZERO, |segment| segment.opening.start);
        let from_ms = |ms: i64| {
            if ms < 0 {
                newest + MediaTime::from_millis(ms)
            } else {
                MediaTime::from_millis(ms)
            }
        };
        let from_unix = |seconds: f64| {
            // Bounded by `read`.
            MediaTime::from_millis((seconds * 1000.0) as i64 - zero_unix_ms)
        };
        let start = self
            .start_ms
            .map(from_ms)
            .or_else(|| self.start_unix.map(from_unix));
        let stop = self
            .stop_ms
            .map(from_ms)
            .or_else(|| self.stop_unix.map(from_unix));
        let by_duration = self.duration.map(|seconds| {
            let from = start.unwrap_or_else(|| {
                let oldest = listing.segments().next();
                oldest.map_or(MediaTime::ZERO, |segment| segment.opening.start)
            });
            from + MediaTime::from_millis((seconds * 1000.0) as i64)
        });
        Clip {
            start,
            stop: stop.or(by_duration),
        }
    }
}

/// One range of RFC 9110 section 14.1.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AskedRange {
    /// `FIRST-` or `FIRST-LAST`
    From(u64, Option<u64>),
    /// `-LENGTH`
    Last(u64),
}

impl AskedRange {
    /// A single range of bytes. Several, other units and what cannot be read are ignored, as the
    /// RFC allows.
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(first) || !digits(last) {
            return None;
        }
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Some(Self::From(first, Some(last))),
            (Ok(first), Err(_)) if last.is_empty() => Some(Self::From(first, None)),
            (Err(_), Ok(length)) if first.is_empty() => Some(Self::Last(length)),
            _ => None,
        }
    }

    /// The bytes of a body of `length` that it means; `None` if there are none.
    pub(super) fn of(self, length: usize) -> Option<Range<usize>> {
        let bound = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(length);
        let range = match self {
            Self::From(first, last) => {
                bound(first)..last.map_or(length, |last| bound(last.saturating_add(1)))
            }
            Self::Last(count) => length - bound(count)..length,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// A request, with what of its head matters.
#[derive(Clone, Debug)]
pub(super) struct SegmentRequest {
    pub(super) form: Form,
    pub(super) file: File,
    pub(super) reload: hls::BlockingReload,
    pub(super) clip: AskedClip,
    /// `llhls=0` asks for a playlist without parts.
    pub(super) low_latency: bool,
    selection: Selection,
    /// `audio=` was given.
    chooses_audio: bool,
    pub(super) takes_gzip: bool,
    pub(super) takes_chunks: bool,
    pub(super) is_head: bool,
    pub(super) range: Option<AskedRange>,
    pub(super) if_none_match: Option<String>,
    /// Of the session; in the query, in a cookie.
    pub(super) token_in_query: Option<String>,
    pub(super) token_in_cookie: Option<String>,
    /// What a token is made of where there is none.
    pub(super) agent: String,
    /// What playlists named in the answer inherit of the query.
    pass_on: String,
    /// The token that is told, by query and by cookie.
    pub(super) told_token: Option<String>,
    pub(super) told_cookie: Option<String>,
    /// The session it counts for.
    pub(super) session: u64,
    pub(super) address: Option<IpAddr>,
}

/// The longest session token that is taken.
const TOKEN_BYTES_MAX: usize = 64;

/// The most of a User-Agent that tells viewers apart.
const AGENT_CHARS_MAX: usize = 200;

impl SegmentRequest {
    /// Reads a request; a line that says what is wrong with it if it cannot be answered.
    pub(super) fn read(request: &Request, form: Form, file: File) -> Result<Self, &'static str> {
        let reload = match file {
            File::Playlist(_) => hls::BlockingReload::parse(request.query()).map_err(
                |_| "_HLS_msn and _HLS_part take numbers, and _HLS_part needs _HLS_msn.",
            )?,
            File::Master
            | File::Description
            | File::Init(..)
            | File::Segment(..)
            | File::Part(..) => hls::BlockingReload::default(),
        };
        let mut asked = Self {
            form,
            file,
            reload,
            clip: AskedClip::default(),
            low_latency: true,
            selection: Selection {
                video: Choice::All,
                audio: Choice::All,
            },
            chooses_audio: false,
            takes_gzip: request.lists("accept-encoding", "gzip"),
            takes_chunks: request.takes_chunks(),
            is_head: request.method == Method::Head,
            range: request.header("range").and_then(AskedRange::parse),
            if_none_match: request.header("if-none-match").map(str::to_owned),
            token_in_query: None,
            token_in_cookie: request
                .values("cookie")
                .flat_map(|cookies| cookies.split(';'))
                .filter_map(|cookie| cookie.trim().strip_prefix("tkn="))
                .find(|token| is_token(token))
                .map(str::to_owned),
            agent: String::new(),
            pass_on: String::new(),
            told_token: None,
            told_cookie: None,
            session: 0,
            address: None,
        };
        // The names that matter have no characters that would be encoded.
        for pair in request.query().split('&') {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            match name {
                "tkn" | "start" | "stop" | "startunix" | "stopunix" | "duration" | "video"
                | "audio" | "llhls" => {
                    let value = request.parameter(name).unwrap_or_default();
                    asked.take(name, &value)?;
                }
                _ => {}
            }
        }
        if asked.token_in_query.is_none() && asked.token_in_cookie.is_none() {
            let agent = request.header("user-agent").unwrap_or("");
            asked.agent = agent.chars().take(AGENT_CHARS_MAX).collect();
        }
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        let millis = || {
            let time = value.parse::<i64>().ok().filter(|ms| ms.abs() < TIME_MAX);
            time.map(Some).ok_or("start= and stop= take milliseconds.")
        };
        let seconds = || {
            let time = value.parse::<f64>().ok();
            time.filter(|seconds| seconds.abs() < TIME_MAX as f64 / 1000.0)
                .map(Some)
                .ok_or("startunix=, stopunix= and duration= take seconds.")
        };
        match name {
            "tkn" => self.token_in_query = Some(value.to_owned()).filter(|token| is_token(token)),
            "start" => self.clip.start_ms = millis()?,
            "stop" => self.clip.stop_ms = millis()?,
            "startunix" => self.clip.start_unix = seconds()?,
            "stopunix" => self.clip.stop_unix = seconds()?,
            "duration" => self.clip.duration = seconds()?.filter(|seconds| *seconds >= 0.0),
            "video" => self.selection.video = Choice::parse(value).ok_or(SELECTORS)?,
            "audio" => {
                self.chooses_audio = true;
                self.selection.audio = Choice::parse(value).ok_or(SELECTORS)?;
            }
            "llhls" => self.low_latency = value != "0",
            _ => {}
        }
        // What was read is a number, or it would have been refused; of llhls only its 0 is passed on.
        let is_passed_on = !matches!(name, "tkn" | "video" | "audio")
            && (name != "llhls" || !self.low_latency)
            && self.file == File::Master;
        if is_passed_on {
            self.pass_on
                .push(if self.pass_on.is_empty() { '?' } else { '&' });
            self.pass_on.push_str(name);
            self.pass_on.push('=');
            self.pass_on.extend(
                value
                    .chars()
                    .filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)),
            );
        }
        Ok(())
    }

    /// Whether a track is one that was asked for and can be carried.
    pub(super) fn takes(&self, track: &Track) -> bool {
        let choice = match track.kind() {
            Kind::Video => &self.selection.video,
            Kind::Audio => &self.selection.audio,
        };
        self.form.container().carries(track.codec) && choice.takes(track, 0)
    }

    /// Leaves those tracks that a playlist offers. Of sound in several codecs it offers the one that
    /// most players know, unless the request chooses: players of one codec do not need the others,
    /// and some cannot go from one to another.
    pub(super) fn offered(&self, mut facts: Vec<Facts>) -> Vec<Facts> {
        facts.retain(|facts| self.takes(&facts.track));
        let sounds = facts.iter().filter_map(|facts| rank(facts.track.codec));
        if let Some(best) = sounds.min().filter(|_| !self.chooses_audio) {
            facts.retain(|facts| rank(facts.track.codec).is_none_or(|rank| rank == best));
        }
        facts
    }

    /// The query of playlists named in the answer, with its question mark.
    pub(super) fn inherited(&self) -> String {
        let mut query = self.pass_on.clone();
        if let Some(token) = &self.told_token {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str("tkn=");
            query.push_str(token);
        }
        query
    }
}

const SELECTORS: &str = "video= and audio= take none, all, a track number or a codec's name.";

/// 1000 years in milliseconds: beyond that a time is a mistake.
const TIME_MAX: i64 = 1000 * 366 * 86_400 * 1000;

/// Codecs of sound in the order in which players of HLS know them.
fn rank(codec: Codec) -> Option<u8> {
    match codec {
        Codec::Aac => Some(0),
        Codec::Mp3 => Some(1),
        Codec::Ac3 => Some(2),
        Codec::Eac3 => Some(3),
        Codec::Opus => Some(4),
        Codec::Flac => Some(5),
        Codec::Ulaw
        | Codec::Alaw
        | Codec::G722
        | Codec::H264
        | Codec::Hevc
        | Codec::Av1
        | Codec::Vp8
        | Codec::Vp9 => None,
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= TOKEN_BYTES_MAX
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TrackId;

    fn key(form: Form, track: u16) -> Key {
        Key::new(form, [TrackId(track)])
    }

    #[test]
    fn files_are_read_and_nothing_else_is() {
        let ts = |path| File::parse(Form::Ts, path);
        let cmaf = |path| File::parse(Form::Cmaf, path);
        assert_eq!(ts("index.m3u8"), Some(File::Master));
        assert_eq!(cmaf("index.mpd"), Some(File::Description));
        assert_eq!(ts("index.mpd"), None);
        assert_eq!(
            cmaf("2/index.m3u8"),
            Some(File::Playlist(key(Form::Cmaf, 1)))
        );
        assert_eq!(
            cmaf("1/init_3.m4s"),
            Some(File::Init(key(Form::Cmaf, 0), 3))
        );
        assert_eq!(
            cmaf("1/chunk_1700.4.m4s"),
            Some(File::Part(key(Form::Cmaf, 0), 1700, 4))
        );
        assert_eq!(ts("1/1700.ts"), Some(File::Segment(key(Form::Ts, 0), 1700)));
        for bad in [
            "",
            "1",
            "1/",
            "1/../index.m3u8",
            "../index.m3u8",
            "1/2/index.m3u8",
            "1/chunk_.m4s",
            "1/chunk_-1.m4s",
            "1/chunk_01.m4s",
            "1/chunk_1.m4s.m4s",
            "1/chunk_1.2.3.m4s",
            "1/chunk_99999999999999999999.m4s",
            "1/chunk_1.4294967296.m4s",
        ] {
            assert_eq!(cmaf(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_are_those_of_the_rfc() {
        let of = |text: &str| AskedRange::parse(text).map(|range| range.of(100));
        assert_eq!(of("bytes=0-9"), Some(Some(0..10)));
        assert_eq!(of("bytes=90-"), Some(Some(90..100)));
        assert_eq!(of("bytes=90-1000"), Some(Some(90..100)));
        assert_eq!(of("bytes=-10"), Some(Some(90..100)));
        assert_eq!(of("bytes=-1000"), Some(Some(0..100)));
        assert_eq!(of("bytes=100-"), Some(None), "not satisfiable");
        assert_eq!(of("bytes=-0"), Some(None));
        for ignored in [
            "bytes=5-4",
            "bytes=0-1,5-6",
            "items=0-1",
            "bytes=a-b",
            "bytes=-",
            "bytes=+1-2",
        ] {
            assert_eq!(of(ignored), None, "{ignored}");
        }
    }
}
