//! A server that has had a real client's hello, and then messages, records and time from anybody.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use ringside::proto::dtls::{
    Certificate, Context, Event, Fingerprint, Options, Role, Session, Versions,
};

/// In pieces, each behind its size.
const HELLOS: [&[u8]; 3] = [
    include_bytes!("../../tests/data/dtls/chromium.hello"),
    include_bytes!("../../tests/data/dtls/firefox.hello"),
    include_bytes!("../../tests/data/dtls/aiortc.hello"),
];

static CONTEXT: LazyLock<Context> = LazyLock::new(|| {
    let certificate = Arc::new(Certificate::generate().expect("the system has randomness"));
    let options = Options {
        versions: Versions::Dtls12,
        seed: Some(1),
        ..Options::default()
    };
    Context::new(certificate, options).expect("the options are in range")
});

static START: LazyLock<Instant> = LazyLock::new(|| {
    #[expect(
        clippy::disallowed_methods,
        reason = "there is no driver to take the time from"
    )]
    let now = Instant::now();
    now
});

pub(crate) fn run(data: &[u8]) {
    let Some((&choice, mut data)) = data.split_first() else {
        return;
    };
    let expected = Fingerprint::new("sha-256", CONTEXT.certificate().fingerprint());
    let mut session = Session::new(*START, Role::Server, &CONTEXT, expected)
        .expect("a fingerprint is expected");
    let mut hello = HELLOS[usize::from(choice) % HELLOS.len()];
    while let Some((size, rest)) = hello.split_first_chunk::<2>() {
        let (piece, rest) = rest.split_at(u16::from_be_bytes(*size).into());
        session.handle_input(*START, piece);
        hello = rest;
    }
    assert!(session.poll_transmit().is_some(), "the hello is answered");
    let mut now = *START;
    while let Some((&[kind, high, low], rest)) = data.split_first_chunk::<3>() {
        let size = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (bytes, rest) = rest.split_at(size);
        data = rest;
        match kind % 8 {
            0 => session.handle_input(now, &message(11, 1, bytes)),
            1 => session.handle_input(now, &message(16, 2, bytes)),
            2 => session.handle_input(now, &message(15, 3, bytes)),
            3 => session.handle_input(now, &record(22, 0, bytes)),
            4 => session.handle_input(now, &record(high, 1, bytes)),
            5 => now += Duration::from_millis(size as u64),
            6 => session.handle_timeout(now),
            _ => session.handle_input(now, bytes),
        }
        while let Some(datagram) = session.poll_transmit() {
            assert!(datagram.len() <= 1200);
        }
        assert!(!session.is_connected(), "nobody has the keys");
    }
    let mut rounds = 0;
    while let Some((at, _)) = session.poll_timeout() {
        now = now.max(at);
        session.handle_timeout(now);
        while session.poll_transmit().is_some() {}
        rounds += 1;
        assert!(rounds < 400, "time goes on");
    }
    let events: Vec<_> = std::iter::from_fn(|| session.poll_event()).collect();
    assert!(matches!(&events[..], [Event::Closed(_)]), "{events:?}");
}

/// A whole handshake message in a record.
fn message(kind: u8, number: u8, body: &[u8]) -> Vec<u8> {
    let length = &(body.len() as u32).to_be_bytes()[1..];
    let head = [&[kind], length, &[0, number, 0, 0, 0], length].concat();
    record(22, 0, &[&head, body].concat())
}

fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
    let size = body.len().min(65_535);
    let mut record = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 7];
    record.extend((size as u16).to_be_bytes());
    record.extend(&body[..size]);
    record
}
