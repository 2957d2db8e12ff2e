//! Publishing and playing by one HTTP request: WHIP (RFC 9725) and WHEP
//! (draft-ietf-wish-whep-02).
//!
//! An offer is posted to `/whip/NAME`, `/whep/NAME` or, as MistServer has it, to `/webrtc/NAME`.
//! The answer names the session's own resource, `/webrtc/session/KEY`, which takes PATCH and
//! DELETE; whoever knows the key may use it.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;

use crate::proto::http::{Method, Request, Response};
use crate::proto::ice::Credentials;
use crate::proto::sdp::{Fragment, Limits};
use crate::proto::webrtc::Problem;
use crate::streams::access::PublishRequest;
use crate::streams::output::{Choice, Selection};

const SESSIONS: &str = "session";
const OFFER_TYPE: &str = "application/sdp";
const FRAGMENT_TYPE: &str = "application/trickle-ice-sdpfrag";
const LAYER_TYPE: &str = "application/json";
/// As long as a simulcast layer's name may be.
const LAYER_BYTES_MAX: usize = 32;
/// Keys are made here; anything longer is not one of them.
const KEY_BYTES_MAX: usize = 64;

/// What a request to one of these paths asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// OPTIONS: what may be sent here, and the ICE servers (quirk 17).
    Options,
    /// POST of an offer.
    Offer(Box<PostedOffer>),
    /// PATCH of a session.
    Patch {
        /// The session.
        key: String,
        /// The state of the session that the client means.
        precondition: Precondition,
        /// The fragment, not yet read.
        body: Bytes,
    },
    /// POST to a session's `layer`: another simulcast layer (draft-ietf-wish-whep-02 section 4.9).
    Layer {
        /// The session.
        key: String,
        /// The layer's name, or the track's number.
        layer: String,
    },
    /// DELETE of a session.
    Delete {
        /// The session.
        key: String,
    },
}

/// Which way an offer's media is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// `/whip/`.
    Publish,
    /// `/whep/`.
    Play,
    /// `/webrtc/`: an offer that sends publishes, any other one plays.
    ByOffer,
}

/// A posted offer and what stands around it.
#[derive(Clone, PartialEq, Eq)]
pub struct PostedOffer {
    /// Publishes or plays.
    pub(super) role: Role,
    /// The stream's name as it was sent, or a stream key.
    pub(super) name: String,
    /// Passwords that were given: the bearer token and `?pass=`.
    pub(super) passwords: Vec<String>,
    /// Which tracks to play: `?video=`, `?audio=`.
    pub(super) selection: Selection,
    /// Which simulcast layer to play: `?rid=` or `?layer=`.
    pub(super) layer: Option<String>,
    /// The offer, not yet read.
    pub(super) body: Bytes,
}

impl std::fmt::Debug for PostedOffer {
    /// The name may be a key, so neither it nor the passwords are shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostedOffer")
            .field("role", &self.role)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl PostedOffer {
    /// What decides whether it may publish.
    pub(super) fn publish_request(&self, peer: IpAddr) -> PublishRequest<'_> {
        PublishRequest {
            name: Cow::Borrowed(&self.name),
            passwords: self.passwords.iter().map(|p| p.as_str().into()).collect(),
            peer,
        }
    }
}

/// The `If-Match` of a PATCH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Precondition {
    /// `*`: whatever the state is; an ICE restart has it (RFC 9725 section 4.3.3).
    Any,
    /// One of these entity tags, with their quotes.
    Tags(Vec<String>),
}

impl Precondition {
    fn parse(values: &str) -> Self {
        let tags: Vec<_> = values.split(',').map(str::trim).collect();
        // RFC 9725 writes the asterisk in quotes, RFC 9110 without.
        if tags.iter().any(|tag| matches!(*tag, "*" | "\"*\"")) {
            return Self::Any;
        }
        Self::Tags(tags.into_iter().map(str::to_owned).collect())
    }
}

/// Reads a request; `None` if its path is none of these, and the refusal if it cannot be served.
pub(super) fn read(request: &Request, limits: &Limits) -> Option<Result<Ask, Response>> {
    let (kind, rest) = request.path.strip_prefix('/')?.split_once('/')?;
    let role = match kind {
        "whip" => Role::Publish,
        "whep" => Role::Play,
        "webrtc" => Role::ByOffer,
        _ => return None,
    };
    // A WebSocket is MistServer's own signalling.
    if request.is_websocket() {
        return None;
    }
    Some(match rest.split_once('/') {
        Some((SESSIONS, key)) => read_session(request, key, limits),
        Some(_) => Err(refusal(404, "There is nothing by this name.")),
        None => read_endpoint(request, role, rest, limits),
    })
}

fn read_endpoint(
    request: &Request,
    role: Role,
    name: &str,
    limits: &Limits,
) -> Result<Ask, Response> {
    match request.method {
        Method::Options => return Ok(Ask::Options),
        Method::Post => {}
        Method::Get | Method::Head | Method::Put | Method::Patch | Method::Delete => {
            return Err(method_refused("POST, OPTIONS"));
        }
    }
    check_body(request, OFFER_TYPE, limits)?;
    let posted = posted(request, role, name, request.body.clone())?;
    Ok(Ask::Offer(Box::new(posted)))
}

/// What stands around an offer that comes over a WebSocket to `/webrtc/NAME`, as MistServer's
/// players send it. `None` if the request is not for one.
pub(super) fn read_socket(request: &Request) -> Option<Result<PostedOffer, Response>> {
    let name = request.path.strip_prefix("/webrtc/")?;
    let is_one = request.is_websocket() && !name.is_empty() && !name.contains('/');
    is_one.then(|| posted(request, Role::ByOffer, name, Bytes::new()))
}

fn posted(request: &Request, role: Role, name: &str, body: Bytes) -> Result<PostedOffer, Response> {
    let choice = |name: &str| {
        let text = request.parameter(name).unwrap_or_default();
        Choice::parse(&text).ok_or_else(|| {
            let text = "video= and audio= take none, all, a track number or a codec's name.";
            refusal(400, text)
        })
    };
    let layer = request
        .parameter("rid")
        .or_else(|| request.parameter("layer"))
        .filter(|layer| !layer.is_empty());
    if layer
        .as_ref()
        .is_some_and(|layer| layer.len() > LAYER_BYTES_MAX)
    {
        return Err(refusal(
            400,
            "rid= and layer= take the name of a simulcast layer.",
        ));
    }
    let pass = request.parameter("pass").map(Cow::into_owned);
    let token = request.header("authorization").and_then(bearer_token);
    Ok(PostedOffer {
        role,
        name: name.to_owned(),
        passwords: token.map(str::to_owned).into_iter().chain(pass).collect(),
        selection: Selection {
            video: choice("video")?,
            audio: choice("audio")?,
        },
        layer: layer.map(Cow::into_owned),
        body,
    })
}

fn read_session(request: &Request, path: &str, limits: &Limits) -> Result<Ask, Response> {
    let (key, is_layer) = match path.strip_suffix("/layer") {
        Some(key) => (key, true),
        None => (path, false),
    };
    let is_key = (1..=KEY_BYTES_MAX).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !is_key {
        return Err(no_session());
    }
    let key = key.to_owned();
    if is_layer {
        return read_layer(request, key, limits);
    }
    match request.method {
        Method::Options => Ok(Ask::Options),
        Method::Delete => Ok(Ask::Delete { key }),
        Method::Patch => {
            check_body(request, FRAGMENT_TYPE, limits)?;
            let Some(tags) = request.header("if-match") else {
                // RFC 9725 section 4.3.1: whose sessions can restart ICE have to be told which.
                return Err(refusal(
                    428,
                    "If-Match is missing: send the session's ETag.",
                ));
            };
            Ok(Ask::Patch {
                key,
                precondition: Precondition::parse(tags),
                body: request.body.clone(),
            })
        }
        Method::Get | Method::Head | Method::Post | Method::Put => {
            Err(method_refused("PATCH, DELETE, OPTIONS"))
        }
    }
}

/// `{"encodingId": "h"}` has the layer's name; `{"track": 2}` the track's number.
fn read_layer(request: &Request, key: String, limits: &Limits) -> Result<Ask, Response> {
    match request.method {
        Method::Options => return Ok(Ask::Options),
        Method::Post => {}
        Method::Get | Method::Head | Method::Put | Method::Patch | Method::Delete => {
            return Err(method_refused("POST, OPTIONS"));
        }
    }
    check_body(request, LAYER_TYPE, limits)?;
    let value: serde_json::Value =
        serde_json::from_slice(&request.body).map_err(|_| refusal(400, "The body is not JSON."))?;
    let name = value.get("encodingId").and_then(|name| name.as_str());
    let track = value.get("track").and_then(serde_json::Value::as_u64);
    let layer = name
        .map(str::to_owned)
        .or_else(|| track.map(|track| track.to_string()));
    match layer.filter(|layer| (1..=LAYER_BYTES_MAX).contains(&layer.len())) {
        Some(layer) => Ok(Ask::Layer { key, layer }),
        None => Err(refusal(
            400,
            "encodingId, a layer's name, or track, a number, is missing.",
        )),
    }
}

/// The layer is sent from its next keyframe on.
pub(super) fn layer_taken() -> Response {
    Response::new(204).with_cors()
}

/// There is no such layer.
pub(super) fn no_layer() -> Response {
    refusal(
        404,
        "The stream has no such layer, or it is of another codec.",
    )
}

/// `Bearer TOKEN`, or the token alone as some publishers send it (quirk 15).
fn bearer_token(value: &str) -> Option<&str> {
    let token = match value.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        Some(_) => return None,
        None => value.trim(),
    };
    (!token.is_empty() && !token.eq_ignore_ascii_case("bearer")).then_some(token)
}

fn check_body(request: &Request, wanted: &str, limits: &Limits) -> Result<(), Response> {
    let content_type = request.header("content-type").unwrap_or("");
    let media_type = content_type.split(';').next().unwrap_or("").trim();
    if !media_type.eq_ignore_ascii_case(wanted) {
        return Err(refusal(415, &format!("Content-Type has to be {wanted}.")));
    }
    if request.body.is_empty() {
        return Err(refusal(400, "The request has no body."));
    }
    if request.body.len() > limits.bytes_max {
        let text = format!("The body has more than {} bytes.", limits.bytes_max);
        return Err(refusal(413, &text));
    }
    Ok(())
}

/// What a PATCH changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Candidates, which an ICE-lite agent needs none of.
    Candidates,
    /// ICE begins anew with these credentials of the peer.
    Restart(Credentials),
}

/// What a PATCH means for a session with the entity tag `etag` whose peer has `remote`.
pub(super) fn read_patch(
    precondition: &Precondition,
    body: &[u8],
    etag: &str,
    remote: &Credentials,
    limits: &Limits,
) -> Result<Change, Response> {
    match precondition {
        Precondition::Tags(tags) if tags.iter().all(|tag| tag != etag) => {
            return Err(refusal(412, "If-Match is not the session's ETag."));
        }
        Precondition::Tags(_) | Precondition::Any => {}
    }
    let fragment =
        Fragment::parse(body, limits).map_err(|error| refusal(400, &error.to_string()))?;
    if fragment.ufrag.is_empty() || fragment.ufrag == remote.ufrag {
        return Ok(Change::Candidates);
    }
    let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let fits = (4..=256).contains(&fragment.ufrag.len())
        && (22..=256).contains(&fragment.password.len())
        && graphic(fragment.ufrag)
        && graphic(fragment.password);
    if !fits {
        let text = "a=ice-ufrag or a=ice-pwd of the fragment is missing or malformed";
        return Err(refusal(400, text));
    }
    Ok(Change::Restart(Credentials {
        ufrag: fragment.ufrag.to_owned(),
        password: fragment.password.to_owned(),
    }))
}

/// A STUN or TURN server that clients are told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IceServer {
    /// `stun:HOST:PORT` or `turn:HOST:PORT?transport=udp`.
    pub url: String,
    /// For TURN: user name and credential.
    pub login: Option<(String, String)>,
}

/// RFC 9725 section 4.6.
fn with_ice_servers(mut response: Response, servers: &[IceServer]) -> Response {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    for server in servers {
        let mut link = format!("<{}>; rel=\"ice-server\"", server.url);
        if let Some((user, credential)) = &server.login {
            let (user, credential) = (quoted(user), quoted(credential));
            link += &format!(
                "; username=\"{user}\"; credential=\"{credential}\"; credential-type=\"password\""
            );
        }
        response = response.with_header("Link", link);
    }
    response
}

/// The answer to OPTIONS.
pub(super) fn options(servers: &[IceServer]) -> Response {
    let response = Response::new(204)
        .with_header("Accept-Post", OFFER_TYPE)
        .with_header("Accept-Patch", FRAGMENT_TYPE)
        .with_header("Allow", "POST, PATCH, DELETE, OPTIONS");
    with_ice_servers(response, servers).with_cors()
}

/// A session began. `key` is what its resource is known by, and `etag` the first state of its ICE,
/// with quotes.
pub(super) fn created(answer: String, key: &str, etag: &str, servers: &[IceServer]) -> Response {
    let response = Response::new(201)
        .with_body(OFFER_TYPE, answer)
        .with_header("Location", format!("/webrtc/{SESSIONS}/{key}"))
        .with_header("ETag", etag.to_owned())
        .with_header("Accept-Patch", FRAGMENT_TYPE)
        .with_header("Cache-Control", "no-store");
    with_ice_servers(response, servers).with_cors()
}

/// Candidates were taken.
pub(super) fn patched() -> Response {
    Response::new(204).with_cors()
}

/// ICE restarts with these credentials and candidates of ours; `mid` is the first section's tag
/// and `etag` the new state.
pub(super) fn restarted(
    ours: &Credentials,
    candidates: &[String],
    mid: &str,
    etag: &str,
) -> Response {
    let mut fragment = format!(
        "a=ice-lite\r\na=ice-options:ice2 trickle\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
        ours.ufrag, ours.password
    );
    // Candidates stand below a section, of which the tag alone counts (RFC 8840 section 9.1).
    fragment += &format!("m=audio 9 RTP/AVP 0\r\na=mid:{mid}\r\n");
    for candidate in candidates {
        fragment += &format!("a=candidate:{candidate}\r\n");
    }
    fragment += "a=end-of-candidates\r\n";
    Response::new(200)
        .with_body(FRAGMENT_TYPE, fragment)
        .with_header("ETag", etag.to_owned())
        .with_cors()
}

/// The session is over.
pub(super) fn deleted() -> Response {
    Response::new(200).with_cors()
}

/// There is no session with the key.
pub(super) fn no_session() -> Response {
    refusal(404, "There is no such session, or it is over.")
}

/// The offer cannot be answered: 413 if it is too large, 422 if it can be read and lacks a
/// codec, else 400.
pub(super) fn offer_refused(problem: &Problem) -> Response {
    use crate::proto::sdp::Error;
    let status = match problem {
        Problem::Description(
            Error::TooLong(_)
            | Error::TooManyLines(_)
            | Error::TooManyMedia(_)
            | Error::LineTooLong { .. },
        ) => 413,
        Problem::NoCodec { .. } | Problem::NothingSent | Problem::NothingToSend(_) => 422,
        Problem::Description(
            Error::NotText(_) | Error::Line(_) | Error::Version | Error::Media(_),
        )
        | Problem::NoMedia
        | Problem::MidTwice(_)
        | Problem::Missing { .. }
        | Problem::Malformed { .. } => 400,
    };
    refusal(status, &problem.to_string())
}

/// Publishing was not allowed.
pub(super) fn unauthorized() -> Response {
    refusal(
        401,
        "The stream is not configured for this, or the token is wrong.",
    )
    .with_header("WWW-Authenticate", "Bearer")
}

fn method_refused(allowed: &'static str) -> Response {
    refusal(405, "The method is not allowed here.").with_header("Allow", allowed)
}

fn refusal(status: u16, text: &str) -> Response {
    Response::text(status, text).with_cors()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::proto::http::{Event, Options, Session};

    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "a session has to be given a time"
    )]
    fn request(head: &str, body: &str) -> Request {
        let now = <Instant>::now();
        let mut session = Session::new(now, Options::default());
        let length = body.len();
        let text = format!("{head}\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        session.handle_input(now, text.as_bytes());
        match session.poll_event() {
            Some(Event::Request(request)) => *request,
            other => panic!("no request: {other:?}"),
        }
    }

    fn ask(head: &str, body: &str) -> Result<Ask, Response> {
        read(&request(head, body), &Limits::default()).expect("one of these paths")
    }

    fn status(head: &str, body: &str) -> u16 {
        ask(head, body).expect_err("refused").status
    }

    fn offer(head: &str) -> PostedOffer {
        let head = format!("{head}\r\nContent-Type: application/sdp");
        match ask(&head, "v=0") {
            Ok(Ask::Offer(offer)) => *offer,
            other => panic!("no offer: {other:?}"),
        }
    }

    #[test]
    fn offers_are_read() {
        let posted = offer("POST /whip/live+cam?pass=a%20b HTTP/1.1\r\nAuthorization: Bearer X");
        assert_eq!(
            (posted.role, posted.name.as_str()),
            (Role::Publish, "live+cam")
        );
        assert_eq!(posted.passwords, ["X", "a b"]);
        assert_eq!(&posted.body[..], b"v=0");
        let posted = offer("POST /whep/live?video=h264&audio=none&rid=h HTTP/1.1");
        assert_eq!(
            (posted.role, posted.layer.as_deref()),
            (Role::Play, Some("h"))
        );
        assert_eq!(posted.selection.video, Choice::Codec("h264".to_owned()));
        assert_eq!(posted.selection.audio, Choice::Nothing);
        assert_eq!(offer("POST /webrtc/live HTTP/1.1").role, Role::ByOffer);
    }

    /// Quirk 15: some publishers leave the word out.
    #[test]
    fn a_token_needs_no_scheme() {
        for (header, token) in [
            ("Bearer X", Some("X")),
            ("bearer  X", Some("X")),
            ("X", Some("X")),
            ("Bearer", None),
            ("Basic dTpw", None),
            ("", None),
        ] {
            assert_eq!(bearer_token(header), token, "{header}");
        }
    }

    #[test]
    fn other_paths_are_left_alone() {
        for path in ["/", "/live.html", "/whip", "/hls/live/index.m3u8"] {
            let request = request(&format!("GET {path} HTTP/1.1"), "");
            assert!(read(&request, &Limits::default()).is_none(), "{path}");
        }
        let upgrade = "GET /webrtc/live HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        assert!(read(&request(upgrade, ""), &Limits::default()).is_none());
    }

    #[test]
    fn bad_posts_are_refused() {
        let typed = "Content-Type: application/sdp; charset=utf-8";
        let post = format!("POST /whip/live HTTP/1.1\r\n{typed}");
        assert!(ask(&post, "v=0").is_ok());
        assert_eq!(status(&post, ""), 400);
        assert_eq!(status(&post, &"x".repeat(200_000)), 413);
        assert_eq!(status("POST /whip/live HTTP/1.1", "v=0"), 415);
        for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH"] {
            assert_eq!(status(&format!("{method} /whep/live HTTP/1.1"), ""), 405);
        }
        let bad_choice = format!("POST /whep/live?video=%2f HTTP/1.1\r\n{typed}");
        assert_eq!(status(&bad_choice, "v=0"), 400);
        assert_eq!(status("POST /whip/a/b HTTP/1.1", "v=0"), 404);
    }

    #[test]
    fn sessions_are_patched_and_deleted() {
        let patch =
            "PATCH /webrtc/session/k-1 HTTP/1.1\r\nContent-Type: application/trickle-ice-sdpfrag";
        assert_eq!(status(patch, "a=x"), 428);
        let matched = format!("{patch}\r\nIf-Match: \"a\", \"b\"");
        let Ok(Ask::Patch {
            key, precondition, ..
        }) = ask(&matched, "a=x")
        else {
            panic!("a patch");
        };
        assert_eq!(key, "k-1");
        assert_eq!(
            precondition,
            Precondition::Tags(vec!["\"a\"".to_owned(), "\"b\"".to_owned()])
        );
        assert_eq!(
            ask("DELETE /whip/session/k-1 HTTP/1.1", ""),
            Ok(Ask::Delete {
                key: "k-1".to_owned()
            })
        );
        assert_eq!(status("GET /whip/session/k HTTP/1.1", ""), 405);
        assert_eq!(status("DELETE /whip/session/a.b HTTP/1.1", ""), 404);
        assert_eq!(
            ask("OPTIONS /whip/session/k HTTP/1.1", ""),
            Ok(Ask::Options)
        );
    }

    #[test]
    fn a_patch_trickles_or_restarts() {
        let remote = Credentials {
            ufrag: "EsAw".to_owned(),
            password: "P2uYro0UCOQ4zxjKXaWCBui1".to_owned(),
        };
        let patch = |precondition: &str, body: &str| {
            let precondition = Precondition::parse(precondition);
            read_patch(
                &precondition,
                body.as_bytes(),
                "\"1\"",
                &remote,
                &Limits::default(),
            )
        };
        let same = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
        assert_eq!(patch("\"1\"", same), Ok(Change::Candidates));
        assert_eq!(patch("\"2\"", same).expect_err("stale").status, 412);
        assert_eq!(patch("*", "{}").expect_err("no fragment").status, 400);
        let new = "a=ice-ufrag:new1\r\na=ice-pwd:0123456789012345678901\r\n";
        let Ok(Change::Restart(credentials)) = patch("\"*\"", new) else {
            panic!("a restart");
        };
        assert_eq!(credentials.ufrag, "new1");
        assert_eq!(
            patch("*", "a=ice-ufrag:new1\r\n")
                .expect_err("no password")
                .status,
            400
        );
    }

    #[test]
    fn responses_say_what_clients_need() {
        let servers = [IceServer {
            url: "turn:turn.example.net?transport=udp".to_owned(),
            login: Some(("user".to_owned(), "a\"b".to_owned())),
        }];
        let has = |response: &Response, name: &str, value: &str| {
            let mut headers = response.headers.iter();
            headers.any(|(n, v)| *n == name && v == value)
        };
        let link = "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"user\"; \
            credential=\"a\\\"b\"; credential-type=\"password\"";
        let options = options(&servers);
        assert!(has(&options, "Link", link) && has(&options, "Accept-Post", OFFER_TYPE));
        assert!(has(
            &options,
            "Access-Control-Allow-Private-Network",
            "true"
        ));
        let created = created("v=0\r\n".to_owned(), "k", "\"1\"", &servers);
        assert_eq!(created.status, 201);
        assert!(has(&created, "Location", "/webrtc/session/k"));
        assert!(has(&created, "ETag", "\"1\"") && has(&created, "Link", link));
        let refused = offer_refused(&Problem::NothingSent);
        assert_eq!(refused.status, 422);
        assert_eq!(
            refused.body,
            "no m-line of the offer sends audio or video\n"
        );
    }
}
