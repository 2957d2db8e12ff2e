//! Streams that are at home on this shard: their publishers and mirrors, wherever these are.

use std::time::Duration;

use super::Exchange;
use crate::base::ids::{ShardId, StreamId};
use crate::media::{Frame, Track};
use crate::streams::message::Message;
use crate::streams::name::StreamName;
use crate::streams::packets::Wishes;
use crate::streams::stream::{Ingested, Role, Stream};

/// Streams whose release is remembered. What comes late was under way for milliseconds.
const RELEASED_MAX: usize = 64;

impl Exchange {
    /// Makes a stream at home here, unless it is there or has been released: a publisher on
    /// another shard may say that it begins before the registrar's answer to the first publisher
    /// has arrived, or long after.
    pub(super) fn make_home(&mut self, name: &StreamName, id: StreamId) {
        if self.streams.contains_key(&id) || self.released.contains(&id) {
            return;
        }
        let (window, segment) = name
            .settings(&self.config)
            .map_or((Duration::ZERO, Duration::ZERO), |settings| {
                (settings.window, settings.segment)
            });
        let bytes_max = self.stream_bytes_max();
        self.by_name.insert(name.clone(), id);
        self.streams.insert(
            id,
            Stream::at_home(name.clone(), id, self.now, (window, segment), bytes_max),
        );
    }

    pub(super) fn begin(
        &mut self,
        stream: StreamId,
        turn: u64,
        publisher: (ShardId, u64),
        (protocol, is_packets): (&'static str, bool),
    ) {
        let id = stream;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let was_packets = stream.is_packets;
        let next = stream.next_number();
        let begins = stream.begin(self.now, turn, publisher, (protocol, is_packets));
        if begins && (was_packets || is_packets) {
            self.tell_mirrors(id, |stream| Message::MirrorBegin {
                stream,
                is_packets,
                next,
            });
        }
    }

    pub(super) fn end(&mut self, stream: StreamId, shard: ShardId, publisher: u64) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.end(self.now, shard, publisher);
        }
    }

    pub(super) fn home_track(&mut self, id: StreamId, publisher: (ShardId, u64), track: Track) {
        let tracks_max = self.config.limits.tracks_max as usize;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(track) = stream.ingest_track(publisher, track, tracks_max) else {
            return;
        };
        self.track_changed(id, &track);
    }

    /// Tells viewers and mirrors of a track that is new or has changed.
    pub(super) fn track_changed(&mut self, id: StreamId, track: &Track) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.refresh_outputs(&mut self.pool, track);
        stream.note_configuration(track);
        self.segment_track(id, track);
        self.tell_tracks(id);
        self.tell_mirrors(id, |stream| Message::MirrorTrack {
            stream,
            track: Box::new(track.clone()),
        });
    }

    /// Sends a message to all shards that mirror a stream.
    pub(super) fn tell_mirrors(&mut self, id: StreamId, message: impl Fn(StreamId) -> Message) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let Role::Home(home) = &stream.role else {
            return;
        };
        let mirrors: Vec<ShardId> = home.mirrors.keys().copied().collect();
        for mirror in mirrors {
            self.mesh(mirror, message(id));
        }
    }

    pub(super) fn home_frame(
        &mut self,
        id: StreamId,
        publisher: (ShardId, u64),
        number: u64,
        frame: Frame,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match stream.ingest(self.now, self.unix_ms, publisher, number, frame) {
            Ingested::Frame {
                frame,
                is_entry,
                number,
                is_retimed,
                lost,
                learned,
            } => {
                self.counters.mirror_lost += lost;
                if let Some(track) = learned {
                    self.track_changed(id, &track);
                }
                self.counters.retimed += u64::from(is_retimed);
                self.spread(id, number, &frame, is_entry);
            }
            Ingested::Broken { lost } => self.counters.mirror_lost += lost + 1,
            Ingested::Unknown => self.counters.bad_media += 1,
        }
    }

    /// A frame that is the stream's: for mirrors, renditions and viewers.
    pub(super) fn spread(&mut self, id: StreamId, number: u64, frame: &Frame, is_entry: bool) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if let Role::Home(home) = &stream.role {
            for (mirror, wishes) in &home.mirrors {
                if stream.is_packets && !wishes.frames {
                    continue;
                }
                self.outputs.push_back(Self::media(
                    *mirror,
                    Message::MirrorFrame {
                        stream: id,
                        number,
                        frame: frame.clone(),
                        entry: is_entry,
                    },
                ));
            }
        }
        // First, since whoever is seated by this frame may ask for a rendition of all that is kept,
        // which has it.
        self.segment_frame(id, frame, is_entry);
        self.show(id, frame);
    }

    pub(super) fn subscribe(&mut self, from: ShardId, id: StreamId, wishes: Wishes) {
        let Some(stream) = self.streams.get_mut(&id) else {
            self.mesh(from, Message::MirrorEnd { stream: id });
            return;
        };
        if let Some(home) = stream.home() {
            home.mirrors.insert(from, wishes);
        }
        let backlog = Box::new(stream.to_backlog(wishes));
        self.mesh(
            from,
            Message::Backlog {
                stream: id,
                backlog,
            },
        );
    }

    pub(super) fn released(&mut self, id: StreamId, is_gone: bool) {
        if is_gone {
            if let Some(home) = self.streams.get_mut(&id).and_then(Stream::home) {
                for mirror in std::mem::take(&mut home.mirrors).into_keys() {
                    self.mesh(mirror, Message::MirrorEnd { stream: id });
                }
            }
            self.remove_stream(id);
            if self.released.len() == RELEASED_MAX {
                self.released.pop_front();
            }
            self.released.push_back(id);
        } else if let Some(home) = self.streams.get_mut(&id).and_then(Stream::home) {
            home.is_releasing = false;
        }
    }
}
