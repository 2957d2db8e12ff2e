//! What the control shard and media shards tell each other about spaces.
//!
//! The control shard makes all ids and spreads transports over media shards. An order goes to the
//! transport's maker, which passes it on to the shard that runs the transport, or keeps it until
//! one does. Orders about one transport are done in the order they were sent in. An order about
//! something that is not there does nothing.

use std::time::Duration;

use bytes::Bytes;

use super::relay::Counters as RelayCounters;
use crate::base::ids::ShardId;
use crate::media::Packet;
use crate::proto::ice::{Candidate, Credentials, Stray};
use crate::proto::rtp::ExtensionMap;
use crate::proto::sctp::{ChannelId, Reliability};
use crate::proto::webrtc::{Fingerprint, Gone, SessionKey};

/// One of a player's transports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransportId {
    /// The media shard that makes it. Any shard may run it.
    pub maker: ShardId,
    /// Never used twice.
    pub number: u64,
}

/// What a player sends: sound, or the messages of one data channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProducerId {
    /// What it comes by.
    pub transport: TransportId,
    /// Among those of the transport; never used twice.
    pub number: u32,
}

/// A producer as one receiver gets it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConsumerId {
    /// What it goes by.
    pub transport: TransportId,
    /// Among those of the transport; never used twice.
    pub number: u32,
}

/// What a transport is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The player sends.
    FromPlayer,
    /// The player receives.
    ToPlayer,
}

/// The player's part in the DTLS handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The player begins, or leaves it to us.
    Client,
    /// The player waits: we begin.
    Server,
}

/// How a player's client writes the numbers of a location.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ByteOrder {
    /// Generations 1 to 3.
    Little,
    /// Generation 4.
    Big,
}

/// From the control shard.
#[derive(Clone, PartialEq, Debug)]
pub enum Order {
    /// Make a transport. Answered by [`Report::Opened`] or [`Report::Refused`].
    Open {
        /// The transport.
        transport: TransportId,
        /// What it is for.
        direction: Direction,
    },
    /// The player's side of the handshake, which waits for it. Counts once.
    Connect {
        /// The transport.
        transport: TransportId,
        /// The player's part.
        role: Role,
        /// Of the player's certificate.
        fingerprints: Vec<Fingerprint>,
    },
    /// The player sends sound in Opus: the stream with this source or tag, and where neither is
    /// said, the first unknown one with this payload type.
    ProduceAudio {
        /// The producer.
        producer: ProducerId,
        /// 0 to 127.
        payload_type: u8,
        /// The stream's source.
        ssrc: Option<u32>,
        /// The stream's tag.
        mid: Option<String>,
        /// The player's numbers of header extensions.
        extensions: Box<ExtensionMap>,
    },
    /// The player sends messages on a negotiated data channel.
    ProduceData {
        /// The producer.
        producer: ProducerId,
        /// The channel.
        stream: ChannelId,
        /// Messages arrive in order.
        ordered: bool,
        /// What happens to lost ones.
        reliability: Reliability,
        /// That of its locations.
        byte_order: ByteOrder,
    },
    /// The player hears a producer.
    ConsumeAudio {
        /// The consumer.
        consumer: ConsumerId,
        /// What is heard.
        producer: ProducerId,
        /// The tag that packets carry; empty for none.
        mid: String,
        /// The source that packets have.
        ssrc: u32,
        /// The payload type that packets have.
        payload_type: u8,
        /// The numbers of header extensions that packets have.
        extensions: Box<ExtensionMap>,
        /// Nothing is sent until [`Order::Pause`] says otherwise.
        paused: bool,
    },
    /// The player gets a producer's messages on a negotiated data channel.
    ConsumeData {
        /// The consumer.
        consumer: ConsumerId,
        /// What it gets.
        producer: ProducerId,
        /// The channel.
        stream: ChannelId,
        /// Messages arrive in order.
        ordered: bool,
        /// What happens to lost ones.
        reliability: Reliability,
        /// The sender's number in the space, which overwrites the one that its locations say.
        player: u8,
        /// What the receiver takes locations in.
        byte_order: ByteOrder,
    },
    /// Stop sending to a consumer, or go on.
    Pause {
        /// The consumer.
        consumer: ConsumerId,
        /// Stop.
        paused: bool,
    },
    /// Of the locations that a transport's consumers get, those of the nearest producers are sent
    /// at the rate they come, and those of others at a lower one. Off without this order.
    Interest {
        /// The receiver's transport.
        transport: TransportId,
        /// The producer of the receiver's own location.
        own: ProducerId,
        /// How many are near.
        nearest: u16,
        /// The least time between two locations of one that is not.
        others_every: Duration,
    },
    /// End a consumer. A data channel is closed, and its number is free for another one.
    CloseConsumer {
        /// The consumer.
        consumer: ConsumerId,
    },
    /// End a producer. Its consumers end with it.
    CloseProducer {
        /// The producer.
        producer: ProducerId,
    },
    /// End a transport with all that it has. Nothing is reported.
    Close {
        /// The transport.
        transport: TransportId,
    },
}

impl Order {
    /// The transport that it is about: its maker gets it.
    pub fn transport(&self) -> TransportId {
        match self {
            Self::Open { transport, .. }
            | Self::Connect { transport, .. }
            | Self::Interest { transport, .. }
            | Self::Close { transport } => *transport,
            Self::ProduceAudio { producer, .. }
            | Self::ProduceData { producer, .. }
            | Self::CloseProducer { producer } => producer.transport,
            Self::ConsumeAudio { consumer, .. }
            | Self::ConsumeData { consumer, .. }
            | Self::Pause { consumer, .. }
            | Self::CloseConsumer { consumer } => consumer.transport,
        }
    }
}

/// What a player has to know of a transport.
#[derive(Clone, PartialEq, Debug)]
pub struct Parameters {
    /// User name fragment and password.
    pub local: Credentials,
    /// By UDP, then by TCP.
    pub candidates: Vec<Candidate>,
    /// Of our certificate.
    pub fingerprints: Vec<Fingerprint>,
}

/// Why there is no transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// WebRTC is off, or the server is about to end.
    Unavailable,
    /// There are too many already.
    TooMany,
}

/// To the control shard.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// A transport waits for its player.
    Opened {
        /// The transport.
        transport: TransportId,
        /// What the player is told.
        parameters: Box<Parameters>,
    },
    /// There will be no transport.
    Refused {
        /// The transport.
        transport: TransportId,
        /// Why.
        refusal: Refusal,
    },
    /// The handshake is complete.
    Connected {
        /// The transport.
        transport: TransportId,
    },
    /// A transport has ended, other than by an order, with all that it had.
    Gone {
        /// The transport.
        transport: TransportId,
        /// Why.
        reason: Gone,
    },
    /// Somebody begins or ends to talk.
    Level {
        /// Of the sound.
        producer: ProducerId,
        /// Somebody talks.
        talking: bool,
    },
    /// What a shard has counted, for the metrics.
    Counted(Box<Counted>),
}

/// What a media shard counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// The shard.
    pub shard: ShardId,
    /// Of its relay.
    pub relay: RelayCounters,
    /// Messages that wait for receivers.
    pub queued: usize,
    /// How long they wait for each other.
    pub gather: Duration,
    /// Consumers of data, producers that they have, and producers of data of this shard.
    pub census: (usize, usize, usize),
    /// Transports that were made there, and those that run there.
    pub transports: (usize, usize),
}

/// A message on the mesh.
#[derive(Debug)]
pub enum Message {
    /// From the control shard, or passed on by a maker.
    Order(Order),
    /// To the control shard.
    Report(Report),
    /// From a transport's maker: run it.
    Granted(Box<Granted>),
    /// To a transport's maker: it has ended where it ran.
    Ended(TransportId),
    /// To the shard that runs a producer, by way of its maker: a shard has consumers of it.
    Subscribe {
        /// The producer.
        producer: ProducerId,
        /// The shard.
        shard: ShardId,
        /// False when it has none any more.
        is_wanted: bool,
    },
    /// From the shard that runs a producer: it has ended.
    ProducerEnded(ProducerId),
    /// From the shard that runs a producer: a message of its data channel.
    Data {
        /// The producer.
        producer: ProducerId,
        /// That of its locations.
        byte_order: ByteOrder,
        /// Text, not bytes.
        is_text: bool,
        /// The message.
        bytes: Bytes,
    },
    /// From the shard that runs a producer: its sound.
    Sound {
        /// The producer.
        producer: ProducerId,
        /// A packet.
        packet: Packet,
    },
}

/// A transport on its way to the shard that runs it.
#[derive(Debug)]
pub struct Granted {
    /// The transport.
    pub transport: TransportId,
    /// Its name in checks.
    pub key: SessionKey,
    /// Our credentials.
    pub local: Credentials,
    /// What was ordered in the meantime.
    pub held: Vec<Message>,
    /// The check that made the receiver ask.
    pub stray: Stray,
}

impl Message {
    /// Its sender, or the receiver, makes up for a loss.
    pub fn may_be_lost(&self) -> bool {
        match self {
            Self::Data { .. } | Self::Sound { .. } => true,
            Self::Order(_)
            | Self::Report(_)
            | Self::Granted(_)
            | Self::Ended(_)
            | Self::Subscribe { .. }
            | Self::ProducerEnded(_) => false,
        }
    }
}
