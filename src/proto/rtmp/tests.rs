//! Whole sessions: a server against a client, and a server against bytes made by hand.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::chunk::{Envelope, write_message};
use super::message::{Command, kind, object, write_command};
use super::*;
use crate::media::Codec;
use crate::proto::amf::Value;
use crate::proto::flv::samples::{ALL_CODECS, frame, now, track};
use crate::proto::flv::{Demuxer, TagKind, frame_head, sequence_header};

fn target() -> Target {
    Target {
        app: "live".to_owned(),
        name: "camera".to_owned(),
        query: "tkn=1".to_owned(),
        tc_url: "rtmp://host/live".to_owned(),
    }
}

/// A server session and what it did, driven by bytes.
struct Server {
    session: Session,
    now: Instant,
    events: Vec<Event>,
    /// Answers publish and play with yes.
    willing: bool,
}

impl Server {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let now = now();
        Self {
            session: Session::new(options, 1, now),
            now,
            events: Vec::new(),
            willing: true,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.session.handle_input(self.now, bytes);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(event) = self.session.poll_event() {
            if self.willing {
                match event {
                    Event::Publish(_) => self.session.accept_publish(),
                    Event::Play(..) => self.session.accept_play(),
                    Event::Track(_)
                    | Event::Frame(_)
                    | Event::Metadata(_)
                    | Event::BadMedia(_)
                    | Event::Pause(_)
                    | Event::Unpublish
                    | Event::StopPlay
                    | Event::Closed(_) => {}
                }
            }
            self.events.push(event);
        }
    }

    fn sent(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.session.poll_transmit())
            .flatten()
            .collect()
    }

    /// Handshake of a peer that sends zeros.
    fn shake_hands(&mut self) {
        let mut hello = vec![0; 1 + 2 * 1536];
        hello[0] = 3;
        self.feed(&hello);
        assert_eq!(self.sent().len(), 1 + 2 * 1536);
    }

    fn command(&mut self, name: &str, transaction: f64, arguments: &[Value]) {
        self.message(kind::COMMAND, &write_command(name, transaction, arguments));
    }

    fn message(&mut self, kind: u8, payload: &[u8]) {
        self.feed(&message(kind, 0, payload));
    }

    fn connect(&mut self) {
        self.shake_hands();
        let peer = object([("app", "live".into()), ("tcUrl", "rtmp://host/live".into())]);
        self.command("connect", 1.0, &[peer]);
    }

    /// Commands that were sent since the last time, at the announced chunk size.
    fn replies(&mut self) -> Vec<Command> {
        let announce = [2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 1, 0, 0];
        let mut reader = ChunkReader::new(1 << 20);
        assert_eq!(reader.read(&mut &announce[..]), Ok(None));
        let sent = self.sent();
        let mut input = &sent[..];
        let mut commands = Vec::new();
        while let Some(message) = reader.read(&mut input).unwrap() {
            if message.kind == kind::COMMAND {
                commands.extend(Command::read(&message));
            }
        }
        commands
    }

    fn codes(&mut self) -> Vec<String> {
        let code = |command: Command| {
            let code = command.arguments.get(1)?.property("code")?;
            code.as_str().map(str::to_owned)
        };
        self.replies().into_iter().filter_map(code).collect()
    }

    fn closed(&self) -> Option<CloseReason> {
        if let Some(Event::Closed(reason)) = self.events.last() {
            Some(*reason)
        } else {
            None
        }
    }

    fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(name).collect()
    }
}

/// One message of a client, in a single chunk of at most 128 bytes, or more chunks.
fn message(kind: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let envelope = Envelope {
        csid: 3,
        kind,
        stream_id: 1,
        timestamp,
    };
    let mut out = Vec::new();
    write_message(envelope, 128, &[payload], &mut out);
    out
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Publish(_) => "publish",
        Event::Play(..) => "play",
        Event::Track(_) => "track",
        Event::Frame(_) => "frame",
        Event::Metadata(_) => "metadata",
        Event::BadMedia(_) => "bad media",
        Event::Pause(_) => "pause",
        Event::Unpublish => "unpublish",
        Event::StopPlay => "stop play",
        Event::Closed(_) => "closed",
    }
}

/// Passes bytes between both until neither has any. Returns what the client sent and said.
fn run(server: &mut Server, client: &mut Client) -> (Vec<u8>, Vec<ClientEvent>) {
    let (mut recorded, mut events) = (Vec::new(), Vec::new());
    loop {
        let up = client.poll_transmit();
        if let Some(bytes) = &up {
            recorded.extend_from_slice(bytes);
            server.feed(bytes);
        }
        let down = server.session.poll_transmit();
        if let Some(bytes) = &down {
            client.handle_input(server.now, bytes);
        }
        events.extend(std::iter::from_fn(|| client.poll_event()));
        if up.is_none() && down.is_none() {
            return (recorded, events);
        }
    }
}

/// Everything a client sends that publishes one frame of every codec that can be alone.
fn recorded_publish() -> (Vec<u8>, Server) {
    let mut server = Server::new();
    let mut client = Client::publish(target(), 7, server.now);
    let (mut recorded, events) = run(&mut server, &mut client);
    assert_eq!(events, [ClientEvent::Connected, ClientEvent::Ready]);
    for codec in ALL_CODECS {
        let track = track(0, codec);
        let kind = match codec.kind() {
            crate::media::Kind::Video => TagKind::Video,
            crate::media::Kind::Audio => TagKind::Audio,
        };
        if let Some(header) = sequence_header(&track) {
            client.send_tag(kind, 0, &header);
        }
        let frame = frame(&track, 16_777_300, 16_777_300);
        let head = frame_head(&track, &frame);
        client.send_tag(kind, 16_777_300, &[&head[..], &frame.data].concat());
    }
    client.send_tag(TagKind::Video, 16_777_301, &[0x27, 1]);
    client.finish();
    let (more, events) = run(&mut server, &mut client);
    recorded.extend(more);
    assert_eq!(events, [ClientEvent::Closed(CloseReason::Ended)]);
    (recorded, server)
}

#[test]
fn publish_from_client_to_server() {
    let (_, server) = recorded_publish();
    let Event::Publish(got) = &server.events[0] else {
        panic!("{:?}", server.names());
    };
    assert_eq!(got, &target());
    let count = |wanted| {
        server
            .names()
            .iter()
            .filter(|name| **name == wanted)
            .count()
    };
    assert_eq!(count("track"), ALL_CODECS.len());
    assert_eq!(count("frame"), ALL_CODECS.len());
    assert_eq!(count("bad media"), 1);
    assert_eq!(server.names().last(), Some(&"unpublish"));
}

#[test]
fn bytes_in_any_pieces_give_the_same_events() {
    let (recorded, _) = recorded_publish();
    let now = now();
    let replay = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut server = Server::new();
        server.now = now;
        pieces.for_each(|piece| server.feed(piece));
        let events = format!("{:?}", server.events);
        (events, server.sent())
    };
    let at_once = replay(&mut std::iter::once(&recorded[..]));
    assert_eq!(replay(&mut recorded.chunks(1)), at_once);
    // The handshake's filler has no structure to cut through.
    for cut in (0..recorded.len()).filter(|cut| *cut < 4 || *cut > 3070) {
        let (before, after) = recorded.split_at(cut);
        assert_eq!(
            replay(&mut [before, after].into_iter()),
            at_once,
            "cut at {cut}"
        );
    }
}

#[test]
fn play_from_server_to_client() {
    let mut server = Server::new();
    let mut client = Client::play(target(), 7, server.now);
    let (_, events) = run(&mut server, &mut client);
    assert_eq!(events, [ClientEvent::Connected, ClientEvent::Ready]);
    let Event::Play(got, capabilities) = &server.events[0] else {
        panic!("{:?}", server.names());
    };
    assert_eq!(got, &target());
    assert!(capabilities.enhanced() && capabilities.can_decode(Codec::Av1));

    let tracks = [track(0, Codec::Hevc), track(1, Codec::Opus)];
    let mut muxer = Muxer::new(&tracks);
    let mut bytes = Vec::new();
    muxer.header(&mut bytes);
    muxer.write(&frame(&tracks[0], 40, 80), &mut bytes);
    muxer.write(&frame(&tracks[1], 41, 41), &mut bytes);
    client.handle_input(server.now, &bytes);
    let mut demuxer = Demuxer::new();
    while let Some(event) = client.poll_event() {
        let ClientEvent::Message(message) = event else {
            panic!("{event:?}");
        };
        demuxer
            .handle_tag(message.into_tag().unwrap(), server.now)
            .unwrap();
    }
    assert_eq!(std::iter::from_fn(|| demuxer.poll_event()).count(), 5);

    server.session.end_play();
    server.collect();
    assert_eq!(server.closed(), Some(CloseReason::Ended));
    let (_, events) = run(&mut server, &mut client);
    assert_eq!(events, [ClientEvent::Closed(CloseReason::Ended)]);
}

#[test]
fn a_refused_client_is_told() {
    for (client, refusal) in [
        (Client::publish(target(), 7, now()), Refusal::Busy),
        (Client::play(target(), 7, now()), Refusal::NotFound),
    ] {
        let mut client = client;
        let mut server = Server::new();
        server.willing = false;
        run(&mut server, &mut client);
        server.session.refuse_publish(refusal);
        server.session.refuse_play(refusal);
        server.collect();
        assert_eq!(server.closed(), Some(CloseReason::Refused(refusal)));
        let (_, events) = run(&mut server, &mut client);
        assert_eq!(events, [ClientEvent::Closed(CloseReason::ServerRefused)]);
    }
}

#[test]
fn refusals_have_the_codes_that_clients_know() {
    for (command, refusal, code) in [
        ("publish", Refusal::Busy, "NetStream.Publish.BadName"),
        ("play", Refusal::NotFound, "NetStream.Play.StreamNotFound"),
        ("play", Refusal::Denied, "NetStream.Play.Failed"),
    ] {
        let mut server = Server::new();
        server.willing = false;
        server.connect();
        server.command(command, 0.0, &[Value::Null, "camera".into()]);
        server.sent();
        server.session.refuse_publish(refusal);
        server.session.refuse_play(refusal);
        assert_eq!(server.codes(), [code]);
    }
}

#[test]
fn quirk_01_chunk_size_comes_before_any_long_reply() {
    let mut server = Server::new();
    server.connect();
    let sent = server.sent();
    let result_at = sent
        .windows(7)
        .position(|window| window == b"_result")
        .unwrap();
    let announced_at = sent
        .windows(8)
        .position(|w| w == [2, 0, 0, 0, 0, 0, 4, 1])
        .unwrap();
    assert!(announced_at < result_at);
    assert!(announced_at < 128, "nothing long comes before it");
}

#[test]
fn quirk_06_check_bandwidth_and_unknown_calls_are_answered() {
    let mut server = Server::new();
    server.connect();
    server.sent();
    for (transaction, call) in [
        (3.0, "_checkbw"),
        (4.0, "checkBandwidth"),
        (5.0, "anything"),
    ] {
        server.command(call, transaction, &[Value::Null]);
        let replies = server.replies();
        assert_eq!(replies.len(), 1, "{call}");
        assert_eq!(
            (replies[0].name.as_str(), replies[0].transaction),
            ("_result", transaction)
        );
    }
    server.command("anything", 0.0, &[Value::Null]);
    assert!(
        server.replies().is_empty(),
        "a call without number expects no answer"
    );
}

#[test]
fn quirk_07_play_is_answered_without_data_start() {
    let mut server = Server::new();
    server.connect();
    server.sent();
    server.command("play", 0.0, &[Value::Null, "camera".into()]);
    assert_eq!(
        server.codes(),
        ["NetStream.Play.Reset", "NetStream.Play.Start"]
    );
}

#[test]
fn quirk_08_names_reach_the_door_without_prefixes() {
    let mut server = Server::new();
    server.shake_hands();
    let peer = object([("app", "vod/_definst_".into())]);
    server.command("connect", 1.0, &[peer]);
    server.command("play", 0.0, &[Value::Null, "mp4:film?k=v".into()]);
    let Some(Event::Play(target, capabilities)) = server.events.first() else {
        panic!("{:?}", server.names());
    };
    assert_eq!(
        (&target.app[..], &target.name[..], &target.query[..]),
        ("vod", "film", "k=v")
    );
    assert!(!capabilities.enhanced());
}

#[test]
fn quirk_09_pause_is_told_and_close_ends_the_play() {
    let mut server = Server::new();
    server.connect();
    server.command("play", 0.0, &[Value::Null, "camera".into()]);
    server.command("pause", 0.0, &[Value::Null, true.into(), 0.0.into()]);
    server.command("pause", 0.0, &[Value::Null, false.into(), 0.0.into()]);
    server.command("closeStream", 0.0, &[Value::Null]);
    assert_eq!(server.names(), ["play", "pause", "pause", "stop play"]);
    let (deadline, _) = server.session.poll_timeout().unwrap();
    server.session.handle_timeout(deadline);
    server.collect();
    assert_eq!(server.closed(), Some(CloseReason::CommandTimeout));
}

#[test]
fn quirk_10_enhanced_capabilities_are_answered_when_offered() {
    let reply = |peer: Value| {
        let mut server = Server::new();
        server.shake_hands();
        server.command("connect", 1.0, &[peer]);
        server.replies().remove(0).arguments.remove(0)
    };
    let plain = reply(object([("app", "live".into())]));
    assert!(plain.property("fourCcList").is_none());
    let list = Value::StrictArray(vec!["*".into()]);
    let enhanced = reply(object([("app", "live".into()), ("fourCcList", list)]));
    assert!(enhanced.property("fourCcList").is_some());
    assert!(enhanced.property("videoFourCcInfoMap").is_some());
}

#[test]
fn commands_of_encoders_are_answered() {
    let mut server = Server::new();
    server.connect();
    server.sent();
    server.command("releaseStream", 2.0, &[Value::Null, "camera".into()]);
    server.command("FCPublish", 3.0, &[Value::Null, "camera".into()]);
    server.command("createStream", 4.0, &[Value::Null]);
    let replies = server.replies();
    let names: Vec<_> = replies.iter().map(|reply| reply.name.as_str()).collect();
    assert_eq!(names, ["_result", "_result", "onFCPublish", "_result"]);
    assert_eq!(replies[3].arguments[1], Value::Number(1.0));
    server.command(
        "publish",
        5.0,
        &[Value::Null, "camera".into(), "live".into()],
    );
    assert_eq!(server.codes(), ["NetStream.Publish.Start"]);
    server.command("FCUnpublish", 6.0, &[Value::Null, "camera".into()]);
    server.command("deleteStream", 7.0, &[Value::Null, 1.0.into()]);
    assert_eq!(server.names(), ["publish", "unpublish"]);
    server.command("getStreamLength", 8.0, &[Value::Null, "camera".into()]);
    server.command("FCSubscribe", 9.0, &[Value::Null, "camera".into()]);
    assert_eq!(
        server.codes(),
        ["NetStream.Unpublish.Success", "NetStream.Play.Start"]
    );
}

#[test]
fn metadata_comes_as_data_and_as_command() {
    let mut server = Server::new();
    server.connect();
    server.command("publish", 0.0, &[Value::Null, "camera".into()]);
    let metadata = object([("width", 640.0.into())]);
    let mut data = Vec::new();
    Value::from("@setDataFrame").write(&mut data);
    Value::from("onMetaData").write(&mut data);
    metadata.write(&mut data);
    server.message(kind::DATA, &data);
    server.message(kind::DATA_AMF3, &[&[0], &data[..]].concat());
    server.message(kind::COMMAND, &data);
    assert_eq!(
        server.names(),
        ["publish", "metadata", "metadata", "metadata"]
    );
}

#[test]
fn aggregates_become_frames() {
    let mut server = Server::new();
    server.connect();
    server.command("publish", 0.0, &[Value::Null, "camera".into()]);
    server.message(kind::AUDIO, &[0xaf, 0, 0x12, 0x10]);
    let tag = |ms: u8| [8, 0, 0, 3, 0, 0, ms, 0, 0, 0, 0, 0xaf, 1, 7, 0, 0, 0, 14];
    let aggregate = [tag(5), tag(28)].concat();
    server.feed(&message(kind::AGGREGATE, 2000, &aggregate));
    let time = |event: &Event| {
        if let Event::Frame(frame) = event {
            Some(frame.dts.as_millis())
        } else {
            None
        }
    };
    let times: Vec<_> = server.events.iter().filter_map(time).collect();
    assert_eq!(times, [2000, 2023]);
}

#[test]
fn media_before_the_answer_is_held_within_bounds() {
    let options = Options {
        held_bytes_max: 4000,
        ..Options::default()
    };
    let mut server = Server::with(options);
    server.willing = false;
    server.connect();
    server.command("publish", 0.0, &[Value::Null, "camera".into()]);
    server.message(kind::AUDIO, &[0xaf, 0, 0x12, 0x10]);
    server.message(kind::AUDIO, &[0xaf, 1, 7]);
    assert_eq!(server.names(), ["publish"]);
    server.session.accept_publish();
    server.collect();
    assert_eq!(server.names(), ["publish", "track", "frame"]);

    let mut server = Server::with(options);
    server.willing = false;
    server.connect();
    server.command("publish", 0.0, &[Value::Null, "camera".into()]);
    (0..10).for_each(|_| server.message(kind::VIDEO, &[0; 500]));
    assert_eq!(
        server.closed(),
        Some(CloseReason::Protocol(Error::HeldTooLarge))
    );
}

#[test]
fn limits_close_the_connection() {
    let mut server = Server::new();
    server.feed(b"GET / HTTP/1.1\r\n");
    assert_eq!(server.closed(), Some(CloseReason::Protocol(Error::Version)));
    server.feed(&[3; 100]);
    assert_eq!(server.events.len(), 1, "nothing happens after the end");

    let mut server = Server::new();
    server.connect();
    server.message(kind::COMMAND, &vec![0; message::COMMAND_BYTES_MAX + 1]);
    assert_eq!(
        server.closed(),
        Some(CloseReason::Protocol(Error::CommandTooLarge))
    );

    let mut server = Server::new();
    server.connect();
    let ping = message(kind::USER_CONTROL, 0, &[0, 6, 0, 0, 0, 1]);
    server.feed(&ping.repeat(REPLY_BYTES_MAX / 18 + 1));
    assert_eq!(
        server.closed(),
        Some(CloseReason::Protocol(Error::RepliesTooLarge))
    );
}

#[test]
fn timeouts() {
    let mut server = Server::new();
    let (deadline, reason) = server.session.poll_timeout().unwrap();
    assert_eq!(
        (deadline - server.now, reason),
        (Duration::from_secs(10), "command")
    );
    server
        .session
        .handle_timeout(deadline - Duration::from_millis(1));
    server.collect();
    assert!(server.events.is_empty());

    server.connect();
    server.command("publish", 0.0, &[Value::Null, "camera".into()]);
    server.now += Duration::from_secs(5);
    server.message(kind::ACKNOWLEDGEMENT, &[0; 4]);
    let (deadline, reason) = server.session.poll_timeout().unwrap();
    assert_eq!(
        (deadline - server.now, reason),
        (Duration::from_secs(30), "publisher idle")
    );
    server.session.handle_timeout(deadline);
    server.collect();
    assert_eq!(server.closed(), Some(CloseReason::PublisherIdle));
    assert_eq!(server.session.poll_timeout(), None);
}

#[test]
fn pings_and_windows_are_answered() {
    let mut server = Server::new();
    server.connect();
    server.sent();
    server.message(kind::USER_CONTROL, &[0, 6, 1, 2, 3, 4]);
    assert_eq!(server.sent()[12..], [0, 7, 1, 2, 3, 4]);
    server.message(kind::WINDOW_ACKNOWLEDGEMENT_SIZE, &[0, 0, 0x20, 0]);
    let window = 0x2000;
    assert!(server.sent().is_empty(), "the window is not full");
    server.message(kind::AUDIO, &vec![0; window]);
    let sent = server.sent();
    assert_eq!((sent[7], sent.len()), (kind::ACKNOWLEDGEMENT, 16));
    assert!(u32::from_be_bytes(sent[12..].try_into().unwrap()) > window as u32);
    server.message(kind::WINDOW_ACKNOWLEDGEMENT_SIZE, &[0]);
    assert_eq!(
        server.closed(),
        Some(CloseReason::Protocol(Error::ControlTooShort))
    );
}

#[test]
fn a_player_may_change_the_stream_and_a_publisher_may_come_back() {
    let mut server = Server::new();
    server.connect();
    server.command("play", 0.0, &[Value::Null, "one".into()]);
    server.command("play", 0.0, &[Value::Null, "two".into()]);
    server.command("publish", 0.0, &[Value::Null, "two".into()]);
    server.command("play", 0.0, &[Value::Null, false.into()]);
    server.command("publish", 0.0, &[Value::Null, "one".into()]);
    server.command("play", 0.0, &[Value::Null, "one".into()]);
    server.command("publish", 0.0, &[Value::Null, false.into()]);
    assert_eq!(
        server.names(),
        [
            "play",
            "stop play",
            "play",
            "stop play",
            "publish",
            "unpublish"
        ]
    );
}

#[test]
fn an_answer_that_comes_too_late_does_nothing() {
    let mut server = Server::new();
    server.willing = false;
    server.connect();
    server.command("play", 0.0, &[Value::Null, "one".into()]);
    server.command("deleteStream", 0.0, &[Value::Null, 1.0.into()]);
    server.sent();
    server.session.accept_play();
    server.session.accept_publish();
    server.session.refuse_play(Refusal::Failed);
    server.session.end_play();
    assert_eq!(server.session.poll_transmit(), None::<Bytes>);
}

#[test]
fn a_waiting_player_is_small() {
    let mut server = Server::new();
    server.connect();
    server.command("createStream", 2.0, &[Value::Null]);
    server.command("play", 3.0, &[Value::Null, "camera".into()]);
    server.sent();
    assert!(size_of::<Session>() <= 640, "{}", size_of::<Session>());
    assert!(
        server.session.heap_bytes() <= 1024,
        "{}",
        server.session.heap_bytes()
    );
}
