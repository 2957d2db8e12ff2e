//! Peers that ask for more than their share.

use std::time::Duration;

use super::*;
use crate::proto::http::Response;

/// ENHANCE_YOUR_CALM.
const CALM: u32 = 11;

fn closed_for(session: &mut Session, reason: CloseReason, code: u32) {
    let mut events = Vec::new();
    while let Some(event) = session.poll_event() {
        events.push(event);
    }
    assert_eq!(events.last(), Some(&Event::Closed(reason)));
    let sent = sent(session);
    let last = sent.last().expect("a GOAWAY was sent");
    assert_eq!((last.kind, last.code()), (7, code));
    assert_eq!(session.poll_timeout(), None);
    assert_eq!(session.queued_bytes_total(), 0);
}

#[test]
fn rapid_resets_end_the_connection() {
    // CVE-2023-44487: each request is given up at once, so that its cost is this side's alone.
    let (now, mut session) = raw(Options::default());
    let mut input = Vec::new();
    for n in 0..10_000u32 {
        input.extend(frame(1, 5, n * 2 + 1, &block(&[])));
        input.extend(frame(3, 0, n * 2 + 1, &[0, 0, 0, 8]));
    }
    session.handle_input(now, &input);
    assert!(session.requests() <= 250, "{}", session.requests());
    let closed = std::iter::from_fn(|| session.poll_event()).last();
    assert!(matches!(
        closed,
        Some(Event::Closed(
            CloseReason::Flood(Flood::Resets) | CloseReason::Protocol(CALM)
        ))
    ));
    assert_eq!(session.streams(), 0);
}

#[test]
fn rapid_resets_in_small_pieces_end_the_connection() {
    let (now, mut session) = raw(Options::default());
    let (mut events, mut most) = (0, 0);
    for n in 0..10_000u32 {
        session.handle_input(now, &frame(1, 5, n * 2 + 1, &block(&[])));
        while let Some(Event::Request(stream, _)) = session.poll_event() {
            session.respond(now, stream, Response::text(200, "a".repeat(50_000)));
            events += 1;
        }
        session.handle_input(now, &frame(3, 0, n * 2 + 1, &[0, 0, 0, 8]));
        most = most.max(session.queued_bytes_total());
        if session.poll_timeout().is_none() {
            break;
        }
    }
    assert!(events <= 201, "{events}");
    assert!(most <= 200_000, "{most}");
    closed_for(&mut session, CloseReason::Flood(Flood::Resets), CALM);
}

#[test]
fn streams_in_error_end_the_connection() {
    // Each is reset by this side instead: a self-dependency or a malformed head.
    let (now, mut session) = raw(Options::default());
    for n in 0..10_000u32 {
        let head = fields(&[(":method", "GET")]);
        session.handle_input(now, &frame(1, 5, n * 2 + 1, &head));
        while session.poll_transmit().is_some() {}
        if session.poll_timeout().is_none() {
            assert!(n <= 101, "{n}");
            let closed = Event::Closed(CloseReason::Protocol(CALM));
            assert_eq!(session.poll_event(), Some(closed));
            return;
        }
    }
    panic!("it goes on");
}

#[test]
fn more_streams_than_allowed_are_refused() {
    let (now, mut session) = raw(Options::default());
    for n in 0..110u32 {
        session.handle_input(now, &frame(1, 5, n * 2 + 1, &block(&[])));
    }
    assert_eq!(session.streams(), 100);
    let refused: Vec<_> = sent(&mut session)
        .into_iter()
        .filter(|frame| frame.kind == 3)
        .collect();
    assert_eq!(refused.len(), 10);
    // REFUSED_STREAM.
    assert!(refused.iter().all(|frame| frame.code() == 7));
}

#[test]
fn floods_of_control_frames_end_the_connection() {
    for (kind, stream, payload) in [
        (6, 0, &[0; 8][..]),
        (4, 0, &[]),
        (2, 1, &[0, 0, 0, 0, 16]),
        (0xbe, 0, b"unknown"),
    ] {
        let (now, mut session) = raw(Options::default());
        for _ in 0..10_000 {
            session.handle_input(now, &frame(kind, 0, stream, payload));
            while session.poll_transmit().is_some() {}
            if session.poll_timeout().is_none() {
                break;
            }
        }
        let closed = Event::Closed(CloseReason::Flood(Flood::Control));
        assert_eq!(session.poll_event(), Some(closed), "type {kind}");
    }
}

#[test]
fn a_flood_of_window_updates_ends_the_connection() {
    let (now, mut session) = raw(Options::default());
    let input = frame(8, 0, 0, &[0, 0, 0, 1]).repeat(10_001);
    session.handle_input(now, &input);
    closed_for(&mut session, CloseReason::Flood(Flood::WindowUpdates), CALM);
}

#[test]
fn pings_whose_answers_are_not_read_end_the_connection() {
    let options = Options {
        control_frames_per_s: u32::MAX / 10,
        ..Options::default()
    };
    let (now, mut session) = raw(options);
    let input = frame(6, 0, 0, &[0; 8]).repeat(100);
    let mut given = 0;
    while session.poll_timeout().is_some() {
        session.handle_input(now, &input);
        given += input.len();
        assert!(given < 300_000, "it goes on");
    }
    let closed = Event::Closed(CloseReason::Flood(Flood::Input));
    assert_eq!(session.poll_event(), Some(closed));
}

#[test]
fn a_continuation_flood_ends_the_connection() {
    let (now, mut session) = raw(Options::default());
    session.handle_input(now, &frame(1, 1, 1, &block(&[])));
    for _ in 0..100 {
        session.handle_input(now, &frame(9, 0, 1, &[]));
        if session.poll_timeout().is_none() {
            break;
        }
    }
    closed_for(&mut session, CloseReason::Protocol(CALM), CALM);
}

#[test]
fn a_header_list_beyond_the_bound_is_431() {
    let (now, mut session) = raw(Options::default());
    let value = "a".repeat(17_000);
    let block = block(&[("x-large", &value)]);
    let (front, back) = block.split_at(16_000);
    session.handle_input(now, &frame(1, 1, 1, front));
    session.handle_input(now, &frame(9, 4, 1, back));
    assert_eq!(session.poll_event(), None);
    let sent = sent(&mut session);
    // The status stands in the table of the decoder that nobody needs here: a literal with the
    // value `431`, by its name's index 8.
    assert!(sent[0].kind == 1 && sent[0].stream == 1, "{sent:?}");
    assert!(session.poll_timeout().is_some(), "the connection lives");
}

#[test]
fn a_compression_bomb_is_431_or_ends_the_connection() {
    // One field in the table, then a byte for each time that it is repeated.
    let (now, mut session) = raw(Options::default());
    let mut head = block(&[]);
    let mut large = field("x", &"a".repeat(3900));
    large[0] = 0x40;
    head.extend(large);
    head.extend([0x80 | 62].repeat(8000));
    session.handle_input(now, &frame(1, 5, 1, &head));
    assert!(!matches!(session.poll_event(), Some(Event::Request(..))));
}

#[test]
fn a_reader_with_a_closed_window_makes_nothing_grow() {
    let options = Options {
        stream_queue_bytes_max: 500_000,
        queue_bytes_max: 1_200_000,
        ..Options::default()
    };
    let (now, mut session) = raw(options);
    // SETTINGS_INITIAL_WINDOW_SIZE 0.
    session.handle_input(now, &frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    for n in 0..3u32 {
        session.handle_input(now, &frame(1, 5, n * 2 + 1, &block(&[])));
    }
    let live: Vec<_> = (0..3).map(|_| request(&mut session).0).collect();
    for stream in &live {
        session.respond_stream(now, *stream, 200, &[]);
    }
    let bytes = Bytes::from(vec![0; 100_000]);
    for n in 1..=5 {
        session.send(now, live[0], bytes.clone());
        assert_eq!(session.queued_bytes(live[0]), n * 100_000);
    }
    assert_eq!(session.poll_event(), None, "nothing is drained");
    session.send(now, live[0], bytes.clone());
    assert_eq!(session.poll_event(), Some(Event::Reset(live[0])));
    assert_eq!(session.queued_bytes(live[0]), 0);
    // The connection's bound, over two streams and a whole response.
    for stream in [live[1], live[2]] {
        for _ in 0..5 {
            session.send(now, stream, bytes.clone());
        }
    }
    assert_eq!(session.queued_bytes_total(), 1_000_000);
    session.handle_input(now, &frame(1, 5, 7, &block(&[])));
    let (whole, _) = request(&mut session);
    session.respond(
        now,
        whole,
        Response::new(200).with_body("a/b", vec![0; 300_000]),
    );
    assert_eq!(session.queued_bytes_total(), 1_000_000);
    let resets = sent(&mut session);
    let resets: Vec<_> = resets.iter().filter(|frame| frame.kind == 3).collect();
    assert_eq!(resets.len(), 2);
    assert!(resets.iter().all(|frame| frame.code() == CALM));
    // Nothing moves, and pings do not help.
    let (deadline, why) = session.poll_timeout().unwrap();
    assert_eq!(
        (deadline, why),
        (now + Duration::from_secs(60), "http2 stall")
    );
    session.handle_input(now + Duration::from_secs(59), &frame(6, 0, 0, &[0; 8]));
    session.handle_timeout(deadline);
    closed_for(&mut session, CloseReason::Stalled, 0);
}

#[test]
fn what_the_socket_does_not_take_is_held_back() {
    let (now, mut session) = raw(Options::default());
    // Windows of 2^31 - 1.
    session.handle_input(now, &frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    session.handle_input(now, &frame(8, 0, 0, &[0x7f, 0xff, 0, 0]));
    session.handle_input(now, &frame(1, 5, 1, &block(&[])));
    let (stream, _) = request(&mut session);
    session.respond_shared(now, stream, &Response::new(200), 5_000_000);
    session.send(now, stream, Bytes::from(vec![0; 5_000_000]));
    assert!(session.queued_bytes(stream) > 4_900_000);
    let mut count = 0;
    while session.queued_bytes(stream) > 0 {
        let before = session.queued_bytes(stream);
        let piece = session.poll_transmit().expect("it goes on");
        count += piece.len();
        assert!(before - session.queued_bytes(stream) <= 100_000);
    }
    while let Some(piece) = session.poll_transmit() {
        count += piece.len();
    }
    assert!(count > 5_000_000);
    assert_eq!(session.poll_event(), Some(Event::Drained(stream)));
}

#[test]
fn a_handshake_that_does_not_come_is_given_up() {
    for input in [&b""[..], &PREFACE[..10], PREFACE] {
        let now = start();
        let mut session = Session::new(now, Options::default());
        session.handle_input(now + Duration::from_secs(9), input);
        let (deadline, why) = session.poll_timeout().unwrap();
        assert_eq!(
            (deadline, why),
            (now + Duration::from_secs(10), "http2 handshake")
        );
        session.handle_timeout(deadline);
        let closed = Event::Closed(CloseReason::HandshakeTimeout);
        assert_eq!(session.poll_event(), Some(closed));
    }
}

#[test]
fn a_head_that_drips_in_is_given_up() {
    let (began, mut session) = raw(Options::default());
    let mut input = frame(1, 1, 1, &block(&[]));
    input.extend(frame(9, 0, 1, &field("a", "b")));
    for (n, bytes) in input.chunks(input.len() / 8).enumerate() {
        session.handle_input(began + Duration::from_secs(n as u64), bytes);
    }
    let (deadline, why) = session.poll_timeout().unwrap();
    assert_eq!(
        (deadline, why),
        (began + Duration::from_secs(10), "http2 frame")
    );
    session.handle_timeout(deadline);
    let closed = Event::Closed(CloseReason::FrameTimeout);
    assert_eq!(session.poll_event(), Some(closed));
}

#[test]
fn bodies_together_are_bounded_by_the_window() {
    let options = Options {
        body_bytes_max: 100_000,
        bodies_bytes_max: 300_000,
        ..Options::default()
    };
    let (now, mut session) = raw(options);
    let head = |n: u32| frame(1, 4, n * 2 + 1, &post());
    let data = |n: u32| frame(0, 0, n * 2 + 1, &[0; 10_000]);
    for n in 0..3 {
        session.handle_input(now, &head(n));
        for _ in 0..10 {
            session.handle_input(now, &data(n));
        }
    }
    assert!(session.poll_timeout().is_some());
    session.handle_input(now, &head(3));
    session.handle_input(now, &data(3));
    // FLOW_CONTROL_ERROR.
    closed_for(&mut session, CloseReason::Protocol(3), 3);
}

fn post() -> Vec<u8> {
    fields(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/x"),
    ])
}
