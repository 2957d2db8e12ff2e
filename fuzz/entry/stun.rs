//! Any bytes are a message or none, a message that was changed anywhere is not authentic, and an
//! agent answers nothing that it should not.

use std::time::Instant;

use ringside::proto::ice::Candidate;
use ringside::proto::ice::{Agent, Channel, Credentials, Deframer, Options, Path, ufrag_of};
use ringside::proto::stun::{Key, Message, is_stun, username_of};

pub(crate) fn run(data: &[u8]) {
    message(data);
    frames(data);
    if let Ok(text) = str::from_utf8(data)
        && let Some(candidate) = Candidate::parse(text)
    {
        let again = Candidate::parse(&candidate.to_string());
        assert_eq!(again, Some(candidate));
    }
}

fn message(data: &[u8]) {
    let key = Key::new("VOkJxbRl1RmTxUk/WvJxBt");
    let name = username_of(data);
    if let Some(ufrag) = ufrag_of(data) {
        assert!(name.is_some_and(|name| name.starts_with(ufrag)));
    }
    let authentic = match Message::parse(data) {
        Ok(message) => {
            // Methods above 127 have first bytes that are another protocol's on a shared port.
            assert_eq!(is_stun(data), data[0] < 4);
            if let (Some(name), Some(parsed)) = (name, message.username) {
                assert_eq!(name.as_bytes(), parsed);
            }
            message.is_authentic(&key)
        }
        Err(_) => false,
    };
    let now = now();
    let local = Credentials {
        ufrag: "evtj".to_owned(),
        password: "VOkJxbRl1RmTxUk/WvJxBt".to_owned(),
    };
    let path = Path {
        remote: ([192, 0, 2, 1], 32_853).into(),
        channel: Channel(0),
    };
    let mut agent = Agent::new(now, local, None, Options::default());
    agent.handle_input(now, path, data);
    let response = agent.poll_transmit();
    assert!(response.is_none() || authentic);
    if let Some((_, response)) = &response {
        assert!(response.len() <= data.len());
        assert!(Message::parse(response).is_ok_and(|message| message.is_authentic(&key)));
    }
    assert!(!agent.is_valid(path) || response.is_some());
    assert!(agent.selected().is_none() || agent.is_valid(path));
}

/// However a stream is cut, the same frames come out.
fn frames(data: &[u8]) {
    let whole = deframe(&[data]);
    for cut in [1, data.len() / 2] {
        if let Some((first, second)) = data.split_at_checked(cut) {
            assert_eq!(deframe(&[first, second]), whole);
        }
    }
}

fn deframe(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let mut deframer = Deframer::new();
    let mut frames = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match deframer.next(rest) {
                Ok((taken, Some(frame))) => {
                    frames.push(frame.to_vec());
                    rest = &rest[taken..];
                }
                Ok((taken, None)) => {
                    assert_eq!(taken, rest.len());
                    break;
                }
                Err(_) => return (frames, false),
            }
        }
    }
    (frames, true)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a session has to begin at some time"
)]
fn now() -> Instant {
    Instant::now()
}
