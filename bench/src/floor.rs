//! The bare loop: `send()` of the same pieces to the same number of sockets, and nothing else.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use ringside::shard::clock;
use serde_json::{Map, Value, json};

use crate::fleet::{self, Plan, Wanted};
use crate::process::Process;
use crate::source::{Shape, Synthetic};
use crate::streams::{describe_tally, join, pause, total, wait_until};
use crate::viewer::{Kind, Shared};

/// What a container puts around a frame: an FLV tag's header and back pointer.
const FRAMING: [u8; 15] = [0x55; 15];

/// How long the other process may take to connect.
const CONNECT_MAX: Duration = Duration::from_secs(20);

/// The sending side.
#[derive(Args, Clone, Debug)]
pub struct FloorOptions {
    /// The rates of the pieces: `video_kbps,fps,gop_ms,audio_kbps,audio_fps`.
    #[arg(long, default_value = "")]
    pub pieces: Shape,
    /// How many sockets.
    #[arg(long, default_value_t = 300)]
    pub viewers: usize,
    /// Milliseconds of pieces that go in one send; 0 sends each piece when it is due.
    #[arg(long, default_value_t = 0)]
    pub merge_ms: u64,
    /// How long to measure.
    #[arg(long, default_value_t = 20.0)]
    pub seconds: f64,
    /// How long to send before that.
    #[arg(long, default_value_t = 3.0)]
    pub warmup: f64,
    /// Where to listen; 0 takes any port.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Wait for a `sink` that is started by hand.
    #[arg(long)]
    pub no_sink: bool,
    /// The CPU of the sink.
    #[arg(long)]
    pub sink_cpu: Option<usize>,
}

/// The receiving side.
#[derive(Args, Clone, Debug)]
pub struct SinkOptions {
    /// Where the bare loop listens.
    #[arg(long)]
    pub connect: SocketAddr,
    /// How many connections.
    #[arg(long, default_value_t = 300)]
    pub viewers: usize,
    /// Microseconds to gather deliveries for when there are many.
    #[arg(long, default_value_t = 0)]
    pub gather_us: u64,
}

/// Runs the bare loop, and writes one line of JSON to `out`. True if nothing went wrong.
pub fn run(options: &FloorOptions, out: &mut impl Write) -> anyhow::Result<bool> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
    let address = listener.local_addr()?;
    let mut sink = if options.no_sink {
        eprintln!(
            "waiting for: sink --connect {address} --viewers {}",
            options.viewers
        );
        None
    } else {
        Some(start_sink(options, address)?)
    };
    let sockets = accept(&listener, options.viewers)?;
    let mut floor = Floor::new(
        sockets,
        options.pieces,
        Duration::from_millis(options.merge_ms),
    );
    let start = clock::now();
    let measure_at = start + Duration::from_secs_f64(options.warmup);
    let end = measure_at + Duration::from_secs_f64(options.seconds);
    floor.send_until(start, measure_at)?;
    tell(&mut sink)?;
    let (bytes, sends, dropped) = (floor.bytes, floor.sends, floor.dropped);
    let (at, cpu) = (clock::now(), Process::own().cpu()?);
    floor.send_until(start, end)?;
    let seconds = (clock::now() - at).as_secs_f64();
    let cpu = (Process::own().cpu()? - cpu).as_secs_f64();
    let bytes = floor.bytes - bytes;
    tell(&mut sink)?;
    let received = finish_sink(sink)?;
    drop(floor.sockets);

    let gigabytes = bytes as f64 / 1e9;
    let dropped = floor.dropped - dropped;
    let result = json!({
        "kind": "floor",
        "viewers": {"all": options.viewers},
        "merge_ms": options.merge_ms,
        "seconds": seconds,
        "bytes": bytes,
        "mbit_s": bytes as f64 * 8e-6 / seconds,
        "sends": floor.sends - sends,
        "server_cpu_s": cpu,
        "server_cpu_share": cpu / seconds,
        "cpu_s_per_gb": cpu / gigabytes,
        "cpu_us_per_viewer_s": cpu * 1e6 / (options.viewers as f64 * seconds),
        "dropped_sends": dropped,
        "delivery_gap_ms": received["delivery_gap_ms"],
        "stalls": received["stalls"],
        "client_cpu_s": received["client_cpu_s"],
    });
    writeln!(out, "{result}")?;
    Ok(dropped == 0)
}

struct Floor {
    sockets: Vec<TcpStream>,
    source: Synthetic,
    window: Duration,
    /// The piece after those of `delivery`.
    next: Piece,
    /// What is sent next.
    delivery: Piece,
    bytes: u64,
    sends: u64,
    dropped: u64,
}

/// When bytes are due, and the bytes.
type Piece = (Duration, Vec<u8>);

impl Floor {
    fn new(sockets: Vec<TcpStream>, shape: Shape, window: Duration) -> Self {
        let mut floor = Self {
            sockets,
            source: Synthetic::new(shape),
            window,
            next: Piece::default(),
            delivery: Piece::default(),
            bytes: 0,
            sends: 0,
            dropped: 0,
        };
        floor.next = floor.piece();
        floor.gather();
        floor
    }

    /// Sends what is due before `end`, as if publishing had begun at `start`.
    fn send_until(&mut self, start: Instant, end: Instant) -> io::Result<()> {
        loop {
            let due = start + self.delivery.0;
            pause(due.min(end).saturating_duration_since(clock::now()));
            if due >= end {
                return Ok(());
            }
            self.send()?;
            self.gather();
        }
    }

    /// Makes the next delivery: a piece, and those that come within the window behind it.
    fn gather(&mut self) {
        let piece = self.piece();
        let (first, mut bytes) = std::mem::replace(&mut self.next, piece);
        let due = first + self.window;
        while self.next.0 < due {
            bytes.extend_from_slice(&self.next.1);
            self.next = self.piece();
        }
        self.delivery = (due, bytes);
    }

    fn piece(&mut self) -> Piece {
        let timed = self.source.next();
        let mut bytes = timed.body;
        bytes.extend_from_slice(&FRAMING);
        (timed.due, bytes)
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = &self.delivery.1;
        for socket in &mut self.sockets {
            self.sends += 1;
            match socket.write(piece) {
                Ok(count) => {
                    self.bytes += count as u64;
                    self.dropped += u64::from(count < piece.len());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.dropped += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn accept(listener: &TcpListener, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    listener.set_nonblocking(true)?;
    let mut sockets = Vec::new();
    let mut failure = None;
    wait_until(CONNECT_MAX, || {
        while sockets.len() < count && failure.is_none() {
            match listener.accept() {
                Ok((socket, _)) => sockets.push(socket),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => failure = Some(error),
            }
        }
        true
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    if sockets.len() < count {
        bail!("only {} of {count} connections came", sockets.len());
    }
    for socket in &sockets {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
    }
    Ok(sockets)
}

fn start_sink(options: &FloorOptions, address: SocketAddr) -> anyhow::Result<Child> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    if let Some(cpu) = options.sink_cpu {
        command.args(["--cpu", &cpu.to_string()]);
    }
    command
        .args(["sink", "--connect", &address.to_string()])
        .args(["--viewers", &options.viewers.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the sink")
}

/// A byte on its input: measure, and then stop.
fn tell(sink: &mut Option<Child>) -> io::Result<()> {
    match sink.as_mut().and_then(|child| child.stdin.as_mut()) {
        Some(input) => input.write_all(b"\n"),
        None => Ok(()),
    }
}

fn finish_sink(sink: Option<Child>) -> anyhow::Result<Value> {
    let Some(child) = sink else {
        return Ok(Value::Null);
    };
    let output = child.wait_with_output()?;
    serde_json::from_slice(&output.stdout).context("the sink's result")
}

/// Receives until its standard input has told it to measure and to stop, or has ended.
pub fn sink(options: &SinkOptions, out: &mut impl Write) -> anyhow::Result<()> {
    let shared = Arc::new(Shared::default());
    let plan = Plan {
        viewers: vec![
            Wanted {
                kind: Kind::Raw,
                stream: "".into(),
                address: options.connect,
            };
            options.viewers
        ],
        connect_rate: 1e9,
        sample: usize::MAX,
        gather: Duration::from_micros(options.gather_us),
    };
    let thread = fleet::spawn(plan, &shared)?;
    let mut byte = [0];
    let mut input = io::stdin().lock();
    if input.read(&mut byte)? == 1 {
        shared.is_measuring.store(true, Ordering::Relaxed);
    }
    let (bytes, cpu) = (shared.bytes.load(Ordering::Relaxed), Process::own().cpu()?);
    let _ = input.read(&mut byte)?;
    let bytes = shared.bytes.load(Ordering::Relaxed) - bytes;
    let cpu = Process::own().cpu()? - cpu;
    shared.is_over.store(true, Ordering::Relaxed);
    let tallies = join(vec![thread])?;
    let mut result = Map::new();
    result.insert("kind".to_owned(), json!("sink"));
    result.insert("bytes".to_owned(), json!(bytes));
    result.insert("client_cpu_s".to_owned(), json!(cpu.as_secs_f64()));
    describe_tally(&total(&tallies), &mut result);
    writeln!(out, "{}", Value::Object(result))?;
    Ok(())
}
