//! `ringside demo`: something to see in a browser without any other program.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::config::{self, Pinning};
use crate::proto::flv::{FileReader, Tag, TagKind};
use crate::proto::rtmp::{Client, ClientEvent, Target};
use crate::server::Server;
use crate::shard::clock;

/// H.264 and AAC.
const CLIP: &[u8] = include_bytes!("../../assets/demo.flv");

/// The same sound as Opus.
const CLIP_OPUS: &[u8] = include_bytes!("../../assets/demo-opus.flv");

/// How long the publisher waits before it connects again.
const RETRY: Duration = Duration::from_secs(1);

/// Where the demo listens, on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Demo {
    /// The page's port.
    pub http: u16,
    /// RTMP.
    pub rtmp: u16,
    /// The control port.
    pub control: u16,
    /// Media of WebRTC.
    pub webrtc: u16,
    /// Players of spaces.
    pub spaces: u16,
    /// Blender users: the first of three.
    pub collab: u16,
}

/// Serves the demo until a signal ends it.
pub fn run(demo: Demo, out: &mut impl Write) -> anyhow::Result<()> {
    let text = serde_json::json!({
        "config": {
            "controller": {"interface": "127.0.0.1", "port": demo.control},
            "protocols": [
                {"connector": "HTTP", "interface": "127.0.0.1", "port": demo.http},
                {"connector": "RTMP", "interface": "127.0.0.1", "port": demo.rtmp},
            ],
        },
        "webrtc": {"interface": "127.0.0.1", "port": demo.webrtc},
        "spaces": {"interface": "127.0.0.1", "port": demo.spaces},
        "collab": {"interface": "127.0.0.1", "sessions": [{"port": demo.collab}]},
        "streams": {"demo": {"name": "demo", "source": "push://127.0.0.1"}},
    });
    let loaded = config::parse(&text.to_string(), "the demo's configuration")?;
    let clip = Clip::read()?;
    let server = Server::start(loaded.config, &Pinning::default())?;
    let address = SocketAddr::from(([127, 0, 0, 1], demo.rtmp));
    thread::Builder::new()
        .name("demo".to_owned())
        .spawn(move || {
            loop {
                if let Err(error) = publish(address, &clip) {
                    tracing::debug!(%error, "the demo's publisher connects again");
                }
                pause(RETRY);
            }
        })?;
    let (http, rtmp, control) = (demo.http, demo.rtmp, demo.control);
    let collab = demo.collab;
    writeln!(
        out,
        "\nA clip loops as the live stream `demo`:\n\n    \
         http://127.0.0.1:{http}/demo.html    open this in a browser\n    \
         http://127.0.0.1:{http}/space.html   a space to walk and talk in, with a second window\n\n    \
         http://127.0.0.1:{http}/cmaf/demo/index.m3u8   HLS with low latency, also /hls/demo/index.m3u8\n    \
         http://127.0.0.1:{http}/cmaf/demo/index.mpd    DASH\n    \
         http://127.0.0.1:{http}/demo.flv     HTTP-FLV, also .ts and .mp4\n    \
         http://127.0.0.1:{http}/whep/demo    WebRTC, in a WHEP player\n    \
         rtmp://127.0.0.1:{rtmp}/play/demo    RTMP\n    \
         http://127.0.0.1:{control}/metrics     numbers\n\n\
         Blender's multi-user add-on joins at 127.0.0.1, port {collab}, without a server password;\n\
         the admin password `admin` lets the first one bring a scene.\n\n\
         Ctrl-C ends it."
    )?;
    out.flush()?;
    server.run()
}

/// The clip's tags in the order of their times.
struct Clip {
    /// Sent once for each connection: metadata and decoder configurations.
    configuration: Vec<Tag>,
    /// One loop.
    media: Vec<Tag>,
    duration_ms: i64,
}

impl Clip {
    fn read() -> anyhow::Result<Self> {
        let mut tags = read_tags(CLIP)?;
        for mut tag in read_tags(CLIP_OPUS)? {
            if tag.kind == TagKind::Audio
                && let Some(payload) = as_second_audio_track(&tag.payload)
            {
                tag.payload = payload.into();
                tags.push(tag);
            }
        }
        let (configuration, mut media): (Vec<Tag>, Vec<Tag>) =
            tags.into_iter().partition(is_configuration);
        media.sort_by_key(|tag| tag.timestamp);
        let video: Vec<i64> = media
            .iter()
            .filter(|tag| tag.kind == TagKind::Video)
            .map(|tag| i64::from(tag.timestamp))
            .collect();
        let (Some(first), Some(last)) = (video.first(), video.last()) else {
            bail!("the clip has no picture");
        };
        let frames = video.len() as i64;
        Ok(Self {
            duration_ms: (last - first) * frames / (frames - 1).max(1),
            configuration,
            media,
        })
    }
}

fn read_tags(file: &[u8]) -> anyhow::Result<Vec<Tag>> {
    let mut reader = FileReader::new();
    reader.push(file);
    let mut tags = Vec::new();
    while let Some(tag) = reader.next_tag().context("the clip")? {
        tags.push(tag);
    }
    Ok(tags)
}

/// Metadata, sequence headers, and what an encoder says once at the beginning.
fn is_configuration(tag: &Tag) -> bool {
    let bytes: &[u8] = &tag.payload;
    match tag.kind {
        TagKind::Script => true,
        // AVC packet type 0 is the sequence header (FLV 10.1 E.4.3.1).
        TagKind::Video => bytes.get(1) == Some(&0),
        // AAC packet type 0 (E.4.2.1); an ex header's packet type is in the low four bits, and
        // that of a multitrack packet in those of the second byte (enhanced RTMP v2).
        TagKind::Audio => match bytes.first() {
            Some(0x95) => bytes.get(1).is_some_and(|byte| byte & 0x0f == 0),
            Some(_) => bytes.get(1) == Some(&0),
            None => true,
        },
    }
}

/// Turns an enhanced audio packet into the same one of track 1 (enhanced RTMP v2, "one track").
/// `None` for packets that carry neither configuration nor frames.
fn as_second_audio_track(payload: &[u8]) -> Option<Vec<u8>> {
    const EX_HEADER: u8 = 9 << 4;
    const MULTITRACK: u8 = 5;
    const ONE_TRACK: u8 = 0;
    let (first, rest) = payload.split_first()?;
    let (fourcc, body) = rest.split_at_checked(4)?;
    let packet_type = first & 0x0f;
    if first & 0xf0 != EX_HEADER || packet_type > 1 {
        return None;
    }
    let mut out = vec![EX_HEADER | MULTITRACK, (ONE_TRACK << 4) | packet_type];
    out.extend_from_slice(fourcc);
    out.push(1);
    out.extend_from_slice(body);
    Some(out)
}

/// Publishes the clip in real time until the connection fails.
fn publish(address: SocketAddr, clip: &Clip) -> io::Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let target = Target {
        app: "live".to_owned(),
        name: "demo".to_owned(),
        query: String::new(),
        tc_url: format!("rtmp://{address}/live"),
    };
    let mut client = Client::publish(target, 1, clock::now());
    become_ready(&mut socket, &mut client)?;
    socket.set_nonblocking(true)?;
    for tag in &clip.configuration {
        client.send_tag(tag.kind, 0, &tag.payload);
    }
    let start = clock::now();
    for round in 0.. {
        let base = round * clip.duration_ms;
        for tag in &clip.media {
            let time = base + i64::from(tag.timestamp);
            wait_until(start + Duration::from_millis(time as u64));
            client.send_tag(tag.kind, time as u32, &tag.payload);
            while let Some(bytes) = client.poll_transmit() {
                write_all(&mut socket, &bytes)?;
            }
            discard_input(&mut socket, &mut client)?;
        }
    }
    Ok(())
}

fn become_ready(socket: &mut TcpStream, client: &mut Client) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        while let Some(bytes) = client.poll_transmit() {
            socket.write_all(&bytes)?;
        }
        while let Some(event) = client.poll_event() {
            match event {
                ClientEvent::Ready => return Ok(()),
                ClientEvent::Closed(reason) => {
                    return Err(io::Error::other(format!("refused: {reason:?}")));
                }
                ClientEvent::Connected | ClientEvent::Message(_) => {}
            }
        }
        let count = socket.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        client.handle_input(clock::now(), &buffer[..count]);
    }
}

fn write_all(socket: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                pause(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn discard_input(socket: &mut TcpStream, client: &mut Client) -> io::Result<()> {
    let mut buffer = [0; 1024];
    match socket.read(&mut buffer) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => {
            client.handle_input(clock::now(), &buffer[..count]);
            while client.poll_event().is_some() {}
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

fn wait_until(time: Instant) {
    pause(time.saturating_duration_since(clock::now()));
}

#[expect(
    clippy::disallowed_methods,
    reason = "the demo's publisher has a thread of its own, as an encoder would"
)]
fn pause(time: Duration) {
    thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clip_has_picture_and_both_sounds() {
        let clip = Clip::read().expect("the embedded clip is readable");
        let count = |first: u8| {
            clip.media
                .iter()
                .filter(|tag| tag.kind == TagKind::Audio && tag.payload[0] == first)
                .count()
        };
        assert!(count(0xaf) > 100, "AAC");
        assert!(count(0x95) > 100, "Opus as the second track");
        assert!(clip.media.iter().any(|tag| tag.kind == TagKind::Video));
        assert!((2000..20_000).contains(&clip.duration_ms));
    }
}
