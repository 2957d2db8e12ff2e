use std::time::Instant;

use crate::proto::http::{self, Request};

/// Some time: what follows in a test is counted from it.
#[expect(
    clippy::disallowed_methods,
    reason = "a test has to begin at some time"
)]
pub(super) fn start() -> Instant {
    Clock::now()
}

use std::time::Instant as Clock;

/// The request in a text.
pub(super) fn request(text: &str) -> Request {
    let mut session = http::Session::new(start(), http::Options::default());
    session.handle_input(start(), text.as_bytes());
    match session.poll_event() {
        Some(http::Event::Request(request)) => *request,
        other => panic!("{other:?} of {text:?}, {:?}", session.poll_transmit()),
    }
}
