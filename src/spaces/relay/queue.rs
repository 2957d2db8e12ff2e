//! What waits for one receiver.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::Counters;
use crate::proto::sctp::{Association, ChannelId, SendError};

/// Messages that wait for one receiver: two of each of 255 players.
pub(super) const QUEUE_MESSAGES_MAX: usize = 512;

/// Bytes that wait for one receiver: four messages of the largest size.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Of an empty queue so much room is kept.
const KEPT_MESSAGES: usize = 64;

/// A message for one receiver's data channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Item {
    /// The channel.
    pub(super) channel: ChannelId,
    /// Text, not bytes.
    pub(super) is_text: bool,
    /// The message.
    pub(super) bytes: Bytes,
    /// A newer one of the same channel makes up for it.
    pub(super) is_location: bool,
}

/// Messages in the order they came in.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// The receiver could not take all of it: of each player only the newest location waits.
    is_behind: bool,
}

impl Queue {
    #[cfg(test)]
    pub(super) fn drain(&mut self) -> Vec<Item> {
        std::mem::take(self).items.into()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn push(&mut self, item: Item, counters: &mut Counters) {
        if self.is_behind
            && item.is_location
            && let Some(index) = self.older_location(item.channel)
        {
            self.remove(index);
            counters.locations_dropped += 1;
        }
        while self.items.len() >= QUEUE_MESSAGES_MAX
            || self.bytes + item.bytes.len() > QUEUE_BYTES_MAX
        {
            let Some(oldest) = self.items.iter().position(|item| item.is_location) else {
                counters.messages_dropped += 1;
                return;
            };
            self.remove(oldest);
            counters.locations_dropped += 1;
        }
        self.bytes += item.bytes.len();
        self.items.push_back(item);
    }

    fn older_location(&self, channel: ChannelId) -> Option<usize> {
        let is_it = |item: &Item| item.is_location && item.channel == channel;
        self.items.iter().position(is_it)
    }

    fn remove(&mut self, index: usize) {
        if let Some(dropped) = self.items.remove(index) {
            self.bytes -= dropped.bytes.len();
        }
    }

    /// Forgets what waits for a channel.
    pub(super) fn forget(&mut self, channel: ChannelId) {
        self.items.retain(|item| item.channel != channel);
        self.bytes = self.items.iter().map(|item| item.bytes.len()).sum();
    }

    /// Hands on what can be. False if something is left, since the association takes no more.
    pub(super) fn send(
        &mut self,
        now: Instant,
        data: Option<&mut Association>,
        counters: &mut Counters,
    ) -> bool {
        let Some(data) = data else {
            counters.messages_dropped += self.items.len() as u64;
            self.clear();
            return true;
        };
        while let Some(item) = self.items.front() {
            // A location that would wait in the association is better kept here, where a newer
            // one takes its place.
            let sent = match item.is_location && !data.is_prompt(item.bytes.len()) {
                true => Err(SendError::Full),
                false => data.send(now, item.channel, item.is_text, &item.bytes),
            };
            match sent {
                Ok(()) => counters.delivered += 1,
                Err(SendError::Full) => {
                    self.is_behind = true;
                    return false;
                }
                Err(SendError::NotOpen | SendError::TooLarge) => counters.messages_dropped += 1,
            }
            self.bytes -= item.bytes.len();
            self.items.pop_front();
        }
        self.is_behind = false;
        if self.items.capacity() > KEPT_MESSAGES {
            self.clear();
        }
        true
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
