//! Heads in both directions: a request becomes one of HTTP/1.1, a response is written for HTTP/2.

use std::borrow::Cow;

use ::http as types;
use types::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};

use super::options::Options;
use crate::proto::http::{Refusal, Request};

/// Fields that belong to one connection and have no place in HTTP/2 (RFC 9113 section 8.2.2), and
/// the length, which the session states itself.
const DROPPED: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Writes the head of `parts` as HTTP/1.1 would have it and has it parsed, so that a request is
/// the same checked value whatever brought it.
pub(super) fn request(
    parts: &types::request::Parts,
    options: &Options,
) -> Result<Request, Refusal> {
    let target = match parts.uri.path_and_query() {
        Some(target) if !parts.uri.path().is_empty() => target.as_str(),
        // It has none, and is refused by its name.
        Some(_) | None if parts.method == types::Method::CONNECT => "/",
        Some(_) | None => return Err(Refusal::Target),
    };
    if target.len() > options.target_bytes_max as usize {
        return Err(Refusal::TargetTooLong);
    }
    let mut out = Vec::with_capacity(512);
    let mut line = |parts: [&[u8]; 4]| parts.iter().for_each(|part| out.extend_from_slice(part));
    line([
        parts.method.as_str().as_bytes(),
        b" ",
        target.as_bytes(),
        b" HTTP/1.1\r\n",
    ]);
    if let Some(authority) = parts.uri.authority() {
        // RFC 9113 section 8.3.1: a Host that says something else is malformed.
        let same = |host: &HeaderValue| {
            host.as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes())
        };
        if !parts.headers.get_all(HOST).iter().all(same) {
            return Err(Refusal::Host);
        }
        line([b"host", b": ", authority.as_str().as_bytes(), b"\r\n"]);
    }
    for (name, value) in &parts.headers {
        let is_repeated = name == HOST && parts.uri.authority().is_some();
        if name != COOKIE && !is_repeated {
            line([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    // RFC 9113 section 8.2.3: a cookie may come in pieces, and is one field to everybody else.
    let cookies: Vec<&[u8]> = parts
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if !cookies.is_empty() {
        line([b"cookie", b": ", &cookies.join(&b"; "[..]), b"\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
    Request::from_head(out, options.headers_max as usize)
}

/// The head of a response. `length` is stated if it is known and the status may have a body.
///
/// A field that cannot be one is left out: names are constants of the code that answers, and
/// control characters in values become spaces.
pub(super) fn response<'a>(
    status: u16,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    length: Option<u64>,
) -> types::Response<()> {
    let mut map = HeaderMap::with_capacity(16);
    for (name, value) in headers {
        if DROPPED.iter().any(|field| field.eq_ignore_ascii_case(name)) {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            continue;
        };
        if let Ok(value) = HeaderValue::from_bytes(clean(value).as_bytes()) {
            map.append(name, value);
        }
    }
    if let Some(length) = length.filter(|_| has_body(status)) {
        map.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut response = types::Response::new(());
    *response.status_mut() =
        types::StatusCode::from_u16(status).unwrap_or(types::StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = map;
    response
}

/// RFC 9110 sections 15.3.5 and 15.4.5.
pub(super) fn has_body(status: u16) -> bool {
    !matches!(status, 204 | 304)
}

fn clean(value: &str) -> Cow<'_, str> {
    if value.contains(|c: char| c.is_ascii_control()) {
        value.replace(|c: char| c.is_ascii_control(), " ").into()
    } else {
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(builder: types::request::Builder) -> Result<Request, Refusal> {
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        request(&parts, &Options::default())
    }

    fn get(uri: &str) -> types::request::Builder {
        types::Request::builder().uri(uri)
    }

    #[test]
    fn a_request_is_the_same_as_in_http_1() {
        let request = parse(
            get("https://example.org:8443/live%2Bcam?a=b+c")
                .header("User-Agent", "x")
                .header("cookie", "a=1")
                .header("accept", "*/*")
                .header("cookie", "b=2"),
        )
        .unwrap();
        assert_eq!(
            request.head(),
            b"GET /live%2Bcam?a=b+c HTTP/1.1\r\nhost: example.org:8443\r\nuser-agent: x\r\n\
              accept: */*\r\ncookie: a=1; b=2\r\n\r\n"
        );
        assert_eq!(request.host(), "example.org:8443");
        assert_eq!(request.path, "/live+cam");
        assert_eq!(request.header("Cookie"), Some("a=1; b=2"));
        assert!(request.keep_alive && !request.is_websocket());
    }

    #[test]
    fn the_host_is_said_once() {
        let host = |uri: &str, host: &str| parse(get(uri).header("host", host));
        assert_eq!(host("https://a/", "A").unwrap().values("host").count(), 1);
        assert_eq!(host("https://a/", "b"), Err(Refusal::Host));
        assert_eq!(host("/", "b").unwrap().host(), "b");
        assert_eq!(parse(get("/")), Err(Refusal::Host));
        assert_eq!(parse(get("https://user@a/")), Err(Refusal::Host));
    }

    #[test]
    fn what_http_1_refuses_is_refused() {
        assert_eq!(parse(get("https://a/../b")), Err(Refusal::Target));
        assert_eq!(
            parse(get("https://a/").method("TRACE")),
            Err(Refusal::MethodNotAllowed)
        );
        let long = format!("https://a/{}", "a".repeat(8192));
        assert_eq!(parse(get(&long)), Err(Refusal::TargetTooLong));
        let mut many = get("https://a/");
        for n in 0..64 {
            many = many.header(format!("x-{n}"), "");
        }
        assert_eq!(parse(many), Err(Refusal::TooManyHeaders));
    }

    #[test]
    fn fields_of_a_connection_are_dropped_and_values_are_clean() {
        let fields = [
            ("Connection", "close"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "9"),
            ("Location", "/a\r\nb"),
            ("bad name", "x"),
        ];
        let response = response(302, fields.into_iter(), Some(0));
        assert_eq!(response.headers().len(), 2);
        assert_eq!(response.headers()["location"], "/a  b");
        assert_eq!(response.headers()["content-length"], "0");
    }
}
