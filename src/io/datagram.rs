//! The datagram sockets of a [`Net`].
//!
//! One unconnected socket serves all peers of a shard. A connected socket for each peer would
//! make the kernel look through all of them for a packet from a peer that it does not know
//! (258 µs at 10 000 sockets).
//!
//! A socket receives by one multishot RECVMSG into buffers that the kernel picks from a group of
//! the ring. Few buffers stay in the processor's cache: a packet of 1200 bytes costs 487 ns with
//! 256 buffers of 2 KiB and 585 ns with 4096. It sends by SENDMSG, one for up to
//! [`SEGMENTS_MAX`] datagrams that the kernel cuts apart (`UDP_SEGMENT`): 2780 ns a packet alone,
//! 385 ns in groups of 8, or 770 ns where the network card cannot cut.
//!
//! The kernel may also put datagrams of one peer together (`UDP_GRO`), up to 64 KiB in one
//! receive. A buffer of 2 KiB would lose all but the first of them, so it is asked to only if the
//! buffers are of [`COALESCE_BUFFER_BYTES`]. With 64 of those, which take 4 MiB, a packet costs
//! 469 ns alone and 97 ns in groups of 8. That is worth it for few senders of much, such as other
//! servers; many small senders need many buffers, and a buffer holds one datagram of any size.
//!
//! Numbers by `ringside-load`'s `udp-cost` on a 2.5 GHz core, Linux 6.18, loopback.

#![allow(
    unsafe_code,
    reason = "submission entries point at memory that this module keeps alive"
)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};
use slab::Slab;
use socket2::SockRef;

use crate::io::buffer_ring::BufferRing;
use crate::io::net::{Completion, Kind, Net};
use crate::io::sending::Piece;

/// Datagrams in one send. More saves little (385 ns a packet at 8, 205 ns at 16) and makes
/// bursts that queues on the way drop.
pub const SEGMENTS_MAX: usize = 16;

/// Pieces in one send: for each datagram a header of its own and shared bytes.
const PIECES_MAX: usize = 2 * SEGMENTS_MAX;

/// Sends of one ring that the kernel has not answered. It answers a datagram within the submit,
/// so no more than the submission queue's 256 wait; the double is room for other sizes of it.
const SENDS_MAX: usize = 512;

/// The group number of the UDP receive buffers.
const UDP_GROUP: u16 = 2;

/// Receive buffers of this size hold what `UDP_GRO` puts together.
pub const COALESCE_BUFFER_BYTES: u32 = 65_536;

// A filled buffer, as `io_uring_prep_recvmsg_multishot(3)` lays it out. The lengths of name and
// control data are those of the template that the receive was armed with, whatever is used.
//
//      0        4           8           12     16       48           48 + control
//      +--------+-----------+-----------+------+--------+------------+---------
//      | name   | control   | payload   | msg  | sender | control    | payload
//      | length | length    | length    | flags|        | messages   |
//      +--------+-----------+-----------+------+--------+------------+---------
const NAME_AT: usize = 16;
/// Room for `sockaddr_in6` (28 bytes), rounded up so that the payload is aligned to 16.
const NAME_BYTES: usize = 32;
const CONTROL_AT: usize = NAME_AT + NAME_BYTES;
/// Room for one `UDP_GRO` message (a header of 16 bytes and an `int`), rounded up likewise.
const COALESCE_CONTROL_BYTES: usize = 32;

/// Bytes of `sockaddr_in` and `sockaddr_in6`.
const ADDRESS_V4_BYTES: usize = 16;
const ADDRESS_V6_BYTES: usize = 28;

const _: () = assert!(ADDRESS_V4_BYTES == size_of::<libc::sockaddr_in>());
const _: () = assert!(ADDRESS_V6_BYTES == size_of::<libc::sockaddr_in6>());
const _: () = assert!(ADDRESS_V6_BYTES <= NAME_BYTES);
const _: () = assert!(SENDS_MAX <= u16::MAX as usize);

/// A datagram socket of one [`Net`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DatagramIndex(u32);

/// A receive buffer with a datagram in it.
#[derive(Debug)]
#[must_use = "the buffer must be given back"]
pub struct ReceivedDatagram {
    buffer: u16,
    len: u32,
}

/// What arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// The sender. An IPv4 address is one also on a socket of IPv6.
    pub from: SocketAddr,
    /// The payload; several of them in a row if `segment_bytes` is there.
    pub bytes: &'a [u8],
    /// The length of each payload but the last, which may be shorter.
    pub segment_bytes: Option<u16>,
    /// The end is missing, because it did not fit in the buffer.
    pub is_truncated: bool,
}

/// All datagram sockets of one ring.
pub(super) struct Datagrams {
    buffer_count: u16,
    buffer_bytes: u32,
    sockets: Slab<Socket>,
    /// Sockets whose receive ended. They are armed again with the next wait.
    unarmed: Vec<u32>,
    /// Made for the first socket: a shard without one needs none.
    memory: Option<Memory>,
}

struct Socket {
    fd: OwnedFd,
    is_v6: bool,
    receiving: bool,
    /// Sends that the kernel has not answered.
    sending: u32,
    closing: bool,
    segments_max: usize,
}

/// What operations point at.
struct Memory {
    buffers: BufferRing,
    /// Buffers that the kernel has filled and not got back.
    held: usize,
    /// What receives are armed with; boxed, so that it does not move.
    template: Box<libc::msghdr>,
    /// A boxed slice, so that sends in the kernel do not move.
    sends: Box<[Outgoing]>,
    /// The places in `sends` that are free; the last one used is the next one taken.
    idle: Vec<u16>,
}

/// One SENDMSG and all that it points at. It keeps the room for its pieces when it is idle.
struct Outgoing {
    socket: u32,
    segments: u32,
    pieces: Vec<Piece>,
    vectors: [libc::iovec; PIECES_MAX],
    address: [u8; ADDRESS_V6_BYTES],
    control: SegmentControl,
    message: libc::msghdr,
}

/// The control message that tells the kernel where to cut.
#[repr(C)]
struct SegmentControl {
    header: libc::cmsghdr,
    segment_bytes: u16,
    padding: [u8; 6],
}

// SAFETY: only a computation.
const _: () = assert!(size_of::<SegmentControl>() == unsafe { libc::CMSG_SPACE(2) } as usize);

impl Net {
    /// Takes over a bound, unconnected datagram socket and receives from it.
    pub fn bind_datagram(&mut self, fd: OwnedFd) -> io::Result<DatagramIndex> {
        let socket = SockRef::from(&fd);
        let is_v6 = socket.local_addr()?.is_ipv6();
        let datagrams = &mut self.datagrams;
        if datagrams.coalesces() {
            enable_coalescing(&fd)?;
        }
        if datagrams.memory.is_none() {
            let buffers = BufferRing::new(
                &self.ring,
                UDP_GROUP,
                datagrams.buffer_count,
                datagrams.buffer_bytes,
            )?;
            datagrams.memory = Some(Memory::new(buffers, datagrams.control_bytes()));
        }
        let index = datagrams.sockets.insert(Socket {
            fd,
            is_v6,
            receiving: false,
            sending: 0,
            closing: false,
            segments_max: SEGMENTS_MAX,
        }) as u32;
        self.arm_datagrams(index);
        Ok(DatagramIndex(index))
    }

    /// The local address of a datagram socket.
    pub fn datagram_address(&self, socket: DatagramIndex) -> Option<SocketAddr> {
        let entry = self.datagrams.sockets.get(socket.0 as usize)?;
        SockRef::from(&entry.fd).local_addr().ok()?.as_socket()
    }

    /// How many datagrams one send may have: 1 after the kernel refused to cut one, which it does
    /// where the route has no checksum offload (udp(7), `UDP_SEGMENT`).
    pub fn segments_max(&self, socket: DatagramIndex) -> usize {
        self.datagrams
            .sockets
            .get(socket.0 as usize)
            .map_or(1, |entry| entry.segments_max)
    }

    /// Sends `pieces` as one datagram; or as several, cut after each `segment_bytes`, so that all
    /// but the last are of that length. A datagram that cannot be sent at once is lost and
    /// counted in [`Statistics`](crate::io::Statistics): nothing waits here.
    ///
    /// # Panics
    ///
    /// When there are more than [`SEGMENTS_MAX`] datagrams, or twice as many pieces.
    pub fn send_datagrams(
        &mut self,
        socket: DatagramIndex,
        to: SocketAddr,
        pieces: impl Iterator<Item = Piece>,
        segment_bytes: Option<u16>,
    ) {
        // A full submission queue is emptied first: that also frees the sends in it.
        if self.ring.submission().is_full() {
            let _ = self.submit();
        }
        let datagrams = &mut self.datagrams;
        let entry = datagrams.sockets.get_mut(socket.0 as usize);
        let (Some(entry), Some(memory)) =
            (entry.filter(|entry| !entry.closing), &mut datagrams.memory)
        else {
            self.statistics.datagram_sends_dropped += 1;
            return;
        };
        let Some(place) = memory.idle.pop() else {
            self.statistics.datagram_sends_dropped += 1;
            return;
        };
        let send = &mut memory.sends[usize::from(place)];
        send.socket = socket.0;
        let message = send.fill(to, entry.is_v6, pieces, segment_bytes);
        entry.sending += 1;
        let sqe = opcode::SendMsg::new(Fd(entry.fd.as_raw_fd()), message)
            .flags((libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) as u32)
            .build()
            .user_data(Kind::DatagramSend.tag(u32::from(place)));
        // SAFETY: the send's place is not used again before the completion, and the socket keeps
        // its descriptor while it is `sending`.
        unsafe { self.push(&sqe) };
        self.statistics.datagram_sends += 1;
        self.unsubmitted_sends += 1;
    }

    /// What is in a receive buffer.
    pub fn datagram(&self, received: &ReceivedDatagram) -> Datagram<'_> {
        let control_bytes = self.datagrams.control_bytes();
        let memory = self.datagrams.memory.as_ref().expect("it was received");
        let filled = memory.buffers.filled(received.buffer, received.len);
        parse(filled, control_bytes)
    }

    /// Gives a datagram's buffer back to the kernel.
    pub fn give_back_datagram(&mut self, received: ReceivedDatagram) {
        let memory = self.datagrams.memory.as_mut().expect("it was received");
        memory.held -= 1;
        memory.buffers.give(received.buffer);
    }

    /// Closes a datagram socket. Sends that were handed over are still sent; no completion of the
    /// socket is reported after this.
    pub fn close_datagram(&mut self, socket: DatagramIndex) {
        let index = socket.0;
        let Some(entry) = self.datagrams.sockets.get_mut(index as usize) else {
            return;
        };
        if entry.closing {
            return;
        }
        entry.closing = true;
        let receiving = entry.receiving;
        self.datagrams.unarmed.retain(|unarmed| *unarmed != index);
        for _ in 0..self.completions.len() {
            match self.completions.pop_front() {
                Some(Completion::Datagram(from, received)) if from == socket => {
                    self.give_back_datagram(received);
                }
                Some(other) => self.completions.push_back(other),
                None => break,
            }
        }
        if receiving {
            // Shutting an unconnected socket down does not end a receive.
            let tag = Kind::DatagramReceive.tag(index);
            let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(tag))
                .build()
                .user_data(Kind::Ignore.tag(0));
            // SAFETY: the entry points at nothing.
            unsafe { self.push(&cancel) };
        }
        self.reap_datagrams(index);
    }

    pub(super) fn close_all_datagrams(&mut self) {
        let open: Vec<usize> = self.datagrams.sockets.iter().map(|(at, _)| at).collect();
        for index in open {
            self.close_datagram(DatagramIndex(index as u32));
        }
    }

    /// Arms the receives that have ended, if there is a buffer for them.
    pub(super) fn rearm_datagrams(&mut self) {
        for _ in 0..self.datagrams.unarmed.len() {
            if self.datagrams.is_exhausted() {
                return;
            }
            if let Some(index) = self.datagrams.unarmed.pop() {
                self.arm_datagrams(index);
            }
        }
    }

    pub(super) fn on_datagram(&mut self, index: u32, cqe: &cqueue::Entry) {
        let datagrams = &mut self.datagrams;
        let entry = &mut datagrams.sockets[index as usize];
        let closing = entry.closing;
        // A receive ends for want of a buffer, but also after a datagram without payload.
        entry.receiving = cqueue::more(cqe.flags());
        if !entry.receiving && !closing {
            datagrams.unarmed.push(index);
        }
        if let Some(buffer) = cqueue::buffer_select(cqe.flags()) {
            let memory = datagrams.memory.as_mut().expect("made for the socket");
            memory.held += 1;
            let received = ReceivedDatagram {
                buffer,
                len: cqe.result().max(0) as u32,
            };
            if closing || cqe.result() < 0 {
                self.give_back_datagram(received);
            } else {
                self.statistics.datagrams_received += 1;
                self.statistics.datagrams_truncated +=
                    u64::from(self.datagram(&received).is_truncated);
                self.completions
                    .push_back(Completion::Datagram(DatagramIndex(index), received));
            }
        }
        if cqe.result() == -libc::ENOBUFS {
            self.statistics.no_buffers += 1;
        } else if cqe.result() < 0 && !closing {
            self.statistics.errors += 1;
        }
        if closing {
            self.reap_datagrams(index);
        }
    }

    pub(super) fn on_datagrams_sent(&mut self, place: u32, cqe: &cqueue::Entry) {
        let memory = self.datagrams.memory.as_mut().expect("made for the socket");
        let send = &mut memory.sends[place as usize];
        send.pieces.clear();
        memory.idle.push(place as u16);
        let entry = &mut self.datagrams.sockets[send.socket as usize];
        entry.sending -= 1;
        match -cqe.result() {
            ..=0 => self.statistics.datagrams_sent += u64::from(send.segments),
            libc::EAGAIN | libc::ENOBUFS => self.statistics.datagram_sends_full += 1,
            error => {
                self.statistics.datagram_sends_failed += 1;
                if error == libc::EIO && send.segments > 1 {
                    entry.segments_max = 1;
                }
            }
        }
        if entry.closing {
            let index = send.socket;
            self.reap_datagrams(index);
        }
    }

    /// Removes a closing socket once no operation uses it; that closes the descriptor.
    fn reap_datagrams(&mut self, index: u32) {
        // It may be gone: a full queue is emptied, and completed, while it is being closed.
        let Some(entry) = self.datagrams.sockets.get(index as usize) else {
            return;
        };
        if entry.closing && !entry.receiving && entry.sending == 0 {
            self.datagrams.sockets.remove(index as usize);
        }
    }

    fn arm_datagrams(&mut self, index: u32) {
        let entry = &mut self.datagrams.sockets[index as usize];
        let memory = self.datagrams.memory.as_ref().expect("made for the socket");
        entry.receiving = true;
        let template = &raw const *memory.template;
        let sqe = opcode::RecvMsgMulti::new(Fd(entry.fd.as_raw_fd()), template, UDP_GROUP)
            .build()
            .user_data(Kind::DatagramReceive.tag(index));
        // SAFETY: the socket keeps its descriptor while `receiving`; the template and the
        // buffers of the group live as long as the ring.
        unsafe { self.push(&sqe) };
    }
}

impl Datagrams {
    pub(super) fn new(buffer_count: u16, buffer_bytes: u32) -> Self {
        assert!(buffer_bytes as usize > CONTROL_AT + COALESCE_CONTROL_BYTES);
        Self {
            buffer_count,
            buffer_bytes,
            sockets: Slab::new(),
            unarmed: Vec::new(),
            memory: None,
        }
    }

    /// True when no socket is open and no operation under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Leaves to the kernel what it may still use. Called when operations do not end.
    pub(super) fn abandon(&mut self) {
        if !self.is_quiet() {
            mem::forget(mem::take(&mut self.sockets));
            mem::forget(self.memory.take());
        }
    }

    fn coalesces(&self) -> bool {
        self.buffer_bytes >= COALESCE_BUFFER_BYTES
    }

    fn control_bytes(&self) -> usize {
        if self.coalesces() {
            COALESCE_CONTROL_BYTES
        } else {
            0
        }
    }

    fn is_exhausted(&self) -> bool {
        self.memory
            .as_ref()
            .is_some_and(|memory| memory.held == usize::from(self.buffer_count))
    }
}

impl Memory {
    fn new(buffers: BufferRing, control_bytes: usize) -> Self {
        let mut template = Box::new(empty_message());
        // For a receive into buffers of a group only the lengths are read.
        template.msg_namelen = NAME_BYTES as libc::socklen_t;
        template.msg_controllen = control_bytes as _;
        Self {
            buffers,
            held: 0,
            template,
            sends: (0..SENDS_MAX).map(|_| Outgoing::new()).collect(),
            idle: (0..SENDS_MAX as u16).rev().collect(),
        }
    }
}

impl Outgoing {
    fn new() -> Self {
        const EMPTY: libc::iovec = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            socket: 0,
            segments: 0,
            pieces: Vec::new(),
            vectors: [EMPTY; PIECES_MAX],
            address: [0; ADDRESS_V6_BYTES],
            control: SegmentControl::new(),
            message: empty_message(),
        }
    }

    /// Takes the pieces over and points the message at them and at the other fields.
    fn fill(
        &mut self,
        to: SocketAddr,
        is_v6: bool,
        pieces: impl Iterator<Item = Piece>,
        segment_bytes: Option<u16>,
    ) -> *const libc::msghdr {
        self.pieces.extend(pieces.take(PIECES_MAX + 1));
        assert!(self.pieces.len() <= PIECES_MAX, "a send has few pieces");
        let mut bytes = 0;
        for (vector, piece) in self.vectors.iter_mut().zip(&self.pieces) {
            vector.iov_base = piece.as_ptr().cast_mut().cast();
            vector.iov_len = piece.len();
            bytes += piece.len();
        }
        let segment = segment_bytes.map_or(bytes, usize::from);
        let segments = if bytes <= segment {
            1
        } else {
            bytes.div_ceil(segment)
        };
        assert!(segments <= SEGMENTS_MAX, "a send has few datagrams");
        self.segments = segments as u32;

        let message = &mut self.message;
        message.msg_iov = self.vectors.as_mut_ptr();
        message.msg_iovlen = self.pieces.len() as _;
        message.msg_namelen = write_address(&mut self.address, to, is_v6) as libc::socklen_t;
        message.msg_name = self.address.as_mut_ptr().cast();
        if segments > 1 {
            self.control.segment_bytes = segment as u16;
            message.msg_control = (&raw mut self.control).cast();
            message.msg_controllen = size_of::<SegmentControl>() as _;
        } else {
            message.msg_control = ptr::null_mut();
            message.msg_controllen = 0;
        }
        &raw const self.message
    }
}

impl SegmentControl {
    fn new() -> Self {
        // SAFETY: all fields are integers, for which zero is a value.
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        // SAFETY: only a computation.
        header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<u16>() as u32) } as _;
        header.cmsg_level = libc::SOL_UDP;
        header.cmsg_type = libc::UDP_SEGMENT;
        Self {
            header,
            segment_bytes: 0,
            padding: [0; 6],
        }
    }
}

fn empty_message() -> libc::msghdr {
    // SAFETY: all fields are integers and pointers, for which zero is a value.
    unsafe { mem::zeroed() }
}

/// Lets the kernel put datagrams of one peer together.
fn enable_coalescing(fd: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option is an `int`, and the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn parse(filled: &[u8], control_bytes: usize) -> Datagram<'_> {
    let control_len = word(filled, 4) as usize;
    let flags = word(filled, 12);
    let payload_at = CONTROL_AT + control_bytes;
    let control = &filled[CONTROL_AT..CONTROL_AT + control_len.min(control_bytes)];
    let bytes = &filled[payload_at..];
    let segment_bytes = coalesced(control).filter(|segment| usize::from(*segment) < bytes.len());
    Datagram {
        from: read_address(&filled[NAME_AT..CONTROL_AT]),
        bytes,
        segment_bytes,
        is_truncated: flags & libc::MSG_TRUNC as u32 != 0,
    }
}

/// The length in a `UDP_GRO` control message, the only kind that sockets here are told of.
fn coalesced(control: &[u8]) -> Option<u16> {
    const LEVEL_AT: usize = mem::offset_of!(libc::cmsghdr, cmsg_level);
    const TYPE_AT: usize = mem::offset_of!(libc::cmsghdr, cmsg_type);
    const DATA_AT: usize = size_of::<libc::cmsghdr>();
    let is_whole = control.len() >= DATA_AT + 4
        && word(control, LEVEL_AT) == libc::SOL_UDP as u32
        && word(control, TYPE_AT) == libc::UDP_GRO as u32;
    is_whole.then(|| word(control, DATA_AT) as u16)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(
        *bytes[at..]
            .first_chunk()
            .expect("the layout has a word here"),
    )
}

// The two layouts of an address; port and address in network order, the rest in the host's.
//
//      0        2      4                8           24       28
//      +--------+------+----------------+-----------+--------+
//      | family | port | address (IPv4) |           |        |
//      |        |      | flow info      | address   | scope  |
//      +--------+------+----------------+-----------+--------+

fn read_address(name: &[u8]) -> SocketAddr {
    let family = u16::from_ne_bytes([name[0], name[1]]);
    let port = u16::from_be_bytes([name[2], name[3]]);
    if i32::from(family) == libc::AF_INET {
        let address = Ipv4Addr::new(name[4], name[5], name[6], name[7]);
        return SocketAddr::V4(SocketAddrV4::new(address, port));
    }
    assert!(i32::from(family) == libc::AF_INET6, "a UDP socket is of IP");
    let octets: [u8; 16] = *name[8..].first_chunk().expect("the name has 32 bytes");
    let address = Ipv6Addr::from(octets);
    match address.to_ipv4_mapped() {
        Some(mapped) => SocketAddr::V4(SocketAddrV4::new(mapped, port)),
        None => SocketAddr::V6(SocketAddrV6::new(
            address,
            port,
            word(name, 4),
            word(name, 24),
        )),
    }
}

/// Writes `to` as a socket of that family takes it, and returns the length.
fn write_address(name: &mut [u8; ADDRESS_V6_BYTES], to: SocketAddr, is_v6: bool) -> usize {
    name[2..4].copy_from_slice(&to.port().to_be_bytes());
    let v6 = match to {
        SocketAddr::V4(v4) if !is_v6 => {
            name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            name[4..8].copy_from_slice(&v4.ip().octets());
            name[8..ADDRESS_V4_BYTES].fill(0);
            return ADDRESS_V4_BYTES;
        }
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0),
        SocketAddr::V6(v6) => v6,
    };
    name[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
    name[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
    name[8..24].copy_from_slice(&v6.ip().octets());
    name[24..].copy_from_slice(&v6.scope_id().to_ne_bytes());
    ADDRESS_V6_BYTES
}

#[cfg(test)]
#[path = "datagram_tests.rs"]
mod tests;
