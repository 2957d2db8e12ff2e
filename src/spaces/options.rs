//! Bounds of what players can have and say.

use std::time::Duration;

/// Bounds and waiting times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Players at once, over all spaces; beyond it nobody gets in.
    pub players_max: usize,
    /// Spaces at once.
    pub spaces_max: usize,
    /// Players of one space, at most 256: the number of a player is one byte of its locations.
    pub space_players_max: usize,
    /// How long the number of a player that asked for it is kept for it when its connection breaks.
    pub grace: Duration,
    /// The key of join tokens (JWT, HS256); empty where anybody may enter.
    pub join_key: Vec<u8>,
    /// Locations of those who are far away come less often; `None` where all come as they are sent.
    pub interest: Option<Interest>,
}

/// Which locations a player gets as they come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest {
    /// How many others are near.
    pub nearest: u16,
    /// The least time between two locations of one that is not.
    pub others_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            players_max: 10_000,
            spaces_max: 10_000,
            space_players_max: 256,
            grace: Duration::from_secs(10),
            join_key: Vec::new(),
            interest: None,
        }
    }
}

/// A name of a space. A URI beyond this is nobody's (RFC 9110 section 4.1 asks for 8000 at most).
pub(super) const WORLD_BYTES_MAX: usize = 2048;

/// Spaces that one player is in. The clients enter one.
pub(super) const WORLDS_MAX: usize = 8;

/// What others see of a player: the clients set four things.
pub(super) const DATA_MAX: usize = 32;
pub(super) const DATA_KEY_BYTES_MAX: usize = 64;
pub(super) const DATA_VALUE_BYTES_MAX: usize = 4096;

/// The clients' field takes 100 characters.
pub(super) const CHAT_BYTES_MAX: usize = 2000;

/// An event of UNAVI's editor has some hundred bytes.
pub(super) const EVENT_BYTES_MAX: usize = 16 * 1024;

/// What a player may say in a second, and at once.
pub(super) const CHATS: (f64, f64) = (5.0, 20.0);
pub(super) const DATA: (f64, f64) = (40.0, 100.0);
pub(super) const EVENTS: (f64, f64) = (50.0, 100.0);
/// Everything, so that nobody keeps the shard busy. A client makes some 30 requests when it enters, and
/// one for each player that it meets.
pub(super) const REQUESTS: (f64, f64) = (200.0, 1000.0);

/// Consumers of one player: sound and messages of 255 others in each of its spaces would be 4080.
pub(super) const CONSUMERS_MAX: usize = 1024;

/// Addresses that are kept out of a space, and how many spaces have such.
pub(super) const BANS_MAX: usize = 1024;
