//! One shard's sockets on one ring.
//!
//! Everything that the kernel works on is owned here until its completion: a descriptor stays
//! open while an operation uses it, and the bytes of a send stay alive until they are sent.

#![allow(
    unsafe_code,
    reason = "submission entries point at memory that this module keeps alive"
)]

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;
use socket2::SockRef;

use crate::io::buffer_ring::BufferRing;
use crate::io::datagram::{DatagramIndex, Datagrams, ReceivedDatagram};
use crate::io::sending::{PIECES_MAX, Piece, SEND_BYTES_MAX, Sending, Vectored};

/// The group number of the TCP receive buffers.
const TCP_GROUP: u16 = 1;

/// How many sends are submitted at once. More saves nothing measurable (a submit costs about
/// 0.2 µs, a TCP send 3 to 7 µs), and the time a send is submitted is known to within one batch.
const SUBMIT_BATCH: usize = 32;

/// How often a full submission queue is submitted before the ring is taken for broken.
const PUSHES_MAX: u32 = 10_000;

/// How long [`Net`] waits for operations to end when it is dropped.
const DRAIN_ROUNDS: u32 = 200;

/// Sizes of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Submission queue entries, a power of two.
    pub sq_entries: u32,
    /// Completion queue entries, a power of two.
    pub cq_entries: u32,
    /// TCP receive buffers, a power of two of at most 32768.
    pub receive_buffers: u16,
    /// Bytes of a TCP receive buffer.
    pub receive_buffer_bytes: u32,
    /// Sockets that are registered with the ring, at most the limit of open descriptors; those
    /// beyond it work too. 3 % less CPU for each send was measured, for 8 bytes a place.
    pub registered_max: u32,
    /// UDP receive buffers, a power of two of at most 32768.
    pub udp_buffers: u16,
    /// Bytes of a UDP receive buffer; 48 of them go to the sender's address. With 64 KiB the
    /// kernel may put datagrams of one peer together, and 80 go to that and the address.
    pub udp_buffer_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sq_entries: 256,
            cq_entries: 4096,
            receive_buffers: 64,
            receive_buffer_bytes: 16 * 1024,
            registered_max: 16 * 1024,
            udp_buffers: 256,
            udp_buffer_bytes: 2048,
        }
    }
}

/// A socket of one [`Net`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketIndex(u32);

impl SocketIndex {
    /// The socket's place, which is used again after it is closed.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// A listener of one [`Net`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerIndex(pub u32);

/// What has happened on a socket.
#[derive(Debug)]
pub enum Completion {
    /// A connection arrived.
    Accepted(ListenerIndex, OwnedFd),
    /// A listener could not accept; it is armed again by [`Net::resume_listeners`].
    AcceptFailed(ListenerIndex, io::Error),
    /// Bytes arrived: read them by [`Net::received`], then [`Net::give_back`].
    Received(SocketIndex, Received),
    /// The peer sends no more; with an error if that is why.
    ReceiveEnded(SocketIndex, Option<io::Error>),
    /// All that was handed over is sent, or the send failed.
    Sent(SocketIndex, io::Result<()>),
    /// A datagram arrived: read it by [`Net::datagram`], then [`Net::give_back_datagram`].
    Datagram(DatagramIndex, ReceivedDatagram),
    /// Another thread woke this one.
    Woken,
}

/// A filled receive buffer.
#[derive(Debug)]
#[must_use = "the buffer must be given back"]
pub struct Received {
    buffer: u16,
    len: u32,
}

/// How to wait for completions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Do not.
    No,
    /// For one completion, or the time; without end if there is none.
    One(Option<Duration>),
    /// For `completions`, or if there are fewer for at most `gather` once the first is there;
    /// as `One` beyond that.
    Batch {
        /// How many to gather.
        completions: u32,
        /// The longest time to gather them.
        gather: Duration,
        /// When to stop waiting if there is nothing at all.
        limit: Option<Duration>,
    },
}

/// Counters of one ring since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Completions.
    pub completions: u64,
    /// Sends that were submitted.
    pub sends: u64,
    /// Times that the kernel had no receive buffer.
    pub no_buffers: u64,
    /// Operations that ended with an error, except sends of datagrams.
    pub errors: u64,
    /// Receives of datagrams; what the kernel has put together counts once.
    pub datagrams_received: u64,
    /// Those of them that did not fit in a buffer.
    pub datagrams_truncated: u64,
    /// Sends of datagrams that were submitted.
    pub datagram_sends: u64,
    /// Datagrams that the kernel has taken.
    pub datagrams_sent: u64,
    /// Sends that were lost because the socket's buffer or the device's queue was full.
    pub datagram_sends_full: u64,
    /// Sends that failed for another reason.
    pub datagram_sends_failed: u64,
    /// Sends that were not submitted: too many under way, or the socket was closed.
    pub datagram_sends_dropped: u64,
}

/// Wakes a shard from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    eventfd: Arc<OwnedFd>,
}

impl Waker {
    /// Ends the shard's wait, or the next one if it is not waiting.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes are passed to a descriptor that this waker keeps open.
        // The only failure is a full counter, which wakes as well.
        unsafe { libc::write(self.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

struct Socket {
    fd: OwnedFd,
    /// The descriptor is in the ring's table at the socket's own index, which spares the kernel
    /// a reference count for each operation.
    is_registered: bool,
    receiving: bool,
    sending: Sending,
    closing: bool,
    /// Its completions that wait to be read.
    unread: u32,
    /// Bytes that the kernel has taken since the socket was adopted.
    sent: u64,
}

impl Socket {
    /// What an operation on the socket names in its entry.
    fn target(&self, index: u32) -> (Fd, squeue::Flags) {
        if self.is_registered {
            (Fd(index as RawFd), squeue::Flags::FIXED_FILE)
        } else {
            (Fd(self.fd.as_raw_fd()), squeue::Flags::empty())
        }
    }
}

struct Listener {
    fd: OwnedFd,
    armed: bool,
    closing: bool,
}

/// The kinds of operation, in the upper half of an entry's user data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Accept = 1,
    Receive = 2,
    Send = 3,
    Wake = 4,
    /// A message from or to another ring, or a cancellation: the result is not needed.
    Ignore = 5,
    /// Sent into this ring by another shard.
    Message = 6,
    DatagramReceive = 7,
    DatagramSend = 8,
}

impl Kind {
    pub(super) fn tag(self, index: u32) -> u64 {
        (u64::from(self as u8) << 32) | u64::from(index)
    }

    fn of(user_data: u64) -> Option<(Self, u32)> {
        let kind = match (user_data >> 32) as u8 {
            1 => Self::Accept,
            2 => Self::Receive,
            3 => Self::Send,
            4 => Self::Wake,
            5 => Self::Ignore,
            6 => Self::Message,
            7 => Self::DatagramReceive,
            8 => Self::DatagramSend,
            _ => return None,
        };
        Some((kind, user_data as u32))
    }
}

/// The sockets of one shard, all on one ring. Stays on the thread that made it.
pub struct Net {
    // Field order is drop order: the ring goes before the memory that it uses.
    pub(super) ring: IoUring,
    receive_buffers: BufferRing,
    pub(super) datagrams: Datagrams,
    sockets: Slab<Socket>,
    listeners: Vec<Listener>,
    /// Sockets whose receive ended for want of a buffer.
    starved: Vec<u32>,
    pub(super) completions: VecDeque<Completion>,
    eventfd: Arc<OwnedFd>,
    /// What the eventfd is read into; boxed, so that it does not move.
    wake_count: Box<u64>,
    gathers: bool,
    /// Places in the ring's table of descriptors.
    registered_max: u32,
    pub(super) unsubmitted_sends: usize,
    pub(super) statistics: Statistics,
}

impl Net {
    /// Makes the ring. The calling thread is the only one that may use it.
    pub fn new(options: Options) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(options.cq_entries);
        let ring = builder.build(options.sq_entries)?;
        let receive_buffers = BufferRing::new(
            &ring,
            TCP_GROUP,
            options.receive_buffers,
            options.receive_buffer_bytes,
        )?;
        // Without a table everything works, a little slower.
        let registered_max = match ring
            .submitter()
            .register_files_sparse(options.registered_max)
        {
            Ok(()) => options.registered_max,
            Err(_) => 0,
        };
        // SAFETY: a plain syscall; the result is checked before it is owned.
        let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if eventfd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let eventfd = Arc::new(unsafe { OwnedFd::from_raw_fd(eventfd) });
        let mut net = Self {
            gathers: ring.params().is_feature_min_timeout(),
            registered_max,
            ring,
            receive_buffers,
            datagrams: Datagrams::new(options.udp_buffers, options.udp_buffer_bytes),
            sockets: Slab::new(),
            listeners: Vec::new(),
            starved: Vec::new(),
            completions: VecDeque::new(),
            eventfd,
            wake_count: Box::new(0),
            unsubmitted_sends: 0,
            statistics: Statistics::default(),
        };
        net.arm_wake();
        Ok(net)
    }

    /// The ring's descriptor, for [`Net::wake_ring`] of another shard.
    pub fn ring_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Wakes this shard from any thread.
    pub fn waker(&self) -> Waker {
        Waker {
            eventfd: Arc::clone(&self.eventfd),
        }
    }

    /// Counters since the start.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// How many sockets are open, closing ones included.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Accepts connections from a listening socket.
    pub fn listen(&mut self, fd: OwnedFd) -> ListenerIndex {
        self.listeners.push(Listener {
            fd,
            armed: false,
            closing: false,
        });
        let index = (self.listeners.len() - 1) as u32;
        self.arm_accept(index);
        ListenerIndex(index)
    }

    /// Stops accepting on one listener; connections that it accepted go on.
    pub fn close_listener(&mut self, listener: ListenerIndex) {
        let index = listener.0;
        let Some(entry) = self.listeners.get_mut(index as usize) else {
            return;
        };
        entry.closing = true;
        // A listener that is shut down refuses connections at once, while the accept operation
        // that still holds the descriptor ends.
        let _ = SockRef::from(&entry.fd).shutdown(Shutdown::Both);
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(Kind::Accept.tag(index)))
            .build()
            .user_data(Kind::Ignore.tag(0));
        // SAFETY: the entry points at nothing.
        unsafe { self.push(&cancel) };
    }

    /// Arms listeners whose accept failed, for example for want of descriptors.
    pub fn resume_listeners(&mut self) {
        for index in 0..self.listeners.len() as u32 {
            let listener = &self.listeners[index as usize];
            if !listener.armed && !listener.closing {
                self.arm_accept(index);
            }
        }
    }

    /// Takes over a connected socket and receives from it.
    pub fn adopt(&mut self, fd: OwnedFd) -> SocketIndex {
        let index = self.sockets.vacant_key() as u32;
        let is_registered = index < self.registered_max
            && self
                .ring
                .submitter()
                .register_files_update(index, &[fd.as_raw_fd()])
                .is_ok();
        self.sockets.insert(Socket {
            fd,
            is_registered,
            receiving: false,
            sending: Sending::Nothing,
            closing: false,
            unread: 0,
            sent: 0,
        });
        self.arm_receive(index);
        SocketIndex(index)
    }

    /// Bytes that the kernel has taken from a socket's sends.
    pub fn sent_bytes(&self, socket: SocketIndex) -> u64 {
        self.sockets
            .get(socket.0 as usize)
            .map_or(0, |entry| entry.sent)
    }

    /// The address of the peer.
    pub fn peer(fd: &OwnedFd) -> Option<SocketAddr> {
        SockRef::from(fd).peer_addr().ok()?.as_socket()
    }

    /// Sends the first pieces of `queue`, as many as go in one operation, and takes them out of
    /// it. At most one send of a socket may be under way.
    ///
    /// # Panics
    ///
    /// When a send is under way, or the socket was closed.
    pub fn send(&mut self, socket: SocketIndex, queue: &mut VecDeque<Piece>) {
        let entry = &mut self.sockets[socket.0 as usize];
        assert!(
            matches!(entry.sending, Sending::Nothing) && !entry.closing,
            "one send at a time, on an open socket"
        );
        let (fd, flags) = entry.target(socket.0);
        let sqe = if queue.len() == 1 {
            let piece = queue.pop_front().expect("its length was 1");
            let (pointer, len) = (piece.as_ptr(), piece.len().min(SEND_BYTES_MAX) as u32);
            entry.sending = Sending::One(piece);
            opcode::Send::new(fd, pointer, len)
                .flags(libc::MSG_NOSIGNAL)
                .build()
        } else {
            let count = queue.len().min(PIECES_MAX);
            let mut vectored = Box::new(Vectored::new(queue.drain(..count).collect()));
            let message = vectored.point();
            entry.sending = Sending::Many(vectored);
            opcode::SendMsg::new(fd, message)
                .flags(libc::MSG_NOSIGNAL as u32)
                .build()
        };
        let sqe = sqe.flags(flags).user_data(Kind::Send.tag(socket.0));
        // SAFETY: the socket keeps the pieces, their vectors and its descriptor until the
        // completion; the pieces' bytes are on the heap and do not move.
        unsafe { self.push(&sqe) };
        self.statistics.sends += 1;
        self.unsubmitted_sends += 1;
    }

    /// True when enough sends are queued that submitting them is due.
    pub fn batch_is_full(&self) -> bool {
        self.unsubmitted_sends >= SUBMIT_BATCH
    }

    /// Closes a socket now. What has been handed to the kernel is still delivered by it; no
    /// completion of the socket is reported after this.
    pub fn close(&mut self, socket: SocketIndex) {
        let Some(entry) = self.sockets.get_mut(socket.0 as usize) else {
            return;
        };
        if entry.closing {
            return;
        }
        entry.closing = true;
        // Ends the receive and the send that are under way.
        let _ = SockRef::from(&entry.fd).shutdown(Shutdown::Both);
        self.reap(socket.0);
    }

    /// Tells the peer that no more bytes come; receiving goes on.
    pub fn finish_sending(&mut self, socket: SocketIndex) {
        if let Some(entry) = self.sockets.get(socket.0 as usize) {
            let _ = SockRef::from(&entry.fd).shutdown(Shutdown::Write);
        }
    }

    /// Queues a wake-up of another shard's ring; it goes out with the next submit.
    pub fn wake_ring(&mut self, ring: RawFd) {
        let message = opcode::MsgRingData::new(Fd(ring), 0, Kind::Message.tag(0), None)
            .build()
            .user_data(Kind::Ignore.tag(0));
        // SAFETY: the entry points at nothing.
        unsafe { self.push(&message) };
    }

    /// The bytes that arrived.
    pub fn received(&self, received: &Received) -> &[u8] {
        self.receive_buffers.filled(received.buffer, received.len)
    }

    /// Gives a receive buffer back to the kernel.
    pub fn give_back(&mut self, received: Received) {
        self.receive_buffers.give(received.buffer);
    }

    /// Submits what is queued, without waiting.
    pub fn submit(&mut self) -> io::Result<()> {
        self.enter(Wait::No)
    }

    /// Submits what is queued and waits for completions.
    pub fn wait(&mut self, wait: Wait) -> io::Result<()> {
        self.rearm_starved();
        self.rearm_datagrams();
        // A submit may have collected completions that nobody has read: they are not told twice.
        let wait = if self.completions.is_empty() {
            wait
        } else {
            Wait::No
        };
        self.enter(wait)
    }

    /// The next completion. Those of sockets that were closed meanwhile are left out.
    pub fn completion(&mut self) -> Option<Completion> {
        while let Some(completion) = self.completions.pop_front() {
            let Some(socket) = completion.socket() else {
                return Some(completion);
            };
            let entry = &mut self.sockets[socket.0 as usize];
            entry.unread -= 1;
            if !entry.closing {
                return Some(completion);
            }
            if let Completion::Received(_, received) = completion {
                self.give_back(received);
            }
            self.reap(socket.0);
        }
        None
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.unsubmitted_sends = 0;
        self.statistics.enters += 1;
        let result = match wait {
            Wait::No => self
                .ring
                .submitter()
                .submit_with_args(0, &SubmitArgs::new()),
            Wait::One(None) => self.ring.submitter().submit_and_wait(1),
            Wait::One(Some(limit)) => self.wait_with(1, Duration::ZERO, Some(limit)),
            Wait::Batch {
                completions,
                gather,
                limit,
            } if self.gathers => self.wait_with(completions as usize, gather, limit),
            // A kernel before 6.12 cannot do both in one call. Waiting only ever for `gather` would
            // keep a shard going round that has nothing to do.
            Wait::Batch {
                completions,
                gather,
                limit,
            } => match self.wait_with(completions as usize, Duration::ZERO, Some(gather)) {
                Err(error)
                    if error.raw_os_error() == Some(libc::ETIME)
                        && self.ring.completion().is_empty() =>
                {
                    self.wait_with(1, Duration::ZERO, limit)
                }
                result => result,
            },
        };
        self.collect();
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // The time is over, a signal came, or the completion queue is full and has to be
                // read first: all are answered by going round again.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                Some(_) | None => Err(error),
            },
        }
    }

    fn wait_with(
        &self,
        want: usize,
        gather: Duration,
        limit: Option<Duration>,
    ) -> io::Result<usize> {
        let timespec = limit.map(Timespec::from);
        let mut arguments = SubmitArgs::new().min_wait_usec(gather.as_micros() as u32);
        if let Some(timespec) = &timespec {
            arguments = arguments.timespec(timespec);
        }
        self.ring.submitter().submit_with_args(want, &arguments)
    }

    /// Moves what the kernel has completed to `completions`, and keeps the books.
    fn collect(&mut self) {
        loop {
            let Some(cqe) = self.ring.completion().next() else {
                return;
            };
            self.statistics.completions += 1;
            let Some((kind, index)) = Kind::of(cqe.user_data()) else {
                unreachable!("every entry is tagged with its kind");
            };
            match kind {
                Kind::Accept => self.on_accept(index, &cqe),
                Kind::Receive => self.on_receive(index, &cqe),
                Kind::Send => self.on_send(index, &cqe),
                Kind::DatagramReceive => self.on_datagram(index, &cqe),
                Kind::DatagramSend => self.on_datagrams_sent(index, &cqe),
                Kind::Wake => {
                    self.arm_wake();
                    self.completions.push_back(Completion::Woken);
                }
                Kind::Message => self.completions.push_back(Completion::Woken),
                Kind::Ignore => {}
            }
        }
    }

    fn on_accept(&mut self, index: u32, cqe: &cqueue::Entry) {
        let more = cqueue::more(cqe.flags());
        let listener = &mut self.listeners[index as usize];
        listener.armed = more;
        if cqe.result() >= 0 {
            // SAFETY: the kernel made this descriptor for the accepted connection.
            let fd = unsafe { OwnedFd::from_raw_fd(cqe.result()) };
            if listener.closing {
                return;
            }
            self.completions
                .push_back(Completion::Accepted(ListenerIndex(index), fd));
            if !more {
                self.arm_accept(index);
            }
        } else if !listener.closing {
            self.statistics.errors += 1;
            let error = io::Error::from_raw_os_error(-cqe.result());
            self.completions
                .push_back(Completion::AcceptFailed(ListenerIndex(index), error));
        }
    }

    fn on_receive(&mut self, index: u32, cqe: &cqueue::Entry) {
        let socket = SocketIndex(index);
        let more = cqueue::more(cqe.flags());
        let entry = &mut self.sockets[index as usize];
        entry.receiving = more;
        let closing = entry.closing;
        if cqe.result() > 0 {
            let buffer = cqueue::buffer_select(cqe.flags()).expect("the group was selected");
            let received = Received {
                buffer,
                len: cqe.result() as u32,
            };
            if closing {
                self.give_back(received);
            } else {
                self.tell(socket, Completion::Received(socket, received));
                if !more {
                    self.arm_receive(index);
                }
            }
        } else if cqe.result() == -libc::ENOBUFS {
            self.statistics.no_buffers += 1;
            if !closing {
                self.starved.push(index);
            }
        } else if !closing {
            let error = (cqe.result() < 0).then(|| {
                self.statistics.errors += 1;
                io::Error::from_raw_os_error(-cqe.result())
            });
            self.tell(socket, Completion::ReceiveEnded(socket, error));
        }
        if closing {
            self.reap(index);
        }
    }

    fn on_send(&mut self, index: u32, cqe: &cqueue::Entry) {
        let entry = &mut self.sockets[index as usize];
        let sending = std::mem::replace(&mut entry.sending, Sending::Nothing);
        if entry.closing {
            self.reap(index);
            return;
        }
        let socket = SocketIndex(index);
        if cqe.result() < 0 {
            self.statistics.errors += 1;
            let error = io::Error::from_raw_os_error(-cqe.result());
            self.tell(socket, Completion::Sent(socket, Err(error)));
            return;
        }
        entry.sent += cqe.result() as u64;
        let mut rest = sending.after(cqe.result() as usize);
        if rest.is_empty() {
            self.tell(socket, Completion::Sent(socket, Ok(())));
        } else {
            // The socket's buffer was full: go on with what is left.
            self.send(socket, &mut rest);
        }
    }

    fn tell(&mut self, socket: SocketIndex, completion: Completion) {
        self.sockets[socket.0 as usize].unread += 1;
        self.completions.push_back(completion);
    }

    /// Removes a closing socket once no operation uses it and no completion of it waits to be
    /// read, so that none is taken for the next socket's; that closes the descriptor.
    fn reap(&mut self, index: u32) {
        let entry = &self.sockets[index as usize];
        let is_unused = !entry.receiving && matches!(entry.sending, Sending::Nothing);
        if entry.closing && is_unused && entry.unread == 0 {
            self.starved.retain(|starved| *starved != index);
            let socket = self.sockets.remove(index as usize);
            if socket.is_registered {
                // The table keeps the file open: the place has to be emptied for it to close.
                let emptied = self.ring.submitter().register_files_update(index, &[-1]);
                debug_assert!(emptied.is_ok(), "the place was registered");
            }
        }
    }

    fn arm_accept(&mut self, index: u32) {
        let listener = &mut self.listeners[index as usize];
        listener.armed = true;
        let sqe = opcode::AcceptMulti::new(Fd(listener.fd.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(Kind::Accept.tag(index));
        // SAFETY: the listener keeps its descriptor; the entry points at nothing else.
        unsafe { self.push(&sqe) };
    }

    fn arm_receive(&mut self, index: u32) {
        let entry = &mut self.sockets[index as usize];
        entry.receiving = true;
        let (fd, flags) = entry.target(index);
        let sqe = opcode::RecvMulti::new(fd, TCP_GROUP)
            .build()
            .flags(flags)
            .user_data(Kind::Receive.tag(index));
        // SAFETY: the socket keeps its descriptor while `receiving`; the buffers belong to the
        // group, which lives as long as the ring.
        unsafe { self.push(&sqe) };
    }

    fn rearm_starved(&mut self) {
        for index in std::mem::take(&mut self.starved) {
            self.arm_receive(index);
        }
    }

    fn arm_wake(&mut self) {
        let to = std::ptr::from_mut(&mut *self.wake_count).cast::<u8>();
        let sqe = opcode::Read::new(Fd(self.eventfd.as_raw_fd()), to, 8)
            .build()
            .user_data(Kind::Wake.tag(0));
        // SAFETY: the box and the descriptor live as long as the ring.
        unsafe { self.push(&sqe) };
    }

    /// Queues an entry; submits first if the queue is full.
    ///
    /// # Safety
    ///
    /// What the entry points at must live, unmoved, until its completion.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        for _ in 0..PUSHES_MAX {
            // SAFETY: promised by the caller.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            // A refusal leaves the queue full, and the next round tries again: the kernel
            // refuses while completions are waiting, and `enter` reads them.
            let _ = self.enter(Wait::No);
        }
        panic!("the kernel takes no more operations");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for index in 0..self.listeners.len() as u32 {
            self.close_listener(ListenerIndex(index));
        }
        let open: Vec<u32> = self.sockets.iter().map(|(index, _)| index as u32).collect();
        for index in open {
            self.close(SocketIndex(index));
        }
        self.close_all_datagrams();
        let mut is_quiet = false;
        for _ in 0..DRAIN_ROUNDS {
            is_quiet = self.sockets.is_empty()
                && self.datagrams.is_quiet()
                && self.listeners.iter().all(|listener| !listener.armed);
            if is_quiet {
                break;
            }
            if self
                .enter(Wait::One(Some(Duration::from_millis(10))))
                .is_err()
            {
                break;
            }
            while self.completion().is_some() {}
        }
        // The kernel tears down the ring after this has returned, and may read the eventfd until
        // then: the eight bytes are never freed.
        Box::leak(std::mem::take(&mut self.wake_count));
        if is_quiet {
            return;
        }
        // An operation that will not end still owns its bytes, nor are they.
        for socket in self.sockets.drain() {
            std::mem::forget(socket);
        }
        self.datagrams.abandon();
    }
}

impl Completion {
    fn socket(&self) -> Option<SocketIndex> {
        match self {
            Self::Received(socket, _) | Self::ReceiveEnded(socket, _) | Self::Sent(socket, _) => {
                Some(*socket)
            }
            Self::Accepted(..) | Self::AcceptFailed(..) | Self::Datagram(..) | Self::Woken => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;
    use std::time::Instant;

    use super::*;
    use crate::io::listen;

    /// A submit between two waits collected a completion, and the wait then slept on it: the
    /// second of two frames of a publisher went out when the third arrived, 20 ms later.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the wait is measured in real time"
    )]
    fn a_wait_does_not_sleep_on_what_a_submit_has_collected() {
        let mut net = Net::new(Options::default()).expect("io_uring works");
        let listener = listen("127.0.0.1:0".parse().expect("an address"), false).expect("a port");
        let address = SockRef::from(&listener).local_addr().expect("bound");
        let address = address.as_socket().expect("an IP address");
        net.listen(listener);
        let mut peer = TcpStream::connect(address).expect("it listens");
        let socket = loop {
            net.wait(Wait::One(None)).expect("it waits");
            if let Some(Completion::Accepted(_, fd)) = net.completion() {
                break net.adopt(fd);
            }
        };
        net.submit().expect("it submits");
        peer.write_all(b"first").expect("it is sent");
        // Loopback delivers before `write` returns; the submit collects it.
        while net.completions.is_empty() {
            net.submit().expect("it submits");
        }
        let start = Instant::now();
        net.wait(Wait::One(Some(Duration::from_secs(5))))
            .expect("it waits");
        assert!(start.elapsed() < Duration::from_secs(1), "it slept");
        let Some(Completion::Received(of, received)) = net.completion() else {
            panic!("the bytes are there");
        };
        assert_eq!(of, socket);
        assert_eq!(net.received(&received), b"first");
        net.give_back(received);
    }
}
