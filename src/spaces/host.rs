//! All players and spaces: who is where, who is told what, and who gets what of whom.
//!
//! What the original does is in the notes on its wire behaviour; the order of messages is its order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use super::counters::Counters;
use super::message::{Order, TransportId};
use super::options::{
    CHAT_BYTES_MAX, DATA_KEY_BYTES_MAX, DATA_MAX, DATA_VALUE_BYTES_MAX, EVENT_BYTES_MAX, Options,
};
use super::player::{Player, PlayerKey};
use crate::base::ids::{ConnId, ShardId};
use crate::base::prng::Prng;
use crate::proto::unavi::{Dialect, Request, Response, Side, World};

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Tell one or many the same. Where a dialect has no word for it, nothing is said.
    Tell {
        /// Whom, and what they speak.
        to: Vec<(ConnId, Dialect)>,
        /// What.
        response: Response,
    },
    /// Have a media shard do something.
    Order(Order),
}

/// One space.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// By their numbers.
    pub(super) members: BTreeMap<u8, PlayerKey>,
    /// Whose sound nobody hears, and whose words nobody reads.
    pub(super) muted: BTreeSet<u8>,
}

/// All spaces and players.
#[derive(Debug)]
pub struct Host {
    pub(super) options: Options,
    pub(super) players: BTreeMap<PlayerKey, Player>,
    pub(super) by_conn: BTreeMap<ConnId, PlayerKey>,
    pub(super) by_transport: BTreeMap<TransportId, (PlayerKey, Side)>,
    pub(super) by_resume: BTreeMap<String, PlayerKey>,
    pub(super) spaces: BTreeMap<World, Space>,
    /// Until when.
    pub(super) bans: BTreeMap<(World, IpAddr), Instant>,
    shards: u16,
    next_player: u64,
    pub(super) next_transport: u64,
    pub(super) prng: Prng,
    outputs: VecDeque<Output>,
    pub(super) counters: Counters,
    is_draining: bool,
}

impl Host {
    /// A host with so many media shards. `seed` gives names and numbers.
    pub fn new(options: Options, shards: u16, seed: u64) -> Self {
        Self {
            options,
            players: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            by_transport: BTreeMap::new(),
            by_resume: BTreeMap::new(),
            spaces: BTreeMap::new(),
            bans: BTreeMap::new(),
            shards: shards.max(1),
            next_player: 0,
            next_transport: 0,
            prng: Prng::new(seed),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            is_draining: false,
        }
    }

    /// Other bounds; whoever is in stays in.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// What is counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Counts what the connection's session refused.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Players, those that are away included.
    pub fn players(&self) -> usize {
        self.players.len()
    }

    /// Transports that there are orders for.
    pub fn transports(&self) -> usize {
        self.by_transport.len()
    }

    /// Spaces that somebody is in.
    pub fn spaces(&self) -> usize {
        self.spaces.len()
    }

    /// Players in the space that has most.
    pub fn together(&self) -> usize {
        let all = self.spaces.values().map(|space| space.members.len());
        all.max().unwrap_or(0)
    }

    /// Connections that are in no space.
    pub fn idle(&self) -> usize {
        let mut all = self.players.values();
        all.by_ref()
            .filter(|player| player.worlds.is_empty())
            .count()
    }

    /// A connection has come. `token` is what its address says. False if there is no room for it.
    pub fn connected(
        &mut self,
        now: Instant,
        conn: ConnId,
        address: IpAddr,
        token: Option<String>,
    ) -> bool {
        if self.players.len() >= self.options.players_max || self.is_draining {
            self.counters.over_limit += 1;
            return false;
        }
        let key = PlayerKey(self.next_player);
        let shard = ShardId((self.next_player % u64::from(self.shards)) as u16);
        self.next_player += 1;
        self.by_conn.insert(conn, key);
        self.players
            .insert(key, Player::new(now, conn, address, token, shard));
        true
    }

    /// A frame has come. `unix_ms` is the time since 1970.
    pub fn frame(&mut self, now: Instant, unix_ms: u64, conn: ConnId, bytes: &[u8], is_text: bool) {
        let Some(key) = self.by_conn.get(&conn).copied() else {
            return;
        };
        let Some(player) = self.players.get_mut(&key) else {
            return;
        };
        if !player.requests.take(now) {
            self.counters.too_often += 1;
            return;
        }
        let dialect = match player.dialect {
            Some(dialect) => dialect,
            None => match Dialect::of(bytes, is_text) {
                Ok(dialect) => {
                    player.dialect = Some(dialect);
                    dialect
                }
                Err(_) => {
                    self.counters.malformed += 1;
                    return;
                }
            },
        };
        if bytes.len() > dialect.frame_bytes_max() {
            self.counters.oversized += 1;
            return;
        }
        match dialect.read(bytes) {
            Ok(request) => {
                self.counters.requests += 1;
                self.request(now, unix_ms, key, request);
            }
            Err(crate::proto::unavi::Error::Forged) => self.counters.forged += 1,
            Err(crate::proto::unavi::Error::TooLarge) => self.counters.too_much += 1,
            Err(error) => {
                tracing::debug!(?conn, %error, "a player's frame means nothing");
                self.counters.malformed += 1;
            }
        }
    }

    fn request(&mut self, now: Instant, unix_ms: u64, key: PlayerKey, request: Request) {
        match request {
            Request::Capabilities => self.say(key, Response::Capabilities),
            Request::Join {
                world,
                token,
                resume,
            } => self.join(now, unix_ms, key, world, token, resume),
            Request::Leave(world) => self.leave(key, &world),
            Request::Chat(text) => self.chat(now, unix_ms, key, text),
            Request::SetData(data) => self.set_data(now, key, data),
            Request::Event(data) => {
                if self.may(
                    now,
                    key,
                    |player| &mut player.events,
                    data.len(),
                    EVENT_BYTES_MAX,
                ) {
                    self.tell_all(key, |player| Response::Event {
                        player,
                        data: data.clone(),
                    });
                }
            }
            Request::Relay(text) => {
                if self.may(
                    now,
                    key,
                    |player| &mut player.events,
                    text.len(),
                    EVENT_BYTES_MAX,
                ) {
                    self.relay(key, &text);
                }
            }
            Request::CreateTransport(side) => self.create_transport(key, side),
            Request::ConnectTransport {
                side,
                role,
                fingerprints,
            } => self.connect_transport(key, side, role, &fingerprints),
            Request::SetCapabilities(capabilities) => {
                if let Some(player) = self.players.get_mut(&key) {
                    player.capabilities = Some(capabilities);
                    self.consume_all(key);
                }
            }
            Request::Produce(parameters) => self.produce(key, parameters),
            Request::ProduceData(stream) => self.produce_data(key, stream),
            Request::PauseAudio(paused) => self.pause(key, paused),
        }
    }

    /// Whether a player may say something of a size, by a bucket of its.
    fn may(
        &mut self,
        now: Instant,
        key: PlayerKey,
        bucket: impl FnOnce(&mut Player) -> &mut super::bucket::Bucket,
        bytes: usize,
        bytes_max: usize,
    ) -> bool {
        if bytes > bytes_max {
            self.counters.too_much += 1;
            return false;
        }
        let Some(player) = self.players.get_mut(&key) else {
            return false;
        };
        let may = bucket(player).take(now);
        self.counters.too_often += u64::from(!may);
        may
    }

    fn chat(&mut self, now: Instant, unix_ms: u64, key: PlayerKey, text: String) {
        if self.may(
            now,
            key,
            |player| &mut player.chats,
            text.len(),
            CHAT_BYTES_MAX,
        ) {
            self.tell_all(key, |player| Response::Chat {
                player,
                text: text.clone(),
                unix_ms,
            });
        }
    }

    fn set_data(&mut self, now: Instant, key: PlayerKey, data: Vec<(String, Option<String>)>) {
        for (name, value) in data {
            let bytes = value.as_ref().map_or(0, String::len);
            if name.len() > DATA_KEY_BYTES_MAX {
                self.counters.too_much += 1;
                continue;
            }
            if !self.may(
                now,
                key,
                |player| &mut player.changes,
                bytes,
                DATA_VALUE_BYTES_MAX,
            ) {
                continue;
            }
            let Some(player) = self.players.get_mut(&key) else {
                return;
            };
            let known = player.data.iter().position(|(known, _)| *known == name);
            match (known, &value) {
                (Some(place), Some(value)) => player.data[place].1.clone_from(value),
                (Some(place), None) => {
                    player.data.remove(place);
                }
                (None, Some(_)) if player.data.len() >= DATA_MAX => {
                    self.counters.too_much += 1;
                    continue;
                }
                (None, Some(value)) => player.data.push((name.clone(), value.clone())),
                (None, None) => {}
            }
            self.tell_all(key, |player| Response::Data {
                player,
                key: name.clone(),
                value: value.clone(),
            });
        }
    }

    fn relay(&mut self, key: PlayerKey, text: &str) {
        let Some(player) = self.players.get(&key) else {
            return;
        };
        let worlds: Vec<World> = player.worlds.keys().cloned().collect();
        for world in worlds {
            self.tell_space(&world, Some(key), Response::Relayed(text.to_owned()));
        }
    }

    /// Tells all players of a player's spaces, itself included: clients show what they hear.
    fn tell_all(&mut self, key: PlayerKey, response: impl Fn(u8) -> Response) {
        let Some(player) = self.players.get(&key) else {
            return;
        };
        let worlds: Vec<(World, u8)> = player
            .worlds
            .iter()
            .map(|(world, number)| (world.clone(), *number))
            .collect();
        for (world, number) in worlds {
            let response = response(number);
            let is_speech = matches!(response, Response::Chat { .. } | Response::Event { .. });
            let is_muted = self
                .spaces
                .get(&world)
                .is_some_and(|space| space.muted.contains(&number));
            if !(is_speech && is_muted) {
                self.tell_space(&world, None, response);
            }
        }
    }

    pub(super) fn tell_space(
        &mut self,
        world: &World,
        except: Option<PlayerKey>,
        response: Response,
    ) {
        let Some(space) = self.spaces.get(world) else {
            return;
        };
        let to: Vec<(ConnId, Dialect)> = space
            .members
            .values()
            .filter(|member| Some(**member) != except)
            .filter_map(|member| self.players.get(member)?.line())
            .collect();
        self.tell(to, response);
    }

    pub(super) fn say(&mut self, key: PlayerKey, response: Response) {
        let line = self.players.get(&key).and_then(Player::line);
        self.tell(line.into_iter().collect(), response);
    }

    fn tell(&mut self, to: Vec<(ConnId, Dialect)>, response: Response) {
        if !to.is_empty() {
            self.counters.told += to.len() as u64;
            self.outputs.push_back(Output::Tell { to, response });
        }
    }

    pub(super) fn order(&mut self, order: Order) {
        self.outputs.push_back(Output::Order(order));
    }

    /// A name that is nobody else's, in the form of a UUID (RFC 9562 section 5.4).
    pub(super) fn name(&mut self) -> String {
        let (high, low) = (self.prng.next_u64(), self.prng.next_u64());
        let high = high & 0xffff_ffff_ffff_0fff | 0x4000;
        let low = low & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// A connection is gone.
    pub fn gone(&mut self, now: Instant, conn: ConnId) {
        let Some(key) = self.by_conn.remove(&conn) else {
            return;
        };
        let grace = self.options.grace;
        let Some(player) = self.players.get_mut(&key) else {
            return;
        };
        player.conn = None;
        if player.resume.is_some() && !player.worlds.is_empty() && !self.is_draining {
            player.until = Some(now + grace);
            self.end_media(key);
        } else {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: PlayerKey) {
        let Some(player) = self.players.get(&key) else {
            return;
        };
        let worlds: Vec<World> = player.worlds.keys().cloned().collect();
        for world in worlds {
            self.leave(key, &world);
        }
        self.end_media(key);
        if let Some(player) = self.players.remove(&key)
            && let Some(resume) = player.resume
        {
            self.by_resume.remove(&resume);
        }
    }

    /// When [`Host::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.players
            .values()
            .filter_map(|player| player.until)
            .min()
    }

    /// Gives up players who have not come back.
    pub fn handle_timeout(&mut self, now: Instant) {
        let overdue: Vec<PlayerKey> = self
            .players
            .iter()
            .filter(|(_, player)| player.until.is_some_and(|until| until <= now))
            .map(|(key, _)| *key)
            .collect();
        for key in overdue {
            self.forget(key);
        }
        self.bans.retain(|_, until| *until > now);
    }

    /// Tells all that the server is about to end. Nobody gets in from here on.
    pub fn drain(&mut self) {
        self.is_draining = true;
        let all = self.players.values();
        let to = all.filter_map(Player::line).collect();
        self.tell(to, Response::Draining);
    }
}

impl Player {
    /// Whom to tell, and in which language.
    pub(super) fn line(&self) -> Option<(ConnId, Dialect)> {
        self.conn.zip(self.dialect)
    }

    pub(super) fn joined(&self, number: u8, before_you: bool) -> Response {
        Response::PlayerJoined {
            player: number,
            data: self.data.clone(),
            before_you,
        }
    }

    /// That it talks, of which one is else only told when it begins or ends.
    pub(super) fn talks(&self, number: u8) -> Option<Response> {
        self.is_talking.then_some(Response::Talking {
            player: number,
            talking: true,
        })
    }

    /// That it falls, which generations 2 and 3 have no place for in what tells of a player. The first
    /// thing that one hears of a player is that it stands.
    pub(super) fn falls(&self, number: u8) -> Option<Response> {
        let falls = self.datum("falling").filter(|falls| *falls == "true")?;
        Some(Response::Data {
            player: number,
            key: "falling".to_owned(),
            value: Some(falls.to_owned()),
        })
    }
}
