//! Records: which datagrams are DTLS, and which records nobody has authenticated are let through
//! to the state machine.
//!
//! ```text
//! plaintext, and protected by 1.2: type (1)  version (2)  epoch (2)  number (6)  length (2)
//! protected by 1.3:                001CSLEE  (connection id)  number (1 or 2)  length (0 or 2)
//! handshake message:               type (1)  length (3)  message number (2)
//!                                  fragment offset (3)  fragment length (3)
//! ```
//!
//! Anyone who can forge the peer's address can send plaintext records. An alert among them would
//! end the session, and so would a message out of its place, so only those records pass that the
//! peer can need to send at this point. What remains are forged messages with the number that is
//! expected next, against which DTLS has no means before its keys are agreed on.

use std::borrow::Cow;

use crate::base::bytes::{Reader, Short};

use super::Role;

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const HANDSHAKE: u8 = 22;

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
const NEW_SESSION_TICKET: u8 = 4;
pub(super) const CERTIFICATE: u8 = 11;
pub(super) const SERVER_KEY_EXCHANGE: u8 = 12;
pub(super) const CERTIFICATE_REQUEST: u8 = 13;
pub(super) const SERVER_HELLO_DONE: u8 = 14;
pub(super) const CERTIFICATE_VERIFY: u8 = 15;
pub(super) const CLIENT_KEY_EXCHANGE: u8 = 16;
pub(super) const FINISHED: u8 = 20;

/// The longest handshake message let through. A certificate of ours or of a browser has 300 to
/// 1500 bytes; a ClientHello with two ML-KEM shares has 3000.
const MESSAGE_BYTES_MAX: u32 = 16384;

/// What a ServerHello has as its random number if it asks for another ClientHello (RFC 8446
/// section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Whether a datagram that came from an ICE-validated address is for DTLS (RFC 7983 section 7).
#[must_use]
pub fn is_dtls(datagram: &[u8]) -> bool {
    datagram
        .first()
        .is_some_and(|first| (20..64).contains(first))
}

/// What is known of the handshake from the outside.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Screen {
    /// We have answered, or, as client, been answered.
    answered: bool,
    /// We have asked for another ClientHello.
    retry: bool,
    /// Of the ClientHello that the state machine has got.
    client_random: Option<[u8; 32]>,
}

/// One record's place in its datagram.
pub(super) struct Record<'a> {
    /// With its header.
    pub(super) whole: &'a [u8],
    /// Type and content; `None` if it is protected.
    pub(super) plain: Option<(u8, &'a [u8])>,
}

impl Screen {
    /// Looks at what we send.
    pub(super) fn sent(&mut self, role: Role, datagram: &[u8]) {
        if role == Role::Client || self.retry {
            return;
        }
        self.answered = true;
        if let Some(Record {
            plain: Some((HANDSHAKE, body)),
            ..
        }) = next_record(&mut Reader::new(datagram))
            && let Ok(message) = Message::read(body)
            && message.kind == SERVER_HELLO
            && message.body.get(2..34) == Some(&RETRY_RANDOM)
        {
            self.retry = true;
        }
    }

    /// The state machine gets this ClientHello; another client's no longer passes.
    pub(super) fn taken(&mut self, record: &[u8]) {
        let plain = next_record(&mut Reader::new(record)).and_then(|record| record.plain);
        if let Some((_, body)) = plain
            && let Ok(message) = Message::read(body)
        {
            self.client_random = message
                .body
                .get(2..34)
                .and_then(|random| random.try_into().ok());
        }
    }

    /// What of a datagram may reach the state machine, and how many records may not.
    pub(super) fn pass<'a>(&mut self, role: Role, datagram: &'a [u8]) -> (Cow<'a, [u8]>, u64) {
        let mut reader = Reader::new(datagram);
        let mut kept = Cow::Borrowed(&datagram[..0]);
        let mut dropped = 0;
        while !reader.is_empty() {
            let Some(record) = next_record(&mut reader) else {
                dropped += 1;
                break;
            };
            let passes = record
                .plain
                .is_none_or(|(kind, body)| self.passes(role, kind, body));
            if !passes {
                dropped += 1;
            } else if dropped == 0 {
                kept = Cow::Borrowed(&datagram[..kept.len() + record.whole.len()]);
            } else {
                kept.to_mut().extend_from_slice(record.whole);
            }
        }
        (kept, dropped)
    }

    fn passes(&mut self, role: Role, kind: u8, body: &[u8]) -> bool {
        match (kind, role) {
            (CHANGE_CIPHER_SPEC, _) => self.answered,
            (HANDSHAKE, Role::Server) => self.server_takes(body),
            (HANDSHAKE, Role::Client) => self.client_takes(body),
            // Alerts, above all.
            _ => false,
        }
    }

    fn server_takes(&self, body: &[u8]) -> bool {
        let Ok(message) = Message::read(body) else {
            return false;
        };
        match message.kind {
            CLIENT_HELLO => match (message.number, message.offset, message.body.get(2..34)) {
                (0, 0, Some(random)) => match &self.client_random {
                    // The same again: our answer was lost.
                    Some(known) => known == random,
                    None => true,
                },
                (0, 0, None) => false,
                (0, _, _) => !self.answered,
                (1, _, _) => self.retry,
                _ => false,
            },
            CERTIFICATE | CERTIFICATE_VERIFY | CLIENT_KEY_EXCHANGE => {
                self.answered && message.number > 0
            }
            _ => false,
        }
    }

    fn client_takes(&mut self, body: &[u8]) -> bool {
        let Ok(message) = Message::read(body) else {
            return false;
        };
        match message.kind {
            SERVER_HELLO | HELLO_VERIFY_REQUEST => {
                self.answered = true;
                true
            }
            NEW_SESSION_TICKET | CERTIFICATE | SERVER_KEY_EXCHANGE | CERTIFICATE_REQUEST
            | SERVER_HELLO_DONE => self.answered,
            _ => false,
        }
    }
}

/// The next record of a datagram; `None` if it does not end in it.
pub(super) fn next_record<'a>(reader: &mut Reader<'a>) -> Option<Record<'a>> {
    let start = reader.rest();
    let first = *start.first()?;
    if first & 0b1110_0000 == 0b0010_0000 {
        let number_size = if first & 0b1000 == 0 { 1 } else { 2 };
        reader.take(1 + number_size).ok()?;
        if first & 0b1_0000 != 0 || first & 0b100 == 0 {
            // With a connection id, which we have none of, or without a length: all the rest.
            reader.take(reader.remaining()).ok()?;
        } else {
            let length = reader.u16().ok()?;
            reader.take(length.into()).ok()?;
        }
        let whole = &start[..start.len() - reader.remaining()];
        return Some(Record { whole, plain: None });
    }
    reader.take(3).ok()?;
    let epoch = reader.u16().ok()?;
    reader.take(6).ok()?;
    let length = reader.u16().ok()?;
    let body = reader.take(length.into()).ok()?;
    Some(Record {
        whole: &start[..start.len() - reader.remaining()],
        plain: (epoch == 0).then_some((first, body)),
    })
}

/// A handshake message or a fragment of one.
pub(super) struct Message<'a> {
    pub(super) kind: u8,
    pub(super) number: u16,
    /// Of the whole message.
    pub(super) length: u32,
    pub(super) offset: u32,
    /// `offset + body.len() <= length`.
    pub(super) body: &'a [u8],
}

impl<'a> Message<'a> {
    pub(super) const HEADER_SIZE: usize = 12;

    /// The first one of a record.
    pub(super) fn read(record: &'a [u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(record);
        let kind = reader.u8()?;
        let length = reader.u24()?;
        let number = reader.u16()?;
        let offset = reader.u24()?;
        let size = reader.u24()?;
        let fits = length <= MESSAGE_BYTES_MAX && offset.saturating_add(size) <= length;
        if !fits {
            return Err(Short);
        }
        let body = reader.take(size as usize)?;
        Ok(Self {
            kind,
            number,
            length,
            offset,
            body,
        })
    }
}

/// An alert that nobody has authenticated.
#[cfg(test)]
pub(super) fn plain_alert(level: u8, description: u8) -> Vec<u8> {
    let mut alert = vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2];
    alert.extend([level, description]);
    alert
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(kind: u8, number: u16, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len()).unwrap().to_be_bytes();
        let mut message = vec![kind];
        message.extend(&size[1..]);
        message.extend(number.to_be_bytes());
        message.extend([0, 0, 0]);
        message.extend(&size[1..]);
        message.extend(body);
        let mut record = vec![HANDSHAKE, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1];
        record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        record.extend(message);
        record
    }

    fn hello(random: u8) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([random; 32]);
        handshake(CLIENT_HELLO, 0, &body)
    }

    #[test]
    fn datagrams_are_told_apart_by_their_first_byte() {
        assert!(is_dtls(&[22]) && is_dtls(&[20]) && is_dtls(&[63]));
        assert!(!is_dtls(&[]) && !is_dtls(&[0]) && !is_dtls(&[19]));
        assert!(!is_dtls(&[64]) && !is_dtls(&[128]));
    }

    #[test]
    fn an_alert_is_cut_out_of_its_datagram() {
        let mut screen = Screen::default();
        let mut datagram = plain_alert(2, 40);
        datagram.extend(hello(1));
        datagram.extend(plain_alert(1, 0));
        let (kept, dropped) = screen.pass(Role::Server, &datagram);
        assert_eq!((&*kept, dropped), (&*hello(1), 2));
    }

    #[test]
    fn another_clients_hello_does_not_pass() {
        let mut screen = Screen::default();
        assert_eq!(
            screen.pass(Role::Server, &hello(2)).1,
            0,
            "none has been taken"
        );
        assert_eq!(screen.pass(Role::Server, &hello(1)).1, 0);
        screen.taken(&hello(1));
        assert_eq!(screen.pass(Role::Server, &hello(1)).1, 0, "sent again");
        assert_eq!(screen.pass(Role::Server, &hello(2)).1, 1);
        let second = handshake(CLIENT_HELLO, 1, &[1; 40]);
        assert_eq!(screen.pass(Role::Server, &second).1, 1, "not asked for");
    }

    #[test]
    fn messages_wait_for_their_turn_and_side() {
        let mut screen = Screen::default();
        let certificate = handshake(CERTIFICATE, 1, &[0; 9]);
        assert_eq!(screen.pass(Role::Server, &certificate).1, 1);
        screen.sent(Role::Server, &handshake(SERVER_HELLO, 0, &[0; 40]));
        assert_eq!(screen.pass(Role::Server, &certificate).1, 0);
        let done = handshake(SERVER_HELLO_DONE, 2, &[]);
        assert_eq!(screen.pass(Role::Server, &done).1, 1);
    }

    #[test]
    fn a_second_hello_passes_after_a_retry_request() {
        let mut screen = Screen::default();
        screen.pass(Role::Server, &hello(1));
        let mut body = vec![0xfe, 0xfd];
        body.extend(RETRY_RANDOM);
        body.extend([0; 8]);
        screen.sent(Role::Server, &handshake(SERVER_HELLO, 0, &body));
        let second = handshake(CLIENT_HELLO, 1, &[1; 40]);
        assert_eq!(screen.pass(Role::Server, &second).1, 0);
    }

    #[test]
    fn protected_records_pass_and_cut_ones_do_not() {
        let mut screen = Screen::default();
        let protected = [0b0010_1111, 0, 1, 0, 2, 9, 9];
        assert_eq!(
            screen.pass(Role::Server, &protected),
            ((&protected[..]).into(), 0)
        );
        let (kept, dropped) = screen.pass(Role::Server, &protected[..6]);
        assert!(kept.is_empty() && dropped == 1);
    }
}
