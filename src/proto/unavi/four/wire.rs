//! The schema, with the names of its JSON form.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::Data;

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field:meta])+ $member:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, PartialEq, prost::Message, Deserialize)]
            #[serde(rename_all = "camelCase", default, deny_unknown_fields)]
            pub(in crate::proto::unavi) struct $name {
                $($(#[$field])+ pub(in crate::proto::unavi) $member: $type,)*
            }
        )*
    };
}

/// A client's frame.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::proto::unavi) struct Request {
    #[prost(
        oneof = "request::Message",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"
    )]
    pub(in crate::proto::unavi) message: Option<request::Message>,
}

pub(in crate::proto::unavi) mod request {
    use super::*;

    #[derive(Clone, PartialEq, prost::Oneof, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(in crate::proto::unavi) enum Message {
        #[prost(message, tag = "1")]
        PauseAudio(PauseAudio),
        #[prost(message, tag = "2")]
        ConnectTransport(ConnectTransport),
        #[prost(message, tag = "3")]
        CreateTransport(CreateTransport),
        #[prost(message, tag = "4")]
        GetRouterRtpCapabilities(GetRouterRtpCapabilities),
        #[prost(message, tag = "5")]
        SetRtpCapabilities(SetRtpCapabilities),
        #[prost(message, tag = "6")]
        Produce(Produce),
        #[prost(message, tag = "7")]
        ProduceData(ProduceData),
        #[prost(message, tag = "8")]
        Join(Join),
        #[prost(message, tag = "9")]
        Leave(Leave),
        #[prost(message, tag = "10")]
        SendChatMessage(SendChatMessage),
        #[prost(message, tag = "11")]
        SetPlayerData(SetPlayerData),
        #[prost(message, tag = "12")]
        SendEvent(SendEvent),
    }
}

/// A server's frame.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::proto::unavi) struct Response {
    #[prost(
        oneof = "response::Message",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 20, 21, 22, 23, 24, 25"
    )]
    pub(in crate::proto::unavi) message: Option<response::Message>,
}

pub(in crate::proto::unavi) mod response {
    use super::*;

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(in crate::proto::unavi) enum Message {
        #[prost(message, tag = "1")]
        CreateConsumer(CreateConsumer),
        #[prost(message, tag = "2")]
        CreateDataConsumer(CreateDataConsumer),
        #[prost(message, tag = "3")]
        ProducerId(ProducerId),
        #[prost(message, tag = "4")]
        DataProducerId(DataProducerId),
        #[prost(message, tag = "5")]
        RouterRtpCapabilities(RouterRtpCapabilities),
        #[prost(message, tag = "6")]
        TransportCreated(TransportCreated),
        #[prost(message, tag = "7")]
        JoinSuccess(JoinSuccess),
        #[prost(message, tag = "8")]
        ChatMessage(ChatMessage),
        #[prost(message, tag = "9")]
        PlayerJoined(PlayerJoined),
        #[prost(message, tag = "10")]
        PlayerLeft(PlayerLeft),
        #[prost(message, tag = "11")]
        PlayerData(PlayerData),
        #[prost(message, tag = "12")]
        Event(Event),
        #[prost(message, tag = "13")]
        TransportConnected(TransportConnected),
        #[prost(message, tag = "20")]
        JoinRefused(JoinRefused),
        #[prost(message, tag = "21")]
        ConsumerClosed(ConsumerClosed),
        #[prost(message, tag = "22")]
        Kicked(Kicked),
        #[prost(message, tag = "23")]
        Draining(Draining),
        #[prost(message, tag = "24")]
        Talking(Talking),
        #[prost(message, tag = "25")]
        DataConsumerClosed(DataConsumerClosed),
    }
}

messages! {
    PauseAudio {
        #[prost(bool, tag = "1")]
        paused: bool,
    }
    ConnectTransport {
        #[prost(int32, tag = "1")]
        #[serde(deserialize_with = "side")]
        r#type: i32,
        #[prost(message, optional, tag = "2")]
        dtls_parameters: Option<DtlsParameters>,
    }
    CreateTransport {
        #[prost(int32, tag = "1")]
        #[serde(deserialize_with = "side")]
        r#type: i32,
    }
    GetRouterRtpCapabilities {}
    SetRtpCapabilities {
        #[prost(message, optional, tag = "1")]
        rtp_capabilities: Option<RtpCapabilities>,
    }
    Produce {
        #[prost(message, optional, tag = "1")]
        rtp_parameters: Option<RtpParameters>,
    }
    ProduceData {
        #[prost(message, optional, tag = "1")]
        sctp_stream_parameters: Option<SctpStreamParameters>,
    }
    /// `token` and `resume` are *extended*.
    Join {
        #[prost(string, tag = "1")]
        world: String,
        #[prost(string, optional, tag = "2")]
        token: Option<String>,
        #[prost(string, optional, tag = "3")]
        resume: Option<String>,
    }
    Leave {
        #[prost(string, tag = "1")]
        world: String,
    }
    SendChatMessage {
        #[prost(string, tag = "1")]
        message: String,
    }
    SetPlayerData {
        #[prost(btree_map = "string, string", tag = "1")]
        data: Data,
    }
    SendEvent {
        #[prost(bytes = "vec", tag = "1")]
        #[serde(deserialize_with = "base64")]
        data: Vec<u8>,
    }
    DtlsParameters {
        #[prost(int32, tag = "1")]
        #[serde(deserialize_with = "role")]
        role: i32,
        #[prost(message, repeated, tag = "2")]
        fingerprints: Vec<Fingerprint>,
    }
    Fingerprint {
        #[prost(string, tag = "1")]
        algorithm: String,
        #[prost(string, tag = "2")]
        value: String,
    }
    RtcpFeedback {
        #[prost(string, tag = "1")]
        r#type: String,
        #[prost(string, optional, tag = "2")]
        parameter: Option<String>,
    }
    RtpCapabilities {
        #[prost(message, repeated, tag = "1")]
        codecs: Vec<CapabilitiesCodec>,
        #[prost(message, repeated, tag = "2")]
        header_extensions: Vec<CapabilitiesExtension>,
    }
    /// `preferred_payload_type` and `parameters` are *extended*.
    CapabilitiesCodec {
        #[prost(int32, tag = "1")]
        #[serde(deserialize_with = "kind")]
        kind: i32,
        #[prost(string, tag = "2")]
        mime_type: String,
        #[prost(int32, tag = "3")]
        clock_rate: i32,
        #[prost(int32, optional, tag = "4")]
        channels: Option<i32>,
        #[prost(message, repeated, tag = "5")]
        rtcp_feedback: Vec<RtcpFeedback>,
        #[prost(uint32, optional, tag = "6")]
        preferred_payload_type: Option<u32>,
        #[prost(string, optional, tag = "7")]
        parameters: Option<String>,
    }
    CapabilitiesExtension {
        #[prost(string, tag = "1")]
        uri: String,
        #[prost(int32, tag = "2")]
        #[serde(deserialize_with = "kind")]
        kind: i32,
        #[prost(int32, tag = "3")]
        preferred_id: i32,
        #[prost(bool, optional, tag = "4")]
        preferred_encrypt: Option<bool>,
        #[prost(int32, optional, tag = "5")]
        #[serde(deserialize_with = "direction")]
        direction: Option<i32>,
    }
    /// `encodings`, `mid` and `cname` are *extended*.
    RtpParameters {
        #[prost(message, repeated, tag = "1")]
        codecs: Vec<ParametersCodec>,
        #[prost(message, repeated, tag = "2")]
        header_extensions: Vec<ParametersExtension>,
        #[prost(message, repeated, tag = "3")]
        encodings: Vec<Encoding>,
        #[prost(string, optional, tag = "4")]
        mid: Option<String>,
        #[prost(string, optional, tag = "5")]
        cname: Option<String>,
    }
    /// `parameters` is *extended*.
    ParametersCodec {
        #[prost(string, tag = "1")]
        mime_type: String,
        #[prost(int32, tag = "2")]
        payload_type: i32,
        #[prost(int32, tag = "3")]
        clock_rate: i32,
        #[prost(int32, optional, tag = "4")]
        channels: Option<i32>,
        #[prost(message, repeated, tag = "5")]
        rtcp_feedback: Vec<RtcpFeedback>,
        #[prost(string, optional, tag = "6")]
        parameters: Option<String>,
    }
    ParametersExtension {
        #[prost(string, tag = "1")]
        uri: String,
        #[prost(int32, tag = "2")]
        id: i32,
    }
    /// *Extended*.
    Encoding {
        #[prost(uint32, optional, tag = "1")]
        ssrc: Option<u32>,
    }
    /// Number 5 is unused.
    SctpStreamParameters {
        #[prost(int32, tag = "1")]
        stream_id: i32,
        #[prost(bool, optional, tag = "2")]
        ordered: Option<bool>,
        #[prost(int32, optional, tag = "3")]
        max_packet_life_time: Option<i32>,
        #[prost(int32, optional, tag = "4")]
        max_retransmits: Option<i32>,
        #[prost(string, optional, tag = "6")]
        protocol: Option<String>,
    }
    CreateConsumer {
        #[prost(int32, tag = "1")]
        player_id: i32,
        #[prost(string, tag = "2")]
        consumer_id: String,
        #[prost(string, tag = "3")]
        producer_id: String,
        #[prost(message, optional, tag = "4")]
        rtp_parameters: Option<RtpParameters>,
    }
    CreateDataConsumer {
        #[prost(int32, tag = "1")]
        player_id: i32,
        #[prost(string, tag = "2")]
        data_consumer_id: String,
        #[prost(string, tag = "3")]
        data_producer_id: String,
        #[prost(message, optional, tag = "4")]
        sctp_stream_parameters: Option<SctpStreamParameters>,
    }
    ProducerId {
        #[prost(string, tag = "1")]
        producer_id: String,
    }
    DataProducerId {
        #[prost(string, tag = "1")]
        data_producer_id: String,
    }
    RouterRtpCapabilities {
        #[prost(message, optional, tag = "1")]
        rtp_capabilities: Option<RtpCapabilities>,
    }
    TransportCreated {
        #[prost(int32, tag = "1")]
        r#type: i32,
        #[prost(message, optional, tag = "2")]
        options: Option<TransportOptions>,
    }
    /// Numbers 6 and 7, a policy and servers of ICE, are not sent: the clients do not look at them.
    TransportOptions {
        #[prost(string, tag = "1")]
        id: String,
        #[prost(message, optional, tag = "2")]
        ice_parameters: Option<IceParameters>,
        #[prost(message, optional, tag = "3")]
        dtls_parameters: Option<DtlsParameters>,
        #[prost(message, repeated, tag = "4")]
        ice_candidates: Vec<IceCandidate>,
        #[prost(message, optional, tag = "5")]
        sctp_parameters: Option<SctpParameters>,
    }
    IceParameters {
        #[prost(string, tag = "1")]
        username_fragment: String,
        #[prost(string, tag = "2")]
        password: String,
        #[prost(bool, optional, tag = "3")]
        ice_lite: Option<bool>,
    }
    IceCandidate {
        #[prost(string, tag = "1")]
        foundation: String,
        #[prost(int32, tag = "2")]
        priority: i32,
        #[prost(string, tag = "3")]
        ip: String,
        #[prost(int32, tag = "4")]
        port: i32,
        #[prost(int32, tag = "5")]
        protocol: i32,
        #[prost(int32, tag = "6")]
        r#type: i32,
        #[prost(int32, optional, tag = "7")]
        tcp_type: Option<i32>,
    }
    SctpParameters {
        #[prost(int32, tag = "1")]
        port: i32,
        #[prost(int32, tag = "2")]
        os: i32,
        #[prost(int32, tag = "3")]
        mis: i32,
        #[prost(int32, tag = "4")]
        max_message_size: i32,
    }
    TransportConnected {
        #[prost(int32, tag = "1")]
        r#type: i32,
        #[prost(bool, tag = "2")]
        success: bool,
    }
    /// `resume` is *extended*.
    JoinSuccess {
        #[prost(string, tag = "1")]
        world: String,
        #[prost(uint32, tag = "2")]
        player_id: u32,
        #[prost(string, optional, tag = "3")]
        resume: Option<String>,
    }
    ChatMessage {
        #[prost(uint32, tag = "1")]
        player_id: u32,
        #[prost(string, tag = "2")]
        message: String,
    }
    PlayerJoined {
        #[prost(uint32, tag = "1")]
        player_id: u32,
        #[prost(btree_map = "string, string", tag = "2")]
        data: Data,
    }
    PlayerLeft {
        #[prost(uint32, tag = "1")]
        player_id: u32,
    }
    PlayerData {
        #[prost(uint32, tag = "1")]
        player_id: u32,
        #[prost(string, tag = "2")]
        key: String,
        #[prost(string, tag = "3")]
        value: String,
    }
    Event {
        #[prost(uint32, tag = "1")]
        player_id: u32,
        #[prost(bytes = "vec", tag = "2")]
        #[serde(deserialize_with = "base64")]
        data: Vec<u8>,
    }
    /// *Extended*, as all that follow.
    JoinRefused {
        #[prost(string, tag = "1")]
        world: String,
        #[prost(string, tag = "2")]
        reason: String,
    }
    ConsumerClosed {
        #[prost(string, tag = "1")]
        consumer_id: String,
    }
    DataConsumerClosed {
        #[prost(string, tag = "1")]
        data_consumer_id: String,
    }
    Kicked {
        #[prost(string, tag = "1")]
        world: String,
        #[prost(string, tag = "2")]
        reason: String,
    }
    Draining {}
    Talking {
        #[prost(uint32, tag = "1")]
        player_id: u32,
        #[prost(bool, tag = "2")]
        talking: bool,
    }
}

/// An enumeration in JSON: a name, or its number.
fn enumeration<'de, D: Deserializer<'de>>(
    deserializer: D,
    names: &'static [&'static str],
) -> Result<i32, D::Error> {
    struct Names(&'static [&'static str]);

    impl Visitor<'_> for Names {
        type Value = i32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "one of {:?}", self.0)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<i32, E> {
            i32::try_from(number).map_err(|_| E::custom("a number beyond 32 bits"))
        }

        fn visit_str<E: de::Error>(self, name: &str) -> Result<i32, E> {
            let place = self.0.iter().position(|known| *known == name);
            // A list of a few names.
            place
                .map(|place| place as i32)
                .ok_or_else(|| E::unknown_variant(name, self.0))
        }
    }

    deserializer.deserialize_any(Names(names))
}

fn side<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    enumeration(deserializer, &["CONSUMER", "PRODUCER"])
}

fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    enumeration(deserializer, &["AUTO", "CLIENT", "SERVER"])
}

fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    enumeration(deserializer, &["AUDIO", "VIDEO"])
}

fn direction<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    let names = &["SENDRECV", "SENDONLY", "RECVONLY", "INACTIVE"];
    enumeration(deserializer, names).map(Some)
}

fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    use base64ct::{Base64, Encoding as _};

    let text = String::deserialize(deserializer)?;
    Base64::decode_vec(&text).map_err(|_| de::Error::custom("not base64"))
}
