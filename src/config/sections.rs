//! The sections of the configuration besides streams and protocols.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::node::{Fault, Node};
use super::notice::Notice;
use super::secret::Secret;

/// Further ports of spaces.
const MORE_PORTS_MAX: usize = 8;

/// `account.NAME`: who may use the API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// `password`: the MD5 of the password in hexadecimal digits, as MistServer keeps it, or the
    /// Argon2id hash of those digits in its `$argon2id$` form, which saving turns it into.
    pub password: Secret,
    /// `challenge`: those digits, sealed with the key beside the file, for logins by challenge;
    /// empty for none. Not a member of MistServer.
    pub challenge: Secret,
}

/// `config`: what holds for the server as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct General {
    /// `controller.interface` and `controller.port` of the API; default 0.0.0.0:4242.
    pub controller: SocketAddr,
    /// `debug`: 0 to 10; None leaves the log level alone.
    pub debug: Option<u8>,
    /// `accesslog`: `LOG` for the log, empty for none, else a file. Default `LOG`.
    pub access_log: String,
    /// `prometheus`: the path word of the metrics; empty for none, which is the default. Who knows
    /// it can read them.
    pub prometheus: Secret,
    /// `trustedproxy`: peers whose X-Forwarded-For and PROXY protocol are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `defaultStream`: what a viewer of an unknown stream gets; may be empty.
    pub default_stream: String,
    /// `challenge_login`: MistServer's login by challenge works. Checking one needs the MD5 of the
    /// password; when this is off, saving keeps nothing of a password but its Argon2id hash, and
    /// logins are by `Authorization: Basic` only. Not a setting of MistServer. Default true.
    pub challenge_login: bool,
    /// What makes two requests one session.
    pub sessions: SessionModes,
}

/// Bit masks of what identifies a session: 8 stream, 4 address, 2 token, 1 protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionModes {
    /// `sessionViewerMode`, default 14.
    pub viewer: u8,
    /// `sessionInputMode`, default 15.
    pub input: u8,
    /// `sessionOutputMode`, default 15.
    pub output: u8,
    /// `sessionUnspecifiedMode`, default 0.
    pub unspecified: u8,
    /// `sessionStreamInfoMode`, default 1.
    pub stream_info: u8,
    /// `tknMode`: where a token is read from and written to, default 15.
    pub token: u8,
}

/// `bandwidth`: what the server may send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bandwidth {
    /// `limit`: bytes a second; 0 for no limit, which is the default.
    pub bytes_per_second: u64,
    /// `exceptions`: receivers that do not count.
    pub exceptions: Vec<IpNet>,
}

/// `limits`: bounds that protect the server. Each may be left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at once, over all protocols; 1 to 4 000 000, default 100 000. An idle one costs
    /// about a kilobyte.
    pub connections_max: u32,
    /// Connections at once that have not sent a whole request or handshake; 1 to 1 000 000,
    /// default 4096. A flood of silent connections fills this before it fills `connections_max`.
    pub unauthenticated_max: u32,
    /// How long a connection may take for its request or handshake. Milliseconds, 100 to 120 000,
    /// default 10 000.
    pub unauthenticated_ms: Duration,
    /// Live streams at once; 1 to 1 000 000, default 10 000. Wildcards let publishers make as many
    /// as they like.
    pub streams_max: u32,
    /// Tracks of one stream; 1 to 64, default 16.
    pub tracks_max: u32,
    /// Media kept of one stream, whatever its `DVR`. Bytes, 1 MiB to 64 GiB, default 256 MiB.
    pub stream_bytes_max: u64,
    /// The head of an HTTP request. Bytes, 1024 to 65 535, default 16 384.
    pub http_header_bytes_max: u32,
    /// The body of an HTTP request. Bytes, 1024 to 67 108 864, default 1 048 576.
    pub http_body_bytes_max: u32,
    /// From the head of an HTTP request to the end of its body. Milliseconds, 100 to 600 000,
    /// default 30 000.
    pub http_body_ms: Duration,
    /// How long an HTTP connection may idle between requests. Milliseconds, 1000 to 3 600 000,
    /// default 60 000.
    pub http_keep_alive_ms: Duration,
}

/// `delivery`: how media is sent to viewers. Each may be left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// When frames are sent together; default `adaptive`.
    pub merge: Merge,
    /// The longest that a frame waits for others. Milliseconds, 0 to 1000, default 100.
    pub merge_ms_max: Duration,
    /// How far behind a viewer may fall before it skips to the newest keyframe. Milliseconds, 100
    /// to 60 000, default 4000.
    pub viewer_queue_ms: Duration,
    /// How long a viewer may take nothing at all before it is closed. Milliseconds, 1000 to
    /// 600 000, default 15 000.
    pub viewer_stall_ms: Duration,
    /// The length of parts of segments. Players of low-latency HLS keep three of these behind the
    /// live edge. Milliseconds, 100 to 2000, default 333.
    pub part_ms: Duration,
}

/// When frames that are due are sent together, which costs latency and saves sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Merge {
    /// `adaptive`: only as much as the load of the shard asks for.
    Adaptive,
    /// `off`: every frame at once.
    Off,
    /// `fixed`: always for `merge_ms_max`.
    Fixed,
}

/// `media`: files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Media {
    /// `roots`: the folders beneath which the API may list files; none by default. Absolute paths.
    pub roots: Vec<String>,
}

/// `spaces`: the signalling port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spaces {
    /// The section is there, or one of UNAVI's variables is set: spaces are served.
    pub is_served: bool,
    /// `interface` and `port`; default 0.0.0.0:4000.
    pub listen: SocketAddr,
    /// `more_ports`: further ports of the same interface, such as 443; at most 8.
    pub more_ports: Vec<u16>,
    /// `cert` and `key`, or `SSL_CERT` and `SSL_KEY`: the ports speak TLS.
    pub certificate: Option<Certificate>,
    /// `url`: where clients find the port from outside, if that is elsewhere: `wss://HOST/PATH`, or a
    /// path at the host that the page comes from. `/space.json` tells it; empty by default.
    pub url: String,
    /// `origins`: the sites whose pages may connect, such as `https://example.com`; empty, the
    /// default, for all. Programs that are no browser send none, and may.
    pub origins: Vec<String>,
    /// `join_key`: the key of join tokens (JWT, HS256); empty, the default, where anybody may enter.
    pub join_key: Secret,
    /// `players_max`: connections of players; 1 to 1 000 000, default 10 000.
    pub players_max: u32,
    /// `space_players_max`: players of one space; 1 to 256, default 256.
    pub space_players_max: u16,
    /// `frame_bytes_max`: the largest frame of a player. Bytes, 16 384 to 16 777 216, default 65 536;
    /// generations 2 and 3a have 16 384 in any case.
    pub frame_bytes_max: u32,
    /// `grace_ms`: how long a place is kept for a player whose connection has broken, if it asked for
    /// that. 0 to 600 000, default 10 000.
    pub grace: Duration,
    /// `nearest`: how many of the others a player gets all locations of; 0, the default, for all.
    pub nearest: u16,
    /// `others_every_ms`: the least time between two locations of another one than these. 50 to 10 000,
    /// default 500.
    pub others_every: Duration,
}

/// `collab`: collaborative sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collab {
    /// `interface`; default 0.0.0.0.
    pub interface: IpAddr,
    /// `sessions`.
    pub sessions: Vec<CollabSession>,
}

/// One of `collab.sessions`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CollabSession {
    /// The first of three ports: commands, data, signs of life. Clients of generation C (0.9.12 and later)
    /// use the first only, clients of generation A (0.1) also the one behind the third, which is left out
    /// where something else has it. 1 to 65 532, default 5555.
    pub port: u16,
    /// `tls_port`: one more port, where the same is spoken inside TLS; 0, the default, for none.
    pub tls_port: Option<u16>,
    /// `cert` and `key`: the certificate to show there first, before those of `tls.certificates`.
    pub certificate: Option<Certificate>,
    /// `admin_password`; default `admin`, as in the original.
    pub admin_password: Secret,
    /// `server_password`; empty for none.
    pub server_password: Secret,
    /// `versions`: the versions of `replication` that may meet in this session. Without any, the
    /// first client's version is the only one, as in the original.
    pub versions: Vec<String>,
    /// `timeout_ms`: how long a client may be silent. 100 to 600 000, default 5000.
    pub timeout: Duration,
    /// `stall_ms`: how long a client may take nothing of what waits for it. 1000 to 600 000, default
    /// 60 000.
    pub stall: Duration,
    /// `autosave`: the file that the scene is kept in, and restored from at the start; empty for none.
    pub autosave: String,
    /// `autosave_s`: the longest that a change is not in the file; 1 to 86 400 seconds, default 120.
    pub autosave_interval: Duration,
    /// `autosave_keep`: older files that stay; 0 to 1000, default 10.
    pub autosave_keep: usize,
    /// `preload`: the file of the scene that the session begins with, where nothing was kept.
    pub preload: String,
    /// `log`: whether changes are logged before anybody hears of them.
    pub log: CollabLog,
}

/// `log` of a collaborative session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CollabLog {
    /// `"off"`, the default: a crash loses what was not saved.
    Off,
    /// `"written"`: given to the system, which outlives the server.
    Written,
    /// `"synced"`: on the disk, which outlives the system.
    Synced,
}

/// A certificate chain and its key: `tls.certificates[]`, or `cert` and `key` of a connector.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Certificate {
    /// `cert`: PEM files, the server's certificate in the first. MistServer takes a list, with the
    /// certificates of the issuers in files of their own.
    pub cert: Vec<String>,
    /// `key`: a PEM file.
    pub key: String,
}

impl General {
    pub(super) fn read(node: &Node<'_>, notices: &mut Vec<Notice>) -> Result<Self, Fault> {
        node.members()?;
        let controller = node.get("controller");
        let debug = node.get("debug");
        let mode = |name: &str, default: u8| node.get(name).number(0..=15, default);
        Ok(Self {
            controller: listen(&controller, 4242)?,
            debug: match debug.is_absent() {
                true => None,
                false => Some(debug.number(0..=10, 4)?),
            },
            access_log: match node.get("accesslog").present() {
                None => "LOG".to_owned(),
                Some(log) => log.text()?,
            },
            prometheus: node.get("prometheus").secret()?,
            trusted_proxies: trusted_proxies(&node.get("trustedproxy"), notices)?,
            default_stream: node.get("defaultStream").text()?,
            challenge_login: node.get("challenge_login").flag(true)?,
            sessions: SessionModes {
                viewer: mode("sessionViewerMode", 14)?,
                input: mode("sessionInputMode", 15)?,
                output: mode("sessionOutputMode", 15)?,
                unspecified: mode("sessionUnspecifiedMode", 0)?,
                stream_info: mode("sessionStreamInfoMode", 1)?,
                token: mode("tknMode", 15)?,
            },
        })
    }
}

/// MistServer takes a list, or one text with the entries separated by blanks.
fn trusted_proxies(node: &Node<'_>, notices: &mut Vec<Notice>) -> Result<Vec<IpNet>, Fault> {
    let mut networks = Vec::new();
    for entry in node.texts()? {
        for proxy in entry.split_whitespace() {
            match network(proxy) {
                Some(network) => networks.push(network),
                None => notices.push(Notice::ProxyNotAddress {
                    proxy: proxy.to_owned(),
                }),
            }
        }
    }
    Ok(networks)
}

/// A network, or an address as a network of one.
fn network(text: &str) -> Option<IpNet> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .ok()
}

fn listen(node: &Node<'_>, port_default: u16) -> Result<SocketAddr, Fault> {
    Ok(SocketAddr::new(
        node.get("interface").interface()?,
        node.get("port").number(1..=u16::MAX, port_default)?,
    ))
}

impl Bandwidth {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        node.members()?;
        let exceptions = node.get("exceptions");
        let defaults = [
            "::1",
            "127.0.0.0/8",
            "10.0.0.0/8",
            "192.168.0.0/16",
            "172.16.0.0/12",
        ];
        let exceptions = match exceptions.is_absent() {
            true => defaults.into_iter().filter_map(network).collect(),
            false => exceptions
                .items()?
                .iter()
                .map(|item| {
                    network(&item.text()?).ok_or_else(|| item.fault("an address or a network"))
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            bytes_per_second: node.get("limit").number(0..=u64::MAX, 0)?,
            exceptions,
        })
    }
}

impl Limits {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        node.members()?;
        const MIB: u64 = 1024 * 1024;
        Ok(Self {
            connections_max: node.get("connections_max").number(1..=4_000_000, 100_000)?,
            unauthenticated_max: node
                .get("unauthenticated_max")
                .number(1..=1_000_000, 4096)?,
            unauthenticated_ms: node
                .get("unauthenticated_ms")
                .millis(100..=120_000, 10_000)?,
            streams_max: node.get("streams_max").number(1..=1_000_000, 10_000)?,
            tracks_max: node.get("tracks_max").number(1..=64, 16)?,
            stream_bytes_max: node
                .get("stream_bytes_max")
                .number(MIB..=64 * 1024 * MIB, 256 * MIB)?,
            http_header_bytes_max: node
                .get("http_header_bytes_max")
                .number(1024..=65_535, 16_384)?,
            http_body_bytes_max: node
                .get("http_body_bytes_max")
                .number(1024..=67_108_864, 1_048_576)?,
            http_body_ms: node.get("http_body_ms").millis(100..=600_000, 30_000)?,
            http_keep_alive_ms: node
                .get("http_keep_alive_ms")
                .millis(1000..=3_600_000, 60_000)?,
        })
    }
}

impl Delivery {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        node.members()?;
        let merge = node.get("merge");
        Ok(Self {
            merge: match merge.text()?.as_str() {
                "" | "adaptive" => Merge::Adaptive,
                "off" => Merge::Off,
                "fixed" => Merge::Fixed,
                _ => return Err(merge.fault("\"adaptive\", \"off\" or \"fixed\"")),
            },
            merge_ms_max: node.get("merge_ms_max").millis(0..=1000, 100)?,
            viewer_queue_ms: node.get("viewer_queue_ms").millis(100..=60_000, 4000)?,
            viewer_stall_ms: node.get("viewer_stall_ms").millis(1000..=600_000, 15_000)?,
            part_ms: node.get("part_ms").millis(100..=2000, 333)?,
        })
    }
}

impl Media {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        node.members()?;
        let root = |item: &Node<'_>| {
            let root = item.text()?;
            if root.starts_with('/') {
                Ok(root)
            } else {
                Err(item.fault("an absolute path"))
            }
        };
        Ok(Self {
            roots: node
                .get("roots")
                .items()?
                .iter()
                .map(root)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Spaces {
    /// Where players come: `listen` first.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let more = self.more_ports.iter();
        let more = more.map(|port| SocketAddr::new(self.listen.ip(), *port));
        [self.listen].into_iter().chain(more)
    }

    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        node.members()?;
        Ok(Self {
            is_served: !node.is_absent(),
            listen: listen(node, 4000)?,
            more_ports: read_more_ports(&node.get("more_ports"))?,
            certificate: Certificate::read_of_connector(node)?,
            url: read_socket_url(&node.get("url"))?,
            origins: node.get("origins").texts()?,
            join_key: node.get("join_key").secret()?,
            players_max: node.get("players_max").number(1..=1_000_000, 10_000)?,
            space_players_max: node.get("space_players_max").number(1..=256, 256)?,
            frame_bytes_max: node
                .get("frame_bytes_max")
                .number(16_384..=16_777_216, 65_536)?,
            grace: node.get("grace_ms").millis(0..=600_000, 10_000)?,
            nearest: node.get("nearest").number(0..=255, 0)?,
            others_every: node.get("others_every_ms").millis(50..=10_000, 500)?,
        })
    }
}

fn read_more_ports(node: &Node<'_>) -> Result<Vec<u16>, Fault> {
    let items = node.items()?;
    if items.len() > MORE_PORTS_MAX {
        return Err(node.fault(format!("at most {MORE_PORTS_MAX} ports")));
    }
    let port = |item: &Node<'_>| item.number(1..=u16::MAX, 0);
    items.iter().map(port).collect()
}

fn read_socket_url(node: &Node<'_>) -> Result<String, Fault> {
    let url = node.text()?;
    let known = ["/", "ws://", "wss://"];
    if url.is_empty() || known.iter().any(|begin| url.starts_with(begin)) {
        Ok(url)
    } else {
        Err(node.fault("an address with ws:// or wss://, or a path"))
    }
}

impl Collab {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        node.members()?;
        Ok(Self {
            interface: node.get("interface").interface()?,
            sessions: node
                .get("sessions")
                .items()?
                .iter()
                .map(CollabSession::read)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl CollabSession {
    fn read(node: &Node<'_>) -> Result<Self, Fault> {
        node.members()?;
        let admin_password = node.get("admin_password");
        let autosave = node.get("autosave").text()?;
        let log = match node.get("log").text()?.as_str() {
            "" | "off" => CollabLog::Off,
            "written" => CollabLog::Written,
            "synced" => CollabLog::Synced,
            _ => return Err(node.get("log").fault("\"off\", \"written\" or \"synced\"")),
        };
        if log != CollabLog::Off && autosave.is_empty() {
            return Err(node
                .get("autosave")
                .fault("a file, which the log goes on from"));
        }
        Ok(Self {
            port: node.get("port").number(1..=65_532, 5555)?,
            tls_port: Some(node.get("tls_port").number(0..=65_535, 0)?).filter(|port| *port != 0),
            certificate: Certificate::read_of_connector(node)?,
            admin_password: match admin_password.is_absent() {
                true => Secret::new("admin"),
                false => admin_password.secret()?,
            },
            server_password: node.get("server_password").secret()?,
            versions: node.get("versions").texts()?,
            timeout: node.get("timeout_ms").millis(100..=600_000, 5000)?,
            stall: node.get("stall_ms").millis(1000..=600_000, 60_000)?,
            autosave,
            autosave_interval: Duration::from_secs(node.get("autosave_s").number(1..=86_400, 120)?),
            autosave_keep: node.get("autosave_keep").number(0..=1000_u64, 10)? as usize,
            preload: node.get("preload").text()?,
            log,
        })
    }
}

impl Certificate {
    pub(super) fn read_all(node: &Node<'_>) -> Result<Vec<Self>, Fault> {
        node.members()?;
        node.get("certificates")
            .items()?
            .iter()
            .map(Self::read)
            .collect()
    }

    fn read(item: &Node<'_>) -> Result<Self, Fault> {
        let files: Vec<String> = item.get("cert").texts()?;
        let cert: Vec<String> = files.into_iter().filter(|file| !file.is_empty()).collect();
        if cert.is_empty() {
            return Err(item.get("cert").fault("the name of a PEM file"));
        }
        let key = item.get("key").text()?;
        if key.is_empty() {
            return Err(item.get("key").fault("the name of a PEM file"));
        }
        Ok(Self { cert, key })
    }

    /// None if the connector names neither. MistServer's pages write both as empty texts.
    pub(super) fn read_of_connector(item: &Node<'_>) -> Result<Option<Self>, Fault> {
        let names_none = item.get("cert").texts()?.iter().all(String::is_empty)
            && item.get("key").text()?.is_empty();
        (!names_none).then(|| Self::read(item)).transpose()
    }
}
