//! Who calls: a program of this machine, one that speaks for somebody else, or a web page.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::proto::http::{Request, client_address, is_forwarded};

/// Where a request comes from, as far as that can be known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The peer's address, or the one that a trusted proxy names.
    pub address: IpAddr,
    /// A caller of this machine that speaks for itself, and no page of another site.
    pub is_local: bool,
    /// The request passed a proxy: others may share its connection.
    pub is_proxied: bool,
    /// What was said on the way here cannot be overheard.
    pub is_private: bool,
    /// The site of the page that calls, if it is one.
    pub origin: Option<String>,
    /// A browser says that a page of another site made it call.
    pub is_cross_site: bool,
}

impl Caller {
    /// The caller behind `request`, which came from `peer` to `own`, an address of this machine.
    pub fn of(request: &Request, peer: IpAddr, own: Option<IpAddr>, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let is_proxied = is_forwarded(request);
        // A connection to another address of the same machine comes from that very address.
        let is_here = peer.is_loopback() || own.is_some_and(|own| own.to_canonical() == peer);
        let origin = request.header("origin").map(str::to_owned);
        // Images and scripts of a page are asked for without an Origin.
        let is_cross_site = request
            .header("sec-fetch-site")
            .is_some_and(|site| !matches!(site, "same-origin" | "none"));
        let is_foreign = is_cross_site
            || [origin.as_deref(), request.header("referer")]
                .into_iter()
                .flatten()
                .any(|url| !is_of_site(url, request.host()));
        Self {
            address: client_address(peer, trusted, request),
            is_local: is_here && !is_proxied && !is_foreign && names_this_machine(request.host()),
            is_proxied,
            is_private: is_here,
            origin,
            is_cross_site,
        }
    }
}

/// Whether a page is of the site that was called. A page of another site may have an address for
/// its name as well, so that the names this machine goes by say nothing here.
fn is_of_site(url: &str, host: &str) -> bool {
    url.split_once("://").is_some_and(|(_, rest)| {
        let site = rest.split('/').next().unwrap_or("");
        !site.is_empty() && site.eq_ignore_ascii_case(host)
    })
}

/// Whether a Host field is one that a caller of this machine would use. A page of another site whose
/// name was made to lead here (DNS rebinding) has that site's name in it.
pub fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use crate::streams::api::tests::request;

    use super::*;

    fn caller(peer: &str, fields: &str) -> Caller {
        let request = request(&format!("GET /api HTTP/1.1\r\n{fields}\r\n"));
        let own = "192.0.2.1".parse().ok();
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        Caller::of(&request, peer.parse().unwrap(), own, &trusted)
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in [
            "",
            "localhost",
            "LOCALHOST:4242",
            "127.0.0.1:4242",
            "[::1]:4242",
        ] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:4242",
            "localhost.evil.example",
        ] {
            assert!(!names_this_machine(host), "{host}");
        }
    }

    #[test]
    fn this_machine_is_loopback_or_the_address_that_was_called() {
        let host = "Host: 127.0.0.1:4242\r\n";
        for (peer, is_local) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("10.1.1.1", false),
        ] {
            assert_eq!(caller(peer, host).is_local, is_local, "{peer}");
        }
    }

    #[test]
    fn nobody_is_local_through_a_proxy_or_a_page_of_another_site() {
        for (fields, is_local) in [
            (
                "Host: localhost:4242\r\nOrigin: http://localhost:4242\r\n",
                true,
            ),
            (
                "Host: localhost:4242\r\nOrigin: http://localhost:3000\r\n",
                false,
            ),
            (
                "Host: 127.0.0.1:4242\r\nOrigin: http://203.0.113.9:4242\r\n",
                false,
            ),
            (
                "Host: 127.0.0.1:4242\r\nReferer: http://203.0.113.9/x\r\n",
                false,
            ),
            ("Host: localhost\r\nSec-Fetch-Site: same-origin\r\n", true),
            ("Host: evil.example\r\n", false),
            ("Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n", false),
            ("Host: localhost\r\nX-Real-IP: 127.0.0.1\r\n", false),
            // What a client wrote stands before what the proxy adds.
            (
                "Host: localhost\r\nX-Forwarded-For: \u{ff}, 127.0.0.1\r\n",
                false,
            ),
            ("Host: localhost\r\nForwarded: for=1\r\n", false),
            ("Host: localhost\r\nVia: 1.1 x\r\n", false),
            ("Host: localhost\r\nOrigin: https://evil.example\r\n", false),
            ("Host: localhost\r\nOrigin: null\r\n", false),
            (
                "Host: localhost\r\nReferer: https://evil.example/x\r\n",
                false,
            ),
            ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", false),
        ] {
            assert_eq!(caller("127.0.0.1", fields).is_local, is_local, "{fields}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let fields = "Host: a\r\nX-Forwarded-For: 1.1.1.1, 203.0.113.7, 10.9.9.9\r\n";
        let address = |peer| caller(peer, fields).address.to_string();
        assert_eq!(address("10.0.0.1"), "203.0.113.7");
        assert_eq!(address("198.51.100.1"), "198.51.100.1");
    }
}
