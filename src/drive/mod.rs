//! Runs sans-IO sessions on a shard's sockets.

mod certificates;
mod driver;
mod framed;
mod peers;
mod prefaced;
mod round_rate;
mod server_session;
mod session;
mod tls;

pub use certificates::{CertificateError, Certificates, Identity, server_config};
pub use driver::{Counters, Driver, Gone, Limits, Occurrence};
pub use framed::Framed;
pub use peers::{
    Arrival, Claim, DATAGRAM_BYTES_MAX, PeerCounters, PeerMessage, Peers, StrayCounters, Totals,
};
pub use prefaced::Prefaced;
pub use server_session::{ServerEvent, ServerSession};
pub use session::{Notice, Session, Wire};
pub use tls::{
    ALPN_COLLAB, ALPN_HTTP1, ALPN_HTTP1_0, ALPN_HTTP2, Inner, SEAL_BYTES, TlsCounters, TlsSession,
};

#[cfg(test)]
mod tls_tests;
