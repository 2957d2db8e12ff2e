//! Messages on their way out.

use bytes::Bytes;

use super::{Wire, four_ports};
use crate::proto::zmtp;

/// One part of a message, in the pieces that it is made of.
pub type Part = Vec<Bytes>;

/// Pieces below this are copied behind the head before them: one more piece to send costs more.
const SHARED_BYTES_MIN: usize = 4096;

/// A message on a wire. Big pieces stay shared memory, whoever gets them.
pub fn frame(wire: Wire, parts: &[Part]) -> Vec<Bytes> {
    let mut framed = Framed::default();
    match wire {
        Wire::Zmtp => framed.zmtp(parts),
        Wire::Tcp => framed.tcp(parts),
        Wire::FourPorts => framed.four_ports(Bytes::from_static(four_ports::SERVER), parts),
    }
    framed.finish()
}

/// A node as a client of generation A sends it, by a connection whose socket has no identity.
pub fn frame_pushed(identity: &str, parts: &[Part; 5]) -> Vec<Bytes> {
    let mut framed = Framed::default();
    framed.four_ports(Bytes::copy_from_slice(identity.as_bytes()), parts);
    framed.finish()
}

#[derive(Default)]
struct Framed {
    done: Vec<Bytes>,
    small: Vec<u8>,
}

impl Framed {
    fn zmtp(&mut self, parts: &[Part]) {
        for (place, part) in parts.iter().enumerate() {
            zmtp::part_head(bytes(part), place + 1 < parts.len(), &mut self.small);
            self.part(part);
        }
    }

    fn four_ports(&mut self, sender: Bytes, parts: &[Part]) {
        for message in four_ports::messages(sender, parts) {
            self.zmtp(&message);
        }
    }

    fn tcp(&mut self, parts: &[Part]) {
        self.number(parts.len());
        for part in parts {
            self.number(bytes(part));
            self.part(part);
        }
    }

    fn number(&mut self, number: usize) {
        self.small.extend_from_slice(&(number as u32).to_be_bytes());
    }

    fn part(&mut self, part: &Part) {
        for piece in part {
            if piece.len() < SHARED_BYTES_MIN {
                self.small.extend_from_slice(piece);
            } else {
                self.done.push(std::mem::take(&mut self.small).into());
                self.done.push(piece.clone());
            }
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.small.is_empty() {
            self.done.push(self.small.into());
        }
        self.done
    }
}

/// How many bytes the pieces have together.
pub fn bytes(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}
