//! Packets on their way from publishers to viewers, and from and to frames.

use std::sync::Arc;

use super::{Business, Exchange, Output, RtcReply, Want};
use crate::base::ids::{ConnId, ShardId, StreamId, TrackId};
use crate::media::{Frame, Packet, Start};
use crate::streams::message::Message;
use crate::streams::output::Container;
use crate::streams::packets::{Batch, Wishes};
use crate::streams::stream::{Role, Stream};

impl Exchange {
    /// A publisher sent packets, in the order they came. Their tracks, numbers and times are the
    /// publisher's own.
    pub fn publisher_packets(&mut self, conn: ConnId, packets: Vec<Packet>) {
        let Some((publisher, home)) = self.publication_of(conn) else {
            return;
        };
        let Some(entry) = self.publishers.get_mut(&publisher) else {
            return;
        };
        if packets.is_empty() {
            return;
        }
        let begin = packets.iter().filter(|packet| packet.start != Start::No);
        let frames = begin.count() as u64;
        let bytes: u64 = packets.iter().map(|it| it.payload.len() as u64).sum();
        entry.frames += frames;
        entry.bytes += bytes;
        entry.heard = self.now;
        self.counters.frames_in += frames;
        self.counters.bytes_in += bytes;
        self.counters.packets_in += packets.len() as u64;
        self.counters.packet_bytes_in += bytes;
        if home.shard == self.me {
            self.home_packets(home.stream, (self.me, publisher), packets);
        } else {
            let message = Message::IngestPackets {
                stream: home.stream,
                publisher,
                packets,
            };
            self.outputs.push_back(Self::media(home.shard, message));
        }
    }

    pub(super) fn home_packets(
        &mut self,
        id: StreamId,
        publisher: (ShardId, u64),
        packets: Vec<Packet>,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(ingested) = stream.ingest_packets(self.now, self.unix_ms, publisher, packets)
        else {
            return;
        };
        self.counters.bad_media += ingested.unknown;
        self.counters.retimed += ingested.retimed;
        for (track, batch) in ingested.batches {
            let batch: Batch = batch.into();
            if let Some(home) = self.streams.get(&id).and_then(Stream::home_ref) {
                for (mirror, wishes) in &home.mirrors {
                    if wishes.packets {
                        let message = Message::MirrorPackets {
                            stream: id,
                            packets: Arc::clone(&batch),
                        };
                        self.outputs.push_back(Self::media(*mirror, message));
                    }
                }
            }
            self.build(id, track, &batch);
            self.hand_out(id, track, &batch);
        }
        self.note_ready(id);
    }

    pub(super) fn mirror_packets(&mut self, id: StreamId, packets: &[Packet]) {
        let now = self.now;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let batch: Batch = stream.mirror_packets(now, packets).into();
        if let Some(track) = batch.first().map(|packet| packet.track) {
            self.hand_out(id, track, &batch);
        }
    }

    /// Hands a batch over to all who watch its track.
    fn hand_out(&mut self, id: StreamId, track: TrackId, batch: &Batch) {
        let now = self.now;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let is_packets = stream.is_packets;
        let Some(part) = stream.packets.tracks.get_mut(&track) else {
            return;
        };
        let viewers = part.live();
        let asks = is_packets && part.note_batch(now, batch);
        if let Some(viewers) = viewers {
            self.give(id, track, viewers, Arc::clone(batch), false);
        }
        self.start_pending(id, track);
        if asks {
            self.ask_keyframe(id, track);
        }
    }

    /// Those who wait begin, if there is something to begin with.
    pub(super) fn start_pending(&mut self, id: StreamId, track: TrackId) {
        let now = self.now;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let can_ask = stream.is_packets;
        let part = stream.packets.tracks.get_mut(&track);
        if let Some((viewers, run)) = part.and_then(|part| part.start_pending(now, can_ask)) {
            self.give(id, track, viewers, run, true);
        }
    }

    pub(super) fn give(
        &mut self,
        id: StreamId,
        track: TrackId,
        viewers: Arc<[ConnId]>,
        packets: Batch,
        is_backlog: bool,
    ) {
        let bytes: usize = packets.iter().map(|packet| packet.payload.len()).sum();
        let bytes = bytes as u64 * viewers.len() as u64;
        self.counters.packets_out += packets.len() as u64 * viewers.len() as u64;
        self.counters.bytes_out[Container::WebRtc as usize] += bytes;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.bytes_out[Container::WebRtc as usize] += bytes;
        }
        self.outputs.push_back(Output::Packets {
            stream: id,
            track,
            packets,
            viewers,
            is_backlog,
        });
    }

    /// Enough may be known of the tracks of a stream of packets.
    pub(super) fn note_ready(&mut self, id: StreamId) {
        let now = self.now;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !stream.is_packets || !stream.is_ready(now) {
            return;
        }
        if !std::mem::replace(&mut stream.packets.has_told_ready, true) {
            self.tell_mirrors(id, |stream| Message::MirrorReady { stream });
        }
        self.seat_waiting(id);
    }

    /// What the home shard had kept of packets has come.
    pub(super) fn backlog_of_packets(&mut self, id: StreamId) {
        let tracks = self.streams.get(&id).map(|stream| {
            let tracks = stream.packets.tracks.keys();
            tracks.copied().collect::<Vec<TrackId>>()
        });
        for track in tracks.unwrap_or_default() {
            self.start_pending(id, track);
            let part = self
                .streams
                .get(&id)
                .and_then(|stream| stream.packets.tracks.get(&track));
            if part.is_some_and(|part| part.has_pending()) {
                self.want_keyframe(id, track);
            }
        }
    }

    // ----- frames from packets

    fn build(&mut self, id: StreamId, track: TrackId, batch: &Batch) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let built = stream.build(self.now, track, batch);
        self.counters.frames_built += built.frames.len() as u64;
        for frame in &built.frames {
            let Some(stream) = self.streams.get_mut(&id) else {
                return;
            };
            if let Some(track) = stream.learn_built(frame) {
                self.track_changed(id, &track);
            }
            if !built.is_shown {
                continue;
            }
            let Some(stream) = self.streams.get_mut(&id) else {
                return;
            };
            let (number, is_entry) = stream.keep_built(self.now, &frame.frame);
            self.spread(id, number, &frame.frame, is_entry);
        }
        for track in built.needs_keyframe {
            self.want_keyframe(id, track);
        }
    }

    // ----- packets from frames

    /// A frame for those who watch packets here.
    pub(super) fn packetize(&mut self, id: StreamId, frame: &Frame) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let packets = stream.packetize(frame);
        if !packets.is_empty() {
            self.hand_out(id, frame.track, &packets.into());
        }
    }

    // ----- keyframes

    /// Somebody wants a keyframe of a track. Its publisher is asked, now or shortly.
    pub(super) fn want_keyframe(&mut self, id: StreamId, track: TrackId) {
        let now = self.now;
        let Some(stream) = self.streams.get_mut(&id).filter(|it| it.is_packets) else {
            return;
        };
        let Some(track) = stream.tracks.get(track.index()) else {
            return;
        };
        if stream.packets.track(track).wants_keyframe(now) {
            let track = track.id;
            self.ask_keyframe(id, track);
        }
    }

    fn ask_keyframe(&mut self, id: StreamId, track: TrackId) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        match &stream.role {
            Role::Mirror(mirror) => {
                let home = mirror.home.shard;
                self.mesh(home, Message::KeyframeWanted { stream: id, track });
            }
            Role::Home(home) => {
                let Some(publication) = &home.publication else {
                    return;
                };
                let Some(track) = publication.track(track) else {
                    return;
                };
                let (shard, publisher) = (publication.shard, publication.publisher);
                if shard == self.me {
                    self.ask_publisher(publisher, track);
                } else {
                    self.mesh(shard, Message::AskKeyframe { publisher, track });
                }
            }
        }
    }

    /// Asks a publisher of this shard for a keyframe of its own `track`.
    pub(super) fn ask_publisher(&mut self, publisher: u64, track: TrackId) {
        if let Some(entry) = self.publishers.get(&publisher) {
            let conn = entry.conn;
            self.counters.keyframes_asked += 1;
            self.rtc(conn, RtcReply::Keyframe(track));
        }
    }

    // ----- what mirrors want

    /// What viewers here want of a stream that is at home elsewhere.
    pub(super) fn wishes_of(&self, stream: &Stream) -> Wishes {
        let waiting = self.waiting.get(&stream.name);
        let is_awaited = |which: fn(&Want) -> bool| {
            let mut waiting = waiting.into_iter().flatten();
            waiting.any(|waiting| which(&waiting.want))
        };
        Wishes {
            frames: !stream.outlets.is_empty()
                || is_awaited(|want| matches!(want, Want::Play { .. })),
            packets: stream.packets.is_watched
                || is_awaited(|want| matches!(want, Want::Packets(_))),
        }
    }

    /// Tells the home shard if something else is wanted here than before.
    pub(super) fn review_wishes(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if matches!(stream.role, Role::Home(_)) {
            return;
        }
        let wishes = self.wishes_of(stream);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !wishes.frames {
            stream.release_frames();
        }
        if let Role::Mirror(mirror) = &mut stream.role
            && mirror.wishes != wishes
        {
            mirror.wishes = wishes;
            let home = mirror.home.shard;
            self.mesh(home, Message::Wish { stream: id, wishes });
        }
    }

    /// A mirror wants something else than before.
    pub(super) fn wish(&mut self, from: ShardId, id: StreamId, wishes: Wishes) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(home) = stream.home() else {
            return;
        };
        let Some(before) = home.mirrors.insert(from, wishes) else {
            home.mirrors.remove(&from); // It has unsubscribed.
            return;
        };
        let gained = Wishes {
            frames: wishes.frames && !before.frames,
            packets: wishes.packets && !before.packets,
        };
        if stream.is_packets && gained != Wishes::default() {
            let backlog = Box::new(stream.to_backlog(gained));
            self.mesh(
                from,
                Message::Backlog {
                    stream: id,
                    backlog,
                },
            );
        }
    }

    /// Lets go of packets that nobody watches any more.
    pub(super) fn sweep_packets(&mut self) {
        let now = self.now;
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            if stream.packets.rest(now)
                && !(stream.is_packets && matches!(stream.role, Role::Home(_)))
            {
                stream.packets.release();
            }
            if stream.is_packets && matches!(stream.role, Role::Home(_)) {
                stream.review_building();
            }
            self.review_wishes(id);
            self.note_ready(id);
        }
    }

    pub(super) fn is_watching(&self, conn: ConnId) -> Option<usize> {
        match self.business.get(&conn) {
            Some(Business::Packets(key)) => Some(*key),
            Some(
                Business::Publisher(_)
                | Business::Viewer(_)
                | Business::Waiting(_)
                | Business::Segmented(..),
            )
            | None => None,
        }
    }
}
