//! Viewers that are told from one another by their requests: what a connection is to a continuous
//! stream, a session is to a segmented one.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::streams::name::StreamName;
use crate::streams::segments::Form;

/// How long a session lasts without a request, as in MistServer.
const LINGER: Duration = Duration::from_secs(15);

/// Sessions of one shard. One takes about 200 bytes; beyond this, viewers are served and not
/// counted.
const SESSIONS_MAX: usize = 100_000;

/// What tells sessions apart, by MistServer's bits of `sessionViewerMode`.
mod by {
    pub(super) const PROTOCOL: u8 = 1;
    pub(super) const TOKEN: u8 = 2;
    pub(super) const ADDRESS: u8 = 4;
    pub(super) const STREAM: u8 = 8;
}

/// A viewer of playlists.
#[derive(Clone, Debug)]
pub struct Session {
    /// The same on all shards.
    pub id: u64,
    /// What it plays.
    pub stream: StreamName,
    /// Where it is.
    pub address: Option<IpAddr>,
    /// How it plays.
    pub form: Form,
    /// Unix time of its first request, in milliseconds.
    pub since_unix_ms: i64,
    /// Bytes of media it was sent, as far as its requests say that they are its own.
    pub bytes: u64,
    last: Instant,
}

/// The sessions of one shard.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: HashMap<u64, Session, foldhash::fast::RandomState>,
    /// Those that were ended, and until when their requests are refused. They were sessions, so
    /// there are no more of them.
    stopped: HashMap<u64, Instant, foldhash::fast::RandomState>,
    /// Since the start.
    pub(super) total: u64,
}

/// Who asks.
pub(super) struct Visitor<'a> {
    pub(super) stream: &'a StreamName,
    pub(super) address: Option<IpAddr>,
    pub(super) token: &'a str,
    pub(super) form: Form,
}

impl Visitor<'_> {
    /// The number of its session, by what `mode` says.
    pub(super) fn session(&self, mode: u8) -> u64 {
        let mut hasher = DefaultHasher::new();
        if mode & by::STREAM != 0 {
            self.stream.as_str().hash(&mut hasher);
        }
        if mode & by::ADDRESS != 0 {
            self.address.hash(&mut hasher);
        }
        if mode & by::TOKEN != 0 {
            self.token.hash(&mut hasher);
        }
        if mode & by::PROTOCOL != 0 {
            self.form.hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Sessions {
    /// A request for a playlist: its session is here.
    pub(super) fn note(&mut self, now: Instant, unix_ms: i64, id: u64, visitor: &Visitor<'_>) {
        if self.is_stopped(now, id) {
            return;
        }
        if let Some(session) = self.by_id.get_mut(&id) {
            session.last = now;
            return;
        }
        if self.by_id.len() >= SESSIONS_MAX {
            return;
        }
        self.total += 1;
        self.by_id.insert(
            id,
            Session {
                id,
                stream: visitor.stream.clone(),
                address: visitor.address,
                form: visitor.form,
                since_unix_ms: unix_ms,
                bytes: 0,
                last: now,
            },
        );
    }

    /// Ends a session: its requests are refused for as long as it would have lasted without any.
    pub(super) fn stop(&mut self, now: Instant, id: u64) {
        if self.by_id.remove(&id).is_some() {
            self.stopped.insert(id, now + LINGER);
        }
    }

    /// Whether a session was ended.
    pub(super) fn is_stopped(&self, now: Instant, id: u64) -> bool {
        self.stopped.get(&id).is_some_and(|until| now < *until)
    }

    /// Counts media for a session, if it is one.
    pub(super) fn add_bytes(&mut self, id: u64, bytes: u64) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.bytes += bytes;
        }
    }

    /// Forgets those that have asked for nothing for a while.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.by_id.retain(|_, session| now < session.last + LINGER);
        self.stopped.retain(|_, until| now < *until);
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.by_id.values()
    }
}

/// A token for who brought none: the same for the same player at the same address, so that players
/// which pass on neither cookies nor queries are counted once.
pub(super) fn derived_token(address: Option<IpAddr>, agent: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (address, agent).hash(&mut hasher);
    format!("{}", hasher.finish() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_says_what_tells_viewers_apart() {
        let stream = StreamName::parse("live").expect("a good name");
        let of = |mode, last, token, form| {
            let visitor = Visitor {
                stream: &stream,
                address: Some(IpAddr::from([127, 0, 0, last])),
                token,
                form,
            };
            visitor.session(mode)
        };
        let one = of(14, 1, "a", Form::Ts);
        assert_eq!(one, of(14, 1, "a", Form::Cmaf), "not by protocol");
        assert_ne!(one, of(14, 1, "b", Form::Ts));
        assert_ne!(one, of(14, 2, "a", Form::Ts));
        assert_eq!(of(12, 1, "a", Form::Ts), of(12, 1, "b", Form::Ts));
        assert_ne!(of(15, 1, "a", Form::Ts), of(15, 1, "a", Form::Cmaf));
    }
}
