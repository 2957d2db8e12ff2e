//! What all dialects say.

use std::fmt;

use bytes::Bytes;
use serde_json::{Map, Value};

/// The name of a space. Nothing is fetched from it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum World {
    /// As the first clients of generation 2 have it.
    Number(u64),
    /// As all others have it; compared byte for byte.
    Uri(String),
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Uri(uri) => uri.fmt(f),
        }
    }
}

/// Which of a player's transports, named by what the player does with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// It sends.
    Producer,
    /// It receives.
    Consumer,
}

/// A side's part in the DTLS handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DtlsRole {
    /// Either.
    Auto,
    /// It begins.
    Client,
    /// It waits.
    Server,
}

/// A certificate's hash as clients write it: `sha-256` and `AB:CD:...`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DtlsFingerprint {
    /// The hash function.
    pub algorithm: String,
    /// The hash.
    pub value: String,
}

/// What a player can play.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// It plays Opus.
    pub opus: bool,
    /// The header extensions that it understands for sound.
    pub extensions: Vec<String>,
}

/// The sound that a player sends. Generations 3 and 4 lose all but the payload type on their way.
#[derive(Clone, PartialEq, Debug)]
pub struct AudioParameters {
    /// 0 to 127.
    pub payload_type: u8,
    /// Of the codec, such as `useinbandfec`; at most [`AudioParameters::PARAMETERS_MAX`].
    pub parameters: Map<String, Value>,
    /// Header extensions and their numbers.
    pub extensions: Vec<(String, u8)>,
    /// The stream's source.
    pub ssrc: Option<u32>,
    /// The stream's tag.
    pub mid: Option<String>,
    /// The sender's name in RTCP; may be empty.
    pub cname: String,
}

impl AudioParameters {
    /// Parameters of a codec that are kept; Opus has ten.
    pub const PARAMETERS_MAX: usize = 16;
    /// Characters of a tag, or of a name in RTCP (RFC 3550 section 6.5 allows 255 of the latter).
    pub const NAME_BYTES_MAX: usize = 255;
}

/// A negotiated data channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamParameters {
    /// Its number, 0 to 65534.
    pub stream: u16,
    /// Messages arrive in order.
    pub ordered: bool,
    /// A message is given up after so many milliseconds.
    pub lifetime_ms: Option<u16>,
    /// A message is given up after so many retransmissions.
    pub retransmits: Option<u16>,
}

/// What a player says.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// It wants to know what can be sent and played.
    Capabilities,
    /// It enters a space.
    Join {
        /// Which.
        world: World,
        /// Its right to.
        token: Option<String>,
        /// What it was given when it entered before; empty if it wants to be given it.
        resume: Option<String>,
    },
    /// It leaves a space.
    Leave(World),
    /// It says something to all.
    Chat(String),
    /// What others see of it. The names are those of generation 4; `None` takes one away.
    SetData(Vec<(String, Option<String>)>),
    /// Something that only clients understand, to all.
    Event(Bytes),
    /// A whole frame of generation 3b for the clients of all others.
    Relay(String),
    /// It wants a transport.
    CreateTransport(Side),
    /// Its side of a transport.
    ConnectTransport {
        /// Which.
        side: Side,
        /// Its part in the handshake.
        role: DtlsRole,
        /// Of its certificate, at least one.
        fingerprints: Vec<DtlsFingerprint>,
    },
    /// What it can play.
    SetCapabilities(Capabilities),
    /// It sends sound.
    Produce(Box<AudioParameters>),
    /// It sends messages.
    ProduceData(StreamParameters),
    /// It wants to hear nothing, or all again.
    PauseAudio(bool),
}

/// Where a player can reach the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The same for all of one kind.
    pub foundation: String,
    /// Below 2^31, as generation 4 has it.
    pub priority: u32,
    /// An address.
    pub ip: std::net::IpAddr,
    /// A port.
    pub port: u16,
    /// By a connection that the player opens, else by datagrams.
    pub is_tcp: bool,
}

/// The server's side of a transport.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransportParameters {
    /// Without blanks.
    pub id: String,
    /// ICE's name.
    pub ufrag: String,
    /// ICE's password.
    pub password: String,
    /// The preferred one first.
    pub candidates: Vec<Candidate>,
    /// Clients look at the last one only.
    pub fingerprints: Vec<DtlsFingerprint>,
    /// The largest message of a data channel, in bytes.
    pub message_bytes_max: u32,
}

/// The sound that a player is sent.
#[derive(Clone, PartialEq, Debug)]
pub struct ConsumerParameters {
    /// The payload type.
    pub payload_type: u8,
    /// Of the codec, as the sender has them.
    pub parameters: Map<String, Value>,
    /// Header extensions and their numbers.
    pub extensions: Vec<(&'static str, u8)>,
    /// The stream's source.
    pub ssrc: u32,
    /// The stream's tag.
    pub mid: String,
    /// The sender's name in RTCP.
    pub cname: String,
}

/// What a player is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Response {
    /// What can be sent and played.
    Capabilities,
    /// A transport waits for it.
    TransportCreated {
        /// Which.
        side: Side,
        /// All there is to know.
        parameters: Box<TransportParameters>,
    },
    /// Its side of a transport was taken, or not. Only generation 4 waits for it.
    TransportConnected {
        /// Which.
        side: Side,
        /// Taken.
        success: bool,
    },
    /// The sound that it sends has this id.
    ProducerId(String),
    /// The messages that it sends have this id.
    DataProducerId(String),
    /// It can hear somebody.
    CreateConsumer {
        /// Whom.
        player: u8,
        /// The consumer's id.
        consumer: String,
        /// The producer's id.
        producer: String,
        /// All there is to know.
        parameters: Box<ConsumerParameters>,
    },
    /// It gets somebody's messages.
    CreateDataConsumer {
        /// Whose.
        player: u8,
        /// The consumer's id.
        consumer: String,
        /// The producer's id.
        producer: String,
        /// The channel.
        stream: StreamParameters,
    },
    /// It is in a space.
    Joined {
        /// Which.
        world: World,
        /// Its number there.
        player: u8,
        /// What it can come back with, if it asked for it.
        resume: Option<String>,
    },
    /// Somebody is in the space.
    PlayerJoined {
        /// Its number.
        player: u8,
        /// What is to be seen of it, by the names of generation 4.
        data: Vec<(String, String)>,
        /// It was there before.
        before_you: bool,
    },
    /// Somebody has left.
    PlayerLeft(u8),
    /// Somebody says something.
    Chat {
        /// Who.
        player: u8,
        /// What.
        text: String,
        /// Milliseconds since 1970.
        unix_ms: u64,
    },
    /// Somebody is to be seen otherwise.
    Data {
        /// Who.
        player: u8,
        /// The name that generation 4 has for it.
        key: String,
        /// `None` takes it away.
        value: Option<String>,
    },
    /// Something that only clients understand.
    Event {
        /// From whom.
        player: u8,
        /// What.
        data: Bytes,
    },
    /// Another client's frame, for generation 3b.
    Relayed(String),
    /// It cannot enter a space. Only the extended generation 4 has a message for this and what
    /// follows.
    JoinRefused {
        /// Which.
        world: World,
        /// Why, in a word.
        reason: &'static str,
    },
    /// What a consumer played has ended.
    ConsumerClosed(String),
    /// The messages that a consumer got have ended.
    DataConsumerClosed(String),
    /// It has been put out of a space.
    Kicked {
        /// Which.
        world: World,
        /// Why.
        reason: String,
    },
    /// The server is about to end.
    Draining,
    /// Somebody begins or ends to talk.
    Talking {
        /// Who.
        player: u8,
        /// Begins.
        talking: bool,
    },
}
