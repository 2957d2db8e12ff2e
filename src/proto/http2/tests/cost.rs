//! What a connection and a response cost.
//!
//! `cargo test --release --lib proto::http2::tests::cost -- --ignored --nocapture --test-threads 1`

use std::hint::black_box;

use super::*;
use crate::proto::http::Response;

#[test]
#[ignore = "a measurement"]
fn a_response_of_30_kb() {
    const COUNT: u32 = 20_000;
    let (now, mut session) = raw(Options {
        window_updates_per_s: u32::MAX,
        ..Options::default()
    });
    let body = Bytes::from(vec![0; 30_000]);
    let began = start();
    let mut bytes = 0;
    for n in 0..COUNT {
        let id = n * 2 + 1;
        let mut input = frame(1, 5, id, &block(&[]));
        input.extend(frame(8, 0, 0, &[0, 0, 0x75, 0x30]));
        session.handle_input(now, &input);
        let (stream, _) = request(&mut session);
        let head = Response::new(200)
            .with_header("Content-Type", "video/mp4")
            .with_cors();
        session.respond_shared(now, stream, &head, 30_000);
        session.send(now, stream, body.clone());
        while let Some(piece) = session.poll_transmit() {
            bytes += black_box(piece).len();
        }
        assert_eq!(session.poll_event(), Some(Event::Drained(stream)));
    }
    let each = began.elapsed().as_nanos() / u128::from(COUNT);
    eprintln!("{each} ns for a request and its response of 30 kB");
    assert!(bytes > 30_000 * COUNT as usize);
}
