//! The least of a full, controlling side: one path, checked and kept. For a load client whose peer is
//! an [`Agent`](super::Agent).

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::path::{Credentials, Path};
use crate::base::prng::Prng;
use crate::proto::stun::{BINDING, Builder, Class, Key, Message, TransactionId};

/// Priority of a peer-reflexive candidate of the first address (RFC 8445 section 5.1.2.1).
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;
/// Requests whose response still counts. A response takes less time than this many checks.
const OUTSTANDING_MAX: usize = 4;

/// Waiting times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckerOptions {
    /// Between requests until the first response.
    pub retransmit: Duration,
    /// Until the first response.
    pub connect: Duration,
    /// Between checks of consent: from this to twice as long, at random (RFC 7675 section 5.1 has 4
    /// to 6 s, browsers 2.5 s).
    pub consent_interval: Duration,
    /// Without a response for so long, consent is gone.
    pub consent: Duration,
}

impl Default for CheckerOptions {
    fn default() -> Self {
        Self {
            retransmit: Duration::from_millis(500),
            connect: Duration::from_secs(10),
            consent_interval: Duration::from_millis(2500),
            consent: Duration::from_secs(30),
        }
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckerEvent {
    /// The path works, and is nominated.
    Connected,
    /// There is no response, or a refusal. Nothing happens after this.
    Failed,
}

/// A controlling side with one path.
#[derive(Debug)]
pub struct Checker {
    options: CheckerOptions,
    local: Credentials,
    remote: Credentials,
    key: Key,
    path: Path,
    prng: Prng,
    tie_breaker: u64,
    outstanding: [Option<TransactionId>; OUTSTANDING_MAX],
    sent: usize,
    state: State,
    transmit: Option<Bytes>,
    event: Option<CheckerEvent>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Connecting { next: Instant, until: Instant },
    Connected { next: Instant, until: Instant },
    Failed,
}

impl Checker {
    /// Begins to check `path`. Transaction ids and jitter follow from `seed`.
    pub fn new(
        now: Instant,
        local: Credentials,
        remote: Credentials,
        path: Path,
        seed: u64,
        options: CheckerOptions,
    ) -> Self {
        let mut prng = Prng::new(seed);
        let mut checker = Self {
            options,
            key: Key::new(&remote.password),
            local,
            remote,
            path,
            tie_breaker: prng.next_u64(),
            prng,
            outstanding: [None; OUTSTANDING_MAX],
            sent: 0,
            state: State::Connecting {
                next: now,
                until: now + options.connect,
            },
            transmit: None,
            event: None,
        };
        checker.handle_timeout(now);
        checker
    }

    /// A datagram that [`stun::is_stun`](crate::proto::stun::is_stun) takes for a message. What is
    /// not a response to a check of ours is ignored.
    pub fn handle_input(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        let Ok(message) = Message::parse(bytes) else {
            return;
        };
        let is_ours = self.outstanding.contains(&Some(message.transaction));
        if path != self.path || message.method != BINDING || !is_ours {
            return;
        }
        if !message.is_authentic(&self.key) {
            return;
        }
        match (message.class, self.state) {
            (Class::Success, State::Connecting { .. } | State::Connected { .. }) => {
                self.outstanding = [None; OUTSTANDING_MAX];
                if matches!(self.state, State::Connecting { .. }) {
                    self.event = Some(CheckerEvent::Connected);
                }
                self.state = State::Connected {
                    next: now + self.consent_pause(),
                    until: now + self.options.consent,
                };
            }
            (Class::Error, State::Connecting { .. } | State::Connected { .. }) => self.fail(),
            (Class::Request | Class::Indication, _) | (_, State::Failed) => {}
        }
    }

    fn consent_pause(&mut self) -> Duration {
        let least = self.options.consent_interval;
        least + Duration::from_micros(self.prng.below(least.as_micros() as u64))
    }

    fn fail(&mut self) {
        self.state = State::Failed;
        self.transmit = None;
        self.event = Some(CheckerEvent::Failed);
    }

    /// Time went on.
    pub fn handle_timeout(&mut self, now: Instant) {
        let (next, until) = match self.state {
            State::Connecting { next, until } | State::Connected { next, until } => (next, until),
            State::Failed => return,
        };
        if now >= until {
            self.fail();
        } else if now >= next {
            self.check();
            self.state = match self.state {
                State::Connecting { .. } => State::Connecting {
                    next: now + self.options.retransmit,
                    until,
                },
                State::Connected { .. } => State::Connected {
                    next: now + self.consent_pause(),
                    until,
                },
                State::Failed => State::Failed,
            };
        }
    }

    fn check(&mut self) {
        let mut transaction = TransactionId([0; 12]);
        self.prng.fill(&mut transaction.0);
        self.outstanding[self.sent % OUTSTANDING_MAX] = Some(transaction);
        self.sent += 1;
        let request = Builder::new(Class::Request, transaction)
            .username(&self.remote.ufrag, &self.local.ufrag)
            .priority(PRIORITY)
            .controlling(self.tie_breaker)
            .use_candidate()
            .sign(&self.key)
            .finish();
        self.transmit = Some(request);
    }

    /// The path works and did not stop to.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    /// The next check to send.
    pub fn poll_transmit(&mut self) -> Option<(Path, Bytes)> {
        self.transmit.take().map(|bytes| (self.path, bytes))
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<CheckerEvent> {
        self.event.take()
    }

    /// When [`Checker::handle_timeout`] is to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::Connecting { next, until } => Some((next.min(until), "ICE check")),
            State::Connected { next, until } => Some((next.min(until), "consent check")),
            State::Failed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant as Clock;

    use super::*;
    use crate::proto::ice::{Agent, Channel, Event, Options};

    fn credentials(name: &str) -> Credentials {
        Credentials {
            ufrag: name.to_owned(),
            password: format!("password-of-{name}-with-22-characters"),
        }
    }

    fn path() -> Path {
        Path {
            remote: SocketAddr::from(([192, 0, 2, 1], 5000)),
            channel: Channel(1),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a test has to begin at some time"
    )]
    fn pair() -> (Instant, Checker, Agent) {
        let now = Clock::now();
        let (client, server) = (credentials("client"), credentials("server"));
        let options = CheckerOptions::default();
        let checker = Checker::new(now, client.clone(), server.clone(), path(), 7, options);
        let agent = Agent::new(now, server, Some(client), Options::default());
        (now, checker, agent)
    }

    /// Runs both until `end`; the answers of the agent arrive where `delivers` says so.
    fn run(
        now: &mut Instant,
        end: Instant,
        (checker, agent): (&mut Checker, &mut Agent),
        delivers: bool,
    ) -> usize {
        let mut checks = 0;
        loop {
            while let Some((path, bytes)) = checker.poll_transmit() {
                checks += 1;
                agent.handle_input(*now, path, &bytes);
            }
            while let Some((path, bytes)) = agent.poll_transmit() {
                if delivers {
                    checker.handle_input(*now, path, &bytes);
                }
            }
            let next = checker.poll_timeout().map_or(end, |(at, _)| at);
            if next >= end {
                *now = end;
                return checks;
            }
            *now = next;
            checker.handle_timeout(*now);
        }
    }

    #[test]
    fn both_sides_meet_and_keep_consent() {
        let (mut now, mut checker, mut agent) = pair();
        let end = now + Duration::from_secs(300);
        let checks = run(&mut now, end, (&mut checker, &mut agent), true);
        assert_eq!(checker.poll_event(), Some(CheckerEvent::Connected));
        assert_eq!(checker.poll_event(), None);
        assert_eq!(agent.poll_event(), Some(Event::Validated(path())));
        assert_eq!(agent.poll_event(), Some(Event::Selected(path())));
        assert_eq!(agent.poll_event(), None);
        assert!(checker.is_connected());
        assert!((60..=120).contains(&checks), "{checks} checks");
        assert_eq!(agent.statistics().answered, checks as u64);
    }

    #[test]
    fn silence_fails_a_connection_and_an_attempt() {
        let (mut now, mut checker, mut agent) = pair();
        let begin = now;
        let end = now + Duration::from_secs(100);
        let checks = run(&mut now, end, (&mut checker, &mut agent), false);
        assert_eq!(checks, 20, "every half second for ten seconds");
        assert_eq!(checker.poll_event(), Some(CheckerEvent::Failed));
        assert_eq!(checker.poll_timeout(), None);

        let (mut now, mut checker, mut agent) = pair();
        let end = now + Duration::from_secs(1);
        run(&mut now, end, (&mut checker, &mut agent), true);
        assert_eq!(checker.poll_event(), Some(CheckerEvent::Connected));
        let end = now + Duration::from_secs(100);
        run(&mut now, end, (&mut checker, &mut agent), false);
        assert_eq!(checker.poll_event(), Some(CheckerEvent::Failed));
        assert!(now > begin);
    }

    #[test]
    fn a_response_of_a_stranger_does_not_count() {
        let (now, mut checker, _) = pair();
        let (_, request) = checker.poll_transmit().unwrap();
        let transaction = Message::parse(&request).unwrap().transaction;
        let forged = Builder::new(Class::Success, transaction)
            .mapped_address(path().remote)
            .sign(&Key::new("another"))
            .finish();
        checker.handle_input(now, path(), &forged);
        assert_eq!(checker.poll_event(), None);
        let unasked = Builder::new(Class::Success, TransactionId([1; 12]))
            .mapped_address(path().remote)
            .sign(&checker.key)
            .finish();
        checker.handle_input(now, path(), &unasked);
        assert_eq!(checker.poll_event(), None);
    }
}
