//! What offer and answer agree on: all that a peer needs to run.

use crate::base::ids::TrackId;
use crate::media::{Codec, Kind};
use crate::proto::ice::Credentials;
use crate::proto::rtp::ExtensionMap;

/// Both sides' part of a session, as agreed. It can go to another shard before it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// Our ICE credentials; the answer has them.
    pub local: Credentials,
    /// The peer's; its offer has them.
    pub remote: Credentials,
    /// Of the peer's certificate, at least one.
    pub fingerprints: Vec<Fingerprint>,
    /// Who begins the DTLS handshake.
    pub setup: Setup,
    /// Media sections that we receive on.
    pub incoming: Vec<Incoming>,
    /// What we send.
    pub outgoing: Vec<Outgoing>,
    /// Set if data channels were agreed on.
    pub data: Option<DataSupport>,
    /// RTCP packets may go without a leading report (RFC 5506).
    pub rtcp_reduced_size: bool,
    /// Header extensions of one and of two bytes may be mixed (RFC 8285 section 6).
    pub mixed_forms: bool,
}

/// Our role in the DTLS handshake (RFC 5763 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    /// The peer begins.
    Passive,
    /// We begin, because the peer insists on waiting.
    Active,
}

/// A certificate's hash (RFC 8122 section 5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// `sha-256`, `sha-384` or `sha-512`, in lower case.
    pub algorithm: String,
    /// The hash.
    pub bytes: Vec<u8>,
}

/// A media section that we receive on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Incoming {
    /// Its identification tag (RFC 9143); empty if the offer has none.
    pub mid: String,
    /// Video or audio.
    pub kind: Kind,
    /// Payload types that the peer may send, the preferred one first.
    pub formats: Vec<Format>,
    /// Streams that the offer names by SSRC; empty if they are found by `mid` or `rid`. Several
    /// are simulcast layers, in the order of their `SIM` group if there is one.
    pub streams: Vec<Stream>,
    /// Simulcast layers in the offer's order (RFC 8853); empty without simulcast.
    pub rids: Vec<String>,
    /// Numbers of the header extensions.
    pub extensions: ExtensionMap,
}

/// One RTP stream and its repair stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream {
    /// Of the media.
    pub ssrc: u32,
    /// Of the retransmissions, if they have one of their own (RFC 4588).
    pub rtx_ssrc: Option<u32>,
}

/// A payload type and what it means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    /// 0 to 127.
    pub payload_type: u8,
    /// The codec.
    pub codec: Codec,
    /// Ticks of the RTP timestamp in a second.
    pub clock_rate: u32,
    /// Channels of audio; 0 for video.
    pub channels: u8,
    /// The `fmtp` parameters as agreed, such as `profile-level-id=42e01f;packetization-mode=1`.
    pub parameters: String,
    /// The payload type of retransmissions of this one (RFC 4588).
    pub rtx: Option<u8>,
    /// The payload type that carries this format with older sound in front (RFC 2198).
    pub red: Option<Red>,
    /// The peer takes and gives `nack`.
    pub nack: bool,
    /// The peer takes and gives `nack pli`.
    pub pli: bool,
    /// The peer takes and gives `ccm fir`.
    pub fir: bool,
    /// The peer takes and gives `transport-cc`.
    pub transport_cc: bool,
    /// The peer takes and gives `goog-remb`.
    pub remb: bool,
}

impl Format {
    /// Without parameters, repair and feedback.
    pub fn plain(payload_type: u8, codec: Codec, clock_rate: u32, channels: u8) -> Self {
        Self {
            payload_type,
            codec,
            clock_rate,
            channels,
            parameters: String::new(),
            rtx: None,
            red: None,
            nack: false,
            pli: false,
            fir: false,
            transport_cc: false,
            remb: false,
        }
    }

    /// Whether packets of a payload type hold this format, plain or with older sound in front.
    pub fn carries(&self, payload_type: u8) -> bool {
        self.payload_type == payload_type
            || self.red.is_some_and(|red| red.payload_type == payload_type)
    }
}

/// The payload type of redundant sound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Red {
    /// 0 to 127.
    pub payload_type: u8,
    /// It is listed before the format itself. A browser sends it only then.
    pub is_preferred: bool,
}

/// A track that we send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Its media section's identification tag.
    pub mid: String,
    /// The track of the stream.
    pub track: TrackId,
    /// Video or audio.
    pub kind: Kind,
    /// What it is sent as.
    pub format: Format,
    /// Ours; the answer names them as a pair (`ssrc-group:FID`), without which Firefox takes
    /// retransmissions for another stream and stops playing.
    pub stream: Stream,
    /// Numbers of the header extensions.
    pub extensions: ExtensionMap,
}

/// Data channels (RFC 8841).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataSupport {
    /// The peer's SCTP port, 5000 nearly always.
    pub port: u16,
    /// The largest message that the peer takes, in bytes; 0 means any size.
    pub message_bytes_max: u64,
}
