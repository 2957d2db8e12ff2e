//! A connection of a collaborative session, of either wire and at any of its ports: it says the same
//! however its bytes are cut, and nothing follows a failure. The first byte says which port and how
//! the rest is cut.

use std::time::Instant;

use ringside::proto::replication::{Channel, Connection, Event, Port};

pub(crate) fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let port = [Port::First, Port::Second, Port::Third, Port::Fourth][usize::from(first & 3)];
    let whole = events(port, rest, rest.len().max(1));
    let cut = events(port, rest, usize::from(first >> 2) + 1);
    assert_eq!(whole, cut);
}

fn events(port: Port, data: &[u8], piece: usize) -> Vec<Event> {
    #[expect(
        clippy::disallowed_methods,
        reason = "there is no driver to take the time from"
    )]
    let now = Instant::now();
    let mut connection = Connection::new(now, port);
    let mut events: Vec<Event> = Vec::new();
    for piece in data.chunks(piece) {
        connection.handle_input(now, piece);
        while connection.poll_transmit().is_some() {}
        while let Some(event) = connection.poll_event() {
            assert!(
                !matches!(events.last(), Some(Event::Failed(_))),
                "nothing follows a failure"
            );
            if let Event::Opened { channel, .. } = &event
                && *channel == Channel::Push
            {
                // What follows waits for that.
                connection.trust();
            }
            if matches!(event, Event::Message(_)) {
                assert!(matches!(events.first(), Some(Event::Opened { .. })));
            }
            events.push(event);
        }
    }
    if let Some((until, _)) = connection.poll_timeout() {
        connection.handle_timeout(until);
        assert!(matches!(connection.poll_event(), Some(Event::Failed(_))));
    }
    events
}
