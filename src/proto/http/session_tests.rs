use std::time::Instant as Clock;

use super::*;

/// Some time: what follows in a test is counted from it.
#[expect(
    clippy::disallowed_methods,
    reason = "a test has to begin at some time"
)]
fn start() -> Instant {
    Clock::now()
}

fn options() -> Options {
    Options {
        target_bytes_max: 100,
        header_bytes_max: 300,
        headers_max: 4,
        body_bytes_max: 50,
        pipelined_bytes_max: 200,
        ..Options::default()
    }
}

/// Everything a session says about `input` when each request is answered with its path.
fn converse(pieces: &[&[u8]]) -> (Vec<Event>, Vec<u8>) {
    let now = start();
    let mut session = Session::new(now, options());
    let (mut events, mut sent) = (Vec::new(), Vec::new());
    for piece in pieces {
        session.handle_input(now, piece);
        while let Some(event) = session.poll_event() {
            if let Event::Request(request) = &event {
                session.respond(now, Response::text(200, request.path.clone()));
            }
            events.push(event);
        }
        while let Some(bytes) = session.poll_transmit() {
            sent.extend_from_slice(&bytes);
        }
    }
    (events, sent)
}

fn refused(input: &[u8]) -> (Refusal, u16) {
    let (events, sent) = converse(&[input]);
    let sent = String::from_utf8(sent).unwrap();
    let status = sent[9..12].parse().unwrap();
    assert!(sent.contains("Connection: close\r\n"), "{sent}");
    match events.as_slice() {
        [Event::Closed(CloseReason::Refused(refusal))] => (*refusal, status),
        events => panic!("{events:?}"),
    }
}

fn request(session: &mut Session) -> Box<Request> {
    match session.poll_event() {
        Some(Event::Request(request)) => request,
        event => panic!("{event:?}"),
    }
}

fn sent(session: &mut Session) -> String {
    let mut out = Vec::new();
    while let Some(bytes) = session.poll_transmit() {
        out.extend_from_slice(&bytes);
    }
    String::from_utf8(out).unwrap()
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn input_cut_anywhere_gives_the_same_conversation() {
    let inputs: [&[u8]; 5] = [
        b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\nHEAD /b?c HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET /b HTTP/1.0\r\n\r\nmore",
        b"PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 51\r\n\r\n",
        b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0a\r\n0123456789\r\nzz",
    ];
    for input in inputs {
        let whole = converse(&[input]);
        for cut in 1..input.len() {
            let (front, back) = input.split_at(cut);
            assert_eq!(converse(&[front, back]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(converse(&bytes), whole);
    }
}

#[test]
fn a_shared_body_is_announced_and_left_to_the_owner() {
    let now = start();
    for (method, has_body) in [("GET", true), ("HEAD", false)] {
        let mut session = Session::new(now, Options::default());
        let head = format!("{method} /a HTTP/1.1\r\nHost: a\r\n\r\n");
        session.handle_input(now, head.as_bytes());
        assert!(matches!(session.poll_event(), Some(Event::Request(_))));
        let response = Response::new(206).with_header("ETag", "\"1\"");
        assert_eq!(session.respond_shared(now, &response, 550_000), has_body);
        let head = sent(&mut session);
        assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
        assert!(
            head.ends_with("ETag: \"1\"\r\nContent-Length: 550000\r\n\r\n"),
            "{head}"
        );
        session.handle_input(now, GET);
        assert!(
            matches!(session.poll_event(), Some(Event::Request(_))),
            "the next"
        );
    }
}

#[test]
fn each_limit_holds_at_its_edge() {
    let target = |length: usize| {
        let line = format!("GET /{} HTTP/1.1\r\n", "a".repeat(length - 16));
        assert_eq!(line.len(), length);
        format!("{line}Host: a\r\n\r\n").into_bytes()
    };
    assert_eq!(converse(&[&target(100)]).0.len(), 1);
    assert_eq!(refused(&target(101)), (Refusal::TargetTooLong, 414));

    let head = |length: usize| {
        let front = "GET / HTTP/1.1\r\nHost: a\r\nA: ";
        let value = "a".repeat(length - front.len() - 4);
        format!("{front}{value}\r\n\r\n").into_bytes()
    };
    assert!(matches!(converse(&[&head(300)]).0[0], Event::Request(_)));
    assert_eq!(refused(&head(301)), (Refusal::HeadTooLarge, 431));

    let fields = |count: usize| {
        let more = "A: b\r\n".repeat(count - 1);
        format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n").into_bytes()
    };
    assert!(matches!(converse(&[&fields(4)]).0[0], Event::Request(_)));
    assert_eq!(refused(&fields(5)), (Refusal::TooManyHeaders, 431));

    let fixed = |length: usize| {
        let body = "a".repeat(length);
        format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    };
    assert!(matches!(converse(&[&fixed(50)]).0[0], Event::Request(_)));
    assert_eq!(refused(&fixed(51)), (Refusal::BodyTooLarge, 413));

    let chunked = |count: usize| {
        let chunks = "1\r\na\r\n".repeat(count);
        format!("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
            .into_bytes()
    };
    assert!(matches!(converse(&[&chunked(50)]).0[0], Event::Request(_)));
    assert_eq!(refused(&chunked(51)), (Refusal::BodyTooLarge, 413));
}

#[test]
fn what_is_refused_is_answered_and_closed() {
    for (input, refusal, status) in [
        (&b"\x16\x03\x01\x02"[..], Refusal::RequestLine, 400),
        (b"GET / HTTP/2.0\r\n\r\n", Refusal::Version, 505),
        (b"BREW / HTTP/1.1\r\n\r\n", Refusal::Method, 501),
        (b"TRACE / HTTP/1.1\r\n\r\n", Refusal::MethodNotAllowed, 405),
        (b"GET /.. HTTP/1.1\r\n\r\n", Refusal::Target, 400),
        (b"GET / HTTP/1.1\r\n\r\n", Refusal::Host, 400),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::LengthAmbiguous,
            400,
        ),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: tea\r\n\r\n",
            Refusal::Expectation,
            417,
        ),
    ] {
        assert_eq!(refused(input), (refusal, status), "{input:?}");
    }
}

#[test]
fn nothing_is_read_behind_a_refused_request() {
    let smuggled = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
                     Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /secret HTTP/1.1\r\nHost: a\r\n\r\n";
    let (events, _) = converse(&[smuggled]);
    assert_eq!(events.len(), 1);
}

#[test]
fn continue_is_sent_before_the_body() {
    let now = start();
    let mut session = Session::new(now, options());
    session.handle_input(
        now,
        b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n",
    );
    assert_eq!(sent(&mut session), "HTTP/1.1 100 Continue\r\n\r\n");
    session.handle_input(now, b"ok");
    assert_eq!(request(&mut session).body, "ok");
}

#[test]
fn a_head_that_drips_in_is_cut_off() {
    let began = start();
    let mut session = Session::new(began, options());
    let mut now = began;
    for byte in b"GET / HT" {
        session.handle_input(now, &[*byte]);
        now += Duration::from_secs(1);
    }
    let (deadline, why) = session.poll_timeout().unwrap();
    assert_eq!(
        deadline,
        began + Duration::from_secs(10),
        "each byte buys no time"
    );
    assert_eq!(why, "http head");
    session.handle_timeout(deadline);
    assert!(sent(&mut session).starts_with("HTTP/1.1 408 "));
    let closed = Event::Closed(CloseReason::Refused(Refusal::HeadTimeout));
    assert_eq!(session.poll_event(), Some(closed));
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn a_body_that_drips_in_is_cut_off() {
    let now = start();
    let mut session = Session::new(now, options());
    session.handle_input(
        now,
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na",
    );
    let (deadline, _) = session.poll_timeout().unwrap();
    assert_eq!(deadline, now + Duration::from_secs(30));
    session.handle_timeout(deadline);
    let closed = Event::Closed(CloseReason::Refused(Refusal::BodyTimeout));
    assert_eq!(session.poll_event(), Some(closed));
}

#[test]
fn an_idle_connection_closes_without_a_word() {
    let began = start();
    let mut session = Session::new(began, options());
    session.handle_input(began, GET);
    request(&mut session);
    assert_eq!(session.poll_timeout(), None, "an answer may take its time");
    let later = began + Duration::from_secs(100);
    session.respond(later, Response::new(200));
    sent(&mut session);
    // Empty lines are no request, so they buy no time.
    session.handle_input(later + Duration::from_secs(30), b"\r\n\r\n");
    let (deadline, _) = session.poll_timeout().unwrap();
    assert_eq!(deadline, later + Duration::from_secs(60));
    session.handle_timeout(deadline - Duration::from_millis(1));
    assert_eq!(session.poll_event(), None);
    session.handle_timeout(deadline);
    assert_eq!(session.poll_event(), Some(Event::Closed(CloseReason::Idle)));
    assert_eq!(sent(&mut session), "");
}

#[test]
fn a_later_head_has_its_own_time() {
    let began = start();
    let mut session = Session::new(began, options());
    session.handle_input(began, GET);
    request(&mut session);
    session.respond(began, Response::new(200));
    let later = began + Duration::from_secs(20);
    session.handle_input(later, b"G");
    let (deadline, _) = session.poll_timeout().unwrap();
    assert_eq!(deadline, later + Duration::from_secs(10));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (events, sent) = converse(&[&[GET, GET, GET].concat()]);
    assert_eq!(events.len(), 3);
    let sent = String::from_utf8(sent).unwrap();
    assert_eq!(sent.matches("HTTP/1.1 200 OK").count(), 3);
}

#[test]
fn pipelined_input_is_bounded() {
    let now = start();
    let mut session = Session::new(now, options());
    session.handle_input(now, GET);
    session.handle_input(now, &[b'a'; 200]);
    session.handle_input(now, b"a");
    request(&mut session);
    let closed = Event::Closed(CloseReason::PipelineTooLong);
    assert_eq!(session.poll_event(), Some(closed));
    session.respond(now, Response::new(200));
    assert_eq!(
        sent(&mut session),
        "",
        "an answer to a closed session goes nowhere"
    );
}

#[test]
fn http_1_0_closes_unless_asked_otherwise() {
    let (events, sent) = converse(&[b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n"]);
    assert_eq!(events.len(), 2);
    assert_eq!(events[1], Event::Closed(CloseReason::Finished));
    assert!(
        String::from_utf8(sent)
            .unwrap()
            .contains("Connection: close\r\n")
    );
    // VLC keeps its connection this way.
    let (events, sent) = converse(&[b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"]);
    assert_eq!(events.len(), 1);
    assert!(
        String::from_utf8(sent)
            .unwrap()
            .contains("Connection: keep-alive\r\n")
    );
}

#[test]
fn head_has_the_length_and_no_body() {
    let (_, sent) = converse(&[b"HEAD /abc HTTP/1.1\r\nHost: a\r\n\r\n"]);
    let sent = String::from_utf8(sent).unwrap();
    assert!(sent.contains("Content-Length: 5\r\n"));
    assert!(sent.ends_with("\r\n\r\n"));
}

#[test]
fn a_live_body_is_chunked_and_the_connection_lives_on() {
    let now = start();
    let mut session = Session::new(now, options());
    session.handle_input(now, GET);
    request(&mut session);
    let framing = session.respond_stream(now, 200, &[("Content-Type", "video/mp4")]);
    assert_eq!(framing, Framing::Chunked);
    assert!(session.is_streaming());
    assert_eq!(
        sent(&mut session),
        "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    session.handle_input(now, GET);
    assert_eq!(session.poll_event(), None);
    session.end_stream(now);
    assert_eq!(sent(&mut session), "0\r\n\r\n");
    assert!(!session.is_streaming());
    assert_eq!(request(&mut session).path, "/a");
}

#[test]
fn a_live_body_ends_with_the_connection_where_chunks_are_unknown() {
    let old_vlc = b"GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: VLC/2.1.4 LibVLC/2.1.4\r\n\r\n";
    for input in [
        &b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"[..],
        old_vlc,
    ] {
        let now = start();
        let mut session = Session::new(now, options());
        session.handle_input(now, input);
        request(&mut session);
        assert_eq!(session.respond_stream(now, 200, &[]), Framing::Close);
        assert_eq!(
            sent(&mut session),
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        );
        session.end_stream(now);
        assert_eq!(sent(&mut session), "");
        assert_eq!(
            session.poll_event(),
            Some(Event::Closed(CloseReason::Finished))
        );
    }
}

#[test]
fn a_live_head_request_is_complete_at_once() {
    let now = start();
    let mut session = Session::new(now, options());
    session.handle_input(now, b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n");
    request(&mut session);
    assert_eq!(session.respond_stream(now, 200, &[]), Framing::NoBody);
    assert!(!session.is_streaming());
    session.end_stream(now);
    session.handle_input(now, GET);
    assert_eq!(request(&mut session).method, Method::Get);
}

#[test]
fn a_preflight_is_answered() {
    let now = start();
    let mut session = Session::new(now, options());
    session.handle_input(
        now,
        b"OPTIONS /whip/a HTTP/1.1\r\nHost: a\r\nOrigin: b\r\n\r\n",
    );
    assert_eq!(request(&mut session).method, Method::Options);
    session.respond(now, Response::new(204).with_cors());
    let sent = sent(&mut session);
    assert!(sent.contains("Access-Control-Allow-Origin: *\r\n"));
    assert!(sent.contains("Access-Control-Allow-Private-Network: true\r\n"));
    assert!(sent.contains("Location, Link, ETag"));
}

#[test]
fn an_idle_session_holds_no_memory() {
    let now = start();
    let mut session = Session::new(now, options());
    for byte in GET {
        session.handle_input(now, &[*byte]);
    }
    request(&mut session);
    session.respond(now, Response::new(200));
    sent(&mut session);
    assert_eq!(session.input.capacity(), 0);
    assert_eq!(session.transmit.capacity(), 0);
    assert_eq!(session.events.capacity(), 0);
}
