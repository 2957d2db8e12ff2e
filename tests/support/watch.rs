//! What a viewer got: captured as it came, then taken apart with ffmpeg.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{self, Connection};
use super::{Background, Said, Server, ffmpeg, run, scratch};

const TOOL_MAX: Duration = Duration::from_secs(40);

fn new_file(extension: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    scratch().join(format!("got-{}-{count}.{extension}", std::process::id()))
}

/// One packet or decoded frame, in seconds of its track's clock.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub dts: f64,
    pub pts: f64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Track {
    /// `video` or `audio`.
    pub kind: String,
    /// ffmpeg's name: `h264`, `aac`.
    pub codec: String,
    pub packets: Vec<Packet>,
}

impl Track {
    /// From the first to the last packet, in the order of presentation.
    pub fn span(&self) -> f64 {
        let pts = || self.packets.iter().map(|packet| packet.pts);
        pts().fold(f64::MIN, f64::max) - pts().fold(f64::MAX, f64::min)
    }

    /// Packets per second of media.
    pub fn rate(&self) -> f64 {
        (self.packets.len() as f64 - 1.0) / self.span()
    }

    /// The longest time between two packets that follow each other in decoding order.
    pub fn gap_max(&self) -> f64 {
        self.packets
            .windows(2)
            .map(|pair| pair[1].dts - pair[0].dts)
            .fold(0.0, f64::max)
    }

    #[track_caller]
    pub fn assert_monotonic(&self) {
        for (index, pair) in self.packets.windows(2).enumerate() {
            assert!(
                pair[1].dts > pair[0].dts,
                "{} dts {} follows {} at packet {}",
                self.kind,
                pair[1].dts,
                pair[0].dts,
                index + 1
            );
        }
        for packet in &self.packets {
            assert!(
                packet.pts >= packet.dts - 1e-6,
                "{packet:?} is shown before it is decoded"
            );
        }
    }
}

/// Tracks and what ffmpeg complained about.
#[derive(Debug)]
pub struct Contents {
    pub tracks: Vec<Track>,
    pub complaints: String,
}

impl Contents {
    #[track_caller]
    pub fn track(&self, kind: &str) -> &Track {
        self.tracks
            .iter()
            .find(|track| track.kind == kind)
            .unwrap_or_else(|| panic!("no {kind} in {:?}: {}", self.codecs(), self.complaints))
    }

    pub fn codecs(&self) -> Vec<&str> {
        let mut codecs: Vec<_> = self
            .tracks
            .iter()
            .map(|track| track.codec.as_str())
            .collect();
        codecs.sort_unstable();
        codecs
    }

    /// Reads ffmpeg's `framecrc`: `#tb 0: 1/1000`, `#media_type 0: video`, `#codec_id 0: h264`, then
    /// a line per packet: track, dts, pts, duration, size, checksum.
    #[track_caller]
    pub fn parse(text: &str, complaints: String) -> Self {
        let mut tracks: BTreeMap<usize, (f64, Track)> = BTreeMap::new();
        for line in text.lines() {
            if let Some((key, value)) = line
                .strip_prefix('#')
                .and_then(|comment| comment.split_once(": "))
            {
                let Some((key, index)) = key.split_once(' ') else {
                    continue;
                };
                let Ok(index) = index.parse() else { continue };
                let (tick, track) = tracks.entry(index).or_default();
                match key {
                    "tb" => {
                        let (num, den) = value.split_once('/').expect("a fraction");
                        let number = |text: &str| text.trim().parse::<f64>().expect("a number");
                        *tick = number(num) / number(den);
                    }
                    "media_type" => value.clone_into(&mut track.kind),
                    "codec_id" => value.clone_into(&mut track.codec),
                    _ => {}
                }
                continue;
            }
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            // The last line of a program that was stopped may be cut short.
            let [index, dts, pts, _, bytes, _, ..] = fields.as_slice() else {
                continue;
            };
            let (Ok(index), Ok(dts), Ok(pts), Ok(bytes)) = (
                index.parse(),
                dts.parse::<f64>(),
                pts.parse::<f64>(),
                bytes.parse(),
            ) else {
                continue;
            };
            let (tick, track) = tracks.get_mut(&index).expect("a track is described first");
            track.packets.push(Packet {
                dts: dts * *tick,
                pts: pts * *tick,
                bytes,
            });
        }
        Self {
            tracks: tracks.into_values().map(|(_, track)| track).collect(),
            complaints,
        }
    }
}

/// The packets of a file as its container has them.
#[track_caller]
pub fn packets(tool: &Path, file: &Path) -> Contents {
    let said = list(tool, file, &["-c", "copy"]).success();
    Contents::parse(&said.stdout, said.stderr)
}

/// The file decoded: a `Packet` is a picture or a block of sound.
#[track_caller]
pub fn decoded(tool: &Path, file: &Path) -> Contents {
    let said = list(tool, file, &["-fps_mode", "passthrough"]).success();
    Contents::parse(&said.stdout, said.stderr)
}

#[track_caller]
fn list(tool: &Path, file: &Path, mode: &[&str]) -> Said {
    run(
        Command::new(tool)
            .args([
                "-hide_banner",
                "-nostdin",
                "-loglevel",
                "warning",
                "-copyts",
                "-i",
            ])
            .arg(file)
            .args(["-map", "0:v?", "-map", "0:a?"])
            .args(mode)
            .args(["-f", "framecrc", "-"]),
        TOOL_MAX,
    )
}

/// The body of an answer that does not end, as it came, in a file.
pub struct Capture {
    pub file: PathBuf,
    /// From the request to the first byte of the body.
    pub first_byte: Duration,
    pub bytes: usize,
}

/// Reads `path` (`/NAME.flv`) for `time`.
#[track_caller]
pub fn capture(server: &Server, path: &str, time: Duration) -> Capture {
    let start = Instant::now();
    let mut connection = Connection::new(http::connect(server.http).expect("the port is open"));
    connection
        .send("GET", path, &[])
        .expect("a request can be sent");
    let head = connection.head().expect("the server answers");
    assert_eq!(head.status, 200, "{path}");
    let mut first_byte = None;
    let body = connection
        .body_until(&head, time + Duration::from_secs(5), |body| {
            if !body.is_empty() && first_byte.is_none() {
                first_byte = Some(start.elapsed());
            }
            start.elapsed() >= time
        })
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    let extension = path.rsplit('.').next().expect("a path has an extension");
    let file = new_file(extension);
    fs::write(&file, &body).expect("the scratch folder is writable");
    Capture {
        file,
        first_byte: first_byte.expect("a body that is long enough has a first byte"),
        bytes: body.len(),
    }
}

/// Plays an RTMP address with ffmpeg for `seconds` of media into an FLV file, packets untouched.
#[track_caller]
pub fn capture_rtmp(tool: &Path, url: &str, seconds: u32, options: &[&str]) -> PathBuf {
    let file = new_file("flv");
    run(
        Command::new(tool)
            .args(["-hide_banner", "-nostdin", "-loglevel", "warning", "-y"])
            .args(options)
            .args(["-i", url, "-t", &seconds.to_string()])
            .args(["-map", "0:v?", "-map", "0:a?", "-c", "copy"])
            .args(["-flvflags", "no_duration_filesize", "-f", "flv"])
            .arg(&file),
        Duration::from_secs(u64::from(seconds) + 15),
    )
    .success();
    file
}

/// ffmpeg as a viewer that stays: it lists every packet it gets until it is stopped.
pub struct Viewer {
    process: Background,
    list: PathBuf,
}

impl Viewer {
    #[track_caller]
    pub fn start(tool: &Path, url: &str) -> Self {
        let list = new_file("framecrc");
        let process = Background::start(
            "viewer",
            Command::new(tool)
                .args([
                    "-hide_banner",
                    "-nostdin",
                    "-loglevel",
                    "warning",
                    "-y",
                    "-copyts",
                ])
                // No fifth of a second of packets is held back to guess at a stream that is known.
                .args(["-fflags", "nobuffer", "-analyzeduration", "1000000"])
                .args(["-i", url, "-map", "0:v?", "-map", "0:a?", "-c", "copy"])
                .args(["-flush_packets", "1", "-f", "framecrc"])
                .arg(&list),
        );
        Self { process, list }
    }

    /// What came so far.
    pub fn contents(&self) -> Contents {
        let text = fs::read(&self.list).unwrap_or_default();
        Contents::parse(&String::from_utf8_lossy(&text), self.process.log())
    }

    pub fn pictures(&self) -> usize {
        self.contents()
            .tracks
            .iter()
            .find(|track| track.kind == "video")
            .map_or(0, |track| track.packets.len())
    }

    /// Waits until `count` more pictures have come.
    #[track_caller]
    pub fn expect_pictures(&mut self, count: usize, limit: Duration) {
        let before = self.pictures();
        let start = Instant::now();
        loop {
            let now = self.pictures();
            if now >= before + count {
                return;
            }
            if let Some(status) = self.process.ended() {
                panic!("the viewer ended ({status}): {}", self.process.log());
            }
            assert!(
                start.elapsed() < limit,
                "{} of {count} pictures in {limit:?}: {}",
                now - before,
                self.process.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn is_playing(&mut self) -> bool {
        self.process.ended().is_none()
    }

    #[track_caller]
    pub fn wait(&mut self, limit: Duration) {
        self.process.wait(limit);
    }

    /// Ends the viewer and gives what it got.
    pub fn stop(mut self) -> Contents {
        if self.process.ended().is_none() {
            self.process.signal(libc::SIGINT);
            self.process.wait(Duration::from_secs(5));
        }
        self.contents()
    }
}

/// Sound minus picture in seconds, for every flash that has a beep near it.
///
/// Only meaningful for `clips::flash_and_beep`.
#[track_caller]
pub fn sound_offsets(file: &Path) -> Vec<f64> {
    sound_offsets_with(&ffmpeg(), file)
}

/// As `sound_offsets`, of a file that Debian's ffmpeg is too old for.
#[track_caller]
pub fn sound_offsets_with(tool: &Path, file: &Path) -> Vec<f64> {
    let flashes = onsets(
        tool,
        file,
        &[
            "-an",
            "-fps_mode",
            "passthrough",
            "-vf",
            "signalstats,metadata=print:key=lavfi.signalstats.YAVG:file=-",
        ],
        |luma| luma > 120.0,
    );
    let beeps = onsets(
        tool,
        file,
        &[
            "-vn",
            "-af",
            "asetnsamples=n=128:p=0,astats=metadata=1:reset=1,\
             ametadata=print:key=lavfi.astats.Overall.RMS_level:file=-",
        ],
        |decibel| decibel > -25.0,
    );
    flashes
        .iter()
        .filter_map(|flash| {
            beeps
                .iter()
                .map(|beep| beep - flash)
                .filter(|offset| offset.abs() < 0.45)
                .min_by(|a, b| a.abs().total_cmp(&b.abs()))
        })
        .collect()
}

/// The times at which a measured value begins to be `on`. Something that is on at the very start is
/// no onset: its beginning may have been before.
#[track_caller]
fn onsets(tool: &Path, file: &Path, filter: &[&str], on: impl Fn(f64) -> bool) -> Vec<f64> {
    let said = run(
        Command::new(tool)
            .args([
                "-hide_banner",
                "-nostdin",
                "-loglevel",
                "error",
                "-copyts",
                "-i",
            ])
            .arg(file)
            .args(filter)
            .args(["-f", "null", "-"]),
        TOOL_MAX,
    )
    .success();
    let mut onsets = Vec::new();
    let mut time = 0.0;
    let mut was_on = true;
    for line in said.stdout.lines() {
        if let Some((_, seconds)) = line.split_once("pts_time:") {
            time = seconds.trim().parse().expect("a time in seconds");
        } else if let Some((_, value)) = line.split_once('=') {
            // Silence is `-inf`, which parses.
            let is_on = on(value.trim().parse().expect("a measured number"));
            if is_on && !was_on {
                onsets.push(time);
            }
            was_on = is_on;
        }
    }
    onsets
}

/// Plays an address and throws the pictures away; how long until the first one was decoded.
#[track_caller]
pub fn first_picture(tool: &Path, url: &str) -> Duration {
    run(
        Command::new(tool)
            .args(["-hide_banner", "-nostdin", "-loglevel", "error"])
            .args([
                "-i",
                url,
                "-map",
                "0:v:0",
                "-frames:v",
                "1",
                "-f",
                "null",
                "-",
            ]),
        Duration::from_secs(15),
    )
    .success()
    .took
}
