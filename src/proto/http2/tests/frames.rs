//! Frames that break RFC 9113, by its sections.

use super::*;
use crate::proto::http::Response;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;

/// What a peer is told after some input.
#[derive(PartialEq, Eq, Debug)]
enum Told {
    GoAway(u32),
    Reset(u32, u32),
    Nothing,
}

fn told(input: &[Vec<u8>]) -> Told {
    let (now, mut session) = raw(Options::default());
    session.handle_input(now, &input.concat());
    let sent = sent(&mut session);
    let mut events = Vec::new();
    while let Some(event) = session.poll_event() {
        events.push(event);
    }
    if let Some(frame) = sent.iter().find(|frame| frame.kind == 7) {
        let closed = Event::Closed(CloseReason::Protocol(frame.code()));
        assert_eq!(events.last(), Some(&closed));
        return Told::GoAway(frame.code());
    }
    assert!(session.poll_timeout().is_some() || session.streams() > 0);
    match sent.iter().find(|frame| frame.kind == 3) {
        Some(frame) => Told::Reset(frame.stream, frame.code()),
        None => Told::Nothing,
    }
}

/// True if the connection ends. `h2` says PROTOCOL_ERROR where the RFC has a narrower code, and
/// ends the connection over some errors of a stream, which RFC 9113 section 5.4.1 allows.
fn ends(input: &[Vec<u8>]) -> bool {
    matches!(told(input), Told::GoAway(_))
}

fn headers(stream: u32) -> Vec<u8> {
    frame(1, 5, stream, &block(&[]))
}

fn open(stream: u32) -> Vec<u8> {
    frame(1, 4, stream, &block(&[]))
}

#[test]
fn a_bad_preface_closes_the_connection() {
    for input in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        for piece in [1, input.len()] {
            let now = start();
            let mut session = Session::new(now, Options::default());
            for bytes in input.chunks(piece) {
                session.handle_input(now, bytes);
            }
            let closed = Event::Closed(CloseReason::Protocol(PROTOCOL_ERROR));
            assert_eq!(session.poll_event(), Some(closed));
            assert_eq!(session.poll_event(), None);
        }
    }
}

#[test]
fn the_preface_may_come_with_everything_in_pieces_of_any_size() {
    let input = [
        PREFACE.to_vec(),
        frame(4, 0, 0, &[0, 3, 0, 0, 0, 9]),
        headers(1),
        frame(6, 0, 0, &[7; 8]),
        frame(1, 4, 3, &block(&[("content-length", "5")])),
        frame(0, 1, 3, b"hello"),
    ]
    .concat();
    let converse = |piece: usize| {
        let now = start();
        let mut session = Session::new(now, Options::default());
        let mut requests = Vec::new();
        for bytes in input.chunks(piece) {
            session.handle_input(now, bytes);
            while let Some(event) = session.poll_event() {
                let Event::Request(stream, request) = event else {
                    panic!("{event:?}");
                };
                session.respond(now, stream, Response::text(200, "a"));
                requests.push(request);
            }
        }
        let mut frames = sent(&mut session);
        frames.sort_by_key(|frame| (frame.stream, frame.kind, frame.flags));
        (requests, frames)
    };
    let whole = converse(input.len());
    assert_eq!(whole.0.len(), 2);
    assert_eq!(whole.0[1].body, "hello");
    for piece in 1..60 {
        assert_eq!(converse(piece), whole, "pieces of {piece}");
    }
}

#[test]
fn section_4_frame_format() {
    // 4.2: a frame of the largest size is read, a larger one is not.
    let ping_of_20_000 = frame(0xbe, 0, 0, &[0; 20_000]);
    assert_eq!(told(&[ping_of_20_000]), Told::GoAway(FRAME_SIZE_ERROR));
    assert_eq!(told(&[frame(0xbe, 0, 0, &[0; 16_384])]), Told::Nothing);
    // 4.1: unknown types and flags are ignored.
    assert_eq!(told(&[frame(0xbe, 0xff, 5, b"any")]), Told::Nothing);
    // 4.3: a block that cannot be decoded.
    let bad = frame(1, 5, 1, &[0x40]);
    assert!(ends(&[bad]));
}

#[test]
fn section_5_streams() {
    // 5.1: DATA, RST_STREAM, WINDOW_UPDATE on an idle stream.
    assert_eq!(told(&[frame(0, 0, 1, b"a")]), Told::GoAway(PROTOCOL_ERROR));
    assert_eq!(
        told(&[frame(3, 0, 1, &[0; 4])]),
        Told::GoAway(PROTOCOL_ERROR)
    );
    assert_eq!(
        told(&[frame(8, 0, 1, &[0, 0, 0, 1])]),
        Told::GoAway(PROTOCOL_ERROR)
    );
    // 5.1.1: even numbers, and numbers that go back.
    assert_eq!(told(&[headers(2)]), Told::GoAway(PROTOCOL_ERROR));
    assert!(matches!(
        told(&[headers(5), headers(3)]),
        Told::GoAway(PROTOCOL_ERROR | STREAM_CLOSED)
    ));
    // 5.1: DATA on a stream that the peer has ended.
    assert!(ends(&[headers(1), frame(0, 0, 1, b"a")]));
}

#[test]
fn section_6_frames() {
    // 6.1, 6.2, 6.4: frames that need a stream.
    assert_eq!(told(&[frame(0, 0, 0, b"a")]), Told::GoAway(PROTOCOL_ERROR));
    assert_eq!(told(&[headers(0)]), Told::GoAway(PROTOCOL_ERROR));
    assert_eq!(
        told(&[frame(3, 0, 0, &[0; 4])]),
        Told::GoAway(PROTOCOL_ERROR)
    );
    // 6.1: padding that is longer than the frame.
    assert_eq!(
        told(&[open(1), frame(0, 8, 1, &[5, 0, 0])]),
        Told::GoAway(PROTOCOL_ERROR)
    );
    // 6.4, 6.7, 6.9: sizes.
    assert!(ends(&[headers(1), frame(3, 0, 1, &[0; 3])]));
    assert!(ends(&[frame(6, 0, 0, &[0; 7])]));
    assert!(ends(&[frame(8, 0, 0, &[0; 3])]));
    // 6.6: a client pushes nothing.
    assert_eq!(
        told(&[headers(1), frame(5, 4, 1, &[0, 0, 0, 2])]),
        Told::GoAway(PROTOCOL_ERROR)
    );
}

#[test]
fn section_6_5_settings() {
    for (setting, value) in [(2, 2), (4, 1 << 31), (5, 16_383), (5, 1 << 24)] {
        let mut payload = vec![0, setting];
        payload.extend_from_slice(&u32::to_be_bytes(value));
        let ends = ends(&[frame(4, 0, 0, &payload)]);
        assert!(ends, "setting {setting} = {value}");
    }
    // Unknown ones are ignored.
    assert_eq!(told(&[frame(4, 0, 0, &[0, 99, 1, 2, 3, 4])]), Told::Nothing);
    // On a stream, of a bad size, an answer that says something, an answer to nothing.
    assert_eq!(told(&[frame(4, 0, 1, &[])]), Told::GoAway(PROTOCOL_ERROR));
    assert!(ends(&[frame(4, 0, 0, &[0; 5])]));
    assert!(ends(&[frame(4, 1, 0, &[0, 1, 0, 0, 0, 0])]));
    assert_eq!(told(&[frame(4, 1, 0, &[])]), Told::GoAway(PROTOCOL_ERROR));
}

#[test]
fn section_6_9_windows() {
    assert_eq!(
        told(&[frame(8, 0, 0, &[0; 4])]),
        Told::GoAway(PROTOCOL_ERROR)
    );
    // The connection's window past 2^31 - 1, and a stream's.
    let most = [0x7f, 0xff, 0xff, 0xff];
    assert_eq!(
        told(&[frame(8, 0, 0, &most)]),
        Told::GoAway(FLOW_CONTROL_ERROR)
    );
    assert_eq!(
        told(&[headers(1), frame(8, 0, 1, &most)]),
        Told::Reset(1, FLOW_CONTROL_ERROR)
    );
    // A setting that takes the window of an open stream past it.
    let setting = [0, 4, 0x7f, 0xff, 0xff, 0xff];
    assert_eq!(
        told(&[
            headers(1),
            frame(8, 0, 1, &[0, 0, 0, 1]),
            frame(4, 0, 0, &setting)
        ]),
        Told::GoAway(FLOW_CONTROL_ERROR)
    );
}

#[test]
fn section_6_10_continuation() {
    let (front, back) = (block(&[]), field("a", "b"));
    let begin = frame(1, 1, 1, &front);
    assert_eq!(told(&[begin.clone(), frame(9, 4, 1, &back)]), Told::Nothing);
    // Interrupted by another frame, another stream's, or an unknown one; or without a beginning.
    for other in [
        frame(6, 0, 0, &[0; 8]),
        frame(9, 4, 3, &back),
        headers(3),
        frame(0xbe, 0, 0, b"x"),
    ] {
        let told = told(&[begin.clone(), other.clone()]);
        assert_eq!(told, Told::GoAway(PROTOCOL_ERROR), "{other:?}");
    }
    assert_eq!(
        told(&[headers(1), frame(9, 4, 1, &back)]),
        Told::GoAway(PROTOCOL_ERROR)
    );
}

#[test]
fn section_8_malformed_requests() {
    let with = |fields: &[(&str, &str)]| told(&[frame(1, 5, 1, &block(fields))]);
    let bare = |list: &[(&str, &str)]| told(&[frame(1, 5, 1, &fields(list))]);
    let (method, scheme, path) = ((":method", "GET"), (":scheme", "https"), (":path", "/"));
    for (told, what) in [
        (with(&[("X-Upper", "a")]), "upper case"),
        (with(&[("a b", "a")]), "a name that is none"),
        (with(&[("connection", "close")]), "connection"),
        (with(&[("transfer-encoding", "chunked")]), "coding"),
        (with(&[("te", "gzip")]), "te"),
        (with(&[(":path", "/")]), "a pseudo field twice"),
        (with(&[(":status", "200")]), "a field of responses"),
        (with(&[(":unknown", "a")]), "an unknown pseudo field"),
        (with(&[("a", "b"), (":scheme", "https")]), "after a field"),
        (with(&[("a", "b\r\nc")]), "a line break"),
        (bare(&[scheme, path]), "no method"),
        (bare(&[method, path]), "no scheme"),
        (bare(&[method, scheme, (":authority", "a")]), "no path"),
        (bare(&[method, scheme, (":path", "")]), "an empty path"),
    ] {
        assert!(
            matches!(
                told,
                Told::Reset(1, PROTOCOL_ERROR) | Told::GoAway(PROTOCOL_ERROR)
            ),
            "{what}: {told:?}"
        );
    }
    assert_eq!(with(&[("te", "trailers")]), Told::Nothing);
    // Neither path nor authority passes `h2` and is answered; 400 is index 12 of HPACK's table.
    let (now, mut session) = raw(Options::default());
    let list = fields(&[method, scheme, ("host", "a")]);
    session.handle_input(now, &frame(1, 5, 1, &list));
    assert_eq!(session.poll_event(), None);
    assert_eq!(sent(&mut session)[0].payload[0], 0x80 | 12);
}

#[test]
fn section_8_1_1_content_length() {
    let head = |flags| frame(1, flags, 1, &block(&[("content-length", "5")]));
    let reset = Told::Reset(1, PROTOCOL_ERROR);
    assert_eq!(told(&[head(4), frame(0, 1, 1, b"hello")]), Told::Nothing);
    assert_eq!(told(&[head(4), frame(0, 1, 1, b"hell")]), reset);
    assert_eq!(told(&[head(4), frame(0, 1, 1, b"hello!")]), reset);
    assert_eq!(told(&[head(5)]), reset, "no body at all");
}

#[test]
fn trailing_fields_end_a_body_and_are_dropped() {
    let (now, mut session) = raw(Options::default());
    session.handle_input(now, &open(1));
    session.handle_input(now, &frame(0, 0, 1, b"hello"));
    assert_eq!(session.poll_event(), None);
    session.handle_input(now, &frame(1, 5, 1, &field("a", "b")));
    let (_, request) = request(&mut session);
    assert_eq!(request.body, "hello");
    assert_eq!(request.header("a"), None);
    // 8.1: trailing fields without the end of the stream.
    let told = told(&[open(1), frame(1, 4, 1, &field("a", "b"))]);
    assert_eq!(told, Told::Reset(1, PROTOCOL_ERROR));
}

#[test]
fn a_ping_is_answered_and_goaway_ends() {
    let (now, mut session) = raw(Options::default());
    session.handle_input(now, &frame(6, 0, 0, b"abcdefgh"));
    let pong = sent(&mut session);
    assert_eq!((pong[0].kind, pong[0].flags), (6, 1));
    assert_eq!(pong[0].payload, b"abcdefgh");
    session.handle_input(now, &frame(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 2]));
    assert_eq!(
        session.poll_event(),
        Some(Event::Closed(CloseReason::Peer(2)))
    );
    let (now, mut session) = raw(Options::default());
    session.handle_input(now, &frame(7, 0, 0, &[0; 8]));
    assert_eq!(
        session.poll_event(),
        Some(Event::Closed(CloseReason::Finished))
    );
}
