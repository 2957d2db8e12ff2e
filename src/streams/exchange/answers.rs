//! Responses to requests for playlists, segments and parts.

use bytes::Bytes;

use crate::hub::Pieces;
use crate::media::buffer::Buffer;
use crate::proto::http::Response;
use crate::streams::segment_request::{File, SegmentRequest};
use crate::streams::segments::{Form, Key};

/// How long a cache between here and the viewers may keep an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Caching {
    /// It is one viewer's own.
    Never,
    /// It changes all the time, and many ask at once.
    Second,
    /// What is asked for by name stays what it is.
    Seconds(u32),
}

/// How long segments may be cached. Their names are never used again.
const SEGMENT_CACHE: &str = "public, max-age=3600, immutable";

/// How long a session's cookie is kept, as in MistServer.
const COOKIE_SECONDS: u32 = 600;

/// A playlist or a description.
pub(super) fn text(
    request: &SegmentRequest,
    body: Bytes,
    is_packed: bool,
    caching: Caching,
) -> Response {
    let media_type = match (&request.file, request.form) {
        (File::Description, _) => "application/dash+xml",
        (_, Form::Ts | Form::Cmaf) => "application/vnd.apple.mpegurl",
    };
    let mut response = Response::new(200)
        .with_body(media_type, body)
        .with_header("Vary", "Accept-Encoding")
        .with_cors();
    if is_packed {
        response = response.with_header("Content-Encoding", "gzip");
    }
    if let Some(cookie) = &request.told_cookie {
        let cookie = format!("tkn={cookie}; Max-Age={COOKIE_SECONDS}; Path=/");
        return response
            .with_header("Set-Cookie", cookie)
            // Nobody else is to get that cookie.
            .with_header("Cache-Control", "no-store");
    }
    match caching {
        Caching::Never => response.with_header("Cache-Control", "no-store"),
        Caching::Second => response.with_header("Cache-Control", "public, max-age=1"),
        Caching::Seconds(seconds) => {
            response.with_header("Cache-Control", format!("public, max-age={seconds}"))
        }
    }
}

/// A whole segment or part, or the range of it that was asked for, and the bytes to send.
pub(super) fn bytes(request: &SegmentRequest, pieces: Pieces) -> (Response, Pieces) {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let tag = tag(&request.file, length);
    if is_known(request, &tag) {
        let response = Response::new(304)
            .with_header("ETag", tag)
            .with_header("Cache-Control", SEGMENT_CACHE);
        return (response.with_cors(), Pieces::new());
    }
    let range = match request.range.map(|range| range.of(length)) {
        None => None,
        Some(Some(range)) => Some(range),
        Some(None) => {
            let response = Response::text(416, "There are no such bytes.")
                .with_header("Content-Range", format!("bytes */{length}"));
            return (response.with_cors(), Pieces::new());
        }
    };
    let response = Response::new(if range.is_some() { 206 } else { 200 })
        .with_header("Content-Type", media_type(&request.file))
        .with_header("ETag", tag)
        .with_header("Accept-Ranges", "bytes")
        .with_header("Cache-Control", SEGMENT_CACHE)
        .with_cors();
    match range {
        None => (response, pieces),
        Some(range) => {
            let (first, last) = (range.start, range.end - 1);
            let response =
                response.with_header("Content-Range", format!("bytes {first}-{last}/{length}"));
            (response, cut(&pieces, range))
        }
    }
}

/// An initialisation segment.
pub(super) fn init(request: &SegmentRequest, version: u32, body: Bytes) -> Response {
    let tag = format!("W/\"init-{version}-{}\"", body.len());
    if is_known(request, &tag) {
        return Response::new(304).with_header("ETag", tag).with_cors();
    }
    let length = body.len();
    let (status, body, range) = match request.range.map(|range| range.of(length)) {
        Some(Some(range)) => (206, body.slice(range.clone()), Some(range)),
        Some(None) => {
            let response = Response::text(416, "There are no such bytes.")
                .with_header("Content-Range", format!("bytes */{length}"));
            return response.with_cors();
        }
        None => (200, body, None),
    };
    let response = Response::new(status)
        .with_body("video/mp4", body)
        .with_header("ETag", tag)
        .with_header("Accept-Ranges", "bytes")
        // Another life of the stream may have another one of this name.
        .with_header("Cache-Control", "public, max-age=60")
        .with_cors();
    match range {
        Some(range) => {
            let (first, last) = (range.start, range.end - 1);
            response.with_header("Content-Range", format!("bytes {first}-{last}/{length}"))
        }
        None => response,
    }
}

/// The head of what is sent while it is made.
pub(super) fn growing(key: &Key) -> Response {
    Response::new(200)
        .with_header("Content-Type", key.form.media_type(true))
        .with_header("Cache-Control", SEGMENT_CACHE)
        .with_header("X-Accel-Buffering", "no")
        .with_cors()
}

/// The stream has no such rendition.
pub(super) fn no_rendition() -> Response {
    let text = "The stream has no such tracks, or they cannot be carried in this form.";
    Response::text(404, text).with_cors()
}

/// The segment or part is not kept any more, or is not to be expected.
pub(super) fn not_kept() -> Response {
    Response::text(404, "This part of the stream is not here.")
        .with_header("Cache-Control", "public, max-age=1")
        .with_cors()
}

/// The stream has ended.
pub(super) fn over() -> Response {
    Response::text(404, "The stream has ended.").with_cors()
}

/// RFC 8216bis 6.2.5.2: a number more than two ahead is a mistake.
pub(super) fn too_far() -> Response {
    Response::text(400, "_HLS_msn is too far ahead of the playlist.").with_cors()
}

/// There are too many requests that wait.
pub(super) fn busy() -> Response {
    Response::text(503, "Too many requests wait for this.")
        .with_header("Retry-After", "1")
        .with_cors()
}

/// What was waited for has not come.
pub(super) fn late() -> Response {
    Response::text(503, "What was asked for has not come in time.")
        .with_header("Retry-After", "1")
        .with_cors()
}

/// Weak: a rendition that is made anew has the same frames under the same names, with other counters
/// in its packets (RFC 9110 8.8.1).
fn tag(file: &File, length: usize) -> String {
    match file {
        File::Segment(_, number) => format!("W/\"{number}-{length}\""),
        File::Part(_, number, part) => format!("W/\"{number}.{part}-{length}\""),
        File::Init(..) | File::Master | File::Description | File::Playlist(_) => String::new(),
    }
}

fn is_known(request: &SegmentRequest, tag: &str) -> bool {
    request.if_none_match.as_deref().is_some_and(|known| {
        known.split(',').any(|known| {
            let known = known.trim();
            // Compared weakly, as If-None-Match is (RFC 9110 13.1.2).
            known == "*" || known.trim_start_matches("W/") == tag.trim_start_matches("W/")
        })
    })
}

fn media_type(file: &File) -> &'static str {
    match file {
        File::Segment(key, _)
        | File::Part(key, _, _)
        | File::Init(key, _)
        | File::Playlist(key) => key.form.media_type(true),
        File::Master | File::Description => "application/octet-stream",
    }
}

/// The bytes `range` of what the pieces are together.
fn cut(pieces: &Pieces, range: std::ops::Range<usize>) -> Pieces {
    let mut at = 0;
    let mut out = Pieces::new();
    for piece in pieces {
        let (begin, end) = (at, at + piece.len());
        at = end;
        let from = range.start.max(begin);
        let to = range.end.min(end);
        if from < to {
            let part: Buffer = piece.slice(from - begin..to - begin);
            out.push(part);
        }
    }
    out
}
