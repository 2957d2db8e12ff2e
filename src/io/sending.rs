//! The bytes of a TCP send, kept alive until the kernel has taken them.

#![allow(unsafe_code, reason = "`msghdr` is made of zeros")]

use std::collections::VecDeque;
use std::ops::Deref;

use bytes::{Buf, Bytes};

use crate::media::buffer::Buffer;

/// Pieces in one vectored send. Eight slabs of 64 KiB are more than a socket buffer takes at once.
pub(super) const PIECES_MAX: usize = 8;

/// Bytes of one send. The kernel copies as long as the peer takes: a send of half a gigabyte to a
/// peer that reads as fast would hold up everybody else of the shard to its end.
pub(super) const SEND_BYTES_MAX: usize = 1 << 20;

/// Bytes to send, shared with other receivers or not.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes of one connection, or a header shared by several.
    Bytes(Bytes),
    /// A part of a shared log.
    Buffer(Buffer),
}

impl Piece {
    /// Drops the first `count` bytes.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    pub fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::Buffer(buffer) => buffer.advance(count),
        }
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Buffer(buffer) => buffer,
        }
    }
}

/// The bytes of the one send that a socket may have under way.
pub(super) enum Sending {
    Nothing,
    One(Piece),
    Many(Box<Vectored>),
}

/// What `sendmsg` points at; boxed, so that it does not move.
pub(super) struct Vectored {
    pieces: Vec<Piece>,
    vectors: [libc::iovec; PIECES_MAX],
    message: libc::msghdr,
}

impl Sending {
    /// The pieces that are left after `sent` bytes.
    pub(super) fn after(self, mut sent: usize) -> VecDeque<Piece> {
        let mut pieces: VecDeque<Piece> = match self {
            Self::Nothing => VecDeque::new(),
            // The usual case, without an allocation.
            Self::One(piece) if piece.len() == sent => return VecDeque::new(),
            Self::One(piece) => VecDeque::from([piece]),
            Self::Many(vectored) => vectored.pieces.into(),
        };
        while let Some(first) = pieces.front_mut() {
            if sent < first.len() {
                first.advance(sent);
                break;
            }
            sent -= first.len();
            pieces.pop_front();
        }
        pieces
    }
}

impl Vectored {
    pub(super) fn new(pieces: Vec<Piece>) -> Self {
        const EMPTY: libc::iovec = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            pieces,
            vectors: [EMPTY; PIECES_MAX],
            // SAFETY: all fields are integers and pointers, for which zero is a value.
            message: unsafe { std::mem::zeroed() },
        }
    }

    /// Fills in the pointers, once the box no longer moves.
    pub(super) fn point(&mut self) -> *const libc::msghdr {
        let mut room = SEND_BYTES_MAX;
        for (vector, piece) in self.vectors.iter_mut().zip(&self.pieces) {
            vector.iov_base = piece.as_ptr().cast_mut().cast();
            vector.iov_len = piece.len().min(room);
            room -= vector.iov_len;
        }
        self.message.msg_iov = self.vectors.as_mut_ptr();
        self.message.msg_iovlen = self.pieces.len();
        &raw const self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_send_is_bounded_and_the_rest_follows() {
        let piece = |byte| Piece::Bytes(Bytes::from(vec![byte; 600 * 1024]));
        let mut vectored = Box::new(Vectored::new(vec![piece(1), piece(2), piece(3)]));
        vectored.point();
        let lengths: Vec<usize> = vectored.vectors.iter().map(|v| v.iov_len).collect();
        assert_eq!(lengths.iter().sum::<usize>(), SEND_BYTES_MAX);
        let rest = Sending::Many(vectored).after(SEND_BYTES_MAX);
        assert_eq!(
            rest.iter().map(|piece| piece.len()).collect::<Vec<_>>(),
            [2 * 600 * 1024 - SEND_BYTES_MAX, 600 * 1024]
        );
        let rest = Sending::One(piece(1)).after(100);
        assert_eq!(rest[0].len(), 600 * 1024 - 100);
    }
}
