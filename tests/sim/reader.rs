//! Reads what a viewer receives, strictly, in each container.

use std::collections::{BTreeMap, VecDeque};

use ringside::media::Kind;
use ringside::proto::flv::{FileReader, Tag, TagKind};
use ringside::proto::mpegts::PACKET_SIZE;
use ringside::proto::rtmp::ChunkReader;
use ringside::streams::Container;

use super::media::{LEVEL_OFFSET, Stamp};

/// Something a player would notice.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    /// The video decoder is configured with this version.
    Config(u8),
    /// Everything is configured anew: times of a track may begin again.
    Restart,
    /// A frame, with its decoding time in units that differ between containers.
    Frame { kind: Kind, time: u64, stamp: Stamp },
    /// A transport packet did not follow the one before it.
    Discontinuity,
}

/// The message by which a session tells its chunk size before it plays.
fn chunk_size_message(size: u32) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
    out.extend_from_slice(&size.to_be_bytes());
    out
}

/// One viewer's bytes, from the first on.
pub(crate) struct Reader {
    dechunk: Option<Vec<u8>>,
    form: Form,
    seen: VecDeque<Seen>,
}

enum Form {
    Flv(FileReader),
    Rtmp(ChunkReader),
    Ts(Transport),
    Mp4(Fragments),
}

impl Reader {
    pub(crate) fn new(container: Container, is_chunked: bool) -> Self {
        let form = match container {
            Container::Flv => Form::Flv(FileReader::new()),
            Container::Rtmp => {
                let mut reader = ChunkReader::new(1 << 20);
                let size = ringside::proto::rtmp::OUTPUT_CHUNK_SIZE as u32;
                let got = reader.read(&mut &chunk_size_message(size)[..]);
                assert!(matches!(got, Ok(None)), "taken by the reader itself");
                Form::Rtmp(reader)
            }
            Container::Ts => Form::Ts(Transport::default()),
            Container::Mp4 => Form::Mp4(Fragments::default()),
            Container::WebRtc => unreachable!("its viewers read packets"),
        };
        Self {
            dechunk: is_chunked.then(Vec::new),
            form,
            seen: VecDeque::new(),
        }
    }

    /// Takes one whole run; a run never ends inside a frame.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self.dechunk.take() {
            Some(mut held) => {
                held.extend_from_slice(bytes);
                let mut rest = &held[..];
                while let Some((chunk, after)) = split_chunk(rest)? {
                    self.form.take(chunk, &mut self.seen)?;
                    rest = after;
                }
                if !rest.is_empty() {
                    return Err("a run ends inside a chunk".into());
                }
                self.dechunk = Some(Vec::new());
            }
            None => self.form.take(bytes, &mut self.seen)?,
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Option<Seen> {
        self.seen.pop_front()
    }
}

/// A part and what follows it.
pub(crate) type Split<'a> = (&'a [u8], &'a [u8]);

/// `size \r\n data \r\n`
fn split_chunk(bytes: &[u8]) -> Result<Option<Split<'_>>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let line = bytes
        .windows(2)
        .position(|window| window == b"\r\n")
        .ok_or("a chunk without a size")?;
    let text = std::str::from_utf8(&bytes[..line]).map_err(|_| "a chunk's size is no text")?;
    let size = usize::from_str_radix(text, 16).map_err(|_| format!("a chunk's size is {text}"))?;
    let data = &bytes[line + 2..];
    if size == 0 || data.len() < size + 2 || &data[size..size + 2] != b"\r\n" {
        return Err(format!("a chunk of {size} bytes is cut short"));
    }
    Ok(Some((&data[..size], &data[size + 2..])))
}

impl Form {
    fn take(&mut self, bytes: &[u8], seen: &mut VecDeque<Seen>) -> Result<(), String> {
        match self {
            Self::Flv(reader) => {
                reader.push(bytes);
                while let Some(tag) = reader.next_tag().map_err(|error| error.to_string())? {
                    seen.extend(read_tag(&tag)?);
                }
            }
            Self::Rtmp(reader) => {
                let mut rest = bytes;
                while let Some(message) =
                    reader.read(&mut rest).map_err(|error| error.to_string())?
                {
                    let tag = message.into_tag().ok_or("a message that is no tag")?;
                    seen.extend(read_tag(&tag)?);
                }
            }
            Self::Ts(transport) => transport.take(bytes, seen)?,
            Self::Mp4(fragments) => fragments.take(bytes, seen)?,
        }
        Ok(())
    }
}

fn read_tag(tag: &Tag) -> Result<Option<Seen>, String> {
    const AVC_KEY_CONFIG: [u8; 2] = [0x17, 0];
    const AAC_CONFIG: [u8; 2] = [0xaf, 0];
    const OPUS_CONFIG: u8 = 0x90;
    let body = &tag.payload[..];
    let kind = match tag.kind {
        TagKind::Script => return Ok(None),
        TagKind::Video => Kind::Video,
        TagKind::Audio => Kind::Audio,
    };
    if kind == Kind::Video && body.starts_with(&AVC_KEY_CONFIG) {
        let version = body.get(5 + LEVEL_OFFSET).ok_or("an avcC is cut short")?;
        return Ok(Some(Seen::Config(*version)));
    }
    if kind == Kind::Audio && (body.starts_with(&AAC_CONFIG) || body.first() == Some(&OPUS_CONFIG))
    {
        return Ok(None);
    }
    let stamp = Stamp::find(body)?;
    if kind == Kind::Video && stamp.is_key != (body[0] >> 4 == 1) {
        return Err(format!("the keyframe flag is wrong: {stamp:?}"));
    }
    Ok(Some(Seen::Frame {
        kind,
        time: tag.timestamp.into(),
        stamp,
    }))
}

/// A transport stream with one program.
#[derive(Default)]
pub(crate) struct Transport {
    continuity: BTreeMap<u16, u8>,
    /// The access unit under way of each PID.
    units: BTreeMap<u16, Vec<u8>>,
    /// The program map and its version.
    map: Option<(u8, Vec<u8>)>,
}

/// PIDs below it carry tables, as does the one of the program map. A viewer may get them twice.
const MEDIA_PID_MIN: u16 = 0x100;
pub(crate) const MAP_PID: u16 = 0x1000;

impl Transport {
    pub(crate) fn take(&mut self, bytes: &[u8], seen: &mut VecDeque<Seen>) -> Result<(), String> {
        if !bytes.len().is_multiple_of(PACKET_SIZE) {
            return Err(format!("{} bytes are no whole packets", bytes.len()));
        }
        for packet in bytes.chunks(PACKET_SIZE) {
            self.packet(packet, seen)?;
        }
        // A run ends with a frame, so every unit is complete.
        let pids: Vec<u16> = self.units.keys().copied().collect();
        for pid in pids {
            self.finish(pid, seen)?;
        }
        Ok(())
    }

    fn packet(&mut self, packet: &[u8], seen: &mut VecDeque<Seen>) -> Result<(), String> {
        if packet[0] != 0x47 {
            return Err(format!("a packet begins with {:#x}", packet[0]));
        }
        let pid = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
        let is_start = packet[1] & 0x40 != 0;
        let (has_adaptation, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        let counter = packet[3] & 0xf;
        let skipped = if has_adaptation {
            1 + usize::from(packet[4])
        } else {
            0
        };
        let payload = packet
            .get(4 + skipped..)
            .ok_or("an adaptation field is too long")?;
        if pid == MAP_PID && is_start {
            return self.map(payload);
        }
        if pid < MEDIA_PID_MIN || pid == MAP_PID || !has_payload {
            return Ok(());
        }
        let expected = self
            .continuity
            .insert(pid, counter)
            .map(|last| (last + 1) & 0xf);
        if expected.is_some_and(|expected| expected != counter) {
            seen.push_back(Seen::Discontinuity);
            self.units.remove(&pid);
        }
        if is_start {
            self.finish(pid, seen)?;
            self.units.insert(pid, payload.to_vec());
        } else if let Some(unit) = self.units.get_mut(&pid) {
            unit.extend_from_slice(payload);
        } else {
            return Err(format!("a packet of {pid:#x} continues nothing"));
        }
        Ok(())
    }

    /// Players look at a map only when its version is not the one that they know.
    fn map(&mut self, payload: &[u8]) -> Result<(), String> {
        let version = payload.get(6).ok_or("a map is cut short")? >> 1 & 0x1f;
        if let Some((known, before)) = &self.map
            && *known == version
            && before != payload
        {
            return Err(format!(
                "the map changes and its version {version} does not"
            ));
        }
        self.map = Some((version, payload.to_vec()));
        Ok(())
    }

    fn finish(&mut self, pid: u16, seen: &mut VecDeque<Seen>) -> Result<(), String> {
        let Some(unit) = self.units.remove(&pid) else {
            return Ok(());
        };
        if unit.len() < 14 || unit[..3] != [0, 0, 1] {
            return Err("no PES header".into());
        }
        let kind = if unit[3] == 0xe0 {
            Kind::Video
        } else {
            Kind::Audio
        };
        let stamps = usize::from(unit[8]);
        let at = if unit[7] >> 6 == 3 { 14 } else { 9 };
        let field = unit.get(at..at + 5).ok_or("a PES header is cut short")?;
        let time = u64::from(field[0] >> 1 & 7) << 30
            | u64::from(field[1]) << 22
            | u64::from(field[2] >> 1) << 15
            | u64::from(field[3]) << 7
            | u64::from(field[4] >> 1);
        let stamp = Stamp::find(&unit[9 + stamps..])?;
        seen.push_back(Seen::Frame { kind, time, stamp });
        Ok(())
    }
}

/// A fragmented MP4.
#[derive(Default)]
struct Fragments {
    has_header: bool,
    /// track_ID and kind of the tracks of the last `moov`.
    tracks: BTreeMap<u32, Kind>,
    /// track_ID and decode time of the `moof` whose `mdat` is next.
    pending: Option<(u32, u64)>,
}

impl Fragments {
    fn take(&mut self, bytes: &[u8], seen: &mut VecDeque<Seen>) -> Result<(), String> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (name, (body, after)) = split_box(rest)?;
            self.read(name, body, seen)?;
            rest = after;
        }
        if self.pending.is_some() {
            return Err("a run ends between moof and mdat".into());
        }
        Ok(())
    }

    fn read(
        &mut self,
        name: [u8; 4],
        body: &[u8],
        seen: &mut VecDeque<Seen>,
    ) -> Result<(), String> {
        match (&name, self.pending.take()) {
            (b"ftyp", None) => {}
            (b"moov", None) => {
                self.has_header = true;
                self.tracks = read_tracks(body)?;
                seen.push_back(Seen::Restart);
                if let Some(at) = find(body, b"avcC") {
                    let version = body
                        .get(at + 4 + LEVEL_OFFSET)
                        .ok_or("an avcC is cut short")?;
                    seen.push_back(Seen::Config(*version));
                }
            }
            (b"moof", None) if self.has_header => {
                let number = |name: &[u8; 4], at: usize| {
                    let from = find(body, name)? + at;
                    body.get(from..from + 4)?
                        .try_into()
                        .ok()
                        .map(u32::from_be_bytes)
                };
                let track = number(b"tfhd", 8).ok_or("no tfhd")?;
                let upper = number(b"tfdt", 8).ok_or("no tfdt")?;
                let lower = number(b"tfdt", 12).ok_or("no tfdt")?;
                self.pending = Some((track, u64::from(upper) << 32 | u64::from(lower)));
            }
            (b"mdat", Some((track, time))) => {
                let kind = *self
                    .tracks
                    .get(&track)
                    .ok_or("a fragment of an unknown track")?;
                let stamp = Stamp::find(body)?;
                seen.push_back(Seen::Frame { kind, time, stamp });
            }
            (name, _) => {
                return Err(format!(
                    "{:?} is out of place",
                    std::str::from_utf8(&name[..])
                ));
            }
        }
        Ok(())
    }
}

/// Name, contents and what follows.
pub(crate) fn split_box(bytes: &[u8]) -> Result<([u8; 4], Split<'_>), String> {
    let (head, _) = bytes.split_first_chunk::<8>().ok_or("a box is cut short")?;
    let [a, b, c, d, name @ ..] = *head;
    let size = u32::from_be_bytes([a, b, c, d]) as usize;
    if size < 8 || size > bytes.len() {
        return Err(format!("a box of {size} bytes where {} are", bytes.len()));
    }
    Ok((name, (&bytes[8..size], &bytes[size..])))
}

fn read_tracks(moov: &[u8]) -> Result<BTreeMap<u32, Kind>, String> {
    let mut tracks = BTreeMap::new();
    let mut rest = moov;
    while !rest.is_empty() {
        let (name, (body, after)) = split_box(rest)?;
        rest = after;
        if &name == b"trak" {
            let at = find(body, b"tkhd").ok_or("no tkhd")?;
            // Version, flags, two times of 32 bits, then the number.
            let id = body.get(at + 16..at + 20).ok_or("a tkhd is cut short")?;
            let id = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
            let kind = if find(body, b"vide").is_some() {
                Kind::Video
            } else {
                Kind::Audio
            };
            tracks.insert(id, kind);
        }
    }
    Ok(tracks)
}

/// Where a box's name stands.
pub(crate) fn find(bytes: &[u8], name: &[u8; 4]) -> Option<usize> {
    bytes.windows(4).position(|window| window == name)
}
