//! Connects players' transports to a media shard's peers and the other shards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::making::door::{Made, State, seed};
use super::message::{
    ConsumerId, Counted, Granted, Message, Order, ProducerId, Report, Role, TransportId,
};
use super::relay::{Relay, Want};
use super::sound::door::{Speaker, Voice, opus, outgoing};
use crate::base::ids::{ConnId, ShardId, TrackId};
use crate::drive::{Driver, Peers, ServerSession};
use crate::media::Kind;
use crate::proto::ice::Candidate;
use crate::proto::sctp::{self, ChannelId, Reliability};
use crate::proto::webrtc::{
    Event, Fingerprint, Incoming, SessionKey, Setup, Shared, Stream, Tenant,
};
use crate::shard::mesh::{Class, Mesh};

/// Orders that wait until a transport runs: a consumer of each player in four spaces, twice.
const HELD_MAX: usize = 2048;

/// Shards that may want what a player does not send yet.
const EARLY_MAX: usize = 64;

/// How long messages may wait before they are looked at while those to receivers gather anyway: a
/// round that wakes for one packet costs 10 µs.
const PATIENCE: Duration = Duration::from_millis(2);

/// What players' transports need to know of this server.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Of all transports.
    pub shared: Arc<Shared>,
    /// Of our certificate.
    pub fingerprint: Fingerprint,
    /// Where this shard is reached.
    pub candidates: Vec<Candidate>,
    /// Transports that this shard makes.
    pub transports_max: usize,
}

/// A transport that runs here.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) conn: ConnId,
    /// What the player sends, by the channel or the track that it comes by.
    pub(super) channels: BTreeMap<ChannelId, ProducerId>,
    pub(super) tracks: BTreeMap<TrackId, ProducerId>,
    /// What the player hears, with the source of each.
    pub(super) sounds: BTreeMap<ConsumerId, (ProducerId, u32)>,
    /// Shards that want what the player does not send yet: messages of two shards may overtake
    /// each other.
    pub(super) early: Vec<(ProducerId, ShardId)>,
    /// Channels that could not be opened yet.
    pub(super) unopened: Vec<(ChannelId, bool, Reliability)>,
}

/// Spaces on one media shard.
pub struct Door {
    pub(super) me: ShardId,
    pub(super) control: ShardId,
    pub(super) identity: Option<Identity>,
    pub(super) made: BTreeMap<TransportId, Made>,
    pub(super) by_key: BTreeMap<SessionKey, TransportId>,
    pub(super) running: BTreeMap<TransportId, Running>,
    pub(super) by_conn: HashMap<ConnId, TransportId, foldhash::fast::RandomState>,
    pub(super) relay: Relay,
    pub(super) voices: HashMap<ProducerId, Voice, foldhash::fast::RandomState>,
    pub(super) speakers: BTreeMap<ProducerId, Speaker>,
    pub(super) next_track: u16,
    /// What the control shard knows.
    pub(super) counted: Option<Counted>,
    pub(super) out: Vec<(ShardId, Message)>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl Door {
    /// The door of shard `me`. It makes transports if it has an identity.
    pub fn new(now: Instant, me: ShardId, control: ShardId, identity: Option<Identity>) -> Self {
        Self {
            me,
            control,
            identity,
            made: BTreeMap::new(),
            by_key: BTreeMap::new(),
            running: BTreeMap::new(),
            by_conn: HashMap::default(),
            relay: Relay::new(now),
            voices: HashMap::default(),
            speakers: BTreeMap::new(),
            next_track: 0,
            counted: None,
            out: Vec::new(),
        }
    }

    /// What is relayed.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Transports that were made here, and those that run here.
    pub fn transports(&self) -> (usize, usize) {
        (self.made.len(), self.running.len())
    }

    /// How long what arrives may wait for company.
    pub fn patience(&self) -> Duration {
        match self.relay.gather().is_zero() {
            true => Duration::ZERO,
            false => PATIENCE,
        }
    }

    /// The share of a CPU that the shard takes.
    pub fn note_load(&mut self, load: f64) {
        self.relay.note_load(load);
    }

    /// When [`Door::flush`] has to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.relay.deadline()
    }

    /// A message of another shard.
    pub fn message(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        message: Message,
    ) {
        match message {
            Message::Order(order) => self.order(driver, peers, order),
            Message::Subscribe {
                producer,
                shard,
                is_wanted,
            } => self.subscribe(producer, shard, is_wanted),
            Message::Granted(granted) => {
                let Granted {
                    transport,
                    key,
                    local,
                    held,
                    stray,
                } = *granted;
                if self.start(driver, peers, transport, key, local) {
                    for message in held {
                        self.message(driver, peers, message);
                    }
                    peers.stray(driver, self.me, &stray);
                } else {
                    self.send(transport.maker, Message::Ended(transport));
                }
            }
            Message::Ended(transport) => self.forget_made(transport),
            Message::ProducerEnded(producer) => self.producer_ended(driver, peers, producer),
            Message::Data {
                producer,
                byte_order,
                is_text,
                bytes,
            } => {
                let now = driver.now();
                self.relay
                    .deliver(now, producer, byte_order, is_text, &bytes);
            }
            Message::Sound { producer, packet } => {
                self.forward(driver, peers, producer, packet);
            }
            Message::Report(report) => tracing::error!(?report, "a report for the control shard"),
        }
    }

    pub(super) fn send(&mut self, to: ShardId, message: Message) {
        self.out.push((to, message));
    }

    pub(super) fn report(&mut self, report: Report) {
        self.send(self.control, Message::Report(report));
    }

    fn order(&mut self, driver: &mut Driver<ServerSession>, peers: &mut Peers, order: Order) {
        let transport = order.transport();
        if let Order::Open { .. } = order {
            self.open(transport);
        } else if self.running.contains_key(&transport) {
            self.obey(driver, peers, transport, order);
        } else if let Order::Close { .. } = order
            && let Some(Made {
                state: State::Waiting(_),
                ..
            }) = self.made.get(&transport)
        {
            self.forget_made(transport);
        } else {
            self.pass(transport, Message::Order(order));
        }
    }

    /// Passes a message about a transport that was made here on to who runs it, or keeps it.
    fn pass(&mut self, transport: TransportId, message: Message) {
        let Some(made) = self.made.get_mut(&transport) else {
            return;
        };
        match &mut made.state {
            State::Waiting(held) if held.len() < HELD_MAX => held.push(message),
            State::Waiting(_) => self.relay.counters.orders_dropped += 1,
            State::RunBy(shard) if *shard != self.me => {
                let shard = *shard;
                self.send(shard, message);
            }
            State::RunBy(_) => {}
        }
    }

    fn subscribe(&mut self, producer: ProducerId, shard: ShardId, is_wanted: bool) {
        if self.running.contains_key(&producer.transport) {
            if shard == self.me {
                return; // What is here needs no mesh.
            }
            if !self.speakers.contains_key(&producer) && !self.relay.produces(producer) {
                self.subscribe_early(producer, shard, is_wanted);
                return;
            }
            if let Some(speaker) = self.speakers.get_mut(&producer) {
                speaker.shards.retain(|known| *known != shard);
                if is_wanted {
                    speaker.shards.push(shard);
                }
            }
            self.relay.subscribe(producer, shard, is_wanted);
        } else {
            let message = Message::Subscribe {
                producer,
                shard,
                is_wanted,
            };
            self.pass(producer.transport, message);
        }
    }

    fn subscribe_early(&mut self, producer: ProducerId, shard: ShardId, is_wanted: bool) {
        if let Some(running) = self.running.get_mut(&producer.transport) {
            let this = (producer, shard);
            running.early.retain(|known| *known != this);
            if is_wanted && running.early.len() < EARLY_MAX {
                running.early.push(this);
            }
        }
    }

    /// A producer has begun, which shards may have wanted before.
    pub(super) fn begin_producer(&mut self, producer: ProducerId) {
        let Some(running) = self.running.get_mut(&producer.transport) else {
            return;
        };
        let early = std::mem::take(&mut running.early);
        let (now, later) = early.into_iter().partition(|(of, _)| *of == producer);
        running.early = later;
        let now: Vec<(ProducerId, ShardId)> = now;
        for (producer, shard) in now {
            self.subscribe(producer, shard, true);
        }
    }

    /// Tells the shard that runs a producer, by way of its maker.
    pub(super) fn want(&mut self, want: Want) {
        let Want {
            producer,
            is_wanted,
        } = want;
        let (maker, shard) = (producer.transport.maker, self.me);
        if maker == self.me {
            self.subscribe(producer, shard, is_wanted);
        } else if !self.running.contains_key(&producer.transport) {
            let message = Message::Subscribe {
                producer,
                shard,
                is_wanted,
            };
            self.send(maker, message);
        }
    }

    /// Does what is ordered of a transport that runs here.
    fn obey(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        transport: TransportId,
        order: Order,
    ) {
        let now = driver.now();
        let Some(running) = self.running.get_mut(&transport) else {
            return;
        };
        let conn = running.conn;
        match order {
            Order::Open { .. } => {}
            Order::Connect {
                role, fingerprints, ..
            } => {
                let setup = match role {
                    Role::Client => Setup::Passive,
                    Role::Server => Setup::Active,
                };
                peers.with(driver, conn, |peer| peer.connect(now, setup, fingerprints));
            }
            Order::ProduceAudio {
                producer,
                payload_type,
                ssrc,
                mid,
                extensions,
            } => {
                let rtx_ssrc = None;
                let incoming = Incoming {
                    mid: mid.unwrap_or_default(),
                    kind: Kind::Audio,
                    formats: vec![opus(payload_type)],
                    streams: ssrc
                        .map(|ssrc| Stream { ssrc, rtx_ssrc })
                        .into_iter()
                        .collect(),
                    rids: Vec::new(),
                    extensions: *extensions,
                };
                // One voice a transport, as the original has it.
                if !running.tracks.is_empty() {
                    return;
                }
                let track = peers.with(driver, conn, |peer| peer.add_incoming(incoming));
                running.tracks.extend(track.map(|track| (track, producer)));
                self.speakers.entry(producer).or_default();
                self.begin_producer(producer);
            }
            Order::ProduceData {
                producer,
                stream,
                ordered,
                reliability,
                byte_order,
            } => {
                if running.channels.contains_key(&stream) {
                    return;
                }
                running.channels.insert(stream, producer);
                running.unopened.push((stream, ordered, reliability));
                self.relay.produce(now, producer, byte_order);
                self.begin_producer(producer);
                self.open_channels(driver, peers, transport);
            }
            Order::ConsumeAudio {
                consumer,
                producer,
                mid,
                ssrc,
                payload_type,
                extensions,
                paused,
            } => {
                let Some(track) = self.voice(producer) else {
                    return;
                };
                let outgoing = outgoing(track, mid, ssrc, payload_type, *extensions);
                let taken = peers.with(driver, conn, |peer| {
                    peer.add_outgoing(outgoing, seed(), paused)
                });
                if taken == Some(true)
                    && let Some(running) = self.running.get_mut(&transport)
                {
                    running.sounds.insert(consumer, (producer, ssrc));
                    if let Some(voice) = self.voices.get_mut(&producer) {
                        voice.listeners.push((consumer, conn));
                    }
                }
                self.forget_unheard(producer);
            }
            Order::ConsumeData {
                consumer,
                producer,
                stream,
                ordered,
                reliability,
                player,
                byte_order,
            } => {
                let facts = (stream, player, byte_order);
                if let Some(want) = self.relay.consume(consumer, producer, facts) {
                    running.unopened.push((stream, ordered, reliability));
                    if let Some(want) = want {
                        self.want(want);
                    }
                    self.open_channels(driver, peers, transport);
                }
            }
            Order::Pause { consumer, paused } => {
                if let Some((_, ssrc)) = running.sounds.get(&consumer).copied() {
                    peers.with(driver, conn, |peer| peer.pause_outgoing(ssrc, paused));
                }
                self.relay.pause(consumer, paused);
            }
            Order::Interest {
                own,
                nearest,
                others_every,
                ..
            } => {
                let wants = self
                    .relay
                    .set_interest(transport, own, nearest, others_every);
                for want in wants {
                    self.want(want);
                }
            }
            Order::CloseConsumer { consumer } => {
                self.end_sound(driver, peers, consumer);
                if let Some((channel, want)) = self.relay.end_consumer(consumer) {
                    self.close_channel(driver, peers, transport, channel);
                    if let Some(want) = want {
                        self.want(want);
                    }
                }
            }
            Order::CloseProducer { producer } => {
                let channel = running.channels.iter().find(|(_, of)| **of == producer);
                let channel = channel.map(|(channel, _)| *channel);
                let track = running.tracks.iter().find(|(_, of)| **of == producer);
                if let Some(track) = track.map(|(track, _)| *track) {
                    running.tracks.remove(&track);
                    peers.with(driver, conn, |peer| peer.remove_incoming(track));
                }
                if let Some(channel) = channel {
                    running.channels.remove(&channel);
                    self.close_channel(driver, peers, transport, channel);
                }
                self.end_producer(driver, peers, producer);
            }
            Order::Close { .. } => {
                peers.with(driver, conn, |peer| peer.close(now));
                self.end(driver, peers, transport);
            }
        }
    }

    /// Opens channels that wait, as far as there is an association and their numbers are free.
    fn open_channels(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        transport: TransportId,
    ) {
        let now = driver.now();
        let Some(running) = self.running.get_mut(&transport) else {
            return;
        };
        let unopened = &mut running.unopened;
        if unopened.is_empty() {
            return;
        }
        peers.with(driver, running.conn, |peer| {
            if let Some(association) = peer.data() {
                unopened.retain(|(channel, ordered, reliability)| {
                    let (channel, reliability) = (*channel, *reliability);
                    association
                        .open_negotiated(now, channel, "", "", reliability, *ordered)
                        .is_err()
                });
            }
            peer.flush_data(now);
        });
    }

    pub(super) fn close_channel(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        transport: TransportId,
        channel: ChannelId,
    ) {
        let now = driver.now();
        if let Some(running) = self.running.get_mut(&transport) {
            running.unopened.retain(|(known, ..)| *known != channel);
            peers.with(driver, running.conn, |peer| {
                if let Some(association) = peer.data() {
                    association.close(now, channel);
                }
                peer.flush_data(now);
            });
        }
    }

    /// A producer of this shard has ended.
    pub(super) fn end_producer(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        producer: ProducerId,
    ) {
        let mut shards = self.relay.end_local(producer);
        if let Some(speaker) = self.speakers.remove(&producer) {
            shards.extend(speaker.shards);
        }
        for shard in shards {
            self.send(shard, Message::ProducerEnded(producer));
        }
        self.producer_ended(driver, peers, producer);
    }

    /// A producer of any shard has ended: so have its consumers here.
    fn producer_ended(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        producer: ProducerId,
    ) {
        for (consumer, channel) in self.relay.end(producer) {
            self.close_channel(driver, peers, consumer.transport, channel);
        }
        let listeners = self.voices.get(&producer);
        let listeners = listeners.map(|voice| voice.listeners.clone());
        for (consumer, _) in listeners.unwrap_or_default() {
            self.end_sound(driver, peers, consumer);
        }
    }

    /// A transport that runs here has ended.
    fn end(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        transport: TransportId,
    ) {
        let sounds = self.running.get(&transport).map(|running| {
            let sounds = running.sounds.keys().copied();
            sounds.collect::<Vec<_>>()
        });
        for consumer in sounds.unwrap_or_default() {
            self.end_sound(driver, peers, consumer);
        }
        for want in self.relay.end_receiver(transport) {
            self.want(want);
        }
        let Some(running) = self.running.remove(&transport) else {
            return;
        };
        let producers = running.channels.values().chain(running.tracks.values());
        for producer in producers.copied().collect::<Vec<_>>() {
            self.end_producer(driver, peers, producer);
        }
        self.by_conn.remove(&running.conn);
        peers.remove(driver, running.conn);
        if transport.maker == self.me {
            self.forget_made(transport);
        } else {
            self.send(transport.maker, Message::Ended(transport));
        }
    }

    /// Takes what has come, and sends what is due.
    pub fn flush<M: From<Message>>(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        mesh: &mut Mesh<M>,
    ) {
        while let Some(claim) = peers.poll_claim(Tenant::Spaces) {
            self.claimed(driver, peers, claim);
        }
        while let Some((conn, event)) = peers.poll_event(Tenant::Spaces) {
            if let Some(transport) = self.by_conn.get(&conn).copied() {
                self.handle_event(driver, peers, transport, event);
            }
        }
        let now = driver.now();
        while let Some(transport) = self.relay.take_due(now) {
            self.send_queued(driver, peers, transport);
        }
        peers.send_framed(driver);
        for (to, message) in self.out.drain(..) {
            let class = match message.may_be_lost() {
                true => Class::Media,
                false => Class::Control,
            };
            mesh.send(to, class, message.into());
        }
    }

    fn handle_event(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        transport: TransportId,
        event: Event,
    ) {
        match event {
            Event::Connected => {
                self.report(Report::Connected { transport });
                self.open_channels(driver, peers, transport);
            }
            Event::Packet(packet) => self.heard(driver, peers, transport, packet),
            Event::Data(sctp::Event::Message {
                channel,
                is_text,
                bytes,
            }) => self.received(driver.now(), transport, channel, is_text, &bytes),
            Event::Data(
                sctp::Event::Closed(_) | sctp::Event::Opened { .. } | sctp::Event::Writable(_),
            ) => self.open_channels(driver, peers, transport),
            Event::Gone(reason) => {
                tracing::debug!(?transport, ?reason, "a player's transport is gone");
                self.end(driver, peers, transport);
                self.report(Report::Gone { transport, reason });
            }
            Event::Data(sctp::Event::Gone)
            | Event::Validated(_)
            | Event::Invalidated(_)
            | Event::Track(_)
            | Event::Lost(_)
            | Event::KeyframeWanted(_)
            | Event::Switched { .. } => {}
        }
    }

    /// A message of a player's data channel.
    fn received(
        &mut self,
        now: Instant,
        transport: TransportId,
        channel: ChannelId,
        is_text: bool,
        bytes: &Bytes,
    ) {
        let running = self.running.get(&transport);
        let producer = running.and_then(|running| running.channels.get(&channel).copied());
        let Some(producer) = producer else {
            return;
        };
        let Some((byte_order, shards)) = self.relay.received(now, producer, bytes.len()) else {
            return;
        };
        for shard in shards {
            let message = Message::Data {
                producer,
                byte_order,
                is_text,
                bytes: bytes.clone(),
            };
            self.out.push((*shard, message));
        }
        self.relay
            .deliver(now, producer, byte_order, is_text, bytes);
    }

    /// Hands a receiver's messages to its channels, to share packets.
    fn send_queued(
        &mut self,
        driver: &mut Driver<ServerSession>,
        peers: &mut Peers,
        transport: TransportId,
    ) {
        // A number that was taken when its channel was ordered may be free by now.
        self.open_channels(driver, peers, transport);
        let now = driver.now();
        let Some(running) = self.running.get(&transport) else {
            return;
        };
        let relay = &mut self.relay;
        peers.with(driver, running.conn, |peer| {
            relay.send(now, transport, peer.data());
            peer.flush_data(now);
        });
    }

    /// Once in a while: those who send nothing any more do not talk.
    pub fn sweep(&mut self, now: Instant) {
        self.relay.note_time(now);
        let counted = Counted {
            shard: self.me,
            relay: self.relay.counters,
            queued: self.relay.queued(),
            gather: self.relay.gather(),
            census: self.relay.census(),
            transports: self.transports(),
        };
        if self.identity.is_some() && self.counted != Some(counted) {
            self.counted = Some(counted);
            self.report(Report::Counted(Box::new(counted)));
        }
        let mut silent = Vec::new();
        for (producer, speaker) in &mut self.speakers {
            if speaker.talk.is_stale(now) && speaker.talk.note(now, None) == Some(false) {
                silent.push(*producer);
            }
        }
        for producer in silent {
            let talking = false;
            self.report(Report::Level { producer, talking });
        }
    }

    /// Ends all transports.
    pub fn drain(&mut self, driver: &mut Driver<ServerSession>, peers: &mut Peers) {
        self.identity = None;
        let now = driver.now();
        for transport in self.running.keys().copied().collect::<Vec<_>>() {
            if let Some(running) = self.running.get(&transport) {
                peers.with(driver, running.conn, |peer| peer.close(now));
            }
            self.end(driver, peers, transport);
        }
        self.made.clear();
        self.by_key.clear();
    }
}
