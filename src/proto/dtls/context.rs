//! What sessions share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dimpl::Config;
use dimpl::crypto::{Buf, aws_lc_rs};

use super::{Certificate, Error, SrtpProfile};

/// Parameters of sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The largest datagram that a handshake sends, in bytes, 128 to 16384. 1200 passes every path
    /// that WebRTC is used on.
    pub datagram_bytes_max: usize,
    /// How long a handshake may take from [`Session::new`](super::Session::new) on.
    pub handshake_max: Duration,
    /// What is offered and accepted.
    pub versions: Versions,
    /// Which SRTP profile is taken as server.
    pub srtp: SrtpOrder,
    /// For tests: makes retransmission timers repeatable. Keys and nonces of a session made with a
    /// seed are not secret.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            datagram_bytes_max: 1200,
            handshake_max: Duration::from_secs(15),
            versions: Versions::Both,
            srtp: SrtpOrder::GcmFirst,
            seed: None,
        }
    }
}

/// Versions of DTLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Versions {
    /// 1.3 if the peer has it, else 1.2.
    Both,
    /// 1.2 alone.
    Dtls12,
    /// 1.3 alone.
    Dtls13,
}

/// Which of the SRTP profiles that a client offers a server takes. Our own client offers three, GCM
/// with 256 bits first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SrtpOrder {
    /// The first of [`SrtpProfile::ALL`] that the client has: 1.2 is spoken with a client that has 1.3
    /// too, but another one in the first place of its list, as Chromium. A packet of 1200 bytes costs
    /// with GCM a quarter of what it costs with HMAC-SHA1.
    GcmFirst,
    /// The client's first, and 1.3 with whoever has it.
    ClientOrder,
    /// This one or none.
    Only(SrtpProfile),
}

impl SrtpOrder {
    /// Out of what a client offers, in its order.
    pub(super) fn choose(self, offered: &[SrtpProfile]) -> Option<SrtpProfile> {
        let has = |profile: &SrtpProfile| offered.contains(profile);
        match self {
            Self::GcmFirst => SrtpProfile::ALL.into_iter().find(has),
            Self::ClientOrder => offered.first().copied(),
            Self::Only(profile) => Some(profile).filter(has),
        }
    }

    /// Whether a profile that was agreed on may be used.
    pub(super) fn admits(self, profile: SrtpProfile) -> bool {
        match self {
            Self::GcmFirst | Self::ClientOrder => true,
            Self::Only(only) => profile == only,
        }
    }
}

/// The first retransmission comes after this, the next after twice as long, and so on. RFC 6347
/// section 4.2.4.1 recommends a second, for peers of which nothing is known; ours have just shown
/// by ICE that they are there, and a lost datagram here is a second without a picture. To a peer that
/// is further away than this some datagrams go twice. With 250 ms, and so fewer of them in 15 s, one
/// handshake in 900 failed where a fifth of all datagrams was lost.
pub(super) const RETRANSMIT_AFTER: Duration = Duration::from_millis(100);
/// 100 ms × (2⁸ − 1) = 25.5 s is longer than the default handshake may take, with some left for those
/// that a peer's own retransmissions ask for.
const RETRANSMITS_MAX: usize = 10;

/// Datagrams that wait for one that is missing. The largest handshakes seen, with ML-KEM shares
/// and two certificates, are 6 datagrams a flight.
const RECEIVE_QUEUE_MAX: usize = 32;

/// Certificate and parameters, checked; shared by all sessions of a process.
#[derive(Clone)]
pub struct Context {
    pub(super) config: Arc<Config>,
    pub(super) certificate: Arc<Certificate>,
    pub(super) options: Options,
}

impl Context {
    /// Checks and keeps them. Takes some milliseconds: the cryptography is tested.
    ///
    /// # Errors
    ///
    /// If options are out of range or the cryptography does not work.
    pub fn new(certificate: Arc<Certificate>, options: Options) -> Result<Self, Error> {
        if !(128..=16384).contains(&options.datagram_bytes_max) || options.handshake_max.is_zero() {
            return Err(Error::Options);
        }
        let mut builder = Config::builder()
            .mtu(options.datagram_bytes_max)
            .max_queue_rx(RECEIVE_QUEUE_MAX)
            .max_queue_tx(super::session::SEND_RECORDS_MAX)
            .flight_start_rto(RETRANSMIT_AFTER)
            .flight_retries(RETRANSMITS_MAX)
            .handshake_timeout(options.handshake_max)
            // The cookie would prove that the peer is where it says it is. ICE has proved that, so
            // the exchange would only cost a round trip.
            .use_server_cookie(false)
            .require_client_certificate(true);
        if let Some(seed) = options.seed {
            builder = builder.dangerously_set_rng_seed(seed);
        }
        let config = builder.build().map_err(|_| Error::Options)?;
        Ok(Self {
            config: Arc::new(config),
            certificate,
            options,
        })
    }

    /// The certificate that sessions show.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("certificate", &self.certificate)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Signs something with the key and verifies it with the certificate: a session would panic with
/// a key of another kind, and every handshake would fail with another's.
pub(super) fn check_key(certificate: &[u8], private_key: &[u8]) -> Result<(), Error> {
    let provider = aws_lc_rs::default_provider();
    let mut key = provider
        .key_provider
        .load_private_key(private_key)
        .map_err(|_| Error::KeyType)?;
    let mut signature = Buf::new();
    let text = b"ringside";
    let hash = key.hash_algorithm();
    key.sign(text, hash, &mut signature)
        .map_err(|_| Error::Cryptography)?;
    provider
        .signature_verification
        .verify_signature(certificate, text, &signature, hash, key.algorithm())
        .map_err(|_| Error::KeyMismatch)
}
