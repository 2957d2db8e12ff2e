//! One side of one connection.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dimpl::{Dtls, Output, SecurityError};

use super::hello::{Assembly, Offer};
use super::record::Screen;
use super::{CloseReason, Context, Error, Fingerprint, SrtpKeys, SrtpOrder, SrtpProfile, Versions};

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

/// An instant that is further away than this means that nothing is due: the crate has no other way
/// to say so.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

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
    dtls: Dtls,
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
    dtls: Dtls,
    screen: Screen,
    wake: Option<Instant>,
}

/// Why a step failed.
enum Fault {
    Close(CloseReason),
    Inner(dimpl::Error),
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
            dtls: begin(now, role, context, context.options.versions),
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
        session.step(now, |dtls| dtls.handle_timeout(now));
        Ok(session)
    }

    /// Takes a datagram. What is not DTLS, not authentic or out of place is dropped.
    pub fn handle_input(&mut self, now: Instant, datagram: &[u8]) {
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
        self.step(now, |dtls| {
            dtls.handle_timeout(now)?;
            dtls.handle_packet(&kept)
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
            self.step(now, |dtls| dtls.handle_timeout(now));
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
        self.step(now, |dtls| {
            dtls.handle_timeout(now)?;
            dtls.send_application_data(data).map(|_| ())
        });
        Ok(())
    }

    /// Says good-bye to the peer and ends; what is waiting can still be taken.
    pub fn close(&mut self, now: Instant) {
        if matches!(self.state, State::Connected(_)) {
            self.step(now, |dtls| {
                dtls.handle_timeout(now)?;
                dtls.close()
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
    fn step(&mut self, now: Instant, action: impl FnOnce(&mut Dtls) -> Result<(), dimpl::Error>) {
        let result = match &mut self.state {
            State::Handshake(handshake) => action(&mut handshake.dtls).map_err(Fault::Inner),
            State::Connected(connected) => action(&mut connected.dtls).map_err(Fault::Inner),
            State::Closed => return,
        };
        // What was made before the fault, such as an alert, is sent.
        let drained = self.drain(now);
        match result.and(drained) {
            Ok(()) => {}
            Err(Fault::Close(reason)) => self.end(reason),
            Err(Fault::Inner(error)) => self.fail(now, &error),
        }
    }

    fn drain(&mut self, now: Instant) -> Result<(), Fault> {
        let mut scratch = [0; SCRATCH_BYTES];
        let mut larger = Vec::new();
        loop {
            let dtls = match &mut self.state {
                State::Handshake(handshake) => &mut handshake.dtls,
                State::Connected(connected) => &mut connected.dtls,
                State::Closed => return Ok(()),
            };
            let room: &mut [u8] = if larger.is_empty() {
                &mut scratch
            } else {
                &mut larger
            };
            match dtls.poll_output(room) {
                Output::Packet(datagram) => {
                    if let State::Handshake(handshake) = &mut self.state {
                        handshake.screen.sent(self.role, datagram);
                    }
                    self.transmits.push_back(Bytes::copy_from_slice(datagram));
                }
                Output::BufferTooSmall { needed } => larger.resize(needed, 0),
                Output::PeerCert(certificate) => {
                    if let State::Handshake(handshake) = &mut self.state {
                        handshake.verify(certificate)?;
                    }
                }
                Output::Connected => {
                    if let State::Handshake(handshake) = &mut self.state {
                        handshake.connected = true;
                    }
                }
                Output::KeyingMaterial(material, profile) => {
                    if let State::Handshake(handshake) = &mut self.state {
                        handshake.srtp = handshake.keys(profile, &material);
                    }
                }
                Output::ApplicationData(data) => {
                    let data = Bytes::copy_from_slice(data);
                    self.promote()?;
                    if self.events.len() < EVENTS_MAX {
                        self.events.push_back(Event::Data(data));
                    } else {
                        self.counters.data_dropped += 1;
                    }
                }
                Output::CloseNotify => return Err(Fault::Close(CloseReason::Peer)),
                Output::Timeout(at) => {
                    self.promote()?;
                    let wake = match at {
                        at if at >= now + NEVER => None,
                        at if at <= now => Some(now + OVERDUE),
                        at => Some(at),
                    };
                    match &mut self.state {
                        State::Handshake(handshake) => handshake.wake = wake,
                        State::Connected(connected) => connected.wake = wake,
                        State::Closed => {}
                    }
                    return Ok(());
                }
                // The enum of the crate may grow.
                _ => {}
            }
        }
    }

    /// From handshake to connection, once everything is there.
    fn promote(&mut self) -> Result<(), Fault> {
        let State::Handshake(handshake) = &self.state else {
            return Ok(());
        };
        if !handshake.connected {
            return Ok(());
        }
        if !handshake.verified {
            return Err(Fault::Close(CloseReason::WrongFingerprint));
        }
        let State::Handshake(handshake) = mem::replace(&mut self.state, State::Closed) else {
            return Ok(());
        };
        let Handshake {
            dtls, screen, srtp, ..
        } = *handshake;
        self.state = State::Connected(Box::new(Connected {
            dtls,
            screen,
            wake: None,
        }));
        self.events.push_back(Event::Connected { srtp });
        Ok(())
    }

    fn fail(&mut self, now: Instant, error: &dimpl::Error) {
        let reason = match (&self.state, error) {
            (_, dimpl::Error::SecurityError(SecurityError::FatalAlert { description })) => {
                CloseReason::Alert(*description)
            }
            (State::Handshake(_), dimpl::Error::Timeout(_)) => CloseReason::HandshakeTimeout,
            (State::Handshake(_), _) => CloseReason::Handshake,
            (State::Connected(_) | State::Closed, _) => CloseReason::Protocol,
        };
        tracing::debug!(%error, %reason, "DTLS failed");
        if let State::Handshake(handshake) = &mut self.state
            && self.role == Role::Server
            && reason == CloseReason::Handshake
            && handshake.restarts < RESTARTS_MAX
        {
            handshake.restart(now);
            self.counters.restarts += 1;
            self.step(now, |dtls| dtls.handle_timeout(now));
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
    fn verify(&mut self, certificate: &[u8]) -> Result<(), Fault> {
        self.verified = self
            .expected
            .iter()
            .any(|fingerprint| fingerprint.is_of(certificate));
        if self.verified {
            Ok(())
        } else {
            Err(Fault::Close(CloseReason::WrongFingerprint))
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
        let options = &self.context.options;
        let takes_gcm = match options.srtp {
            SrtpOrder::GcmFirst | SrtpOrder::Forced(_) => true,
            SrtpOrder::ClientOrder => false,
        };
        // One that cannot be read is the state machine's to refuse.
        let is_better = Offer::read(&hello).is_ok_and(|offer| offer.has_gcm_under_1_2_only());
        if takes_gcm && is_better && options.versions == Versions::Both {
            self.dtls = begin(now, Role::Server, &self.context, Versions::Dtls12);
        }
        Some(Cow::Owned(hello))
    }

    fn keys(&self, agreed: dimpl::SrtpProfile, material: &[u8]) -> Option<SrtpKeys> {
        let agreed = SrtpProfile::from_inner(agreed)?;
        match self.context.options.srtp {
            SrtpOrder::GcmFirst | SrtpOrder::ClientOrder => SrtpKeys::new(agreed, material),
            SrtpOrder::Forced(profile) => {
                SrtpKeys::new(profile, material.get(..profile.material_size())?)
            }
        }
    }

    /// Begins anew: the peer's retransmitted ClientHello finds a server that has seen nothing.
    fn restart(&mut self, now: Instant) {
        let versions = self.context.options.versions;
        self.dtls = begin(now, Role::Server, &self.context, versions);
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

fn begin(now: Instant, role: Role, context: &Context, versions: Versions) -> Dtls {
    let (config, certificate) = (context.config.clone(), context.certificate.inner().clone());
    let mut dtls = match versions {
        Versions::Both => Dtls::new_auto(config, certificate, now),
        Versions::Dtls12 => Dtls::new_12(config, certificate, now),
        Versions::Dtls13 => Dtls::new_13(config, certificate, now),
    };
    if role == Role::Client {
        dtls.set_active(true);
    }
    dtls
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
