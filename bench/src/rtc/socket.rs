//! A client's socket, which is looked at and does not wake anybody.
//!
//! What waits in the kernel for a packet is woken within the server's send, and paid for by it; a
//! client on another machine is not. When a packet came is told by the kernel, so that looking late
//! says nothing wrong.

#![allow(unsafe_code, reason = "a system call that no library has")]

use std::io::{self, ErrorKind};
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use ringside::io::bind_udp;

/// Datagrams of one look at a socket.
pub(crate) const BATCH: usize = 32;

/// Room for one datagram; for one group of them where they are taken whole.
const DATAGRAM_BYTES: usize = 2048;
const GROUP_BYTES: usize = 1 << 16;

/// Room for what the kernel says of a datagram: a time and a length.
const CONTROL_BYTES: usize = 64;

/// A socket of a client's own: the server knows its peers by their addresses.
pub(crate) fn open(server: SocketAddr, tells_time: bool, whole: bool) -> io::Result<UdpSocket> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) if server.ip().is_loopback() => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::from(bind_udp(local, false)?);
    socket.connect(server)?;
    if tells_time {
        enable(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)?;
    }
    if whole {
        enable(&socket, libc::SOL_UDP, libc::UDP_GRO)?;
    }
    Ok(socket)
}

fn enable(socket: &UdpSocket, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option is an `int`, and the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// Where datagrams of one look are put.
pub(crate) struct Mailbox {
    bytes: Box<[u8]>,
    size: usize,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    messages: Box<[libc::mmsghdr]>,
}

/// What was received: one datagram, or several of one length but for the last.
pub(crate) struct Letter<'a> {
    pub(crate) bytes: &'a mut [u8],
    /// When it came, since 1970.
    pub(crate) time: Option<Duration>,
    pub(crate) segment: Option<usize>,
}

impl Mailbox {
    pub(crate) fn new(whole: bool) -> Self {
        let size = if whole { GROUP_BYTES } else { DATAGRAM_BYTES };
        // SAFETY: all fields are integers and pointers, for which zero is a value.
        let vectors = vec![unsafe { mem::zeroed::<libc::iovec>() }; BATCH];
        // SAFETY: as above.
        let messages = vec![unsafe { mem::zeroed::<libc::mmsghdr>() }; BATCH];
        Self {
            bytes: vec![0; size * BATCH].into(),
            size,
            controls: vec![Control([0; CONTROL_BYTES]); BATCH].into(),
            vectors: vectors.into(),
            messages: messages.into(),
        }
    }

    /// One that nothing is put in.
    pub(crate) fn empty() -> Self {
        Self {
            bytes: Box::default(),
            size: 0,
            controls: Box::default(),
            vectors: Box::default(),
            messages: Box::default(),
        }
    }

    /// How many letters there are in the socket, up to [`BATCH`].
    pub(crate) fn look(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let parts = self.bytes.chunks_mut(self.size).zip(&mut self.controls);
        let headers = self.vectors.iter_mut().zip(&mut self.messages);
        for ((bytes, control), (vector, message)) in parts.zip(headers) {
            vector.iov_base = bytes.as_mut_ptr().cast();
            vector.iov_len = bytes.len();
            let header = &mut message.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: each message points at a vector and a control buffer of its own, which are as
        // long as they say and live in `self`.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        // A server that is gone refuses what was sent to it.
        let is_nothing = matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused
        );
        if is_nothing { Ok(0) } else { Err(error) }
    }

    /// One of the letters of the last look.
    pub(crate) fn letter(&mut self, index: usize) -> Letter<'_> {
        let message = &self.messages[index];
        let length = (message.msg_len as usize).min(self.size);
        let (mut time, mut segment) = (None, None);
        let filled = message.msg_hdr.msg_controllen.min(CONTROL_BYTES);
        let mut rest = &self.controls[index].0[..filled];
        const HEAD: usize = size_of::<libc::cmsghdr>();
        while rest.len() > HEAD {
            let word = |at: usize| rest.get(at..at + 8)?.first_chunk::<8>().copied();
            let total = word(0).map_or(0, |bytes| u64::from_ne_bytes(bytes) as usize);
            if total < HEAD || total > rest.len() {
                break;
            }
            let half = |at| word(at).map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
            match (half(8), half(8 + 4)) {
                (Some(libc::SOL_SOCKET), Some(libc::SCM_TIMESTAMPNS)) => {
                    let number = |at| word(at).map_or(0, u64::from_ne_bytes);
                    time = Some(Duration::new(number(HEAD), number(HEAD + 8) as u32));
                }
                (Some(libc::SOL_UDP), Some(libc::UDP_GRO)) => {
                    segment = half(HEAD).map(|bytes| bytes as usize);
                }
                (Some(_) | None, Some(_) | None) => {}
            }
            rest = &rest[total.next_multiple_of(8).min(rest.len())..];
        }
        Letter {
            bytes: &mut self.bytes[index * self.size..][..length],
            time,
            segment: segment.filter(|segment| *segment > 0),
        }
    }
}

/// Packets that the kernel has thrown away because nobody took them from the sockets of this
/// process: the fault of this side.
pub(crate) fn dropped(ports: &[u16]) -> u64 {
    let table = std::fs::read_to_string("/proc/self/net/udp").unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (_, port) = words.nth(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let drops: u64 = words.last()?.parse().ok()?;
        ports.binary_search(&port).is_ok().then_some(drops)
    };
    table.lines().skip(1).filter_map(line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_taken_with_the_time_they_came() {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = open(sender.local_addr().unwrap(), true, false).unwrap();
        let mut mailbox = Mailbox::new(false);
        assert_eq!(mailbox.look(&socket).unwrap(), 0);
        for text in ["one", "three"] {
            let to = socket.local_addr().unwrap();
            sender.send_to(text.as_bytes(), to).unwrap();
        }
        assert_eq!(mailbox.look(&socket).unwrap(), 2);
        let letter = mailbox.letter(1);
        assert_eq!(&*letter.bytes, b"three");
        // After 2020, and a time at all.
        assert!(letter.time.unwrap() > Duration::from_secs(1_577_836_800));
        assert_eq!(letter.segment, None);
        let port = socket.local_addr().unwrap().port();
        assert_eq!(dropped(&[port]), 0);
    }
}
