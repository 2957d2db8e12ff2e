//! What an operator asks of the sessions, by the control port: `/collab`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /collab` | `{"sessions": [{"port", "state", "users", ...}]}` |
//! | `GET /collab?port=N` | one session, with its `members`, `locks` and biggest `largest` nodes |
//! | `POST /collab/kick?port=N&user=NAME&reason=TEXT` | `{"done": true}` |
//! | `POST /collab/save?port=N` | `{"done": true, "file": PATH}`, once it is on the disk |
//!
//! The control shard asks all media shards; whoever has the session answers.

use serde_json::{Value, json};

use super::session::{Join, Session, State};
use crate::proto::http::{Method, Request, Response};
use crate::proto::replication::{Channel, Generation, Wire};

/// Nodes and locks that are shown of one session.
const SHOWN_MAX: usize = 1000;

/// A request about sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// All of them.
    List,
    /// One, by its first port.
    Show(u16),
    /// A user is put out.
    Kick {
        /// Of which session.
        port: u16,
        /// Its name.
        user: String,
        /// What it is told.
        reason: String,
    },
    /// The scene is written to its file.
    Save(u16),
}

/// What a shard says to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// Its sessions.
    Sessions(Vec<Value>),
    /// It has no such session.
    NotHere,
    /// Something was done, or is shown.
    Done(Value),
    /// It cannot be: a status and why.
    Refused(u16, String),
}

/// What control and media shards tell each other about sessions.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// From the control shard.
    Ask {
        /// Comes back with the answer.
        token: u64,
        /// What is asked.
        command: Command,
    },
    /// To the control shard, one for each question.
    Answer {
        /// Of the question.
        token: u64,
        /// What it is.
        answer: Answer,
    },
}

impl Command {
    /// `None` if a request is about something else; an error where it is not complete.
    pub fn read(request: &Request) -> Option<Result<Self, Response>> {
        let rest = request.path.strip_prefix("/collab")?;
        let port = request.parameter("port").map(|text| {
            text.parse()
                .map_err(|_| Response::text(400, "port: expected the first port of a session"))
        });
        if rest.is_empty() {
            if request.method != Method::Get {
                let response = Response::text(405, "GET /collab lists the sessions.");
                return Some(Err(response));
            }
            return Some(match port {
                Some(port) => port.map(Self::Show),
                None => Ok(Self::List),
            });
        }
        let verb = rest.strip_prefix('/')?;
        let missing = || Response::text(400, "port: expected the first port of a session");
        let port = port.unwrap_or_else(|| Err(missing()));
        Some(port.and_then(|port| Self::act(request, verb, port)))
    }

    fn act(request: &Request, verb: &str, port: u16) -> Result<Self, Response> {
        if !matches!(verb, "kick" | "save") {
            return Err(Response::text(404, "There are kick and save."));
        }
        if request.method != Method::Post {
            return Err(Response::text(405, "This changes something: use POST."));
        }
        if verb == "save" {
            return Ok(Self::Save(port));
        }
        let user = request
            .parameter("user")
            .ok_or_else(|| Response::text(400, "user: expected the name of a user"))?;
        let reason = request.parameter("reason").unwrap_or_default();
        let reason: String = reason.chars().take(200).collect();
        Ok(Self::Kick {
            port,
            user: user.into_owned(),
            reason: match reason.is_empty() {
                true => "kicked by admin".to_owned(),
                false => reason,
            },
        })
    }
}

impl Session {
    /// The session in a list.
    pub fn outline(&self) -> Value {
        let statistics = self.statistics();
        json!({
            "port": statistics.port,
            "state": match self.state {
                State::Waiting => "waiting",
                State::Filling { .. } => "filling",
                State::Active => "active",
            },
            "generation": self.generation().map(|generation| match generation {
                Generation::A => "A",
                Generation::Later => "B and C",
            }),
            "version": self.version,
            "users": statistics.users,
            "connections": statistics.connections,
            "nodes": statistics.nodes,
            "bytes": statistics.node_bytes,
            "locks": statistics.locks,
            "queued_bytes": statistics.queued_bytes,
        })
    }

    /// The session with all that is in it.
    pub fn show(&self) -> Value {
        let mut shown = self.outline();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let members: Vec<Value> = self
            .users
            .iter()
            .filter_map(|identity| {
                let client = self.clients.get(identity)?;
                let user = client.user.as_ref()?;
                let queued = |channel: Channel| client.lanes[channel as usize].queued_bytes();
                Some(json!({
                    "name": text(&user.name),
                    "admin": user.is_admin,
                    "address": client.address.to_string(),
                    "transport": match client.wire {
                        Wire::Zmtp => "zmtp",
                        Wire::Tcp => "tcp",
                        Wire::FourPorts => "zmtp, four ports",
                    },
                    "state": match user.join {
                        Join::Lobby => "lobby",
                        Join::Catalogue { .. } | Join::Fetching { .. } => "joining",
                        Join::Giving(_) | Join::Active => "active",
                    },
                    "latency_ms": user.latency(),
                    "queued_bytes": queued(Channel::Command) + queued(Channel::Data),
                }))
            })
            .collect();
        let locks: Vec<Value> = self
            .repository
            .locked(SHOWN_MAX)
            .map(|(uuid, owner)| json!({"uuid": text(uuid), "owner": text(owner)}))
            .collect();
        let largest: Vec<Value> = self
            .repository
            .largest(SHOWN_MAX)
            .into_iter()
            .map(|(uuid, node)| {
                json!({
                    "uuid": text(uuid),
                    "owner": text(&node.owner),
                    "bytes": node.size(),
                    "changes": node.commits.len(),
                })
            })
            .collect();
        for (name, value) in [
            ("members", members),
            ("locked", locks),
            ("largest", largest),
        ] {
            shown[name] = value.into();
        }
        shown
    }

    /// Puts a user out. False if it is not there.
    pub fn put_out(&mut self, user: &str, reason: &str) -> bool {
        match self.identity_of(user.as_bytes()) {
            Some(identity) => {
                self.disconnect(&identity, reason);
                true
            }
            None => false,
        }
    }
}
