//! A session on either side, with datagrams from anybody, or with a real peer over a link that
//! does to datagrams what the input says.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use ringside::proto::dtls::{
    Certificate, CloseReason, Context, Event, Fingerprint, Options, Role, Session, is_dtls,
};

static CONTEXT: LazyLock<Context> = LazyLock::new(|| {
    let certificate = Arc::new(Certificate::generate().expect("the system has randomness"));
    let options = Options {
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

fn session(role: Role) -> Session {
    let own = CONTEXT.certificate().fingerprint();
    Session::new(*START, role, &CONTEXT, Fingerprint::new("sha-256", own))
        .expect("a fingerprint is expected")
}

pub(crate) fn run(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else {
        return;
    };
    match mode % 3 {
        0 => strangers(session(Role::Server), rest),
        1 => strangers(session(Role::Client), rest),
        _ => link(rest),
    }
}

/// Datagrams behind their sizes.
fn strangers(mut session: Session, mut data: &[u8]) {
    while let Some((size, rest)) = data.split_first_chunk::<2>() {
        let size = usize::from(u16::from_be_bytes(*size)).min(rest.len());
        let (datagram, rest) = rest.split_at(size);
        data = rest;
        let _ = is_dtls(datagram);
        session.handle_input(*START, datagram);
        while session.poll_transmit().is_some() {}
        assert!(!session.is_connected(), "nobody has the keys");
    }
    finish(session);
}

/// Two sessions; each datagram between them takes two bytes of the input.
fn link(data: &[u8]) {
    let mut sides = [session(Role::Client), session(Role::Server)];
    let mut now = *START;
    let mut steps = data.chunks_exact(2);
    for _ in 0..40 {
        let mut is_idle = true;
        for from in 0..2 {
            while let Some(datagram) = sides[from].poll_transmit() {
                is_idle = false;
                let mut bytes = datagram.to_vec();
                let [action, place] = steps
                    .next()
                    .and_then(|step| step.try_into().ok())
                    .unwrap_or([0, 0]);
                let at = usize::from(place) * bytes.len() / 256;
                let copies = match action % 8 {
                    1 => 0,
                    2 => 2,
                    3 => {
                        bytes[at] ^= action | 1;
                        1
                    }
                    4 => {
                        bytes.truncate(at);
                        1
                    }
                    5 => {
                        bytes.extend_from_within(at..);
                        1
                    }
                    6 => {
                        bytes.splice(
                            0..0,
                            [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, place, 0, 2, 2, 40],
                        );
                        1
                    }
                    _ => 1,
                };
                for _ in 0..copies {
                    sides[1 - from].handle_input(now, &bytes);
                }
            }
        }
        if is_idle {
            now += Duration::from_millis(300);
            for side in &mut sides {
                side.handle_timeout(now);
                if side.is_connected() {
                    let _ = side.write(now, b"data");
                }
            }
        }
    }
    for side in sides {
        finish(side);
    }
}

/// Every session ends, and says so once.
fn finish(mut session: Session) {
    if session.is_connected() {
        session.close(*START + Duration::from_secs(60));
    }
    let mut last = None;
    for _ in 0..400 {
        let Some((at, _)) = session.poll_timeout() else {
            break;
        };
        // A driver that is woken for nothing is woken for ever.
        assert!(last.is_none_or(|last| at > last), "time goes on");
        last = Some(at);
        session.handle_timeout(at);
        while session.poll_transmit().is_some() {}
    }
    assert!(session.poll_timeout().is_none());
    let events: Vec<_> = std::iter::from_fn(|| session.poll_event()).collect();
    let is_end = |event: &Event| matches!(event, Event::Closed(_));
    assert_eq!(events.iter().filter(|event| is_end(event)).count(), 1);
    assert!(events.last().is_some_and(is_end));
    let wrong = Event::Closed(CloseReason::WrongFingerprint);
    assert!(
        !events.contains(&wrong)
            || !events
                .iter()
                .any(|event| matches!(event, Event::Connected { .. }))
    );
}
