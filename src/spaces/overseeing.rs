//! What an operator sees of spaces, and does in them.

use std::net::IpAddr;
use std::time::Instant;

use super::host::Host;
use super::options::BANS_MAX;
use super::player::PlayerKey;
use crate::proto::unavi::{Dialect, Response, World};

/// A player of a space, for those who look after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its number.
    pub player: u8,
    /// What it is called; may be empty.
    pub name: String,
    /// Where it comes from.
    pub address: IpAddr,
    /// What it speaks.
    pub dialect: &'static str,
    /// It sends sound.
    pub has_voice: bool,
    /// Nobody hears it.
    pub is_muted: bool,
    /// Its connection has broken, and its number is kept.
    pub is_away: bool,
}

impl Host {
    /// Players of a space, those who are away apart.
    pub fn count(&self, world: &World) -> usize {
        self.spaces.get(world).map_or(0, |space| {
            let players = space.members.values();
            players
                .filter(|key| {
                    self.players
                        .get(key)
                        .is_some_and(|player| player.conn.is_some())
                })
                .count()
        })
    }

    /// Spaces and how many are in each.
    pub fn worlds(&self) -> impl Iterator<Item = (&World, usize)> {
        self.spaces
            .iter()
            .map(|(world, space)| (world, space.members.len()))
    }

    /// The players of a space.
    pub fn seen(&self, world: &World) -> Vec<Seen> {
        let Some(space) = self.spaces.get(world) else {
            return Vec::new();
        };
        let members = space.members.iter();
        members
            .filter_map(|(number, key)| {
                let player = self.players.get(key)?;
                Some(Seen {
                    player: *number,
                    name: player.datum("nickname").unwrap_or_default().to_owned(),
                    address: player.address,
                    dialect: player.dialect.map_or("", Dialect::name),
                    has_voice: player.audio.is_some(),
                    is_muted: space.muted.contains(number),
                    is_away: player.conn.is_none(),
                })
            })
            .collect()
    }

    /// Puts a player out of a space. False if it is not there.
    pub fn kick(&mut self, world: &World, number: u8, reason: &str) -> bool {
        let Some(key) = self.member(world, number) else {
            return false;
        };
        self.counters.kicked += 1;
        let kicked = Response::Kicked {
            world: world.clone(),
            reason: reason.to_owned(),
        };
        self.say(key, kicked);
        self.leave(key, world);
        true
    }

    /// Puts a player out of a space, and keeps its address out of it.
    pub fn ban(&mut self, world: &World, number: u8, until: Instant, reason: &str) -> bool {
        let Some(key) = self.member(world, number) else {
            return false;
        };
        if self.bans.len() >= BANS_MAX {
            self.bans.pop_first();
        }
        let address = self.players[&key].address;
        self.bans.insert((world.clone(), address), until);
        self.kick(world, number, reason)
    }

    /// Has nobody hear or read a player, or all again. False if it is not there.
    pub fn mute(&mut self, world: &World, number: u8, is_muted: bool) -> bool {
        let Some(key) = self.member(world, number) else {
            return false;
        };
        if let Some(space) = self.spaces.get_mut(world) {
            match is_muted {
                true => space.muted.insert(number),
                false => space.muted.remove(&number),
            };
        }
        self.apply_mute(key, world);
        true
    }

    pub(super) fn member(&self, world: &World, number: u8) -> Option<PlayerKey> {
        self.spaces.get(world)?.members.get(&number).copied()
    }

    pub(super) fn is_banned(&self, now: Instant, world: &World, address: IpAddr) -> bool {
        let until = self.bans.get(&(world.clone(), address));
        until.is_some_and(|until| *until > now)
    }
}
