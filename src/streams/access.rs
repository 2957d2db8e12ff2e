//! Who may publish.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use super::name::StreamName;
use crate::config::{Config, Secret};

/// Why a push is not let in. Says nothing of what would have been right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Denied {
    /// The name is no stream name.
    #[error("not a stream name")]
    BadName,
    /// No such stream is configured.
    #[error("the stream is not configured")]
    UnknownStream,
    /// The stream gets its media elsewhere.
    #[error("the stream does not take a push")]
    NotAPushSource,
    /// The stream needs a password and this is not it.
    #[error("wrong password")]
    WrongPassword,
    /// The publisher's address is not one the stream takes a push from.
    #[error("the address is not allowed")]
    AddressNotAllowed,
}

/// What a publisher asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishRequest<'a> {
    /// The stream's name, or a stream key, as it was sent.
    pub name: Cow<'a, str>,
    /// Passwords that were given; one that is right is enough.
    pub passwords: Vec<Cow<'a, str>>,
    /// The publisher's address.
    pub peer: IpAddr,
}

impl fmt::Debug for PublishRequest<'_> {
    /// The name may be a key, so neither it nor the passwords are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishRequest")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl<'a> PublishRequest<'a> {
    /// From the application and the stream of an RTMP URL: `rtmp://HOST/PASSWORD/STREAM`, where
    /// the application is the password if the stream has one and anything otherwise, or
    /// `?pass=PASSWORD` behind either.
    pub fn rtmp(app: &'a str, stream: &'a str, peer: IpAddr) -> Self {
        let (app, app_query) = app.split_once('?').unwrap_or((app, ""));
        let query = stream.split_once('?').map_or("", |(_, query)| query);
        let mut passwords = vec![decoded(app.trim_matches('/'))];
        passwords.extend([query, app_query].into_iter().filter_map(pass_parameter));
        Self {
            name: rtmp_name(stream),
            passwords,
            peer,
        }
    }
}

/// The stream's name in the stream part of an RTMP URL, without its query. FMLE, VLC and mpv put
/// `mp4:` or `flv:` before it.
pub fn rtmp_name(stream: &str) -> Cow<'_, str> {
    let name = stream.split('?').next().unwrap_or("").trim_matches('/');
    decoded(match name.split_once(':') {
        Some(("mp4" | "flv" | "f4v", rest)) => rest,
        Some(_) | None => name,
    })
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

fn pass_parameter(query: &str) -> Option<Cow<'_, str>> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("pass="))
        .map(decoded)
}

/// Which stream a push lands in, or why in none.
pub fn may_publish(config: &Config, request: &PublishRequest<'_>) -> Result<StreamName, Denied> {
    let mapped = stream_of_key(config, &request.name);
    let name = StreamName::parse(mapped.unwrap_or(&request.name)).map_err(|_| Denied::BadName)?;
    let stream = name.settings(config).ok_or(Denied::UnknownStream)?;
    let source = stream.source.push().ok_or(Denied::NotAPushSource)?;
    // Who knows a key needs neither password nor address.
    if mapped.is_none() {
        PushSource::parse(source).admit(&request.passwords, request.peer)?;
    }
    Ok(name)
}

/// The stream that the key `name` stands for. All keys are compared, so that the time taken does
/// not depend on which one is right.
fn stream_of_key<'a>(config: &'a Config, name: &str) -> Option<&'a str> {
    config
        .stream_keys
        .iter()
        .fold(None, |found, (key, stream)| match key.matches(name) {
            true => Some(stream.as_str()),
            false => found,
        })
}

/// A source `push://[host-or-ip/cidr][@password]`, without its scheme.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PushSource {
    /// Where a push may come from without a password.
    pub from: Origin,
    /// Lets in a push from anywhere; empty for none.
    pub password: Secret,
}

/// Addresses that a push is taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Any, unless there is a password.
    Anywhere,
    /// A network.
    Network(IpNet),
    /// This machine: `localhost`.
    ThisMachine,
    /// A host name. Names are not resolved, so no address is this one.
    Name,
}

impl PushSource {
    /// Takes the text behind `push://` apart. Every text means something.
    pub fn parse(text: &str) -> Self {
        let (host, password) = text.split_once('@').unwrap_or((text, ""));
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = || bare.parse::<IpAddr>().map(IpNet::from);
        let from = match host {
            "" => Origin::Anywhere,
            "localhost" => Origin::ThisMachine,
            host => match host.parse().or_else(|_| address()) {
                Ok(network) => Origin::Network(network),
                Err(_) => Origin::Name,
            },
        };
        Self {
            from,
            password: Secret::new(password),
        }
    }

    /// The right password lets in any address. Without it the address has to be a named one;
    /// where none is named, any will do unless there is a password.
    fn admit(&self, passwords: &[Cow<'_, str>], peer: IpAddr) -> Result<(), Denied> {
        let guarded = !self.password.is_empty();
        if guarded && passwords.iter().any(|guess| self.password.matches(guess)) {
            return Ok(());
        }
        // A socket that takes both families reports ::ffff:192.0.2.1.
        let peer = peer.to_canonical();
        let allowed = match self.from {
            Origin::Anywhere if guarded => return Err(Denied::WrongPassword),
            Origin::Anywhere => true,
            Origin::Network(network) => network.contains(&peer),
            Origin::ThisMachine => peer.is_loopback(),
            Origin::Name => false,
        };
        allowed.then_some(()).ok_or(Denied::AddressNotAllowed)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    use super::*;

    const CONFIG: &str = r#"{
        "streams": {
            "open": {"source": "push://"},
            "guarded": {"source": "push://@sesame"},
            "local": {"source": "push://localhost"},
            "office": {"source": "push://192.0.2.0/24@sesame"},
            "named": {"source": "push://encoder.example.org@sesame"},
            "v6": {"source": "push://2001:db8::1"},
            "pull": {"source": "dtsc://origin"}
        },
        "streamkeys": {"s3cret": "guarded+cam", "lost": "nowhere", "odd": "pull", "bad": "/"}
    }"#;

    fn publish(app: &str, stream: &str, peer: &str) -> Result<String, Denied> {
        let config = parse(CONFIG, "config.json").unwrap().config;
        let request = PublishRequest::rtmp(app, stream, peer.parse().unwrap());
        may_publish(&config, &request).map(|name| name.to_string())
    }

    const FAR: &str = "203.0.113.9";

    #[test]
    fn an_open_stream_takes_any_push() {
        assert_eq!(publish("live", "open", FAR).as_deref(), Ok("open"));
        assert_eq!(publish("", "Open+Cam?x=1", FAR).as_deref(), Ok("open+Cam"));
        assert_eq!(publish("live", "mp4:open", FAR).as_deref(), Ok("open"));
        assert_eq!(
            publish("live/_definst_", "flv:open", FAR).as_deref(),
            Ok("open")
        );
    }

    #[test]
    fn a_password_is_asked_for() {
        for (app, stream) in [
            ("sesame", "guarded"),
            ("/sesame/", "guarded+x"),
            ("live", "guarded?pass=sesame"),
            ("live?a=b&pass=sesam%65", "guarded"),
        ] {
            assert!(publish(app, stream, FAR).is_ok(), "{app} {stream}");
        }
        for (app, stream) in [
            ("live", "guarded"),
            ("", "guarded"),
            ("sesame2", "guarded"),
            ("live", "guarded?pass=Sesame"),
            ("live", "guarded?xpass=sesame"),
        ] {
            assert_eq!(
                publish(app, stream, "127.0.0.1"),
                Err(Denied::WrongPassword)
            );
        }
    }

    #[test]
    fn an_address_or_the_password_lets_in() {
        assert!(publish("live", "office", "192.0.2.77").is_ok());
        assert!(publish("live", "office", "::ffff:192.0.2.77").is_ok());
        assert!(publish("sesame", "office", FAR).is_ok());
        assert_eq!(
            publish("live", "office", FAR),
            Err(Denied::AddressNotAllowed)
        );
        assert_eq!(
            publish("live", "named", FAR),
            Err(Denied::AddressNotAllowed)
        );
        assert!(publish("sesame", "named", FAR).is_ok());
        assert!(publish("live", "v6", "2001:db8::1").is_ok());
        assert_eq!(
            publish("live", "v6", "2001:db8::2"),
            Err(Denied::AddressNotAllowed)
        );
    }

    #[test]
    fn localhost_is_this_machine() {
        for peer in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(publish("live", "local", peer).is_ok(), "{peer}");
        }
        assert_eq!(
            publish("live", "local", FAR),
            Err(Denied::AddressNotAllowed)
        );
    }

    #[test]
    fn a_key_is_enough() {
        assert_eq!(publish("live", "s3cret", FAR).as_deref(), Ok("guarded+cam"));
        assert_eq!(publish("live", "S3cret", FAR), Err(Denied::UnknownStream));
        assert_eq!(
            publish("s3cret", "guarded", FAR),
            Err(Denied::WrongPassword)
        );
        assert_eq!(publish("live", "lost", FAR), Err(Denied::UnknownStream));
        assert_eq!(publish("live", "odd", FAR), Err(Denied::NotAPushSource));
        assert_eq!(publish("live", "bad", FAR), Err(Denied::BadName));
    }

    #[test]
    fn only_configured_push_streams_are_open() {
        assert_eq!(publish("live", "unknown", FAR), Err(Denied::UnknownStream));
        assert_eq!(publish("live", "pull", FAR), Err(Denied::NotAPushSource));
        assert_eq!(publish("live", "../open", FAR), Err(Denied::BadName));
        assert_eq!(publish("live", "open+%2Fetc", FAR), Err(Denied::BadName));
    }

    #[test]
    fn secrets_are_not_printed() {
        let request = PublishRequest::rtmp("sesame", "s3cret", FAR.parse().unwrap());
        let source = PushSource::parse("127.0.0.1@sesame");
        let printed = format!("{request:?} {source:?}");
        assert!(
            !printed.contains("sesame") && !printed.contains("s3cret"),
            "{printed}"
        );
    }
}
