//! A transport whose parts are agreed on one by one, while it is there: the player of a space says
//! what it sends and is told what it receives, and its certificate comes last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::negotiated::{DataSupport, Fingerprint, Incoming, Negotiated, Outgoing, Setup};
use super::peer::{Peer, Shared};
use super::sender::Sender;
use crate::base::ids::TrackId;
use crate::proto::ice::{Credentials, Path};

/// Datagrams of a handshake that wait for the certificate's hash: a ClientHello in its pieces,
/// twice over.
const HELD_DATAGRAMS_MAX: usize = 8;

/// Sources that one peer is sent in its life: 256 players of a space, 64 times over.
const SOURCES_MAX: usize = 16_384;

/// The port of data channels (RFC 8841 section 5.1), which clients of mediasoup take for granted.
const DATA_PORT: u16 = 5000;

impl Peer {
    /// A peer of which nothing is known but our own side. Its checks may have any name behind
    /// ours. Its handshake waits for [`Peer::connect`].
    pub fn open(
        now: Instant,
        unix: Duration,
        local: Credentials,
        shared: &Arc<Shared>,
        seed: u64,
    ) -> Self {
        let negotiated = Negotiated {
            local,
            remote: Credentials {
                ufrag: String::new(),
                password: String::new(),
            },
            fingerprints: Vec::new(),
            setup: Setup::Passive,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            data: Some(DataSupport {
                port: DATA_PORT,
                message_bytes_max: shared.sctp.message_bytes_max as u64,
            }),
            rtcp_reduced_size: true,
            mixed_forms: false,
        };
        let mut peer = Self::with_remote(now, unix, negotiated, None, shared, seed);
        peer.held = Some(Vec::new());
        peer
    }

    /// The peer's side of the handshake, which begins. Counts once.
    pub fn connect(&mut self, now: Instant, setup: Setup, fingerprints: Vec<Fingerprint>) {
        let Some(held) = self.held.take() else {
            return;
        };
        self.negotiated.setup = setup;
        self.negotiated.fingerprints = fingerprints;
        if setup == Setup::Active {
            if self.path.is_some() {
                self.begin_handshake(now);
                self.drain_handshake(now);
            }
            return;
        }
        let mut nothing = BytesMut::new();
        for (path, bytes) in held {
            self.handle_input(now, path, &bytes, &mut nothing);
        }
    }

    /// Keeps a datagram of the handshake until the certificate's hash is known. True if it waits.
    pub(super) fn hold(&mut self, path: Path, bytes: &[u8]) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        if held.len() < HELD_DATAGRAMS_MAX {
            held.push((path, Bytes::copy_from_slice(bytes)));
        } else {
            self.statistics.refused += 1;
        }
        true
    }

    /// The peer sends something more. Gives the number of its first track.
    pub fn add_incoming(&mut self, incoming: Incoming) -> TrackId {
        self.receivers.add(incoming)
    }

    /// The peer does not send it any more.
    pub fn remove_incoming(&mut self, track: TrackId) {
        self.receivers.remove(track);
    }

    /// Something more is sent to the peer. `seed` gives its first numbers. False if its source has
    /// been used before, or too many have: two packets under one source and number would give the
    /// key away.
    pub fn add_outgoing(&mut self, outgoing: Outgoing, seed: u64, is_paused: bool) -> bool {
        if self.spent.len() >= SOURCES_MAX || !self.spent.insert(outgoing.stream.ssrc) {
            return false;
        }
        let mut sender = Sender::new(outgoing, seed, false);
        sender.is_paused = is_paused;
        self.senders.push(sender);
        true
    }

    /// It is not sent any more.
    pub fn remove_outgoing(&mut self, ssrc: u32) {
        self.senders
            .retain(|sender| sender.outgoing.stream.ssrc != ssrc);
    }

    /// Stops sending one stream, or goes on with it.
    pub fn pause_outgoing(&mut self, ssrc: u32, is_paused: bool) {
        let mut senders = self.senders.iter_mut();
        if let Some(sender) = senders.find(|sender| sender.outgoing.stream.ssrc == ssrc)
            && sender.is_paused != is_paused
        {
            sender.is_paused = is_paused;
            sender.numbering.skip();
        }
    }
}
