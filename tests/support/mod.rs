//! The real binary on loopback, and the real clients that are pointed at it.
//!
//! Everything started here dies with the test: children are told to by the kernel
//! (PR_SET_PDEATHSIG) and killed by their own id on drop. Every wait has an end. A client program
//! that is not installed fails the test; `tests/run.sh` installs all of them.

#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(
    unreachable_pub,
    reason = "a shared module of test programs has no outside"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the tests wait for other processes in real time"
)]
#![allow(
    unsafe_code,
    reason = "signals and pre_exec are only reachable through raw calls"
)]

pub mod clips;
pub mod collab;
pub mod http;
pub mod lossy;
pub mod m3u8;
pub mod rtc;
pub mod seccomp;
pub mod spaces;
pub mod tls;
pub mod vlc;
pub mod watch;

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a healthy server may take to answer `/readyz`.
const START_MAX: Duration = Duration::from_secs(10);

/// True of an error that says that nothing has come in time.
pub fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Where logs, recordings and screenshots of a run are left to be looked at.
pub fn scratch() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("e2e");
    fs::create_dir_all(&path).expect("the target folder is writable");
    path
}

/// Where `tests/run.sh` installs what the tests need.
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home"));
    cache
        .unwrap_or_else(|| home().join(".cache"))
        .join("ringside-tests")
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A port nobody listens on. Below the kernel's ephemeral range, so that no outgoing connection of
/// a neighbouring test takes it between here and the server's bind.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 12_000 + (std::process::id() % 500) as u16 * 40;
    for _ in 0..4000 {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + (base - 12_000 + offset) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 12000 and 32000");
}

/// The first of four ports in a row, which nobody else is given.
pub fn free_ports() -> u16 {
    let mut ports = [0; 4];
    while (1..4).any(|n| ports[n] != ports[n - 1] + 1) {
        ports = [ports[1], ports[2], ports[3], free_port()];
    }
    ports[0]
}

/// Polls until `done` answers, or fails the test.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A program in the background; killed on drop.
pub struct Background {
    child: Child,
    pub name: String,
    pub log: PathBuf,
    /// Set once the child was waited for: its id may belong to someone else from then on.
    status: Option<ExitStatus>,
    /// The test has ended it while it ran.
    was_killed: bool,
}

impl Background {
    /// Starts the command with its standard output and error in one log file.
    #[track_caller]
    pub fn start(name: &str, command: &mut Command) -> Self {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = scratch().join(format!("{name}-{}-{count}.log", std::process::id()));
        let file = File::create(&log).expect("the log can be written");
        let errors = file.try_clone().expect("a descriptor can be doubled");
        die_with_parent(command);
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        Self {
            child,
            name: name.to_owned(),
            log,
            status: None,
            was_killed: false,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("the log can be read")).into_owned()
    }

    pub fn signal(&self, signal: i32) {
        assert!(self.status.is_none(), "{} has ended", self.name);
        // SAFETY: the child was not waited for, so the id is still its own.
        let sent = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(sent, 0, "{}", io::Error::last_os_error());
    }

    /// The exit status, if the program has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be waited for");
        }
        self.status
    }

    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            if start.elapsed() > limit {
                panic!(
                    "{name} still runs after {limit:?}; it said:\n{}",
                    tail(&self.log())
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// As a crash or a pulled cable: no goodbye from the program itself.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(libc::SIGKILL);
            self.was_killed = true;
            self.status = Some(self.child.wait().expect("a killed child can be waited for"));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!(
                "---- {} ({})\n{}",
                self.name,
                self.log.display(),
                tail(&self.log())
            );
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// What a program that was run to its end said.
#[derive(Debug)]
pub struct Said {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Said {
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(
            self.status.success(),
            "{}: {}",
            self.status,
            tail(&self.stderr)
        );
        self
    }
}

/// Runs a program to its end, or fails the test when it takes longer than `limit`.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Said {
    let start = Instant::now();
    die_with_parent(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let stdout = collect(child.stdout.take().expect("piped above"));
    let stderr = collect(child.stderr.take().expect("piped above"));
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if start.elapsed() > limit {
            child
                .kill()
                .expect("a child that was not waited for can be killed");
            child.wait().expect("a killed child can be waited for");
            let errors = stderr.join().expect("the reader does not panic");
            panic!("{command:?} still runs after {limit:?}: {}", tail(&errors));
        }
        thread::sleep(Duration::from_millis(10));
    };
    Said {
        status,
        stdout: stdout.join().expect("the reader does not panic"),
        stderr: stderr.join().expect("the reader does not panic"),
        took: start.elapsed(),
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks gives what came before.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// `ringside serve` with a configuration of its own.
pub struct Server {
    pub process: Background,
    pub config: PathBuf,
    pub http: u16,
    pub rtmp: u16,
    pub control: u16,
    pub media: u16,
}

impl Server {
    /// A server with these streams (`config.streams`) on free ports of loopback, ready.
    #[track_caller]
    pub fn start(streams: Value) -> Self {
        Self::start_with(streams, json!({}))
    }

    /// Any stream of `names`, open to every publisher.
    #[track_caller]
    pub fn open(names: &[&str]) -> Self {
        let streams = names
            .iter()
            .map(|name| {
                (
                    (*name).to_owned(),
                    json!({ "name": name, "source": "push://" }),
                )
            })
            .collect();
        Self::start(Value::Object(streams))
    }

    #[track_caller]
    pub fn start_with(streams: Value, top_level: Value) -> Self {
        Self::start_prepared(streams, top_level, |_| {})
    }

    /// As `start_with`, after `prepare` has had its way with the command.
    #[track_caller]
    pub fn start_prepared(
        streams: Value,
        top_level: Value,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let edit = |all: &mut Value| {
            for (key, value) in top_level.as_object().expect("an object") {
                all[key] = value.clone();
            }
        };
        Self::start_edited(streams, edit, prepare)
    }

    /// As `start_prepared`, after `edit` has had its way with the configuration.
    #[track_caller]
    pub fn start_edited(
        streams: Value,
        edit: impl FnOnce(&mut Value),
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let (http, rtmp, control, media) = (free_port(), free_port(), free_port(), free_port());
        let mut all = json!({
            // A port of its own: the kernel would spread peers over all servers that have one.
            "webrtc": { "port": media },
            "config": {
                "controller": { "interface": "127.0.0.1", "port": control },
                "protocols": [
                    { "connector": "HTTP", "port": http, "interface": "127.0.0.1" },
                    { "connector": "RTMP", "port": rtmp, "interface": "127.0.0.1" },
                    // Each form of media over HTTP is a protocol of its own, as in MistServer.
                    { "connector": "FLV" }, { "connector": "HTTPTS" }, { "connector": "MP4" },
                    { "connector": "HLS" }, { "connector": "CMAF" }, { "connector": "WebRTC" },
                ],
            },
            "streams": streams,
        });
        edit(&mut all);
        let config = scratch().join(format!("config-{http}.json"));
        write_config(&config, &all);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringside"));
        command
            .env("RUST_LOG", "ringside=debug,info")
            .args(["serve", "-c"])
            .arg(&config);
        prepare(&mut command);
        let mut server = Self {
            process: Background::start("ringside", &mut command),
            config,
            http,
            rtmp,
            control,
            media,
        };
        server.wait_until_ready();
        server
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.ended() {
                panic!("ringside ended at once ({status}):\n{}", self.process.log());
            }
            if http::get(self.control, "/readyz").is_ok_and(|answer| answer.status == 200) {
                return;
            }
            assert!(
                start.elapsed() < START_MAX,
                "not ready:\n{}",
                self.process.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The address to publish `name` at.
    pub fn push_url(&self, name: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{name}", self.rtmp)
    }

    pub fn play_url(&self, name: &str) -> String {
        format!("rtmp://127.0.0.1:{}/play/{name}", self.rtmp)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// Publishes a clip round and round in real time, as an encoder would: frames come when they
    /// are due.
    #[track_caller]
    pub fn publish(&self, name: &str, clip: &Path) -> Background {
        self.publish_with(&ffmpeg(), name, clip)
    }

    #[track_caller]
    pub fn publish_with(&self, ffmpeg: &Path, name: &str, clip: &Path) -> Background {
        let publisher = Background::start(
            "publisher",
            &mut push_command(ffmpeg, clip, &self.push_url(name)),
        );
        self.wait_until_live(name, &publisher);
        publisher
    }

    /// Waits until the stream has a track with media.
    #[track_caller]
    pub fn wait_until_live(&self, name: &str, publisher: &Background) {
        let path = format!("/json_{name}.js");
        let start = Instant::now();
        loop {
            if let Ok(answer) = http::get(self.http, &path)
                && answer.status == 200
                && let Ok(info) = serde_json::from_slice::<Value>(&answer.body)
                && info["meta"]["tracks"]
                    .as_object()
                    .is_some_and(|tracks| !tracks.is_empty())
            {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{name} is not live; the publisher said:\n{}\nthe server said:\n{}",
                tail(&publisher.log()),
                tail(&self.process.log())
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// `/json_NAME.js`.
    #[track_caller]
    pub fn stream_info(&self, name: &str) -> Value {
        let answer = http::get(self.http, &format!("/json_{name}.js")).expect("the server answers");
        serde_json::from_slice(&answer.body).unwrap_or_else(|error| {
            panic!("{error} in {}", String::from_utf8_lossy(&answer.body));
        })
    }

    pub fn config(&self) -> Value {
        let text = fs::read(&self.config).expect("the configuration can be read");
        serde_json::from_slice(&text).expect("the configuration is JSON")
    }

    /// A metric, without `ringside_` in front, of all shards and with all labels together. With
    /// labels in the name, of those alone.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let text = http::get(self.control, "/metrics")
            .expect("the status port answers")
            .text();
        let samples = text
            .lines()
            .filter_map(|line| line.strip_prefix("ringside_")?.strip_prefix(name))
            .filter(|rest| rest.starts_with(['{', ' ']))
            .map(|rest| {
                let value = rest.rsplit(' ').next().expect("a sample has a value");
                value.parse::<u64>().expect("it is a number")
            });
        samples
            .reduce(|sum, value| sum + value)
            .unwrap_or_else(|| panic!("no {name}"))
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .expect("the server runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("a process has a VmRSS");
        let kib: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("VmRSS is a number of kB");
        kib * 1024
    }

    /// Established connections of the server on this port, from the server's side.
    pub fn connections(&self, port: u16) -> Vec<SocketAddr> {
        established_at(port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that fell over makes the test fail even if every assertion held.
        let died = self.process.ended();
        let log = self.process.log();
        if !thread::panicking() {
            assert!(
                self.process.was_killed || died.is_none_or(|status| status.success()),
                "the server died: {died:?}\n{}",
                tail(&log)
            );
            assert!(
                !log.contains("panicked at"),
                "a thread panicked:\n{}",
                tail(&log)
            );
        }
        // `process` is dropped next and kills what is left.
    }
}

pub fn write_config(path: &Path, config: &Value) {
    let text = serde_json::to_vec_pretty(config).expect("a value can be written");
    fs::write(path, text).expect("the configuration can be written");
}

/// Peers whose connection to `port` on 127.0.0.1 the kernel calls established at the server's end.
///
/// Columns of /proc/net/tcp: slot, local, remote, state (01 is ESTABLISHED); addresses are
/// little-endian hex.
pub fn established_at(port: u16) -> Vec<SocketAddr> {
    let table = fs::read_to_string("/proc/net/tcp").expect("proc is mounted");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = address(fields.next()?)?;
            let remote = address(fields.next()?)?;
            (local.port() == port && fields.next()? == "01").then_some(remote)
        })
        .collect()
}

fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let host = u32::from_str_radix(host, 16).ok()?.swap_bytes();
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddr::from((Ipv4Addr::from(host), port)))
}

/// Debian's ffmpeg (5.1 in Debian 12).
pub fn ffmpeg() -> PathBuf {
    PathBuf::from("/usr/bin/ffmpeg")
}

/// The newer FFmpeg: speaks enhanced RTMP. `tests/run.sh` sets the variable and installs it where
/// it is looked for otherwise.
#[track_caller]
pub fn ffmpeg9() -> PathBuf {
    if let Some(path) = std::env::var_os("RINGSIDE_FFMPEG9") {
        return path.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
        PathBuf::from,
    );
    let said = run(
        Command::new(cache.join("ringside-tests/venv/bin/python")).args([
            "-c",
            "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())",
        ]),
        Duration::from_secs(20),
    )
    .success();
    PathBuf::from(said.stdout.trim())
}

/// Pushes the clip over and over in real time without encoding it again.
pub fn push_command(ffmpeg: &Path, clip: &Path, url: &str) -> Command {
    let mut command = Command::new(ffmpeg);
    command
        .args(["-hide_banner", "-nostdin", "-loglevel", "info", "-nostats"])
        .args(["-re", "-stream_loop", "-1", "-i"])
        .arg(clip)
        .args(["-map", "0", "-c", "copy", "-f", "flv", url]);
    command
}
