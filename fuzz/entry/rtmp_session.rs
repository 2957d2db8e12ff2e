//! A server session behind its handshake, with a door that says yes, or no to every third peer.

use std::time::Instant;

use ringside::proto::rtmp::{Event, Options, Refusal, Session};

pub(crate) fn run(data: &[u8]) {
    #[expect(
        clippy::disallowed_methods,
        reason = "there is no driver to take the time from"
    )]
    let now = Instant::now();
    let options = Options {
        message_bytes_max: 1 << 16,
        held_bytes_max: 1 << 12,
        ..Options::default()
    };
    let mut session = Session::new(options, 1, now);
    let mut hello = [0; 1 + 2 * 1536];
    hello[0] = 3;
    session.handle_input(now, &hello);

    // The first byte says how the rest is cut.
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let piece = usize::from(*first) * 8 + 1;
    for piece in rest.chunks(piece) {
        session.handle_input(now, piece);
        while let Some(event) = session.poll_event() {
            match event {
                Event::Publish(_) if first % 3 == 0 => session.refuse_publish(Refusal::Busy),
                Event::Publish(_) => session.accept_publish(),
                Event::Play(..) if first % 3 == 0 => session.refuse_play(Refusal::NotFound),
                Event::Play(..) => session.accept_play(),
                Event::Closed(_) => {
                    assert!(session.poll_event().is_none(), "nothing follows the end");
                    assert!(session.poll_timeout().is_none());
                    return;
                }
                Event::Track(_)
                | Event::Frame(_)
                | Event::Metadata(_)
                | Event::BadMedia(_)
                | Event::Pause(_)
                | Event::Unpublish
                | Event::StopPlay => {}
            }
        }
        while session.poll_transmit().is_some() {}
    }
    if let Some((deadline, _)) = session.poll_timeout() {
        session.handle_timeout(deadline);
        assert!(matches!(session.poll_event(), Some(Event::Closed(_))));
    }
}
