//! Generation 4: protocol buffers (proto3), and their JSON form.
//!
//! One `Request` or `Response` is a frame. Numbers are those of version 0.9.0 of the schema; those from
//! 20 on, and the ones marked *extended*, are ours.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use prost::Message as _;
use serde_json::{Map, Value};

use super::capabilities::{self, Direction, HEADER_EXTENSIONS, Kind};
use super::error::Error;
use super::json::{ENTRIES_MAX, NAME_BYTES_MAX, is_opus, scalars};
use super::message::{self, AudioParameters, DtlsFingerprint, DtlsRole, Side, World};

mod wire;

use wire::request::Message as Said;
use wire::response::Message as Told;

/// What a client says.
pub(super) fn read(bytes: &[u8]) -> Result<message::Request, Error> {
    // The original tries text where protocol buffers fail: `{` is no valid beginning of a message.
    let said = match wire::Request::decode(bytes) {
        Ok(request) => request.message,
        Err(_) => Some(serde_json::from_slice::<Said>(bytes).map_err(
            |error| match error.is_data() {
                true => Error::Unknown,
                false => Error::Syntax,
            },
        )?),
    };
    request(said.ok_or(Error::Unknown)?)
}

fn request(said: Said) -> Result<message::Request, Error> {
    Ok(match said {
        Said::PauseAudio(pause) => message::Request::PauseAudio(pause.paused),
        Said::ConnectTransport(connect) => {
            let parameters = connect.dtls_parameters.ok_or(Error::Contents)?;
            if parameters.fingerprints.is_empty() {
                return Err(Error::Contents);
            }
            if parameters.fingerprints.len() > ENTRIES_MAX {
                return Err(Error::TooLarge);
            }
            message::Request::ConnectTransport {
                side: side(connect.r#type),
                role: match parameters.role {
                    1 => DtlsRole::Client,
                    2 => DtlsRole::Server,
                    _ => DtlsRole::Auto,
                },
                fingerprints: parameters
                    .fingerprints
                    .into_iter()
                    .map(|known| DtlsFingerprint {
                        algorithm: known.algorithm,
                        value: known.value,
                    })
                    .collect(),
            }
        }
        Said::CreateTransport(create) => message::Request::CreateTransport(side(create.r#type)),
        Said::GetRouterRtpCapabilities(_) => message::Request::Capabilities,
        Said::SetRtpCapabilities(set) => {
            message::Request::SetCapabilities(can(set.rtp_capabilities.unwrap_or_default())?)
        }
        Said::Produce(produce) => {
            let parameters = produce.rtp_parameters.ok_or(Error::Contents)?;
            message::Request::Produce(Box::new(audio(parameters)?))
        }
        Said::ProduceData(produce) => {
            let stream = produce.sctp_stream_parameters.ok_or(Error::Contents)?;
            message::Request::ProduceData(read_stream(&stream)?)
        }
        Said::Join(join) => message::Request::Join {
            world: World::Uri(join.world),
            token: join.token,
            resume: join.resume,
        },
        Said::Leave(leave) => message::Request::Leave(World::Uri(leave.world)),
        Said::SendChatMessage(chat) => message::Request::Chat(chat.message),
        Said::SetPlayerData(set) => {
            // One order, whatever the map's: a seed has to repeat a run.
            let mut data: Vec<_> = set.data.into_iter().collect();
            data.sort_by_key(|(key, _)| key_order(key));
            let data = data.into_iter().map(|(key, value)| (key, Some(value)));
            message::Request::SetData(data.collect())
        }
        Said::SendEvent(event) => message::Request::Event(Bytes::from(event.data)),
    })
}

/// The nickname first, as the client sends it.
fn key_order(key: &str) -> (bool, String) {
    (key != "nickname", key.to_owned())
}

/// An unknown number is the first one's, as in all enumerations of proto3 here.
fn side(number: i32) -> Side {
    match number {
        1 => Side::Producer,
        _ => Side::Consumer,
    }
}

fn side_number(side: Side) -> i32 {
    match side {
        Side::Consumer => 0,
        Side::Producer => 1,
    }
}

fn can(parameters: wire::RtpCapabilities) -> Result<message::Capabilities, Error> {
    if parameters
        .codecs
        .len()
        .max(parameters.header_extensions.len())
        > ENTRIES_MAX
    {
        return Err(Error::TooLarge);
    }
    let extensions = parameters.header_extensions.into_iter();
    Ok(message::Capabilities {
        opus: parameters
            .codecs
            .iter()
            .any(|codec| is_opus(&codec.mime_type)),
        extensions: extensions
            .filter(|entry| entry.kind == 0 && entry.uri.len() <= NAME_BYTES_MAX)
            .map(|entry| entry.uri)
            .collect(),
    })
}

fn audio(parameters: wire::RtpParameters) -> Result<AudioParameters, Error> {
    if parameters
        .codecs
        .len()
        .max(parameters.header_extensions.len())
        > ENTRIES_MAX
    {
        return Err(Error::TooLarge);
    }
    let codec = parameters
        .codecs
        .iter()
        .find(|codec| is_opus(&codec.mime_type))
        .ok_or(Error::Contents)?;
    let extensions = parameters.header_extensions.iter();
    let is_long = |name: &Option<String>| {
        let length = name.as_ref().map_or(0, String::len);
        length > AudioParameters::NAME_BYTES_MAX
    };
    if is_long(&parameters.mid) || is_long(&parameters.cname) {
        return Err(Error::TooLarge);
    }
    Ok(AudioParameters {
        payload_type: u8::try_from(codec.payload_type)
            .ok()
            .filter(|payload_type| *payload_type < 128)
            .ok_or(Error::Contents)?,
        parameters: parameters_of(codec.parameters.as_deref()),
        extensions: extensions
            .filter_map(|entry| Some((entry.uri.clone(), u8::try_from(entry.id).ok()?)))
            .filter(|(uri, _)| uri.len() <= NAME_BYTES_MAX)
            .collect(),
        ssrc: parameters.encodings.first().and_then(|first| first.ssrc),
        mid: parameters.mid.filter(|mid| !mid.is_empty()),
        cname: parameters.cname.unwrap_or_default(),
    })
}

fn parameters_of(text: Option<&str>) -> Map<String, Value> {
    let value = text.and_then(|text| serde_json::from_str(text).ok());
    scalars(&value.unwrap_or(Value::Null))
}

fn read_stream(stream: &wire::SctpStreamParameters) -> Result<message::StreamParameters, Error> {
    let limit = |number: Option<i32>| match number {
        None => Ok(None),
        Some(number) => u16::try_from(number).map(Some).map_err(|_| Error::Contents),
    };
    Ok(message::StreamParameters {
        stream: u16::try_from(stream.stream_id)
            .ok()
            .filter(|stream| *stream < u16::MAX)
            .ok_or(Error::Contents)?,
        ordered: stream.ordered.unwrap_or(true),
        lifetime_ms: limit(stream.max_packet_life_time)?,
        retransmits: limit(stream.max_retransmits)?,
    })
}

/// How a client is told something.
pub(super) fn write(response: &message::Response) -> Option<Vec<u8>> {
    let response = wire::Response {
        message: Some(told(response)?),
    };
    Some(response.encode_to_vec())
}

fn told(response: &message::Response) -> Option<Told> {
    Some(match response {
        message::Response::Capabilities => {
            Told::RouterRtpCapabilities(wire::RouterRtpCapabilities {
                rtp_capabilities: Some(write_capabilities()),
            })
        }
        message::Response::TransportCreated { side, parameters } => {
            Told::TransportCreated(wire::TransportCreated {
                r#type: side_number(*side),
                options: Some(write_transport(parameters)),
            })
        }
        message::Response::TransportConnected { side, success } => {
            Told::TransportConnected(wire::TransportConnected {
                r#type: side_number(*side),
                success: *success,
            })
        }
        message::Response::ProducerId(id) => Told::ProducerId(wire::ProducerId {
            producer_id: id.clone(),
        }),
        message::Response::DataProducerId(id) => Told::DataProducerId(wire::DataProducerId {
            data_producer_id: id.clone(),
        }),
        message::Response::CreateConsumer {
            player,
            consumer,
            producer,
            parameters,
        } => Told::CreateConsumer(wire::CreateConsumer {
            player_id: i32::from(*player),
            consumer_id: consumer.clone(),
            producer_id: producer.clone(),
            rtp_parameters: Some(write_consumer(parameters)),
        }),
        message::Response::CreateDataConsumer {
            player,
            consumer,
            producer,
            stream,
        } => Told::CreateDataConsumer(wire::CreateDataConsumer {
            player_id: i32::from(*player),
            data_consumer_id: consumer.clone(),
            data_producer_id: producer.clone(),
            sctp_stream_parameters: Some(wire::SctpStreamParameters {
                stream_id: i32::from(stream.stream),
                ordered: Some(stream.ordered),
                max_packet_life_time: stream.lifetime_ms.map(i32::from),
                max_retransmits: stream.retransmits.map(i32::from),
                protocol: None,
            }),
        }),
        message::Response::Joined {
            world,
            player,
            resume,
        } => Told::JoinSuccess(wire::JoinSuccess {
            world: world.to_string(),
            player_id: u32::from(*player),
            resume: resume.clone(),
        }),
        message::Response::PlayerJoined { player, data, .. } => {
            Told::PlayerJoined(wire::PlayerJoined {
                player_id: u32::from(*player),
                data: data.iter().cloned().collect(),
            })
        }
        message::Response::PlayerLeft(player) => Told::PlayerLeft(wire::PlayerLeft {
            player_id: u32::from(*player),
        }),
        message::Response::Chat { player, text, .. } => Told::ChatMessage(wire::ChatMessage {
            player_id: u32::from(*player),
            message: text.clone(),
        }),
        message::Response::Data { player, key, value } => Told::PlayerData(wire::PlayerData {
            player_id: u32::from(*player),
            key: key.clone(),
            value: value.clone().unwrap_or_default(),
        }),
        message::Response::Event { player, data } => Told::Event(wire::Event {
            player_id: u32::from(*player),
            data: data.to_vec(),
        }),
        message::Response::Relayed(_) => return None,
        message::Response::JoinRefused { world, reason } => Told::JoinRefused(wire::JoinRefused {
            world: world.to_string(),
            reason: (*reason).to_owned(),
        }),
        message::Response::ConsumerClosed(id) => Told::ConsumerClosed(wire::ConsumerClosed {
            consumer_id: id.clone(),
        }),
        message::Response::DataConsumerClosed(id) => {
            Told::DataConsumerClosed(wire::DataConsumerClosed {
                data_consumer_id: id.clone(),
            })
        }
        message::Response::Kicked { world, reason } => Told::Kicked(wire::Kicked {
            world: world.to_string(),
            reason: reason.clone(),
        }),
        message::Response::Draining => Told::Draining(wire::Draining {}),
        message::Response::Talking { player, talking } => Told::Talking(wire::Talking {
            player_id: u32::from(*player),
            talking: *talking,
        }),
    })
}

fn write_capabilities() -> wire::RtpCapabilities {
    let feedback = capabilities::FEEDBACK.map(|kind| wire::RtcpFeedback {
        r#type: kind.to_owned(),
        parameter: Some(String::new()),
    });
    wire::RtpCapabilities {
        codecs: vec![wire::CapabilitiesCodec {
            kind: 0,
            mime_type: "audio/opus".to_owned(),
            clock_rate: 48_000,
            channels: Some(2),
            rtcp_feedback: feedback.into(),
            preferred_payload_type: Some(u32::from(capabilities::PAYLOAD_TYPE)),
            parameters: Some("{}".to_owned()),
        }],
        header_extensions: HEADER_EXTENSIONS
            .iter()
            .map(|entry| wire::CapabilitiesExtension {
                uri: entry.uri.to_owned(),
                kind: match entry.kind {
                    Kind::Audio => 0,
                    Kind::Video => 1,
                },
                preferred_id: i32::from(entry.id),
                preferred_encrypt: Some(false),
                direction: Some(match entry.direction {
                    Direction::Both => 0,
                    Direction::Receive => 2,
                }),
            })
            .collect(),
    }
}

fn write_transport(parameters: &message::TransportParameters) -> wire::TransportOptions {
    let candidates = parameters.candidates.iter();
    let fingerprints = parameters.fingerprints.iter();
    wire::TransportOptions {
        id: parameters.id.clone(),
        ice_parameters: Some(wire::IceParameters {
            username_fragment: parameters.ufrag.clone(),
            password: parameters.password.clone(),
            ice_lite: Some(true),
        }),
        dtls_parameters: Some(wire::DtlsParameters {
            role: 0,
            fingerprints: fingerprints
                .map(|known| wire::Fingerprint {
                    algorithm: known.algorithm.clone(),
                    value: known.value.clone(),
                })
                .collect(),
        }),
        ice_candidates: candidates
            // A link's own addresses have no meaning for a browser elsewhere.
            .filter(
                |candidate| !matches!(candidate.ip, IpAddr::V6(ip) if ip.is_unicast_link_local()),
            )
            .map(|candidate| wire::IceCandidate {
                foundation: candidate.foundation.clone(),
                priority: candidate.priority.min(i32::MAX as u32) as i32,
                ip: candidate.ip.to_string(),
                port: i32::from(candidate.port),
                protocol: i32::from(candidate.is_tcp),
                r#type: 0,
                tcp_type: candidate.is_tcp.then_some(1),
            })
            .collect(),
        sctp_parameters: Some(wire::SctpParameters {
            port: 5000,
            os: 1024,
            mis: 1024,
            max_message_size: parameters.message_bytes_max.min(i32::MAX as u32) as i32,
        }),
    }
}

fn write_consumer(parameters: &message::ConsumerParameters) -> wire::RtpParameters {
    wire::RtpParameters {
        codecs: vec![wire::ParametersCodec {
            mime_type: "audio/opus".to_owned(),
            payload_type: i32::from(parameters.payload_type),
            clock_rate: 48_000,
            channels: Some(2),
            rtcp_feedback: Vec::new(),
            parameters: Some(Value::Object(parameters.parameters.clone()).to_string()),
        }],
        header_extensions: parameters
            .extensions
            .iter()
            .map(|(uri, id)| wire::ParametersExtension {
                uri: (*uri).to_owned(),
                id: i32::from(*id),
            })
            .collect(),
        encodings: vec![wire::Encoding {
            ssrc: Some(parameters.ssrc),
        }],
        mid: Some(parameters.mid.clone()),
        cname: Some(parameters.cname.clone()),
    }
}

/// What a frame of the server says, as its JSON form has it: for tests and tools.
#[cfg(test)]
pub(super) fn response_of(bytes: &[u8]) -> wire::Response {
    wire::Response::decode(bytes).expect("a frame of ours")
}

/// What a frame of the server says, without what the original's schema does not have, what it lost by
/// mistake, and what is made up anew each time: to be compared with the original's.
#[cfg(test)]
pub(crate) fn described(bytes: &[u8]) -> String {
    let mut response = response_of(bytes);
    strip_extended(&mut response);
    let made_up = || "*".to_owned();
    match &mut response.message {
        Some(Told::TransportCreated(told)) => {
            let options = told.options.as_mut().expect("it has options");
            options.id = made_up();
            options.ice_candidates.retain(|known| known.protocol == 0);
            for candidate in &mut options.ice_candidates {
                (candidate.foundation, candidate.priority) = (made_up(), 0);
                candidate.port = 0;
            }
            let ice = options.ice_parameters.as_mut().expect("it has these");
            (ice.username_fragment, ice.password) = (made_up(), made_up());
            let sctp = options.sctp_parameters.as_mut().expect("it has these");
            (sctp.os, sctp.mis) = (0, 0);
        }
        Some(Told::CreateConsumer(told)) => {
            (told.consumer_id, told.producer_id) = (made_up(), made_up());
        }
        Some(Told::CreateDataConsumer(told)) => {
            (told.data_consumer_id, told.data_producer_id) = (made_up(), made_up());
        }
        Some(Told::ProducerId(told)) => told.producer_id = made_up(),
        Some(Told::DataProducerId(told)) => told.data_producer_id = made_up(),
        Some(_) | None => {}
    }
    format!("{:?}", response.message)
}

/// Takes away what the original's schema does not have.
#[cfg(test)]
pub(super) fn strip_extended(response: &mut wire::Response) {
    let extended = response.message.as_ref().is_some_and(|message| {
        matches!(
            message,
            Told::ConsumerClosed(_) | Told::DataConsumerClosed(_)
        )
    });
    if extended {
        response.message = None;
    }
    match &mut response.message {
        Some(Told::RouterRtpCapabilities(told)) => {
            for codec in told
                .rtp_capabilities
                .iter_mut()
                .flat_map(|can| &mut can.codecs)
            {
                codec.preferred_payload_type = None;
                codec.parameters = None;
            }
        }
        Some(Told::CreateConsumer(told)) => {
            if let Some(parameters) = &mut told.rtp_parameters {
                parameters.encodings.clear();
                (parameters.mid, parameters.cname) = (None, None);
                for codec in &mut parameters.codecs {
                    codec.parameters = None;
                }
            }
        }
        Some(_) | None => {}
    }
}

/// The type of `SetPlayerData.data`.
type Data = BTreeMap<String, String>;
