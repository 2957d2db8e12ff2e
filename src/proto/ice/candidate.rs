//! Candidates as SDP has them (RFC 8839 section 5.1, RFC 6544 section 4.5).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What packets go by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A connection that the other side opens: `tcptype passive`.
    TcpPassive,
    /// A connection that the owner opens: `tcptype active`.
    TcpActive,
}

/// How a candidate's address is known to its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CandidateKind {
    /// `host`: its own.
    Host,
    /// `srflx`: as a STUN server sees it.
    ServerReflexive,
    /// `prflx`: as a peer sees it.
    PeerReflexive,
    /// `relay`: of a TURN server.
    Relay,
}

/// One address of a side. Its [`Display`](fmt::Display) is what follows `a=`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// 1 to 32 of `ice-char`; alike for candidates of one kind, address and transport.
    pub foundation: String,
    /// 1 with RTCP on the same port; 1 to 256.
    pub component: u16,
    /// What packets go by.
    pub transport: Transport,
    /// The larger the better.
    pub priority: u32,
    /// Where.
    pub address: SocketAddr,
    /// Of which kind.
    pub kind: CandidateKind,
}

impl Candidate {
    /// The candidates of a server that is reached at `addresses`, the preferred one first: all of UDP,
    /// then all of TCP where `tcp_port` is set.
    ///
    /// Priorities are those of RFC 8445 section 5.1.2.1, with 126 for a host by UDP and 90 by TCP,
    /// and the local preference of RFC 6544 section 4.2 for TCP.
    pub fn hosts(addresses: &[IpAddr], udp_port: u16, tcp_port: Option<u16>) -> Vec<Self> {
        const UDP: (u32, u32) = (126, u16::MAX as u32);
        /// A passive side's direction preference is 4; it has the three bits above.
        const TCP: (u32, u32) = (90, (4 << 13) | 0x1FFF);
        let udp = addresses.iter().zip(0..).map(|(address, index)| {
            let address = SocketAddr::new(*address, udp_port);
            Self::host(Transport::Udp, address, UDP, index)
        });
        let tcp = addresses.iter().zip(0..).filter_map(|(address, index)| {
            let address = SocketAddr::new(*address, tcp_port?);
            Some(Self::host(Transport::TcpPassive, address, TCP, index))
        });
        udp.chain(tcp).collect()
    }

    fn host(
        transport: Transport,
        address: SocketAddr,
        (kind_preference, local_preference): (u32, u32),
        index: u32,
    ) -> Self {
        const COMPONENT: u16 = 1;
        let local_preference = local_preference.saturating_sub(index);
        let foundation = match transport {
            Transport::Udp => format!("udp{}", index + 1),
            Transport::TcpPassive | Transport::TcpActive => format!("tcp{}", index + 1),
        };
        Self {
            foundation,
            component: COMPONENT,
            transport,
            priority: (kind_preference << 24)
                | (local_preference << 8)
                | (256 - u32::from(COMPONENT)),
            address,
            kind: CandidateKind::Host,
        }
    }

    /// Reads a peer's candidate, with or without `a=` and `candidate:` before it. None if it is of no
    /// use here: malformed, of another transport, or with a name instead of an address, as browsers
    /// write `.local` names to hide their own.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("a=").unwrap_or(text);
        let text = text.strip_prefix("candidate:").unwrap_or(text);
        let mut words = text.split_ascii_whitespace();
        let foundation = words.next().filter(|word| word.len() <= 32)?;
        let component = words.next()?.parse().ok()?;
        let transport = words.next()?;
        let priority = words.next()?.parse().ok()?;
        let ip: IpAddr = words.next()?.parse().ok()?;
        let port: u16 = words.next()?.parse().ok()?;
        words.next().filter(|word| *word == "typ")?;
        let kind = match words.next()? {
            "host" => CandidateKind::Host,
            "srflx" => CandidateKind::ServerReflexive,
            "prflx" => CandidateKind::PeerReflexive,
            "relay" => CandidateKind::Relay,
            _ => return None,
        };
        // The rest are pairs of a name and a value.
        let mut tcp_type = None;
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            if name.eq_ignore_ascii_case("tcptype") {
                tcp_type = Some(value);
            }
        }
        let transport = if transport.eq_ignore_ascii_case("udp") {
            Transport::Udp
        } else if transport.eq_ignore_ascii_case("tcp") {
            match tcp_type? {
                "passive" => Transport::TcpPassive,
                "active" => Transport::TcpActive,
                _ => return None,
            }
        } else {
            return None;
        };
        Some(Self {
            foundation: foundation.to_owned(),
            component,
            transport,
            priority,
            address: SocketAddr::new(ip, port),
            kind,
        })
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, tcp_type) = match self.transport {
            Transport::Udp => ("udp", ""),
            Transport::TcpPassive => ("tcp", " tcptype passive"),
            Transport::TcpActive => ("tcp", " tcptype active"),
        };
        let kind = match self.kind {
            CandidateKind::Host => "host",
            CandidateKind::ServerReflexive => "srflx",
            CandidateKind::PeerReflexive => "prflx",
            CandidateKind::Relay => "relay",
        };
        write!(
            f,
            "candidate:{} {} {transport} {} {} {} typ {kind}{tcp_type}",
            self.foundation,
            self.component,
            self.priority,
            self.address.ip(),
            self.address.port(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> [IpAddr; 2] {
        ["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()]
    }

    #[test]
    fn a_server_has_its_addresses_in_order_and_udp_first() {
        let lines: Vec<_> = Candidate::hosts(&addresses(), 18_203, Some(18_204))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            lines,
            [
                "candidate:udp1 1 udp 2130706431 2001:db8::1 18203 typ host",
                "candidate:udp2 1 udp 2130706175 192.0.2.1 18203 typ host",
                "candidate:tcp1 1 tcp 1520435199 2001:db8::1 18204 typ host tcptype passive",
                "candidate:tcp2 1 tcp 1520434943 192.0.2.1 18204 typ host tcptype passive",
            ]
        );
        assert_eq!(Candidate::hosts(&addresses(), 1, None).len(), 2);
    }

    #[test]
    fn priorities_fall() {
        let candidates = Candidate::hosts(&addresses(), 1, Some(1));
        assert!(candidates.is_sorted_by(|a, b| a.priority > b.priority));
    }

    #[test]
    fn what_is_written_is_read() {
        for candidate in Candidate::hosts(&addresses(), 18_203, Some(18_204)) {
            assert_eq!(Candidate::parse(&candidate.to_string()), Some(candidate));
        }
    }

    #[test]
    fn candidates_of_browsers_are_read() {
        let chromium = "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr \
            0.0.0.0 rport 0 generation 0 ufrag bxDK network-cost 999";
        let candidate = Candidate::parse(chromium).unwrap();
        assert_eq!(candidate.kind, CandidateKind::ServerReflexive);
        assert_eq!(candidate.address, "203.0.113.7:46154".parse().unwrap());
        let firefox = "a=candidate:2 1 TCP 2105524479 192.168.1.2 9 typ host tcptype active";
        let candidate = Candidate::parse(firefox).unwrap();
        assert_eq!(candidate.transport, Transport::TcpActive);
    }

    #[test]
    fn what_is_of_no_use_is_left_out() {
        for text in [
            "",
            "candidate:",
            "candidate:1 1 udp 1 2c8b1d9a-3f6e-4a9e-9f1b-0a9d5f7a2b11.local 5000 typ host",
            "candidate:1 1 udp 1 192.0.2.1 70000 typ host",
            "candidate:1 1 udp 1 192.0.2.1 5000 host",
            "candidate:1 1 udp 1 192.0.2.1 5000 typ other",
            "candidate:1 1 tcp 1 192.0.2.1 5000 typ host",
            "candidate:1 1 sctp 1 192.0.2.1 5000 typ host",
            "candidate:1 1 udp 99999999999 192.0.2.1 5000 typ host",
        ] {
            assert_eq!(Candidate::parse(text), None, "{text}");
        }
    }
}
