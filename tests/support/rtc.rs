//! Clients of WebRTC: browsers, aiortc and GStreamer that publish by WHIP and play by WHEP.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Background, Server, repository, run, scratch};

/// How long a viewer is watched; `RINGSIDE_PLAY_SECONDS` makes it longer.
pub fn play_seconds() -> u64 {
    std::env::var("RINGSIDE_PLAY_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(8)
}

/// Encoders and decoders take a processor each: tests that judge how a picture moves go one by one.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn browser_command(browser: &str, name: &str, plan: &Value) -> Command {
    let file = scratch().join(format!("{name}-{browser}.plan.json"));
    fs::write(&file, plan.to_string()).expect("the scratch folder is writable");
    let mut command = Command::new("node");
    command
        .arg(repository().join("tests/browser/rtc.mjs"))
        .arg(browser)
        .arg(&file)
        .arg(scratch().join(format!("{name}-{browser}.png")));
    command
}

/// What `tests/browser/rtc.mjs` saw, whose plan `plan` is. A screenshot is left in the scratch folder.
#[track_caller]
pub fn browse(browser: &str, name: &str, mut plan: Value) -> Value {
    if plan.get("seconds").is_none() {
        plan["seconds"] = json!(play_seconds());
    }
    let seconds = plan["seconds"].as_u64().expect("whole seconds");
    let views = plan["play"].as_array().map_or(1, Vec::len) as u64;
    let said = run(
        &mut browser_command(browser, name, &plan),
        Duration::from_secs(90 + views * (seconds + 10)),
    );
    assert!(said.status.success(), "{browser}: {}", said.stderr);
    let report = scratch().join(format!("{name}-{browser}.json"));
    fs::write(report, &said.stdout).expect("the scratch folder is writable");
    serde_json::from_str(&said.stdout).expect("one line of JSON")
}

/// The only view of a plan.
#[track_caller]
pub fn view(browser: &str, name: &str, url: &str) -> Value {
    let report = browse(browser, name, json!({ "play": [{ "url": url }] }));
    report["views"][0].clone()
}

/// A browser that publishes until it is dropped.
pub struct Camera {
    process: Background,
}

impl Camera {
    #[track_caller]
    pub fn start(server: &Server, browser: &str, stream: &str, publish: Value) -> Self {
        let mut publish = publish;
        publish["url"] = json!(server.url(&format!("/whip/{stream}")));
        let mut command = browser_command(
            browser,
            &format!("camera-{stream}"),
            &json!({ "publish": publish }),
        );
        let mut process = Background::start("camera", &mut command);
        let start = Instant::now();
        while !process.log().contains("publishing") {
            assert!(
                process.ended().is_none() && start.elapsed() < Duration::from_secs(30),
                "{browser} does not publish: {}",
                process.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        server.wait_until_live(stream, &process);
        Self { process }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // The browser ends in order; `process` is killed if it does not.
        if self.process.ended().is_none() {
            self.process.signal(libc::SIGTERM);
            let start = Instant::now();
            while self.process.ended().is_none() && start.elapsed() < Duration::from_secs(5) {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// What a track's statistics of a view say.
#[track_caller]
pub fn inbound<'a>(view: &'a Value, kind: &str) -> &'a Value {
    view["inbound"]
        .as_array()
        .and_then(|tracks| tracks.iter().find(|track| track["kind"] == kind))
        .unwrap_or_else(|| panic!("no {kind} in {view}"))
}

#[track_caller]
pub fn number(value: &Value, pointer: &str) -> f64 {
    value
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// How long a picture may stand still in all: encoders, decoders and the server share this machine,
/// whose other work takes a processor away for this long.
const FROZEN_MAX: f64 = 0.5;

/// Pictures of `codec` moved all the time, `rate` of them a second at least.
#[track_caller]
pub fn assert_moves(view: &Value, codec: &str, rate: f64) {
    let name = format!("video/{codec}");
    assert_eq!(inbound(view, "video")["codec"], name, "{view}");
    let seconds = number(view, "/during/seconds");
    let decoded = number(view, "/during/decoded");
    assert!(decoded > rate * seconds, "{decoded} pictures: {view}");
    assert_never_froze(view);
}

#[track_caller]
pub fn assert_never_froze(view: &Value) {
    let frozen = number(view, "/during/frozen");
    assert!(frozen < FROZEN_MAX, "it froze for {frozen} s: {view}");
}

/// Opus was heard without holes.
#[track_caller]
pub fn assert_sounds(view: &Value) {
    assert_eq!(inbound(view, "audio")["codec"], "audio/opus", "{view}");
    assert!(number(view, "/during/energy") > 0.0, "silent: {view}");
    assert!(number(view, "/sound/peak") > 0.02, "silent: {view}");
    let concealed = number(view, "/during/concealed") / number(view, "/during/samples");
    // Browsers make up for what came late as well, as where a processor was taken away.
    assert!(concealed < 0.15, "{concealed} made up: {view}");
}

/// Python with the packages that `tests/run.sh` installs.
pub fn python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
        PathBuf::from,
    );
    cache.join("ringside-tests/venv/bin/python")
}

/// `aiortc_peer.py`; `role` is `publish` or `play`.
pub fn aiortc(role: &str, url: &str, seconds: u64, codecs: &[&str]) -> Command {
    let mut command = Command::new(python());
    command
        .arg(repository().join("tests/clients/aiortc_peer.py"))
        .args([role, url, &seconds.to_string()])
        .args(codecs);
    command
}

/// `gst_peer.py`, with the RSA certificate that GStreamer makes itself.
pub fn gstreamer(role: &str, url: &str, seconds: u64, codec: &str) -> Command {
    // Debian's own Python has the bindings.
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(repository().join("tests/clients/gst_peer.py"))
        .args([role, url, &seconds.to_string(), codec]);
    command
}

/// The report of a peer that was run to its end.
#[track_caller]
pub fn report_of(command: &mut Command, limit: Duration) -> Value {
    let said = run(command, limit);
    assert!(
        said.status.success(),
        "{command:?}: {}{}",
        said.stdout,
        said.stderr
    );
    serde_json::from_str(said.stdout.trim()).expect("one line of JSON")
}
