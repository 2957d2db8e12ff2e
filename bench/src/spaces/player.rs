//! What a player says, by the messages of generation 2.

use std::time::Instant;

use ringside::base::ids::ConnId;
use ringside::proto::dtls::Context;
use ringside::proto::rtp::{ExtensionMap, Patch, Template, TemplateOptions};
use serde_json::{Value, json};

use super::transport::Transport;
use crate::rtc::media;
use crate::stamp;

/// Bytes of a location: a number, a place and a direction.
pub(super) const LOCATION_BYTES: usize = 21;

/// The payload type that the player sends Opus with, and the tag of its stream.
const PAYLOAD_TYPE: u8 = 111;
const MID: &str = "0";

const HEADER_BYTES_MAX: usize = 64;

/// One player.
pub(super) struct Player {
    /// Among all.
    pub(super) index: usize,
    pub(super) world: usize,
    pub(super) conn: ConnId,
    pub(super) began: Instant,
    /// When it asked to be let in.
    pub(super) asked: Option<Instant>,
    pub(super) is_in: bool,
    pub(super) is_gone: bool,
    pub(super) has_location: bool,
    /// Others said where they are when it asked to be let in.
    pub(super) has_company: bool,
    pub(super) producer: Option<Transport>,
    pub(super) consumer: Option<Transport>,
    /// What the server has offered for the consumer, until there is somebody to hear.
    offered: Option<Value>,
    /// Locations can go.
    pub(super) may_send: bool,
    template: Template,
    ssrc: u32,
    sound: u64,
    seed: u64,
}

/// What is sent where.
#[derive(Default)]
pub(super) struct Says(pub(super) Vec<String>);

impl Says {
    fn say(&mut self, subject: &str, data: Value) {
        let message = json!({"subject": subject, "data": data});
        self.0.push(message.to_string());
    }
}

impl Player {
    pub(super) fn new(now: Instant, index: usize, world: usize, conn: ConnId, seed: u64) -> Self {
        let ssrc = 0x5000_0000 + index as u32;
        Self {
            index,
            world,
            conn,
            began: now,
            asked: None,
            is_in: false,
            is_gone: false,
            has_location: false,
            has_company: false,
            producer: None,
            consumer: None,
            offered: None,
            may_send: false,
            template: Template::new(&TemplateOptions {
                ssrc,
                payload_type: PAYLOAD_TYPE,
                mid: MID,
                map: ExtensionMap::default(),
                is_mixed: true,
            }),
            ssrc,
            sound: 0,
            seed,
        }
    }

    /// The WebSocket is open.
    pub(super) fn opened(&mut self, now: Instant, has_media: bool, says: &mut Says) {
        self.asked = Some(now);
        says.say("set_name", json!(format!("player {}", self.index)));
        if has_media {
            says.say("get_router_rtp_capabilities", Value::Null);
        }
        says.say("join", json!(format!("https://example.com/{}", self.world)));
        if has_media {
            says.say("create_transport", json!({"type": "producer"}));
            says.say("create_transport", json!({"type": "consumer"}));
            let opus = json!({"kind": "audio", "mimeType": "audio/opus", "clockRate": 48_000,
                "channels": 2, "preferredPayloadType": 100});
            let can = json!({"codecs": [opus], "headerExtensions": []});
            says.say("set_rtp_capabilities", can);
        }
    }

    /// The server has said something about media.
    pub(super) fn told(
        &mut self,
        now: Instant,
        context: &Context,
        subject: &str,
        data: &Value,
        says: &mut Says,
    ) -> anyhow::Result<()> {
        match subject {
            "transport_created" if data["type"] == "producer" => {
                connect("producer", context, says);
                says.say("produce_data", stream());
                let seed = self.seed ^ 0x1111;
                let mut transport = Transport::open(now, context, &data["options"], seed)?;
                transport.open_channel(now, 0);
                self.producer = Some(transport);
            }
            "transport_created" => self.offered = Some(data["options"].clone()),
            "create_data_consumer" => {
                self.consume(now, context, says)?;
                let id = data.pointer("/sctpStreamParameters/streamId");
                let id = id.and_then(Value::as_u64).unwrap_or(0) as u16;
                if let Some(consumer) = &mut self.consumer {
                    consumer.open_channel(now, id);
                }
            }
            "create_consumer" => {
                self.consume(now, context, says)?;
                says.say("resume_audio", Value::Null);
            }
            _ => {}
        }
        Ok(())
    }

    fn consume(&mut self, now: Instant, context: &Context, says: &mut Says) -> anyhow::Result<()> {
        if let Some(options) = self.offered.take() {
            connect("consumer", context, says);
            let seed = self.seed ^ 0x2222;
            self.consumer = Some(Transport::open(now, context, &options, seed)?);
        }
        Ok(())
    }

    /// It will speak.
    pub(super) fn produce_sound(&self, says: &mut Says) {
        let codec = json!({"mimeType": "audio/opus", "payloadType": PAYLOAD_TYPE,
            "clockRate": 48_000, "channels": 2, "parameters": {}, "rtcpFeedback": []});
        says.say(
            "produce",
            json!({"mid": MID, "codecs": [codec], "headerExtensions": [],
                "encodings": [{"ssrc": self.ssrc}],
                "rtcp": {"cname": format!("player{}", self.index), "reducedSize": true}}),
        );
    }

    /// Sends where it is: in fact who it is, and when it says so.
    pub(super) fn send_location(&mut self, now: Instant) -> bool {
        let Some(producer) = &mut self.producer else {
            return false;
        };
        let sent = stamp::nanoseconds_at(now);
        let mut location = [0; LOCATION_BYTES];
        location[1..5].copy_from_slice(&(self.index as u32).to_le_bytes());
        location[5..13].copy_from_slice(&sent.to_le_bytes());
        producer.send(now, 0, &location)
    }

    pub(super) fn send_sound(&mut self) -> bool {
        let Some(producer) = &mut self.producer else {
            return false;
        };
        let Some(keys) = &mut producer.peer.keys else {
            return false;
        };
        self.sound += 1;
        let patch = Patch {
            sequence: self.sound as u16,
            timestamp: (self.sound * 960) as u32,
            ..Patch::default()
        };
        let mut header = [0; HEADER_BYTES_MAX];
        let header_bytes = self.template.write(&mut header, &patch);
        let mut payload = Vec::new();
        media::sound(self.sound as u32, &mut payload);
        let mut packet = header[..header_bytes].to_vec();
        packet.extend_from_slice(&payload);
        packet.resize(packet.len() + keys.outbound.rtp_tag_bytes(), 0);
        let roc = (self.sound >> 16) as u32;
        keys.outbound.protect_rtp(roc, header_bytes, &mut packet);
        producer.send_media(&packet).is_ok()
    }

    pub(super) fn transports(&mut self) -> impl Iterator<Item = &mut Transport> {
        self.producer.iter_mut().chain(&mut self.consumer)
    }
}

/// When a location was sent.
pub(super) fn location_sent(bytes: &[u8]) -> Option<u64> {
    let location: &[u8; LOCATION_BYTES] = bytes.try_into().ok()?;
    let time = location[5..13].first_chunk::<8>()?;
    Some(u64::from_le_bytes(*time))
}

fn connect(side: &str, context: &Context, says: &mut Says) {
    let fingerprint = context.certificate().fingerprint_text();
    let value = fingerprint.trim_start_matches("sha-256 ");
    says.say(
        "connect_transport",
        json!({"type": side, "dtlsParameters": {"role": "client",
            "fingerprints": [{"algorithm": "sha-256", "value": value}]}}),
    );
}

fn stream() -> Value {
    json!({"streamId": 0, "ordered": false, "maxRetransmits": 0})
}
