//! Generations 3a and 3b: `{"id": ..., "data": ...}`.

use serde_json::{Value, json};

use super::error::Error;
use super::json;
use super::message::{Request, Response, World};
use super::two::{find, or_null, set};

/// What ids of 3a begin with.
pub(super) const PREFIX_A: &str = "xyz.unavi.";

/// What ids of 3b begin with.
pub(super) const PREFIX_B: &str = "com.wired-protocol.";

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    A,
    B,
}

impl Form {
    fn prefix(self) -> &'static str {
        match self {
            Self::A => PREFIX_A,
            Self::B => PREFIX_B,
        }
    }
}

pub(super) fn read(bytes: &[u8], form: Form) -> Result<Request, Error> {
    let value = json::parse(bytes)?;
    if form == Form::B && value["target"] == "client" {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::Syntax)?;
        return match is_forged(&value) {
            true => Err(Error::Forged),
            false => Ok(Request::Relay(text.to_owned())),
        };
    }
    let id = value["id"].as_str().ok_or(Error::Contents)?;
    let id = id.strip_prefix(form.prefix()).ok_or(Error::Unknown)?;
    let data = &value["data"];
    Ok(match id {
        "world.join" => Request::Join {
            world: World::Uri(json::text(data)?),
            token: None,
            resume: None,
        },
        "world.leave" => Request::Leave(World::Uri(json::text(data)?)),
        "world.chat.send" => Request::Chat(json::text(data)?),
        "world.user.name" => set("nickname", json::optional_text(data)?),
        "world.user.avatar" => set("avatar", json::optional_text(data)?),
        "world.user.handle" => set("handle", json::optional_text(data)?),
        "world.user.grounded" if form == Form::A => {
            set("falling", Some((!json::flag(data)?).to_string()))
        }
        "world.user.falling" if form == Form::B => {
            set("falling", Some(json::flag(data)?.to_string()))
        }
        "webrtc.router.rtpCapabilities.get" => Request::Capabilities,
        "webrtc.transport.create" => Request::CreateTransport(json::side(data)?),
        "webrtc.transport.connect" => {
            let (role, fingerprints) = json::dtls(&data["dtlsParameters"])?;
            Request::ConnectTransport {
                side: json::side(&data["type"])?,
                role,
                fingerprints,
            }
        }
        "webrtc.rtpCapabilities.set" => Request::SetCapabilities(json::read_capabilities(data)?),
        "webrtc.produce" => Request::Produce(Box::new(json::read_audio(data)?)),
        "webrtc.produceData" => Request::ProduceData(json::read_stream(data)?),
        "webrtc.audio.pause" => Request::PauseAudio(json::flag(data)?),
        _ => return Err(Error::Unknown),
    })
}

pub(super) fn write(response: &Response, form: Form) -> Option<String> {
    let (id, data) = match response {
        Response::Capabilities => ("webrtc.router.rtpCapabilities", json::write_capabilities()),
        Response::TransportCreated { side, parameters } => (
            "webrtc.transport.created",
            json::write_transport(*side, parameters),
        ),
        Response::ProducerId(id) => ("webrtc.producer.id", json!(id)),
        Response::DataProducerId(id) => ("webrtc.dataProducer.id", json!(id)),
        Response::CreateConsumer {
            player,
            consumer,
            producer,
            parameters,
        } => (
            "webrtc.consumer.create",
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
            "webrtc.dataConsumer.create",
            json!({
                "playerId": player,
                "dataConsumerId": consumer,
                "dataProducerId": producer,
                "sctpStreamParameters": json::write_stream(stream),
            }),
        ),
        Response::Joined { player, .. } => ("world.joined", json!(player)),
        Response::PlayerJoined { player, data, .. } => {
            let mut joined = json!({"playerId": player});
            for (key, member) in [
                ("nickname", "name"),
                ("avatar", "avatar"),
                ("handle", "handle"),
            ] {
                // Absent, not null: the client's check of this message takes no null.
                if let Some(value) = find(data, key).filter(|value| !value.is_empty()) {
                    joined[member] = value.into();
                }
            }
            ("world.player.join", joined)
        }
        Response::PlayerLeft(player) => ("world.player.leave", json!(player)),
        Response::Chat { player, text, .. } => (
            "world.chat.message",
            json!({"playerId": player, "message": text}),
        ),
        Response::Data { player, key, value } => data_of(*player, key, value.as_deref(), form)?,
        Response::Relayed(text) => return (form == Form::B).then(|| text.clone()),
        Response::TransportConnected { .. }
        | Response::Event { .. }
        | Response::JoinRefused { .. }
        | Response::ConsumerClosed(_)
        | Response::DataConsumerClosed(_)
        | Response::Kicked { .. }
        | Response::Draining
        | Response::Talking { .. } => return None,
    };
    let id = format!("{}{id}", form.prefix());
    Some(json!({"id": id, "data": data}).to_string())
}

fn data_of(
    player: u8,
    key: &str,
    value: Option<&str>,
    form: Form,
) -> Option<(&'static str, Value)> {
    let falling = value == Some("true");
    let (id, member) = match (key, form) {
        ("nickname", _) => ("world.player.name", "name"),
        ("avatar", _) => ("world.player.avatar", "avatar"),
        ("handle", _) => ("world.player.handle", "handle"),
        ("falling", Form::A) => {
            let data = json!({"playerId": player, "grounded": !falling});
            return Some(("world.player.grounded", data));
        }
        ("falling", Form::B) => {
            let data = json!({"playerId": player, "falling": falling});
            return Some(("world.player.falling", data));
        }
        _ => return None,
    };
    Some((id, json!({"playerId": player, member: or_null(value)})))
}

/// True if other clients could take a frame for the server's own word. The original passed on all.
fn is_forged(value: &Value) -> bool {
    let Some(id) = value["id"].as_str() else {
        return true;
    };
    let name = id
        .strip_prefix(PREFIX_B)
        .or_else(|| id.strip_prefix(PREFIX_A));
    name.is_some_and(|name| name.starts_with("world.") || name.starts_with("webrtc."))
}
