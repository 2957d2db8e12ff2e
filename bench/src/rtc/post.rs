//! An offer on its way to the server, and the answer.

use std::time::Instant;

use bytes::Bytes;
use ringside::drive::Session;
use ringside::proto::http::ClientSession;

/// Bytes of an answer.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What became of an offer: the answer, or why there is none.
pub(super) type Answered = Result<String, String>;

/// One POST.
pub(super) struct Post {
    http: ClientSession,
    body: Vec<u8>,
    event: Option<Answered>,
    is_told: bool,
}

impl Post {
    pub(super) fn new(host: &str, target: &str, offer: &str) -> Self {
        Self {
            http: ClientSession::post(host, target, "application/sdp", offer),
            body: Vec::new(),
            event: None,
            is_told: false,
        }
    }

    fn tell(&mut self, event: Answered) {
        if !self.is_told {
            (self.event, self.is_told) = (Some(event), true);
        }
    }
}

impl Session for Post {
    type Event = Answered;

    fn handle_input(&mut self, _now: Instant, bytes: &[u8]) {
        let body = &mut self.body;
        let result = self.http.handle_input(bytes, |piece| {
            if body.len() + piece.len() <= BODY_BYTES_MAX {
                body.extend_from_slice(piece);
            }
        });
        let text = || String::from_utf8_lossy(&self.body).into_owned();
        match (result, self.http.status()) {
            (Err(error), _) => self.tell(Err(error.to_string())),
            (Ok(()), Some(201)) if self.http.is_done() => self.tell(Ok(text())),
            (Ok(()), Some(status)) if self.http.is_done() => {
                let text = text();
                self.tell(Err(format!("status {status}: {text}")));
            }
            (Ok(()), Some(_) | None) => {}
        }
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.http.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<Answered> {
        self.event.take()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        None
    }
}
