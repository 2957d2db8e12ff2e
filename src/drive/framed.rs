//! ICE over TCP: datagrams of a WebRTC peer in a connection (RFC 4571, RFC 6544).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Notice;
use crate::proto::ice::Deframer;

/// How long a connection may take to send its first frame, which is a check.
const FIRST_FRAME: Duration = Duration::from_secs(10);

/// Frames that wait for the door: one read of 16 KiB has at most 5461 empty ones, which are not
/// given out, and some hundred checks.
const FRAMES_MAX: usize = 2048;

/// One connection.
#[derive(Debug)]
pub struct Framed {
    deframer: Deframer,
    frames: VecDeque<Bytes>,
    is_failed: bool,
    is_silent_until: Option<Instant>,
}

impl Framed {
    /// A connection that begins.
    pub fn new(now: Instant) -> Self {
        Self {
            deframer: Deframer::new(),
            frames: VecDeque::new(),
            is_failed: false,
            is_silent_until: Some(now + FIRST_FRAME),
        }
    }

    pub(super) fn handle_input(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !self.is_failed {
            match self.deframer.next(rest) {
                Ok((taken, frame)) => {
                    rest = &rest[taken..];
                    let Some(frame) = frame else { return };
                    self.is_silent_until = None;
                    if self.frames.len() < FRAMES_MAX {
                        self.frames.push_back(Bytes::copy_from_slice(frame));
                    } else {
                        self.is_failed = true;
                    }
                }
                Err(_) => self.is_failed = true,
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.is_failed |= self.is_silent_until.is_some_and(|until| now >= until);
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let until = self.is_silent_until.filter(|_| !self.is_failed)?;
        Some((until, "the first frame"))
    }

    pub(super) fn poll_event(&mut self) -> Option<Bytes> {
        self.frames.pop_front()
    }

    pub(super) fn poll_notice(&mut self) -> Option<Notice> {
        std::mem::take(&mut self.is_failed).then_some(Notice::Failed)
    }
}
