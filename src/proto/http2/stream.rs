//! One stream: what it waits for, and its request's body.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use h2::server::SendResponse;
use h2::{RecvStream, SendStream};

use super::options::Options;
use super::wire::{Payload, Queue};
use crate::proto::http::{Refusal, Request};

pub(super) struct Stream {
    pub(super) respond: SendResponse<Payload>,
    pub(super) head_only: bool,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    /// The body is being read.
    Reading(Box<Reading>),
    /// The owner has the request.
    Responding,
    /// The owner sends a body.
    Sending(Sending),
}

pub(super) struct Reading {
    /// Taken out when the body is complete.
    pub(super) request: Option<Box<Request>>,
    pub(super) body: RecvStream,
    pub(super) received: Vec<u8>,
    pub(super) deadline: Instant,
}

pub(super) struct Sending {
    pub(super) stream: SendStream<Payload>,
    pub(super) queue: Rc<Queue>,
    /// Bytes that the stated length still allows.
    pub(super) left: Option<u64>,
    /// The answer of the session itself: the owner has not heard of the stream.
    pub(super) is_silent: bool,
}

impl Stream {
    pub(super) fn is_silent(&self) -> bool {
        match &self.phase {
            Phase::Sending(sending) => sending.is_silent,
            Phase::Reading(_) | Phase::Responding => false,
        }
    }

    pub(super) fn body_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Reading(reading) => Some(reading.deadline),
            Phase::Responding | Phase::Sending(_) => None,
        }
    }
}

impl Reading {
    /// Reads on to the end of the body. An error says why it is refused, or nothing if the stream
    /// was reset.
    pub(super) fn read(
        &mut self,
        context: &mut Context<'_>,
        bytes_max: usize,
    ) -> Poll<Result<(), Option<Refusal>>> {
        loop {
            match self.body.poll_data(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(data))) if self.received.len() + data.len() <= bytes_max => {
                    self.received.extend_from_slice(&data);
                }
                Poll::Ready(Some(Ok(_))) => {
                    return Poll::Ready(Err(Some(Refusal::BodyTooLarge)));
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(None)),
                Poll::Ready(None) => break,
            }
        }
        // The connection's window opens only here: what all streams hold together is bounded.
        let _ = self
            .body
            .flow_control()
            .release_capacity(self.received.len());
        Poll::Ready(Ok(()))
    }
}

/// Why a request whose head is good cannot have the body it announces.
pub(super) fn refusal_of_body(
    request: &Request,
    is_complete: bool,
    options: &Options,
) -> Option<Refusal> {
    if is_complete {
        return None;
    }
    let length = request
        .header("content-length")
        .and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > u64::from(options.body_bytes_max)) {
        return Some(Refusal::BodyTooLarge);
    }
    request
        .header("expect")
        .filter(|expected| !expected.eq_ignore_ascii_case("100-continue"))
        .map(|_| Refusal::Expectation)
}
