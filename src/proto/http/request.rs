//! One request: the head parsed into a checked value, the body whole.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use percent_encoding::percent_decode;

use super::body::BodyLength;
use super::error::Refusal;

/// The most header fields a head may have, whatever the options say: the parser's table of
/// 4 KiB is on the stack.
pub(super) const HEADERS_MAX: usize = 128;

/// The largest head, whatever the options say: offsets into it have 16 bits.
pub(super) const HEAD_BYTES_MAX: usize = u16::MAX as usize;

/// A method that a request may have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
}

impl Method {
    fn parse(name: &str) -> Result<Self, Refusal> {
        Ok(match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "CONNECT" | "TRACE" => return Err(Refusal::MethodNotAllowed),
            _ => return Err(Refusal::Method),
        })
    }

    /// As it stands in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

/// The protocol version of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2, which has frames of its own around bodies.
    Http2,
}

/// A part of the head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Span {
    start: u16,
    end: u16,
}

impl Span {
    fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }

    /// Where `part` lies in `whole`, of which it must be a slice.
    fn of(whole: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        let end = start + part.len();
        assert!(end <= whole.len(), "the part lies in the whole");
        // A head is at most HEAD_BYTES_MAX long, so both fit.
        Self {
            start: start as u16,
            end: end as u16,
        }
    }
}

/// A request. Its head is kept as it arrived; names and values are spans of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The version.
    pub version: Version,
    /// The peer will take another response on this connection.
    pub keep_alive: bool,
    /// The path, percent-decoded. Starts with `/` (or is `*`); holds no control character, no
    /// backslash, no segment `.` or `..`, and no slash that was percent-encoded.
    pub path: String,
    /// The body, complete.
    pub body: Bytes,
    head: Box<[u8]>,
    authority: Span,
    raw_path: Span,
    query: Span,
    headers: Box<[(Span, Span)]>,
}

impl fmt::Debug for Request {
    /// Path, query and fields may hold passwords and tokens, so they are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("version", &self.version)
            .field("head_bytes", &self.head.len())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Parses a head that ends in its empty line, and says how its body ends.
    pub(super) fn parse(
        head: Box<[u8]>,
        headers_max: usize,
    ) -> Result<(Self, BodyLength), Refusal> {
        Self::parse_as(head, headers_max, false)
    }

    /// As [`Request::parse`]; where paths are opaque, `path` is the raw one, and nothing in it is wrong.
    pub(super) fn parse_as(
        head: Box<[u8]>,
        headers_max: usize,
        opaque_paths: bool,
    ) -> Result<(Self, BodyLength), Refusal> {
        if head.len() > HEAD_BYTES_MAX {
            return Err(Refusal::HeadTooLarge);
        }
        let mut table = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut table[..headers_max.min(HEADERS_MAX)]);
        match parsed.parse(&head) {
            Ok(httparse::Status::Complete(used)) if used == head.len() => {}
            Ok(_) => return Err(Refusal::RequestLine),
            Err(error) => return Err(refusal_of(error)),
        }
        let (Some(method), Some(target), Some(version)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Refusal::RequestLine);
        };
        let method = Method::parse(method)?;
        let version = match version {
            0 => Version::Http10,
            _ => Version::Http11,
        };
        let target = Target::parse(target, method)?;
        let path = match opaque_paths {
            true => target.path.to_owned(),
            false => decode_path(target.path)?,
        };
        let headers = parsed
            .headers
            .iter()
            .map(|header| {
                (
                    Span::of(&head, header.name.as_bytes()),
                    Span::of(&head, header.value),
                )
            })
            .collect();
        let (authority, raw_path, query) = (
            Span::of(&head, target.authority.as_bytes()),
            Span::of(&head, target.path.as_bytes()),
            Span::of(&head, target.query.as_bytes()),
        );
        let mut request = Self {
            method,
            version,
            keep_alive: false,
            path,
            body: Bytes::new(),
            authority,
            raw_path,
            query,
            headers,
            head,
        };
        request.check_host()?;
        let length = request.body_length()?;
        request.keep_alive = !request.lists("connection", "close")
            && (version == Version::Http11 || request.lists("connection", "keep-alive"));
        Ok((request, length))
    }

    /// A request that came by another version of the protocol, from its head written as
    /// HTTP/1.1. Its body is found by that version, and whoever reads it checks a Content-Length.
    pub(crate) fn from_head(head: Vec<u8>, headers_max: usize) -> Result<Self, Refusal> {
        let (mut request, _) = Self::parse(head.into_boxed_slice(), headers_max)?;
        request.version = Version::Http2;
        Ok(request)
    }

    /// The path as it was sent, still percent-encoded.
    pub fn raw_path(&self) -> &str {
        self.text(self.raw_path)
    }

    /// The query as it was sent, without its question mark; empty when there is none.
    pub fn query(&self) -> &str {
        self.text(self.query)
    }

    /// The first value of a parameter of the query, decoded; `Some("")` for one without a value.
    pub fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        parameter(self.query(), name)
    }

    /// The first value of a header field that is text. Names compare without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// All values of a header field that are text.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .filter_map(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// All header fields in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers
            .iter()
            .map(|&(name, value)| (self.text(name), &self.head[value.range()]))
    }

    /// The host and port the peer asked for; empty in HTTP/1.0 without a Host.
    pub fn host(&self) -> &str {
        // RFC 9112 section 3.2.2: a target in absolute form wins over the header.
        match self.text(self.authority) {
            "" => self.header("host").unwrap_or(""),
            authority => authority,
        }
    }

    /// True if a header that is a comma-separated list holds `token`, whatever the case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    /// Whether the peer reads a live body in chunks: HTTP/1.1 says that all do, and VLC before 2.2
    /// loses its place in one.
    pub fn takes_chunks(&self) -> bool {
        let breaks = self.header("user-agent").is_some_and(|agent| {
            ["VLC/1.", "VLC/2.0", "VLC/2.1"]
                .iter()
                .any(|old| agent.starts_with(old))
        });
        self.version == Version::Http11 && !breaks
    }

    /// True if this request opens a WebSocket (RFC 6455 section 4.2.1).
    pub fn is_websocket(&self) -> bool {
        self.method == Method::Get
            && self.version == Version::Http11
            && self.lists("connection", "upgrade")
            && self.lists("upgrade", "websocket")
            && self.header("sec-websocket-key").is_some()
    }

    /// The head as it arrived, for a connection that is handed to another owner.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    fn text(&self, span: Span) -> &str {
        // Spans of text come from `&str`s of this head; an error would be an empty string.
        std::str::from_utf8(&self.head[span.range()]).unwrap_or("")
    }

    /// RFC 9112 section 3.2: exactly one valid Host in HTTP/1.1.
    fn check_host(&self) -> Result<(), Refusal> {
        let mut hosts = self
            .headers()
            .filter(|(name, _)| name.eq_ignore_ascii_case("host"));
        match (hosts.next(), hosts.next(), self.version) {
            (None, _, Version::Http10) => Ok(()),
            (Some((_, host)), None, Version::Http10 | Version::Http11 | Version::Http2)
                if is_authority(host) =>
            {
                Ok(())
            }
            (None | Some(_), _, Version::Http10 | Version::Http11 | Version::Http2) => {
                Err(Refusal::Host)
            }
        }
    }

    /// RFC 9112 section 6.3, refusing every case in which another reader might differ.
    fn body_length(&self) -> Result<BodyLength, Refusal> {
        let fields = |wanted: &'static str| {
            self.headers()
                .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value)
        };
        let mut lengths = fields("content-length");
        let mut codings = fields("transfer-encoding");
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(BodyLength::Fixed(0)),
            (Some(_), Some(_)) => Err(Refusal::LengthAmbiguous),
            (Some(length), None) => {
                if lengths.next().is_some() {
                    return Err(Refusal::LengthAmbiguous);
                }
                parse_length(length).map(BodyLength::Fixed)
            }
            (None, Some(coding)) => {
                if codings.next().is_some() || self.version == Version::Http10 {
                    return Err(Refusal::LengthAmbiguous);
                }
                if coding.eq_ignore_ascii_case(b"chunked") {
                    Ok(BodyLength::Chunked)
                } else {
                    Err(Refusal::Coding)
                }
            }
        }
    }
}

/// Digits only: `+5`, `5,5` and ` 5 5` are read differently by different programs.
pub(super) fn parse_length(value: &[u8]) -> Result<u64, Refusal> {
    let digits = std::str::from_utf8(value).map_err(|_| Refusal::Length)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::Length);
    }
    // A length past 64 bits is a length past every bound.
    Ok(digits.parse().unwrap_or(u64::MAX))
}

/// The first value of parameter `name` of a query or a form
/// (`application/x-www-form-urlencoded`), decoded; `Some("")` for one without a value.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_form(key) == name).then(|| decode_form(value))
    })
}

/// `application/x-www-form-urlencoded`: plus is a space. Bytes that are not UTF-8 are replaced.
fn decode_form(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(
        percent_decode(spaced.as_bytes())
            .decode_utf8_lossy()
            .into_owned(),
    )
}

fn refusal_of(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Refusal::Header,
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => {
            Refusal::RequestLine
        }
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders,
        httparse::Error::Version => Refusal::Version,
    }
}

/// A request target taken apart (RFC 9112 section 3.2).
struct Target<'a> {
    authority: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Target<'a> {
    fn parse(target: &'a str, method: Method) -> Result<Self, Refusal> {
        if target.contains('#') {
            return Err(Refusal::Target);
        }
        if target == "*" && method == Method::Options {
            return Ok(Self {
                authority: &target[..0],
                path: target,
                query: &target[..0],
            });
        }
        let (authority, rest) = match target.split_once("://") {
            Some((scheme, rest)) if !target.starts_with('/') => {
                if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
                    return Err(Refusal::Target);
                }
                let (authority, path) = rest.split_at(rest.find('/').ok_or(Refusal::Target)?);
                if authority.is_empty() || !is_authority(authority.as_bytes()) {
                    return Err(Refusal::Target);
                }
                (authority, path)
            }
            Some(_) | None => (&target[..0], target),
        };
        if !rest.starts_with('/') {
            return Err(Refusal::Target);
        }
        let (path, query) = rest
            .split_once('?')
            .unwrap_or_else(|| rest.split_at(rest.len()));
        Ok(Self {
            authority,
            path,
            query,
        })
    }
}

/// A host name or address with an optional port; empty is allowed (RFC 9110 section 7.2).
fn is_authority(host: &[u8]) -> bool {
    host.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(byte))
}

/// Decodes a path and refuses what could mean another path to the next reader.
fn decode_path(raw: &str) -> Result<String, Refusal> {
    let bytes = raw.as_bytes();
    for (at, _) in raw.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3).ok_or(Refusal::Target)?;
        let encoded_slash = digits[0] == b'2' && digits[1].eq_ignore_ascii_case(&b'f');
        if encoded_slash || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Refusal::Target);
        }
    }
    let path = percent_decode(bytes)
        .decode_utf8()
        .map_err(|_| Refusal::Target)?
        .into_owned();
    let walks = path.split('/').any(|segment| matches!(segment, "." | ".."));
    if walks || path.chars().any(|c| c.is_control() || c == '\\') {
        return Err(Refusal::Target);
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<(Request, BodyLength), Refusal> {
        Request::parse(head.as_bytes().into(), 64)
    }

    fn with_target(target: &str) -> Result<Request, Refusal> {
        parse(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).map(|(request, _)| request)
    }

    fn length_of(headers: &str) -> Result<BodyLength, Refusal> {
        parse(&format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).map(|(_, length)| length)
    }

    #[test]
    fn a_request_is_taken_apart() {
        let (request, length) = parse(
            "GET /live%2Bcam%201.mp4?start=-5&name=a+b%26c&flag HTTP/1.1\r\n\
             Host: example.org:8080\r\nUser-Agent: VLC\r\nconnection: Keep-Alive, x\r\n\r\n",
        )
        .unwrap();
        assert_eq!(request.method, Method::Get);
        assert_eq!(request.path, "/live+cam 1.mp4");
        assert_eq!(request.raw_path(), "/live%2Bcam%201.mp4");
        assert_eq!(request.query(), "start=-5&name=a+b%26c&flag");
        assert_eq!(request.parameter("start").as_deref(), Some("-5"));
        assert_eq!(request.parameter("name").as_deref(), Some("a b&c"));
        assert_eq!(request.parameter("flag").as_deref(), Some(""));
        assert_eq!(request.parameter("none"), None);
        assert_eq!(request.header("USER-AGENT"), Some("VLC"));
        assert_eq!(request.host(), "example.org:8080");
        assert_eq!(length, BodyLength::Fixed(0));
        assert!(request.keep_alive);
    }

    #[test]
    fn debug_output_tells_no_secret() {
        let head = "GET /hunter2?pass=hunter2 HTTP/1.0\r\nAuthorization: hunter2\r\n\r\n";
        let printed = format!("{:?}", parse(head).unwrap().0);
        assert!(
            !printed.contains("hunter2") && !printed.contains("104, 117"),
            "{printed}"
        );
    }

    #[test]
    fn plus_in_a_path_is_a_plus() {
        assert_eq!(with_target("/live+x.flv").unwrap().path, "/live+x.flv");
    }

    #[test]
    fn targets_that_walk_or_hide_are_refused() {
        for target in [
            "/../etc/passwd",
            "/a/..",
            "/a/./b",
            "/%2e%2e/b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0ab",
            "/a%zz",
            "/a%2",
            "/%ff",
            "/a#b",
            "a",
            "*",
            "ftp://a/b",
            "http://",
            "http://user@host/",
            "http://host",
        ] {
            assert_eq!(with_target(target), Err(Refusal::Target), "{target}");
        }
        assert_eq!(with_target("/..a/b..").unwrap().path, "/..a/b..");
    }

    #[test]
    fn the_absolute_form_names_the_host() {
        let request = with_target("HTTP://other:81/a?b=://").unwrap();
        assert_eq!(request.host(), "other:81");
        assert_eq!((request.path.as_str(), request.query()), ("/a", "b=://"));
    }

    #[test]
    fn options_may_ask_for_the_whole_server() {
        let (request, _) = parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(request.path, "*");
    }

    #[test]
    fn methods_and_versions() {
        let refused = |line: &str| parse(&format!("{line}\r\nHost: a\r\n\r\n")).unwrap_err();
        assert_eq!(refused("CONNECT a:1 HTTP/1.1"), Refusal::MethodNotAllowed);
        assert_eq!(refused("TRACE / HTTP/1.1"), Refusal::MethodNotAllowed);
        assert_eq!(refused("get / HTTP/1.1"), Refusal::Method);
        assert_eq!(refused("PRI * HTTP/2.0"), Refusal::Version);
        assert_eq!(refused("GET / HTTP/1.2"), Refusal::Version);
        assert_eq!(refused("GET  / HTTP/1.1"), Refusal::RequestLine);
        assert_eq!(refused("GET /"), Refusal::RequestLine);
    }

    #[test]
    fn header_tricks_are_refused() {
        for header in [
            "A : b",
            " A: b",
            "A: b\r\n folded",
            "A\0: b",
            "A",
            ": b",
            "A: b\0c",
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n");
            assert_eq!(parse(&head), Err(Refusal::Header), "{header:?}");
        }
    }

    #[test]
    fn http_1_1_needs_exactly_one_host() {
        for hosts in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a b\r\n",
            "Host: a/b\r\n",
        ] {
            let head = format!("GET / HTTP/1.1\r\n{hosts}\r\n");
            assert_eq!(parse(&head), Err(Refusal::Host), "{hosts:?}");
        }
        assert!(parse("GET / HTTP/1.0\r\n\r\n").is_ok());
        assert!(parse("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").is_ok());
    }

    #[test]
    fn lengths_that_two_readers_could_read_differently_are_refused() {
        assert_eq!(length_of("Content-Length: 5\r\n"), Ok(BodyLength::Fixed(5)));
        assert_eq!(
            length_of("Transfer-Encoding: Chunked\r\n"),
            Ok(BodyLength::Chunked)
        );
        for (headers, refusal) in [
            (
                "Content-Length: 5\r\nContent-Length: 5\r\n",
                Refusal::LengthAmbiguous,
            ),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                Refusal::LengthAmbiguous,
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Refusal::LengthAmbiguous,
            ),
            ("Content-Length: 5, 5\r\n", Refusal::Length),
            ("Content-Length: +5\r\n", Refusal::Length),
            ("Content-Length: 0x5\r\n", Refusal::Length),
            ("Content-Length: -1\r\n", Refusal::Length),
            ("Content-Length:\r\n", Refusal::Length),
            ("Transfer-Encoding: gzip, chunked\r\n", Refusal::Coding),
            ("Transfer-Encoding: chunked, identity\r\n", Refusal::Coding),
            ("Transfer-Encoding: xchunked\r\n", Refusal::Coding),
            ("Transfer-Encoding:\r\n", Refusal::Coding),
        ] {
            assert_eq!(length_of(headers), Err(refusal), "{headers:?}");
        }
        let old = parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(old, Err(Refusal::LengthAmbiguous));
        let huge = format!("Content-Length: {}\r\n", "9".repeat(30));
        assert_eq!(length_of(&huge), Ok(BodyLength::Fixed(u64::MAX)));
    }

    #[test]
    fn keep_alive_follows_version_and_header() {
        let keeps = |head: &str| parse(head).unwrap().0.keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!keeps(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"
        ));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn a_websocket_request_is_recognised() {
        let head = "GET /live.mp4 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                    Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
        let (request, _) = parse(head).unwrap();
        assert!(request.is_websocket());
        assert_eq!(request.head(), head.as_bytes());
        assert!(!with_target("/").unwrap().is_websocket());
    }
}
