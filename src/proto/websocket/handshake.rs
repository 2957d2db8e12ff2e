//! The opening handshake of a server (RFC 6455 section 4.2).

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::error::HandshakeError;
use super::extension::{self, Deflate};
use super::options::Options;
use crate::proto::http::Request;

/// What a key is answered with (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;

/// A handshake that succeeds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The subprotocol that was chosen.
    pub protocol: Option<String>,
    /// The compression that was agreed on.
    pub deflate: Option<Deflate>,
    /// The head of the answer.
    pub(super) head: Bytes,
}

/// Checks a request for a WebSocket and answers it. Of the subprotocols that the client names,
/// the first that is in `protocols` is chosen; none is no error (RFC 6455 section 4.2.2).
pub fn accept(
    request: &Request,
    options: &Options,
    protocols: &[&str],
) -> Result<Accepted, HandshakeError> {
    if !request.is_websocket() {
        return Err(HandshakeError::NotUpgrade);
    }
    let mut versions = request.values("sec-websocket-version");
    if versions.next() != Some("13") || versions.next().is_some() {
        return Err(HandshakeError::Version);
    }
    let mut keys = request.values("sec-websocket-key");
    let key = keys.next().ok_or(HandshakeError::Key)?;
    let mut decoded = [0; KEY_BYTES + 2];
    let is_key = Base64::decode(key, &mut decoded).is_ok_and(|key| key.len() == KEY_BYTES);
    if !is_key || keys.next().is_some() {
        return Err(HandshakeError::Key);
    }
    let protocol = request
        .values("sec-websocket-protocol")
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .find(|name| protocols.contains(name));
    let deflate = options.deflate.as_ref().and_then(|deflate| {
        extension::negotiate(request.values("sec-websocket-extensions"), deflate)
    });
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        answer_to(key)
    );
    if let Some(protocol) = protocol {
        head.push_str(&format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
    }
    if let Some(deflate) = deflate {
        head.push_str(&format!("Sec-WebSocket-Extensions: {deflate}\r\n"));
    }
    head.push_str("\r\n");
    Ok(Accepted {
        protocol: protocol.map(str::to_owned),
        deflate,
        head: head.into(),
    })
}

/// The Sec-WebSocket-Accept for a Sec-WebSocket-Key.
pub(super) fn answer_to(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    Base64::encode_string(&hash.finalize())
}
