//! Packets that are being made: chunks that are written before one is taken share it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::chunk::{self, HEADER_BYTES};

/// Packets to one peer.
#[derive(Debug)]
pub(super) struct Packer {
    port: u16,
    /// The peer's tag; zero until it is known.
    pub(super) tag: u32,
    bytes_max: usize,
    packet: Vec<u8>,
    has_data: bool,
    ready: VecDeque<Bytes>,
}

impl Packer {
    pub(super) fn new(port: u16, bytes_max: usize) -> Self {
        Self {
            port,
            tag: 0,
            bytes_max,
            packet: Vec::new(),
            has_data: false,
            ready: VecDeque::new(),
        }
    }

    /// The largest piece of a message.
    pub(super) fn payload_bytes_max(&self) -> usize {
        (self.bytes_max - HEADER_BYTES - chunk::DATA_HEADER_BYTES) / 4 * 4
    }

    /// What is left in a packet for chunks.
    pub(super) fn chunk_bytes_max(&self) -> usize {
        self.bytes_max - HEADER_BYTES
    }

    /// The next data begins a packet.
    pub(super) fn begins_with(&self, bytes: usize) -> bool {
        self.packet.is_empty() || self.packet.len() + bytes > self.bytes_max
    }

    /// Where a piece of a message of this size is written.
    pub(super) fn data(&mut self, bytes: usize) -> &mut Vec<u8> {
        if self.packet.len() + bytes > self.bytes_max {
            self.finish();
        }
        self.begin();
        self.has_data = true;
        &mut self.packet
    }

    /// Where another chunk is written: such come before data (RFC 9260 section 6.10).
    pub(super) fn control(&mut self, bytes: usize) -> &mut Vec<u8> {
        if self.has_data || self.packet.len() + bytes > self.bytes_max {
            self.finish();
        }
        self.begin();
        &mut self.packet
    }

    /// Where a chunk is written that has to have a packet for itself, with a tag of its own.
    pub(super) fn alone(&mut self, tag: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.finish();
        chunk::begin(&mut self.packet, self.port, tag);
        write(&mut self.packet);
        self.finish();
    }

    fn begin(&mut self) {
        if self.packet.is_empty() {
            chunk::begin(&mut self.packet, self.port, self.tag);
        }
    }

    /// Ends the packet that is being made.
    pub(super) fn finish(&mut self) {
        if self.packet.is_empty() {
            return;
        }
        chunk::seal(&mut self.packet);
        self.ready.push_back(Bytes::copy_from_slice(&self.packet));
        self.packet.clear();
        self.has_data = false;
    }

    /// The next packet that is complete.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let packet = self.ready.pop_front();
        if self.ready.is_empty() && self.ready.capacity() > 8 {
            self.ready = VecDeque::new();
        }
        packet
    }
}
