//! What can be wrong with a session or its certificate.

/// What keeps a certificate, a context or a session from being made, or data from being sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The system's source of randomness or the cryptography failed.
    #[error("cryptography failed")]
    Cryptography,
    /// Not a PEM file with one certificate and one private key.
    #[error("not a PEM certificate and key")]
    Pem,
    /// The key is not ECDSA over P-256 or P-384.
    #[error("key is not ECDSA over P-256 or P-384")]
    KeyType,
    /// The key is not that of the certificate.
    #[error("key is not that of the certificate")]
    KeyMismatch,
    /// The options contradict each other or are out of range.
    #[error("options are out of range")]
    Options,
    /// The peer named no hash of its certificate that is known here.
    #[error("peer has no known fingerprint")]
    NoFingerprint,
    /// Nothing can be sent before [`Event::Connected`](super::Event::Connected) or after the end.
    #[error("not connected")]
    NotConnected,
    /// More is waiting to be sent than `SEND_RECORDS_MAX`, or
    /// one record is larger than a record may be.
    #[error("too much is waiting to be sent")]
    Full,
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CloseReason {
    /// We closed it.
    #[error("closed here")]
    Local,
    /// The peer closed it, authenticated.
    #[error("closed by the peer")]
    Peer,
    /// The peer reported a fatal fault, authenticated; the number is of RFC 8446 section 6.
    #[error("alert {0} from the peer")]
    Alert(u8),
    /// The peer's certificate has none of the hashes that were expected.
    #[error("wrong fingerprint")]
    WrongFingerprint,
    /// The handshake has not ended in [`Options::handshake_max`](super::Options::handshake_max).
    #[error("handshake took too long")]
    HandshakeTimeout,
    /// The peer offered nothing that we can do, or broke the protocol.
    #[error("handshake failed")]
    Handshake,
    /// The connection was up and a step of the protocol failed.
    #[error("protocol failed")]
    Protocol,
}
