//! What a peer sends: its streams, found by what was agreed on and what packets say of themselves.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::negotiated::{Format, Incoming};
use crate::base::ids::TrackId;
use crate::media::{AudioFormat, Codec, Extras, Kind, Packet, Track, codec};
use crate::proto::rtcp::{self, ReportBlock, twcc, write_nack, write_pli};
use crate::proto::rtp;
use crate::proto::rtp::payload::StartFinder;
use crate::proto::rtp::{
    Arrival, Clock, ExtensionMap, Header, Received, Timeline, Values, original,
};

/// Streams of one peer: three simulcast layers and sound, with a repair stream each, twice over.
const STREAMS_MAX: usize = 16;

/// The least time between two requests for a keyframe of one track.
const KEYFRAME_AGAIN: Duration = Duration::from_millis(300);

/// What became of a packet.
#[derive(Debug)]
pub(super) enum Arrived {
    /// It is one of a track.
    Packet(Packet),
    /// It is the first of a track, or the first in another codec.
    Announced(Box<Track>, Packet),
    /// It says nothing new.
    Nothing,
    /// It is of no stream that was agreed on.
    Refused,
}

/// The streams of one peer.
#[derive(Debug)]
pub(super) struct Receivers {
    sections: Vec<Section>,
    streams: Vec<Stream>,
    repairs: Vec<Repair>,
    /// The number of each track that follows those of the streams it has had.
    next_numbers: Vec<u64>,
    timeline: Timeline,
    /// Our own source in what is said of them.
    ssrc: u32,
    arrivals: twcc::Recorder,
    round_trip: Duration,
}

#[derive(Debug)]
struct Section {
    incoming: Incoming,
    /// The track of its first layer.
    first_track: u16,
}

#[derive(Debug)]
struct Stream {
    ssrc: u32,
    section: usize,
    rid: String,
    track: TrackId,
    format: Format,
    state: rtp::Incoming,
    /// The first number of this stream, once there is one, and the track's number for it.
    joined: (Option<u64>, u64),
    clock: Clock,
    start: StartFinder,
    keyframe_asked: Option<Instant>,
    /// Counts the requests for keyframes (RFC 5104 section 4.3.1.1).
    refreshes: u8,
    is_announced: bool,
}

/// What is to be sent, and how much it asks for.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) packets: Vec<Vec<u8>>,
    pub(super) nacks: u64,
    pub(super) keyframes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Repair {
    ssrc: u32,
    /// Its place in `streams`.
    stream: usize,
}

impl Receivers {
    pub(super) fn new(sections: &[Incoming], now: Instant, ssrc: u32) -> Self {
        let mut next_track: u16 = 0;
        let sections: Vec<Section> = sections
            .iter()
            .map(|incoming| {
                let first_track = next_track;
                next_track += incoming.rids.len().max(incoming.streams.len()).max(1) as u16;
                Section {
                    incoming: incoming.clone(),
                    first_track,
                }
            })
            .collect();
        Self {
            sections,
            streams: Vec::new(),
            repairs: Vec::new(),
            next_numbers: vec![0; usize::from(next_track)],
            timeline: Timeline::new(now),
            ssrc,
            arrivals: twcc::Recorder::default(),
            round_trip: Duration::ZERO,
        }
    }

    /// A section that was agreed on later. Gives the number of its first track.
    pub(super) fn add(&mut self, incoming: Incoming) -> TrackId {
        let first_track = self.next_numbers.len() as u16;
        let tracks = incoming.rids.len().max(incoming.streams.len()).max(1);
        self.next_numbers.extend(std::iter::repeat_n(0, tracks));
        self.sections.push(Section {
            incoming,
            first_track,
        });
        TrackId(first_track)
    }

    /// The section whose first track this is has ended. Its place stays, so that numbers do.
    pub(super) fn remove(&mut self, track: TrackId) {
        let mut sections = self.sections.iter();
        let Some(at) = sections.position(|section| section.first_track == track.0) else {
            return;
        };
        self.sections[at].incoming.formats.clear();
        self.sections[at].incoming.streams.clear();
        while let Some(stream) = self.streams.iter().position(|known| known.section == at) {
            self.forget(stream);
        }
    }

    /// A packet that was opened.
    pub(super) fn receive(&mut self, now: Instant, packet: Bytes) -> Arrived {
        let Ok(header) = Header::parse(&packet) else {
            return Arrived::Refused;
        };
        if let Some(at) = self.stream_of(header.ssrc) {
            let map = self.map_of(at);
            let values = header.extensions().values(&map);
            self.note_arrival(now, &values);
            return self.receive_media(now, at, &packet, &header, &values);
        }
        if let Some(repair) = self.repairs.iter().find(|known| known.ssrc == header.ssrc) {
            let at = repair.stream;
            return self.receive_repair(now, at, &packet, &header);
        }
        self.receive_unknown(now, &packet, &header)
    }

    fn stream_of(&self, ssrc: u32) -> Option<usize> {
        self.streams.iter().position(|stream| stream.ssrc == ssrc)
    }

    fn map_of(&self, at: usize) -> ExtensionMap {
        self.sections[self.streams[at].section].incoming.extensions
    }

    fn note_arrival(&mut self, now: Instant, values: &Values<'_>) {
        if let Some(number) = values.transport_cc {
            self.arrivals.record(now, number);
        }
    }

    /// The first packet of a stream: says what it is by its section's tag, by the offer's list of
    /// sources, or by a payload type that only one section has.
    fn receive_unknown(&mut self, now: Instant, packet: &Bytes, header: &Header<'_>) -> Arrived {
        let Some((section, is_repair)) = self.section_of(header) else {
            return Arrived::Refused;
        };
        let map = self.sections[section].incoming.extensions;
        let values = header.extensions().values(&map);
        self.note_arrival(now, &values);
        let incoming = &self.sections[section].incoming;
        let rid = values.rid.or(values.repaired_rid).unwrap_or_default();
        let rid = String::from_utf8_lossy(rid).into_owned();
        if is_repair {
            let named = |stream: &Stream| {
                let pair = incoming
                    .streams
                    .iter()
                    .find(|pair| pair.rtx_ssrc == Some(header.ssrc));
                pair.is_none_or(|pair| pair.ssrc == stream.ssrc)
            };
            let stream = self
                .streams
                .iter()
                .position(|stream| stream.section == section && stream.rid == rid && named(stream));
            let Some(stream) = stream else {
                return Arrived::Nothing; // Padding before the first packet.
            };
            // One for each stream: another source takes its place.
            self.repairs.retain(|repair| repair.stream != stream);
            self.repairs.push(Repair {
                ssrc: header.ssrc,
                stream,
            });
            return self.receive_repair(now, stream, packet, header);
        }
        let by_source = incoming
            .streams
            .iter()
            .position(|pair| pair.ssrc == header.ssrc);
        let layer = match rid.is_empty() {
            true => by_source.unwrap_or(0),
            false => match incoming.rids.iter().position(|known| *known == rid) {
                Some(layer) => layer,
                None => return Arrived::Refused,
            },
        };
        let format = incoming
            .formats
            .iter()
            .find(|format| format.carries(header.payload_type));
        let Some(format) = format.cloned() else {
            return Arrived::Refused;
        };
        let track = TrackId(self.sections[section].first_track + layer as u16);
        // A stream that begins again under another source takes its layer's place.
        if let Some(old) = self.streams.iter().position(|stream| stream.track == track) {
            self.forget(old);
        }
        if self.streams.len() == STREAMS_MAX {
            return Arrived::Refused;
        }
        let begin = self.next_numbers[track.index()];
        self.streams.push(Stream {
            ssrc: header.ssrc,
            section,
            rid,
            track,
            state: rtp::Incoming::new(format.clock_rate),
            joined: (None, begin),
            clock: Clock::new(format.clock_rate),
            start: StartFinder::new(format.codec),
            format,
            keyframe_asked: None,
            refreshes: 0,
            is_announced: false,
        });
        let at = self.streams.len() - 1;
        let map = self.map_of(at);
        let values = header.extensions().values(&map);
        self.receive_media(now, at, packet, header, &values)
    }

    fn forget(&mut self, at: usize) {
        self.streams.remove(at);
        self.repairs.retain(|repair| repair.stream != at);
        for repair in &mut self.repairs {
            repair.stream -= usize::from(repair.stream > at);
        }
    }

    /// The section of a stream's first packet, and whether it is a repair stream.
    fn section_of(&self, header: &Header<'_>) -> Option<(usize, bool)> {
        let kind_of = |section: &Section| {
            let formats = &section.incoming.formats;
            let is = |format: &Format| format.carries(header.payload_type);
            let repairs = |format: &Format| format.rtx == Some(header.payload_type);
            match (formats.iter().any(is), formats.iter().any(repairs)) {
                (true, _) => Some(false),
                (false, true) => Some(true),
                (false, false) => None,
            }
        };
        let fitting = || {
            self.sections
                .iter()
                .enumerate()
                .filter_map(|(at, section)| Some((at, section, kind_of(section)?)))
        };
        let by_source =
            fitting().find(|(_, section, _)| {
                section.incoming.streams.iter().any(|stream| {
                    stream.ssrc == header.ssrc || stream.rtx_ssrc == Some(header.ssrc)
                })
            });
        let by_tag = || {
            fitting().find(|(_, section, _)| {
                let values = header.extensions().values(&section.incoming.extensions);
                values.mid == Some(section.incoming.mid.as_bytes())
            })
        };
        let alone = || {
            let mut all = fitting();
            all.next().filter(|_| all.next().is_none())
        };
        let found = by_source.or_else(by_tag).or_else(alone);
        found.map(|(at, _, is_repair)| (at, is_repair))
    }

    fn receive_repair(
        &mut self,
        now: Instant,
        at: usize,
        packet: &Bytes,
        header: &Header<'_>,
    ) -> Arrived {
        let map = self.map_of(at);
        let values = header.extensions().values(&map);
        self.note_arrival(now, &values);
        // Without a payload it is a probe for bandwidth.
        let Ok(Some(original)) = original(header) else {
            return Arrived::Nothing;
        };
        let payload = (packet.slice(original.payload), Bytes::new());
        let sequence = Some(original.sequence);
        self.take(now, at, (header, sequence), (packet, payload), &values)
    }

    fn receive_media(
        &mut self,
        now: Instant,
        at: usize,
        packet: &Bytes,
        header: &Header<'_>,
        values: &Values<'_>,
    ) -> Arrived {
        let stream = &mut self.streams[at];
        if !stream.format.carries(header.payload_type) {
            let formats = &self.sections[stream.section].incoming.formats;
            let format = formats
                .iter()
                .find(|format| format.carries(header.payload_type));
            let Some(format) = format else {
                return Arrived::Refused;
            };
            if format.codec != stream.format.codec {
                stream.start = StartFinder::new(format.codec);
                stream.is_announced = false;
            }
            stream.format = format.clone();
        }
        let mut range = header.payload_range();
        let mut redundant = Bytes::new();
        // Padding alone is a probe, in this form too.
        if stream.format.payload_type != header.payload_type && !range.is_empty() {
            let primary = match rtp::red::primary(header.payload()) {
                Ok(primary) if primary.payload_type == stream.format.payload_type => primary,
                Ok(_) | Err(_) => return Arrived::Refused,
            };
            if primary.range.len() + 1 < range.len() {
                redundant = packet.slice(range.clone());
            }
            range.start += primary.range.start;
        }
        let payload = (packet.slice(range), redundant);
        self.take(now, at, (header, None), (packet, payload), values)
    }

    fn take(
        &mut self,
        now: Instant,
        at: usize,
        (header, repaired): (&Header<'_>, Option<u16>),
        (whole, (payload, redundant)): (&Bytes, (Bytes, Bytes)),
        values: &Values<'_>,
    ) -> Arrived {
        let sequence = repaired.unwrap_or(header.sequence);
        let stream = &mut self.streams[at];
        let arrival = Arrival {
            sequence,
            timestamp: header.timestamp,
            is_empty: payload.is_empty(),
            is_retransmission: repaired.is_some(),
        };
        let number = match stream.state.receive(now, arrival) {
            Received::New { number, .. } => number,
            Received::Duplicate | Received::Empty { .. } | Received::TooOld => {
                return Arrived::Nothing;
            }
        };
        // The track's numbers go on where a stream begins again under another source, with one
        // left out as if it were lost. What is older than its first packet has no number then.
        let (first, begin) = &mut stream.joined;
        let Some(number) = (match *begin {
            0 => Some(number),
            begin => number
                .checked_sub(*first.get_or_insert(number))
                .map(|since| begin + since),
        }) else {
            return Arrived::Nothing;
        };
        let next = &mut self.next_numbers[stream.track.index()];
        *next = (number + 2).max(*next);
        let time = stream.clock.time(&self.timeline, now, header.timestamp);
        let packet = Packet {
            track: stream.track,
            number,
            time,
            marker: header.marker,
            start: stream.start.look(time, &payload),
            payload,
            extras: Extras {
                redundant,
                ..extras(whole, values)
            },
            received: now,
        };
        if stream.is_announced {
            return Arrived::Packet(packet);
        }
        stream.is_announced = true;
        Arrived::Announced(Box::new(stream.track()), packet)
    }

    /// A peer's sender report.
    pub(super) fn sender_report(&mut self, now: Instant, report: &rtcp::SenderReport<'_>) {
        if let Some(at) = self.stream_of(report.ssrc) {
            let stream = &mut self.streams[at];
            let info = &report.info;
            stream.state.sender_report(now, info.ntp.middle());
            stream
                .clock
                .sender_report(&mut self.timeline, now, info.ntp, info.rtp_time);
        }
    }

    /// Streams that the peer has ended.
    pub(super) fn goodbye(&mut self, goodbye: &rtcp::Goodbye<'_>) {
        for ssrc in goodbye.ssrcs() {
            if let Some(at) = self.stream_of(ssrc) {
                self.forget(at);
            }
        }
    }

    /// Whether anything was agreed on that can be told what to send at most.
    pub(super) fn takes_limit(&self) -> bool {
        let sections = self.sections.iter();
        let mut formats = sections.flat_map(|section| &section.incoming.formats);
        formats.any(|format| format.remb)
    }

    /// Appends what the peer should send at most (draft-alvestrand-rmcat-remb-03) to a report,
    /// which is begun if it is empty.
    pub(super) fn write_limit(&self, bits_per_s: u64, packet: &mut Vec<u8>) {
        let limited = self.streams.iter().filter(|stream| stream.format.remb);
        let sources: Vec<u32> = limited.map(|stream| stream.ssrc).collect();
        if packet.is_empty() {
            rtcp::write_receiver_report(packet, self.ssrc, &[]);
        }
        rtcp::write_remb(packet, self.ssrc, bits_per_s, &sources);
    }

    /// The pictures that have come.
    pub(super) fn pictures(&self) -> Vec<TrackId> {
        let is_picture = |stream: &&Stream| stream.format.codec.kind() == Kind::Video;
        let streams = self.streams.iter().filter(is_picture);
        streams.map(|stream| stream.track).collect()
    }

    /// A packet that asks for a keyframe, unless that was done just now.
    pub(super) fn keyframe_request(&mut self, now: Instant, track: TrackId) -> Option<Vec<u8>> {
        let ssrc = self.ssrc;
        let stream = self
            .streams
            .iter_mut()
            .find(|stream| stream.track == track && stream.format.codec.kind() == Kind::Video)?;
        if stream
            .keyframe_asked
            .is_some_and(|asked| now < asked + KEYFRAME_AGAIN)
        {
            return None;
        }
        stream.keyframe_asked = Some(now);
        let mut packet = Vec::new();
        rtcp::write_receiver_report(&mut packet, ssrc, &[]);
        match stream.format.pli || !stream.format.fir {
            true => write_pli(&mut packet, ssrc, stream.ssrc),
            false => {
                stream.refreshes = stream.refreshes.wrapping_add(1);
                let number = stream.refreshes;
                let media = stream.ssrc;
                rtcp::write_fir(&mut packet, ssrc, rtcp::Refresh { media, number });
            }
        }
        Some(packet)
    }

    /// What is said of each stream in a report.
    pub(super) fn report_blocks(&mut self, now: Instant) -> Vec<ReportBlock> {
        let block = |stream: &mut Stream| {
            let reception = stream.state.report(now)?;
            Some(ReportBlock {
                ssrc: stream.ssrc,
                fraction_lost: reception.fraction_lost,
                cumulative_lost: reception.cumulative_lost,
                highest_sequence: reception.highest_sequence,
                jitter: reception.jitter,
                last_sender_report: reception.last_sender_report,
                delay: reception.delay,
            })
        };
        self.streams.iter_mut().filter_map(block).collect()
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let asks = self.streams.iter().filter(|stream| stream.format.nack);
        let nacks = asks.filter_map(|stream| stream.state.poll_timeout(self.round_trip));
        let nacks = nacks.map(|at| (at, "missing packets"));
        let feedback = self.arrivals.poll_timeout();
        let feedback = feedback.map(|at| (at, "times of arrival"));
        nacks.chain(feedback).min_by_key(|(at, _)| *at)
    }

    /// What is due to be sent.
    pub(super) fn handle_timeout(&mut self, now: Instant, round_trip: Duration) -> Due {
        let mut due = Due::default();
        self.round_trip = round_trip;
        let mut packet = Vec::new();
        let mut lost = Vec::new();
        for stream in self.streams.iter_mut().filter(|stream| stream.format.nack) {
            let numbers = stream.state.poll_nacks(now, round_trip);
            let numbers = numbers.inspect(|_| due.nacks += 1);
            write_nack(&mut packet, self.ssrc, stream.ssrc, numbers);
            if stream.state.take_keyframe_needed() {
                lost.push(stream.track);
            }
        }
        if !packet.is_empty() {
            due.packets.push(packet);
        }
        for track in lost {
            if let Some(packet) = self.keyframe_request(now, track) {
                due.keyframes += 1;
                due.packets.push(packet);
            }
        }
        let media = self.streams.first().map_or(0, |stream| stream.ssrc);
        let mut packet = Vec::new();
        while self.arrivals.write(now, self.ssrc, media, &mut packet) {
            due.packets.push(std::mem::take(&mut packet));
        }
        due
    }
}

impl Stream {
    fn track(&self) -> Track {
        let format = &self.format;
        let is_audio = format.codec.kind() == Kind::Audio;
        let channels = format.channels.max(1);
        let mut track = Track {
            id: self.track,
            codec: format.codec,
            init: if format.codec == Codec::Opus {
                codec::opus::build_head(channels).into()
            } else {
                Bytes::new()
            },
            video: None,
            audio: is_audio.then_some(AudioFormat {
                rate: format.clock_rate,
                channels,
                bits: 0,
            }),
            language: String::new(),
            rid: self.rid.clone(),
        };
        codec::describe(&mut track);
        track
    }
}

/// What a packet's extensions say; longer values stay where they are.
fn extras(packet: &Bytes, values: &Values<'_>) -> Extras {
    let owned = |value: Option<&[u8]>| value.map_or(Bytes::new(), |value| packet.slice_ref(value));
    Extras {
        audio_level: values.audio_level,
        dependency: owned(values.dependency),
        capture_time: owned(values.capture_time),
        playout_delay: values.playout_delay,
        orientation: values.orientation,
        redundant: Bytes::new(),
    }
}
