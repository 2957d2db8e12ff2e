//! Writing responses.

use std::borrow::Cow;

use bytes::Bytes;

/// Lets any page play and publish: the headers MistServer sends, plus what a browser asks for
/// before it lets a public page reach a server on a private network, and the names a WHIP or
/// WHEP page must be able to read.
pub const CORS: [(&str, &str); 6] = [
    ("Access-Control-Allow-Origin", "*"),
    (
        "Access-Control-Allow-Methods",
        "GET, POST, PUT, PATCH, DELETE, OPTIONS, HEAD",
    ),
    // The asterisk does not stand for Authorization (Fetch section 4.9).
    (
        "Access-Control-Allow-Headers",
        "*, Authorization, Content-Type, If-Match",
    ),
    (
        "Access-Control-Expose-Headers",
        "*, Location, Link, ETag, Accept-Patch",
    ),
    ("Access-Control-Allow-Private-Network", "true"),
    ("Access-Control-Max-Age", "600"),
];

/// A body up to this size is copied behind its head, so that both leave in one send. Above it
/// the copy costs more than a second element of a vectored send.
const INLINE_BODY_BYTES_MAX: usize = 2048;

/// How the bytes of a live response are framed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Framing {
    /// Each piece is a chunk, written by [`chunk`](super::chunk()).
    Chunked,
    /// Bare bytes; the end of the connection is the end of the body.
    Close,
    /// The request was HEAD: nothing may follow, and the response is already complete.
    NoBody,
}

/// A whole response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Fields besides Content-Length, Transfer-Encoding and Connection, which the session writes.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body. Not sent in answer to HEAD, where its length still is.
    pub body: Bytes,
    /// Close the connection after it.
    pub close: bool,
}

impl Response {
    /// An empty response.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            close: false,
        }
    }

    /// A line of plain text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        let mut body = text.into();
        body.push('\n');
        Self::new(status).with_body("text/plain; charset=utf-8", body)
    }

    /// With a body and its type.
    #[must_use]
    pub fn with_body(self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut response = self.with_header("Content-Type", content_type);
        response.body = body.into();
        response
    }

    /// With one more header field. Control characters in the value become spaces, so that a
    /// value taken from a peer cannot start a field of its own.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With [`CORS`].
    #[must_use]
    pub fn with_cors(mut self) -> Self {
        self.headers
            .extend(CORS.map(|(name, value)| (name, Cow::Borrowed(value))));
        self
    }
}

/// How a connection goes on after a response, as its head says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Connection {
    /// HTTP/1.1 keeps alive without a word.
    Implied,
    KeepAlive,
    Close,
}

/// How a head says where its body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyHead {
    /// Nothing is said: the status has no body, or the connection's end is its end.
    Unstated,
    Length(usize),
    Chunked,
}

/// Writes a head up to and with its empty line.
pub(super) fn write_head<'a>(
    status: u16,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: BodyHead,
    connection: Connection,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
    for (name, value) in headers {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend(value.bytes().map(|byte| match byte {
            0..0x20 | 0x7f => b' ',
            byte => byte,
        }));
        out.extend_from_slice(b"\r\n");
    }
    match body {
        BodyHead::Unstated => {}
        BodyHead::Length(length) => {
            out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        BodyHead::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    match connection {
        Connection::Implied => {}
        Connection::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        Connection::Close => out.extend_from_slice(b"Connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Writes a whole response: one piece, or two when the body is large.
pub(super) fn write(
    response: Response,
    head_only: bool,
    connection: Connection,
) -> (Bytes, Option<Bytes>) {
    // RFC 9110 section 8.6: 204 has no Content-Length, and for 304 it would be that of a 200.
    let bodiless = matches!(response.status, 204 | 304);
    let body = if bodiless {
        BodyHead::Unstated
    } else {
        BodyHead::Length(response.body.len())
    };
    let headers = response
        .headers
        .iter()
        .map(|(name, value)| (*name, &**value));
    let mut head = write_head(response.status, headers, body, connection);
    if head_only || bodiless {
        (head.into(), None)
    } else if response.body.len() <= INLINE_BODY_BYTES_MAX {
        head.extend_from_slice(&response.body);
        (head.into(), None)
    } else {
        (head.into(), Some(response.body))
    }
}

/// The reason phrase of a status code (RFC 9110 section 15); empty for one not used here.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_written() {
        let response = Response::text(404, "no such stream").with_header("X-Name", "a");
        let (bytes, more) = write(response, false, Connection::Implied);
        assert_eq!(
            bytes,
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nX-Name: a\r\n\
             Content-Length: 15\r\n\r\nno such stream\n"
        );
        assert_eq!(more, None);
    }

    #[test]
    fn a_value_cannot_start_another_field() {
        let response = Response::new(302).with_header("Location", "/a\r\nSet-Cookie: b\0");
        let (bytes, _) = write(response, false, Connection::Close);
        assert_eq!(
            bytes,
            "HTTP/1.1 302 Found\r\nLocation: /a  Set-Cookie: b \r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_large_body_is_not_copied() {
        let body = Bytes::from(vec![b'x'; INLINE_BODY_BYTES_MAX + 1]);
        let response = Response::new(200).with_body("text/plain", body.clone());
        let (_, more) = write(response, false, Connection::Implied);
        assert_eq!(more.unwrap().as_ptr(), body.as_ptr());
    }

    #[test]
    fn no_content_states_no_length() {
        let (bytes, _) = write(Response::new(204), false, Connection::KeepAlive);
        assert_eq!(
            bytes,
            "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n"
        );
    }
}
