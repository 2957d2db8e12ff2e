//! Making TCP sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted by one listener. The kernel caps it at
/// `net.core.somaxconn` (4096 by default).
const BACKLOG: i32 = 4096;

/// Opens a listener at `address`. With `shared`, several shards listen at the same address and the
/// kernel spreads the connections over them (`SO_REUSEPORT`).
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_nodelay(true)?; // Accepted sockets inherit it.
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
