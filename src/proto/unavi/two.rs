//! Generation 2: `{"subject": ..., "data": ...}`.

use serde_json::{Value, json};

use super::error::Error;
use super::json;
use super::message::{Request, Response, World};

pub(super) fn read(bytes: &[u8]) -> Result<Request, Error> {
    let value = json::parse(bytes)?;
    let subject = value["subject"].as_str().ok_or(Error::Contents)?;
    let data = &value["data"];
    Ok(match subject {
        "join" => Request::Join {
            world: world(data)?,
            token: None,
            resume: None,
        },
        "leave" => Request::Leave(world(data)?),
        "chat" => Request::Chat(json::text(data)?),
        "set_name" => set("nickname", json::optional_text(data)?),
        "set_avatar" => set("avatar", json::optional_text(data)?),
        "set_address" => set("address", json::optional_text(data)?),
        "set_grounded" => set("falling", Some((!json::flag(data)?).to_string())),
        "get_router_rtp_capabilities" => Request::Capabilities,
        "create_transport" => Request::CreateTransport(json::side(&data["type"])?),
        "connect_transport" => {
            let (role, fingerprints) = json::dtls(&data["dtlsParameters"])?;
            Request::ConnectTransport {
                side: json::side(&data["type"])?,
                role,
                fingerprints,
            }
        }
        "set_rtp_capabilities" => Request::SetCapabilities(json::read_capabilities(data)?),
        "produce" => Request::Produce(Box::new(json::read_audio(data)?)),
        "produce_data" => Request::ProduceData(json::read_stream(data)?),
        "resume_audio" => Request::PauseAudio(false),
        _ => return Err(Error::Unknown),
    })
}

/// One thing that others see of a player.
pub(super) fn set(key: &str, value: Option<String>) -> Request {
    Request::SetData(vec![(key.to_owned(), value)])
}

/// A positive number, or a URI since April 2023.
fn world(data: &Value) -> Result<World, Error> {
    match data {
        Value::String(uri) => Ok(World::Uri(uri.clone())),
        Value::Number(_) => match data.as_u64() {
            Some(number) if number > 0 => Ok(World::Number(number)),
            Some(_) | None => Err(Error::Contents),
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(Error::Contents),
    }
}

/// What is empty is null: a client of this generation has one or the other.
pub(super) fn or_null(value: Option<&str>) -> Value {
    value.filter(|text| !text.is_empty()).into()
}

/// What a player is said to be, by name.
pub(super) fn find<'a>(data: &'a [(String, String)], key: &str) -> Option<&'a str> {
    data.iter()
        .find(|(known, _)| known == key)
        .map(|(_, value)| value.as_str())
}

pub(super) fn write(response: &Response) -> Option<String> {
    let (subject, data) = match response {
        Response::Capabilities => ("router_rtp_capabilities", json::write_capabilities()),
        Response::TransportCreated { side, parameters } => (
            "transport_created",
            json::write_transport(*side, parameters),
        ),
        Response::ProducerId(id) => ("producer_id", json!(id)),
        Response::DataProducerId(id) => ("data_producer_id", json!(id)),
        Response::CreateConsumer {
            player,
            consumer,
            producer,
            parameters,
        } => (
            "create_consumer",
            json!({
                "playerId": player,
                "consumerId": consumer,
                "producerId": producer,
                "rtpParameters": json::write_consumer(parameters),
            }),
        ),
        Response::CreateDataConsumer {
            player,
            consumer,
            producer,
            stream,
        } => (
            "create_data_consumer",
            json!({
                "playerId": player,
                "consumerId": consumer,
                "dataProducerId": producer,
                "sctpStreamParameters": json::write_stream(stream),
            }),
        ),
        Response::Joined { world, player, .. } => (
            "join_success",
            match world {
                World::Number(number) => json!({"spaceId": number, "playerId": player}),
                World::Uri(uri) => json!({"uri": uri, "playerId": player}),
            },
        ),
        Response::PlayerJoined {
            player,
            data,
            before_you,
        } => {
            let mut joined = json!({
                "playerId": player,
                "name": or_null(find(data, "nickname")),
                "address": or_null(find(data, "address")),
                "avatar": or_null(find(data, "avatar")),
            });
            if *before_you {
                joined["beforeYou"] = true.into();
            }
            ("player_joined", joined)
        }
        Response::PlayerLeft(player) => ("player_left", json!({"playerId": player})),
        Response::Chat {
            player,
            text,
            unix_ms,
        } => (
            "player_chat",
            json!({"playerId": player, "text": text, "timestamp": unix_ms}),
        ),
        Response::Data { player, key, value } => {
            let (subject, member) = match key.as_str() {
                "nickname" => ("player_name", "name"),
                "avatar" => ("player_avatar", "avatar"),
                "address" => ("player_address", "address"),
                "falling" => {
                    let grounded = value.as_deref() != Some("true");
                    let data = json!({"playerId": player, "grounded": grounded});
                    return Some(frame("player_grounded", &data));
                }
                _ => return None,
            };
            let data = json!({"playerId": player, member: or_null(value.as_deref())});
            (subject, data)
        }
        Response::TransportConnected { .. }
        | Response::Event { .. }
        | Response::Relayed(_)
        | Response::JoinRefused { .. }
        | Response::ConsumerClosed(_)
        | Response::DataConsumerClosed(_)
        | Response::Kicked { .. }
        | Response::Draining
        | Response::Talking { .. } => return None,
    };
    Some(frame(subject, &data))
}

fn frame(subject: &str, data: &Value) -> String {
    json!({"subject": subject, "data": data}).to_string()
}
