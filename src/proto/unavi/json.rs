//! mediasoup's objects in JSON, which generations 2 and 3 share.

use serde_json::{Map, Value, json};

use super::capabilities::{self, Direction, HEADER_EXTENSIONS, Kind};
use super::error::Error;
use super::message::{
    AudioParameters, Candidate, Capabilities, ConsumerParameters, DtlsFingerprint, DtlsRole, Side,
    StreamParameters, TransportParameters,
};

/// Entries of a list that are looked at: mediasoup's longest has 15.
pub(super) const ENTRIES_MAX: usize = 64;

/// A name of a header extension or hash function.
pub(super) const NAME_BYTES_MAX: usize = 256;

pub(super) fn parse(bytes: &[u8]) -> Result<Value, Error> {
    // The parser has a bound on nesting of its own (128).
    serde_json::from_slice(bytes).map_err(|_| Error::Syntax)
}

pub(super) fn text(value: &Value) -> Result<String, Error> {
    value.as_str().map(str::to_owned).ok_or(Error::Contents)
}

/// A text or null.
pub(super) fn optional_text(value: &Value) -> Result<Option<String>, Error> {
    given(value).map(text).transpose()
}

/// Anything but null, which is what an absent member reads as.
fn given(value: &Value) -> Option<&Value> {
    (!value.is_null()).then_some(value)
}

pub(super) fn flag(value: &Value) -> Result<bool, Error> {
    value.as_bool().ok_or(Error::Contents)
}

fn number(value: &Value, max: u64) -> Result<u64, Error> {
    value
        .as_u64()
        .filter(|number| *number <= max)
        .ok_or(Error::Contents)
}

fn name(value: &Value) -> Result<String, Error> {
    let name = value.as_str().ok_or(Error::Contents)?;
    match name.len() > NAME_BYTES_MAX {
        true => Err(Error::TooLarge),
        false => Ok(name.to_owned()),
    }
}

/// A list that may be left out.
fn list(value: &Value) -> Result<&[Value], Error> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) if items.len() <= ENTRIES_MAX => Ok(items),
        Value::Array(_) => Err(Error::TooLarge),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Err(Error::Contents)
        }
    }
}

pub(super) fn side(value: &Value) -> Result<Side, Error> {
    match value.as_str() {
        Some("producer") => Ok(Side::Producer),
        Some("consumer") => Ok(Side::Consumer),
        Some(_) | None => Err(Error::Contents),
    }
}

pub(super) fn side_name(side: Side) -> &'static str {
    match side {
        Side::Producer => "producer",
        Side::Consumer => "consumer",
    }
}

pub(super) fn dtls(value: &Value) -> Result<(DtlsRole, Vec<DtlsFingerprint>), Error> {
    let role = match value.get("role").and_then(Value::as_str) {
        None | Some("auto") => DtlsRole::Auto,
        Some("client") => DtlsRole::Client,
        Some("server") => DtlsRole::Server,
        Some(_) => return Err(Error::Contents),
    };
    let fingerprints = list(&value["fingerprints"])?
        .iter()
        .map(|item| {
            Ok(DtlsFingerprint {
                algorithm: name(&item["algorithm"])?,
                value: name(&item["value"])?,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    match fingerprints.is_empty() {
        true => Err(Error::Contents),
        false => Ok((role, fingerprints)),
    }
}

/// True if such a codec is Opus as the server takes it.
pub(super) fn is_opus(mime_type: &str) -> bool {
    mime_type.eq_ignore_ascii_case("audio/opus")
}

pub(super) fn read_capabilities(value: &Value) -> Result<Capabilities, Error> {
    let mut opus = false;
    for codec in list(&value["codecs"])? {
        opus |= codec["mimeType"].as_str().is_some_and(is_opus);
    }
    let extensions = list(&value["headerExtensions"])?
        .iter()
        .filter(|item| item["kind"].as_str() != Some("video"))
        .map(|item| name(&item["uri"]))
        .collect::<Result<_, _>>()?;
    Ok(Capabilities { opus, extensions })
}

/// Numbers, texts and flags; nothing that could be large.
pub(super) fn scalars(value: &Value) -> Map<String, Value> {
    let all = value.as_object().into_iter().flatten();
    all.filter(|(name, value)| {
        let is_short = value
            .as_str()
            .is_none_or(|text| text.len() <= NAME_BYTES_MAX);
        name.len() <= NAME_BYTES_MAX && is_short && !value.is_array() && !value.is_object()
    })
    .take(AudioParameters::PARAMETERS_MAX)
    .map(|(name, value)| (name.clone(), value.clone()))
    .collect()
}

pub(super) fn read_audio(value: &Value) -> Result<AudioParameters, Error> {
    let codec = list(&value["codecs"])?
        .iter()
        .find(|codec| codec["mimeType"].as_str().is_some_and(is_opus))
        .ok_or(Error::Contents)?;
    let extensions = list(&value["headerExtensions"])?
        .iter()
        .map(|item| Ok((name(&item["uri"])?, number(&item["id"], 255)? as u8)))
        .collect::<Result<_, Error>>()?;
    let ssrc = match list(&value["encodings"])?.first() {
        Some(encoding) if !encoding["ssrc"].is_null() => {
            Some(number(&encoding["ssrc"], u64::from(u32::MAX))? as u32)
        }
        Some(_) | None => None,
    };
    Ok(AudioParameters {
        payload_type: number(&codec["payloadType"], 127)? as u8,
        parameters: scalars(&codec["parameters"]),
        extensions,
        ssrc,
        mid: given(&value["mid"]).map(bounded).transpose()?,
        cname: given(&value["rtcp"]["cname"]).map_or_else(|| Ok(String::new()), bounded)?,
    })
}

fn bounded(value: &Value) -> Result<String, Error> {
    let text = value.as_str().ok_or(Error::Contents)?;
    match text.len() > AudioParameters::NAME_BYTES_MAX {
        true => Err(Error::TooLarge),
        false => Ok(text.to_owned()),
    }
}

pub(super) fn read_stream(value: &Value) -> Result<StreamParameters, Error> {
    let limit = |value: &Value| {
        let limit = given(value).map(|value| number(value, u64::from(u16::MAX)));
        Ok(limit.transpose()?.map(|limit| limit as u16))
    };
    Ok(StreamParameters {
        stream: number(&value["streamId"], 65_534)? as u16,
        ordered: given(&value["ordered"]).map_or(Ok(true), flag)?,
        lifetime_ms: limit(&value["maxPacketLifeTime"])?,
        retransmits: limit(&value["maxRetransmits"])?,
    })
}

pub(super) fn write_stream(stream: &StreamParameters) -> Value {
    let mut value = json!({"streamId": stream.stream, "ordered": stream.ordered});
    if let Some(lifetime_ms) = stream.lifetime_ms {
        value["maxPacketLifeTime"] = lifetime_ms.into();
    }
    if let Some(retransmits) = stream.retransmits {
        value["maxRetransmits"] = retransmits.into();
    }
    value
}

pub(super) fn write_capabilities() -> Value {
    let extensions: Vec<Value> = HEADER_EXTENSIONS
        .iter()
        .map(|entry| {
            json!({
                "kind": match entry.kind {
                    Kind::Audio => "audio",
                    Kind::Video => "video",
                },
                "uri": entry.uri,
                "preferredId": entry.id,
                "preferredEncrypt": false,
                "direction": match entry.direction {
                    Direction::Both => "sendrecv",
                    Direction::Receive => "recvonly",
                },
            })
        })
        .collect();
    let feedback = capabilities::FEEDBACK.map(|kind| json!({"type": kind, "parameter": ""}));
    json!({
        "codecs": [{
            "kind": "audio",
            "mimeType": "audio/opus",
            "clockRate": 48_000,
            "channels": 2,
            "rtcpFeedback": feedback,
            "parameters": {},
            "preferredPayloadType": capabilities::PAYLOAD_TYPE,
        }],
        "headerExtensions": extensions,
    })
}

/// Clients of generations 2 and 3 take IPv4 addresses only, and refuse the whole message otherwise.
fn write_candidate(candidate: &Candidate) -> Option<Value> {
    if !candidate.ip.is_ipv4() {
        return None;
    }
    let mut value = json!({
        "foundation": candidate.foundation,
        "ip": candidate.ip.to_string(),
        "port": candidate.port,
        "priority": candidate.priority,
        "protocol": if candidate.is_tcp { "tcp" } else { "udp" },
    });
    if candidate.is_tcp {
        value["tcpType"] = "passive".into();
    }
    value["type"] = "host".into();
    Some(value)
}

pub(super) fn write_transport(side: Side, parameters: &TransportParameters) -> Value {
    let candidates: Vec<Value> = parameters
        .candidates
        .iter()
        .filter_map(write_candidate)
        .collect();
    let fingerprints: Vec<Value> = parameters
        .fingerprints
        .iter()
        .map(|known| json!({"algorithm": known.algorithm, "value": known.value}))
        .collect();
    json!({
        "type": side_name(side),
        "options": {
            "id": parameters.id,
            "iceParameters": {
                "usernameFragment": parameters.ufrag,
                "password": parameters.password,
                "iceLite": true,
            },
            "iceCandidates": candidates,
            "dtlsParameters": {"role": "auto", "fingerprints": fingerprints},
            "sctpParameters": {
                "port": 5000,
                "OS": 1024,
                "MIS": 1024,
                "maxMessageSize": parameters.message_bytes_max,
            },
        },
    })
}

pub(super) fn write_consumer(parameters: &ConsumerParameters) -> Value {
    let extensions: Vec<Value> = parameters
        .extensions
        .iter()
        .map(|(uri, id)| json!({"uri": uri, "id": id, "encrypt": false, "parameters": {}}))
        .collect();
    json!({
        "codecs": [{
            "mimeType": "audio/opus",
            "payloadType": parameters.payload_type,
            "clockRate": 48_000,
            "channels": 2,
            "parameters": parameters.parameters,
            "rtcpFeedback": [],
        }],
        "headerExtensions": extensions,
        "encodings": [{"ssrc": parameters.ssrc}],
        "rtcp": {"cname": parameters.cname, "reducedSize": true, "mux": true},
        "mid": parameters.mid,
    })
}
