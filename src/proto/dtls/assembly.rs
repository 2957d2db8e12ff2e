//! A handshake message, put together from its fragments.

use std::ops::Range;

use super::record::Message;

/// The longest message that is put together. The ClientHellos of Chromium and Firefox have 1410 and
/// 1460 bytes, with shares of every group that they know 3000; a certificate has 300 to 1500.
pub(super) const MESSAGE_BYTES_MAX: usize = 8192;

/// Pieces that have come and do not touch: as many as 8192 bytes have datagrams of 512.
pub(super) const PIECES_MAX: usize = 16;

/// A message while it is incomplete.
///
/// Nobody has authenticated the pieces. One that contradicts those before it, or is of a message of
/// another length, takes their place, so that the message of a peer that sends it again gets through.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// As long as the message says it is, with zeros where nothing has come.
    body: Vec<u8>,
    /// What has come; in order, apart from each other.
    known: Vec<Range<usize>>,
}

impl Pieces {
    /// Adds a piece; true if nothing is missing then.
    pub(super) fn add(&mut self, message: &Message<'_>) -> bool {
        let length = message.length as usize;
        if length > MESSAGE_BYTES_MAX || message.body.is_empty() {
            return false;
        }
        let start = message.offset as usize;
        let piece = start..start + message.body.len();
        if self.body.len() != length || self.contradicts(&piece, message.body) {
            self.clear();
            self.body.resize(length, 0);
        }
        self.body[piece.clone()].copy_from_slice(message.body);
        let touches = |other: &Range<usize>| piece.start <= other.end && other.start <= piece.end;
        let mut merged = piece.clone();
        for other in self.known.iter().filter(|other| touches(other)) {
            merged = merged.start.min(other.start)..merged.end.max(other.end);
        }
        self.known.retain(|other| !touches(other));
        if self.known.len() == PIECES_MAX {
            self.known.remove(0);
        }
        let at = self
            .known
            .partition_point(|other| other.start < merged.start);
        self.known.insert(at, merged);
        self.whole().is_some()
    }

    /// The message's body, if nothing of it is missing.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (self.known.first() == Some(&(0..self.body.len()))).then_some(&self.body)
    }

    pub(super) fn clear(&mut self) {
        self.body.clear();
        self.known.clear();
    }

    fn contradicts(&self, piece: &Range<usize>, bytes: &[u8]) -> bool {
        self.known.iter().any(|known| {
            let (from, to) = (known.start.max(piece.start), known.end.min(piece.end));
            from < to && self.body[from..to] != bytes[from - piece.start..to - piece.start]
        })
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }
}

const _: () = assert!(Message::HEADER_SIZE + MESSAGE_BYTES_MAX <= u16::MAX as usize);
