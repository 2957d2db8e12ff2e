//! The server of DTLS 1.2 (RFC 6347, RFC 5246), with what WebRTC asks of it and nothing else.
//!
//! The crate's server has a fixed order of SRTP profiles and takes no client certificate but ECDSA.
//! This one takes the profile that it is told to, and RSA certificates as well. ECDHE with ECDSA and
//! AES-GCM, extended master secrets and a client certificate are not negotiable; there is no cookie,
//! since ICE has proved the address, and no resumption, renegotiation or compression.
//!
//! ```text
//! ClientHello                       ->
//!                                   <-  ServerHello, Certificate, ServerKeyExchange,
//!                                       CertificateRequest, ServerHelloDone
//! Certificate, ClientKeyExchange,
//! CertificateVerify, Finished       ->
//!                                   <-  Finished
//! ```
//!
//! Until the client's signature has been checked nothing is authenticated. So its three messages are
//! gathered and judged together, and if they do not hold they are forgotten: the client's own will
//! come again. ChangeCipherSpec is sent and not looked at, as the epoch says the same.

mod client_flight;
mod flight;
mod peer_key;
mod protection;
mod secrets;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::constant_time;
use aws_lc_rs::rand;

use crate::base::bytes::Reader;

use super::context::RETRANSMIT_AFTER;
use super::hello::{Group, Offer, Suite};
use super::machine::{Fault, Signal};
use super::record::{CHANGE_CIPHER_SPEC, CLIENT_HELLO, FINISHED, HANDSHAKE, Message, next_record};
use super::{Context, Error, SrtpKeys, SrtpProfile};

use client_flight::{ClientFlight, FINISHED_NUMBER};
use flight::{Answer, datagrams, write_message, write_record_head};
use peer_key::PeerKey;
use protection::{Opener, Protection, Sealer};
use secrets::{Secrets, Side, VERIFY_BYTES};

const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;

const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const HANDSHAKE_FAILURE: u8 = 40;
const DECRYPT_ERROR: u8 = 51;

/// The longest pause between retransmissions: of 15 s that a handshake may take, none is spent
/// waiting on a peer that is there.
const RETRANSMIT_AFTER_MAX: Duration = Duration::from_millis(1600);

/// What the peer sends again is answered no sooner than this after the last answer, so that its
/// flight of several datagrams, or a forger's, is not answered several times.
const REPEAT_AFTER: Duration = Duration::from_millis(50);

/// Protected records that come before the keys: the client's Finished, and its first data.
const EARLY_RECORDS_MAX: usize = 8;
/// The longest of them that is kept.
const EARLY_BYTES_MAX: usize = 2048;

/// How often a client's messages may turn out wrong: 8 checks of a signature are 1 ms.
const REJECTIONS_MAX: u8 = 8;

/// One server's side.
pub(super) struct Server12 {
    state: State,
    outputs: VecDeque<Output>,
    /// Of the next plaintext record.
    number: u64,
    datagram_bytes_max: usize,
}

enum State {
    /// Before the ClientHello.
    Start(Box<Start>),
    /// The client has been answered.
    Answered(Box<Answered>),
    /// The keys are known, the client's Finished is not.
    Proven(Box<Proven>),
    Connected(Box<Connected>),
    Closed,
}

struct Start {
    context: Context,
    profile: Option<SrtpProfile>,
}

struct Answered {
    exchange: PrivateKey,
    offer: Offer,
    random: [u8; 32],
    profile: Option<SrtpProfile>,
    suite: Suite,
    group: Group,
    resend: Resend,
    received: ClientFlight,
    early: Vec<Vec<u8>>,
    rejections: u8,
}

struct Proven {
    secrets: Secrets,
    profile: Option<SrtpProfile>,
    resend: Resend,
    opener: Opener,
    sealer: Sealer,
}

struct Connected {
    opener: Opener,
    sealer: Sealer,
    /// Our Finished, which the client has not got if its own comes again.
    finished: Vec<u8>,
    repeated: Instant,
}

/// Our flight, until it is answered.
struct Resend {
    /// What has been said on both sides, as it is hashed.
    transcript: Vec<u8>,
    /// Where our flight is in it.
    flight_start: usize,
    flight_end: usize,
    at: Instant,
    pause: Duration,
    repeated: Instant,
}

enum Output {
    Datagram(Vec<u8>),
    PeerCertificate(Vec<u8>),
    Connected,
    Keys(SrtpKeys),
    Data(Vec<u8>),
    CloseNotify,
}

impl Server12 {
    /// Waits for a ClientHello and answers it with this profile.
    pub(super) fn new(context: &Context, profile: Option<SrtpProfile>) -> Self {
        Self {
            state: State::Start(Box::new(Start {
                context: context.clone(),
                profile,
            })),
            outputs: VecDeque::new(),
            number: 0,
            datagram_bytes_max: context.options.datagram_bytes_max,
        }
    }

    /// Takes a datagram. What is not authentic or out of place is dropped.
    pub(super) fn handle_packet(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Fault> {
        let mut reader = Reader::new(datagram);
        while let Some(record) = next_record(&mut reader) {
            match record.plain {
                Some((HANDSHAKE, body)) => self.take_plain(now, record.whole, body)?,
                Some(_) => {}
                None => self.take_protected(now, record.whole)?,
            }
        }
        Ok(())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let resend = match &mut self.state {
            State::Answered(answered) => &mut answered.resend,
            State::Proven(proven) => &mut proven.resend,
            State::Start(_) | State::Connected(_) | State::Closed => return,
        };
        if now < resend.at {
            return;
        }
        resend.pause = (2 * resend.pause).min(RETRANSMIT_AFTER_MAX);
        resend.at = now + resend.pause;
        resend.repeated = now;
        self.send_flight();
    }

    /// Seals data, of at most 16384 bytes.
    pub(super) fn send(&mut self, data: &[u8]) {
        if let State::Connected(connected) = &mut self.state {
            let mut datagram = Vec::new();
            connected.sealer.seal(APPLICATION_DATA, data, &mut datagram);
            self.outputs.push_back(Output::Datagram(datagram));
        }
    }

    /// Data as a datagram. `None` unless connected.
    pub(super) fn seal(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        let State::Connected(connected) = &mut self.state else {
            return None;
        };
        let mut datagram = Vec::new();
        connected.sealer.seal(APPLICATION_DATA, data, &mut datagram);
        Some(datagram)
    }

    /// What is in a datagram that is one record of data, if it is authentic. `None` for any other
    /// datagram, of which nothing is done then.
    pub(super) fn open(&mut self, datagram: &[u8]) -> Option<Option<Vec<u8>>> {
        let State::Connected(connected) = &mut self.state else {
            return None;
        };
        let size = datagram.get(11..13)?;
        let size = usize::from(u16::from_be_bytes([size[0], size[1]]));
        let is_data = datagram[0] == APPLICATION_DATA && datagram[3..5] == [0, 1];
        if !is_data || datagram.len() != 13 + size {
            return None;
        }
        Some(connected.opener.open(datagram).map(|(_, text)| text))
    }

    /// Says good-bye.
    pub(super) fn close(&mut self) {
        if let State::Connected(mut connected) = mem::replace(&mut self.state, State::Closed) {
            let mut datagram = Vec::new();
            let alert = [1, CLOSE_NOTIFY];
            connected.sealer.seal(ALERT, &alert, &mut datagram);
            self.outputs.push_back(Output::Datagram(datagram));
        }
    }

    /// What has happened.
    pub(super) fn poll<'a>(&mut self, room: &'a mut [u8]) -> Signal<'a> {
        let Some(output) = self.outputs.pop_front() else {
            if self.outputs.capacity() > 4 {
                self.outputs = VecDeque::new();
            }
            return Signal::Idle(match &self.state {
                State::Answered(answered) => Some(answered.resend.at),
                State::Proven(proven) => Some(proven.resend.at),
                State::Start(_) | State::Connected(_) | State::Closed => None,
            });
        };
        let bytes: &[u8] = match &output {
            Output::Datagram(bytes) | Output::PeerCertificate(bytes) | Output::Data(bytes) => bytes,
            Output::Connected | Output::Keys(_) | Output::CloseNotify => &[],
        };
        let Some(place) = room.get_mut(..bytes.len()) else {
            let needed = bytes.len();
            self.outputs.push_front(output);
            return Signal::RoomNeeded(needed);
        };
        place.copy_from_slice(bytes);
        match output {
            Output::Datagram(_) => Signal::Datagram(place),
            Output::PeerCertificate(_) => Signal::PeerCertificate(place),
            Output::Keys(keys) => Signal::Keys(keys),
            Output::Data(_) => Signal::Data(place),
            Output::Connected => Signal::Connected,
            Output::CloseNotify => Signal::CloseNotify,
        }
    }

    fn take_plain(&mut self, now: Instant, record: &[u8], body: &[u8]) -> Result<(), Fault> {
        let mut rest = body;
        while let Ok(message) = Message::read(rest) {
            rest = &rest[Message::HEADER_SIZE + message.body.len()..];
            match &mut self.state {
                State::Start(start) => {
                    if message.kind == CLIENT_HELLO {
                        let Start { context, profile } = &**start;
                        let answered = answer(now, context, *profile, record, &message)
                            .map_err(|fault| self.refuse(fault))?;
                        self.state = State::Answered(Box::new(answered));
                        self.send_flight();
                        return Ok(());
                    }
                }
                State::Answered(_) if message.kind == CLIENT_HELLO => self.repeat_flight(now),
                State::Answered(answered) => {
                    if answered.received.add(&message) {
                        self.judge(now)?;
                    }
                }
                // The client's signature has been checked: nothing else in plaintext counts.
                State::Proven(_) | State::Connected(_) | State::Closed => {}
            }
        }
        Ok(())
    }

    /// The client's three messages are there.
    fn judge(&mut self, now: Instant) -> Result<(), Fault> {
        let state = mem::replace(&mut self.state, State::Closed);
        let State::Answered(mut answered) = state else {
            self.state = state;
            return Ok(());
        };
        let Some((secrets, certificate)) = answered.judge() else {
            answered.received.clear();
            answered.rejections += 1;
            if answered.rejections == REJECTIONS_MAX {
                return Err(self.refuse(Fault::Failed("the client's messages do not hold")));
            }
            self.state = State::Answered(answered);
            return Ok(());
        };
        self.outputs.push_back(Output::PeerCertificate(certificate));
        let [of_client, of_server] = secrets
            .directions()
            .map(|direction| Protection::new(answered.suite, &direction));
        let Answered {
            profile,
            resend,
            early,
            ..
        } = *answered;
        self.state = State::Proven(Box::new(Proven {
            secrets,
            profile,
            resend,
            opener: Opener::new(of_client),
            sealer: Sealer::new(of_server),
        }));
        for record in early {
            self.take_protected(now, &record)?;
        }
        Ok(())
    }

    fn take_protected(&mut self, now: Instant, record: &[u8]) -> Result<(), Fault> {
        let opener = match &mut self.state {
            State::Answered(answered) => {
                if answered.early.len() < EARLY_RECORDS_MAX && record.len() <= EARLY_BYTES_MAX {
                    answered.early.push(record.to_vec());
                }
                return Ok(());
            }
            State::Proven(proven) => &mut proven.opener,
            State::Connected(connected) => &mut connected.opener,
            State::Start(_) | State::Closed => return Ok(()),
        };
        let Some((kind, text)) = opener.open(record) else {
            return Ok(());
        };
        match (kind, &mut self.state) {
            (HANDSHAKE, State::Proven(_)) => self.take_finished(now, &text),
            (HANDSHAKE, State::Connected(_)) => {
                self.repeat_finished(now, &text);
                Ok(())
            }
            (ALERT, _) => self.take_alert(&text),
            (APPLICATION_DATA, State::Connected(_)) => {
                self.outputs.push_back(Output::Data(text));
                Ok(())
            }
            // Data before Finished is lost, as by UDP.
            _ => Ok(()),
        }
    }

    fn take_finished(&mut self, now: Instant, text: &[u8]) -> Result<(), Fault> {
        let state = mem::replace(&mut self.state, State::Closed);
        let State::Proven(mut proven) = state else {
            self.state = state;
            return Ok(());
        };
        let Some(claimed) = finished(text) else {
            self.state = State::Proven(proven);
            return Ok(());
        };
        let transcript = &mut proven.resend.transcript;
        let expected = proven.secrets.verify_data(Side::Client, transcript);
        if constant_time::verify_slices_are_equal(claimed, &expected).is_err() {
            let mut datagram = Vec::new();
            proven
                .sealer
                .seal(ALERT, &[FATAL, DECRYPT_ERROR], &mut datagram);
            self.outputs.push_back(Output::Datagram(datagram));
            return Err(Fault::Failed("the client's Finished does not hold"));
        }
        write_message(transcript, FINISHED, FINISHED_NUMBER, |body| {
            body.extend(expected);
        });
        let verify = proven.secrets.verify_data(Side::Server, transcript);
        let mut message = Vec::with_capacity(Message::HEADER_SIZE + VERIFY_BYTES);
        write_message(&mut message, FINISHED, SERVER_FINISHED_NUMBER, |body| {
            body.extend(verify);
        });
        let Proven {
            secrets,
            profile,
            opener,
            sealer,
            ..
        } = *proven;
        self.state = State::Connected(Box::new(Connected {
            opener,
            sealer,
            finished: message,
            repeated: now,
        }));
        self.send_finished();
        self.outputs.push_back(Output::Connected);
        if let Some(profile) = profile {
            let mut material = vec![0; profile.material_size()];
            secrets.export_srtp(&mut material);
            let keys = SrtpKeys::new(profile, &material);
            self.outputs.extend(keys.map(Output::Keys));
        }
        Ok(())
    }

    fn take_alert(&mut self, text: &[u8]) -> Result<(), Fault> {
        match text {
            [_, CLOSE_NOTIFY] => {
                self.close();
                self.outputs.push_back(Output::CloseNotify);
                Ok(())
            }
            [FATAL, description] => {
                self.state = State::Closed;
                Err(Fault::Alert(*description))
            }
            _ => Ok(()),
        }
    }

    /// The client has not got our flight.
    fn repeat_flight(&mut self, now: Instant) {
        if let State::Answered(answered) = &mut self.state
            && now >= answered.resend.repeated + REPEAT_AFTER
        {
            answered.resend.repeated = now;
            self.send_flight();
        }
    }

    /// The client has not got our Finished. Its own is authentic, so nobody else asks.
    fn repeat_finished(&mut self, now: Instant, text: &[u8]) {
        if let State::Connected(connected) = &mut self.state
            && finished(text).is_some()
            && now >= connected.repeated + REPEAT_AFTER
        {
            connected.repeated = now;
            self.send_finished();
        }
    }

    fn send_flight(&mut self) {
        let resend = match &self.state {
            State::Answered(answered) => &answered.resend,
            State::Proven(proven) => &proven.resend,
            State::Start(_) | State::Connected(_) | State::Closed => return,
        };
        let flight = &resend.transcript[resend.flight_start..resend.flight_end];
        let cut = datagrams(flight, self.datagram_bytes_max, &mut self.number);
        self.outputs.extend(cut.into_iter().map(Output::Datagram));
    }

    fn send_finished(&mut self) {
        if let State::Connected(connected) = &mut self.state {
            let mut datagram = Vec::new();
            write_record_head(&mut datagram, CHANGE_CIPHER_SPEC, &mut self.number, 1);
            datagram.push(1);
            connected
                .sealer
                .seal(HANDSHAKE, &connected.finished, &mut datagram);
            self.outputs.push_back(Output::Datagram(datagram));
        }
    }

    /// Tells the client that there will be no connection.
    fn refuse(&mut self, fault: Fault) -> Fault {
        let mut datagram = Vec::new();
        write_record_head(&mut datagram, ALERT, &mut self.number, 2);
        datagram.extend([FATAL, HANDSHAKE_FAILURE]);
        self.outputs.push_back(Output::Datagram(datagram));
        self.state = State::Closed;
        fault
    }
}

/// Behind ServerHelloDone.
const SERVER_FINISHED_NUMBER: u16 = 5;

impl Answered {
    /// What the client's messages make of the connection, and its certificate; `None` if they do
    /// not hold.
    fn judge(&mut self) -> Option<(Secrets, Vec<u8>)> {
        let transcript = &mut self.resend.transcript;
        let verify_start = self.received.write(transcript);
        let proven = self.received.read().ok().and_then(|claim| {
            let said = &transcript[..verify_start];
            let key = PeerKey::of(claim.certificate).ok()?;
            if !key.has_signed(claim.scheme, said, claim.signed) {
                return None;
            }
            let share = UnparsedPublicKey::new(algorithm(self.group), claim.share);
            let secrets = agreement::agree(&self.exchange, share, (), |agreed| {
                Ok(Secrets::new(
                    self.suite,
                    agreed,
                    said,
                    self.offer.random,
                    self.random,
                ))
            });
            Some((secrets.ok()?, claim.certificate.to_vec()))
        });
        if proven.is_none() {
            transcript.truncate(self.resend.flight_end);
        }
        proven
    }
}

fn algorithm(group: Group) -> &'static agreement::Algorithm {
    match group {
        Group::X25519 => &X25519,
        Group::P256 => &ECDH_P256,
    }
}

fn answer(
    now: Instant,
    context: &Context,
    profile: Option<SrtpProfile>,
    record: &[u8],
    hello: &Message<'_>,
) -> Result<Answered, Fault> {
    let offer = Offer::read(record).map_err(|_| Fault::Failed("the hello cannot be read"))?;
    let (Some(suite), Some(group), true) = (
        offer.suite,
        offer.group,
        offer.has_1_2(context.certificate.scheme()),
    ) else {
        return Err(Fault::Failed("nothing in common"));
    };
    let broken = |_: Error| Fault::Failed("cryptography failed");
    let unspecified = |_| broken(Error::Cryptography);
    let mut random = [0; 32];
    rand::fill(&mut random).map_err(unspecified)?;
    let exchange = PrivateKey::generate(algorithm(group)).map_err(unspecified)?;
    let share = exchange.compute_public_key().map_err(unspecified)?;
    let mut transcript = Vec::with_capacity(4096);
    write_message(&mut transcript, CLIENT_HELLO, hello.number, |body| {
        body.extend(hello.body);
    });
    let flight_start = transcript.len();
    let parts = Answer {
        offer: &offer,
        suite,
        group,
        random: &random,
        share: share.as_ref(),
        profile,
        certificate: &context.certificate,
    };
    parts.write(&mut transcript).map_err(broken)?;
    let flight_end = transcript.len();
    Ok(Answered {
        exchange,
        offer,
        random,
        profile,
        suite,
        group,
        resend: Resend {
            transcript,
            flight_start,
            flight_end,
            at: now + RETRANSMIT_AFTER,
            pause: RETRANSMIT_AFTER,
            repeated: now,
        },
        received: ClientFlight::default(),
        early: Vec::new(),
        rejections: 0,
    })
}

/// What a client's Finished holds.
fn finished(text: &[u8]) -> Option<&[u8]> {
    let message = Message::read(text).ok()?;
    let is_whole = message.offset == 0 && message.body.len() == message.length as usize;
    (message.kind == FINISHED && message.number == FINISHED_NUMBER && is_whole)
        .then_some(message.body)
}
