//! Transports, and who is sent what of whom.

use super::host::Host;
use super::message::{
    ByteOrder, ConsumerId, Direction, Order, Parameters, ProducerId, Report, Role, TransportId,
};
use super::options::CONSUMERS_MAX;
use super::player::{Consumer, PlayerKey, Producer, Transport};
use crate::proto::ice::Transport as Protocol;
use crate::proto::rtp::{Extension, ExtensionMap};
use crate::proto::sctp::{ChannelId, Reliability};
use crate::proto::unavi::{
    AudioParameters, Candidate, Capabilities, ConsumerParameters, Dialect, DtlsFingerprint,
    DtlsRole, Response, Side, StreamParameters, TransportParameters, World,
};
use crate::proto::webrtc::Fingerprint;

/// The largest message of a data channel: mediasoup's default.
const MESSAGE_BYTES_MAX: u32 = 262_144;

impl Host {
    pub(super) fn create_transport(&mut self, key: PlayerKey, side: Side) {
        self.close_transport(key, side);
        let name = self.name();
        let Some(player) = self.players.get_mut(&key) else {
            return;
        };
        self.next_transport += 1;
        let id = TransportId {
            maker: player.shard,
            number: self.next_transport,
        };
        *player.transport_mut(side) = Some(Transport {
            id,
            name,
            is_open: false,
            is_connected: false,
            next_mid: 0,
        });
        self.by_transport.insert(id, (key, side));
        self.order(Order::Open {
            transport: id,
            direction: match side {
                Side::Producer => Direction::FromPlayer,
                Side::Consumer => Direction::ToPlayer,
            },
        });
    }

    /// Ends a transport that there may be, and all that goes by it.
    fn close_transport(&mut self, key: PlayerKey, side: Side) {
        let Some(player) = self.players.get_mut(&key) else {
            return;
        };
        let Some(transport) = player.transport_mut(side).take() else {
            return;
        };
        self.by_transport.remove(&transport.id);
        self.transport_ended(key, side);
        self.order(Order::Close {
            transport: transport.id,
        });
    }

    /// A transport has ended: nothing goes by it any more.
    fn transport_ended(&mut self, key: PlayerKey, side: Side) {
        let Some(player) = self.players.get_mut(&key) else {
            return;
        };
        match side {
            Side::Producer => {
                // Nothing more is heard of its levels.
                if std::mem::take(&mut player.is_talking) {
                    self.tell_talking(key, false);
                }
                let Some(player) = self.players.get_mut(&key) else {
                    return;
                };
                let audio = player.audio.take().map(|producer| producer.id);
                let messages = player.messages.take().map(|producer| producer.id);
                for producer in audio.into_iter().chain(messages) {
                    self.producer_ended(producer);
                }
            }
            Side::Consumer => player.consumers.clear(),
        }
    }

    pub(super) fn end_media(&mut self, key: PlayerKey) {
        self.close_transport(key, Side::Producer);
        self.close_transport(key, Side::Consumer);
    }

    /// Ends the consumers of a producer that is no more.
    fn producer_ended(&mut self, producer: ProducerId) {
        let consumers: Vec<(PlayerKey, ConsumerId)> = self
            .players
            .iter()
            .flat_map(|(key, player)| player.consumers.values().map(move |known| (*key, known)))
            .filter(|(_, consumer)| consumer.producer == producer)
            .map(|(key, consumer)| (key, consumer.id))
            .collect();
        for (key, consumer) in consumers {
            self.close_consumer(key, consumer);
        }
    }

    fn close_consumer(&mut self, key: PlayerKey, id: ConsumerId) {
        let Some(consumer) = self
            .players
            .get_mut(&key)
            .and_then(|player| player.consumers.remove(&id))
        else {
            return;
        };
        self.order(Order::CloseConsumer { consumer: id });
        let closed = match consumer.stream {
            Some(_) => Response::DataConsumerClosed(consumer.name),
            None => Response::ConsumerClosed(consumer.name),
        };
        self.say(key, closed);
    }

    pub(super) fn connect_transport(
        &mut self,
        key: PlayerKey,
        side: Side,
        role: DtlsRole,
        fingerprints: &[DtlsFingerprint],
    ) {
        let fingerprints: Vec<Fingerprint> = fingerprints.iter().filter_map(fingerprint).collect();
        let transport = self
            .players
            .get_mut(&key)
            .and_then(|player| player.transport_mut(side).as_mut())
            .filter(|transport| !transport.is_connected && !fingerprints.is_empty());
        let success = transport.is_some();
        match transport {
            None => self.counters.out_of_place += 1,
            Some(transport) => {
                transport.is_connected = true;
                let transport = transport.id;
                self.order(Order::Connect {
                    transport,
                    role: match role {
                        DtlsRole::Auto | DtlsRole::Client => Role::Client,
                        DtlsRole::Server => Role::Server,
                    },
                    fingerprints,
                });
            }
        }
        self.say(key, Response::TransportConnected { side, success });
    }

    pub(super) fn produce(&mut self, key: PlayerKey, parameters: Box<AudioParameters>) {
        let name = self.name();
        let Some(player) = self.players.get_mut(&key) else {
            return;
        };
        let Some(transport) = player.sending.as_ref().map(|transport| transport.id) else {
            self.counters.out_of_place += 1;
            return;
        };
        let before = player.audio.take().map(|producer| producer.id);
        let producer = ProducerId {
            transport,
            number: player.number(),
        };
        let order = Order::ProduceAudio {
            producer,
            payload_type: parameters.payload_type,
            ssrc: parameters.ssrc,
            mid: parameters.mid.clone(),
            extensions: Box::new(extension_map(&parameters.extensions)),
        };
        player.audio = Some(Producer {
            id: producer,
            name: name.clone(),
            parameters,
        });
        self.replace(before);
        self.order(order);
        self.say(key, Response::ProducerId(name));
        self.offer(key);
    }

    pub(super) fn produce_data(&mut self, key: PlayerKey, stream: StreamParameters) {
        let name = self.name();
        let Some(player) = self.players.get_mut(&key) else {
            return;
        };
        let Some(transport) = player.sending.as_ref().map(|transport| transport.id) else {
            self.counters.out_of_place += 1;
            return;
        };
        let is_little = player.dialect.is_some_and(Dialect::is_little_endian);
        let before = player.messages.take().map(|producer| producer.id);
        let producer = ProducerId {
            transport,
            number: player.number(),
        };
        player.messages = Some(Producer {
            id: producer,
            name: name.clone(),
            parameters: stream,
        });
        self.replace(before);
        self.order(Order::ProduceData {
            producer,
            stream: ChannelId(stream.stream),
            ordered: stream.ordered,
            reliability: reliability(&stream),
            byte_order: byte_order(is_little),
        });
        self.say(key, Response::DataProducerId(name));
        self.set_interest(key);
        self.offer(key);
    }

    /// A producer has another one in its place.
    fn replace(&mut self, before: Option<ProducerId>) {
        if let Some(producer) = before {
            self.producer_ended(producer);
            self.order(Order::CloseProducer { producer });
        }
    }

    /// Gives what a player sends to those it is with.
    fn offer(&mut self, owner: PlayerKey) {
        for (other, world) in self.company(owner) {
            self.consume(other, owner, &world);
        }
    }

    /// Gives a player what those send that it is with.
    pub(super) fn consume_all(&mut self, key: PlayerKey) {
        for (other, world) in self.company(key) {
            self.consume(key, other, &world);
        }
    }

    /// Whom a player is with, and where.
    fn company(&self, key: PlayerKey) -> Vec<(PlayerKey, World)> {
        let Some(player) = self.players.get(&key) else {
            return Vec::new();
        };
        let worlds = player.worlds.keys();
        worlds
            .flat_map(|world| {
                let members = self.spaces.get(world).into_iter();
                let members = members.flat_map(|space| space.members.values());
                members.map(move |member| (*member, world.clone()))
            })
            .filter(|(member, _)| *member != key)
            .collect()
    }

    /// Gives a player what another one sends, unless it has it.
    pub(super) fn consume(&mut self, key: PlayerKey, owner: PlayerKey, world: &World) {
        if key == owner {
            return;
        }
        let (Some(player), Some(sender)) = (self.players.get(&key), self.players.get(&owner))
        else {
            return;
        };
        let Some(transport) = player.receiving.as_ref().filter(|known| known.is_open) else {
            return;
        };
        let transport = transport.id;
        let has = |producer: ProducerId| {
            let mut all = player.consumers.values();
            all.any(|consumer| consumer.producer == producer)
        };
        let plays = player.capabilities.as_ref().is_some_and(|can| can.opus);
        let audio = sender
            .audio
            .as_ref()
            .filter(|producer| plays && !has(producer.id))
            .map(|producer| producer.id);
        let messages = sender
            .messages
            .as_ref()
            .filter(|producer| !has(producer.id))
            .map(|producer| producer.id);
        if player.consumers.len() + 2 > CONSUMERS_MAX {
            self.counters.over_limit += u64::from(audio.is_some() || messages.is_some());
            return;
        }
        let Some(number) = sender.worlds.get(world).copied() else {
            return;
        };
        let link = Link {
            transport,
            owner,
            number,
        };
        if let Some(producer) = audio {
            self.consume_audio(key, &link, producer, world);
        }
        if let Some(producer) = messages {
            self.consume_data(key, &link, producer, world);
        }
    }

    fn consume_audio(&mut self, key: PlayerKey, link: &Link, producer: ProducerId, world: &World) {
        let name = self.name();
        let ssrc = (self.prng.next_u64() as u32).max(1);
        let Some(sound) = self
            .players
            .get(&link.owner)
            .and_then(|owner| owner.audio.as_ref())
        else {
            return;
        };
        let of = sound.name.clone();
        let (codec, cname) = (
            sound.parameters.parameters.clone(),
            sound.parameters.cname.clone(),
        );
        let Some(player) = self.players.get_mut(&key) else {
            return;
        };
        let extensions = player
            .capabilities
            .as_ref()
            .map(Capabilities::sent_extensions)
            .unwrap_or_default();
        let id = ConsumerId {
            transport: link.transport,
            number: player.number(),
        };
        let Some(transport) = player.receiving.as_mut() else {
            return;
        };
        let mid = transport.next_mid.to_string();
        transport.next_mid += 1;
        let consumer = Consumer {
            id,
            name: name.clone(),
            producer,
            owner: link.owner,
            world: world.clone(),
            stream: None,
            is_paused: true,
        };
        player.consumers.insert(id, consumer);
        let numbers: Vec<(String, u8)> = extensions
            .iter()
            .map(|(uri, id)| ((*uri).to_owned(), *id))
            .collect();
        self.order(Order::ConsumeAudio {
            consumer: id,
            producer,
            mid: mid.clone(),
            ssrc,
            payload_type: Capabilities::PAYLOAD_TYPE,
            extensions: Box::new(extension_map(&numbers)),
            paused: true,
        });
        self.say(
            key,
            Response::CreateConsumer {
                player: link.number,
                consumer: name,
                producer: of,
                parameters: Box::new(ConsumerParameters {
                    payload_type: Capabilities::PAYLOAD_TYPE,
                    parameters: codec,
                    extensions,
                    ssrc,
                    mid,
                    cname,
                }),
            },
        );
    }

    fn consume_data(&mut self, key: PlayerKey, link: &Link, producer: ProducerId, world: &World) {
        let name = self.name();
        let Some(sent) = self
            .players
            .get(&link.owner)
            .and_then(|owner| owner.messages.as_ref())
        else {
            return;
        };
        let of = sent.name.clone();
        let sent = sent.parameters;
        let Some(player) = self.players.get_mut(&key) else {
            return;
        };
        let id = ConsumerId {
            transport: link.transport,
            number: player.number(),
        };
        let is_little = player.dialect.is_some_and(Dialect::is_little_endian);
        // Clients of generations 3 and 4 open the channel like this whatever they are told.
        let is_fixed = player.dialect != Some(Dialect::Two);
        let stream = StreamParameters {
            stream: player.free_stream(),
            ordered: sent.ordered && !is_fixed,
            lifetime_ms: sent.lifetime_ms.filter(|_| !is_fixed),
            retransmits: match is_fixed {
                true => Some(0),
                false => sent.retransmits,
            },
        };
        let consumer = Consumer {
            id,
            name: name.clone(),
            producer,
            owner: link.owner,
            world: world.clone(),
            stream: Some(stream.stream),
            is_paused: false,
        };
        player.consumers.insert(id, consumer);
        self.order(Order::ConsumeData {
            consumer: id,
            producer,
            stream: ChannelId(stream.stream),
            ordered: stream.ordered,
            reliability: reliability(&stream),
            player: link.number,
            byte_order: byte_order(is_little),
        });
        self.say(
            key,
            Response::CreateDataConsumer {
                player: link.number,
                consumer: name,
                producer: of,
                stream,
            },
        );
    }

    /// A player gets nothing more of another one by a space that one of them has left.
    pub(super) fn part(&mut self, key: PlayerKey, owner: PlayerKey, world: &World) {
        let Some(player) = self.players.get(&key) else {
            return;
        };
        let known: Vec<ConsumerId> = player
            .consumers
            .values()
            .filter(|consumer| consumer.owner == owner && consumer.world == *world)
            .map(|consumer| consumer.id)
            .collect();
        if known.is_empty() {
            return;
        }
        for consumer in known {
            self.close_consumer(key, consumer);
        }
        // They may know each other from elsewhere, where the other one has another number.
        let (Some(player), Some(other)) = (self.players.get(&key), self.players.get(&owner)) else {
            return;
        };
        let mut worlds = player.worlds.keys();
        let elsewhere = worlds.find(|world| other.worlds.contains_key(*world));
        if let Some(world) = elsewhere.cloned() {
            self.consume(key, owner, &world);
        }
    }

    /// A player wants to hear nobody, or all that it can.
    pub(super) fn pause(&mut self, key: PlayerKey, paused: bool) {
        let Some(player) = self.players.get_mut(&key) else {
            return;
        };
        let mut changed = Vec::new();
        for consumer in player.consumers.values_mut() {
            if consumer.stream.is_none() && consumer.is_paused != paused {
                consumer.is_paused = paused;
                changed.push((consumer.id, consumer.owner, consumer.world.clone()));
            }
        }
        for (consumer, owner, world) in changed {
            if !self.is_muted(owner, &world) {
                self.order(Order::Pause { consumer, paused });
            }
        }
    }

    fn is_muted(&self, owner: PlayerKey, world: &World) -> bool {
        let number = self
            .players
            .get(&owner)
            .and_then(|player| player.worlds.get(world));
        let space = self.spaces.get(world);
        space
            .zip(number)
            .is_some_and(|(space, number)| space.muted.contains(number))
    }

    /// Whether a player is heard in a space has changed.
    pub(super) fn apply_mute(&mut self, owner: PlayerKey, world: &World) {
        let is_muted = self.is_muted(owner, world);
        let consumers: Vec<ConsumerId> = self
            .players
            .values()
            .flat_map(|player| player.consumers.values())
            .filter(|consumer| consumer.owner == owner && consumer.world == *world)
            .filter(|consumer| consumer.stream.is_none() && !consumer.is_paused)
            .map(|consumer| consumer.id)
            .collect();
        for consumer in consumers {
            self.order(Order::Pause {
                consumer,
                paused: is_muted,
            });
        }
    }

    fn set_interest(&mut self, key: PlayerKey) {
        let Some(interest) = self.options.interest else {
            return;
        };
        let Some(player) = self.players.get(&key) else {
            return;
        };
        if let (Some(receiving), Some(messages)) = (&player.receiving, &player.messages) {
            let order = Order::Interest {
                transport: receiving.id,
                own: messages.id,
                nearest: interest.nearest,
                others_every: interest.others_every,
            };
            self.order(order);
        }
    }

    /// A media shard has something to tell.
    pub fn report(&mut self, report: Report) {
        match report {
            Report::Opened {
                transport,
                parameters,
            } => self.opened(transport, &parameters),
            Report::Refused { transport, refusal } => {
                self.counters.transports_refused += 1;
                tracing::warn!(?refusal, "a player's transport could not be made");
                self.drop_transport(transport);
            }
            Report::Connected { transport: _ } | Report::Counted(_) => {}
            Report::Gone { transport, reason } => {
                self.counters.transports_gone += 1;
                tracing::debug!(?transport, ?reason, "a player's transport is gone");
                self.drop_transport(transport);
            }
            Report::Level { producer, talking } => self.level(producer, talking),
        }
    }

    fn opened(&mut self, id: TransportId, parameters: &Parameters) {
        let Some((key, side)) = self.by_transport.get(&id).copied() else {
            return;
        };
        let Some(transport) = self
            .players
            .get_mut(&key)
            .and_then(|player| player.transport_mut(side).as_mut())
        else {
            return;
        };
        transport.is_open = true;
        let name = transport.name.clone();
        let created = Response::TransportCreated {
            side,
            parameters: Box::new(transport_parameters(name, parameters)),
        };
        self.say(key, created);
        if side == Side::Consumer {
            self.set_interest(key);
            self.consume_all(key);
        }
    }

    fn drop_transport(&mut self, id: TransportId) {
        if let Some((key, side)) = self.by_transport.remove(&id) {
            if let Some(player) = self.players.get_mut(&key) {
                *player.transport_mut(side) = None;
            }
            self.transport_ended(key, side);
        }
    }

    fn level(&mut self, producer: ProducerId, talking: bool) {
        let owner = self.by_transport.get(&producer.transport);
        if let Some((owner, _)) = owner.copied() {
            self.tell_talking(owner, talking);
        }
    }

    fn tell_talking(&mut self, owner: PlayerKey, talking: bool) {
        let Some(player) = self.players.get_mut(&owner) else {
            return;
        };
        player.is_talking = talking;
        let worlds = player.worlds.iter();
        let worlds: Vec<(World, u8)> = worlds
            .map(|(world, number)| (world.clone(), *number))
            .collect();
        for (world, player) in worlds {
            self.tell_space(&world, None, Response::Talking { player, talking });
        }
    }
}

/// Between a player and one that it gets something of.
struct Link {
    /// The receiver's.
    transport: TransportId,
    owner: PlayerKey,
    /// The owner's, in the space.
    number: u8,
}

fn fingerprint(known: &DtlsFingerprint) -> Option<Fingerprint> {
    let bytes: Option<Vec<u8>> = known
        .value
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    Some(Fingerprint {
        algorithm: known.algorithm.to_ascii_lowercase(),
        bytes: bytes?,
    })
}

fn hexadecimal(fingerprint: &Fingerprint) -> DtlsFingerprint {
    let bytes: Vec<String> = fingerprint
        .bytes
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    DtlsFingerprint {
        algorithm: fingerprint.algorithm.clone(),
        value: bytes.join(":"),
    }
}

fn transport_parameters(id: String, parameters: &Parameters) -> TransportParameters {
    let candidates = parameters.candidates.iter();
    TransportParameters {
        id,
        ufrag: parameters.local.ufrag.clone(),
        password: parameters.local.password.clone(),
        candidates: candidates
            .map(|candidate| Candidate {
                foundation: candidate.foundation.clone(),
                priority: candidate.priority,
                ip: candidate.address.ip(),
                port: candidate.address.port(),
                is_tcp: match candidate.transport {
                    Protocol::Udp => false,
                    Protocol::TcpPassive | Protocol::TcpActive => true,
                },
            })
            .collect(),
        fingerprints: parameters.fingerprints.iter().map(hexadecimal).collect(),
        message_bytes_max: MESSAGE_BYTES_MAX,
    }
}

fn extension_map(extensions: &[(String, u8)]) -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for (uri, id) in extensions {
        let known = Extension::ALL.into_iter().find(|known| known.uri() == uri);
        if let Some(extension) = known {
            map.set(extension, *id);
        }
    }
    map
}

fn reliability(stream: &StreamParameters) -> Reliability {
    match (stream.retransmits, stream.lifetime_ms) {
        (Some(retransmits), _) => Reliability::Retransmits(u32::from(retransmits)),
        (None, Some(lifetime_ms)) => {
            Reliability::Lifetime(std::time::Duration::from_millis(u64::from(lifetime_ms)))
        }
        (None, None) => Reliability::Reliable,
    }
}

fn byte_order(is_little: bool) -> ByteOrder {
    match is_little {
        true => ByteOrder::Little,
        false => ByteOrder::Big,
    }
}
