//! One outgoing track of one peer.
//!
//! What a receiver costs is here: a header from a template, a copy of the shared payload into the
//! arena, and the seal. Packets of one frame are padded to one size where they differ by little, so
//! that they leave in one send.

use std::time::Instant;

use bytes::Bytes;

use super::arena::{Arena, Burst, HEADER_BYTES_MAX, SEGMENTS_MAX};
use super::negotiated::Outgoing;
use super::numbering::{Numbering, Place};
use crate::base::ids::TrackId;
use crate::media::{Kind, MediaTime, Packet};
use crate::proto::ice::Path;
use crate::proto::rtp::{Extension, Patch, Template, TemplateOptions};
use crate::proto::srtp::Outbound;

/// Bytes that a packet may grow by to be as long as the others of its burst. A segment saved is
/// worth about 2 µs on the way out; 64 bytes of padding cost 20 ns to seal. RFC 3550 section 5.1
/// allows 255.
const PADDING_BYTES_MAX: usize = 64;

const ZEROS: [u8; 255] = [0; 255];

/// What all packets of one round share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round<'a> {
    pub(super) path: Path,
    pub(super) seal: &'a Outbound,
    /// As the extension has it.
    pub(super) abs_send_time: u32,
}

/// A packet that is about to be sent.
#[derive(Clone, Copy, Debug)]
struct Planned {
    index: usize,
    place: Place,
    header_bytes: usize,
    payload_bytes: usize,
}

/// One outgoing track.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) outgoing: Outgoing,
    pub(super) numbering: Numbering,
    template: Template,
    /// For sound with older sound in front (RFC 2198), where the receiver prefers that.
    redundant: Option<Box<Template>>,
    retransmission: Option<Retransmission>,
    /// Extensions of single packets were agreed on.
    takes_extras: bool,
    /// Packets and bytes of payload sent, for reports.
    pub(super) packets: u32,
    pub(super) octets: u32,
    /// The newest point of the stream that was sent, and when it was received.
    pub(super) newest: Option<(MediaTime, Instant)>,
    /// When the receiver last asked for a keyframe and was heard.
    pub(super) keyframe_wanted: Option<Instant>,
    /// Nothing is sent: the receiver has asked for that.
    pub(super) is_paused: bool,
}

#[derive(Debug)]
struct Retransmission {
    template: Template,
    sequence: u64,
}

impl Sender {
    pub(super) fn new(outgoing: Outgoing, seed: u64, is_mixed: bool) -> Self {
        let kind = outgoing.kind;
        let format = &outgoing.format;
        let numbering =
            Numbering::new(outgoing.track, format.clock_rate, kind == Kind::Video, seed);
        // Without a stream for retransmissions, a packet is sent again under the same number, and
        // has to be the same to the bit: two packets under one number would give the key away.
        let repair = format.rtx.zip(outgoing.stream.rtx_ssrc);
        let mut map = outgoing.extensions;
        if repair.is_none() {
            map.set(Extension::AbsSendTime, 0);
            map.set(Extension::TransportCc, 0);
        }
        let make = |ssrc, payload_type, mid| {
            Template::new(&TemplateOptions {
                ssrc,
                payload_type,
                mid,
                map,
                is_mixed,
            })
        };
        let takes_extras = [
            Extension::AudioLevel,
            Extension::AbsCaptureTime,
            Extension::DependencyDescriptor,
            Extension::PlayoutDelay,
            Extension::VideoOrientation,
        ]
        .into_iter()
        .any(|extension| map.id(extension).is_some());
        Self {
            numbering,
            template: make(outgoing.stream.ssrc, format.payload_type, &outgoing.mid),
            redundant: format.red.map(|red| {
                let template = make(outgoing.stream.ssrc, red.payload_type, &outgoing.mid);
                Box::new(template)
            }),
            retransmission: repair.map(|(payload_type, ssrc)| Retransmission {
                // With the tag: once Firefox has a stream by its tag, it drops what has none.
                template: make(ssrc, payload_type, &outgoing.mid),
                sequence: 1 + (seed >> 16 & 0x3fff),
            }),
            outgoing,
            takes_extras,
            packets: 0,
            octets: 0,
            newest: None,
            keyframe_wanted: None,
            is_paused: false,
        }
    }

    /// Sends those of the packets that go out, up to 16 in one send. `number` counts the packets
    /// of the transport (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    pub(super) fn send(
        &mut self,
        round: Round<'_>,
        packets: &[Packet],
        number: &mut u16,
        arena: &mut Arena,
        bursts: &mut Vec<Burst>,
    ) {
        let mut planned = [None; SEGMENTS_MAX];
        let mut count = 0;
        let (mut least, mut most) = (usize::MAX, 0);
        for (index, packet) in packets.iter().enumerate() {
            let Some(place) = self.numbering.place(packet) else {
                continue;
            };
            if count == SEGMENTS_MAX {
                self.seal(round, packets, &planned[..count], most, arena, bursts);
                (count, least, most) = (0, usize::MAX, 0);
            }
            let out = &mut arena.headers[count];
            let header_bytes = self.write_header(packet, place, *number, round, out);
            let payload_bytes = self.form(packet, place).1.len();
            let bytes = header_bytes + payload_bytes;
            if count > 0 && least.saturating_add(self.padding_max()) < most.max(bytes) {
                let header = arena.headers[count];
                self.seal(round, packets, &planned[..count], most, arena, bursts);
                (count, least, most) = (0, usize::MAX, 0);
                arena.headers[0] = header;
            }
            *number = number.wrapping_add(1);
            (least, most) = (least.min(bytes), most.max(bytes));
            planned[count] = Some(Planned {
                index,
                place,
                header_bytes,
                payload_bytes,
            });
            count += 1;
        }
        if count > 0 {
            self.seal(round, packets, &planned[..count], most, arena, bursts);
        }
    }

    fn padding_max(&self) -> usize {
        match self.retransmission {
            Some(_) => PADDING_BYTES_MAX,
            None => 0,
        }
    }

    fn write_header(
        &self,
        packet: &Packet,
        place: Place,
        number: u16,
        round: Round<'_>,
        out: &mut [u8; HEADER_BYTES_MAX],
    ) -> usize {
        let patch = Patch {
            marker: packet.marker,
            has_padding: false,
            sequence: place.sequence as u16,
            timestamp: place.timestamp,
            transport_cc: number,
            abs_send_time: round.abs_send_time,
        };
        let (template, _) = self.form(packet, place);
        Self::write_with_extras(template, self.takes_extras, packet, &patch, out)
    }

    /// What a packet is sent as. Older sound names its time by the distance to the packet's own, so
    /// it goes along only where distances are as they were.
    fn form<'a>(&'a self, packet: &'a Packet, place: Place) -> (&'a Template, &'a Bytes) {
        match &self.redundant {
            Some(template) if !place.is_squeezed && !packet.extras.redundant.is_empty() => {
                (template, &packet.extras.redundant)
            }
            Some(_) | None => (&self.template, &packet.payload),
        }
    }

    fn write_with_extras(
        template: &Template,
        takes_extras: bool,
        packet: &Packet,
        patch: &Patch,
        out: &mut [u8; HEADER_BYTES_MAX],
    ) -> usize {
        let extras = &packet.extras;
        if !takes_extras || extras.is_empty() {
            return template.write(out, patch);
        }
        let level = extras.audio_level.map(|level| [level]);
        let orientation = extras.orientation.map(|orientation| [orientation]);
        let delay = extras.playout_delay;
        let values: [(Extension, &[u8]); 5] = [
            (Extension::AudioLevel, level.as_ref().map_or(&[], |v| v)),
            (Extension::AbsCaptureTime, &extras.capture_time),
            (Extension::PlayoutDelay, delay.as_ref().map_or(&[], |v| v)),
            (
                Extension::VideoOrientation,
                orientation.as_ref().map_or(&[], |v| v),
            ),
            (Extension::DependencyDescriptor, &extras.dependency),
        ];
        template.write_with(out, patch, &values)
    }

    /// Seals the planned packets one behind the other. All but the last get the size `most`.
    fn seal(
        &mut self,
        round: Round<'_>,
        packets: &[Packet],
        planned: &[Option<Planned>],
        most: usize,
        arena: &mut Arena,
        bursts: &mut Vec<Burst>,
    ) {
        let tag_bytes = round.seal.rtp_tag_bytes();
        let begin = arena.reserve(planned.len() * (most + tag_bytes));
        let last = planned.len() - 1;
        let mut header = [0; HEADER_BYTES_MAX];
        for (at, entry) in planned.iter().enumerate() {
            let Some(entry) = entry else { continue };
            let packet = &packets[entry.index];
            let bytes = entry.header_bytes + entry.payload_bytes;
            let padding = if at == last { 0 } else { most - bytes };
            let header = &mut header[..entry.header_bytes];
            header.copy_from_slice(&arena.headers[at][..entry.header_bytes]);
            if padding > 0 {
                header[0] |= 0x20;
            }
            let parts = [
                &*header,
                self.form(packet, entry.place).1,
                &ZEROS[..padding],
                &ZEROS[..tag_bytes],
            ];
            let roc = (entry.place.sequence >> 16) as u32;
            arena.compose(&parts, |sealed| {
                if padding > 0 {
                    sealed[bytes + padding - 1] = padding as u8;
                }
                round.seal.protect_rtp(roc, entry.header_bytes, sealed);
            });
            self.packets = self.packets.wrapping_add(1);
            self.octets = self.octets.wrapping_add(entry.payload_bytes as u32);
            if self.newest.is_none_or(|(newest, _)| newest < packet.time) {
                self.newest = Some((packet.time, packet.received));
            }
        }
        bursts.push(Burst {
            path: round.path,
            bytes: arena.since(begin),
            segment_bytes: (last > 0).then_some((most + tag_bytes) as u16),
            segments: planned.len(),
        });
    }

    /// Whether a track is sent here, or is to be.
    pub(super) fn takes(&self, track: TrackId) -> bool {
        self.numbering.wanted() == track || self.numbering.track() == Some(track)
    }

    /// The packet that is missing at the receiver, by the number that it was sent with.
    pub(super) fn missing(&self, sequence: u16) -> Option<(TrackId, u64, u64)> {
        self.numbering.source(sequence)
    }

    /// Sends a packet again that the receiver asked for by `sequence`.
    pub(super) fn send_again(
        &mut self,
        round: Round<'_>,
        packet: &Packet,
        sequence: u64,
        number: &mut u16,
        arena: &mut Arena,
        bursts: &mut Vec<Burst>,
    ) {
        let Some(place) = self.numbering.place_again(packet, sequence) else {
            return;
        };
        let mut header = [0; HEADER_BYTES_MAX];
        let mut patch = Patch {
            marker: packet.marker,
            has_padding: false,
            sequence: sequence as u16,
            timestamp: place.timestamp,
            transport_cc: *number,
            abs_send_time: round.abs_send_time,
        };
        *number = number.wrapping_add(1);
        let original = (sequence as u16).to_be_bytes();
        let (template, payload, roc, prefix) = match &mut self.retransmission {
            // It repeats the plain form, which is what its payload type stands for.
            Some(retransmission) => {
                retransmission.sequence += 1;
                patch.sequence = retransmission.sequence as u16;
                let roc = (retransmission.sequence >> 16) as u32;
                let template = &retransmission.template;
                (template, &packet.payload, roc, &original[..])
            }
            None => {
                let (template, payload) = self.form(packet, place);
                (template, payload, (sequence >> 16) as u32, &[][..])
            }
        };
        let takes_extras = self.takes_extras;
        let header_bytes =
            Self::write_with_extras(template, takes_extras, packet, &patch, &mut header);
        let tag_bytes = round.seal.rtp_tag_bytes();
        let parts = [
            &header[..header_bytes],
            prefix,
            payload,
            &ZEROS[..tag_bytes],
        ];
        let begin = arena.reserve(parts.iter().map(|part| part.len()).sum());
        arena.compose(&parts, |sealed| {
            round.seal.protect_rtp(roc, header_bytes, sealed);
        });
        bursts.push(Burst {
            path: round.path,
            bytes: arena.since(begin),
            segment_bytes: None,
            segments: 1,
        });
    }
}
