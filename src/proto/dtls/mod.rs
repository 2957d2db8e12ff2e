//! DTLS 1.2 and 1.3 (RFC 6347, RFC 9147) for WebRTC: handshake, keys for SRTP, data of SCTP.
//!
//! A [`Session`] is one side of one connection. The state machine is `server12` for a server that
//! speaks 1.2, and else the crate `dimpl`; a server looks at the ClientHello to choose. What WebRTC
//! asks is the same for both: the peer's certificate is known by its hash (RFC 8122), the keys of
//! SRTP come out of the handshake (RFC 5764), and datagrams that nobody has authenticated do not
//! end a session.
//!
//! What sessions share, the certificate and the parameters, is a [`Context`]: making one checks
//! the cryptography with test vectors and takes some milliseconds, making a session takes none.
//!
//! Certificates are ECDSA over P-256 and P-384; a client's may be RSA under 1.2. No renegotiation, no
//! resumption, no connection ids.

mod assembly;
mod certificate;
mod context;
mod error;
mod fingerprint;
mod hello;
mod keys;
mod machine;
mod record;
mod server12;
mod session;

#[cfg(test)]
mod tests;

pub use certificate::Certificate;
pub use context::{Context, Options, SrtpOrder, Versions};
pub use error::{CloseReason, Error};
pub use fingerprint::{Fingerprint, HashAlgorithm, text as fingerprint_text};
pub use keys::{SrtpKeys, SrtpProfile};
pub use record::is_dtls;
pub use session::{Counters, Event, Role, Session};
