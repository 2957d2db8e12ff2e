//! The server's first flight, and how a flight is cut into datagrams.

use super::peer_key::SCHEMES;
use super::protection::{HEADER_BYTES, VERSION};
use crate::proto::dtls::certificate::Certificate;
use crate::proto::dtls::hello::{Group, Offer, Suite};
use crate::proto::dtls::record::{
    CERTIFICATE, CERTIFICATE_REQUEST, HANDSHAKE, Message, SERVER_HELLO, SERVER_HELLO_DONE,
    SERVER_KEY_EXCHANGE,
};
use crate::proto::dtls::{Error, SrtpProfile};

/// `named_curve` (RFC 8422 section 5.4).
const NAMED_CURVE: u8 = 3;
/// `rsa_sign` and `ecdsa_sign` (RFC 5246 section 7.4.4, RFC 8422 section 5.5).
const CERTIFICATE_TYPES: [u8; 2] = [1, 64];

/// The smallest piece of a message that is put behind others into a datagram.
const PIECE_BYTES_MIN: usize = 64;

/// What the server's flight is made of.
pub(super) struct Answer<'a> {
    pub(super) offer: &'a Offer,
    pub(super) suite: Suite,
    pub(super) group: Group,
    pub(super) random: &'a [u8; 32],
    pub(super) share: &'a [u8],
    pub(super) profile: Option<SrtpProfile>,
    pub(super) certificate: &'a Certificate,
}

impl Answer<'_> {
    /// Appends all messages.
    pub(super) fn write(&self, transcript: &mut Vec<u8>) -> Result<(), Error> {
        // The share and what it is signed with.
        let mut exchange = vec![NAMED_CURVE];
        exchange.extend(self.group.number().to_be_bytes());
        exchange.push(self.share.len() as u8);
        exchange.extend(self.share);
        let message = [&self.offer.random[..], self.random, &exchange].concat();
        let signed = self.certificate.sign(&message)?;

        write_message(transcript, SERVER_HELLO, 0, |body| self.write_hello(body));
        write_message(transcript, CERTIFICATE, 1, |body| {
            let der = self.certificate.der();
            body.extend(&(der.len() as u32 + 3).to_be_bytes()[1..]);
            body.extend(&(der.len() as u32).to_be_bytes()[1..]);
            body.extend(der);
        });
        write_message(transcript, SERVER_KEY_EXCHANGE, 2, |body| {
            body.extend(&exchange);
            body.extend(self.certificate.scheme().number().to_be_bytes());
            body.extend((signed.len() as u16).to_be_bytes());
            body.extend(&signed);
        });
        write_message(transcript, CERTIFICATE_REQUEST, 3, |body| {
            body.push(CERTIFICATE_TYPES.len() as u8);
            body.extend(CERTIFICATE_TYPES);
            body.extend((2 * SCHEMES.len() as u16).to_be_bytes());
            body.extend(SCHEMES.iter().flat_map(|scheme| scheme.to_be_bytes()));
            // Any issuer.
            body.extend([0, 0]);
        });
        write_message(transcript, SERVER_HELLO_DONE, 4, |_| {});
        Ok(())
    }

    fn write_hello(&self, body: &mut Vec<u8>) {
        body.extend(VERSION);
        body.extend(self.random);
        // No session to resume.
        body.push(0);
        body.extend(self.suite.number().to_be_bytes());
        // No compression.
        body.push(0);
        let mut extensions = vec![0, 23, 0, 0];
        if self.offer.has_renegotiation_info {
            extensions.extend([0xff, 1, 0, 1, 0]);
        }
        if self.offer.has_point_formats {
            // Uncompressed.
            extensions.extend([0, 11, 0, 2, 1, 0]);
        }
        if let Some(profile) = self.profile {
            extensions.extend([0, 14, 0, 5, 0, 2]);
            extensions.extend(profile.number().to_be_bytes());
            // No MKI.
            extensions.push(0);
        }
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
    }
}

/// Appends a message as it is hashed: in one fragment. It has less than 2²⁴ bytes.
pub(super) fn write_message(
    transcript: &mut Vec<u8>,
    kind: u8,
    number: u16,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = transcript.len();
    transcript.push(kind);
    transcript.extend([0; 3]);
    transcript.extend(number.to_be_bytes());
    transcript.extend([0; 6]);
    write(transcript);
    let length = (transcript.len() - start - Message::HEADER_SIZE) as u32;
    let length = &length.to_be_bytes()[1..];
    transcript[start + 1..start + 4].copy_from_slice(length);
    transcript[start + 9..start + 12].copy_from_slice(length);
}

/// Cuts messages into plaintext records, and puts these into datagrams of at most `bytes_max`.
///
/// `number` is that of the next record.
pub(super) fn datagrams(mut messages: &[u8], bytes_max: usize, number: &mut u64) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    let mut datagram = Vec::new();
    while let Ok(message) = Message::read(messages) {
        let (head, rest) = messages.split_at(Message::HEADER_SIZE);
        messages = &rest[message.body.len()..];
        let mut offset = 0;
        loop {
            let left = message.body.len() - offset;
            let overhead = HEADER_BYTES + Message::HEADER_SIZE;
            let room = bytes_max.saturating_sub(datagram.len() + overhead);
            if room < left.min(PIECE_BYTES_MIN) && !datagram.is_empty() {
                datagrams.push(std::mem::take(&mut datagram));
                continue;
            }
            let piece = &message.body[offset..][..left.min(room.max(1))];
            write_record_head(
                &mut datagram,
                HANDSHAKE,
                number,
                Message::HEADER_SIZE + piece.len(),
            );
            datagram.extend(&head[..6]);
            datagram.extend(&(offset as u32).to_be_bytes()[1..]);
            datagram.extend(&(piece.len() as u32).to_be_bytes()[1..]);
            datagram.extend(piece);
            offset += piece.len();
            if offset == message.body.len() {
                break;
            }
        }
    }
    if !datagram.is_empty() {
        datagrams.push(datagram);
    }
    datagrams
}

/// The head of a plaintext record.
pub(super) fn write_record_head(
    datagram: &mut Vec<u8>,
    kind: u8,
    number: &mut u64,
    body_bytes: usize,
) {
    datagram.push(kind);
    datagram.extend(VERSION);
    // The epoch's two bytes are zero.
    datagram.extend(number.to_be_bytes());
    datagram.extend((body_bytes as u16).to_be_bytes());
    *number += 1;
}

#[cfg(test)]
mod tests {
    use crate::base::bytes::Reader;

    use super::*;
    use crate::proto::dtls::record::next_record;

    #[test]
    fn a_flight_fits_its_datagrams_and_can_be_put_together() {
        let mut messages = Vec::new();
        for (number, size) in [(0, 70), (1, 1500), (2, 0), (3, 1), (4, 200)] {
            write_message(&mut messages, 11, number, |body| {
                body.extend((0..size).map(|at| at as u8));
            });
        }
        for bytes_max in [128, 200, 1200, 16384] {
            let mut next = 7;
            let mut bodies: Vec<Vec<u8>> = vec![Vec::new(); 5];
            let mut expected = 7;
            let cut = datagrams(&messages, bytes_max, &mut next);
            for datagram in &cut {
                assert!(datagram.len() <= bytes_max);
                let mut reader = Reader::new(datagram);
                while let Some(record) = next_record(&mut reader) {
                    assert_eq!(record.whole[10], expected);
                    expected += 1;
                    let message = Message::read(record.plain.unwrap().1).unwrap();
                    let body = &mut bodies[usize::from(message.number)];
                    assert_eq!(message.offset as usize, body.len());
                    body.extend(message.body);
                }
                assert!(reader.is_empty());
            }
            assert_eq!(u64::from(expected), next);
            let sizes: Vec<_> = bodies.iter().map(Vec::len).collect();
            assert_eq!(sizes, [70, 1500, 0, 1, 200], "{bytes_max}");
            assert!(
                cut.len() <= 2 + 1900 / (bytes_max - 25 - 63).max(40),
                "{bytes_max}"
            );
        }
    }
}
