//! The connection as `h2` sees it: memory that is read from and written to.
//!
//! `h2` writes a DATA frame as its head and a view of the body's bytes. [`Payload`] says which
//! shared bytes the view is of just before it is written, so that the pipe can take a reference to
//! them; a view that it does not recognise is copied.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::session::StreamNumber;

/// A view shorter than this is copied behind its frame's head, so that both leave in one send.
const SHARED_BYTES_MIN: usize = 1024;

/// The session's side.
#[derive(Debug)]
pub(super) struct Wire(Rc<RefCell<State>>);

/// The side of `h2`.
#[derive(Debug)]
pub(super) struct Pipe(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    input: Vec<u8>,
    /// Bytes of `input` that were read; `read <= input.len()`.
    read: usize,
    output: VecDeque<Bytes>,
    /// What comes behind `output` and is not shared.
    tail: Vec<u8>,
    /// Bytes of both.
    output_bytes: usize,
    output_bytes_max: usize,
    /// A write was refused since the output was full.
    blocked: bool,
    /// The bytes of which a view is about to be written.
    offered: Option<Bytes>,
    /// Bytes that streams have to send.
    queued_bytes: usize,
    /// Bytes of streams that went out since the beginning.
    moved_bytes: u64,
    /// Streams whose queue has become empty.
    drained: Vec<StreamNumber>,
}

impl Wire {
    pub(super) fn new(output_bytes_max: usize) -> Self {
        Self(Rc::new(RefCell::new(State {
            input: Vec::new(),
            read: 0,
            output: VecDeque::new(),
            tail: Vec::new(),
            output_bytes: 0,
            output_bytes_max,
            blocked: false,
            offered: None,
            queued_bytes: 0,
            moved_bytes: 0,
            drained: Vec::new(),
        })))
    }

    pub(super) fn pipe(&self) -> Pipe {
        Pipe(Rc::clone(&self.0))
    }

    /// The queue of one stream. `tells` whether its emptiness is of interest.
    pub(super) fn queue(&self, stream: StreamNumber, tells: bool) -> Rc<Queue> {
        Rc::new(Queue {
            state: Rc::clone(&self.0),
            stream,
            tells,
            bytes: Cell::new(0),
        })
    }

    pub(super) fn receive(&self, bytes: &[u8]) {
        self.0.borrow_mut().input.extend_from_slice(bytes);
    }

    /// Bytes that were received and not read.
    pub(super) fn unread_bytes(&self) -> usize {
        let state = self.0.borrow();
        state.input.len() - state.read
    }

    /// The next bytes to send.
    pub(super) fn transmit(&self) -> Option<Bytes> {
        let state = &mut *self.0.borrow_mut();
        let bytes = state.output.pop_front().or_else(|| {
            (!state.tail.is_empty()).then(|| Bytes::from(std::mem::take(&mut state.tail)))
        })?;
        state.output_bytes -= bytes.len();
        if state.output.is_empty() {
            state.output = VecDeque::new();
        }
        Some(bytes)
    }

    /// True if a write was refused and there is room for several again.
    pub(super) fn is_released(&self) -> bool {
        let state = self.0.borrow();
        state.blocked && state.output_bytes <= state.output_bytes_max / 2
    }

    /// Takes whatever is left to be written, when the connection ends.
    pub(super) fn lift_bound(&self) {
        self.0.borrow_mut().output_bytes_max = usize::MAX;
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.0.borrow().queued_bytes
    }

    pub(super) fn moved_bytes(&self) -> u64 {
        self.0.borrow().moved_bytes
    }

    pub(super) fn take_drained(&self) -> Vec<StreamNumber> {
        std::mem::take(&mut self.0.borrow_mut().drained)
    }
}

impl State {
    fn write(&mut self, slices: &[&[u8]]) -> Poll<io::Result<usize>> {
        let offered = self.offered.take();
        if self.output_bytes >= self.output_bytes_max {
            self.blocked = true;
            return Poll::Pending;
        }
        self.blocked = false;
        let mut count = 0;
        for slice in slices {
            count += slice.len();
            match &offered {
                Some(bytes)
                    if slice.len() >= SHARED_BYTES_MIN
                        && bytes.as_ptr() == slice.as_ptr()
                        && bytes.len() >= slice.len() =>
                {
                    if !self.tail.is_empty() {
                        self.output.push_back(std::mem::take(&mut self.tail).into());
                    }
                    self.output.push_back(bytes.slice(..slice.len()));
                }
                Some(_) | None => self.tail.extend_from_slice(slice),
            }
        }
        self.output_bytes += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        let unread = &state.input[state.read..];
        if unread.is_empty() {
            return Poll::Pending;
        }
        let count = unread.len().min(buffer.remaining());
        buffer.put_slice(&unread[..count]);
        state.read += count;
        if state.read == state.input.len() {
            // An idle connection holds no buffer here.
            state.input = Vec::new();
            state.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().write(&[bytes])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut views: smallvec::SmallVec<[&[u8]; 4]> = smallvec::SmallVec::new();
        views.extend(slices.iter().map(|slice| &**slice));
        self.0.borrow_mut().write(&views)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What one stream has to send.
#[derive(Debug)]
pub(super) struct Queue {
    state: Rc<RefCell<State>>,
    stream: StreamNumber,
    tells: bool,
    bytes: Cell<usize>,
}

impl Queue {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Bytes that leave the queue: into the output, or because the stream is gone.
    fn leave(&self, count: usize, sent: bool) {
        self.bytes.set(self.bytes.get() - count);
        let state = &mut *self.state.borrow_mut();
        state.queued_bytes -= count;
        if sent {
            state.moved_bytes += count as u64;
            if self.tells && self.bytes.get() == 0 {
                state.drained.push(self.stream);
            }
        }
    }
}

/// Bytes of a body on their way, counted in the queue of their stream until they are written.
#[derive(Debug)]
pub(super) struct Payload {
    bytes: Bytes,
    queue: Rc<Queue>,
}

impl Payload {
    pub(super) fn new(bytes: Bytes, queue: &Rc<Queue>) -> Self {
        queue.bytes.set(queue.bytes.get() + bytes.len());
        queue.state.borrow_mut().queued_bytes += bytes.len();
        Self {
            bytes,
            queue: Rc::clone(queue),
        }
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let (Some(slice), false) = (slices.first_mut(), self.bytes.is_empty()) else {
            return 0;
        };
        *slice = IoSlice::new(&self.bytes);
        self.queue.state.borrow_mut().offered = Some(self.bytes.clone());
        1
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if count > 0 {
            self.queue.leave(count, true);
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.queue.leave(self.bytes.len(), false);
        }
    }
}
