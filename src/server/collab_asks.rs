//! What operators ask about collaborative sessions, while the media shards answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::base::ids::ConnId;
use crate::collab::{Answer, Command};
use crate::proto::http::Response;

/// How long the shards may take. A big scene is not written at once.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const SAVE_MAX: Duration = Duration::from_secs(120);

/// Questions that wait at once.
const ASKS_MAX: usize = 64;

/// The questions that wait.
#[derive(Debug, Default)]
pub(super) struct CollabAsks {
    waiting: BTreeMap<u64, Ask>,
    next_token: u64,
}

#[derive(Debug)]
struct Ask {
    conn: ConnId,
    is_list: bool,
    sessions: Vec<Value>,
    shards_left: usize,
    until: Instant,
}

impl CollabAsks {
    /// Takes a question. The number that all of so many shards are asked with; `None` if too many wait.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        conn: ConnId,
        command: &Command,
        shards: usize,
    ) -> Option<u64> {
        if self.waiting.len() >= ASKS_MAX {
            return None;
        }
        let token = self.next_token;
        self.next_token += 1;
        let limit = match command {
            Command::List | Command::Show(_) | Command::Kick { .. } => ANSWER_MAX,
            Command::Save(_) => SAVE_MAX,
        };
        self.waiting.insert(
            token,
            Ask {
                conn,
                is_list: *command == Command::List,
                sessions: Vec::new(),
                shards_left: shards,
                until: now + limit,
            },
        );
        Some(token)
    }

    /// A shard's answer. What the asker is told, if that is all.
    pub(super) fn answer(&mut self, token: u64, answer: Answer) -> Option<(ConnId, Response)> {
        let ask = self.waiting.get_mut(&token)?;
        ask.shards_left -= 1;
        let response = match answer {
            Answer::Sessions(sessions) => {
                ask.sessions.extend(sessions);
                None
            }
            Answer::NotHere => None,
            Answer::Done(value) => Some(json_response(&value)),
            Answer::Refused(status, why) => Some(Response::text(status, why)),
        };
        if response.is_none() && ask.shards_left > 0 {
            return None;
        }
        let ask = self.waiting.remove(&token)?;
        let response = response.unwrap_or_else(|| {
            let mut sessions = ask.sessions;
            sessions.sort_by_key(|session| session["port"].as_u64());
            match ask.is_list {
                true => json_response(&json!({"sessions": sessions})),
                false => Response::text(404, "There is no session of that port."),
            }
        });
        Some((ask.conn, response))
    }

    /// When the next question has waited for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|ask| ask.until).min()
    }

    /// Those who have waited for too long, and what they are told.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(ConnId, Response)> {
        let late = self.waiting.extract_if(.., |_, ask| ask.until <= now);
        let told = |(_, ask): (u64, Ask)| {
            let response = Response::text(503, "It takes too long; it may still be done.");
            (ask.conn, response)
        };
        late.map(told).collect()
    }
}

fn json_response(value: &Value) -> Response {
    Response::new(200).with_body("application/json", value.to_string())
}
