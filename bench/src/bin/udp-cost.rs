//! What a packet of 1200 bytes costs on the loopback: CPU nanoseconds of the calling thread, the
//! kernel's part included, as the median of rounds in which the cases take turns.
//!
//!     cargo run --release -p ringside-load --bin udp-cost
//!
//! Prints one line of JSON. A sender's cost includes the delivery to the receiving socket, which
//! the loopback does within the send. `software` cases have a receiver that takes packets one by
//! one, so the kernel cuts a group apart as it does for a network card that cannot; in the others
//! the receiver takes the group whole, so nothing is cut, as with a card that can.

#![allow(unsafe_code, reason = "the plain system calls to compare with")]

use std::fmt::Write;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use bytes::Bytes;
use ringside::io::{
    COALESCE_BUFFER_BYTES, Completion, DatagramIndex, Net, Options, Piece, Wait, bind_udp,
};
use socket2::SockRef;

const PACKET_BYTES: usize = 1200;
/// A receiver's socket buffer holds several times this many.
const PACKETS: usize = 256;
const SAMPLES_PER_ROUND: usize = 8;
const ROUNDS: usize = 41;

/// How many packets one `recvmmsg` takes.
const BATCH: usize = 64;

fn main() -> io::Result<()> {
    let mut cases = vec![Case::new("send_sendto", SendTo::new()?)];
    for segments in [1, 2, 4, 8, 16] {
        let name = match segments {
            1 => "send_ring".to_owned(),
            more => format!("send_ring_gso_{more}"),
        };
        cases.push(Case::new(&name, SendRing::new(segments, true)?));
        if segments > 1 {
            let name = format!("{name}_software");
            cases.push(Case::new(&name, SendRing::new(segments, false)?));
        }
    }
    cases.push(Case::new("receive_recvmmsg", ReceiveBatch::new()?));
    for (name, buffers, bytes, segments) in [
        ("receive_ring_256", 256, 2048, 1),
        ("receive_ring_4096", 4096, 2048, 1),
        ("receive_ring_64kib_alone", 64, COALESCE_BUFFER_BYTES, 1),
        ("receive_ring_64kib_gro_8", 64, COALESCE_BUFFER_BYTES, 8),
    ] {
        cases.push(Case::new(name, ReceiveRing::new(buffers, bytes, segments)?));
    }
    for round in 0..=ROUNDS {
        for case in &mut cases {
            let mut spent = 0;
            for _ in 0..SAMPLES_PER_ROUND {
                spent += case.work.sample()?;
            }
            // The first round only warms up.
            if round > 0 {
                case.rounds
                    .push(spent / (SAMPLES_PER_ROUND * PACKETS) as u64);
            }
        }
    }
    let mut line = format!("{{\"packet_bytes\":{PACKET_BYTES},\"rounds\":{ROUNDS},\"cpu_ns\":{{");
    for (number, case) in cases.iter_mut().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let median = case.median();
        write!(line, "{comma}\"{}\":{median}", case.name).expect("a string takes it");
    }
    #[expect(clippy::print_stdout, reason = "the result of the program")]
    {
        println!("{line}}}}}");
    }
    Ok(())
}

/// Moves [`PACKETS`] packets and says how much CPU time the measured half of that took.
trait Work {
    fn sample(&mut self) -> io::Result<u64>;
}

struct Case {
    name: String,
    work: Box<dyn Work>,
    rounds: Vec<u64>,
}

impl Case {
    fn new(name: &str, work: impl Work + 'static) -> Self {
        Self {
            name: name.to_owned(),
            work: Box::new(work),
            rounds: Vec::new(),
        }
    }

    fn median(&mut self) -> u64 {
        self.rounds.sort_unstable();
        self.rounds[self.rounds.len() / 2]
    }
}

struct SendTo {
    socket: OwnedFd,
    sink: Drain,
}

impl SendTo {
    fn new() -> io::Result<Self> {
        Ok(Self {
            socket: loopback()?,
            sink: Drain::new(true)?,
        })
    }
}

impl Work for SendTo {
    fn sample(&mut self) -> io::Result<u64> {
        let packet = [7; PACKET_BYTES];
        let to = self.sink.address.into();
        let before = cpu_ns();
        for _ in 0..PACKETS {
            SockRef::from(&self.socket).send_to(&packet, &to)?;
        }
        let spent = cpu_ns() - before;
        assert_eq!(self.sink.drain() / PACKET_BYTES, PACKETS);
        Ok(spent)
    }
}

struct SendRing {
    net: Net,
    socket: DatagramIndex,
    segments: usize,
    group: Bytes,
    sink: Drain,
}

impl SendRing {
    fn new(segments: usize, sink_takes_groups: bool) -> io::Result<Self> {
        let mut net = Net::new(Options::default())?;
        Ok(Self {
            socket: net.bind_datagram(loopback()?)?,
            net,
            segments,
            group: Bytes::from(vec![7; segments * PACKET_BYTES]),
            sink: Drain::new(sink_takes_groups)?,
        })
    }
}

impl Work for SendRing {
    fn sample(&mut self) -> io::Result<u64> {
        let before = cpu_ns();
        send_groups(
            &mut self.net,
            self.socket,
            self.sink.address,
            &self.group,
            self.segments,
        )?;
        let spent = cpu_ns() - before;
        assert_eq!(self.sink.drain() / PACKET_BYTES, PACKETS);
        Ok(spent)
    }
}

fn send_groups(
    net: &mut Net,
    socket: DatagramIndex,
    to: SocketAddr,
    group: &Bytes,
    segments: usize,
) -> io::Result<()> {
    let segment = (segments > 1).then_some(PACKET_BYTES as u16);
    for _ in 0..PACKETS / segments {
        let pieces = std::iter::once(Piece::Bytes(group.clone()));
        net.send_datagrams(socket, to, pieces, segment);
        if net.batch_is_full() {
            net.submit()?;
        }
    }
    net.submit()
}

struct ReceiveBatch {
    source: SendRing,
}

impl ReceiveBatch {
    fn new() -> io::Result<Self> {
        Ok(Self {
            source: SendRing::new(1, false)?,
        })
    }
}

impl Work for ReceiveBatch {
    fn sample(&mut self) -> io::Result<u64> {
        let SendRing {
            net,
            socket,
            group,
            sink,
            ..
        } = &mut self.source;
        send_groups(net, *socket, sink.address, group, 1)?;
        let before = cpu_ns();
        let bytes = sink.drain();
        let spent = cpu_ns() - before;
        assert_eq!(bytes / PACKET_BYTES, PACKETS);
        Ok(spent)
    }
}

struct ReceiveRing {
    net: Net,
    address: SocketAddr,
    source: SendRing,
}

impl ReceiveRing {
    fn new(udp_buffers: u16, udp_buffer_bytes: u32, segments: usize) -> io::Result<Self> {
        let mut net = Net::new(Options {
            udp_buffers,
            udp_buffer_bytes,
            ..Options::default()
        })?;
        let socket = net.bind_datagram(loopback()?)?;
        let address = net.datagram_address(socket).expect("it is open");
        // Arms the receive.
        net.submit()?;
        Ok(Self {
            net,
            address,
            source: SendRing::new(segments, false)?,
        })
    }
}

impl Work for ReceiveRing {
    fn sample(&mut self) -> io::Result<u64> {
        let source = &mut self.source;
        send_groups(
            &mut source.net,
            source.socket,
            self.address,
            &source.group,
            source.segments,
        )?;
        let mut bytes = 0;
        let before = cpu_ns();
        while bytes < PACKETS * PACKET_BYTES {
            self.net.wait(Wait::No)?;
            while let Some(completion) = self.net.completion() {
                if let Completion::Datagram(_, received) = completion {
                    bytes += self.net.datagram(&received).bytes.len();
                    self.net.give_back_datagram(received);
                }
            }
        }
        Ok(cpu_ns() - before)
    }
}

/// Empties a socket by `recvmmsg`.
struct Drain {
    fd: OwnedFd,
    address: SocketAddr,
    room: Vec<Vec<u8>>,
}

impl Drain {
    fn new(takes_groups: bool) -> io::Result<Self> {
        let fd = loopback()?;
        let on = libc::c_int::from(takes_groups);
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
        let address = SockRef::from(&fd).local_addr()?;
        let room = if takes_groups { 1 << 16 } else { 2048 };
        Ok(Self {
            fd,
            address: address.as_socket().expect("it is of IPv4"),
            room: vec![vec![0; room]; BATCH],
        })
    }

    /// Reads all there is and returns the number of bytes.
    fn drain(&mut self) -> usize {
        // SAFETY: all fields are integers and pointers, for which zero is a value.
        let mut names: [libc::sockaddr_in6; BATCH] = unsafe { mem::zeroed() };
        let mut vectors: Vec<libc::iovec> = self
            .room
            .iter_mut()
            .map(|room| libc::iovec {
                iov_base: room.as_mut_ptr().cast(),
                iov_len: room.len(),
            })
            .collect();
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let mut bytes = 0;
        loop {
            for (at, message) in messages.iter_mut().enumerate() {
                message.msg_hdr.msg_iov = &raw mut vectors[at];
                message.msg_hdr.msg_iovlen = 1;
                message.msg_hdr.msg_name = (&raw mut names[at]).cast();
                message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
            // SAFETY: every message points at a name and a vector that live through the call.
            let count = unsafe {
                libc::recvmmsg(
                    self.fd.as_raw_fd(),
                    messages.as_mut_ptr(),
                    BATCH as u32,
                    libc::MSG_DONTWAIT as _,
                    ptr::null_mut(),
                )
            };
            let Ok(count @ 1..) = usize::try_from(count) else {
                return bytes;
            };
            bytes += messages[..count]
                .iter()
                .map(|message| message.msg_len as usize)
                .sum::<usize>();
        }
    }
}

fn loopback() -> io::Result<OwnedFd> {
    bind_udp(SocketAddr::from(([127, 0, 0, 1], 0)), false)
}

/// CPU time that the calling thread has used.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer, and the clock is there on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
