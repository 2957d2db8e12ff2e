//! What a client has put on its way by one connection.

use std::collections::VecDeque;

/// Messages, of the first of which a part may have arrived.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    messages: VecDeque<Vec<u8>>,
    arrived: usize,
    /// The first one is what the connection begins with.
    is_greeting: bool,
}

impl Outgoing {
    pub(crate) fn push(&mut self, message: Vec<u8>) {
        self.messages.push_back(message);
    }

    /// The connection is a new one: what has not arrived as a whole is sent again, behind what it
    /// begins with.
    pub(crate) fn begin(&mut self, hello: Vec<u8>) {
        if self.is_greeting {
            self.messages.pop_front();
        }
        self.messages.push_front(hello);
        self.is_greeting = true;
        self.arrived = 0;
    }

    /// Up to so many of the bytes arrive.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while let Some(first) = self.messages.front() {
            let rest = &first[self.arrived..];
            let more = rest.len().min(count - taken.len());
            taken.extend_from_slice(&rest[..more]);
            self.arrived += more;
            if self.arrived < first.len() {
                break;
            }
            self.messages.pop_front();
            self.arrived = 0;
            self.is_greeting = false;
        }
        taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}
