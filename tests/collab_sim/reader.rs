//! What a client reads, of either wire.

use bytes::Bytes;
use ringside::proto::replication::Wire;

/// Bytes of ZMTP's greeting.
const GREETING: usize = 64;

/// The messages in a stream of bytes.
#[derive(Debug)]
pub(crate) struct Reader {
    wire: Wire,
    bytes: Vec<u8>,
    /// How far it has been read.
    at: usize,
    is_greeted: bool,
    parts: Vec<Bytes>,
    /// Bodies of commands, which only ZMTP has.
    pub(crate) commands: Vec<Bytes>,
}

impl Reader {
    pub(crate) fn new(wire: Wire) -> Self {
        Self {
            wire,
            bytes: Vec::new(),
            at: 0,
            is_greeted: false,
            parts: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// The messages that are whole after some more bytes.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<Vec<Bytes>> {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
        let mut messages = Vec::new();
        let next = match self.wire {
            Wire::Zmtp | Wire::FourPorts => Self::next_zmtp,
            Wire::Tcp => Self::next_tcp,
        };
        while let Some(message) = next(self) {
            messages.push(message);
        }
        messages
    }

    fn take(&mut self, count: usize) -> Option<Bytes> {
        let taken = self.bytes.get(self.at..self.at + count)?;
        self.at += count;
        Some(Bytes::copy_from_slice(taken))
    }

    fn next_zmtp(&mut self) -> Option<Vec<Bytes>> {
        if !self.is_greeted {
            let greeting = self.take(GREETING)?;
            assert_eq!((greeting[0], greeting[9]), (0xff, 0x7f));
            self.is_greeted = true;
        }
        loop {
            let before = self.at;
            let Some((flags, body)) = self.frame() else {
                self.at = before;
                return None;
            };
            if flags & 4 != 0 {
                self.commands.push(body);
                continue;
            }
            self.parts.push(body);
            if flags & 1 == 0 {
                return Some(std::mem::take(&mut self.parts));
            }
        }
    }

    fn frame(&mut self) -> Option<(u8, Bytes)> {
        let flags = self.take(1)?[0];
        let count = match flags & 2 {
            0 => usize::from(self.take(1)?[0]),
            _ => u64::from_be_bytes(self.take(8)?.as_ref().try_into().unwrap()) as usize,
        };
        Some((flags, self.take(count)?))
    }

    fn next_tcp(&mut self) -> Option<Vec<Bytes>> {
        let before = self.at;
        let whole = self.message_tcp();
        if whole.is_none() {
            self.at = before;
        }
        whole
    }

    fn message_tcp(&mut self) -> Option<Vec<Bytes>> {
        let count = self.number()?;
        (0..count)
            .map(|_| {
                let bytes = self.number()?;
                self.take(bytes)
            })
            .collect()
    }

    fn number(&mut self) -> Option<usize> {
        let bytes = self.take(4)?;
        Some(u32::from_be_bytes(bytes.as_ref().try_into().unwrap()) as usize)
    }
}
