//! The client's second flight: its certificate, its share of the key, and its signature.

use crate::base::bytes::{Reader, Short};

use super::write_message;
use crate::proto::dtls::assembly::Pieces;
use crate::proto::dtls::record::{CERTIFICATE, CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE, Message};

/// In the order of their numbers, which begin with 1: the ClientHello has 0.
const KINDS: [u8; 3] = [CERTIFICATE, CLIENT_KEY_EXCHANGE, CERTIFICATE_VERIFY];

/// Finished has the number behind theirs.
pub(super) const FINISHED_NUMBER: u16 = 4;

/// The three messages, while they are incomplete: at most 24 kB.
#[derive(Debug, Default)]
pub(super) struct ClientFlight {
    messages: [Pieces; 3],
}

/// What the client has said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Claim<'a> {
    /// DER.
    pub(super) certificate: &'a [u8],
    pub(super) share: &'a [u8],
    pub(super) scheme: u16,
    pub(super) signed: &'a [u8],
}

impl ClientFlight {
    /// True if the message was incomplete, or wrong, and all three are complete with it.
    pub(super) fn add(&mut self, message: &Message<'_>) -> bool {
        let Some(index) = usize::from(message.number).checked_sub(1) else {
            return false;
        };
        if KINDS.get(index) != Some(&message.kind) {
            return false;
        }
        self.messages[index].add(message);
        self.is_whole()
    }

    fn is_whole(&self) -> bool {
        self.messages.iter().all(|pieces| pieces.whole().is_some())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Appends the messages to what has been said; returns where the signature's message begins.
    pub(super) fn write(&self, transcript: &mut Vec<u8>) -> usize {
        let mut start = transcript.len();
        for (number, (kind, pieces)) in (1..).zip(KINDS.into_iter().zip(&self.messages)) {
            start = transcript.len();
            write_message(transcript, kind, number, |body| {
                body.extend(pieces.whole().unwrap_or_default());
            });
        }
        start
    }

    /// ```text
    /// Certificate:        list (3, [certificate (3, ..)])
    /// ClientKeyExchange:  share (1, ..)
    /// CertificateVerify:  scheme (2)  signature (2, ..)
    /// ```
    pub(super) fn read(&self) -> Result<Claim<'_>, Short> {
        let [certificate, exchange, verify] = &self.messages;
        let mut reader = Reader::new(certificate.whole().ok_or(Short)?);
        let size = reader.u24()?;
        let mut list = Reader::new(reader.take(size as usize)?);
        // Only the first is the client's; the rest would say who signed it.
        let size = list.u24()?;
        let certificate = list.take(size as usize)?;
        let mut reader = Reader::new(exchange.whole().ok_or(Short)?);
        let size = reader.u8()?;
        let share = reader.take(size.into())?;
        let mut reader = Reader::new(verify.whole().ok_or(Short)?);
        let scheme = reader.u16()?;
        let size = reader.u16()?;
        let signed = reader.take(size.into())?;
        Ok(Claim {
            certificate,
            share,
            scheme,
            signed,
        })
    }
}
