//! Messages on their way out.

use bytes::Bytes;

use super::Wire;
use crate::proto::zmtp;

/// One part of a message, in the pieces that it is made of.
pub type Part = Vec<Bytes>;

/// Pieces below this are copied behind the head before them: one more piece to send costs more.
const SHARED_BYTES_MIN: usize = 4096;

/// A message on a wire. Big pieces stay shared memory, whoever gets them.
pub fn frame(wire: Wire, parts: &[Part]) -> Vec<Bytes> {
    let mut done = Vec::new();
    let mut small = Vec::new();
    if wire == Wire::Tcp {
        small.extend_from_slice(&(parts.len() as u32).to_be_bytes());
    }
    for (place, part) in parts.iter().enumerate() {
        let count: usize = part.iter().map(Bytes::len).sum();
        match wire {
            Wire::Zmtp => zmtp::part_head(count, place + 1 < parts.len(), &mut small),
            Wire::Tcp => small.extend_from_slice(&(count as u32).to_be_bytes()),
        }
        for piece in part {
            if piece.len() < SHARED_BYTES_MIN {
                small.extend_from_slice(piece);
            } else {
                done.push(std::mem::take(&mut small).into());
                done.push(piece.clone());
            }
        }
    }
    if !small.is_empty() {
        done.push(small.into());
    }
    done
}

/// How many bytes the pieces have together.
pub fn bytes(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}
