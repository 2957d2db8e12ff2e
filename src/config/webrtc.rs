//! The section `webrtc`: where media goes, and what peers are told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::node::{Fault, Node};
use super::notice::Notice;
use super::secret::Secret;
use super::sections::Certificate;
use crate::proto::dtls::{SrtpOrder, SrtpProfile};

/// Addresses that peers are told at most. A browser checks each of its own with each of these, by UDP
/// and TCP, and a machine with containers has a bridge for each network.
const ANNOUNCED_MAX: usize = 16;
const PORT: u16 = 18_203;

/// `webrtc`: where media goes, and what peers are told. Each may be left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebRtc {
    /// `interface`; default 0.0.0.0. `::` is for IPv6 and IPv4.
    pub interface: IpAddr,
    /// `port`, or `port_min` and `port_max`; default one port, 18203. The same for UDP and TCP.
    pub ports: MediaPorts,
    /// `announced`: addresses that peers are told, instead of the machine's own; the preferred one
    /// first. At most 16.
    pub announced: Vec<IpAddr>,
    /// `tcp`: peers may come by TCP too. Default true.
    pub tcp: bool,
    /// `ice_servers`: STUN and TURN servers that clients are told.
    pub ice_servers: Vec<IceServer>,
    /// `certificate` and `key`: PEM files for DTLS. Without them a certificate is made at start.
    pub certificate: Option<Certificate>,
    /// `srtp`: how media is protected where a client has the choice. `gcm`, the default: AES-GCM, even
    /// if DTLS 1.2 has to be spoken for it; `client`: the client's first choice, and DTLS 1.3 with
    /// whoever has it.
    pub srtp: SrtpOrder,
    /// `sessions_max`: sessions at once; 1 to 1 000 000, default 20 000. One costs some 60 kB.
    pub sessions_max: u32,
    /// `half_open_max`: sessions of one shard that nobody has come for or whose handshake is not
    /// complete; 1 to 1 000 000, default 5000. Each is kept for 30 s at most, and then 15 s more.
    pub half_open_max: u32,
    /// `offer_bytes_max`: the largest offer that is read. Bytes, 1024 to 1 048 576, default 65 536:
    /// browsers send 5 to 10 kB for audio and video.
    pub offer_bytes_max: u32,
}

/// The ports of media.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediaPorts {
    /// `port`: one for all shards.
    Shared(u16),
    /// `port_min` and `port_max`: one for each shard, while there are enough.
    PerShard {
        /// The first.
        min: u16,
        /// The last; not below the first.
        max: u16,
    },
}

impl MediaPorts {
    /// The port of a shard, where shards count from 0. Where there are more shards than ports, some
    /// have the same.
    pub fn of_shard(self, shard: usize) -> u16 {
        match self {
            Self::Shared(port) => port,
            Self::PerShard { min, max } => {
                let count = usize::from(max - min) + 1;
                // Below `count`, which is at most 65 536.
                min + (shard % count) as u16
            }
        }
    }

    /// True if two of `shards` have one port, and the kernel spreads peers over them.
    pub fn is_shared(self, shards: usize) -> bool {
        match self {
            Self::Shared(_) => shards > 1,
            Self::PerShard { min, max } => shards > usize::from(max - min) + 1,
        }
    }

    /// The ports that so many shards use, each once.
    pub fn used_by(self, shards: usize) -> impl Iterator<Item = u16> {
        let (min, max) = match self {
            Self::Shared(port) => (port, port),
            Self::PerShard { min, max } => (min, max),
        };
        (min..=max).take(shards)
    }
}

/// One of `webrtc.ice_servers`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IceServer {
    /// `urls`: one or more of `stun:`, `stuns:`, `turn:` and `turns:` (RFC 7064, RFC 7065).
    pub urls: Vec<String>,
    /// `username`; may be empty.
    pub username: String,
    /// `credential`: every client is told it.
    pub credential: Secret,
}

impl WebRtc {
    pub(super) fn read(node: &Node<'_>, notices: &mut Vec<Notice>) -> Result<Self, Fault> {
        node.members()?;
        let webrtc = Self {
            interface: node.get("interface").interface()?,
            ports: read_ports(node)?,
            announced: read_announced(&node.get("announced"))?,
            tcp: node.get("tcp").flag(true)?,
            ice_servers: node
                .get("ice_servers")
                .items()?
                .iter()
                .map(IceServer::read)
                .collect::<Result<_, _>>()?,
            certificate: read_certificate(node)?,
            srtp: read_srtp(&node.get("srtp"))?,
            sessions_max: node.get("sessions_max").number(1..=1_000_000, 20_000)?,
            half_open_max: node.get("half_open_max").number(1..=1_000_000, 5000)?,
            offer_bytes_max: node
                .get("offer_bytes_max")
                .number(1024..=1_048_576, 65_536)?,
        };
        notices.extend(webrtc.notices());
        Ok(webrtc)
    }

    fn notices(&self) -> impl Iterator<Item = Notice> {
        // Behind a NAT of its own an IPv4 address may be announced on any socket; IPv6 needs a socket
        // of IPv6.
        self.announced
            .iter()
            .filter(|address| address.is_ipv6() && self.interface.is_ipv4())
            .map(|address| Notice::AnnouncedUnreachable { address: *address })
    }

    /// Where a shard listens, by UDP and, with `tcp`, by TCP.
    pub fn listen(&self, shard: usize) -> SocketAddr {
        SocketAddr::new(self.interface, self.ports.of_shard(shard))
    }

    /// What peers are told: `announced`, or what of the machine's addresses `local` they can reach.
    /// Never empty: where there is nothing else, the loopback address.
    pub fn announce(&self, local: &[IpAddr]) -> Vec<IpAddr> {
        if !self.announced.is_empty() {
            return self.announced.clone();
        }
        if !self.interface.is_unspecified() {
            return vec![self.interface];
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in local {
            let is_served = address.is_ipv4() || self.interface.is_ipv6();
            if is_served && !address.is_loopback() && !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        addresses.truncate(ANNOUNCED_MAX);
        if addresses.is_empty() {
            addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        addresses
    }
}

fn read_ports(node: &Node<'_>) -> Result<MediaPorts, Fault> {
    let (first, last) = (node.get("port_min"), node.get("port_max"));
    let port = node.get("port").number(1..=u16::MAX, PORT)?;
    match (first.is_absent(), last.is_absent()) {
        (true, true) => Ok(MediaPorts::Shared(port)),
        (false, true) => Err(last.fault("the last port beside port_min")),
        (true, false) => Err(first.fault("the first port beside port_max")),
        (false, false) => {
            let min = first.number(1..=u16::MAX, PORT)?;
            let max = last.number(min..=u16::MAX, min)?;
            Ok(MediaPorts::PerShard { min, max })
        }
    }
}

fn read_announced(node: &Node<'_>) -> Result<Vec<IpAddr>, Fault> {
    let items = node.items()?;
    if items.len() > ANNOUNCED_MAX {
        return Err(node.fault(format!("at most {ANNOUNCED_MAX} addresses")));
    }
    items
        .iter()
        .map(|item| announced(&item.text()?).map_err(|expected| item.fault(expected)))
        .collect()
}

/// An address that peers can be told.
pub(super) fn announced(text: &str) -> Result<IpAddr, &'static str> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() || address.is_multicast() => {
            Err("an address that peers can send to")
        }
        Ok(address) => Ok(address.to_canonical()),
        Err(_) => Err("an IP address such as \"192.0.2.1\" (host names are not resolved)"),
    }
}

fn read_certificate(node: &Node<'_>) -> Result<Option<Certificate>, Fault> {
    let (cert, key) = (node.get("certificate"), node.get("key"));
    let cert_file = cert.text()?;
    let key_file = key.text()?;
    match (cert_file.is_empty(), key_file.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(Certificate {
            cert: vec![cert_file],
            key: key_file,
        })),
        (true, false) => Err(cert.fault("the name of a PEM file beside key")),
        (false, true) => Err(key.fault("the name of a PEM file beside certificate")),
    }
}

fn read_srtp(node: &Node<'_>) -> Result<SrtpOrder, Fault> {
    match node.text()?.as_str() {
        "" | "gcm" => Ok(SrtpOrder::GcmFirst),
        "client" => Ok(SrtpOrder::ClientOrder),
        name => SrtpProfile::from_name(name)
            .map(SrtpOrder::Only)
            .ok_or_else(|| {
                node.fault("\"gcm\", \"client\" or a profile such as \"AEAD_AES_128_GCM\"")
            }),
    }
}

impl IceServer {
    fn read(node: &Node<'_>) -> Result<Self, Fault> {
        node.members()?;
        let urls = node.get("urls");
        let items = urls.items()?;
        if items.is_empty() {
            return Err(urls.fault("one or more of \"stun:HOST:PORT\" and \"turn:HOST:PORT\""));
        }
        let username = node.get("username");
        let credential = node.get("credential");
        // They go into a field of a response's head.
        if username.text()?.contains(char::is_control) {
            return Err(username.fault("a text without control characters"));
        }
        if credential.text()?.contains(char::is_control) {
            return Err(credential.fault("a text without control characters"));
        }
        Ok(Self {
            urls: items
                .iter()
                .map(|item| {
                    let url = item.text()?;
                    match is_ice_url(&url) {
                        true => Ok(url),
                        false => Err(item.fault(
                            "a URL such as \"stun:HOST:PORT\" or \"turn:HOST:PORT?transport=udp\"",
                        )),
                    }
                })
                .collect::<Result<_, _>>()?,
            username: username.text()?,
            credential: credential.secret()?,
        })
    }
}

fn is_ice_url(url: &str) -> bool {
    let schemes = ["stun:", "stuns:", "turn:", "turns:"];
    let is_plain = |c: u8| c.is_ascii_graphic() && !b"<>\"\\,;".contains(&c);
    schemes
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_plain))
}

#[cfg(test)]
mod tests {
    use crate::config::{Loaded, parse};

    use super::*;

    fn read(section: &str) -> Loaded {
        parse(&format!(r#"{{"webrtc":{section}}}"#), "c").unwrap()
    }

    fn error(section: &str) -> String {
        let text = format!(r#"{{"webrtc":{section}}}"#);
        parse(&text, "c").unwrap_err().to_string()
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn everything_may_be_left_out() {
        let webrtc = parse("{}", "c").unwrap().config.webrtc;
        assert_eq!(webrtc.listen(0), "0.0.0.0:18203".parse().unwrap());
        assert_eq!(webrtc.listen(3), webrtc.listen(0));
        assert!(webrtc.tcp && webrtc.announced.is_empty() && webrtc.ice_servers.is_empty());
        assert_eq!(webrtc.certificate, None);
        assert_eq!(webrtc.srtp, SrtpOrder::GcmFirst);
        assert_eq!((webrtc.sessions_max, webrtc.half_open_max), (20_000, 5000));
        assert_eq!(webrtc.offer_bytes_max, 65_536);
    }

    #[test]
    fn everything_may_be_stated() {
        let Loaded { config, notices } = read(
            r#"{"interface":"::","port":20000,"announced":["192.0.2.1","2001:db8::1"],"tcp":false,
                "ice_servers":[{"urls":"stun:stun.example.com"},
                  {"urls":["turn:turn.example.com?transport=udp","turns:turn.example.com:443"],
                   "username":"user","credential":"secret"}],
                "certificate":"c.pem","key":"k.pem","srtp":"client","sessions_max":7,"half_open_max":8,
                "offer_bytes_max":4096}"#,
        );
        let webrtc = config.webrtc;
        assert_eq!(webrtc.listen(1), "[::]:20000".parse().unwrap());
        assert_eq!(webrtc.announced, addresses(&["192.0.2.1", "2001:db8::1"]));
        assert!(!webrtc.tcp);
        assert_eq!(webrtc.ice_servers[0].urls, ["stun:stun.example.com"]);
        assert_eq!(webrtc.ice_servers[1].urls.len(), 2);
        assert!(webrtc.ice_servers[1].credential.matches("secret"));
        assert_eq!(webrtc.certificate.unwrap().key, "k.pem");
        assert_eq!(webrtc.srtp, SrtpOrder::ClientOrder);
        for profile in SrtpProfile::ALL {
            let text = format!(r#"{{"srtp":"{}"}}"#, profile.name());
            let srtp = read(&text).config.webrtc.srtp;
            assert_eq!(srtp, SrtpOrder::Only(profile));
        }
        assert_eq!((webrtc.sessions_max, webrtc.half_open_max), (7, 8));
        assert!(
            !notices
                .iter()
                .any(|notice| matches!(notice, Notice::AnnouncedUnreachable { .. }))
        );
    }

    #[test]
    fn a_range_gives_each_shard_its_port() {
        let ports = read(r#"{"port_min":20000,"port_max":20002}"#)
            .config
            .webrtc
            .ports;
        let of_shards: Vec<_> = (0..4).map(|shard| ports.of_shard(shard)).collect();
        assert_eq!(of_shards, [20_000, 20_001, 20_002, 20_000]);
        assert!(ports.is_shared(4) && !ports.is_shared(3));
        assert_eq!(ports.used_by(2).collect::<Vec<_>>(), [20_000, 20_001]);
        assert_eq!(ports.used_by(9).count(), 3);
        let all = MediaPorts::PerShard {
            min: 1,
            max: 65_535,
        };
        assert_eq!(all.of_shard(65_534), 65_535);
        assert_eq!(MediaPorts::Shared(5).used_by(4).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn mistakes_are_named() {
        for (section, expected) in [
            (
                r#"{"announced":["media.example.com"]}"#,
                "webrtc.announced[0]: expected an IP address such as \"192.0.2.1\" (host names are \
                 not resolved), found a text",
            ),
            (r#"{"announced":["0.0.0.0"]}"#, "that peers can send to"),
            (r#"{"port":0}"#, "webrtc.port: expected a whole number"),
            (
                r#"{"port_min":5}"#,
                "webrtc.port_max: expected the last port",
            ),
            (
                r#"{"port_max":5}"#,
                "webrtc.port_min: expected the first port",
            ),
            (
                r#"{"port_min":9,"port_max":8}"#,
                "webrtc.port_max: expected a whole number from 9",
            ),
            (r#"{"certificate":"c.pem"}"#, "webrtc.key: expected"),
            (r#"{"key":"k.pem"}"#, "webrtc.certificate: expected"),
            (
                r#"{"srtp":"sha1"}"#,
                "webrtc.srtp: expected \"gcm\", \"client\" or a profile such as \"AEAD_AES_128_GCM\"",
            ),
            (r#"{"tcp":"perhaps"}"#, "webrtc.tcp: expected true or false"),
            (
                r#"{"ice_servers":[{}]}"#,
                "webrtc.ice_servers[0].urls: expected",
            ),
            (
                r#"{"ice_servers":[{"urls":["https://example.com"]}]}"#,
                "webrtc.ice_servers[0].urls[0]: expected a URL",
            ),
            (
                r#"{"ice_servers":[{"urls":["stun:a>; rel=x"]}]}"#,
                "expected a URL",
            ),
            (
                "{\"ice_servers\":[{\"urls\":\"turn:a\",\"credential\":\"a\\r\\nb\"}]}",
                "credential: expected a text without",
            ),
            (r#"{"offer_bytes_max":2000000}"#, "to 1048576"),
            (r#"[1]"#, "webrtc: expected an object"),
        ] {
            let error = error(section);
            assert!(error.contains(expected), "{section}: {error}");
        }
        let many = vec!["\"192.0.2.1\""; ANNOUNCED_MAX + 1].join(",");
        assert!(error(&format!(r#"{{"announced":[{many}]}}"#)).contains("at most 16"));
    }

    #[test]
    fn an_address_of_a_family_that_is_not_served_is_noticed() {
        let notices = read(r#"{"announced":["2001:db8::1"]}"#).notices;
        let notice = Notice::AnnouncedUnreachable {
            address: "2001:db8::1".parse().unwrap(),
        };
        assert!(notices.contains(&notice));
        assert!(notice.to_string().contains("webrtc.interface to \"::\""));
    }

    #[test]
    fn the_machines_addresses_are_announced_by_default() {
        let local = addresses(&["127.0.0.1", "192.0.2.1", "192.0.2.1", "::1", "2001:db8::1"]);
        let announce =
            |section: &str, local: &[IpAddr]| read(section).config.webrtc.announce(local);
        assert_eq!(announce("{}", &local), addresses(&["192.0.2.1"]));
        assert_eq!(
            announce(r#"{"interface":"::"}"#, &local),
            addresses(&["192.0.2.1", "2001:db8::1"])
        );
        assert_eq!(announce("{}", &local[..1]), addresses(&["127.0.0.1"]));
        assert_eq!(announce("{}", &[]), addresses(&["127.0.0.1"]));
        assert_eq!(
            announce(r#"{"interface":"127.0.0.1"}"#, &local),
            addresses(&["127.0.0.1"])
        );
        assert_eq!(
            announce(r#"{"announced":["203.0.113.1"]}"#, &local),
            addresses(&["203.0.113.1"])
        );
    }
}
