//! One side of one connection.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::hello::{Assembly, Choice, Offer};
use super::machine::{Fault, Machine, Signal};
use super::record::Screen;
use super::{CloseReason, Context, Error, Fingerprint, SrtpKeys};

/// Records that wait for `poll_transmit`. Data beyond is refused with [`Error::Full`].
pub(super) const SEND_RECORDS_MAX: usize = 64;

/// Events that wait for `poll_event`; one datagram makes at most 16. Data beyond is dropped, which
/// SCTP takes for loss.
const EVENTS_MAX: usize = 64;

/// The largest record's content (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

/// How often a server's handshake begins anew, within [`Options::handshake_max`], after forged or
/// broken messages have spoilt it.
///
/// [`Options::handshake_max`]: super::Options::handshake_max
const RESTARTS_MAX: u8 = 3;

/// After a datagram out of its place the crate may go on to ask for an instant that has passed, and
/// a driver would do nothing else until the handshake's time is over. It is asked again after this.
const OVERDUE: Duration = Duration::from_millis(50);

/// A connected session without its buffers has room for most datagrams here.
const SCRATCH_BYTES: usize = 2048;

/// Which side of the handshake we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We wait for the peer's ClientHello (`a=setup:passive`).
    Server,
    /// We begin (`a=setup:active`).
    Client,
}

/// What a session tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The handshake is complete and the peer's certificate is the one that was expected.
    Connected {
        /// `None` if the peer has no SRTP profile in common with us, or none at all.
        srtp: Option<SrtpKeys>,
    },
    /// What a record held: an SCTP packet. Never before `Connected`.
    Data(Bytes),
    /// The session has ended. Nothing follows.
    Closed(CloseReason),
}

/// What a session has dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Plaintext records that did not belong there: alerts, another client's hello.
    pub unauthenticated_records: u64,
    /// Handshakes begun anew.
    pub restarts: u64,
    /// Records of data dropped because nobody took the events.
    pub data_dropped: u64,
}

/// One side of one connection. The caller gives it only datagrams from addresses that ICE has
/// validated and for which [`is_dtls`](super::is_dtls) holds.
pub struct Session {
    state: State,
    role: Role,
    counters: Counters,
    transmits: VecDeque<Bytes>,
    events: VecDeque<Event>,
}

enum State {
    Handshake(Box<Handshake>),
    Connected(Box<Connected>),
    Closed,
}

/// What is needed until the connection is up.
struct Handshake {
    machine: Machine,
    context: Context,
    expected: Box<[Fingerprint]>,
    screen: Screen,
    /// As long as a server's state machine has not got the ClientHello.
    hello: Option<Assembly>,
    /// When it has to be done.
    deadline: Instant,
    /// When the state machine wants to be called.
    wake: Option<Instant>,
    verified: bool,
    connected: bool,
    srtp: Option<SrtpKeys>,
    restarts: u8,
}

struct Connected {
    machine: Machine,
    screen: Screen,
    wake: Option<Instant>,
}

/// Why a step does not go on.
enum Stop {
    Close(CloseReason),
    Fault(Fault),
}

impl Session {
    /// A session that waits for the peer, or, as client, has its first datagram ready.
    ///
    /// `expected` are the hashes of the peer's certificate, of which one has to match.
    ///
    /// # Errors
    ///
    /// If none is expected: then nothing would tell the peer from another.
    pub fn new(
        now: Instant,
        role: Role,
        context: &Context,
        expected: impl IntoIterator<Item = Fingerprint>,
    ) -> Result<Self, Error> {
        let expected: Box<[Fingerprint]> = expected.into_iter().collect();
        if expected.is_empty() {
            return Err(Error::NoFingerprint);
        }
        let handshake = Handshake {
            machine: Machine::first(now, role, context),
            context: context.clone(),
            expected,
            screen: Screen::default(),
            hello: awaited(role),
            deadline: now + context.options.handshake_max,
            wake: None,
            verified: false,
            connected: false,
            srtp: None,
            restarts: 0,
        };
        let mut session = Self {
            state: State::Handshake(Box::new(handshake)),
            role,
            counters: Counters::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        session.step(now, |machine| machine.handle_timeout(now));
        Ok(session)
    }

    /// Takes a datagram. What is not DTLS, not authentic or out of place is dropped.
    pub fn handle_input(&mut self, now: Instant, datagram: &[u8]) {
        // Nearly all that ever comes is a record of data, which changes no state.
        if let State::Connected(connected) = &mut self.state
            && let Machine::Server12(server) = &mut connected.machine
            && let Some(data) = server.open(datagram)
        {
            if let Some(data) = data {
                self.tell_data(Bytes::from(data));
            }
            return;
        }
        let screen = match &mut self.state {
            State::Handshake(handshake) => &mut handshake.screen,
            State::Connected(connected) => &mut connected.screen,
            State::Closed => return,
        };
        let (kept, dropped) = screen.pass(self.role, datagram);
        self.counters.unauthenticated_records += dropped;
        if kept.is_empty() {
            return;
        }
        let kept = match &mut self.state {
            State::Handshake(handshake) => match handshake.take_hello(now, kept) {
                Some(taken) => taken,
                None => return,
            },
            State::Connected(_) | State::Closed => kept,
        };
        self.step(now, |machine| {
            machine.handle_timeout(now)?;
            machine.handle_packet(now, &kept)
        });
    }

    /// Retransmits, or gives up.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Handshake(handshake) = &self.state
            && now >= handshake.deadline
        {
            self.end(CloseReason::HandshakeTimeout);
            return;
        }
        if self.poll_timeout().is_some_and(|(at, _)| now >= at) {
            self.step(now, |machine| machine.handle_timeout(now));
        }
    }

    /// The next datagram for the peer.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        let datagram = self.transmits.pop_front();
        if self.transmits.is_empty() && self.transmits.capacity() > 4 {
            self.transmits = VecDeque::new();
        }
        datagram
    }

    /// The next thing that has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > 4 {
            self.events = VecDeque::new();
        }
        event
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Handshake(handshake) => Some(match handshake.wake {
                Some(wake) if wake < handshake.deadline => (wake, "dtls retransmission"),
                Some(_) | None => (handshake.deadline, "dtls handshake"),
            }),
            State::Connected(connected) => connected.wake.map(|wake| (wake, "dtls retransmission")),
            State::Closed => None,
        }
    }

    /// Sends data: one SCTP packet, one record, one datagram.
    ///
    /// # Errors
    ///
    /// If the session is not connected, or too much is waiting for `poll_transmit`.
    pub fn write(&mut self, now: Instant, data: &[u8]) -> Result<(), Error> {
        if !matches!(self.state, State::Connected(_)) {
            return Err(Error::NotConnected);
        }
        if self.transmits.len() >= SEND_RECORDS_MAX || data.len() > RECORD_BYTES_MAX {
            return Err(Error::Full);
        }
        if let State::Connected(connected) = &mut self.state
            && let Machine::Server12(server) = &mut connected.machine
            && let Some(datagram) = server.seal(data)
        {
            self.transmits.push_back(Bytes::from(datagram));
            return Ok(());
        }
        self.step(now, |machine| {
            machine.handle_timeout(now)?;
            machine.send(data)
        });
        Ok(())
    }

    /// Says good-bye to the peer and ends; what is waiting can still be taken.
    pub fn close(&mut self, now: Instant) {
        if matches!(self.state, State::Connected(_)) {
            self.step(now, |machine| {
                machine.handle_timeout(now)?;
                machine.close()
            });
        }
        self.end(CloseReason::Local);
    }

    /// Whether data can be sent.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected(_))
    }

    /// What has been dropped.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Lets the state machine do one thing and takes everything that comes out of it.
    fn step(&mut self, now: Instant, action: impl FnOnce(&mut Machine) -> Result<(), Fault>) {
        let Some(machine) = self.machine() else {
            return;
        };
        let result = action(machine).map_err(Stop::Fault);
        // What was made before the fault, such as an alert, is sent.
        let drained = self.drain(now);
        match result.and(drained) {
            Ok(()) => {}
            Err(Stop::Close(reason)) => self.end(reason),
            Err(Stop::Fault(fault)) => self.fail(now, &fault),
        }
    }

    fn machine(&mut self) -> Option<&mut Machine> {
        match &mut self.state {
            State::Handshake(handshake) => Some(&mut handshake.machine),
            State::Connected(connected) => Some(&mut connected.machine),
            State::Closed => None,
        }
    }

    fn drain(&mut self, now: Instant) -> Result<(), Stop> {
        let mut scratch = [0; SCRATCH_BYTES];
        let mut larger = Vec::new();
        loop {
            let Some(machine) = self.machine() else {
                return Ok(());
            };
            let room: &mut [u8] = if larger.is_empty() {
                &mut scratch
            } else {
                &mut larger
            };
            match machine.poll(now, room) {
                Signal::Datagram(datagram) => {
                    if let State::Handshake(handshake) = &mut self.state {
                        handshake.screen.sent(self.role, datagram);
                    }
                    self.transmits.push_back(Bytes::copy_from_slice(datagram));
                }
                Signal::RoomNeeded(bytes) => larger.resize(bytes, 0),
                Signal::PeerCertificate(certificate) => {
                    if let State::Handshake(handshake) = &mut self.state {
                        handshake.verify(certificate)?;
                    }
                }
                Signal::Connected => {
                    if let State::Handshake(handshake) = &mut self.state {
                        handshake.connected = true;
                    }
                }
                Signal::Keys(keys) => {
                    if let State::Handshake(handshake) = &mut self.state {
                        let order = handshake.context.options.srtp;
                        handshake.srtp = Some(keys).filter(|keys| order.admits(keys.profile()));
                    }
                }
                Signal::Data(data) => {
                    let data = Bytes::copy_from_slice(data);
                    self.promote()?;
                    self.tell_data(data);
                }
                Signal::CloseNotify => return Err(Stop::Close(CloseReason::Peer)),
                Signal::Other => {}
                Signal::Idle(at) => {
                    self.promote()?;
                    let wake = at.map(|at| if at <= now { now + OVERDUE } else { at });
                    match &mut self.state {
                        State::Handshake(handshake) => handshake.wake = wake,
                        State::Connected(connected) => connected.wake = wake,
                        State::Closed => {}
                    }
                    return Ok(());
                }
            }
        }
    }

    fn tell_data(&mut self, data: Bytes) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(Event::Data(data));
        } else {
            self.counters.data_dropped += 1;
        }
    }

    /// From handshake to connection, once everything is there.
    fn promote(&mut self) -> Result<(), Stop> {
        let State::Handshake(handshake) = &self.state else {
            return Ok(());
        };
        if !handshake.connected {
            return Ok(());
        }
        if !handshake.verified {
            return Err(Stop::Close(CloseReason::WrongFingerprint));
        }
        let State::Handshake(handshake) = mem::replace(&mut self.state, State::Closed) else {
            return Ok(());
        };
        let Handshake {
            machine,
            screen,
            srtp,
            ..
        } = *handshake;
        self.state = State::Connected(Box::new(Connected {
            machine,
            screen,
            wake: None,
        }));
        self.events.push_back(Event::Connected { srtp });
        Ok(())
    }

    fn fail(&mut self, now: Instant, fault: &Fault) {
        let reason = match (&self.state, fault) {
            (_, Fault::Alert(description)) => CloseReason::Alert(*description),
            (State::Handshake(_), Fault::Timeout) => CloseReason::HandshakeTimeout,
            (State::Handshake(_), Fault::Failed(_) | Fault::Crate(_)) => CloseReason::Handshake,
            (State::Connected(_) | State::Closed, _) => CloseReason::Protocol,
        };
        tracing::debug!(%fault, %reason, "DTLS failed");
        if let State::Handshake(handshake) = &mut self.state
            && self.role == Role::Server
            && reason == CloseReason::Handshake
            && handshake.restarts < RESTARTS_MAX
        {
            handshake.restart();
            self.counters.restarts += 1;
            self.step(now, |machine| machine.handle_timeout(now));
            return;
        }
        self.end(reason);
    }

    fn end(&mut self, reason: CloseReason) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.events.push_back(Event::Closed(reason));
        }
    }
}

impl Handshake {
    fn verify(&mut self, certificate: &[u8]) -> Result<(), Stop> {
        self.verified = self
            .expected
            .iter()
            .any(|fingerprint| fingerprint.is_of(certificate));
        if self.verified {
            Ok(())
        } else {
            Err(Stop::Close(CloseReason::WrongFingerprint))
        }
    }

    /// What of a datagram is for the state machine, which gets a ClientHello whole. What comes
    /// before it is nothing that a client can have sent.
    fn take_hello<'a>(&mut self, now: Instant, datagram: Cow<'a, [u8]>) -> Option<Cow<'a, [u8]>> {
        let Some(assembly) = &mut self.hello else {
            return Some(datagram);
        };
        let hello = assembly.take(&datagram)?.into_owned();
        self.hello = None;
        self.screen.taken(&hello);
        // One that cannot be read is refused by either.
        let offer = Offer::read(&hello).unwrap_or_default();
        let (options, scheme) = (&self.context.options, self.context.certificate.scheme());
        self.machine = match offer.choose(options.versions, options.srtp, scheme) {
            Choice::Dtls12 => {
                let profile = options.srtp.choose(&offer.profiles);
                Machine::server12(&self.context, profile)
            }
            Choice::Dtls13 => Machine::server13(now, &self.context),
        };
        Some(Cow::Owned(hello))
    }

    /// Begins anew: the peer's retransmitted ClientHello finds a server that has seen nothing.
    fn restart(&mut self) {
        self.machine = Machine::Waiting;
        self.screen = Screen::default();
        self.hello = awaited(Role::Server);
        self.wake = None;
        self.verified = false;
        self.connected = false;
        self.srtp = None;
        self.restarts += 1;
    }
}

fn awaited(role: Role) -> Option<Assembly> {
    match role {
        Role::Server => Some(Assembly::default()),
        Role::Client => None,
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Handshake(_) => "handshake",
            State::Connected(_) => "connected",
            State::Closed => "closed",
        };
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("state", &state)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
