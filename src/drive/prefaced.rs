//! A connection of a trusted proxy, which may begin with a header of the PROXY protocol.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::server_session::{ServerEvent, ServerSession};
use super::{Notice, Session, Wire};
use crate::io::Piece;
use crate::media::buffer::Pool;
use crate::proto::proxy_protocol::{self, Preface, ProxyError};

/// Looks for the header, and is transparent behind it.
#[derive(Debug)]
pub struct Prefaced {
    stage: Stage,
    notice: Option<Notice>,
    inner: ServerSession,
}

#[derive(Debug)]
enum Stage {
    /// The beginning of a header: shorter than the longest one.
    Reading(Vec<u8>),
    Open,
    Failed,
}

impl Prefaced {
    /// `inner` gets the bytes behind the header, or all of them if there is none. Until then the
    /// time that it gives a peer for its first words runs.
    pub fn new(inner: ServerSession) -> Self {
        Self {
            stage: Stage::Reading(Vec::new()),
            notice: None,
            inner,
        }
    }

    /// The session behind the header.
    pub fn inner(&mut self) -> &mut ServerSession {
        &mut self.inner
    }

    /// The same to look at.
    pub fn as_inner(&self) -> &ServerSession {
        &self.inner
    }

    fn read(&mut self, now: Instant, mut held: Vec<u8>) -> Result<Stage, ProxyError> {
        let start = match proxy_protocol::read(&held)? {
            Preface::Incomplete => {
                held.shrink_to_fit();
                return Ok(Stage::Reading(held));
            }
            Preface::Absent => 0,
            Preface::Header { bytes, client } => {
                self.notice = client.map(Notice::Peer);
                bytes
            }
        };
        if let Some(rest) = held.get(start..).filter(|rest| !rest.is_empty()) {
            self.inner.handle_input(now, rest);
        }
        Ok(Stage::Open)
    }
}

impl Session for Prefaced {
    type Event = ServerEvent;

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        let held = match &mut self.stage {
            Stage::Open => return self.inner.handle_input(now, bytes),
            Stage::Failed => return,
            Stage::Reading(held) => {
                held.extend_from_slice(bytes);
                std::mem::take(held)
            }
        };
        self.stage = self.read(now, held).unwrap_or_else(|error| {
            tracing::debug!(%error, "a trusted proxy sent a header that cannot be read");
            self.notice = Some(Notice::Failed);
            Stage::Failed
        });
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.inner.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<ServerEvent> {
        self.inner.poll_event()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.inner.poll_timeout()
    }

    fn seal(&mut self, queue: &mut VecDeque<Piece>, pool: &mut Pool) -> Wire {
        self.inner.seal(queue, pool)
    }

    fn finish(&mut self) {
        self.inner.finish();
    }

    fn poll_notice(&mut self) -> Option<Notice> {
        self.notice.take().or_else(|| self.inner.poll_notice())
    }
}
