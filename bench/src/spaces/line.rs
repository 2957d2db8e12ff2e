//! A player's WebSocket.

use std::time::Instant;

use bytes::Bytes;
use ringside::drive::Session;
use ringside::proto::websocket::{self, ClientHandshake, Message};

/// What the server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// Messages can go.
    Open,
    /// A message.
    Text(String),
    /// It is over.
    Closed(String),
}

enum State {
    Asking(ClientHandshake, Option<Bytes>),
    Open(Box<websocket::Session>),
    Closed,
}

/// One WebSocket.
pub(super) struct Line {
    state: State,
    seed: u64,
    event: Option<Said>,
}

impl Line {
    pub(super) fn new(host: &str, seed: u64) -> Self {
        let (handshake, request) = ClientHandshake::new(host, "/", "", true, seed);
        Self {
            state: State::Asking(handshake, Some(request)),
            seed,
            event: None,
        }
    }

    pub(super) fn say(&mut self, text: &str) {
        if let State::Open(session) = &mut self.state {
            session.send_text(text);
        }
    }

    fn close(&mut self, reason: String) {
        self.event = Some(Said::Closed(reason));
        self.state = State::Closed;
    }
}

impl Session for Line {
    type Event = Said;

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        match &mut self.state {
            State::Asking(handshake, _) => match handshake.handle_input(bytes) {
                Ok(None) => {}
                Ok(Some((deflate, rest))) => {
                    let options = websocket::Options::default();
                    let mut session = websocket::Session::client(now, options, deflate, self.seed);
                    session.handle_input(now, &rest);
                    self.state = State::Open(Box::new(session));
                    self.event = Some(Said::Open);
                }
                Err(error) => self.close(error.to_string()),
            },
            State::Open(session) => session.handle_input(now, bytes),
            State::Closed => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let State::Open(session) = &mut self.state {
            session.handle_timeout(now);
        }
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        match &mut self.state {
            State::Asking(_, request) => request.take(),
            State::Open(session) => session.poll_transmit(),
            State::Closed => None,
        }
    }

    fn poll_event(&mut self) -> Option<Said> {
        if let Some(event) = self.event.take() {
            return Some(event);
        }
        loop {
            let State::Open(session) = &mut self.state else {
                return None;
            };
            match session.poll_event()? {
                websocket::Event::Message(Message::Text(text)) => return Some(Said::Text(text)),
                // To generation 2 everything is text.
                websocket::Event::Message(Message::Binary(_)) => {}
                websocket::Event::Closed(reason) => {
                    self.state = State::Closed;
                    return Some(Said::Closed(format!("{reason:?}")));
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Open(session) => session.poll_timeout(),
            State::Asking(..) | State::Closed => None,
        }
    }
}
