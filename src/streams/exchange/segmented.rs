//! Requests for playlists, segments and parts.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::http::not_found;
use super::{Business, Exchange, HttpReply, Output, Want};
use crate::base::ids::{ConnId, StreamId};
use crate::hub::Pieces;
use crate::proto::hls;
use crate::proto::http::{Request, Response};
use crate::streams::exchange::answers::{self, Caching};
use crate::streams::name::StreamName;
use crate::streams::segment_request::{File, SegmentRequest};
use crate::streams::segments::listing::Listing;
use crate::streams::segments::playlists::{self, Presentation};
use crate::streams::segments::rendition::{Follower, Rendition, Version, Waiter, compress};
use crate::streams::segments::{Form, Key};
use crate::streams::stream::Stream;

/// Requests of one shard that may wait for a part or a segment. Each takes about 500 bytes.
const WAITERS_MAX: usize = 50_000;

/// The longest that a request for what comes next waits, if three target durations are not less:
/// a player asks again (RFC 8216bis 6.2.5.2).
const WAIT_MAX: Duration = Duration::from_secs(20);

/// The longest that a request for a stream that has just begun waits for its first part.
const FIRST_PART_MAX: Duration = Duration::from_secs(10);

/// The time, for players whose clock is wrong (ISO/IEC 23009-1 section 5.8.4.11).
pub(super) const TIME_PATH: &str = "/time";

impl Exchange {
    /// A request below `/hls/` or `/cmaf/`.
    pub(super) fn http_segmented(
        &mut self,
        conn: ConnId,
        from: IpAddr,
        request: &Request,
        (name, form, file): (StreamName, Form, File),
    ) {
        let is_on = match form {
            Form::Ts => self.config.protocols.hls,
            Form::Cmaf => self.config.protocols.cmaf,
        };
        if name.settings(&self.config).is_none() || !is_on || self.is_draining {
            self.counters.play_refused += 1;
            self.respond(conn, not_found());
            return;
        }
        match SegmentRequest::read(request, form, file) {
            Ok(mut request) => {
                request.address = Some(from);
                self.note_session(&name, &mut request);
                if self.sessions.is_stopped(self.now, request.session) {
                    let text = "This session was ended.";
                    self.respond(conn, Response::text(403, text).with_cors());
                    return;
                }
                self.segmented(conn, name, Box::new(request));
            }
            Err(text) => self.respond(conn, Response::text(400, text).with_cors()),
        }
    }

    fn segmented(&mut self, conn: ConnId, name: StreamName, request: Box<SegmentRequest>) {
        let now = self.now;
        let is_ready = |stream: &mut Stream| stream.is_ready(now);
        match self.by_name.get(&name).copied() {
            Some(id) if self.streams.get_mut(&id).is_some_and(is_ready) => {
                self.segmented_here(conn, id, request);
            }
            Some(_) | None => self.want(conn, name, Want::Segmented(request)),
        }
    }

    /// Answers from what is here, or has the request wait for it.
    pub(super) fn segmented_here(
        &mut self,
        conn: ConnId,
        id: StreamId,
        request: Box<SegmentRequest>,
    ) {
        let Some(stream) = self.streams.get(&id) else {
            self.respond(conn, not_found());
            return;
        };
        match request.file {
            File::Master => {
                let response = self.master(stream, &request);
                self.respond(conn, response);
            }
            File::Description => self.description(conn, id, request),
            File::Playlist(ref key)
            | File::Init(ref key, _)
            | File::Segment(ref key, _)
            | File::Part(ref key, _, _) => {
                if !key.is_of(&stream.tracks) {
                    self.respond(conn, answers::no_rendition());
                    return;
                }
                let key = key.clone();
                if !self.need(id, &key) {
                    self.respond(conn, answers::busy());
                    return;
                }
                self.answer_from(conn, id, &key, request);
            }
        }
    }

    fn master(&self, stream: &Stream, request: &SegmentRequest) -> Response {
        let facts = request.offered(stream.facts());
        if facts.is_empty() {
            return answers::no_rendition();
        }
        let playlist = playlists::master(request.form, &facts, &request.inherited());
        let mut text = String::new();
        playlist.write(&mut text);
        answers::text(request, text.into(), false, Caching::Never)
    }

    fn description(&mut self, conn: ConnId, id: StreamId, request: Box<SegmentRequest>) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let facts = request.offered(stream.facts());
        let keys: Vec<Key> = facts
            .iter()
            .map(|facts| Key::new(Form::Cmaf, [facts.track.id]))
            .collect();
        if keys.is_empty() {
            self.respond(conn, answers::no_rendition());
            return;
        }
        for key in &keys {
            if !self.need(id, key) {
                self.respond(conn, answers::busy());
                return;
            }
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let lacking = keys.iter().find(|key| {
            let listing = stream.renditions.get(key).and_then(|r| r.listing.as_ref());
            !listing.is_some_and(Listing::has_media)
        });
        if let Some(key) = lacking.cloned() {
            self.wait(conn, id, &key, request, None);
            return;
        }
        let window = stream
            .name
            .settings(&self.config)
            .map_or(Duration::ZERO, |s| s.window);
        let tracks = facts
            .into_iter()
            .zip(&keys)
            .filter_map(|(facts, key)| Some((facts, stream.renditions.get(key)?.listing.as_ref()?)))
            .collect();
        let presentation = Presentation {
            zero_unix_ms: stream.unix_zero_ms,
            unix_ms: self.unix_ms,
            window,
            time_url: TIME_PATH.to_owned(),
            tracks,
        };
        let mut text = String::new();
        playlists::mpd(&presentation).write(&mut text);
        let is_packed = request.takes_gzip;
        let body = if is_packed {
            compress(text.as_bytes())
        } else {
            text.into()
        };
        let response = answers::text(&request, body, is_packed, Caching::Second);
        self.respond(conn, response);
    }

    fn answer_from(&mut self, conn: ConnId, id: StreamId, key: &Key, request: Box<SegmentRequest>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(listing) = stream.renditions.get(key).and_then(|r| r.listing.as_ref()) else {
            self.wait(conn, id, key, request, None);
            return;
        };
        match request.file {
            File::Master | File::Description => self.segmented_here(conn, id, request),
            File::Playlist(_) => {
                if !listing.has_media() {
                    self.wait(conn, id, key, request, None);
                    return;
                }
                if let Some(msn) = request.reload.msn {
                    let newest = listing.newest().map_or(0, |(number, _)| number);
                    if msn > newest + 2 {
                        self.respond(conn, answers::too_far());
                        return;
                    }
                    if !listing.has(msn, request.reload.part) {
                        let target = Some((msn, request.reload.part));
                        self.wait(conn, id, key, request, target);
                        return;
                    }
                }
                let response = self.media_playlist(id, key, &request);
                self.respond(conn, response);
            }
            File::Init(_, version) => match listing.init(version).cloned() {
                Some(bytes) => {
                    let response = answers::init(&request, version, bytes);
                    self.respond(conn, response);
                }
                None if listing.newest().is_none() => self.wait(conn, id, key, request, None),
                None => self.respond(conn, answers::not_kept()),
            },
            File::Segment(_, number) => match listing.segment(number) {
                Some(segment) if segment.is_gap => self.respond(conn, answers::not_kept()),
                Some(segment) => match &segment.whole {
                    Some((_, pieces)) => {
                        let pieces = pieces.clone();
                        self.answer_bytes(conn, id, &request, pieces);
                    }
                    None => self.follow(conn, id, key, request, (number, None)),
                },
                // The description names the one after the newest, and players ask for it early.
                None if listing
                    .newest()
                    .is_some_and(|(newest, _)| number == newest + 1) =>
                {
                    self.follow(conn, id, key, request, (number, None));
                }
                None => self.respond(conn, answers::not_kept()),
            },
            File::Part(_, number, part) => {
                let found = listing
                    .segment(number)
                    .and_then(|segment| segment.parts.get(part as usize));
                if let Some(found) = found {
                    let pieces = found.pieces.clone();
                    self.answer_bytes(conn, id, &request, pieces);
                    return;
                }
                let newest = listing.newest().map_or(0, |(number, _)| number);
                let is_next = listing.next_part() == Some((number, part as usize));
                // The segment may end earlier than whoever asks expects.
                let is_after = number == newest + 1 && part == 0;
                if is_next || is_after {
                    self.follow(conn, id, key, request, (number, Some(part)));
                } else {
                    self.respond(conn, answers::not_kept());
                }
            }
        }
    }

    fn media_playlist(&mut self, id: StreamId, key: &Key, request: &SegmentRequest) -> Response {
        let Some(stream) = self.streams.get_mut(&id) else {
            return not_found();
        };
        if !request.clip.is_all() {
            let listing = stream.renditions.get(key).and_then(|r| r.listing.as_ref());
            let Some(listing) = listing else {
                return not_found();
            };
            let zero = stream.unix_zero_ms;
            let clip = request.clip.on_timeline(zero, listing);
            let has_parts = request.low_latency && clip.stop.is_none();
            let mut text = String::new();
            playlists::media(key.form, listing, has_parts, clip, Vec::new())
                .write(false, &mut text);
            return answers::text(request, text.into(), false, Caching::Never);
        }
        let version = match (request.low_latency, request.reload.skip) {
            (false, _) => Version::Plain,
            (true, None) => Version::LowLatency,
            (true, Some(_)) => Version::Delta,
        };
        let is_fresh = stream
            .renditions
            .get(key)
            .is_some_and(|rendition| rendition.is_fresh(version));
        let others = if is_fresh {
            Vec::new()
        } else {
            reports(stream, key)
        };
        let Some(rendition) = stream.renditions.get_mut(key) else {
            return not_found();
        };
        let Some((body, is_packed)) = rendition.playlist(version, request.takes_gzip, others)
        else {
            return not_found();
        };
        let target = rendition.listing.as_ref().map_or(1, Listing::target_s);
        let caching = if request.reload.msn.is_some() {
            Caching::Seconds(6 * target)
        } else {
            Caching::Second
        };
        answers::text(request, body, is_packed, caching)
    }

    fn answer_bytes(
        &mut self,
        conn: ConnId,
        id: StreamId,
        request: &SegmentRequest,
        pieces: Pieces,
    ) {
        let (response, pieces) = answers::bytes(request, pieces);
        if !request.is_head {
            let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
            self.count_segment_bytes(id, request, bytes);
        }
        if response.status == 304 || response.status == 416 {
            self.respond(conn, response);
        } else {
            self.http(conn, HttpReply::Shared(response, pieces));
        }
    }

    fn count_segment_bytes(&mut self, id: StreamId, request: &SegmentRequest, bytes: u64) {
        self.counters.segment_bytes_out[request.form as usize] += bytes;
        self.sessions.add_bytes(request.session, bytes);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.segment_bytes_out[request.form as usize] += bytes;
        }
    }

    fn wait(
        &mut self,
        conn: ConnId,
        id: StreamId,
        key: &Key,
        request: Box<SegmentRequest>,
        target: Option<(u64, Option<u32>)>,
    ) {
        let Some((rendition, until)) = self.admit(conn, id, key) else {
            return;
        };
        rendition.waiters.insert(
            conn,
            Waiter {
                request,
                until,
                target,
            },
        );
    }

    /// Makes room for one who waits, or says that there is none. Until when it may wait.
    fn admit(
        &mut self,
        conn: ConnId,
        id: StreamId,
        key: &Key,
    ) -> Option<(&mut Rendition<Box<SegmentRequest>>, Instant)> {
        if self.waiters >= WAITERS_MAX || self.business.contains_key(&conn) {
            self.counters.waiters_refused += 1;
            self.respond(conn, answers::busy());
            return None;
        }
        let now = self.now;
        if self.rendition(id, key).is_none() {
            self.respond(conn, not_found());
            return None;
        }
        self.waiters += 1;
        self.business
            .insert(conn, Business::Segmented(id, key.clone()));
        self.outputs.push_back(Output::Establish(conn));
        let rendition = self.rendition(id, key)?;
        let until = now + patience(rendition.listing.as_ref());
        Some((rendition, until))
    }

    /// Answers as the part or segment is made.
    fn follow(
        &mut self,
        conn: ConnId,
        id: StreamId,
        key: &Key,
        request: Box<SegmentRequest>,
        (number, part): (u64, Option<u32>),
    ) {
        if !request.takes_chunks || request.is_head || request.range.is_some() {
            self.wait(conn, id, key, request, Some((number, part)));
            return;
        }
        let Some((rendition, until)) = self.admit(conn, id, key) else {
            return;
        };
        let so_far = rendition
            .listing
            .as_ref()
            .and_then(|listing| listing.segment(number))
            .map(|segment| match part {
                None => segment.so_far(),
                Some(part) if segment.parts.len() == part as usize => segment.open.clone(),
                Some(_) => Pieces::new(),
            })
            .unwrap_or_default();
        let has_begun = !so_far.is_empty();
        rendition.followers.insert(
            conn,
            Follower {
                number,
                part,
                has_begun,
                until,
            },
        );
        if has_begun {
            let response = answers::growing(key);
            self.http(conn, HttpReply::Begin(response));
            self.run(conn, id, key.form, so_far);
        }
    }

    pub(super) fn run(&mut self, conn: ConnId, id: StreamId, form: Form, pieces: Pieces) {
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.counters.segment_bytes_out[form as usize] += bytes;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.segment_bytes_out[form as usize] += bytes;
        }
        self.http(conn, HttpReply::Run(pieces));
    }
}

/// How far the other renditions of a stream are, as far as this shard has them.
fn reports(stream: &Stream, key: &Key) -> Vec<hls::RenditionReport> {
    stream
        .renditions
        .iter()
        .filter(|(other, _)| *other != key && other.form == key.form)
        .filter_map(|(other, rendition)| {
            let (last_msn, parts) = rendition.listing.as_ref()?.newest()?;
            Some(hls::RenditionReport {
                uri: format!("../{}/index.m3u8", other.name()),
                last_msn,
                last_part: parts.checked_sub(1).map(|part| part as u32),
            })
        })
        .collect()
}

/// How long a request waits at the most.
fn patience(listing: Option<&Listing>) -> Duration {
    match listing.filter(|listing| listing.has_media()) {
        Some(listing) => Duration::from_secs((3 * listing.target_s()).into()).min(WAIT_MAX),
        None => FIRST_PART_MAX,
    }
}
