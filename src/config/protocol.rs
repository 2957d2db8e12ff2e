//! The protocols that are enabled: `config.protocols`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;

use super::node::{Fault, Node};
use super::notice::Notice;
use super::sections::Certificate;

/// Connectors of MistServer that this version does not serve, with the names older versions used.
const NOT_SERVED: &[&str] = &[
    "AAC",
    "DTSC",
    "EBML",
    "FLAC",
    "H264",
    "HDS",
    "HTTPMinimalServer",
    "JPG",
    "JSON",
    "JSONLine",
    "MP3",
    "OGG",
    "RTSP",
    "SDP",
    "SRT",
    "SubRip",
    "TS",
    "TSRIST",
    "TSSRT",
    "WAV",
];

/// What a connector of `config.protocols` is to this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Served on ports of its own.
    Port,
    /// Served on HTTP's ports.
    OverHttp,
    /// A connector of MistServer that is not served.
    NotServed,
    /// MistServer does not have it either.
    Unknown,
}

impl Standing {
    /// Of the connector by this name.
    pub fn of(connector: &str) -> Self {
        match connector {
            known if NOT_SERVED.contains(&known) => Self::NotServed,
            "HTTP" | "HTTPS" | "RTMP" => Self::Port,
            "FLV" | "MP4" | "HTTPTS" | "HLS" | "CMAF" | "DASH" | "HSS" | "WebRTC" => Self::OverHttp,
            _ => Self::Unknown,
        }
    }
}

const HTTP_PORT: u16 = 8080;
const HTTPS_PORT: u16 = 4433;
const RTMP_PORT: u16 = 1935;

/// What is served, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocols {
    /// `HTTP`, once per listening address.
    pub http: Vec<Http>,
    /// `HTTPS`, once per listening address. Where the file has no list of protocols, it is on when
    /// there is a certificate.
    pub https: Vec<Https>,
    /// `RTMP`, once per listening address.
    pub rtmp: Vec<Rtmp>,
    /// `FLV`: `/NAME.flv` on HTTP. On together with `mp4` and `ts` where the list names none of
    /// the three.
    pub flv: bool,
    /// `MP4`: `/NAME.mp4` on HTTP.
    pub mp4: bool,
    /// `HTTPTS`: `/NAME.ts` on HTTP.
    pub ts: bool,
    /// `HLS`: `/hls/NAME/index.m3u8` on HTTP, MPEG-TS segments. Like `flv`, on where the list names
    /// no format.
    pub hls: bool,
    /// `CMAF`, and `DASH` and `HSS` of older files: `/cmaf/NAME/index.m3u8` and `index.mpd` on HTTP,
    /// fragmented MP4.
    pub cmaf: bool,
    /// `WebRTC`: WHIP, WHEP and `/webrtc/NAME` on HTTP, and the ports of the section `webrtc`. Like
    /// `flv`, on where the list names no format.
    pub webrtc: bool,
}

/// A listening address for HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// `interface` and `port`; default 0.0.0.0:8080.
    pub listen: SocketAddr,
    /// `pubaddr`: the addresses that viewers are told, instead of the one they asked for.
    pub public_addresses: Vec<String>,
    /// `nostreamtext`: what the player page shows when a stream is not available; may be empty.
    pub no_stream_text: String,
}

/// A listening address for HTTP inside TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Https {
    /// `interface` and `port`; default 0.0.0.0:4433.
    pub listen: SocketAddr,
    /// `cert` and `key`; without them the certificates of the section `tls`.
    pub certificate: Option<Certificate>,
}

/// A listening address for RTMP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rtmp {
    /// `interface` and `port`; default 0.0.0.0:1935.
    pub listen: SocketAddr,
    /// Players are let in: `acceptable` is 0 or 1.
    pub play: bool,
    /// Publishers are let in: `acceptable` is 0 or 2.
    pub publish: bool,
    /// `cert` and `key`: with them this port is for RTMP inside TLS only.
    pub certificate: Option<Certificate>,
}

impl Default for Protocols {
    /// What starts when nothing is said: everything that this version serves.
    fn default() -> Self {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            http: vec![Http {
                listen: SocketAddr::new(any, HTTP_PORT),
                public_addresses: Vec::new(),
                no_stream_text: String::new(),
            }],
            https: Vec::new(),
            rtmp: vec![Rtmp {
                listen: SocketAddr::new(any, RTMP_PORT),
                play: true,
                publish: true,
                certificate: None,
            }],
            flv: true,
            mp4: true,
            ts: true,
            hls: true,
            cmaf: true,
            webrtc: true,
        }
    }
}

impl Protocols {
    /// What one member of `config.protocols` asks for.
    pub fn of_one(protocol: &Value) -> Result<Self, String> {
        let list = Value::Array(vec![protocol.clone()]);
        Self::read(&Node::root(&list), true, &mut Vec::new())
            .map_err(|fault| format!("expected {}", fault.expected))
    }

    /// `stated` is false when the file has no such key, which means the defaults; a `null` or an
    /// empty list means none.
    pub(super) fn read(
        node: &Node<'_>,
        stated: bool,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, Fault> {
        if !stated {
            return Ok(Self::default());
        }
        let mut protocols = Self {
            http: Vec::new(),
            https: Vec::new(),
            rtmp: Vec::new(),
            flv: false,
            mp4: false,
            ts: false,
            hls: false,
            cmaf: false,
            webrtc: false,
        };
        let items = node.items()?;
        if items.is_empty() {
            notices.push(Notice::NoProtocols);
        }
        let mut taken: Vec<SocketAddr> = Vec::new();
        for item in &items {
            item.members()?;
            let name = item.get("connector").text()?;
            let connector = || name.clone();
            match name.as_str() {
                "HTTP" => {
                    let listen = listen(item, HTTP_PORT, &mut taken)?;
                    protocols.http.push(Http {
                        listen,
                        public_addresses: item.get("pubaddr").texts()?,
                        no_stream_text: item.get("nostreamtext").text()?,
                    });
                }
                "HTTPS" => {
                    let listen = listen(item, HTTPS_PORT, &mut taken)?;
                    let certificate = Certificate::read_of_connector(item)?;
                    protocols.https.push(Https {
                        listen,
                        certificate,
                    });
                }
                "RTMP" => {
                    let listen = listen(item, RTMP_PORT, &mut taken)?;
                    let acceptable = item.get("acceptable").number(0_u8..=2, 0)?;
                    protocols.rtmp.push(Rtmp {
                        listen,
                        play: acceptable != 2,
                        publish: acceptable != 1,
                        certificate: Certificate::read_of_connector(item)?,
                    });
                }
                "FLV" => protocols.flv = true,
                "MP4" => protocols.mp4 = true,
                "HTTPTS" => protocols.ts = true,
                "HLS" => protocols.hls = true,
                "CMAF" | "DASH" | "HSS" => protocols.cmaf = true,
                "WebRTC" => protocols.webrtc = true,
                "" => return Err(item.get("connector").fault("the name of a connector")),
                known if NOT_SERVED.contains(&known) => {
                    notices.push(Notice::ConnectorNotServed {
                        connector: connector(),
                    });
                }
                _ => notices.push(Notice::ConnectorUnknown {
                    connector: connector(),
                }),
            }
        }
        // A list that names none of the formats on HTTP was written by hand for this server;
        // one that names some leaves the others out on purpose.
        let names_a_format = [
            protocols.flv,
            protocols.mp4,
            protocols.ts,
            protocols.hls,
            protocols.cmaf,
            protocols.webrtc,
        ]
        .contains(&true);
        let serves_http = !(protocols.http.is_empty() && protocols.https.is_empty());
        if !names_a_format && serves_http {
            protocols.flv = true;
            protocols.mp4 = true;
            protocols.ts = true;
            protocols.hls = true;
            protocols.cmaf = true;
            protocols.webrtc = true;
        }
        if !serves_http {
            let riding = [
                (protocols.flv, "FLV"),
                (protocols.mp4, "MP4"),
                (protocols.ts, "HTTPTS"),
                (protocols.hls, "HLS"),
                (protocols.cmaf, "CMAF"),
                (protocols.webrtc, "WebRTC"),
            ];
            notices.extend(riding.into_iter().filter(|(on, _)| *on).map(|(_, name)| {
                Notice::NeedsHttp {
                    connector: name.to_owned(),
                }
            }));
        }
        Ok(protocols)
    }
}

impl Protocols {
    /// The defaults when there is a certificate: HTTPS is on as well.
    pub(super) fn with_default_https(mut self) -> Self {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        self.https.push(Https {
            listen: SocketAddr::new(any, HTTPS_PORT),
            certificate: None,
        });
        self
    }
}

/// The address to listen on. One address is taken once: listeners share their port among shards
/// (`SO_REUSEPORT`), so the kernel would not object to two protocols on it.
fn listen(
    item: &Node<'_>,
    port_default: u16,
    taken: &mut Vec<SocketAddr>,
) -> Result<SocketAddr, Fault> {
    let port = item.get("port");
    let listen = SocketAddr::new(
        item.get("interface").interface()?,
        port.number(1..=u16::MAX, port_default)?,
    );
    let clash = |other: &SocketAddr| {
        other.port() == listen.port()
            && (other.ip() == listen.ip()
                || other.ip().is_unspecified()
                || listen.ip().is_unspecified())
    };
    if taken.iter().any(clash) {
        return Err(port.fault("a port that no other protocol listens on"));
    }
    taken.push(listen);
    Ok(listen)
}
