//! Who a request comes from, when proxies stand between.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::request::Request;

/// Hops of one request that are looked at. More than a few is nobody's network.
const HOPS_MAX: usize = 16;

/// The address of the client that `request` comes from, over a connection from `peer`.
///
/// Each proxy adds the address it was connected from at the end of `X-Forwarded-For`, so the list is
/// read from there, and only as long as the one who wrote an entry is trusted: what an untrusted
/// client wrote before the first trusted proxy stands to the left of its own address and is never
/// reached. Without that field `Forwarded` (RFC 7239) is read the same way, then `X-Real-IP`, which
/// has no list. An entry that is no address ends the search at the hop that wrote it.
pub fn client_address(peer: IpAddr, trusted: &[IpNet], request: &Request) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let mut hops: Vec<Option<IpAddr>> = list(request, "x-forwarded-for", address);
    if hops.is_empty() {
        hops = list(request, "forwarded", forwarded_for);
    }
    if hops.is_empty() {
        hops = list(request, "x-real-ip", address);
    }
    for hop in hops.into_iter().rev().take(HOPS_MAX) {
        match hop {
            Some(hop) => client = hop,
            None => break,
        }
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// True if somebody says that the request was passed on. Whoever relies on a caller being of this
/// machine must not take such a one for it.
pub fn is_forwarded(request: &Request) -> bool {
    // Also one whose value is no text: a proxy adds the address to whatever a client wrote.
    request.headers().any(|(field, _)| {
        ["x-forwarded-for", "x-real-ip", "forwarded", "via"]
            .iter()
            .any(|name| field.eq_ignore_ascii_case(name))
    })
}

/// The entries of all fields of this name in their order; fields of one name are one list (RFC 9110
/// section 5.3).
fn list(
    request: &Request,
    name: &str,
    read: impl Fn(&str) -> Option<IpAddr>,
) -> Vec<Option<IpAddr>> {
    request
        .headers()
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
        // What a client wrote may be no text, and stands in one field with what proxies added.
        .map(|entry| read(str::from_utf8(entry).ok()?))
        .collect()
}

/// `for=` of an element of `Forwarded`: `for=192.0.2.7`, `for="[2001:db8::7]:443";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let is_for = name.trim().eq_ignore_ascii_case("for");
        is_for.then(|| address(value.trim().trim_matches('"')))?
    })
}

/// An address, with or without brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse()
        .ok()
        .or_else(bare)
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, fields: &[&str]) -> String {
        client_of(peer, fields.join("\r\n").as_bytes())
    }

    fn client_of(peer: &str, fields: &[u8]) -> String {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "127.0.0.1/32", "2001:db8::/64"]
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        let end = if fields.is_empty() {
            &b"\r\n"[..]
        } else {
            b"\r\n\r\n"
        };
        let head = [&b"GET / HTTP/1.1\r\nHost: a\r\n"[..], fields, end].concat();
        let (request, _) = Request::parse(head.into(), 32).unwrap();
        client_address(peer.parse().unwrap(), &trusted, &request).to_string()
    }

    #[test]
    fn nobody_speaks_for_another_without_trust() {
        for field in [
            "X-Forwarded-For: 192.0.2.1",
            "X-Real-IP: 192.0.2.1",
            "Forwarded: for=192.0.2.1",
        ] {
            assert_eq!(client("203.0.113.9", &[field]), "203.0.113.9", "{field}");
        }
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn a_trusted_proxy_is_believed() {
        for field in [
            "X-Forwarded-For: 192.0.2.1",
            "X-Forwarded-For: 192.0.2.1:5000",
            "X-Real-IP: 192.0.2.1",
            "Forwarded: for=192.0.2.1",
            "Forwarded: proto=https;For=\"192.0.2.1:80\";by=10.0.0.1",
            "X-Forwarded-For: ::ffff:192.0.2.1",
        ] {
            assert_eq!(client("127.0.0.1", &[field]), "192.0.2.1", "{field}");
            assert_eq!(client("::ffff:127.0.0.1", &[field]), "192.0.2.1", "{field}");
        }
        let v6 = ["Forwarded: for=\"[2001:db9::7]:443\""];
        assert_eq!(client("2001:db8::1", &v6), "2001:db9::7");
        let v6 = ["X-Forwarded-For: [2001:db9::7]"];
        assert_eq!(client("2001:db8::1", &v6), "2001:db9::7");
    }

    /// The client wrote 1.1.1.1 itself; its own address was added by the first proxy.
    #[test]
    fn what_the_client_claims_is_not_reached() {
        for fields in [
            &["X-Forwarded-For: 1.1.1.1, 203.0.113.9"][..],
            &["X-Forwarded-For: 10.0.0.7, 203.0.113.9"],
            &["X-Forwarded-For: 1.1.1.1, 203.0.113.9, 10.0.0.5"],
            &["X-Forwarded-For: 127.0.0.1, 203.0.113.9, 10.0.0.5 ,10.0.0.6"],
            &[
                "X-Forwarded-For: 1.1.1.1",
                "X-Forwarded-For: 203.0.113.9, 10.0.0.5",
            ],
            &[
                "X-Forwarded-For: 203.0.113.9",
                "Forwarded: for=1.1.1.1",
                "X-Real-IP: 1.1.1.1",
            ],
            &["Forwarded: for=1.1.1.1, for=203.0.113.9;proto=http, for=10.0.0.5"],
        ] {
            assert_eq!(client("10.0.0.1", fields), "203.0.113.9", "{fields:?}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        for fields in [
            &["X-Forwarded-For: 1.1.1.1, unknown, 10.0.0.5"][..],
            &["Forwarded: for=1.1.1.1, for=_hidden, for=10.0.0.5"],
            &["Forwarded: for=1.1.1.1, proto=https, for=10.0.0.5"],
        ] {
            assert_eq!(client("10.0.0.1", fields), "10.0.0.5", "{fields:?}");
        }
        // A byte that is no text does not hide the field and open the way to another one.
        let fields = [
            &b"X-Forwarded-For: \xff, 203.0.113.9"[..],
            b"Forwarded: for=1.1.1.1",
        ];
        assert_eq!(
            client_of("10.0.0.1", &fields.join(&b"\r\n"[..])),
            "203.0.113.9"
        );
        let long = format!("X-Forwarded-For: 1.1.1.1{}", ", 10.0.0.2".repeat(17));
        assert_eq!(client("10.0.0.1", &[&long]), "10.0.0.2");
        assert_eq!(
            client("10.0.0.1", &["X-Forwarded-For: 10.0.0.9"]),
            "10.0.0.9"
        );
    }
}
