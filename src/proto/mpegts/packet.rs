//! Packets: header, adaptation field, payload.

/// Bytes of a packet.
pub const PACKET_SIZE: usize = 188;

/// Bytes after the four of the header.
pub(super) const BODY_SIZE: usize = PACKET_SIZE - 4;

const SYNC: u8 = 0x47;
const ADAPTATION: u8 = 0x20;
const PAYLOAD: u8 = 0x10;

/// What the first packet of a PES packet says in its adaptation field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Adaptation {
    /// random_access_indicator.
    pub(super) random_access: bool,
    /// program_clock_reference_base.
    pub(super) clock: Option<u64>,
}

impl Adaptation {
    /// Bytes with the length field; 0 when there is nothing to say.
    fn size(self) -> usize {
        match self {
            Self { clock: Some(_), .. } => 8,
            Self {
                random_access: true,
                clock: None,
            } => 2,
            Self {
                random_access: false,
                clock: None,
            } => 0,
        }
    }

    /// Writes the field, stuffed to `size` bytes.
    ///
    /// ```text
    /// length(8)  flags(8): 0 random_access 0 clock 0 0 0 0
    ///            base(33) reserved(6) extension(9)  stuffing: 0xff ...
    /// ```
    fn write(self, size: usize, out: &mut Vec<u8>) {
        debug_assert!(size >= self.size() && size <= BODY_SIZE);
        let end = out.len() + size;
        out.push((size - 1) as u8);
        if size > 1 {
            let clock = if self.clock.is_some() { 0x10 } else { 0 };
            out.push(u8::from(self.random_access) << 6 | clock);
        }
        if let Some(base) = self.clock {
            let field = base << 15 | 0x3f << 9;
            let [_, _, bytes @ ..] = field.to_be_bytes();
            out.extend_from_slice(&bytes);
        }
        out.resize(end, 0xff);
    }
}

/// Spreads a payload of known size over packets, stuffing the last one.
pub(super) struct PacketWriter<'a> {
    out: &'a mut Vec<u8>,
    pid: u16,
    continuity: &'a mut u8,
    adaptation: Adaptation,
    start: bool,
    /// Payload bytes to come.
    remaining: usize,
    /// Payload bytes that the packet being written still takes. 0 <= room <= remaining
    room: usize,
}

impl<'a> PacketWriter<'a> {
    /// A writer for `size` bytes on `pid`.
    pub(super) fn new(
        out: &'a mut Vec<u8>,
        pid: u16,
        continuity: &'a mut u8,
        adaptation: Adaptation,
        size: usize,
    ) -> Self {
        let packets = (size + adaptation.size()).div_ceil(BODY_SIZE);
        out.reserve(packets * PACKET_SIZE);
        Self {
            out,
            pid,
            continuity,
            adaptation,
            start: true,
            remaining: size,
            room: 0,
        }
    }

    /// Writes a piece of the payload. All pieces together must have the announced size.
    pub(super) fn push(&mut self, mut piece: &[u8]) {
        debug_assert!(piece.len() <= self.remaining);
        while !piece.is_empty() {
            if self.room == 0 {
                self.open();
            }
            let (now, later) = piece.split_at(piece.len().min(self.room));
            self.out.extend_from_slice(now);
            self.room -= now.len();
            self.remaining -= now.len();
            piece = later;
        }
    }

    fn open(&mut self) {
        let adaptation = std::mem::take(&mut self.adaptation);
        let size = adaptation
            .size()
            .max(BODY_SIZE.saturating_sub(self.remaining));
        let control = if size > 0 {
            ADAPTATION | PAYLOAD
        } else {
            PAYLOAD
        };
        push_header(self.pid, self.start, control | *self.continuity, self.out);
        *self.continuity = (*self.continuity + 1) & 0xf;
        self.start = false;
        if size > 0 {
            adaptation.write(size, self.out);
        }
        self.room = BODY_SIZE - size;
    }
}

/// A packet with a clock reference and nothing else. It has no payload, so the counter stays.
pub(super) fn push_clock(pid: u16, next_continuity: u8, base: u64, out: &mut Vec<u8>) {
    let last = next_continuity.wrapping_sub(1) & 0xf;
    push_header(pid, false, ADAPTATION | last, out);
    let adaptation = Adaptation {
        random_access: false,
        clock: Some(base),
    };
    adaptation.write(BODY_SIZE, out);
}

/// Four bytes: sync(8), error 0, start(1), priority 0, pid(13), scrambling 00, control(2),
/// continuity(4).
pub(super) fn push_header(pid: u16, start: bool, control: u8, out: &mut Vec<u8>) {
    let [high, low] = (pid & 0x1fff | u16::from(start) << 14).to_be_bytes();
    out.extend_from_slice(&[SYNC, high, low, control]);
}

/// Writes a section in as few packets as it takes, without an adaptation field.
pub(super) fn push_section(pid: u16, continuity: &mut u8, section: &[u8], out: &mut Vec<u8>) {
    const POINTER: [u8; 1] = [0];
    let mut start = true;
    let mut rest = section;
    while start || !rest.is_empty() {
        let end = out.len() + PACKET_SIZE;
        push_header(pid, start, PAYLOAD | *continuity, out);
        *continuity = (*continuity + 1) & 0xf;
        if start {
            out.extend_from_slice(&POINTER);
        }
        let (now, later) = rest.split_at(rest.len().min(end - out.len()));
        out.extend_from_slice(now);
        out.resize(end, 0xff);
        rest = later;
        start = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(size: usize, adaptation: Adaptation) -> Vec<u8> {
        let (mut out, mut continuity) = (Vec::new(), 14);
        let mut writer = PacketWriter::new(&mut out, 0x100, &mut continuity, adaptation, size);
        let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
        payload.chunks(37).for_each(|piece| writer.push(piece));
        out
    }

    /// The payload of all packets, by the lengths they state.
    fn payload(bytes: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        for packet in bytes.chunks(PACKET_SIZE) {
            let adaptation = if packet[3] & ADAPTATION != 0 {
                usize::from(packet[4]) + 1
            } else {
                0
            };
            found.extend_from_slice(&packet[4 + adaptation..]);
        }
        found
    }

    #[test]
    fn every_size_is_stuffed_to_whole_packets() {
        for clock in [None, Some(0x1_2345_6789)] {
            for size in 1..600 {
                let adaptation = Adaptation {
                    random_access: size % 2 == 0,
                    clock,
                };
                let bytes = packets(size, adaptation);
                assert_eq!(bytes.len() % PACKET_SIZE, 0);
                let expected: Vec<u8> = (0..size).map(|n| n as u8).collect();
                assert_eq!(payload(&bytes), expected, "{size} bytes, clock {clock:?}");
            }
        }
    }

    #[test]
    fn headers_count_and_mark_the_start() {
        let bytes = packets(500, Adaptation::default());
        let headers: Vec<_> = bytes
            .chunks(PACKET_SIZE)
            .map(|packet| &packet[..4])
            .collect();
        assert_eq!(
            headers,
            [
                [0x47, 0x41, 0x00, 0x1e],
                [0x47, 0x01, 0x00, 0x1f],
                [0x47, 0x01, 0x00, 0x30]
            ]
        );
    }

    #[test]
    fn the_clock_has_33_bits() {
        let mut out = Vec::new();
        push_clock(0x100, 0, 0x1_ffff_ffff, &mut out);
        assert_eq!(out.len(), PACKET_SIZE);
        assert_eq!(out[..6], [0x47, 0x01, 0x00, 0x2f, 183, 0x10]);
        assert_eq!(out[6..12], [0xff, 0xff, 0xff, 0xff, 0xfe, 0x00]);
    }
}
