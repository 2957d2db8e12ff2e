use serde_json::{Value, json};

use super::message::{Request, Response, Side, World};
use super::{Dialect, Error, Frame, four};

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../../../tests/data/unavi/", $name))
    };
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn every_vector_of_generation_four_from_a_client_is_read() {
    let vectors: Vec<Value> = serde_json::from_str(data!("gen4_protobuf_vectors.json")).unwrap();
    let mut count = 0;
    for vector in vectors.iter().filter(|vector| vector["type"] == "Request") {
        let bytes = unhex(vector["hex"].as_str().unwrap());
        let read = Dialect::Four.read(&bytes);
        assert!(read.is_ok(), "{}: {read:?}", vector["name"]);
        // The JSON form says the same.
        let text = vector["json"].to_string();
        let from_text = Dialect::Four.read(text.as_bytes());
        assert_eq!(from_text, read, "{}", vector["name"]);
        count += 1;
    }
    assert_eq!(count, 17);
}

#[test]
fn every_vector_of_generation_four_to_a_client_has_our_layout() {
    let vectors: Vec<Value> = serde_json::from_str(data!("gen4_protobuf_vectors.json")).unwrap();
    let mut count = 0;
    for vector in vectors.iter().filter(|vector| vector["type"] == "Response") {
        let bytes = unhex(vector["hex"].as_str().unwrap());
        let response = four::response_of(&bytes);
        let again = prost::Message::encode_to_vec(&response);
        let is_map = vector["name"] == "playerJoined";
        if is_map {
            // The order of a map is nobody's.
            assert_eq!(four::response_of(&again), response);
        } else {
            assert_eq!(again, bytes, "{}", vector["name"]);
        }
        count += 1;
    }
    assert_eq!(count, 18);
}

#[test]
fn what_is_written_is_what_the_original_wrote() {
    let vectors: Vec<Value> = serde_json::from_str(data!("gen4_protobuf_vectors.json")).unwrap();
    let named = |name: &str| {
        let vector = vectors.iter().find(|vector| vector["name"] == name);
        unhex(vector.expect(name)["hex"].as_str().unwrap())
    };
    let written = |response: &Response| match Dialect::Four.write(response) {
        Some(Frame::Binary(bytes)) => bytes,
        other => panic!("{other:?}"),
    };
    let cases = [
        ("joinSuccess.playerId0", joined("w", 0)),
        ("joinSuccess", joined("https://example.com/world.json", 7)),
        ("playerLeft", Response::PlayerLeft(200)),
        (
            "chatMessage",
            Response::Chat {
                player: 200,
                text: "hello".to_owned(),
                unix_ms: 1,
            },
        ),
        (
            "playerData",
            Response::Data {
                player: 200,
                key: "nickname".to_owned(),
                value: Some("Lain".to_owned()),
            },
        ),
        (
            "event",
            Response::Event {
                player: 200,
                data: vec![1, 2, 3, 255].into(),
            },
        ),
        ("playerJoined.empty.id0", player_joined(0)),
        (
            "transportConnected.producer.true",
            Response::TransportConnected {
                side: Side::Producer,
                success: true,
            },
        ),
        (
            "transportConnected.consumer.false",
            Response::TransportConnected {
                side: Side::Consumer,
                success: false,
            },
        ),
    ];
    for (name, response) in cases {
        assert_eq!(written(&response), named(name), "{name}");
    }
}

fn joined(world: &str, player: u8) -> Response {
    Response::Joined {
        world: World::Uri(world.to_owned()),
        player,
        resume: None,
    }
}

fn player_joined(player: u8) -> Response {
    Response::PlayerJoined {
        player,
        data: Vec::new(),
        before_you: false,
    }
}

#[test]
fn the_capabilities_are_mediasoups() {
    let expected: Value = serde_json::from_str(data!("router_rtp_capabilities.json")).unwrap();
    for (dialect, key) in [(Dialect::Two, "subject"), (Dialect::ThreeA, "id")] {
        let Some(Frame::Text(text)) = dialect.write(&Response::Capabilities) else {
            panic!("no text");
        };
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert!(frame[key].is_string());
        assert_eq!(frame["data"], expected);
    }
    // For generation 4 with two fields more, which others skip.
    let vectors: Vec<Value> = serde_json::from_str(data!("gen4_protobuf_vectors.json")).unwrap();
    let vector = vectors
        .iter()
        .find(|vector| vector["name"] == "routerRtpCapabilities")
        .unwrap();
    let original = four::response_of(&unhex(vector["hex"].as_str().unwrap()));
    let Some(Frame::Binary(bytes)) = Dialect::Four.write(&Response::Capabilities) else {
        panic!("no bytes");
    };
    let mut ours = four::response_of(&bytes);
    four::strip_extended(&mut ours);
    assert_eq!(ours, original);
}

#[test]
fn text_frames_of_generation_four() {
    let cases: Vec<Value> = serde_json::from_str(data!("gen4_text_frames.json")).unwrap();
    for case in &cases {
        let json = &case["asJson"];
        let text = json["json"].as_str().unwrap_or("{\"nope\":{}}");
        let read = Dialect::Four.read(text.as_bytes());
        assert_eq!(read.is_ok(), json["ok"] == true, "{text}: {read:?}");
    }
    assert_eq!(Dialect::Four.read(b"{\"join\""), Err(Error::Syntax));
    assert_eq!(
        Dialect::Four.read(b"{\"join\":{\"nope\":1}}"),
        Err(Error::Unknown)
    );
}

#[test]
fn examples_of_the_json_dialects_are_read() {
    let examples: Value = serde_json::from_str(data!("json_dialect_examples.json")).unwrap();
    for (dialect, name) in [(Dialect::Two, "gen2"), (Dialect::ThreeA, "gen3a")] {
        let frames = examples[name]["to_host"].as_array().unwrap();
        assert!(frames.len() > 5);
        for frame in frames {
            let text = frame.to_string();
            assert_eq!(Dialect::of(text.as_bytes(), true), Ok(dialect), "{text}");
            let read = dialect.read(text.as_bytes());
            assert!(read.is_ok(), "{text}: {read:?}");
        }
    }
}

#[test]
fn the_first_frame_tells_the_dialect() {
    let of = |text: &str| Dialect::of(text.as_bytes(), true);
    assert_eq!(Dialect::of(b"\x22\x00", false), Ok(Dialect::Four));
    assert_eq!(of(r#"{"subject":"join","data":7}"#), Ok(Dialect::Two));
    assert_eq!(of(r#"{"id":"xyz.unavi.world.join"}"#), Ok(Dialect::ThreeA));
    assert_eq!(
        of(r#"{"id":"com.wired-protocol.world.join"}"#),
        Ok(Dialect::ThreeB)
    );
    assert_eq!(of(r#"{"join":{"world":"w"}}"#), Ok(Dialect::Four));
    assert_eq!(of(r#"{"id":"example"}"#), Err(Error::Unknown));
    assert_eq!(of("[]"), Err(Error::Syntax));
    assert_eq!(
        of("nope"),
        Err(Error::Syntax),
        "ended the original's process"
    );
    assert_eq!(of(""), Err(Error::Empty));
}

#[test]
fn what_one_dialect_says_others_understand() {
    let said = Dialect::Two.read(br#"{"subject":"set_grounded","data":false}"#);
    let falling = Request::SetData(vec![("falling".to_owned(), Some("true".to_owned()))]);
    assert_eq!(said, Ok(falling));
    let told = Response::Data {
        player: 9,
        key: "falling".to_owned(),
        value: Some("true".to_owned()),
    };
    let text = |dialect: Dialect| match dialect.write(&told) {
        Some(Frame::Text(text)) => serde_json::from_str::<Value>(&text).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        text(Dialect::Two),
        json!({"subject": "player_grounded", "data": {"playerId": 9, "grounded": false}})
    );
    assert_eq!(
        text(Dialect::ThreeA),
        json!({"id": "xyz.unavi.world.player.grounded", "data": {"playerId": 9, "grounded": false}})
    );
    assert_eq!(
        text(Dialect::ThreeB),
        json!({"id": "com.wired-protocol.world.player.falling", "data": {"playerId": 9, "falling": true}})
    );
}

#[test]
fn nobody_speaks_in_the_servers_name() {
    let forged = br#"{"id":"com.wired-protocol.world.player.leave","data":3,"target":"client"}"#;
    assert_eq!(Dialect::ThreeB.read(forged), Err(Error::Forged));
    let own = r#"{"id":"com.example.wave","data":3,"target":"client"}"#;
    assert_eq!(
        Dialect::ThreeB.read(own.as_bytes()),
        Ok(Request::Relay(own.to_owned()))
    );
}

#[test]
fn lists_and_numbers_are_bounded() {
    let long = json!({"subject": "set_rtp_capabilities", "data": {"codecs": vec![json!({}); 65]}});
    assert_eq!(
        Dialect::Two.read(long.to_string().as_bytes()),
        Err(Error::TooLarge)
    );
    for data in [
        json!({"streamId": 65_535}),
        json!({"streamId": -1}),
        json!({"streamId": 0, "maxRetransmits": 70_000}),
        json!({}),
        json!(null),
    ] {
        let text = json!({"subject": "produce_data", "data": data}).to_string();
        assert_eq!(Dialect::Two.read(text.as_bytes()), Err(Error::Contents));
    }
}
