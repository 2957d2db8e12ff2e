//! What players have measured.

use crate::tally::Times;

/// Sums over all players.
#[derive(Default)]
pub(super) struct Tally {
    /// From a location's send to the receiver's socket.
    pub(super) location: Times,
    pub(super) sound: Times,
    pub(super) chat: Times,
    /// From the WebSocket's connect, and from the wish to be let in, to the first location.
    pub(super) connect_to_location: Times,
    pub(super) join_to_location: Times,
    /// From that wish to the server's word.
    pub(super) join: Times,
    /// Of the window: sent, due at receivers, and received.
    pub(super) locations_sent: u64,
    pub(super) locations_due: u64,
    pub(super) locations: u64,
    pub(super) sounds_sent: u64,
    pub(super) sounds_due: u64,
    pub(super) sounds: u64,
    pub(super) chats_sent: u64,
    pub(super) chats_due: u64,
    pub(super) chats: u64,
    /// Datagrams that consumers received.
    pub(super) datagrams: u64,
    /// Locations that could not be sent.
    pub(super) unsent: u64,
    /// Locations sent later than a tenth of the round after they were due: this side is too slow.
    pub(super) late: u64,
    pub(super) joined: usize,
    pub(super) failed: usize,
    pub(super) complaint: Option<String>,
}
