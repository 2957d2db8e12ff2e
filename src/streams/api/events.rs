//! `/ws`: what happens, as it happens, over a WebSocket.
//!
//! `?logs=N` (or `since:UNIX`) sends the log, `?accs=1` sessions that end, `?streams=1` streams that
//! change. The first frame is `["auth",true]` or `["auth",false]`; after the latter the client has
//! 10 s for `["auth",{"username":...,"password":...}]`, where the password answers a challenge as in
//! a call: an empty one brings the challenge.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::log::LogEntry;
use super::sessions::format_id;
use super::statistics::live;
use crate::base::ids::ShardId;
use crate::proto::http::Request;
use crate::streams::client::ClientSnapshot;
use crate::streams::snapshot::ShardSnapshot;

/// What a client of `/ws` wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Subscription {
    /// The log: so many of the newest lines, or all since a time, and those to come.
    pub logs: Option<Since>,
    /// Sessions that end. Those of the past are not kept.
    pub accesses: bool,
    /// Streams.
    pub streams: bool,
}

/// Where the log begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// With so many of the newest lines.
    Newest(usize),
    /// At this time, in seconds since 1970.
    Unix(i64),
}

impl Subscription {
    /// What a request for `/ws` asks for; `None` for one for something else.
    pub fn read(request: &Request) -> Option<Self> {
        if request.path != "/ws" {
            return None;
        }
        let number = |name: &str| -> i64 {
            let text = request.parameter(name);
            text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        let logs = request
            .parameter("logs")
            .and_then(|text| match text.strip_prefix("since:") {
                Some(unix) => unix.trim().parse().ok().map(Since::Unix),
                None => text
                    .trim()
                    .parse()
                    .ok()
                    .filter(|count| *count > 0)
                    .map(Since::Newest),
            });
        Some(Self {
            logs,
            accesses: number("accs") > 0,
            streams: number("streams") > 0,
        })
    }

    /// The lines of the log that come first.
    pub fn first_lines<'a>(&self, lines: &'a [LogEntry]) -> &'a [LogEntry] {
        let from = match self.logs {
            None => lines.len(),
            Some(Since::Newest(count)) => lines.len().saturating_sub(count),
            Some(Since::Unix(unix_s)) => lines.partition_point(|line| line.unix_s < unix_s),
        };
        &lines[from..]
    }
}

/// The frame that says whether a client may listen.
pub fn auth_frame(is_authorized: bool) -> String {
    json!(["auth", is_authorized]).to_string()
}

/// The frame that says why not, with a challenge.
pub fn challenge_frame(authorize: Option<&Value>) -> String {
    json!(["auth", authorize.unwrap_or(&Value::Bool(false))]).to_string()
}

/// What a client sends to log in, in the form of a call's commands.
pub fn login(text: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(text).ok()? {
        Value::Array(parts) => match <[Value; 2]>::try_from(parts).ok()? {
            [Value::String(name), login] if name == "auth" => {
                Some(Map::from_iter([("authorize".to_owned(), login)]))
            }
            _ => None,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            None
        }
    }
}

/// The frame of a line of the log.
pub fn log_frame(line: &LogEntry, pid: u32) -> String {
    json!(["log", line.to_value(pid)]).to_string()
}

/// What is told of a stream.
type State = (&'static str, u64, u64);

/// What was last told of streams and clients, to tell what is new.
#[derive(Debug, Default)]
pub struct Changes {
    streams: BTreeMap<String, State>,
    clients: BTreeMap<(ShardId, u64), ClientSnapshot>,
}

impl Changes {
    /// The frames of streams that have changed since the last time.
    pub fn of_streams(&mut self, shards: &[ShardSnapshot]) -> Vec<String> {
        let streams: BTreeMap<String, State> = live(shards)
            .into_iter()
            .map(|(name, whole)| {
                let inputs = u64::from(whole.has_publisher());
                let status = if inputs > 0 {
                    "Online"
                } else {
                    "Waiting for data"
                };
                (name.to_string(), (status, whole.viewers, inputs))
            })
            .collect();
        let gone = self
            .streams
            .keys()
            .filter(|name| !streams.contains_key(*name))
            .map(|name| (name, ("Offline", 0, 0)));
        let changed = streams
            .iter()
            .filter(|(name, state)| self.streams.get(*name) != Some(state))
            .map(|(name, state)| (name, *state));
        let frames = gone
            .chain(changed)
            .map(|(name, (status, viewers, inputs))| {
                json!(["stream", [name, status, viewers, inputs, 0, null_tags()]]).to_string()
            })
            .collect();
        self.streams = streams;
        frames
    }

    /// The frames of all streams, for who has just come.
    pub fn all_streams(&self) -> Vec<String> {
        self.streams
            .iter()
            .map(|(name, (status, viewers, inputs))| {
                json!(["stream", [name, status, viewers, inputs, 0, null_tags()]]).to_string()
            })
            .collect()
    }

    /// The frames of sessions that have ended since the last time, as they were seen last.
    pub fn of_clients(&mut self, unix_s: i64, clients: &[ClientSnapshot]) -> Vec<String> {
        let clients: BTreeMap<(ShardId, u64), ClientSnapshot> = clients
            .iter()
            .map(|client| (client.id, client.clone()))
            .collect();
        let before = std::mem::replace(&mut self.clients, clients);
        before
            .into_iter()
            .filter(|(id, _)| !self.clients.contains_key(id))
            .map(|(id, client)| {
                let host = client
                    .host
                    .map_or_else(String::new, |host| host.to_string());
                json!([
                    "access",
                    [
                        unix_s,
                        format_id(id),
                        client.stream.as_str(),
                        client.protocol,
                        host,
                        client.age.as_secs(),
                        client.up,
                        client.down,
                        null_tags(),
                    ]
                ])
                .to_string()
            })
            .collect()
    }

    /// Nobody listens: what is told next is compared with nothing.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Events carry no tags: `stream_tags` has them.
fn null_tags() -> &'static str {
    ""
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::streams::api::tests::request;
    use crate::streams::client::Role;
    use crate::streams::name::StreamName;

    use super::*;

    #[test]
    fn a_query_says_what_is_wanted() {
        let read = |target: &str| {
            let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            Subscription::read(&request(&text))
        };
        let all = read("/ws?logs=5&accs=1&streams=1").unwrap();
        assert_eq!(all.logs, Some(Since::Newest(5)));
        assert!(all.accesses && all.streams);
        let since = read("/ws?logs=since:17").unwrap();
        assert_eq!(since.logs, Some(Since::Unix(17)));
        assert_eq!(read("/ws?logs=x&accs=-1"), Some(Subscription::default()));
        assert_eq!(read("/wss"), None);
    }

    #[test]
    fn a_login_is_a_pair() {
        assert!(login(r#"["auth",{"username":"a","password":"b"}]"#).is_some());
        for bad in ["", "{}", r#"["auth"]"#, r#"["log",{}]"#, "[1,2]"] {
            assert_eq!(login(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_session_that_is_gone_is_told_once() {
        let client = ClientSnapshot {
            id: (ShardId(0), 7),
            conn: None,
            host: None,
            stream: StreamName::parse("live").unwrap(),
            protocol: "FLV",
            role: Role::Viewer,
            age: Duration::from_secs(5),
            position_ms: 0,
            up: 1000,
            down: 3,
        };
        let mut changes = Changes::default();
        assert!(changes.of_clients(1, &[client]).is_empty());
        assert_eq!(
            changes.of_clients(2, &[]),
            [r#"["access",[2,"0-7","live","FLV","",5,1000,3,""]]"#]
        );
        assert!(changes.of_clients(3, &[]).is_empty());
    }
}
