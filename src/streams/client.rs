//! Who is connected, and how much has gone to and fro: what the API is told of a shard.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::base::ids::{ConnId, ShardId};
use crate::streams::name::StreamName;
use crate::streams::output::Container;
use crate::streams::segments::Form;

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// It watches.
    Viewer,
    /// It publishes.
    Input,
    /// It is pushed to.
    Output,
}

/// In a client's id: it is on all shards. Viewers of playlists are, as far as they have asked there.
pub const EVERYWHERE: ShardId = ShardId(u16::MAX);

/// A session at one moment: a connection that plays or publishes, or a viewer whose requests come
/// over many connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientSnapshot {
    /// The shard it is on, or [`EVERYWHERE`], and its number there, which is not used again.
    pub id: (ShardId, u64),
    /// Its connection, if it has one of its own; address and bytes are filled in from it.
    pub conn: Option<ConnId>,
    /// Its address.
    pub host: Option<IpAddr>,
    /// The stream.
    pub stream: StreamName,
    /// MistServer's name of what it speaks, such as `HTTPTS` or `INPUT:RTMP`.
    pub protocol: &'static str,
    /// What it does.
    pub role: Role,
    /// For how long.
    pub age: Duration,
    /// Where in the stream it is, in milliseconds of the stream's time.
    pub position_ms: i64,
    /// Bytes sent to it.
    pub up: u64,
    /// Bytes received from it.
    pub down: u64,
}

/// Sums over clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Viewers at the moment.
    pub viewers: u64,
    /// Publishers at the moment.
    pub inputs: u64,
    /// Pushes at the moment.
    pub outputs: u64,
    /// Bytes sent since the start.
    pub up: u64,
    /// Bytes received since the start.
    pub down: u64,
}

impl Figures {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.viewers += other.viewers;
        self.inputs += other.inputs;
        self.outputs += other.outputs;
        self.up += other.up;
        self.down += other.down;
    }
}

/// Sums by MistServer's name of the protocol.
pub type Tally = BTreeMap<&'static str, Figures>;

/// Viewers of continuous streams by container, and the bytes that were sent in each and in each form
/// of segments.
pub(super) fn tally_of(
    viewers: &[u64; Container::ALL.len()],
    bytes: &[u64; Container::ALL.len()],
    segment_bytes: &[u64; 2],
) -> Tally {
    let mut tally = Tally::new();
    let mut add = |connector, viewers, up| {
        let figures = Figures {
            viewers,
            up,
            ..Figures::default()
        };
        tally.entry(connector).or_default().add(&figures);
    };
    for container in Container::ALL {
        let index = container as usize;
        add(container.connector(), viewers[index], bytes[index]);
    }
    for form in [Form::Ts, Form::Cmaf] {
        add(form.connector(), 0, segment_bytes[form as usize]);
    }
    tally
}

/// What a shard says of its clients.
#[derive(Clone, Debug, Default)]
pub struct ShardClients {
    /// Sums, without the viewers of playlists.
    pub tally: Tally,
    /// The viewers of playlists and what they speak. One may be on several shards.
    pub sessions: Vec<(u64, &'static str)>,
    /// Each of them, if that was asked for.
    pub clients: Vec<ClientSnapshot>,
}

impl ShardClients {
    /// Sums over all shards; who is on several is counted once.
    pub fn sum(shards: &[Self]) -> Tally {
        let mut sum = Tally::new();
        for (protocol, figures) in shards.iter().flat_map(|shard| &shard.tally) {
            sum.entry(protocol).or_default().add(figures);
        }
        let sessions: HashMap<u64, &'static str, foldhash::fast::RandomState> = shards
            .iter()
            .flat_map(|shard| shard.sessions.iter().copied())
            .collect();
        for protocol in sessions.into_values() {
            sum.entry(protocol).or_default().viewers += 1;
        }
        sum
    }

    /// The clients of all shards, each once.
    pub fn merge(shards: Vec<Self>) -> Vec<ClientSnapshot> {
        let mut merged: BTreeMap<(ShardId, u64), ClientSnapshot> = BTreeMap::new();
        for client in shards.into_iter().flat_map(|shard| shard.clients) {
            match merged.entry(client.id) {
                Entry::Occupied(mut entry) => {
                    let known = entry.get_mut();
                    known.age = known.age.max(client.age);
                    known.position_ms = known.position_ms.max(client.position_ms);
                    known.up += client.up;
                    known.down += client.down;
                }
                Entry::Vacant(entry) => {
                    entry.insert(client);
                }
            }
        }
        merged.into_values().collect()
    }
}

/// Which sessions to end. What is `None` is any.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionFilter {
    /// The stream's name; one that ends in `+` stands for all its wildcards.
    pub stream: Option<String>,
    /// MistServer's name of the protocol. Publishers are meant only by `INPUT:...`.
    pub protocol: Option<String>,
    /// One session.
    pub id: Option<(ShardId, u64)>,
}

impl SessionFilter {
    /// Whether it means this session.
    pub fn matches(&self, id: (ShardId, u64), stream: &StreamName, protocol: &str) -> bool {
        let is_input = protocol.starts_with("INPUT:");
        self.id.is_none_or(|wanted| wanted == id)
            && self.stream.as_deref().is_none_or(|wanted| {
                wanted == stream.as_str()
                    || wanted.strip_suffix('+') == Some(stream.base())
                        && stream.wildcard().is_some()
            })
            && match &self.protocol {
                Some(wanted) => wanted.eq_ignore_ascii_case(protocol),
                None => !is_input || self.id.is_some(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_on_several_shards_is_counted_once() {
        let client = |id, up| ClientSnapshot {
            id,
            conn: None,
            host: None,
            stream: StreamName::parse("live").unwrap(),
            protocol: "HLS",
            role: Role::Viewer,
            age: Duration::from_secs(up),
            position_ms: 0,
            up,
            down: 0,
        };
        let shard = |up| ShardClients {
            tally: Tally::new(),
            sessions: vec![(7, "HLS"), (up, "CMAF")],
            clients: vec![client((EVERYWHERE, 7), up), client((ShardId(0), up), 1)],
        };
        let shards = vec![shard(1), shard(2)];
        let sum = ShardClients::sum(&shards);
        assert_eq!((sum["HLS"].viewers, sum["CMAF"].viewers), (1, 2));
        let clients = ShardClients::merge(shards);
        assert_eq!(clients.len(), 3);
        let whole = clients
            .iter()
            .find(|client| client.id.0 == EVERYWHERE)
            .unwrap();
        assert_eq!((whole.up, whole.age), (3, Duration::from_secs(2)));
    }

    #[test]
    fn a_filter_means_viewers_unless_it_names_more() {
        let id = (ShardId(0), 7);
        let name = StreamName::parse("live+a").unwrap();
        let filter = |stream: &str, protocol: Option<&str>| SessionFilter {
            stream: Some(stream.to_owned()),
            protocol: protocol.map(str::to_owned),
            id: None,
        };
        assert!(filter("live+a", None).matches(id, &name, "FLV"));
        assert!(filter("live+", None).matches(id, &name, "FLV"));
        assert!(!filter("live", None).matches(id, &name, "FLV"));
        assert!(!filter("live+a", None).matches(id, &name, "INPUT:RTMP"));
        assert!(filter("live+a", Some("input:rtmp")).matches(id, &name, "INPUT:RTMP"));
        assert!(!filter("live+a", Some("HTTPTS")).matches(id, &name, "FLV"));
        let one = SessionFilter {
            id: Some(id),
            ..SessionFilter::default()
        };
        assert!(one.matches(id, &name, "INPUT:RTMP"));
        assert!(!one.matches((ShardId(1), 7), &name, "FLV"));
    }
}
