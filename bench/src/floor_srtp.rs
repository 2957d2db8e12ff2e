//! The bare loop of WebRTC: a publisher's packets, sealed for each receiver and sent to it in
//! groups that the kernel cuts apart, and nothing else.

#![allow(unsafe_code, reason = "an option of a socket that no library names")]

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};
use ringside::io::{
    COALESCE_BUFFER_BYTES, Completion, DatagramIndex, Net, Options, Piece, SEGMENTS_MAX, Wait,
    bind_udp,
};
use ringside::proto::srtp::{Outbound, Profile};
use ringside::shard::{clock, pin_to_cpu, thread_cpu_time};
use serde_json::json;

use crate::streams::pause;

const HEADER_BYTES: usize = 12;

/// A frame of video: 1.6 Mbit/s at 23.8 frames a second.
const VIDEO: Shape = Shape {
    packets: 7,
    packet_bytes: 1200,
    interval: Duration::from_micros(42_000),
};

/// 20 ms of sound.
const AUDIO: Shape = Shape {
    packets: 1,
    packet_bytes: 100,
    interval: Duration::from_micros(20_000),
};

const _: () = assert!(VIDEO.packets <= SEGMENTS_MAX);

/// How often the polling receivers look, so that their sockets hold a few packets at most and the
/// machine is left to the sender.
const POLL: Duration = Duration::from_millis(1);

/// What to send, and to whom.
#[derive(Args, Clone, Debug)]
pub struct FloorSrtpOptions {
    /// How many receivers.
    #[arg(long, default_value_t = 200)]
    pub receivers: usize,
    /// `gcm-128`, `gcm-256`, `sha1-80` or `sha1-32`.
    #[arg(long, default_value = "gcm-128")]
    pub profile: Suite,
    /// Sound in packets of 100 bytes, 50 a second, in place of video.
    #[arg(long)]
    pub audio: bool,
    /// Frames come this many times as often.
    #[arg(long, default_value_t = 1.0)]
    pub rate: f64,
    /// Whether receivers look on their own or wait in the kernel for the sender to wake them.
    #[arg(long, default_value = "poll")]
    pub receive: Receive,
    /// Receivers take groups of packets whole (`UDP_GRO`), so that nothing is cut apart on the way,
    /// as with a network card that cuts.
    #[arg(long)]
    pub whole: bool,
    /// The CPU of the receivers.
    #[arg(long)]
    pub receiver_cpu: Option<usize>,
    /// How long to measure.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// How long to send before that.
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// KiB that sealed packets lie in until the kernel has taken them.
    #[arg(long, default_value_t = 256)]
    pub arena_kib: usize,
}

/// How packets are taken.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receive {
    /// By looking every millisecond: no packet wakes anybody.
    Poll,
    /// By a ring that waits in the kernel, as the clients of the other loads do.
    Wait,
}

/// A profile by name.
#[derive(Clone, Copy, Debug)]
pub struct Suite(Profile);

const SUITES: [(&str, Profile); 4] = [
    ("gcm-128", Profile::AeadAes128Gcm),
    ("gcm-256", Profile::AeadAes256Gcm),
    ("sha1-80", Profile::AesCm128HmacSha1_80),
    ("sha1-32", Profile::AesCm128HmacSha1_32),
];

impl FromStr for Suite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        SUITES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, profile)| Self(*profile))
            .ok_or_else(|| format!("no profile `{text}`"))
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = SUITES.iter().find(|(_, profile)| *profile == self.0);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

/// What is due at once.
#[derive(Clone, Copy, Debug)]
struct Shape {
    packets: usize,
    /// With the header, without the tag.
    packet_bytes: usize,
    interval: Duration,
}

/// Runs the bare loop, and writes one line of JSON to `out`. True if nothing was lost.
pub fn run(options: &FloorSrtpOptions, out: &mut impl Write) -> anyhow::Result<bool> {
    if !(options.rate > 0.0 && options.seconds > 0.0) || options.receivers == 0 {
        bail!("the rate, the time and the receivers have to be more than 0");
    }
    let mut sink = Sink::start(options)?;
    let mut floor = Floor::new(options, &sink.addresses)?;
    let start = clock::now();
    let measure_at = start + Duration::from_secs_f64(options.warmup);
    floor.send_until(measure_at)?;
    let (before, at, cpu) = (floor.sent, clock::now(), thread_cpu_time());
    floor.worst_delay = Duration::ZERO;
    floor.send_until(measure_at + Duration::from_secs_f64(options.seconds))?;
    let (cpu, seconds) = (thread_cpu_time() - cpu, at.elapsed().as_secs_f64());
    let worst_delay = floor.worst_delay;
    let packets = floor.sent.packets - before.packets;
    let sends = floor.sent.sends - before.sends;
    let statistics = floor.net.statistics();
    let lost_sends = statistics.datagram_sends_full
        + statistics.datagram_sends_failed
        + statistics.datagram_sends_dropped;
    let received = sink.stop()?;
    let bytes_sent = floor.sent.bytes;
    let result = json!({
        "kind": "floor-srtp",
        "profile": options.profile.to_string(),
        "media": if options.audio { "audio" } else { "video" },
        "receivers": options.receivers,
        "receive": if options.receive == Receive::Poll { "poll" } else { "wait" },
        "whole": options.whole,
        "seconds": seconds,
        "packets": packets,
        "packets_s": packets as f64 / seconds,
        "sends": sends,
        "segments_per_send": packets as f64 / sends.max(1) as f64,
        "sender_cpu_s": cpu.as_secs_f64(),
        "sender_cpu_share": cpu.as_secs_f64() / seconds,
        "cpu_ns_per_packet": cpu.as_nanos() as f64 / packets.max(1) as f64,
        "frame_delay_ms_max": worst_delay.as_secs_f64() * 1e3,
        "lost_sends": lost_sends,
        "bytes_sent": bytes_sent,
        "bytes_received": received,
    });
    writeln!(out, "{result}")?;
    Ok(lost_sends == 0 && received == bytes_sent)
}

/// What has been handed to the kernel.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    packets: u64,
    sends: u64,
    bytes: u64,
}

struct Receiver {
    address: SocketAddr,
    outbound: Outbound,
    ssrc: u32,
}

struct Floor {
    net: Net,
    socket: DatagramIndex,
    receivers: Vec<Receiver>,
    shape: Shape,
    interval: Duration,
    /// The frame that all receivers get, in packets.
    payloads: Vec<Bytes>,
    arena: BytesMut,
    arena_bytes: usize,
    /// When the next frame is due.
    due: Instant,
    /// Of the next frame's first packet, for all receivers.
    index: u64,
    sent: Sent,
    /// The longest time from when a frame was due until its last packet was handed over.
    worst_delay: Duration,
}

impl Floor {
    fn new(options: &FloorSrtpOptions, addresses: &[SocketAddr]) -> anyhow::Result<Self> {
        let shape = if options.audio { AUDIO } else { VIDEO };
        let mut net = Net::new(Options::default()).context("a ring")?;
        let socket = net.bind_datagram(bind_udp((Ipv4Addr::LOCALHOST, 0).into(), false)?)?;
        let profile = options.profile.0;
        let receivers = addresses
            .iter()
            .enumerate()
            .map(|(number, address)| {
                // Keys of their own, since a server's receivers share none.
                let mut key = vec![7; profile.key_bytes()];
                key[..8].copy_from_slice(&(number as u64).to_be_bytes());
                Receiver {
                    address: *address,
                    outbound: Outbound::new(profile, &key, &vec![9; profile.salt_bytes()]),
                    ssrc: number as u32 + 1,
                }
            })
            .collect();
        let group = shape.packets * (shape.packet_bytes + profile.rtp_tag_bytes());
        let arena_bytes = (options.arena_kib << 10).max(group);
        Ok(Self {
            net,
            socket,
            receivers,
            shape,
            interval: shape.interval.div_f64(options.rate),
            payloads: (0..shape.packets)
                .map(|number| Bytes::from(vec![number as u8; shape.packet_bytes - HEADER_BYTES]))
                .collect(),
            arena: BytesMut::with_capacity(arena_bytes),
            arena_bytes,
            due: clock::now(),
            index: 0,
            sent: Sent::default(),
            worst_delay: Duration::ZERO,
        })
    }

    /// Sends the frames that are due before `end`.
    fn send_until(&mut self, end: Instant) -> io::Result<()> {
        while self.due < end {
            pause(self.due.saturating_duration_since(clock::now()));
            for receiver in 0..self.receivers.len() {
                self.send(receiver)?;
            }
            self.flush()?;
            self.worst_delay = self.worst_delay.max(self.due.elapsed());
            self.index += self.shape.packets as u64;
            self.due += self.interval;
        }
        Ok(())
    }

    /// Sends the frame to one receiver.
    fn send(&mut self, receiver: usize) -> io::Result<()> {
        let receiver = &self.receivers[receiver];
        let segment = self.shape.packet_bytes + receiver.outbound.rtp_tag_bytes();
        let group = segment * self.shape.packets;
        if self.arena.capacity() < group {
            // Nobody has the arena's bytes any more once the kernel has taken them.
            self.net.submit()?;
            self.arena.reserve(self.arena_bytes);
        }
        for (index, payload) in (self.index..).zip(&self.payloads) {
            let at = self.arena.len();
            self.arena.extend_from_slice(&[0x80, 0x60]);
            self.arena.extend_from_slice(&(index as u16).to_be_bytes());
            self.arena.extend_from_slice(&(index as u32).to_be_bytes());
            self.arena.extend_from_slice(&receiver.ssrc.to_be_bytes());
            self.arena.extend_from_slice(payload);
            self.arena.resize(at + segment, 0);
            let packet = &mut self.arena[at..];
            receiver
                .outbound
                .protect_rtp((index >> 16) as u32, HEADER_BYTES, packet);
        }
        let sealed = self.arena.split().freeze();
        let cut = (self.shape.packets > 1).then_some(segment as u16);
        let pieces = std::iter::once(Piece::Bytes(sealed));
        self.net
            .send_datagrams(self.socket, receiver.address, pieces, cut);
        if self.net.batch_is_full() {
            self.net.submit()?;
        }
        self.sent.packets += self.shape.packets as u64;
        self.sent.sends += 1;
        self.sent.bytes += group as u64;
        Ok(())
    }

    /// Hands over all that is queued, and lets go of what the kernel has taken.
    fn flush(&mut self) -> io::Result<()> {
        self.net.wait(Wait::No)?;
        while self.net.completion().is_some() {}
        Ok(())
    }
}

/// Receivers that only read, on a thread of their own.
struct Sink {
    addresses: Vec<SocketAddr>,
    bytes: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Sink {
    fn start(options: &FloorSrtpOptions) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for _ in 0..options.receivers {
            let socket = UdpSocket::from(bind_udp((Ipv4Addr::LOCALHOST, 0).into(), false)?);
            if options.whole {
                take_groups_whole(&socket)?;
            }
            sockets.push(socket);
        }
        let addresses = sockets.iter().map(UdpSocket::local_addr);
        let addresses = addresses.collect::<io::Result<_>>()?;
        let (bytes, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, ends) = (bytes.clone(), is_over.clone());
        let FloorSrtpOptions {
            receive,
            whole,
            receiver_cpu,
            ..
        } = *options;
        let thread = thread::spawn(move || {
            if let Some(cpu) = receiver_cpu {
                pin_to_cpu(cpu)?;
            }
            match receive {
                Receive::Poll => poll(&sockets, &count, &ends),
                Receive::Wait => wait(sockets, whole, &count, &ends),
            }
        });
        Ok(Self {
            addresses,
            bytes,
            is_over,
            thread: Some(thread),
        })
    }

    /// How many bytes came in all.
    fn stop(&mut self) -> anyhow::Result<u64> {
        // What was sent is in the sockets already: the loopback delivers within the send.
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .ok()
                .context("the receivers")?
                .context("the receivers")?;
        }
        Ok(self.bytes.load(Ordering::Relaxed))
    }
}

/// Looks at each socket in turn.
fn poll(sockets: &[UdpSocket], bytes: &AtomicU64, is_over: &AtomicBool) -> io::Result<()> {
    let mut room = vec![0; 1 << 16];
    loop {
        let is_last = is_over.load(Ordering::Acquire);
        for socket in sockets {
            loop {
                match socket.recv(&mut room) {
                    Ok(count) => bytes.fetch_add(count as u64, Ordering::Relaxed),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
            }
        }
        if is_last {
            return Ok(());
        }
        pause(POLL);
    }
}

/// Waits in the kernel for any packet.
fn wait(
    sockets: Vec<UdpSocket>,
    whole: bool,
    bytes: &AtomicU64,
    is_over: &AtomicBool,
) -> io::Result<()> {
    let mut options = Options::default();
    if whole {
        (options.udp_buffers, options.udp_buffer_bytes) = (64, COALESCE_BUFFER_BYTES);
    }
    let mut net = Net::new(options)?;
    for socket in sockets {
        net.bind_datagram(socket.into())?;
    }
    let mut idle = false;
    while !(idle && is_over.load(Ordering::Acquire)) {
        // An end of the time is no failure: the loop looks whether it is over.
        let _ = net.wait(Wait::One(Some(Duration::from_millis(100))));
        idle = true;
        while let Some(completion) = net.completion() {
            if let Completion::Datagram(_, received) = completion {
                let count = net.datagram(&received).bytes.len();
                bytes.fetch_add(count as u64, Ordering::Relaxed);
                net.give_back_datagram(received);
                idle = false;
            }
        }
    }
    Ok(())
}

fn take_groups_whole(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option is an `int`, and the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
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
