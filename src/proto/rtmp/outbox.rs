//! What a session has to send, apart from media.

use bytes::Bytes;

use super::Error;
use super::chunk::{CHUNK_SIZE_DEFAULT, Envelope, write_message};
use super::message::{control, kind, write_command};
use crate::proto::amf::Value;

/// Chunk size that is announced to every peer, so that what is written for one is right for all.
/// Flash and its successors accept sizes up to 65536.
pub const OUTPUT_CHUNK_SIZE: usize = 65_536;
/// Replies that may wait. Between two polls a peer can ask for this much only by flooding: the
/// longest real exchange is below 2 KiB.
pub const REPLY_BYTES_MAX: usize = 256 * 1024;

/// Chunk streams of what is sent.
pub(super) mod csid {
    pub(in crate::proto::rtmp) const CONTROL: u8 = 2;
    pub(in crate::proto::rtmp) const COMMAND: u8 = 3;
    pub(in crate::proto::rtmp) const AUDIO: u8 = 4;
    pub(in crate::proto::rtmp) const DATA: u8 = 5;
    pub(in crate::proto::rtmp) const VIDEO: u8 = 6;
}

/// Bytes to be sent, in order.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    chunk_size: usize,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            chunk_size: CHUNK_SIZE_DEFAULT,
        }
    }

    /// All that is waiting.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let waiting = !self.bytes.is_empty();
        waiting.then(|| std::mem::take(&mut self.bytes).into())
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if self.bytes.len() > REPLY_BYTES_MAX {
            return Err(Error::RepliesTooLarge);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Bytes that are not a message.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn message(&mut self, envelope: Envelope, payload: &[u8]) {
        write_message(envelope, self.chunk_size, &[payload], &mut self.bytes);
    }

    /// Announces [`OUTPUT_CHUNK_SIZE`], once.
    pub(super) fn announce_chunk_size(&mut self) {
        if self.chunk_size != OUTPUT_CHUNK_SIZE {
            let size = OUTPUT_CHUNK_SIZE as u32;
            self.control(kind::SET_CHUNK_SIZE, &size.to_be_bytes());
            self.chunk_size = OUTPUT_CHUNK_SIZE;
        }
    }

    /// A protocol control message.
    pub(super) fn control(&mut self, kind: u8, payload: &[u8]) {
        let envelope = Envelope {
            csid: csid::CONTROL,
            kind,
            stream_id: 0,
            timestamp: 0,
        };
        self.message(envelope, payload);
    }

    /// A user control message: event (16), data (32).
    pub(super) fn user_control(&mut self, event: u16, data: u32) {
        let [a, b] = event.to_be_bytes();
        let [c, d, e, f] = data.to_be_bytes();
        self.control(kind::USER_CONTROL, &[a, b, c, d, e, f]);
    }

    pub(super) fn pong(&mut self, data: u32) {
        self.user_control(control::PING_RESPONSE, data);
    }

    /// A command on the connection.
    pub(super) fn command(&mut self, name: &str, transaction: f64, arguments: &[Value]) {
        self.command_on(0, name, transaction, arguments);
    }

    /// A command on a message stream.
    pub(super) fn command_on(
        &mut self,
        stream_id: u32,
        name: &str,
        transaction: f64,
        arguments: &[Value],
    ) {
        let envelope = Envelope {
            csid: if stream_id == 0 {
                csid::COMMAND
            } else {
                csid::DATA
            },
            kind: kind::COMMAND,
            stream_id,
            timestamp: 0,
        };
        self.message(envelope, &write_command(name, transaction, arguments));
    }
}

/// Counts received bytes and says when they are to be acknowledged (Adobe RTMP 1.0 section 5.4.3).
#[derive(Debug)]
pub(super) struct Window {
    size: u64,
    received: u64,
    acknowledged: u64,
}

/// What is announced as our window, and assumed of a peer that announces none.
pub(super) const WINDOW_BYTES: u32 = 2_500_000;
/// A peer that announces less is acknowledged this often.
const WINDOW_BYTES_MIN: u32 = 4096;

impl Window {
    pub(super) fn new() -> Self {
        Self {
            size: u64::from(WINDOW_BYTES),
            received: 0,
            acknowledged: 0,
        }
    }

    pub(super) fn set(&mut self, size: u32) {
        self.size = u64::from(size.max(WINDOW_BYTES_MIN));
    }

    pub(super) fn receive(&mut self, count: usize) {
        self.received += count as u64;
    }

    /// Acknowledges if a window has been received since the last time.
    pub(super) fn acknowledge(&mut self, outbox: &mut Outbox) {
        if self.received - self.acknowledged >= self.size {
            self.acknowledged = self.received;
            // The sequence number is the count modulo 2^32.
            let count = (self.received as u32).to_be_bytes();
            outbox.control(kind::ACKNOWLEDGEMENT, &count);
        }
    }
}
