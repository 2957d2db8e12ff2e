//! Publishers and viewers of packets.

use std::collections::BTreeMap;
use std::time::Duration;

use ringside::base::ids::TrackId;
use ringside::base::prng::Prng;
use ringside::media::{Frame, Kind, Packet, Start, Track};
use ringside::proto::rtp::payload::{Depacketizer, Options, PacketView, Packetizer};

use super::media::Stamp;

/// Packets that may wait for a missing one before a viewer gives it up.
const WAITING_MAX: usize = 200;

/// What a publisher makes of its frames.
#[derive(Debug)]
pub(crate) struct Cutter {
    packetizers: BTreeMap<TrackId, Packetizer>,
    /// When a keyframe was first asked for, and how often that was, by track.
    pub(crate) asked: BTreeMap<TrackId, (Duration, u32)>,
}

impl Cutter {
    pub(crate) fn new() -> Self {
        Self {
            packetizers: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// The packets of a frame; some change places on the way.
    pub(crate) fn cut(&mut self, rng: &mut Prng, track: &Track, frame: &Frame) -> Vec<Packet> {
        let packetizer = self.packetizers.entry(track.id).or_insert_with(|| {
            let options = Options {
                first_number: rng.below(1 << 17),
                ..Options::default()
            };
            Packetizer::new(track.codec, options).expect("WebRTC carries it")
        });
        let mut packets = Vec::new();
        packetizer.packetize(track, frame, &mut packets);
        if rng.chance(10) && packets.len() > 1 {
            let at = rng.below(packets.len() as u64 - 1) as usize;
            packets.swap(at, at + 1);
        }
        packets
    }
}

/// Where a viewer of packets is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// It wants to know the tracks.
    Offering,
    /// It has asked for packets, and may have got some.
    Viewing,
}

/// A viewer that puts frames together and looks closely at them.
#[derive(Debug)]
pub(crate) struct PacketViewer {
    pub(crate) name: usize,
    pub(crate) stage: Stage,
    pub(crate) pictures: u64,
    pub(crate) last_frame_at: Duration,
    tracks: BTreeMap<TrackId, Watched>,
    /// Where a keyframe is wanted.
    pub(crate) wants: Option<TrackId>,
}

#[derive(Debug)]
struct Watched {
    kind: Kind,
    depacketizer: Depacketizer,
    waiting: BTreeMap<u64, Packet>,
    next: Option<u64>,
    last: Option<Stamp>,
}

impl PacketViewer {
    pub(crate) fn new(name: usize) -> Self {
        Self {
            name,
            stage: Stage::Offering,
            pictures: 0,
            last_frame_at: Duration::ZERO,
            tracks: BTreeMap::new(),
            wants: None,
        }
    }

    /// The tracks that it wants.
    pub(crate) fn choose(&mut self, tracks: &[Track]) -> Vec<TrackId> {
        self.stage = Stage::Viewing;
        for track in tracks {
            let watched = Watched {
                kind: track.kind(),
                depacketizer: Depacketizer::new(track.codec).expect("WebRTC carries it"),
                waiting: BTreeMap::new(),
                next: None,
                last: None,
            };
            self.tracks.insert(track.id, watched);
        }
        self.tracks.keys().copied().collect()
    }

    /// What it has of a track's newest packets.
    pub(crate) fn newest(&self) -> Option<(TrackId, u64)> {
        let (id, track) = self.tracks.first_key_value()?;
        Some((*id, track.next?.checked_sub(1)?))
    }

    /// Looks at a batch. Returns how many frames were whole. With `may_gap`, packets may be
    /// missing; what is decoded must be decodable all the same.
    pub(crate) fn take(
        &mut self,
        id: TrackId,
        packets: &[Packet],
        is_backlog: bool,
        now: Duration,
        may_gap: bool,
    ) -> Result<u64, String> {
        let name = self.name;
        let track = self
            .tracks
            .get_mut(&id)
            .filter(|_| self.stage == Stage::Viewing)
            .ok_or("packets of a track that it did not ask for")?;
        let first = packets.first().ok_or("an empty batch")?;
        if packets.iter().any(|packet| packet.track != id) {
            return Err("a packet of another track".into());
        }
        if (is_backlog || track.next.is_none()) && first.start != Start::Keyframe {
            return Err(format!("it begins without a keyframe: {first:?}"));
        }
        if is_backlog && track.next.is_some_and(|next| first.number > next) {
            // It was given up, and begins anew.
            track.next = Some(first.number);
            track.waiting.clear();
        }
        let next = *track.next.get_or_insert(first.number);
        for packet in packets {
            if packet.number >= next {
                let before = track.waiting.insert(packet.number, packet.clone());
                if before.is_some() && !is_backlog {
                    return Err(format!("a packet comes again: {packet:?}"));
                }
            } else if !is_backlog && !may_gap && next - packet.number < 1000 {
                return Err(format!("a packet comes again, late: {packet:?}"));
            }
        }
        let mut frames = 0;
        loop {
            frames += track.drain(name)?;
            if track.waiting.len() <= WAITING_MAX {
                break;
            }
            if !may_gap {
                return Err(format!("packets are missing from {:?} on", track.next));
            }
            track.next = track.waiting.keys().next().copied();
        }
        if track.kind == Kind::Video {
            self.pictures += frames;
            if frames > 0 {
                self.last_frame_at = now;
            }
            if track.depacketizer.needs_keyframe() {
                self.wants = Some(id);
            }
        }
        Ok(frames)
    }
}

impl Watched {
    fn drain(&mut self, name: usize) -> Result<u64, String> {
        let mut frames = 0;
        while let Some(next) = self.next
            && let Some(packet) = self.waiting.remove(&next)
        {
            self.next = Some(next + 1);
            let view = PacketView {
                number: packet.number,
                time: packet.time,
                marker: packet.marker,
                payload: &packet.payload,
            };
            // A publisher that leaves in the middle of a frame leaves half of one.
            let _damaged = self.depacketizer.push(view);
            while let Some(unit) = self.depacketizer.poll() {
                let stamp = Stamp::find(&unit.data)?;
                if usize::from(stamp.stream) != name {
                    return Err(format!("a frame of another stream: {stamp:?}"));
                }
                let of_same = self.last.filter(|last| last.publisher == stamp.publisher);
                if of_same.is_some_and(|last| last.number >= stamp.number) {
                    return Err(format!("a frame comes again: {stamp:?}, {:?}", self.last));
                }
                let follows = of_same.is_some_and(|last| last.number + 1 == stamp.number);
                if self.kind == Kind::Video && !stamp.is_key && !follows {
                    return Err(format!(
                        "a picture without those that it needs: {stamp:?} after {:?}",
                        self.last
                    ));
                }
                self.last = Some(stamp);
                frames += 1;
            }
        }
        Ok(frames)
    }
}
