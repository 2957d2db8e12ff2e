//! Frames in, whole packets out.

use crate::base::ids::TrackId;
use crate::media::codec::{aac, h264, hevc, mp3, nal, opus};
use crate::media::{Codec, Frame, Kind, MediaTime, Track};

use super::packet::{Adaptation, PacketWriter, push_clock, push_section};
use super::tables::{self, Entry, PID_ASSOCIATION, PID_MAP};

const CLOCK_RATE: u32 = 90_000;
const CLOCK_MASK: u64 = (1 << 33) - 1;

/// Added to every time stamp, so that a stream which begins at zero, or a little before it as
/// reordered pictures do, has no negative ones.
const OFFSET_TICKS: i64 = CLOCK_RATE as i64;

/// How far the clock is behind decoding times: what a receiver has to buffer at most. Audio that
/// a publisher sends this much after its video still arrives in time.
const CLOCK_LEAD_TICKS: i64 = CLOCK_RATE as i64 / 5;

/// A clock reference is due after this much media time. ISO/IEC 13818-1 2.7.2 allows 100 ms
/// between two: a frame that comes just before it is due leaves at most twice this, and frames
/// further apart than this all have one.
const CLOCK_PERIOD_MICROS: i64 = 40_000;

/// A track other than the clock's writes a reference on its own if there was none for so long.
const CLOCK_PERIOD_MAX_MICROS: i64 = 90_000;

/// Tables are repeated after this much media time when no video keyframe does it.
const TABLES_PERIOD_MICROS: i64 = 500_000;

/// Streams of one program. The map has to fit one section: an entry has 5 bytes, a language
/// descriptor 6, a registration descriptor 6 and an extension descriptor 4, its fixed part 13.
const STREAMS_MAX: usize = 32;
const _: () = assert!(STREAMS_MAX * (5 + 6 + 6 + 4) + 13 <= tables::SECTION_LENGTH_MAX as usize);

const FIRST_PID: u16 = 0x100;

/// Writes the frames of a stream as one program. Its output is the same for all viewers: one who
/// joins at a video keyframe's packets, which begin with the tables, can decode from there.
#[derive(Debug)]
pub struct Muxer {
    streams: Vec<Stream>,
    left_out: Vec<TrackId>,
    association: Vec<u8>,
    map: Vec<u8>,
    map_version: u8,
    /// PIDs that streams had which have left, with their next continuity counters: a stream that
    /// comes by the PID later goes on counting, or receivers would report a loss.
    vacated: Vec<(u16, u8)>,
    association_continuity: u8,
    map_continuity: u8,
    /// The stream that carries the clock, as an index.
    clock_stream: usize,
    clock_written: Option<MediaTime>,
    tables_written: Option<MediaTime>,
}

#[derive(Debug)]
struct Stream {
    track: TrackId,
    kind: Kind,
    pid: u16,
    continuity: u8,
    stream_type: u8,
    stream_id: u8,
    descriptors: Vec<u8>,
    form: Form,
}

/// How a frame becomes an elementary stream.
#[derive(Debug)]
enum Form {
    /// Start codes for lengths, and these parameter sets (with start codes) at keyframes.
    H264(Vec<u8>),
    /// The same for HEVC.
    Hevc(Vec<u8>),
    Adts(aac::Adts),
    Opus,
    /// The frame has its own header.
    Whole,
}

impl Muxer {
    /// A muxer for these tracks.
    pub fn new(tracks: &[Track]) -> Self {
        let mut muxer = Self {
            streams: Vec::new(),
            left_out: Vec::new(),
            association: tables::association(),
            map: Vec::new(),
            map_version: 0,
            vacated: Vec::new(),
            association_continuity: 0,
            map_continuity: 0,
            clock_stream: 0,
            clock_written: None,
            tables_written: None,
        };
        tracks.iter().for_each(|track| muxer.put_track(track));
        muxer.map = muxer.build_map();
        muxer
    }

    /// The tracks that are not in the output: their codec or its configuration has no form in a
    /// transport stream.
    pub fn left_out(&self) -> &[TrackId] {
        &self.left_out
    }

    /// What a viewer who joins between two keyframes is sent first: the tables. Their continuity
    /// counters are those of the tables written last.
    pub fn header(&self, out: &mut Vec<u8>) {
        let mut association = self.association_continuity.wrapping_sub(1) & 0xf;
        let mut map = self
            .map_continuity
            .wrapping_sub(map_packets(&self.map) as u8)
            & 0xf;
        push_section(PID_ASSOCIATION, &mut association, &self.association, out);
        push_section(PID_MAP, &mut map, &self.map, out);
    }

    /// Writes the tables, for what has to be readable by itself from here on, as a segment is.
    /// Frames that are keyframes of video bring them anyway.
    pub fn write_tables(&mut self, out: &mut Vec<u8>) {
        self.push_tables(out);
    }

    /// Takes a new configuration, or a new track. Parameter sets follow with the next keyframe;
    /// the tables are written if they changed.
    pub fn track_changed(&mut self, track: &Track, out: &mut Vec<u8>) {
        self.put_track(track);
        if self.build_map() != self.map {
            self.map_version = (self.map_version + 1) & 0x1f;
            self.map = self.build_map();
            self.push_tables(out);
        }
    }

    /// Takes other tracks in place of those it has, and writes the tables. Streams that stay go on
    /// on their PIDs.
    pub fn set_tracks(&mut self, tracks: &[Track], out: &mut Vec<u8>) {
        let vacated = &mut self.vacated;
        self.streams.retain(|stream| {
            let stays = tracks.iter().any(|track| track.id == stream.track);
            if !stays {
                vacated.retain(|(pid, _)| *pid != stream.pid);
                vacated.push((stream.pid, stream.continuity));
            }
            stays
        });
        self.left_out.clear();
        tracks.iter().for_each(|track| self.put_track(track));
        self.map_version = (self.map_version + 1) & 0x1f;
        self.map = self.build_map();
        self.push_tables(out);
    }

    /// Writes a frame. One that has no form in a transport stream writes nothing; of a broken
    /// access unit, what precedes the damage is written.
    pub fn write(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        let Some(index) = self.position(frame.track) else {
            return;
        };
        let stream = &self.streams[index];
        let size = stream.form.size(frame);
        if size == 0 {
            return;
        }
        let join = frame.keyframe && stream.kind == Kind::Video;
        if join || is_due(self.tables_written, frame.dts, TABLES_PERIOD_MICROS) {
            self.tables_written = Some(frame.dts);
            self.push_tables(out);
        }
        let clock = self.clock_for(index, frame.dts, join, out);
        let stream = &mut self.streams[index];
        let header = PesHeader::new(stream.stream_id, frame, size);
        let adaptation = Adaptation {
            random_access: join || clock.is_some() && stream.kind == Kind::Audio,
            clock,
        };
        let mut writer = PacketWriter::new(
            out,
            stream.pid,
            &mut stream.continuity,
            adaptation,
            header.bytes().len() + size,
        );
        writer.push(header.bytes());
        stream.form.pieces(frame, &mut |piece| writer.push(piece));
    }

    /// The clock reference this frame carries, if it is one of the clock's stream; another
    /// stream's frame writes a packet of its own when the clock is overdue.
    fn clock_for(
        &mut self,
        index: usize,
        dts: MediaTime,
        join: bool,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        let on_clock = index == self.clock_stream;
        let period = if on_clock {
            CLOCK_PERIOD_MICROS
        } else {
            CLOCK_PERIOD_MAX_MICROS
        };
        let join = on_clock && join;
        if !join && !is_due(self.clock_written, dts, period) {
            return None;
        }
        // Tracks are not interleaved exactly, and a clock never runs back.
        let at = self.clock_written.map_or(dts, |written| written.max(dts));
        self.clock_written = Some(at);
        let base = stamp(at, OFFSET_TICKS - CLOCK_LEAD_TICKS);
        if on_clock {
            return Some(base);
        }
        let clock = &self.streams[self.clock_stream];
        push_clock(clock.pid, clock.continuity, base, out);
        None
    }

    fn push_tables(&mut self, out: &mut Vec<u8>) {
        push_section(
            PID_ASSOCIATION,
            &mut self.association_continuity,
            &self.association,
            out,
        );
        push_section(PID_MAP, &mut self.map_continuity, &self.map, out);
    }

    fn build_map(&self) -> Vec<u8> {
        const NO_CLOCK: u16 = 0x1fff;
        let clock_pid = self
            .streams
            .get(self.clock_stream)
            .map_or(NO_CLOCK, |stream| stream.pid);
        let entries = self.streams.iter().map(|stream| Entry {
            stream_type: stream.stream_type,
            pid: stream.pid,
            descriptors: &stream.descriptors,
        });
        tables::map(self.map_version, clock_pid, entries)
    }

    fn position(&self, track: TrackId) -> Option<usize> {
        self.streams.iter().position(|stream| stream.track == track)
    }

    fn put_track(&mut self, track: &Track) {
        self.left_out.retain(|left_out| *left_out != track.id);
        match (self.position(track.id), Stream::new(track)) {
            (Some(index), Some(stream)) => {
                let known = &mut self.streams[index];
                *known = Stream {
                    pid: known.pid,
                    continuity: known.continuity,
                    ..stream
                };
            }
            (None, Some(stream)) if self.streams.len() < STREAMS_MAX => {
                let pid = self.free_pid();
                let continuity = self
                    .vacated
                    .iter()
                    .find(|(vacated, _)| *vacated == pid)
                    .map_or(stream.continuity, |(_, continuity)| *continuity);
                self.streams.push(Stream {
                    pid,
                    continuity,
                    ..stream
                });
            }
            (Some(index), None) => {
                self.streams.remove(index);
                self.left_out.push(track.id);
            }
            (None, Some(_) | None) => self.left_out.push(track.id),
        }
        self.clock_stream = self
            .streams
            .iter()
            .position(|stream| stream.kind == Kind::Video)
            .unwrap_or(0);
    }

    fn free_pid(&self) -> u16 {
        let mut pid = FIRST_PID;
        while self.streams.iter().any(|stream| stream.pid == pid) {
            pid += 1;
        }
        pid
    }
}

fn map_packets(map: &[u8]) -> usize {
    (map.len() + 1).div_ceil(super::packet::BODY_SIZE)
}

/// True if `period` has passed since `written`, or the timeline was set back by as much.
fn is_due(written: Option<MediaTime>, at: MediaTime, period_micros: i64) -> bool {
    written.is_none_or(|written| {
        at.as_micros().abs_diff(written.as_micros()) >= period_micros.unsigned_abs()
    })
}

/// A time as 33 bits of the 90 kHz clock, which wrap every 26.5 hours.
fn stamp(time: MediaTime, offset: i64) -> u64 {
    time.as_ticks(CLOCK_RATE).wrapping_add(offset) as u64 & CLOCK_MASK
}

impl Stream {
    /// How the track is carried, without a PID yet.
    fn new(track: &Track) -> Option<Self> {
        const VIDEO: u8 = 0xe0;
        const AUDIO: u8 = 0xc0;
        const PRIVATE_1: u8 = 0xbd;
        let audio = track.audio.unwrap_or_default();
        let mut descriptors = language_descriptor(&track.language);
        let (stream_type, stream_id, form) = match track.codec {
            Codec::H264 => (0x1b, VIDEO, Form::H264(h264_sets(&track.init))),
            Codec::Hevc => {
                push_registration(b"HEVC", &mut descriptors);
                (0x24, VIDEO, Form::Hevc(hevc_sets(&track.init)))
            }
            Codec::Aac => {
                let config = aac::parse_config(&track.init).ok().or_else(|| {
                    let init = aac::build_config(audio.rate, audio.channels)?;
                    aac::parse_config(&init).ok()
                })?;
                (0x0f, AUDIO, Form::Adts(aac::Adts::new(&config)?))
            }
            Codec::Mp3 => {
                let low_rate = (1..mp3::MPEG1_RATE_MIN).contains(&audio.rate);
                (if low_rate { 0x04 } else { 0x03 }, AUDIO, Form::Whole)
            }
            Codec::Ac3 => {
                push_registration(b"AC-3", &mut descriptors);
                (0x81, PRIVATE_1, Form::Whole)
            }
            Codec::Eac3 => {
                push_registration(b"EAC3", &mut descriptors);
                (0x87, PRIVATE_1, Form::Whole)
            }
            Codec::Opus => {
                const EXTENSION: [u8; 3] = [0x7f, 2, 0x80];
                let channels = opus_channels(track)?;
                push_registration(b"Opus", &mut descriptors);
                descriptors.extend_from_slice(&EXTENSION);
                descriptors.push(channels);
                (0x06, PRIVATE_1, Form::Opus)
            }
            Codec::Av1
            | Codec::Vp8
            | Codec::Vp9
            | Codec::Flac
            | Codec::Ulaw
            | Codec::Alaw
            | Codec::G722 => return None,
        };
        Some(Self {
            track: track.id,
            kind: track.kind(),
            pid: 0,
            continuity: 0,
            stream_type,
            stream_id,
            descriptors,
            form,
        })
    }
}

/// ISO_639_language_descriptor (ISO/IEC 13818-1 2.6.18).
fn language_descriptor(language: &str) -> Vec<u8> {
    match language.as_bytes() {
        [a, b, c] => vec![0x0a, 4, *a, *b, *c, 0],
        _ => Vec::new(),
    }
}

/// registration_descriptor (ISO/IEC 13818-1 2.6.8).
fn push_registration(name: &[u8; 4], out: &mut Vec<u8>) {
    out.extend_from_slice(&[5, 4]);
    out.extend_from_slice(name);
}

/// The channel configuration code of Opus in a transport stream: below 9 it is the number of
/// channels in the usual mapping. Other mappings have a longer form, which is left out.
fn opus_channels(track: &Track) -> Option<u8> {
    let channels = match opus::parse_head(&track.init) {
        Ok(head) if head.family <= 1 => head.channels,
        Ok(_) => return None,
        Err(_) => track.audio.map_or(2, |audio| audio.channels),
    };
    (1..=8).contains(&channels).then_some(channels)
}

fn h264_sets(init: &[u8]) -> Vec<u8> {
    let mut sets = Vec::new();
    if let Ok(config) = h264::parse_config(init) {
        for unit in config.sps.iter().chain(&config.pps) {
            nal::push_annex_b(unit, &mut sets);
        }
    }
    sets
}

fn hevc_sets(init: &[u8]) -> Vec<u8> {
    let mut sets = Vec::new();
    if let Ok(config) = hevc::parse_config(init) {
        for unit in config.vps.iter().chain(&config.sps).chain(&config.pps) {
            nal::push_annex_b(unit, &mut sets);
        }
    }
    sets
}

impl Form {
    /// Bytes of the elementary stream for this frame; 0 if it cannot be carried.
    fn size(&self, frame: &Frame) -> usize {
        let mut size = 0;
        self.pieces(frame, &mut |piece| size += piece.len());
        size
    }

    /// The elementary stream for this frame, in pieces.
    fn pieces(&self, frame: &Frame, push: &mut impl FnMut(&[u8])) {
        /// Prefix 0x3ff, no trimming, no extension (Opus in TS, opus_control_header).
        const OPUS_CONTROL: [u8; 2] = [0x7f, 0xe0];
        let data = &frame.data[..];
        match self {
            Self::H264(sets) => {
                let names = UnitNames {
                    delimiter: &h264::AUD,
                    delimiter_type: h264::NAL_AUD,
                    sps_type: h264::NAL_SPS,
                    nal_type: h264::nal_type,
                };
                annex_b_pieces(data, frame.keyframe.then_some(&sets[..]), &names, push);
            }
            Self::Hevc(sets) => {
                let names = UnitNames {
                    delimiter: &hevc::AUD,
                    delimiter_type: hevc::NAL_AUD,
                    sps_type: hevc::NAL_SPS,
                    nal_type: hevc::nal_type,
                };
                annex_b_pieces(data, frame.keyframe.then_some(&sets[..]), &names, push);
            }
            Self::Adts(adts) => {
                if let Some(header) = adts.header(data.len())
                    && !data.is_empty()
                {
                    push(&header);
                    push(data);
                }
            }
            Self::Opus if data.is_empty() => {}
            Self::Opus => {
                const FULL: [u8; 255] = [0xff; 255];
                push(&OPUS_CONTROL);
                // The size is a run of 255s and the rest.
                let mut full = data.len() / 255;
                while full > 0 {
                    let now = full.min(FULL.len());
                    push(&FULL[..now]);
                    full -= now;
                }
                push(&[(data.len() % 255) as u8]);
                push(data);
            }
            Self::Whole => push(data),
        }
    }
}

struct UnitNames<'a> {
    delimiter: &'a [u8],
    delimiter_type: u8,
    sps_type: u8,
    nal_type: fn(&[u8]) -> u8,
}

/// A delimiter, `sets` unless the access unit has its own, and the units with start codes.
fn annex_b_pieces(
    data: &[u8],
    sets: Option<&[u8]>,
    names: &UnitNames<'_>,
    push: &mut impl FnMut(&[u8]),
) {
    let units = || {
        nal::units(data)
            .map_while(Result::ok)
            .filter(|unit| (names.nal_type)(unit) != names.delimiter_type)
    };
    if units().next().is_none() {
        return;
    }
    push(&nal::START_CODE);
    push(names.delimiter);
    if let Some(sets) = sets
        && !units().any(|unit| (names.nal_type)(unit) == names.sps_type)
    {
        push(sets);
    }
    for unit in units() {
        push(&nal::START_CODE);
        push(unit);
    }
}

/// ```text
/// 00 00 01 stream_id  length(16)  10 00 0 alignment(1) 0 0  has_pts has_dts 000000  rest(8)
///   0010 or 0011, pts 32..30 1  pts 29..15 1  pts 14..0 1   0001, dts likewise
/// ```
struct PesHeader {
    bytes: [u8; 19],
    size: usize,
}

impl PesHeader {
    fn new(stream_id: u8, frame: &Frame, size: usize) -> Self {
        const ALIGNED: u8 = 0x84;
        let (pts, dts) = (frame.pts.max(frame.dts), frame.dts);
        let (pts, dts) = (stamp(pts, OFFSET_TICKS), stamp(dts, OFFSET_TICKS));
        let mut bytes = [0; 19];
        let stamps = if pts == dts { 5 } else { 10 };
        // 0 is "to the next start", allowed for video. Told where it fits, for a receiver then
        // has the picture without waiting for the next.
        let length = u16::try_from(3 + stamps + size).unwrap_or(0);
        bytes[..4].copy_from_slice(&[0, 0, 1, stream_id]);
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
        bytes[6..9].copy_from_slice(&[ALIGNED, if pts == dts { 0x80 } else { 0xc0 }, stamps as u8]);
        if pts == dts {
            bytes[9..14].copy_from_slice(&stamp_field(2, pts));
        } else {
            bytes[9..14].copy_from_slice(&stamp_field(3, pts));
            bytes[14..].copy_from_slice(&stamp_field(1, dts));
        }
        Self {
            bytes,
            size: 9 + stamps,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

fn stamp_field(prefix: u8, stamp: u64) -> [u8; 5] {
    [
        prefix << 4 | (stamp >> 29) as u8 & 0x0e | 1,
        (stamp >> 22) as u8,
        (stamp >> 14) as u8 | 1,
        (stamp >> 7) as u8,
        (stamp << 1) as u8 | 1,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_wrap_at_33_bits() {
        let wrap = MediaTime::from_ticks(1 << 33, CLOCK_RATE);
        assert_eq!(stamp(wrap, 7), 7);
        assert_eq!(stamp(MediaTime::ZERO, OFFSET_TICKS), 90_000);
        assert_eq!(stamp_field(2, CLOCK_MASK), [0x2f, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(stamp_field(3, 0), [0x31, 0, 1, 0, 1]);
    }

    #[test]
    fn delimiters_are_not_doubled_and_sets_only_added_when_missing() {
        let names = UnitNames {
            delimiter: &h264::AUD,
            delimiter_type: h264::NAL_AUD,
            sps_type: h264::NAL_SPS,
            nal_type: h264::nal_type,
        };
        let convert = |data: &[u8]| {
            let mut out = Vec::new();
            annex_b_pieces(data, Some(&[0xaa]), &names, &mut |piece| {
                out.extend_from_slice(piece);
            });
            out
        };
        let with_delimiter = [0, 0, 0, 2, 9, 0x10, 0, 0, 0, 1, 0x65];
        assert_eq!(
            convert(&with_delimiter),
            [0, 0, 0, 1, 9, 0xf0, 0xaa, 0, 0, 0, 1, 0x65]
        );
        let with_set = [0, 0, 0, 1, 0x67, 0, 0, 0, 1, 0x65];
        assert_eq!(
            convert(&with_set),
            [0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x67, 0, 0, 0, 1, 0x65]
        );
        assert!(convert(&with_delimiter[..6]).is_empty());
    }
}
