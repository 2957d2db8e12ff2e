//! Packets of sound, from the player who makes it to those who hear it.

use crate::base::ids::{ConnId, ShardId, TrackId};
use crate::drive::{Driver, Peers, ServerSession};
use crate::media::{Codec, Kind, Packet};
use crate::proto::rtp::ExtensionMap;
use crate::proto::webrtc::{Format, Outgoing, Stream};
use crate::spaces::door::Door;
use crate::spaces::message::{ConsumerId, Message, ProducerId, Report, TransportId};
use crate::spaces::relay::Want;
use crate::spaces::talk::Talk;

/// Sound that players of this shard hear.
#[derive(Debug)]
pub(in crate::spaces) struct Voice {
    /// Its number on this shard.
    pub(in crate::spaces) track: TrackId,
    pub(in crate::spaces) listeners: Vec<(ConsumerId, ConnId)>,
}

/// Sound that a player of this shard makes.
#[derive(Debug, Default)]
pub(in crate::spaces) struct Speaker {
    pub(in crate::spaces) talk: Talk,
    pub(in crate::spaces) shards: Vec<ShardId>,
}

impl Door {
    /// The number of a producer's sound on this shard, which wants it from here on.
    pub(in crate::spaces) fn voice(&mut self, producer: ProducerId) -> Option<TrackId> {
        if let Some(voice) = self.voices.get(&producer) {
            return Some(voice.track);
        }
        if self.voices.len() >= usize::from(u16::MAX) {
            return None;
        }
        while self
            .voices
            .values()
            .any(|voice| voice.track.0 == self.next_track)
        {
            self.next_track = self.next_track.wrapping_add(1);
        }
        let track = TrackId(self.next_track);
        self.next_track = self.next_track.wrapping_add(1);
        let listeners = Vec::new();
        self.voices.insert(producer, Voice { track, listeners });
        self.want(Want {
            producer,
            is_wanted: true,
        });
        Some(track)
    }

    pub(in crate::spaces) fn forget_unheard(&mut self, producer: ProducerId) {
        let voice = self.voices.get(&producer);
        if voice.is_some_and(|voice| voice.listeners.is_empty()) {
            self.voices.remove(&producer);
            self.want(Want {
                producer,
                is_wanted: false,
            });
        }
    }

    pub(in crate::spaces) fn end_sound(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        consumer: ConsumerId,
    ) {
        let Some(running) = self.running.get_mut(&consumer.transport) else {
            return;
        };
        let Some((producer, ssrc)) = running.sounds.remove(&consumer) else {
            return;
        };
        peers.with(driver, running.conn, |peer| peer.remove_outgoing(ssrc));
        if let Some(voice) = self.voices.get_mut(&producer) {
            voice.listeners.retain(|(known, _)| *known != consumer);
        }
        self.forget_unheard(producer);
    }

    /// A packet of a player's sound.
    pub(in crate::spaces) fn heard(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        transport: TransportId,
        packet: Packet,
    ) {
        let running = self.running.get(&transport);
        let producer = running.and_then(|running| running.tracks.get(&packet.track).copied());
        let Some(producer) = producer else {
            return;
        };
        self.relay.counters.audio_received += 1;
        if let Some(speaker) = self.speakers.get_mut(&producer) {
            let level = packet.extras.audio_level;
            if let Some(talking) = speaker.talk.note(driver.now(), level) {
                let report = Report::Level { producer, talking };
                self.out.push((self.control, Message::Report(report)));
            }
            for shard in &speaker.shards {
                let packet = packet.clone();
                self.out.push((*shard, Message::Sound { producer, packet }));
            }
        }
        self.forward(driver, peers, producer, packet);
    }

    pub(in crate::spaces) fn forward(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        producer: ProducerId,
        mut packet: Packet,
    ) {
        let Some(voice) = self.voices.get(&producer) else {
            return;
        };
        packet.track = voice.track;
        self.relay.counters.audio_delivered += voice.listeners.len() as u64;
        for (_, conn) in &voice.listeners {
            peers.forward(driver, *conn, std::slice::from_ref(&packet), false);
        }
    }
}

pub(in crate::spaces) fn opus(payload_type: u8) -> Format {
    Format::plain(payload_type, Codec::Opus, 48_000, 2)
}

pub(in crate::spaces) fn outgoing(
    track: TrackId,
    mid: String,
    ssrc: u32,
    payload_type: u8,
    extensions: ExtensionMap,
) -> Outgoing {
    Outgoing {
        mid,
        track,
        kind: Kind::Audio,
        format: opus(payload_type),
        stream: Stream {
            ssrc,
            rtx_ssrc: None,
        },
        extensions,
    }
}
