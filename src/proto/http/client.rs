//! A client for one request, for load tests: reads the head, then hands out the body's bytes where
//! they lie in the input.

use bytes::Bytes;

use super::body::{ChunkDecoder, Step};
use super::error::Refusal;
use super::head::{HeadLimits, HeadScan};
use super::request::{HEADERS_MAX, parse_length};

const LIMITS: HeadLimits = HeadLimits {
    first_line_bytes_max: 16 * 1024,
    bytes_max: 64 * 1024,
};

/// What is wrong with a response.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum ClientError {
    /// The head is not HTTP/1 or too large.
    #[error("the response head is malformed")]
    Head,
    /// The body's framing is malformed.
    #[error("the response body is malformed")]
    Body,
    /// The connection ended before the response did.
    #[error("the response ends early")]
    Short,
}

impl From<Refusal> for ClientError {
    fn from(_: Refusal) -> Self {
        Self::Body
    }
}

/// One request and its response.
#[derive(Debug)]
pub struct ClientSession {
    transmit: Option<Bytes>,
    state: State,
    status: u16,
    content_type: String,
}

#[derive(Debug)]
enum State {
    Head { scan: HeadScan, head: Vec<u8> },
    Fixed { left: u64 },
    Chunked(ChunkDecoder),
    UntilClose,
    Done,
    Failed(ClientError),
}

impl ClientSession {
    /// A request for `target` of `host`. The connection is to be used for nothing else.
    pub fn get(host: &str, target: &str) -> Self {
        Self::request(format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ringside\r\n\r\n"
        ))
    }

    /// A POST of `body` to `target` of `host`. The connection is to be used for nothing else.
    pub fn post(host: &str, target: &str, content_type: &str, body: &str) -> Self {
        let length = body.len();
        Self::request(format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ringside\r\n\
             Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    fn request(text: String) -> Self {
        Self {
            transmit: Some(text.into()),
            state: State::Head {
                scan: HeadScan::new(),
                head: Vec::new(),
            },
            status: 0,
            content_type: String::new(),
        }
    }

    /// The bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.transmit.take()
    }

    /// Bytes from the server; `body` is called with each piece of the body among them. An error
    /// stays.
    pub fn handle_input(
        &mut self,
        bytes: &[u8],
        mut body: impl FnMut(&[u8]),
    ) -> Result<(), ClientError> {
        let read = self.read(bytes, &mut body);
        if let Err(error) = read {
            self.state = State::Failed(error);
        }
        read
    }

    /// The server closed the connection.
    pub fn handle_eof(&mut self) -> Result<(), ClientError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(error) => Err(error),
            State::Head { .. } | State::Fixed { .. } | State::Chunked(_) => Err(ClientError::Short),
        }
    }

    /// The status code once the head is complete.
    pub fn status(&self) -> Option<u16> {
        (self.status != 0).then_some(self.status)
    }

    /// The Content-Type, empty before the head is complete.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// True when the whole response was read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn read(&mut self, bytes: &[u8], body: &mut impl FnMut(&[u8])) -> Result<(), ClientError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.state {
                State::Head { scan, head } => {
                    let end = scan.advance(rest, LIMITS).map_err(|_| ClientError::Head)?;
                    let (used, after) = rest.split_at(end.unwrap_or(rest.len()));
                    head.extend_from_slice(used);
                    rest = after;
                    if end.is_some() {
                        let head = std::mem::take(head);
                        self.state = self.begin(&head)?;
                    }
                }
                State::Fixed { left } => {
                    let length = (*left).min(rest.len() as u64);
                    let (data, after) = rest.split_at(length as usize);
                    body(data);
                    rest = after;
                    *left -= length;
                    if *left == 0 {
                        self.state = State::Done;
                    }
                }
                State::Chunked(decoder) => match decoder.step(rest)? {
                    Step::Data { skip, length } => {
                        let (data, after) = rest[skip..].split_at(length);
                        body(data);
                        rest = after;
                    }
                    Step::More => rest = &[],
                    Step::Done { used } => {
                        rest = &rest[used..];
                        self.state = State::Done;
                    }
                },
                State::UntilClose => {
                    body(rest);
                    rest = &[];
                }
                State::Done => return Ok(()),
                State::Failed(error) => return Err(*error),
            }
        }
        Ok(())
    }

    fn begin(&mut self, head: &[u8]) -> Result<State, ClientError> {
        let mut table = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut table);
        response.parse(head).map_err(|_| ClientError::Head)?;
        let status = response.code.ok_or(ClientError::Head)?;
        let field = |wanted: &str| {
            let mut fields = response.headers.iter();
            fields
                .find(|header| header.name.eq_ignore_ascii_case(wanted))
                .map(|header| header.value)
        };
        if (100..200).contains(&status) {
            return Ok(State::Head {
                scan: HeadScan::new(),
                head: Vec::new(),
            });
        }
        self.status = status;
        let content_type = field("content-type").unwrap_or_default();
        self.content_type = String::from_utf8_lossy(content_type).into_owned();
        if matches!(status, 204 | 304) {
            return Ok(State::Done);
        }
        Ok(
            match (field("transfer-encoding"), field("content-length")) {
                (Some(coding), _) if coding.eq_ignore_ascii_case(b"chunked") => {
                    State::Chunked(ChunkDecoder::new())
                }
                (Some(_), _) => return Err(ClientError::Body),
                (None, Some(length)) => match parse_length(length)? {
                    0 => State::Done,
                    left => State::Fixed { left },
                },
                (None, None) => State::UntilClose,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::proto::http::{Framing, Options, Session, chunk};

    use super::*;

    /// Some time: what follows in a test is counted from it.
    #[expect(
        clippy::disallowed_methods,
        reason = "a test has to begin at some time"
    )]
    fn start() -> Instant {
        use std::time::Instant as Clock;
        Clock::now()
    }

    fn read(input: &[u8], piece: usize) -> (ClientSession, Vec<u8>) {
        let mut session = ClientSession::get("a", "/");
        let mut body = Vec::new();
        for bytes in input.chunks(piece) {
            session
                .handle_input(bytes, |data| body.extend_from_slice(data))
                .unwrap();
        }
        (session, body)
    }

    #[test]
    fn the_request_is_sent_once() {
        let mut session = ClientSession::get("host:1", "/live.flv");
        let request = session.poll_transmit().unwrap();
        assert!(request.starts_with(b"GET /live.flv HTTP/1.1\r\nHost: host:1\r\n"));
        assert_eq!(session.poll_transmit(), None);
    }

    #[test]
    fn a_post_has_its_body_behind_the_head() {
        let mut session = ClientSession::post("a", "/whep/live", "application/sdp", "v=0");
        let request = session.poll_transmit().unwrap();
        assert!(request.starts_with(b"POST /whep/live HTTP/1.1\r\nHost: a\r\n"));
        assert!(
            request.ends_with(b"Content-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0")
        );
    }

    #[test]
    fn chunks_are_removed_however_the_input_is_cut() {
        let input =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\
                      Transfer-Encoding: chunked\r\n\r\n00000003\r\nFLV\r\n2\r\nab\r\n0\r\n\r\n";
        for piece in 1..input.len() {
            let (session, body) = read(input, piece);
            assert_eq!(session.status(), Some(200));
            assert_eq!(session.content_type(), "video/x-flv");
            assert_eq!(body, b"FLVab");
            assert!(session.is_done());
        }
    }

    #[test]
    fn the_end_of_the_connection_ends_only_some_bodies() {
        let (mut session, body) = read(b"HTTP/1.0 200 OK\r\n\r\nabc", 2);
        assert_eq!(
            (body.as_slice(), session.handle_eof()),
            (&b"abc"[..], Ok(()))
        );
        let (mut session, _) = read(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", 2);
        assert_eq!(session.handle_eof(), Err(ClientError::Short));
    }

    #[test]
    fn a_live_response_of_the_session_is_read() {
        let now = start();
        let mut server = Session::new(now, Options::default());
        let mut client = ClientSession::get("a", "/live.flv");
        server.handle_input(now, &client.poll_transmit().unwrap());
        assert_eq!(
            server.respond_stream(now, 200, &[("Content-Type", "video/x-flv")]),
            Framing::Chunked
        );
        let mut frames = Vec::new();
        chunk(&mut frames, |out| out.extend_from_slice(b"FLV"));
        chunk(&mut frames, |out| out.extend_from_slice(&[7; 5000]));
        let mut body = Vec::new();
        let mut receive =
            |bytes: &[u8]| client.handle_input(bytes, |data| body.extend_from_slice(data));
        receive(&server.poll_transmit().unwrap()).unwrap();
        receive(&frames).unwrap();
        server.end_stream(now);
        receive(&server.poll_transmit().unwrap()).unwrap();
        assert!(client.is_done());
        assert_eq!((body.len(), &body[..4]), (5003, &b"FLV\x07"[..]));
    }

    #[test]
    fn garbage_is_an_error_that_stays() {
        let mut session = ClientSession::get("a", "/");
        let read = session.handle_input(b"SSH-2.0-x\r\n\r\n", |_| {});
        assert_eq!(read, Err(ClientError::Head));
        assert_eq!(session.handle_input(b"x", |_| {}), Err(ClientError::Head));
        assert_eq!(session.handle_eof(), Err(ClientError::Head));
    }
}
