//! A ZMTP connection: it says the same however its bytes are cut, nothing follows a failure, and no
//! message is beyond the limits. The first byte says how the rest is cut.

use ringside::proto::zmtp::{Event, Limits, Own, Session};

const LIMITS: Limits = Limits {
    parts_max: 8,
    message_bytes_max: 4096,
};

pub(crate) fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let whole = events(rest, rest.len().max(1));
    let cut = events(rest, usize::from(*first) + 1);
    assert_eq!(whole, cut);
}

fn events(data: &[u8], piece: usize) -> (Vec<Event>, Vec<u8>) {
    let mut session = Session::new(LIMITS);
    let (mut events, mut sent) = (Vec::new(), Vec::new());
    for piece in data.chunks(piece) {
        session.handle_input(piece);
        while let Some(event) = session.poll_event() {
            assert!(
                !matches!(events.last(), Some(Event::Failed(_))),
                "nothing follows a failure"
            );
            match &event {
                Event::Ready(peer) => {
                    assert!(peer.socket_type.len() + peer.identity.len() <= 1024);
                    session.ready(Own {
                        socket_type: "ROUTER",
                        identity: Some(""),
                    });
                }
                Event::Message(parts) => {
                    assert!(!parts.is_empty() && parts.len() <= LIMITS.parts_max);
                    let bytes: usize = parts.iter().map(|part| part.len()).sum();
                    assert!(bytes <= LIMITS.message_bytes_max);
                }
                Event::Failed(_) => {}
            }
            events.push(event);
        }
    }
    while let Some(bytes) = session.poll_transmit() {
        sent.extend_from_slice(&bytes);
    }
    // READY is queued when the peer's is read, and pongs in their order, but how many pongs wait
    // at once depends on how often they are taken.
    sent.truncate(64);
    (events, sent)
}
