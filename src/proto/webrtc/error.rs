//! Why peers end.

use crate::proto::dtls;

/// Why a peer is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// No authenticated check came for too long (RFC 7675), or none at all.
    Silent,
    /// Checks came, but the handshake did not end in time.
    NotConnected,
    /// The DTLS session has ended or could not begin.
    Dtls(dtls::CloseReason),
    /// The offer has no fingerprint that can be checked.
    NoFingerprint,
    /// The peer has nothing in common with us to encrypt media with.
    NoSrtp,
    /// This side closed it.
    Local,
}
