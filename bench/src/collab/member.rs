//! One client: what it says to what it is told, until it has the scene.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringside::proto::pickle::{Dict, Limits, Pieces, Value, decode};
use ringside::proto::replication::{Channel, Generation, Kind, Part, Wire};

use super::options::{Options, What};
use super::scene::{Scene, dict};

/// How far a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Some of its connections are not open.
    Opening,
    /// It has said who it is.
    LoggingIn,
    /// There is no scene.
    Lobby,
    /// It gives the scene.
    Giving,
    /// It has asked for the catalogue.
    Asking,
    /// It fetches one node after the other.
    Fetching,
    /// It has the scene.
    Active,
    /// It is of no use any more.
    Gone,
}

/// What has come of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Nothing that counts.
    None,
    /// It has the scene, so long after it began to connect.
    Arrived(Duration),
    /// It cannot go on.
    Failed(String),
}

/// A client.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) wire: Wire,
    pub(super) stage: Stage,
    name: String,
    /// It gives the scene if there is none.
    is_first: bool,
    began: Instant,
    /// Connections that are open.
    open: Vec<Channel>,
    missing: Vec<Value>,
    /// The node that it has asked for, and when.
    wanted: Option<Value>,
    asked: Instant,
    /// What it has to say.
    says: VecDeque<(Channel, Vec<Part>)>,
    /// How long the node took that has come.
    fetched: Option<Duration>,
}

impl Member {
    pub(super) fn new(now: Instant, options: &Options, index: usize) -> Self {
        Self {
            wire: options.wire(index),
            stage: Stage::Opening,
            name: format!("load-{}-{index}", options.seed),
            is_first: index == 0,
            began: now,
            open: Vec::new(),
            missing: Vec::new(),
            wanted: None,
            asked: now,
            says: VecDeque::new(),
            fetched: None,
        }
    }

    /// What it has to say next.
    pub(super) fn poll_say(&mut self) -> Option<(Channel, Vec<Part>)> {
        self.says.pop_front()
    }

    /// How long the node took that has come.
    pub(super) fn take_fetched(&mut self) -> Option<Duration> {
        self.fetched.take()
    }

    /// One of its connections is open.
    pub(super) fn opened(&mut self, channel: Channel, options: &Options) {
        self.open.push(channel);
        if channel == Channel::Ttl {
            self.says_on_ttl(b"INIT");
        }
        if self.stage == Stage::Opening && self.open.len() == self.wire.channels().len() {
            self.stage = Stage::LoggingIn;
            self.log_in(options);
        }
    }

    fn log_in(&mut self, options: &Options) {
        let admin_password = self.is_first.then_some(options.admin_password.as_str());
        let server_password = options.server_password.as_str();
        let version = match self.wire {
            Wire::FourPorts => &options.version_a,
            Wire::Zmtp => &options.version_b,
            Wire::Tcp => &options.version_c,
        };
        let text = |text: Option<&str>| text.map_or(Value::None, Value::from);
        // In generation A whoever gives a password says that it is an administrator's.
        let (is_admin, passwords) = match self.wire.generation() {
            Generation::A => {
                let password = Some(server_password).filter(|password| !password.is_empty());
                let password = admin_password.or(password);
                (password.is_some(), vec![("PWD", text(password))])
            }
            Generation::Later => {
                let server = ("S_PWD", server_password.into());
                let admin = ("A_PWD", text(admin_password));
                (self.is_first, vec![server, admin])
            }
        };
        let mut login = vec![
            (
                "AUTH_TYPE",
                ["CLIENT", "ADMIN"][usize::from(is_admin)].into(),
            ),
            ("AUTH_ID", self.name.as_str().into()),
        ];
        login.extend(passwords);
        login.push(("VERSION", version.as_str().into()));
        let login = login.into_iter();
        let login: Dict = login.map(|(key, value)| (key.into(), value)).collect();
        self.command(Kind::Auth, &Value::Dict(login));
    }

    /// A message that is no node.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        channel: Channel,
        parts: &[Bytes],
        scene: &Scene,
    ) -> Outcome {
        match channel {
            Channel::Ttl => {
                self.says_on_ttl(b"PONG");
                Outcome::None
            }
            Channel::Data | Channel::Push => Outcome::None,
            Channel::Command => self.hear_command(now, parts, scene).unwrap_or_else(|| {
                self.stage = Stage::Gone;
                Outcome::Failed("a command is not understood".to_owned())
            }),
        }
    }

    /// Whether it waits for this node by the connection for data, which the scene of generation A
    /// comes by.
    pub(super) fn awaits(&self, uuid: &[u8]) -> bool {
        let wanted = self.wanted.as_ref().and_then(Value::as_text);
        self.stage == Stage::Fetching
            && self.wire.generation() == Generation::A
            && wanted.is_some_and(|wanted| wanted.as_bytes() == uuid)
    }

    /// The node has come that it has asked for.
    pub(super) fn fetched(&mut self, now: Instant) -> Outcome {
        self.fetched = Some(now.saturating_duration_since(self.asked));
        self.fetch(now)
    }

    fn hear_command(&mut self, now: Instant, parts: &[Bytes], scene: &Scene) -> Option<Outcome> {
        let [kind, _, body] = parts else { return None };
        match Kind::read(kind)? {
            Kind::Auth => {
                let answer = decode(body, Limits::default()).ok()?;
                self.logged_in(answer.as_text()?, scene)
            }
            Kind::ServerSnapshot => {
                let state = decode(body, Limits::default()).ok()?;
                match text(state.as_dict()?, "STATE")? {
                    "ACCEPTED" => {
                        self.give(scene);
                        Some(Outcome::None)
                    }
                    "DONE" => Some(self.arrived(now)),
                    "REJECTED" => Some(self.failed("the scene was not taken")),
                    _ => None,
                }
            }
            Kind::Snapshot => {
                let said = decode(body, Limits::default()).ok()?;
                self.snapshot(now, said.as_dict()?)
            }
            Kind::Disconnect => {
                let said = decode(body, Limits::default()).ok()?;
                let reason = text(said.as_dict()?, "reason")?.to_owned();
                Some(self.failed(&format!("let go: {reason}")))
            }
            Kind::Delete
            | Kind::Right
            | Kind::Kick
            | Kind::UpdateClientsState
            | Kind::UpdateUserMetadata
            | Kind::RequestServerInfo => Some(Outcome::None),
            Kind::Commit | Kind::Node => None,
        }
    }

    fn logged_in(&mut self, answer: &str, scene: &Scene) -> Option<Outcome> {
        match answer {
            "LOBBY" if self.is_first => {
                self.stage = Stage::Giving;
                let uuids: Vec<Value> = scene
                    .uuids()
                    .map(|uuid| Value::Text(String::from_utf8_lossy(uuid).into_owned()))
                    .collect();
                let size = i64::try_from(uuids.len()).ok()?;
                let begin = dict([
                    ("STATE", "INIT".into()),
                    ("SIZE", size.into()),
                    ("NODES", Value::List(uuids)),
                ]);
                self.command(Kind::ServerSnapshot, &begin);
            }
            "LOBBY" => self.stage = Stage::Lobby,
            "RUNNING" => {
                self.stage = Stage::Asking;
                self.command(Kind::Snapshot, &dict([("STATE", "REQUEST_INIT".into())]));
            }
            refusal => return Some(self.failed(refusal)),
        }
        Some(Outcome::None)
    }

    fn give(&mut self, scene: &Scene) {
        for node in 0..scene.uuids().count() {
            let parts = scene.message(What::Node, node, 0, 0);
            let parts = parts.iter().map(|part| Value::Bytes(part.concat().into()));
            let data = match self.wire.generation() {
                Generation::A => {
                    let names = ["type", "uuid", "owner", "dependencies", "data"];
                    let names = names.map(Value::from).into_iter();
                    Value::Dict(names.zip(parts).collect())
                }
                Generation::Later => Value::List(parts.collect()),
            };
            let set = dict([("STATE", "SET".into()), ("DATA", data)]);
            self.command(Kind::ServerSnapshot, &set);
        }
        self.command(Kind::ServerSnapshot, &dict([("STATE", "END".into())]));
    }

    fn snapshot(&mut self, now: Instant, said: &Dict) -> Option<Outcome> {
        match text(said, "STATE")? {
            "INIT" => {
                self.missing = said.of("CATALOG")?.as_items()?.to_vec();
                self.stage = Stage::Fetching;
            }
            "SET" if self.stage == Stage::Fetching && self.wire != Wire::FourPorts => {
                return Some(self.fetched(now));
            }
            _ => return None,
        }
        Some(self.fetch(now))
    }

    /// Asks for the next node, if one is missing.
    fn fetch(&mut self, now: Instant) -> Outcome {
        // The original takes the last one first.
        self.wanted = self.missing.pop();
        let Some(uuid) = self.wanted.clone() else {
            self.command(Kind::Snapshot, &dict([("STATE", "DONE".into())]));
            return self.arrived(now);
        };
        self.asked = now;
        let get = dict([("STATE", "GET".into()), ("ID", uuid)]);
        self.command(Kind::Snapshot, &get);
        Outcome::None
    }

    fn arrived(&mut self, now: Instant) -> Outcome {
        self.stage = Stage::Active;
        Outcome::Arrived(now.saturating_duration_since(self.began))
    }

    /// It is of no use any more.
    pub(super) fn failed(&mut self, reason: &str) -> Outcome {
        self.stage = Stage::Gone;
        Outcome::Failed(format!("{}: {reason}", self.name))
    }

    fn command(&mut self, kind: Kind, value: &Value) {
        let message = vec![
            vec![Bytes::copy_from_slice(&kind.part())],
            vec![Bytes::copy_from_slice(self.name.as_bytes())],
            Pieces::of(value),
        ];
        self.says.push_back((Channel::Command, message));
    }

    fn says_on_ttl(&mut self, word: &'static [u8]) {
        let message = vec![vec![Bytes::from_static(word)]];
        self.says.push_back((Channel::Ttl, message));
    }
}

fn text<'a>(of: &'a Dict, key: &str) -> Option<&'a str> {
    of.of(key)?.as_text()
}

#[cfg(test)]
mod tests {
    use ringside::proto::pickle::encode;
    use ringside::shard::clock;

    use super::*;

    fn options() -> Options {
        Options::of(&["--nodes", "2", "--admin-password", "adm"]).unwrap()
    }

    /// A client that has said who it is.
    fn opened(index: usize) -> (Member, Scene, Options) {
        let options = options();
        let mut member = Member::new(clock::now(), &options, index);
        for channel in [Channel::Command, Channel::Data, Channel::Ttl] {
            member.opened(channel, &options);
        }
        assert_eq!(said(&mut member), [(None, None), (Some(Kind::Auth), None)]);
        (member, Scene::new(&options), options)
    }

    /// What it says: of commands the kind, and their state.
    fn said(member: &mut Member) -> Vec<(Option<Kind>, Option<String>)> {
        std::iter::from_fn(|| member.poll_say())
            .map(|(channel, parts)| {
                if channel == Channel::Ttl {
                    return (None, None);
                }
                let body = decode(&parts[2].concat().into(), Limits::default()).unwrap();
                let state = body.as_dict().and_then(|body| text(body, "STATE"));
                (Kind::read(&parts[0].concat()), state.map(str::to_owned))
            })
            .collect()
    }

    fn tell(member: &mut Member, scene: &Scene, kind: Kind, value: &Value) -> Outcome {
        let kind = Bytes::copy_from_slice(&kind.part());
        let parts = [kind, Bytes::from_static(b"server"), encode(value).into()];
        member.hear(clock::now(), Channel::Command, &parts, scene)
    }

    fn state(state: &str) -> Value {
        dict([("STATE", state.into())])
    }

    fn word(kind: Kind, state: &str) -> (Option<Kind>, Option<String>) {
        (Some(kind), Some(state.to_owned()))
    }

    #[test]
    fn the_first_one_brings_the_scene() {
        let (mut member, scene, _) = opened(0);
        tell(&mut member, &scene, Kind::Auth, &"LOBBY".into());
        assert_eq!(said(&mut member), [word(Kind::ServerSnapshot, "INIT")]);
        tell(
            &mut member,
            &scene,
            Kind::ServerSnapshot,
            &state("ACCEPTED"),
        );
        let wanted = ["SET", "SET", "END"].map(|it| word(Kind::ServerSnapshot, it));
        assert_eq!(said(&mut member), wanted);
        let done = tell(&mut member, &scene, Kind::ServerSnapshot, &state("DONE"));
        assert!(matches!(done, Outcome::Arrived(_)));
        assert_eq!(member.stage, Stage::Active);
    }

    #[test]
    fn others_fetch_it() {
        let (mut member, scene, _) = opened(1);
        tell(&mut member, &scene, Kind::Auth, &"RUNNING".into());
        assert_eq!(said(&mut member), [word(Kind::Snapshot, "REQUEST_INIT")]);
        let catalogue = Value::List(vec!["one".into(), "two".into()]);
        let offer = dict([("STATE", "INIT".into()), ("CATALOG", catalogue)]);
        tell(&mut member, &scene, Kind::Snapshot, &offer);
        for next in ["GET", "DONE"] {
            assert_eq!(said(&mut member), [word(Kind::Snapshot, "GET")]);
            let outcome = tell(&mut member, &scene, Kind::Snapshot, &state("SET"));
            assert!(member.take_fetched().is_some());
            assert_eq!(matches!(outcome, Outcome::Arrived(_)), next == "DONE");
        }
        assert_eq!(said(&mut member), [word(Kind::Snapshot, "DONE")]);
    }

    #[test]
    fn in_generation_a_the_scene_comes_by_the_other_connection() {
        let options = Options::of(&["--generation-a", "2", "--server-password", "pw"]).unwrap();
        let scene = Scene::new(&options);
        let mut member = Member::new(clock::now(), &options, 1);
        let channels = Wire::FourPorts.channels();
        for channel in &channels[..3] {
            member.opened(*channel, &options);
        }
        assert_eq!(said(&mut member), [(None, None)], "one is missing");
        member.opened(channels[3], &options);
        let (_, login) = member.poll_say().unwrap();
        let login = decode(&login[2].concat().into(), Limits::default()).unwrap();
        let login = login.as_dict().unwrap();
        assert_eq!(text(login, "PWD"), Some("pw"));
        assert_eq!(text(login, "VERSION"), Some("0.1.26"));

        tell(&mut member, &scene, Kind::Auth, &"RUNNING".into());
        said(&mut member);
        let catalogue = Value::List(vec!["one".into(), "two".into()]);
        let offer = dict([("STATE", "INIT".into()), ("CATALOG", catalogue)]);
        tell(&mut member, &scene, Kind::Snapshot, &offer);
        assert_eq!(said(&mut member), [word(Kind::Snapshot, "GET")]);
        let now = clock::now();
        assert!(!member.awaits(b"one"), "it comes for another reason");
        assert!(member.awaits(b"two"));
        assert_eq!(member.fetched(now), Outcome::None);
        assert!(member.take_fetched().is_some());
        assert_eq!(said(&mut member), [word(Kind::Snapshot, "GET")]);
        let outcome = member.fetched(now);
        assert!(matches!(outcome, Outcome::Arrived(_)));
        assert_eq!(said(&mut member), [word(Kind::Snapshot, "DONE")]);
        assert!(!member.awaits(b"one"), "it has it");
    }

    #[test]
    fn in_generation_a_the_scene_is_given_by_name() {
        let options = Options::of(&["--generation-a", "2", "--nodes", "1"]).unwrap();
        let scene = Scene::new(&options);
        let mut member = Member::new(clock::now(), &options, 0);
        tell(&mut member, &scene, Kind::Auth, &"LOBBY".into());
        said(&mut member);
        let accepted = state("ACCEPTED");
        tell(&mut member, &scene, Kind::ServerSnapshot, &accepted);
        let (_, set) = member.poll_say().unwrap();
        let set = decode(&set[2].concat().into(), Limits::default()).unwrap();
        let data = set.as_dict().and_then(|set| set.of("DATA")).unwrap();
        let of = |key: &str| data.as_dict()?.of(key)?.as_bytes().cloned();
        assert_eq!(of("type").unwrap(), "Object");
        assert_eq!(of("uuid").unwrap(), *scene.uuids().next().unwrap());
        assert!(of("data").unwrap().len() > 1000);
    }

    #[test]
    fn whoever_is_refused_or_let_go_says_why() {
        let (mut member, scene, _) = opened(1);
        let refused = tell(&mut member, &scene, Kind::Auth, &"FAILED: no".into());
        assert_eq!(refused, Outcome::Failed("load-1-1: FAILED: no".to_owned()));
        let (mut member, scene, _) = opened(1);
        let value = dict([("reason", "you read too slowly".into())]);
        let gone = tell(&mut member, &scene, Kind::Disconnect, &value);
        let wanted = "load-1-1: let go: you read too slowly";
        assert_eq!(gone, Outcome::Failed(wanted.to_owned()));
        assert_eq!(member.stage, Stage::Gone);
        let (mut member, scene, _) = opened(1);
        let parts = [Bytes::from_static(b"nonsense")];
        let outcome = member.hear(clock::now(), Channel::Command, &parts, &scene);
        assert!(matches!(outcome, Outcome::Failed(_)));
    }

    #[test]
    fn signs_of_life_are_answered() {
        let (mut member, scene, _) = opened(1);
        let ping = [Bytes::from_static(b"PING")];
        member.hear(clock::now(), Channel::Ttl, &ping, &scene);
        assert_eq!(
            member.poll_say(),
            Some((Channel::Ttl, vec![vec![Bytes::from_static(b"PONG")]]))
        );
    }
}
