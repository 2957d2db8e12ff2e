//! Who enters a space, who comes back to it and who leaves.

use std::time::Instant;

use super::host::Host;
use super::options::{WORLD_BYTES_MAX, WORLDS_MAX};
use super::player::PlayerKey;
use super::token;
use crate::proto::unavi::{Response, World};

impl Host {
    pub(super) fn join(
        &mut self,
        now: Instant,
        unix_ms: u64,
        key: PlayerKey,
        world: World,
        token: Option<String>,
        resume: Option<String>,
    ) {
        let Some(player) = self.players.get(&key) else {
            return;
        };
        if player.worlds.contains_key(&world) {
            return;
        }
        let token = token.or_else(|| player.token.clone()).unwrap_or_default();
        let address = player.address;
        let worlds = player.worlds.len();
        let is_long = matches!(&world, World::Uri(uri) if uri.len() > WORLD_BYTES_MAX);
        let is_new = !self.spaces.contains_key(&world);
        let joins_key = &self.options.join_key;
        let refusal =
            if !joins_key.is_empty() && !token::admits(joins_key, &token, &world, unix_ms / 1000) {
                self.counters.unauthorised += 1;
                Some("token")
            } else if self.is_banned(now, &world, address) {
                self.counters.banned += 1;
                Some("banned")
            } else if is_long
                || worlds >= WORLDS_MAX
                || (is_new && self.spaces.len() >= self.options.spaces_max)
            {
                self.counters.over_limit += 1;
                Some("limit")
            } else {
                None
            };
        if let Some(reason) = refusal {
            return self.refuse(key, world, reason);
        }
        let returning = resume
            .as_deref()
            .filter(|resume| !resume.is_empty())
            .and_then(|resume| self.by_resume.get(resume).copied());
        if let Some(old) = returning
            && old != key
            && self.come_back(old, key)
        {
            // It is in the spaces that it was in, this one perhaps not among them.
            if self.players[&key].worlds.contains_key(&world) {
                self.welcome(key, &world, true);
                return;
            }
        }
        if resume.is_some() && self.players[&key].resume.is_none() {
            let resume = self.name();
            self.by_resume.insert(resume.clone(), key);
            self.players.entry(key).and_modify(|player| {
                player.resume = Some(resume);
            });
        }
        self.enter(key, world);
    }

    fn enter(&mut self, key: PlayerKey, world: World) {
        let room = self.options.space_players_max.min(256);
        let space = self.spaces.entry(world.clone()).or_default();
        let free: Vec<u8> = (0..=u8::MAX)
            .filter(|number| !space.members.contains_key(number))
            .collect();
        if space.members.len() >= room || free.is_empty() {
            self.counters.full += 1;
            tracing::warn!(players = space.members.len(), "a space is full");
            return self.refuse(key, world, "full");
        }
        let number = free[self.prng.below(free.len() as u64) as usize];
        self.counters.joins += 1;
        // Those who are in are told first: the newcomer is not among them yet.
        let joined = self.players[&key].joined(number, false);
        let falls = self.players[&key].falls(number);
        self.tell_space(&world, None, joined);
        if let Some(falls) = falls {
            self.tell_space(&world, None, falls);
        }
        if let Some(space) = self.spaces.get_mut(&world) {
            space.members.insert(number, key);
        }
        if let Some(player) = self.players.get_mut(&key) {
            player.worlds.insert(world.clone(), number);
        }
        self.welcome(key, &world, false);
    }

    /// Tells one who is in a space who else is, and what it is itself.
    fn welcome(&mut self, key: PlayerKey, world: &World, is_back: bool) {
        let player = &self.players[&key];
        let number = player.worlds[world];
        let resume = player.resume.clone();
        let others: Vec<(u8, PlayerKey)> = self.spaces[world]
            .members
            .iter()
            .map(|(number, other)| (*number, *other))
            .filter(|(_, other)| *other != key)
            .collect();
        for (number, other) in &others {
            let joined = self.players[other].joined(*number, true);
            let falls = self.players[other].falls(*number);
            let talks = self.players[other].talks(*number);
            self.say(key, joined);
            for known in falls.into_iter().chain(talks) {
                self.say(key, known);
            }
        }
        let joined = Response::Joined {
            world: world.clone(),
            player: number,
            resume,
        };
        self.say(key, joined);
        self.counters.resumed += u64::from(is_back);
        for (_, other) in others {
            self.consume(key, other, world);
            self.consume(other, key, world);
        }
    }

    /// One who was away, or whose connection is not known to have broken, has come back as `new`.
    fn come_back(&mut self, old: PlayerKey, new: PlayerKey) -> bool {
        if self
            .players
            .get(&new)
            .is_none_or(|player| !player.worlds.is_empty())
        {
            return false;
        }
        self.end_media(old);
        let Some(before) = self.players.remove(&old) else {
            return false;
        };
        if let Some(conn) = before.conn {
            self.by_conn.remove(&conn);
        }
        for (world, number) in &before.worlds {
            if let Some(space) = self.spaces.get_mut(world) {
                space.members.insert(*number, new);
            }
        }
        if let Some(resume) = &before.resume {
            self.by_resume.insert(resume.clone(), new);
        }
        if let Some(player) = self.players.get_mut(&new) {
            player.worlds = before.worlds;
            player.resume = before.resume;
            for (key, value) in before.data {
                if player.datum(&key).is_none() {
                    player.data.push((key, value));
                }
            }
        }
        true
    }

    pub(super) fn refuse(&mut self, key: PlayerKey, world: World, reason: &'static str) {
        self.forget_empty(&world);
        self.say(key, Response::JoinRefused { world, reason });
    }

    pub(super) fn forget_empty(&mut self, world: &World) {
        let is_empty = self
            .spaces
            .get(world)
            .is_some_and(|space| space.members.is_empty());
        if is_empty {
            self.spaces.remove(world);
        }
    }

    pub(super) fn leave(&mut self, key: PlayerKey, world: &World) {
        let Some(number) = self
            .players
            .get_mut(&key)
            .and_then(|player| player.worlds.remove(world))
        else {
            self.counters.out_of_place += 1;
            return;
        };
        let mut others = Vec::new();
        if let Some(space) = self.spaces.get_mut(world) {
            space.members.remove(&number);
            space.muted.remove(&number);
            others.extend(space.members.values().copied());
        }
        self.tell_space(world, None, Response::PlayerLeft(number));
        for other in others {
            self.part(key, other, world);
            self.part(other, key, world);
        }
        self.forget_empty(world);
    }
}
