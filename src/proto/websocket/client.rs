//! The opening handshake of a client (RFC 6455 section 4.1), for tests and load tools.

use base64ct::{Base64, Encoding};
use bytes::Bytes;

use super::error::HandshakeError;
use super::extension::{self, Deflate};
use super::handshake::answer_to;
use crate::base::prng::Prng;

/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 32;

/// A handshake under way.
#[derive(Debug)]
pub struct ClientHandshake {
    key: String,
    head: Vec<u8>,
}

impl ClientHandshake {
    /// The handshake and the request to send. The key follows from `seed`: it is there so that a
    /// cache cannot answer, and keeps no secret. `fields` are more header fields, each with its
    /// line end.
    pub fn new(host: &str, target: &str, fields: &str, deflate: bool, seed: u64) -> (Self, Bytes) {
        let mut nonce = [0; 16];
        Prng::new(seed).fill(&mut nonce);
        let key = Base64::encode_string(&nonce);
        let offer = if deflate {
            format!("Sec-WebSocket-Extensions: {}\r\n", extension::OFFER)
        } else {
            String::new()
        };
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
             {offer}{fields}\r\n"
        );
        let head = Vec::new();
        (Self { key, head }, request.into())
    }

    /// Reads the answer. When it is complete, the compression that was agreed on and the bytes
    /// behind it, which belong to the session.
    #[expect(
        clippy::type_complexity,
        reason = "two values that may not be there yet"
    )]
    pub fn handle_input(
        &mut self,
        bytes: &[u8],
    ) -> Result<Option<(Option<Deflate>, Vec<u8>)>, HandshakeError> {
        self.head.extend_from_slice(bytes);
        let mut table = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut table);
        let used = match response.parse(&self.head) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) if self.head.len() < HEAD_BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) | Err(_) => return Err(HandshakeError::Answer),
        };
        let headers = &*response.headers;
        let values = |wanted: &'static str| {
            headers
                .iter()
                .filter(move |header| header.name.eq_ignore_ascii_case(wanted))
                .filter_map(|header| std::str::from_utf8(header.value).ok())
        };
        let is_answer = response.code == Some(101)
            && values("upgrade").any(|value| value.eq_ignore_ascii_case("websocket"))
            && values("connection").any(|value| value.eq_ignore_ascii_case("upgrade"))
            && values("sec-websocket-accept").eq([answer_to(&self.key).as_str()]);
        if !is_answer {
            return Err(HandshakeError::Answer);
        }
        let deflate = extension::answered(values("sec-websocket-extensions"))?;
        Ok(Some((deflate, self.head[used..].to_vec())))
    }
}
