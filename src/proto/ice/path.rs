//! What a peer is reached by.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

/// How packets of a path travel: a number that means something to the driver only, such as a
/// datagram socket or a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Channel(pub u64);

/// A peer's address as seen here, and how it is reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Path {
    /// The peer's transport address, canonical: no IPv4 mapped into IPv6.
    pub remote: SocketAddr,
    /// The socket.
    pub channel: Channel,
}

/// A datagram that a shard has for another one.
#[derive(Clone, Debug)]
pub struct Stray {
    /// Who sent it, and how it came. Datagram sockets have the same channel on all shards;
    /// connections are those of the shard where it arrived.
    pub path: Path,
    /// All of it.
    pub bytes: Bytes,
}

/// A user name fragment and its password (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// 4 to 256 characters of `ice-char`.
    pub ufrag: String,
    /// 22 to 256 characters of `ice-char`.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.ufrag)
    }
}
