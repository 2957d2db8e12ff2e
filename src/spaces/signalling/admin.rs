//! What an operator asks of the spaces, by the control port: `/spaces`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /spaces` | `{"spaces": [{"space": URI or number, "players": N}]}` |
//! | `GET /spaces?space=NAME` | `{"space": NAME, "players": [{"player", "name", "address", "dialect", "voice", "muted", "away"}]}` |
//! | `POST /spaces/kick?space=NAME&player=N&reason=TEXT` | `{"done": true}` |
//! | `POST /spaces/ban?space=NAME&player=N&minutes=M&reason=TEXT` | the same; 1 to 525 600 minutes, 60 if not said |
//! | `POST /spaces/mute?space=NAME&player=N`, `.../unmute?...` | the same |

use std::time::{Duration, Instant};

use serde_json::json;

use crate::proto::http::{Method, Request, Response};
use crate::proto::unavi::World;
use crate::spaces::host::Host;

/// A request about spaces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// All of them.
    List,
    /// One.
    Show(String),
    /// Something is done to a player.
    Act {
        /// What.
        act: Act,
        /// Its space.
        space: String,
        /// Its number.
        player: u8,
        /// Why; may be empty.
        reason: String,
    },
}

/// What can be done to a player.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// It is put out.
    Kick,
    /// It is put out and kept out.
    Ban(Duration),
    /// Nobody hears it.
    Mute,
    /// They do again.
    Unmute,
}

const MINUTES_DEFAULT: u64 = 60;
const MINUTES_MAX: u64 = 525_600;

impl Command {
    /// `None` if a request is about something else; an error where it is not complete.
    pub fn read(request: &Request) -> Option<Result<Self, Response>> {
        let rest = request.path.strip_prefix("/spaces")?;
        let space = request.parameter("space");
        if rest.is_empty() {
            if request.method != Method::Get {
                let response = Response::text(405, "GET /spaces lists the spaces.");
                return Some(Err(response));
            }
            return Some(Ok(match space {
                Some(space) => Self::Show(space.into_owned()),
                None => Self::List,
            }));
        }
        let verb = rest.strip_prefix('/')?;
        Some(Self::act(request, verb))
    }

    fn act(request: &Request, verb: &str) -> Result<Self, Response> {
        let minutes = match request.parameter("minutes") {
            None => Some(MINUTES_DEFAULT),
            Some(text) => text.parse().ok(),
        };
        let act = match verb {
            "kick" => Act::Kick,
            "ban" => {
                let minutes = minutes.filter(|minutes| (1..=MINUTES_MAX).contains(minutes));
                let minutes =
                    minutes.ok_or_else(|| Response::text(400, "minutes: expected 1 to 525600"))?;
                Act::Ban(Duration::from_secs(60 * minutes))
            }
            "mute" => Act::Mute,
            "unmute" => Act::Unmute,
            _ => return Err(Response::text(404, "There are kick, ban, mute and unmute.")),
        };
        if request.method != Method::Post {
            return Err(Response::text(405, "This changes something: use POST."));
        }
        let space = request
            .parameter("space")
            .ok_or_else(|| Response::text(400, "space: expected the name of a space"))?;
        let player = request
            .parameter("player")
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| Response::text(400, "player: expected 0 to 255"))?;
        let reason = request.parameter("reason").unwrap_or_default();
        Ok(Self::Act {
            act,
            space: space.into_owned(),
            player,
            reason: reason.chars().take(200).collect(),
        })
    }
}

/// Does what an operator asks for.
pub(super) fn answer(host: &mut Host, now: Instant, command: Command) -> Response {
    match command {
        Command::List => {
            let spaces: Vec<_> = host
                .worlds()
                .map(|(world, players)| json!({"space": name(world), "players": players}))
                .collect();
            json_response(&json!({"spaces": spaces}))
        }
        Command::Show(space) => {
            let Some(world) = find(host, &space) else {
                return Response::text(404, "There is nobody in a space of that name.");
            };
            let players: Vec<_> = host
                .seen(&world)
                .into_iter()
                .map(|seen| {
                    json!({
                        "player": seen.player,
                        "name": seen.name,
                        "address": seen.address.to_string(),
                        "dialect": seen.dialect,
                        "voice": seen.has_voice,
                        "muted": seen.is_muted,
                        "away": seen.is_away,
                    })
                })
                .collect();
            json_response(&json!({"space": name(&world), "players": players}))
        }
        Command::Act {
            act,
            space,
            player,
            reason,
        } => {
            let done = find(host, &space).is_some_and(|world| match act {
                Act::Kick => host.kick(&world, player, &reason),
                Act::Ban(time) => host.ban(&world, player, now + time, &reason),
                Act::Mute => host.mute(&world, player, true),
                Act::Unmute => host.mute(&world, player, false),
            });
            match done {
                true => json_response(&json!({"done": true})),
                false => Response::text(404, "There is no such player in a space of that name."),
            }
        }
    }
}

fn json_response(value: &serde_json::Value) -> Response {
    Response::new(200).with_body("application/json", value.to_string())
}

fn name(world: &World) -> serde_json::Value {
    match world {
        World::Number(number) => (*number).into(),
        World::Uri(uri) => uri.clone().into(),
    }
}

/// A space by what it is called: a URI, or a number of generation 2.
fn find(host: &Host, space: &str) -> Option<World> {
    let uri = World::Uri(space.to_owned());
    let number = space.parse().ok().map(World::Number);
    [Some(uri), number]
        .into_iter()
        .flatten()
        .find(|world| host.worlds().any(|(known, _)| known == world))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spaces::tests::{Stage, join, request};

    fn ask(stage: &mut Stage, line: &str) -> (u16, String) {
        let request = request(&format!(
            "{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        ));
        let response = match Command::read(&request).expect("it is about spaces") {
            Ok(command) => answer(&mut stage.host, stage.now, command),
            Err(response) => response,
        };
        let body = String::from_utf8(response.body.to_vec()).expect("text");
        (response.status, body)
    }

    #[test]
    fn an_operator_sees_and_puts_out_players() {
        let mut stage = Stage::new(Default::default());
        let a = stage.connect(1);
        stage.text(a, &join(crate::proto::unavi::Dialect::Two, "https://a/w"));
        stage.text(a, r#"{"subject":"set_name","data":"alice"}"#);
        let (status, body) = ask(&mut stage, "GET /spaces");
        assert_eq!(
            (status, body.as_str()),
            (200, r#"{"spaces":[{"space":"https://a/w","players":1}]}"#)
        );
        let (_, body) = ask(&mut stage, "GET /spaces?space=https%3A%2F%2Fa%2Fw");
        let shown: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(shown["players"][0]["name"], "alice");
        let number = &shown["players"][0]["player"];
        let at = format!("space=https%3A%2F%2Fa%2Fw&player={number}");
        assert_eq!(ask(&mut stage, &format!("GET /spaces/kick?{at}")).0, 405);
        assert_eq!(ask(&mut stage, "POST /spaces/kick?player=1").0, 400);
        assert_eq!(
            ask(&mut stage, "POST /spaces/kick?space=a&player=256").0,
            400
        );
        assert_eq!(
            ask(&mut stage, &format!("POST /spaces/ban?{at}&minutes=0")).0,
            400
        );
        assert_eq!(ask(&mut stage, &format!("POST /spaces/nope?{at}")).0, 404);
        assert_eq!(ask(&mut stage, &format!("POST /spaces/mute?{at}")).0, 200);
        assert_eq!(
            ask(&mut stage, &format!("POST /spaces/ban?{at}&minutes=5")).0,
            200
        );
        assert_eq!(ask(&mut stage, &format!("POST /spaces/kick?{at}")).0, 404);
        assert_eq!(ask(&mut stage, "GET /spaces").1, r#"{"spaces":[]}"#);
    }
}
