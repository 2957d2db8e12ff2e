//! What a client sees.

use std::time::Duration;

use super::*;
use crate::media::buffer::Pool;
use crate::proto::http::{Framing, Method, Response};

#[test]
fn a_request_is_answered() {
    let (now, mut session, mut client) = connected(Options::default());
    let mut response = client.get("/live%2Ba?b=c");
    client.exchange(now, &mut session);
    let (stream, request) = request(&mut session);
    assert_eq!(request.method, Method::Get);
    assert_eq!((request.path.as_str(), request.query()), ("/live+a", "b=c"));
    assert_eq!(request.host(), "example.org");
    let reply = Response::text(404, "no such stream")
        .with_header("Connection", "close")
        .with_header("X-Name", "a\nb");
    session.respond(now, stream, reply);
    client.exchange(now, &mut session);
    let answer = answer(&mut response).unwrap();
    assert_eq!(answer.head.status, 404);
    assert_eq!(answer.head.headers["x-name"], "a b");
    assert_eq!(answer.head.headers["content-length"], "15");
    assert!(!answer.head.headers.contains_key("connection"));
    assert_eq!(answer.body, b"no such stream\n");
    assert!(answer.is_complete);
    assert_eq!(session.poll_event(), None);
    assert_eq!((session.requests(), session.streams()), (1, 0));
}

#[test]
fn answers_go_out_in_any_order() {
    let (now, mut session, mut client) = connected(Options::default());
    let mut responses: Vec<_> = (0..50).map(|n| client.get(&format!("/{n}"))).collect();
    client.exchange(now, &mut session);
    let mut requests: Vec<_> = (0..50).map(|_| request(&mut session)).collect();
    requests.reverse();
    for (stream, request) in requests {
        session.respond(now, stream, Response::text(200, request.path.clone()));
    }
    client.exchange(now, &mut session);
    for (n, response) in responses.iter_mut().enumerate() {
        assert_eq!(answer(response).unwrap().body, format!("/{n}\n").as_bytes());
    }
}

#[test]
fn a_body_is_collected() {
    let (now, mut session, mut client) = connected(Options::default());
    let body = vec![7; 900_000];
    let mut response = client.request(get("/api").method("POST"), Some(&body));
    client.exchange(now, &mut session);
    let (stream, request) = request(&mut session);
    assert_eq!(request.method, Method::Post);
    assert_eq!(request.body, body);
    session.respond(now, stream, Response::new(204));
    client.exchange(now, &mut session);
    let answer = answer(&mut response).unwrap();
    assert_eq!(answer.head.status, 204);
    assert!(!answer.head.headers.contains_key("content-length"));
}

#[test]
fn the_window_opens_again_after_each_body() {
    let (now, mut session, mut client) = connected(Options::default());
    for _ in 0..10 {
        let body = vec![7; 1024 * 1024];
        let mut response = client.request(get("/api").method("PUT"), Some(&body));
        client.exchange(now, &mut session);
        let (stream, request) = request(&mut session);
        assert_eq!(request.body.len(), body.len());
        session.respond(now, stream, Response::new(200));
        client.exchange(now, &mut session);
        assert!(answer(&mut response).unwrap().is_complete);
    }
}

#[test]
fn a_body_beyond_the_bound_is_413_and_the_connection_lives() {
    let options = Options {
        body_bytes_max: 70_000,
        ..Options::default()
    };
    let (now, mut session, mut client) = connected(options);
    let body = vec![7; 70_001];
    let mut unstated = client.request(get("/a").method("POST"), Some(&body));
    let builder = get("/a").method("POST").header("content-length", 70_001);
    let mut stated = client.request(builder, Some(&body));
    client.exchange(now, &mut session);
    assert_eq!(session.poll_event(), None);
    assert_eq!(answer(&mut stated).unwrap().head.status, 413);
    assert_eq!(answer(&mut unstated).unwrap().head.status, 413);
    let mut after = client.get("/b");
    client.exchange(now, &mut session);
    let (stream, _) = request(&mut session);
    session.respond(now, stream, Response::new(200));
    client.exchange(now, &mut session);
    assert_eq!(answer(&mut after).unwrap().head.status, 200);
}

#[test]
fn a_body_that_drips_in_is_408() {
    let (now, mut session, mut client) = connected(Options::default());
    let request = get("/a").method("POST").body(()).unwrap();
    let (mut response, mut body) = client.requests.send_request(request, false).unwrap();
    client.exchange(now, &mut session);
    let (deadline, why) = session.poll_timeout().unwrap();
    assert_eq!(
        (deadline, why),
        (now + Duration::from_secs(30), "http2 body")
    );
    body.send_data(Bytes::from_static(b"a"), false).unwrap();
    client.exchange(now + Duration::from_secs(29), &mut session);
    session.handle_timeout(deadline);
    client.exchange(deadline, &mut session);
    assert_eq!(answer(&mut response).unwrap().head.status, 408);
    assert_eq!(session.poll_event(), None);
}

#[test]
fn continue_is_sent_before_the_body() {
    let (now, mut session, mut client) = connected(Options::default());
    let request = get("/a")
        .method("PUT")
        .header("expect", "100-continue")
        .body(())
        .unwrap();
    let (mut response, mut body) = client.requests.send_request(request, false).unwrap();
    client.exchange(now, &mut session);
    let interim = poll(|cx| response.poll_informational(cx))
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(interim.status(), 100);
    body.send_data(Bytes::from_static(b"ok"), true).unwrap();
    client.exchange(now, &mut session);
    assert_eq!(super::request(&mut session).1.body, "ok");
}

#[test]
fn what_cannot_be_read_is_refused_on_its_stream() {
    let (now, mut session, mut client) = connected(Options::default());
    let mut walks = client.get("/../etc");
    let mut trace = client.request(get("/").method("TRACE"), None);
    let mut long = client.get(&format!("/{}", "a".repeat(9000)));
    let mut many = get("/");
    for n in 0..70 {
        many = many.header(format!("x-{n}"), "a");
    }
    let mut many = client.request(many, None);
    client.exchange(now, &mut session);
    assert_eq!(session.poll_event(), None);
    assert_eq!(answer(&mut walks).unwrap().head.status, 400);
    let trace = answer(&mut trace).unwrap();
    assert_eq!(trace.head.status, 405);
    assert!(trace.head.headers.contains_key("allow"));
    assert_eq!(answer(&mut long).unwrap().head.status, 414);
    assert_eq!(answer(&mut many).unwrap().head.status, 431);
    assert_eq!(session.requests(), 4);
}

#[test]
fn head_has_the_length_and_no_body() {
    let (now, mut session, mut client) = connected(Options::default());
    for n in 0..3 {
        let mut response = client.request(get("/a").method("HEAD"), None);
        client.exchange(now, &mut session);
        let (stream, _) = request(&mut session);
        match n {
            0 => session.respond(now, stream, Response::text(200, "1234")),
            1 => {
                let framing = session.respond_shared(now, stream, &Response::new(200), 5);
                assert_eq!(framing, Framing::NoBody);
            }
            _ => {
                let framing = session.respond_stream(now, stream, 200, &[]);
                assert_eq!(framing, Framing::NoBody);
                session.send(now, stream, Bytes::from_static(b"not sent"));
                session.end_stream(now, stream);
            }
        }
        client.exchange(now, &mut session);
        let answer = answer(&mut response).unwrap();
        assert!(answer.is_complete && answer.body.is_empty());
        let length = answer.head.headers.get("content-length");
        assert_eq!(length.is_some_and(|length| length == "5"), n < 2);
    }
}

#[test]
fn a_live_body_is_told_when_it_is_drained() {
    let (now, mut session, mut client) = connected(Options::default());
    let mut response = client.get("/live.flv");
    client.exchange(now, &mut session);
    let (stream, _) = request(&mut session);
    let headers = [("Content-Type", "video/x-flv"), ("Connection", "close")];
    let framing = session.respond_stream(now, stream, 200, &headers);
    assert_eq!(framing, Framing::Close);
    client.exchange(now, &mut session);
    let response = poll(|cx| Pin::new(&mut response).poll(cx))
        .unwrap()
        .unwrap();
    let mut body = response.into_body();
    let mut seen = Vec::new();
    for n in 0..100u8 {
        session.send(now, stream, Bytes::from(vec![n; 3000]));
        client.exchange(now, &mut session);
        assert_eq!(session.poll_event(), Some(Event::Drained(stream)));
        assert_eq!(session.poll_event(), None);
        assert_eq!(session.queued_bytes(stream), 0);
        assert!(!read(&mut body, &mut seen).unwrap());
        client.exchange(now, &mut session);
        assert_eq!(seen.len(), (usize::from(n) + 1) * 3000);
    }
    session.end_stream(now, stream);
    client.exchange(now, &mut session);
    assert!(read(&mut body, &mut seen).unwrap());
    assert_eq!(session.poll_event(), None);
    assert_eq!(session.streams(), 0);
}

#[test]
fn a_body_of_known_length_ends_by_itself() {
    let (now, mut session, mut client) = connected(Options::default());
    let mut response = client.get("/segment.m4s");
    client.exchange(now, &mut session);
    let (stream, _) = request(&mut session);
    let head = Response::new(200).with_header("Content-Type", "video/mp4");
    session.respond_shared(now, stream, &head, 10_000);
    session.send(now, stream, Bytes::from(vec![1; 6000]));
    assert_eq!(session.poll_event(), Some(Event::Drained(stream)));
    session.send(now, stream, Bytes::from(vec![2; 6000]));
    assert_eq!(session.poll_event(), Some(Event::Drained(stream)));
    assert_eq!(session.streams(), 0);
    client.exchange(now, &mut session);
    let answer = answer(&mut response).unwrap();
    assert_eq!(answer.head.headers["content-length"], "10000");
    assert_eq!(answer.body, [vec![1; 6000], vec![2; 4000]].concat());
    assert!(answer.is_complete);
}

#[test]
fn a_body_cut_short_is_no_body() {
    let (now, mut session, mut client) = connected(Options::default());
    let mut response = client.get("/segment.m4s");
    client.exchange(now, &mut session);
    let (stream, _) = request(&mut session);
    session.respond_shared(now, stream, &Response::new(200), 10_000);
    session.send(now, stream, Bytes::from(vec![1; 6000]));
    session.end_stream(now, stream);
    client.exchange(now, &mut session);
    let error = answer(&mut response).unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
}

#[test]
fn shared_bytes_are_not_copied() {
    let (now, mut session, mut client) = connected(Options::default());
    let _response = client.get("/segment.m4s");
    client.exchange(now, &mut session);
    let (stream, _) = request(&mut session);
    let mut pool = Pool::new(64 * 1024);
    let mut slab = pool.take();
    slab.append(&[9; 30_000]);
    let shared = slab.view(0..30_000);
    let (first, last) = (shared.as_ptr() as usize, shared.as_ptr() as usize + 30_000);
    session.respond_shared(now, stream, &Response::new(200), 30_000);
    session.send(now, stream, shared);
    let (mut inside, mut count) = (0, 0);
    while let Some(piece) = session.poll_transmit() {
        count += piece.len();
        if (first..last).contains(&(piece.as_ptr() as usize)) {
            inside += piece.len();
        }
    }
    assert!(count > 30_000);
    assert!(inside >= 29_000, "{inside} bytes of 30000 are shared");
    drop(slab);
    assert_eq!(pool.in_use(), 0, "nothing keeps the slab");
}

#[test]
fn a_reset_is_told_once() {
    let (now, mut session, mut client) = connected(Options::default());
    let builder = get("/live.flv").body(()).unwrap();
    let (_response, mut sender) = client.requests.send_request(builder, true).unwrap();
    let builder = get("/other").body(()).unwrap();
    let (_other, mut other) = client.requests.send_request(builder, true).unwrap();
    client.exchange(now, &mut session);
    let (stream, _) = request(&mut session);
    let (second, _) = request(&mut session);
    session.respond_stream(now, stream, 200, &[]);
    session.send(now, stream, Bytes::from(vec![0; 100_000]));
    sender.send_reset(h2::Reason::CANCEL);
    other.send_reset(h2::Reason::CANCEL);
    client.exchange(now, &mut session);
    assert_eq!(session.poll_event(), Some(Event::Reset(stream)));
    assert_eq!(session.poll_event(), Some(Event::Reset(second)));
    assert_eq!(session.queued_bytes_total(), 0);
    session.send(now, stream, Bytes::from_static(b"late"));
    session.end_stream(now, stream);
    session.respond(now, second, Response::new(200));
    assert_eq!(session.poll_event(), None);
}

#[test]
fn the_owner_may_give_a_stream_up() {
    let (now, mut session, mut client) = connected(Options::default());
    let mut response = client.get("/a");
    client.exchange(now, &mut session);
    let (stream, _) = request(&mut session);
    session.reset_stream(now, stream);
    client.exchange(now, &mut session);
    assert!(answer(&mut response).is_err());
    assert_eq!((session.poll_event(), session.streams()), (None, 0));
}

#[test]
fn close_lets_open_streams_finish() {
    let (now, mut session, mut client) = connected(Options::default());
    let mut response = client.get("/a");
    client.exchange(now, &mut session);
    let (stream, _) = request(&mut session);
    session.close(now);
    client.exchange(now, &mut session);
    assert_eq!(session.poll_event(), None);
    session.respond(now, stream, Response::text(200, "last"));
    client.exchange(now, &mut session);
    assert_eq!(answer(&mut response).unwrap().body, b"last\n");
    drop(response);
    client.exchange(now, &mut session);
    let closed = Event::Closed(CloseReason::Finished);
    assert_eq!(session.poll_event(), Some(closed));
    assert!(client.ended.unwrap().is_ok());
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn close_does_not_wait_for_ever() {
    let (now, mut session, mut client) = connected(Options::default());
    let _response = client.get("/a");
    client.exchange(now, &mut session);
    session.close(now);
    let (deadline, why) = session.poll_timeout().unwrap();
    assert_eq!(why, "http2 close");
    session.handle_timeout(deadline);
    request(&mut session);
    let closed = Event::Closed(CloseReason::Finished);
    assert_eq!(session.poll_event(), Some(closed));
}

#[test]
fn an_idle_connection_is_closed() {
    let (now, mut session, mut client) = connected(Options::default());
    let mut response = client.get("/a");
    client.exchange(now, &mut session);
    let (stream, _) = request(&mut session);
    assert_eq!(session.poll_timeout(), None, "an answer may take its time");
    let later = now + Duration::from_secs(100);
    session.respond(later, stream, Response::text(200, "a"));
    client.exchange(later, &mut session);
    answer(&mut response).unwrap();
    let (deadline, why) = session.poll_timeout().unwrap();
    assert_eq!(
        (deadline, why),
        (later + Duration::from_secs(60), "http2 idle")
    );
    session.handle_timeout(deadline - Duration::from_millis(1));
    assert_eq!(session.poll_event(), None);
    session.handle_timeout(deadline);
    assert_eq!(session.poll_event(), Some(Event::Closed(CloseReason::Idle)));
    client.exchange(deadline, &mut session);
    assert!(client.ended.unwrap().is_ok(), "GOAWAY without an error");
}
